//! Which of a partition's nodes to ask next.
//!
//! Pure. Attempts go in rounds. In a round every replica is asked at most once, the believed leader
//! first, the others in turn; a hint from a node that answered goes before that, unless it names a node
//! that was not reached in this round. So a hint to a dead node costs one attempt in each round, and
//! between rounds the request waits.

use std::collections::BTreeSet;

use planted::Bug;

use crate::{identifiers::NodeId, map::Route};

/// How many hints are followed, or corrections retried, in one round before the request waits.
const FOLLOWED_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Candidates {
    asked: BTreeSet<NodeId>,
    unreached: BTreeSet<NodeId>,
    next: Option<NodeId>,
    followed: u32,
    /// Where the turn over the replicas starts; any number.
    turn: usize,
}

impl Candidates {
    pub(crate) fn starting_at(turn: usize) -> Self {
        Self { turn, ..Self::default() }
    }

    /// The node to ask now; none: the round is over. `doubtful` says which nodes others found dead a
    /// moment ago: they are asked last.
    pub(crate) fn choose(
        &mut self,
        route: &Route,
        mut doubtful: impl FnMut(NodeId) -> bool,
    ) -> Option<NodeId> {
        if let Some(next) = self.next.take() {
            if planted::is_planted(Bug::HintFollowedForEver) {
                self.next = Some(next);
            }
            self.asked.insert(next);
            return Some(next);
        }
        let open = |node: &NodeId| !self.asked.contains(node);
        let leader = route.leader.filter(open);
        let count = route.replicas.len();
        let in_turn: Vec<NodeId> = (0..count)
            .map(|offset| route.replicas[(self.turn % count + offset) % count])
            .filter(open)
            .collect();
        let chosen = leader
            .filter(|node| !doubtful(*node))
            .or_else(|| in_turn.iter().copied().find(|node| !doubtful(*node)))
            .or(leader)
            .or_else(|| in_turn.first().copied())?;
        self.asked.insert(chosen);
        Some(chosen)
    }

    /// The node could not be reached, or did not answer.
    pub(crate) fn note_unreached(&mut self, node: NodeId) {
        self.unreached.insert(node);
    }

    /// A node named `leader`. Whether it is asked next.
    pub(crate) fn follow(&mut self, leader: NodeId) -> bool {
        if self.unreached.contains(&leader) && !planted::is_planted(Bug::HintFollowedForEver) {
            return false;
        }
        self.ask_again(leader)
    }

    /// Ask `node` next, since something was corrected that it complained of. Whether that may be.
    pub(crate) fn ask_again(&mut self, node: NodeId) -> bool {
        if self.followed >= FOLLOWED_MAX {
            return false;
        }
        self.followed += 1;
        self.next = Some(node);
        true
    }

    /// The next round: everybody may be asked again.
    pub(crate) fn new_round(&mut self) {
        self.asked.clear();
        self.unreached.clear();
        self.next = None;
        self.followed = 0;
        self.turn = self.turn.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::identifiers::{PartitionId, RangeEpoch};

    fn route(leader: Option<u64>) -> Route {
        Route {
            partition: PartitionId(1),
            start: Bytes::new(),
            end: Bytes::new(),
            epoch: RangeEpoch(1),
            replicas: vec![NodeId(1), NodeId(2), NodeId(3)],
            leader: leader.map(NodeId),
        }
    }

    fn round(candidates: &mut Candidates, route: &Route, doubtful: &[u64]) -> Vec<u64> {
        std::iter::from_fn(|| candidates.choose(route, |node| doubtful.contains(&node.0)))
            .map(|node| node.0)
            .collect()
    }

    #[test]
    fn the_leader_is_asked_first_and_then_the_others_in_turn() {
        let mut candidates = Candidates::starting_at(1);
        assert_eq!(round(&mut candidates, &route(Some(3)), &[]), [3, 2, 1]);
        candidates.new_round();
        assert_eq!(round(&mut candidates, &route(Some(1)), &[]), [1, 3, 2]);
        candidates.new_round();
        assert_eq!(round(&mut candidates, &route(None), &[]), [1, 2, 3]);
    }

    #[test]
    fn doubtful_nodes_are_asked_last_but_are_asked() {
        let mut candidates = Candidates::starting_at(0);
        assert_eq!(round(&mut candidates, &route(Some(1)), &[1]), [2, 3, 1]);
        candidates.new_round();
        assert_eq!(round(&mut candidates, &route(Some(1)), &[1, 2, 3]).len(), 3);
    }

    #[test]
    fn a_hint_to_a_node_that_was_not_reached_is_not_followed_in_that_round() {
        let mut candidates = Candidates::starting_at(0);
        let route = route(Some(1));
        assert_eq!(candidates.choose(&route, |_| false), Some(NodeId(1)));
        candidates.note_unreached(NodeId(1));
        assert_eq!(candidates.choose(&route, |_| false), Some(NodeId(2)));
        assert!(!candidates.follow(NodeId(1)));
        assert_eq!(candidates.choose(&route, |_| false), Some(NodeId(3)));
        assert_eq!(candidates.choose(&route, |_| false), None);
        candidates.new_round();
        assert!(candidates.follow(NodeId(1)));
    }

    #[test]
    fn two_nodes_that_name_each_other_do_not_catch_a_request() {
        let mut candidates = Candidates::starting_at(0);
        let route = route(Some(1));
        let mut asked = 0;
        let mut other = NodeId(2);
        while let Some(node) = candidates.choose(&route, |_| false) {
            asked += 1;
            let hint = std::mem::replace(&mut other, node);
            candidates.follow(hint);
        }
        assert!(asked <= 6, "{asked} attempts in one round");
    }

    #[test]
    fn a_partition_without_replicas_has_no_candidates() {
        let mut candidates = Candidates::starting_at(7);
        let empty = Route { replicas: Vec::new(), leader: None, ..route(None) };
        assert_eq!(candidates.choose(&empty, |_| false), None);
    }
}
