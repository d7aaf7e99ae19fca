//! What a replica says of itself.

use openraft::async_runtime::WatchReceiver;
use proto::v1;

use super::{
    replica::Replica,
    types::{self, NodeId, Placement, ReplicaId, StoredMembership},
};

fn placement(membership: &StoredMembership, replica: u64) -> v1::ReplicaPlacement {
    let node = membership.get_node(&replica).map_or(NodeId(0), |node| node.node_id);
    Placement { replica: ReplicaId(replica), node }.into()
}

fn membership(effective: &StoredMembership, committed: bool) -> v1::Membership {
    v1::Membership {
        log_position: effective.log_id().as_ref().map(types::position),
        voter_sets: effective
            .get_joint_config()
            .iter()
            .map(|voters| v1::VoterSet {
                voters: voters.iter().map(|replica| placement(effective, *replica)).collect(),
            })
            .collect(),
        learners: effective
            .membership()
            .learner_ids()
            .map(|replica| placement(effective, replica))
            .collect(),
        committed,
    }
}

impl Replica {
    /// Where the replica is, for the control plane.
    pub fn report(&self) -> v1::ReplicaReport {
        let failure = self.failure();
        let server = self.server.borrow_watched().clone();
        let data = self.data.borrow_watched().clone();
        let state = self.view.state();
        let phase = match failure {
            Some(_) => v1::ReplicaPhase::Failed,
            None => v1::ReplicaPhase::Live,
        };
        let effective = &server.membership_config;
        let is_committed = server.committed_membership_config.log_id() >= effective.log_id();
        let last_index = data.last_log.map_or(0, |last| last.index + 1);
        let progress = data.replication.iter().flatten().map(|(replica, matched)| {
            let matched_index = matched.map_or(0, |matched| matched.index + 1);
            v1::ReplicationProgress {
                replica_id: *replica,
                matched: matched.as_ref().map(types::position),
                lag_entries: last_index.saturating_sub(matched_index),
            }
        });
        v1::ReplicaReport {
            partition_id: self.partition().0,
            replica_id: self.id().0,
            phase: phase.into(),
            term: server.vote.leader_id().term,
            leader_replica_id: self.leader().map_or(0, |leader| leader.replica.0),
            leading: failure.is_none() && self.leads_with_quorum(),
            last_log: data.last_log.as_ref().map(types::position),
            applied: state.applied.as_ref().map(types::position),
            membership: effective.log_id().as_ref().map(|_| membership(effective, is_committed)),
            range: state.range.clone().map(Into::into),
            range_epoch: state.range_epoch,
            progress: progress.collect(),
            stored_bytes: state.stored_bytes,
            keys: state.keys,
            message: failure.unwrap_or_default(),
        }
    }

    /// Whether this replica leads and a quorum has accepted it, as far as was last tried.
    pub fn leads_with_quorum(&self) -> bool {
        if !self.is_leader() || self.is_doubted() {
            return false;
        }
        let vote = *self.server.borrow_watched().vote.leader_id();
        let committed = self.data.borrow_watched().cluster_committed;
        // Its first entry is committed: a quorum took it.
        committed.is_some_and(|committed| committed.leader_id == vote)
    }
}
