//! A partition becomes two: what the entry makes of the parent's state, and how the child begins.
//!
//! The child begins where the parent is. Its log is empty and goes on behind the parent's entry, so that
//! versions go on rising; its state is the parent's but for what its range decides; its keys and outcomes
//! stay where they are, in the parent's lineage. All of it is written with the parent's own state after
//! the entry, in one batch: there is never one without the other.

use planted::Bug;
use runtime::store::Batch;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    command::{Split, SplitRefusal},
    keys,
    records::{self, GroupState, ReplicaRecord},
    types::{
        KeyRange, Lineage, PartitionId, Placement, RaftLogId, RaftMembership, RaftVote, ReplicaId,
        ReplicaNode, StoredMembership, TypeConfig,
    },
};

/// A child as it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    pub partition: PartitionId,
    /// Its replica on this node; none where the parent's came later, and only its log told of the split.
    pub own: Option<ReplicaId>,
    pub range: KeyRange,
    pub state: GroupState,
    /// All members of the child.
    pub replicas: Vec<Placement>,
    /// The parent's entry.
    pub base: RaftLogId,
}

/// What a split makes of a state.
pub(super) struct Halves {
    pub(super) parent: GroupState,
    pub(super) child: Birth,
}

/// Whether a membership is neither joint nor has learners, and whom it has.
pub(super) fn plain_voters(membership: &StoredMembership) -> Option<Vec<Placement>> {
    let [voters] = membership.get_joint_config().as_slice() else { return None };
    if membership.nodes().count() != voters.len() {
        return None;
    }
    let place = |replica: &u64| {
        let node = membership.get_node(replica)?.node_id;
        Some(Placement { replica: ReplicaId(*replica), node })
    };
    voters.iter().map(place).collect()
}

/// Whether each of the voters' nodes gets one of these replicas, and no other node does.
pub(super) fn are_on_nodes_of(replicas: &[Placement], voters: &[Placement]) -> bool {
    let nodes = |placements: &[Placement]| -> BTreeSet<_> {
        placements.iter().map(|placement| placement.node).collect()
    };
    let ids: BTreeSet<_> = replicas.iter().map(|placement| placement.replica).collect();
    ids.len() == replicas.len()
        && replicas.len() == voters.len()
        && nodes(replicas) == nodes(voters)
        && nodes(voters).len() == voters.len()
}

/// Whether the range can be split there: both halves have room for a key.
pub(super) fn is_inside(range: &KeyRange, at: &[u8]) -> bool {
    range.contains(at) && at != range.start
}

/// What the entry at `log_id` makes of the state of `replica`.
pub(super) fn halves(
    state: &GroupState,
    replica: ReplicaId,
    log_id: RaftLogId,
    split: &Split,
) -> Result<Halves, SplitRefusal> {
    let range = state.range.as_ref().ok_or(SplitRefusal::OtherRange)?;
    if state.range_epoch != split.range_epoch {
        return Err(SplitRefusal::OtherRange);
    }
    if !is_inside(range, &split.at) {
        return Err(SplitRefusal::NotInside);
    }
    let voters = plain_voters(&state.membership).ok_or(SplitRefusal::OtherMembers)?;
    if *state.membership.log_id() != split.membership_log {
        return Err(SplitRefusal::OtherMembers);
    }
    if !are_on_nodes_of(&split.replicas, &voters) {
        return Err(SplitRefusal::OtherNodes);
    }
    let here = voters.iter().find(|voter| voter.replica == replica);
    let own = split.replicas.iter().find(|own| here.is_some_and(|here| here.node == own.node));
    let own = own.map(|own| own.replica);
    let measuring = state.measuring.as_ref();
    let measuring = measuring.filter(|it| it.at == split.at && it.since == split.measured_at);
    let (keys, stored_bytes) = measuring
        .and_then(|measuring| measuring.now(split.keys, split.stored_bytes))
        .filter(|(keys, bytes)| *keys <= state.keys && *bytes <= state.stored_bytes)
        .ok_or(SplitRefusal::NotMeasured)?;

    let range_epoch = split.range_epoch + 1;
    let left = KeyRange { start: range.start.clone(), end: split.at.clone() };
    let right = KeyRange { start: split.at.clone(), end: range.end.clone() };
    let parent = GroupState {
        range: Some(if planted::is_planted(Bug::SplitParentKeepsAll) {
            range.clone()
        } else {
            left
        }),
        range_epoch,
        keys: state.keys - keys,
        stored_bytes: state.stored_bytes - stored_bytes,
        measuring: None,
        ..state.clone()
    };
    let child = GroupState {
        membership: membership(log_id, &split.replicas),
        range: Some(right.clone()),
        range_epoch,
        keys,
        stored_bytes,
        measuring: None,
        ..state.clone()
    };
    let child = Birth {
        partition: split.child,
        own,
        range: right,
        state: child,
        replicas: split.replicas.clone(),
        base: log_id,
    };
    Ok(Halves { parent, child })
}

fn membership(base: RaftLogId, replicas: &[Placement]) -> StoredMembership {
    let voters = replicas.iter().map(|placement| placement.replica.0).collect();
    let nodes: BTreeMap<u64, ReplicaNode> = replicas
        .iter()
        .map(|placement| (placement.replica.0, ReplicaNode { node_id: placement.node }))
        .collect();
    let membership = RaftMembership::new(vec![voters], nodes)
        .expect("every voter has a node: both come from the same replicas");
    StoredMembership::new(Some(base), membership)
}

impl Birth {
    /// The record of its replica here.
    pub(super) fn record(&self, replica: ReplicaId) -> ReplicaRecord {
        ReplicaRecord {
            partition: self.partition,
            replica,
            range: self.range.clone(),
            range_epoch: self.state.range_epoch,
            founders: Vec::new(),
        }
    }

    /// Puts the replica, with its state and the beginning of its log, into the batch of the entry.
    pub(super) fn write(&self, batch: &mut Batch, replica: ReplicaId) {
        if planted::is_planted(Bug::OutcomesLostInSplit) {
            let lineage = self.state.lineage;
            let (start, end) = (keys::lineage(lineage), keys::lineage(Lineage(lineage.0 + 1)));
            batch.delete_range(keys::OUTCOMES, start, end);
        }
        batch.put(keys::META, keys::replica(replica), records::encode(&self.record(replica)));
        batch.put(keys::STATE, keys::state(replica), self.state.encode());
        let vote = RaftVote { leader_id: self.base.leader_id, committed: false };
        runtime::raft::begin_after::<TypeConfig>(batch, replica.0, &self.base, &vote);
    }

    /// Deletes what would have been the replica's: nobody here will hold it.
    pub(super) fn decline(&self, batch: &mut Batch) {
        let (start, end) = keys::data_range(self.state.lineage, &self.range);
        batch.delete_range(keys::DATA, start, end);
    }
}
