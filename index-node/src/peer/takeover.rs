//! What the nodes do by themselves when a group has lost its leader and the control plane is silent.
//!
//! The survivors of a group act in a fixed order of rank, each so much later than the one before it,
//! so that normally one of them acts alone. Whoever acts asks the others how far their logs go, and
//! makes the one lead that has the most: the recipe is the control plane's. Each voter judges for
//! itself whether the leader is lost (see the engine's rules of authority), so that a node with a bad
//! link cannot depose leaders that the others still reach.
//!
//! What has to be done is found here, by [`Appointer::due`]; how it is done is in [`super::appoint`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use runtime::{
    grpc::Channels,
    seams::{Environment, Moment},
};

use super::{addresses::Addresses, connection_watch::ConnectionWatch};
use crate::{
    agent::Contact,
    configuration::PeerTimers,
    engine::{
        host::ReplicaHost,
        types::{NodeId, PartitionId, Placement, ReplicaId},
    },
};

/// How often it is looked whether there is something to do.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A group that needs a leader, as one of its replicas sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub partition: PartitionId,
    /// The replica here.
    pub own: ReplicaId,
    /// The node of the lost leader; none if the group simply has no leader.
    pub lost: Option<NodeId>,
    /// The voters that this node has not lost, in order of replica id, the own one included.
    pub survivors: Vec<Placement>,
}

impl Case {
    /// The place among the survivors: who has a lower one acts earlier.
    pub fn rank(&self) -> u32 {
        let rank = self.survivors.iter().position(|survivor| survivor.replica == self.own);
        rank.and_then(|rank| u32::try_from(rank).ok()).unwrap_or(u32::MAX)
    }
}

/// What one replica knows of its group.
#[derive(Clone, Debug)]
pub struct Sight {
    pub partition: PartitionId,
    pub own: ReplicaId,
    pub voters: Vec<Placement>,
    pub leader: Option<Placement>,
    pub leaderless_for: Duration,
}

impl Sight {
    /// What has to be done, if anything has to and could help.
    pub fn case(
        &self,
        is_lost: impl Fn(NodeId) -> bool,
        leaderless_after: Duration,
    ) -> Option<Case> {
        let lost = match self.leader {
            Some(leader) if is_lost(leader.node) => Some(leader.node),
            None if self.leaderless_for >= leaderless_after => None,
            Some(_) | None => return None,
        };
        let mut survivors: Vec<Placement> = self
            .voters
            .iter()
            .filter(|voter| voter.replica == self.own || !is_lost(voter.node))
            .copied()
            .collect();
        survivors.sort_unstable_by_key(|survivor| survivor.replica);
        if !survivors.iter().any(|survivor| survivor.replica == self.own) {
            return None;
        }
        // With fewer than half of all voters nobody can be elected. (While a group is joint, half of
        // all can be a majority of both its sets.)
        if survivors.len() * 2 < self.voters.len() {
            return None;
        }
        Some(Case { partition: self.partition, own: self.own, lost, survivors })
    }
}

/// When each case may be acted upon.
#[derive(Default)]
pub struct Waits {
    next: BTreeMap<PartitionId, Moment>,
}

impl Waits {
    /// The cases whose turn has come. Each waits by its rank, and after its turn until every other
    /// survivor has had one. A group that is no case any more is forgotten.
    pub fn due(&mut self, cases: Vec<Case>, now: Moment, rank_step: Duration) -> Vec<Case> {
        let known = std::mem::take(&mut self.next);
        let mut due = Vec::new();
        for case in cases {
            let turn = match known.get(&case.partition) {
                Some(turn) => *turn,
                None => now + rank_step.saturating_mul(case.rank()),
            };
            let round = u32::try_from(case.survivors.len()).unwrap_or(u32::MAX);
            if turn <= now {
                self.next.insert(case.partition, now + rank_step.saturating_mul(round));
                due.push(case);
            } else {
                self.next.insert(case.partition, turn);
            }
        }
        due
    }
}

/// Appoints leaders while the control plane is silent.
pub struct Appointer {
    pub environment: Environment,
    pub host: Arc<ReplicaHost>,
    pub node: NodeId,
    pub watch: Arc<ConnectionWatch>,
    pub addresses: Arc<Addresses>,
    pub channels: Channels,
    pub contact: Arc<Contact>,
    pub timers: PeerTimers,
}

impl Appointer {
    /// Looks for something to do, until dropped.
    pub async fn run(self: Arc<Self>) {
        let mut lost = self.watch.subscribe();
        let mut waits = Waits::default();
        loop {
            tokio::select! {
                biased;
                // The watch lives as long as this does.
                _ = lost.changed() => {}
                () = self.environment.sleep(LOOK_INTERVAL) => {}
            }
            if self.contact.silence() < self.timers.control_plane_silence() {
                waits = Waits::default();
                continue;
            }
            let due =
                waits.due(self.cases(), self.environment.now(), self.timers.takeover_rank_step());
            if !due.is_empty() {
                tracing::warn!(
                    groups = due.len(),
                    "the control plane is silent: appointing leaders among the peers"
                );
                runtime::mark!("peers: they appointed while the control plane was silent");
                metrics::counter!("isotherm_node_peer_takeovers_total")
                    .increment(u64::try_from(due.len()).unwrap_or(u64::MAX));
                tokio::spawn(Arc::clone(&self).act(due));
            }
        }
    }

    fn cases(&self) -> Vec<Case> {
        let is_lost = |node| node != self.node && self.watch.is_lost(node);
        let sight = |replica: Arc<crate::engine::replica::Replica>| Sight {
            partition: replica.partition(),
            own: replica.id(),
            voters: replica.voters(),
            leader: replica
                .leader()
                .or_else(|| replica.followed().filter(|leader| is_lost(leader.node))),
            leaderless_for: replica.leaderless_for(),
        };
        self.host
            .replicas()
            .into_iter()
            .filter(|replica| replica.failure().is_none())
            .filter_map(|replica| sight(replica).case(is_lost, self.timers.leaderless_after()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn placement(id: u64) -> Placement {
        Placement { replica: ReplicaId(id), node: NodeId(10 + id) }
    }

    fn sight(own: u64, leader: Option<u64>, leaderless_for: Duration) -> Sight {
        Sight {
            partition: PartitionId(1),
            own: ReplicaId(own),
            voters: vec![placement(3), placement(1), placement(2)],
            leader: leader.map(placement),
            leaderless_for,
        }
    }

    #[test]
    fn a_group_needs_a_leader_if_its_own_is_lost_or_it_has_none_for_a_while() {
        let nobody = |_| false;
        let first = |node| node == NodeId(11);
        assert_eq!(sight(2, Some(1), Duration::ZERO).case(nobody, SECOND), None);
        assert_eq!(sight(2, None, SECOND / 2).case(nobody, SECOND), None);
        let leaderless = sight(2, None, SECOND).case(nobody, SECOND).unwrap();
        assert_eq!((leaderless.lost, leaderless.rank()), (None, 1));
        let lost = sight(3, Some(1), Duration::ZERO).case(first, SECOND).unwrap();
        assert_eq!(lost.lost, Some(NodeId(11)));
        assert_eq!(lost.survivors, [placement(2), placement(3)]);
        assert_eq!(lost.rank(), 1);
    }

    #[test]
    fn nothing_is_tried_that_cannot_help() {
        let others = |node| node != NodeId(12);
        assert_eq!(sight(2, Some(1), Duration::ZERO).case(others, SECOND), None, "no majority");
        let learner = sight(9, Some(1), Duration::ZERO);
        assert_eq!(learner.case(|node| node == NodeId(11), SECOND), None, "it does not vote");
    }

    #[test]
    fn survivors_act_one_after_the_other() {
        let case = |own| {
            sight(own, Some(1), Duration::ZERO).case(|node| node == NodeId(11), SECOND).unwrap()
        };
        let at = |milliseconds| Moment::from_origin(Duration::from_millis(milliseconds));
        let step = Duration::from_millis(500);
        let (mut second, mut third) = (Waits::default(), Waits::default());
        assert_eq!(second.due(vec![case(2)], at(0), step).len(), 1);
        assert_eq!(third.due(vec![case(3)], at(0), step).len(), 0);
        assert_eq!(third.due(vec![case(3)], at(499), step).len(), 0);
        assert_eq!(third.due(vec![case(3)], at(500), step).len(), 1);
        assert_eq!(second.due(vec![case(2)], at(999), step).len(), 0);
        assert_eq!(second.due(vec![case(2)], at(1_000), step).len(), 1);
        // Healed in between: the next time is a new case.
        assert_eq!(third.due(Vec::new(), at(600), step).len(), 0);
        assert_eq!(third.due(vec![case(3)], at(700), step).len(), 0);
        assert_eq!(third.due(vec![case(3)], at(1_200), step).len(), 1);
    }
}
