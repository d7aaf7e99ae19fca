//! A toy group of replicas: it commits whatever a majority of its voters can, and checks what no order
//! may ever do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    LogPosition, NodeId, PartitionId, RangeEpoch, ReplicaId, Term,
    key_range::KeyRange,
    observation::{Progress, ReplicaPhase, ReplicaReport, ReportedMembership},
    operation::SplitPoint,
    order::{Order, OrderKind},
    partition::{Membership, Replica},
    takeover::{GroupPosition, TakeOverOutcome},
};

#[derive(Clone, Debug)]
pub struct ToyReplica {
    pub node: NodeId,
    pub phase: ReplicaPhase,
    /// The members that it was founded with.
    pub founders: Vec<Replica>,
    /// How much of the log it has.
    pub matched: u64,
}

/// A group that commits whatever a majority of its voters can.
#[derive(Clone, Debug, Default)]
pub struct ToyGroup {
    pub replicas: BTreeMap<ReplicaId, ToyReplica>,
    pub membership: Option<Membership>,
    pub leader: Option<ReplicaId>,
    pub term: u64,
    pub index: u64,
    /// Elections that fail although all is well.
    pub failing_elections: u32,
    pub elections: u32,
    /// After a split: what its range is from an index on, and in which epoch.
    pub ranges: Vec<(u64, KeyRange, RangeEpoch)>,
    /// Children: the index of the entry, and each child's id and members.
    pub children: Vec<(u64, PartitionId, Vec<Replica>)>,
}

impl ToyGroup {
    pub fn lose_leader_on(&mut self, node: NodeId) {
        if self.leader.is_some_and(|leader| self.replicas[&leader].node == node) {
            self.leader = None;
        }
    }

    /// The replica is stopped by an error of its own.
    pub fn fail(&mut self, replica: ReplicaId) {
        if let Some(toy) = self.replicas.get_mut(&replica) {
            toy.phase = ReplicaPhase::Failed;
        }
        if self.leader == Some(replica) {
            self.leader = None;
        }
    }

    pub fn report(&self, id: PartitionId, replica: ReplicaId, toy: &ToyReplica) -> ReplicaReport {
        let leading = self.leader == Some(replica);
        let membership = self.membership.clone().filter(|membership| {
            toy.phase == ReplicaPhase::Live && membership.log_position.index <= toy.matched
        });
        let progress = self.replicas.iter().filter(|_| leading).map(|(other, toy)| Progress {
            replica: *other,
            matched: Some(self.log_position(toy.matched)),
            lag_entries: self.index - toy.matched,
        });
        ReplicaReport {
            partition: id,
            replica,
            phase: toy.phase,
            term: Term(self.term),
            leader: self.leader,
            leading,
            last_log: Some(self.log_position(toy.matched)),
            applied: None,
            membership: membership
                .map(Arc::new)
                .map(|membership| ReportedMembership { membership, committed: true }),
            range: self.range_at(toy.matched).map(|(range, _)| range),
            range_epoch: self.range_at(toy.matched).map_or(RangeEpoch(1), |(_, epoch)| epoch),
            progress: progress.collect(),
            stored_bytes: 0,
            keys: 0,
            message: Box::default(),
        }
    }

    fn range_at(&self, index: u64) -> Option<(KeyRange, RangeEpoch)> {
        let known = self.ranges.iter().rev().find(|(from, ..)| *from <= index);
        known.map(|(_, range, epoch)| (range.clone(), *epoch))
    }

    /// The leader splits the group, if it may; the index of the entry.
    pub fn split(
        &mut self,
        order: &Order,
        whole: &KeyRange,
        alive: &BTreeSet<NodeId>,
    ) -> Option<u64> {
        let OrderKind::Split { at, child, replicas, range_epoch } = &order.kind else {
            return None;
        };
        let membership = self.membership.as_ref()?;
        let (range, epoch) =
            self.range_at(self.index).unwrap_or_else(|| (whole.clone(), RangeEpoch(1)));
        let nodes = |replicas: &[Replica]| -> BTreeSet<NodeId> {
            replicas.iter().map(|replica| replica.node).collect()
        };
        assert_eq!(nodes(replicas), nodes(&membership.voter_sets[0]), "{order:?}");
        if self.leader != Some(order.replica)
            || order.membership_log != Some(membership.log_position)
            || membership.is_joint()
            || !membership.learners.is_empty()
            || epoch != *range_epoch
            || !self.has_majority(alive)
        {
            return None;
        }
        let key = match at {
            SplitPoint::Key(key) => key.to_vec(),
            SplitPoint::MiddleOfLoad | SplitPoint::MiddleOfSize => (0..8)
                .map(|zeros| [range.start(), &vec![0; zeros], &[1]].concat())
                .find(|key| range.contains(key))?,
        };
        if !range.contains(&key) || key == range.start() {
            return None;
        }
        if self.ranges.is_empty() {
            self.ranges.push((0, range.clone(), epoch));
        }
        self.index += 1;
        let left = KeyRange::new(range.start(), &key).expect("inside");
        self.ranges.push((self.index, left, RangeEpoch(epoch.get() + 1)));
        self.children.push((self.index, *child, replicas.clone()));
        self.catch_up(alive);
        Some(self.index)
    }

    /// The child as it begins.
    pub fn born(&self, index: u64, child: &[Replica]) -> ToyGroup {
        let position = self.ranges.iter().position(|(from, ..)| *from == index).expect("split");
        let (_, left, epoch) = &self.ranges[position];
        let (_, whole, _) = &self.ranges[position - 1];
        let range = KeyRange::new(left.end(), whole.end()).expect("inside");
        let node = self.leader.map(|leader| self.replicas[&leader].node);
        let membership = Membership {
            log_position: self.log_position(index),
            voter_sets: vec![child.to_vec()],
            learners: Vec::new(),
        };
        ToyGroup {
            membership: Some(membership),
            leader: child.iter().find(|own| Some(own.node) == node).map(|own| own.id),
            term: 2,
            index,
            ranges: vec![(0, range, *epoch)],
            ..ToyGroup::default()
        }
    }

    /// Replicas that the parent's apply makes, on the nodes that have applied it.
    pub fn bear(&self, child: PartitionId, group: &mut ToyGroup) {
        let found = self.children.iter().find(|(_, id, _)| *id == child);
        let Some((index, _, replicas)) = found else { return };
        for own in replicas {
            let applied = self.replicas.values().any(|parent| {
                parent.node == own.node
                    && parent.phase == ReplicaPhase::Live
                    && parent.matched >= *index
            });
            let is_here = group.replicas.iter().any(|(id, toy)| {
                *id == own.id || (toy.node == own.node && toy.phase != ReplicaPhase::Destroyed)
            });
            if applied && !is_here {
                let (node, phase) = (own.node, ReplicaPhase::Live);
                let toy = ToyReplica { node, phase, founders: Vec::new(), matched: *index };
                group.replicas.insert(own.id, toy);
            }
        }
    }

    pub fn log_position(&self, index: u64) -> LogPosition {
        LogPosition { term: Term(1), leader_id: 0, index }
    }

    pub fn has_majority(&self, alive: &BTreeSet<NodeId>) -> bool {
        self.membership.as_ref().is_some_and(|membership| {
            membership.has_majority(|voter| {
                alive.contains(&voter.node)
                    && self
                        .replicas
                        .get(&voter.id)
                        .is_some_and(|toy| toy.phase == ReplicaPhase::Live)
            })
        })
    }

    pub fn obey(&mut self, order: &Order, alive: &BTreeSet<NodeId>) {
        match &order.kind {
            OrderKind::Ensure { founders, campaign, .. } => {
                if self.replicas.contains_key(&order.replica) {
                    return;
                }
                let other = self
                    .replicas
                    .values()
                    .find(|toy| toy.node == order.node && toy.phase == ReplicaPhase::Live);
                assert!(other.is_none(), "two replicas of a partition on node {}", order.node);
                let matched = if founders.is_empty() { 0 } else { 1 };
                let (node, phase) = (order.node, ReplicaPhase::Live);
                let founders = founders.clone();
                let toy = ToyReplica { node, phase, founders: founders.clone(), matched };
                self.replicas.insert(order.replica, toy);
                if !founders.is_empty() && self.membership.is_none() {
                    self.index = 1;
                    self.membership = Some(Membership {
                        log_position: self.log_position(1),
                        voter_sets: vec![founders],
                        learners: Vec::new(),
                    });
                }
                if *campaign {
                    self.elect(order.replica, true, alive);
                }
            }
            OrderKind::Destroy => {
                let voter = self
                    .membership
                    .as_ref()
                    .is_some_and(|membership| membership.contains(order.replica));
                assert!(!voter, "a member was ordered to be destroyed: {order:?} {self:?}");
                let toy = ToyReplica {
                    node: order.node,
                    phase: ReplicaPhase::Destroyed,
                    founders: Vec::new(),
                    matched: 0,
                };
                self.replicas.insert(order.replica, toy);
            }
            OrderKind::AddLearner { learner } => {
                let learner = *learner;
                self.change(order, alive, |membership| {
                    if !membership.contains(learner.id) {
                        membership.learners.push(learner);
                    }
                });
            }
            OrderKind::ChangeMembers { voters } => {
                let voters = voters.clone();
                let joint =
                    self.membership.as_ref().is_some_and(|membership| membership.is_joint());
                self.change(order, alive, |membership| {
                    membership.learners.retain(|learner| voters.contains(learner));
                    // One step for each order: so the joint state is seen, and must be ended.
                    if !joint && membership.voter_sets[0] != voters {
                        membership.voter_sets.push(voters.clone());
                    } else {
                        membership.voter_sets = vec![voters.clone()];
                    }
                    membership.learners.retain(|learner| !voters.contains(learner));
                });
            }
            OrderKind::Split { .. } => unreachable!("the world splits groups"),
            OrderKind::TransferLeader { to } => {
                if self.leader == Some(order.replica) && self.has_majority(alive) {
                    let voter = self
                        .membership
                        .as_ref()
                        .is_some_and(|membership| membership.is_full_voter(*to));
                    assert!(voter, "leadership goes to voters: {order:?} {self:?}");
                    if self.replicas.get(to).is_some_and(|toy| alive.contains(&toy.node)) {
                        self.leader = Some(*to);
                        self.term += 1;
                        self.elections += 1;
                    }
                }
            }
        }
    }

    pub fn change(
        &mut self,
        order: &Order,
        alive: &BTreeSet<NodeId>,
        change: impl FnOnce(&mut Membership),
    ) {
        let Some(current) = &self.membership else { return };
        if self.leader != Some(order.replica)
            || order.membership_log != Some(current.log_position)
            || !self.has_majority(alive)
        {
            return;
        }
        let mut membership = current.clone();
        change(&mut membership);
        if membership == *current {
            return;
        }
        self.index += 1;
        membership.log_position = self.log_position(self.index);
        let leader = self.leader;
        let stays = leader.is_some_and(|leader| membership.is_voter(leader));
        self.membership = Some(membership);
        self.catch_up(alive);
        assert!(stays, "a leader was removed before it handed over: {order:?}");
    }

    /// The leader appends entries; whoever is alive has them.
    pub fn append(&mut self, entries: u64, alive: &BTreeSet<NodeId>) {
        self.index += entries;
        self.catch_up(alive);
    }

    pub fn catch_up(&mut self, alive: &BTreeSet<NodeId>) {
        let reachable =
            |toy: &ToyReplica| toy.phase == ReplicaPhase::Live && alive.contains(&toy.node);
        for toy in self.replicas.values_mut().filter(|toy| reachable(toy)) {
            toy.matched = self.index;
        }
    }

    pub fn position(
        &self,
        partition: PartitionId,
        replica: ReplicaId,
        alive: &BTreeSet<NodeId>,
    ) -> GroupPosition {
        let toy = &self.replicas[&replica];
        let leader_is_lost =
            self.leader.is_none_or(|leader| !alive.contains(&self.replicas[&leader].node));
        let voters = self.membership.iter().flat_map(|membership| membership.voters());
        GroupPosition {
            partition,
            replica,
            last_log: Some(self.log_position(toy.matched)),
            vote_term: Term(self.term),
            leader: self.leader,
            membership_log: self.membership.as_ref().map(|membership| membership.log_position),
            voters: voters.map(|voter| voter.id).collect(),
            leader_lost: leader_is_lost,
            ..GroupPosition::default()
        }
    }

    /// Elections need a majority, and a log that is as long as that of some majority.
    pub fn elect(
        &mut self,
        candidate: ReplicaId,
        elect: bool,
        alive: &BTreeSet<NodeId>,
    ) -> TakeOverOutcome {
        if self.leader == Some(candidate) {
            return TakeOverOutcome::Leading;
        }
        if self.failing_elections > 0 {
            self.failing_elections -= 1;
            return TakeOverOutcome::NotElected;
        }
        let own = self.replicas[&candidate].matched;
        let voter =
            self.membership.as_ref().is_some_and(|membership| membership.is_voter(candidate));
        let wins = voter
            && self.membership.as_ref().is_some_and(|membership| {
                membership.has_majority(|voter| {
                    self.replicas.get(&voter.id).is_some_and(|toy| {
                        alive.contains(&toy.node)
                            && toy.phase == ReplicaPhase::Live
                            && toy.matched <= own
                    })
                })
            });
        let _ = elect;
        if !wins {
            return TakeOverOutcome::NotElected;
        }
        self.term += 1;
        self.elections += 1;
        self.leader = Some(candidate);
        self.catch_up(alive);
        TakeOverOutcome::Leading
    }

    pub fn check(&self) {
        let founded: BTreeSet<&Vec<Replica>> = self
            .replicas
            .values()
            .map(|toy| &toy.founders)
            .filter(|founders| !founders.is_empty())
            .collect();
        assert!(founded.len() <= 1, "one group, founded with two memberships: {founded:?}");
    }
}
