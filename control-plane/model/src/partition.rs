//! A partition as the replicated state knows it: what is intended (range, target replicas), and what
//! its group was last seen to have committed (membership, leader), in separate fields.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{LogPosition, NodeId, OperationId, PartitionId, RangeEpoch, ReplicaId, Term, ZoneTime},
    key_range::KeyRange,
    table::{Record, decode_number, encode_number},
};

/// One placement of a partition on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    pub id: ReplicaId,
    pub node: NodeId,
}

/// A replica on its way out: out of the targets, and not known to be destroyed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retiring {
    pub replica: Replica,
    pub since: ZoneTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    pub range: KeyRange,
    pub range_epoch: RangeEpoch,
    /// The replicas that shall vote, in the order of their ids; empty: not placed yet.
    ///
    /// Until the group's first membership was observed these are its founders and do not change: two
    /// replicas that were founded with different members could both become leaders.
    pub targets: Vec<Replica>,
    pub retiring: Vec<Retiring>,
    /// Where leadership belongs when nothing speaks against it: a tie-break, never an order.
    pub preferred_leader: Option<ReplicaId>,
    /// The group's latest membership that was seen committed.
    pub observed: Option<Membership>,
    /// The latest leader that was seen.
    pub leader: Option<ObservedLeader>,
    /// The operation that is changing this partition: one at a time.
    pub change: Option<OperationId>,
}

/// A group's membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Its entry in the group's log. Guards every change of members.
    pub log_position: LogPosition,
    /// One set, or two while the group is joint; each in the order of replica ids.
    pub voter_sets: Vec<Vec<Replica>>,
    /// In the order of replica ids.
    pub learners: Vec<Replica>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedLeader {
    pub replica: ReplicaId,
    pub node: NodeId,
    pub term: Term,
}

impl Membership {
    pub fn is_joint(&self) -> bool {
        self.voter_sets.len() > 1
    }

    /// Voters of all sets, each once.
    pub fn voters(&self) -> BTreeSet<Replica> {
        self.voter_sets.iter().flatten().copied().collect()
    }

    pub fn is_voter(&self, id: ReplicaId) -> bool {
        self.voter_sets.iter().flatten().any(|voter| voter.id == id)
    }

    /// Votes in each set: whoever leads after a joint change must.
    pub fn is_full_voter(&self, id: ReplicaId) -> bool {
        !self.voter_sets.is_empty()
            && self.voter_sets.iter().all(|set| set.iter().any(|voter| voter.id == id))
    }

    pub fn is_learner(&self, id: ReplicaId) -> bool {
        self.learners.iter().any(|learner| learner.id == id)
    }

    pub fn contains(&self, id: ReplicaId) -> bool {
        self.is_voter(id) || self.is_learner(id)
    }

    /// Exactly these replicas vote, and nobody else belongs to the group.
    pub fn is_exactly(&self, replicas: &[Replica]) -> bool {
        self.learners.is_empty() && self.votes_exactly(replicas)
    }

    /// Exactly these replicas vote, learners aside.
    pub fn votes_exactly(&self, replicas: &[Replica]) -> bool {
        self.voter_sets.len() == 1
            && self.voter_sets[0].iter().all(|voter| replicas.contains(voter))
            && replicas.iter().all(|replica| self.voter_sets[0].contains(replica))
    }

    /// Whether the given replicas hold a majority of each voter set.
    pub fn has_majority(&self, mut available: impl FnMut(Replica) -> bool) -> bool {
        !self.voter_sets.is_empty()
            && self
                .voter_sets
                .iter()
                .all(|set| set.iter().filter(|voter| available(**voter)).count() > set.len() / 2)
    }
}

impl Partition {
    pub fn is_placed(&self) -> bool {
        !self.targets.is_empty()
    }

    pub fn target(&self, id: ReplicaId) -> Option<Replica> {
        self.targets.iter().find(|target| target.id == id).copied()
    }

    pub fn target_on(&self, node: NodeId) -> Option<Replica> {
        self.targets.iter().find(|target| target.node == node).copied()
    }

    pub fn retiring_on(&self, node: NodeId) -> Option<Replica> {
        self.retiring.iter().map(|retiring| retiring.replica).find(|replica| replica.node == node)
    }

    /// Whether the node holds a replica of any kind, intended, observed or on its way out.
    pub fn is_on(&self, node: NodeId) -> bool {
        self.target_on(node).is_some()
            || self.retiring_on(node).is_some()
            || self.has_member_on(node)
    }

    /// A voter on the node that is no longer intended to be one: its addition was given up when the group had
    /// committed it already, which nobody knew yet. As long as it votes it can be taken back.
    pub fn forsaken_voter_on(&self, node: NodeId) -> Option<Replica> {
        let [voters] = self.observed.as_ref()?.voter_sets.as_slice() else { return None };
        let voter = voters.iter().find(|voter| voter.node == node).copied()?;
        let is_only = self.target_on(node).is_none()
            && self.retiring.iter().all(|it| it.replica.node != node || it.replica == voter);
        is_only.then_some(voter)
    }

    /// Whether the group's observed membership has a replica on the node.
    pub fn has_member_on(&self, node: NodeId) -> bool {
        self.observed.as_ref().is_some_and(|observed| {
            observed
                .voter_sets
                .iter()
                .flatten()
                .chain(&observed.learners)
                .any(|replica| replica.node == node)
        })
    }

    /// All nodes that hold a replica of any kind.
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        let observed = self
            .observed
            .iter()
            .flat_map(|observed| observed.voter_sets.iter().flatten().chain(&observed.learners));
        self.targets
            .iter()
            .chain(observed)
            .map(|replica| replica.node)
            .chain(self.retiring.iter().map(|retiring| retiring.replica.node))
            .collect()
    }

    /// The replica with this id, wherever it is mentioned.
    pub fn replica(&self, id: ReplicaId) -> Option<Replica> {
        let observed = self
            .observed
            .iter()
            .flat_map(|observed| observed.voter_sets.iter().flatten().chain(&observed.learners));
        self.targets
            .iter()
            .chain(observed)
            .copied()
            .chain(self.retiring.iter().map(|retiring| retiring.replica))
            .find(|replica| replica.id == id)
    }

    /// The voters as far as is known: of the observed membership, or the founders.
    pub fn voters(&self) -> BTreeSet<Replica> {
        match &self.observed {
            Some(observed) => observed.voters(),
            None => self.targets.iter().copied().collect(),
        }
    }

    /// Whether the given replicas hold a majority of what is known of the voters.
    pub fn has_majority(&self, mut available: impl FnMut(Replica) -> bool) -> bool {
        match &self.observed {
            Some(observed) => observed.has_majority(available),
            None => {
                let alive = self.targets.iter().filter(|target| available(**target)).count();
                alive > self.targets.len() / 2
            }
        }
    }

    /// Whether the group has become exactly what is intended.
    pub fn is_settled(&self) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.is_exactly(&self.targets))
    }
}

impl Record for Partition {
    const TAG: u8 = 4;
    type Key = PartitionId;
    fn encode_key(key: &PartitionId) -> Vec<u8> {
        encode_number(key.get())
    }
    fn decode_key(bytes: &[u8]) -> Option<PartitionId> {
        decode_number(bytes).map(PartitionId)
    }
}
