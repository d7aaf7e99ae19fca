//! How a group gets another leader when its own is lost, and who may make a voter let go of a leader.
//!
//! The chosen replica first campaigns *gently*: its vote requests say that the hand-over is authorised,
//! and why, and each voter checks that for itself. Where that does not work (voters that do not know
//! the reason yet, a replica that has just started), the other voters are asked to let go of the lost
//! leader, and the chosen one campaigns by an ordinary election.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use proto::v1::{self, take_over_result::Outcome};

use super::{
    replica::Replica,
    transport::VoteAuthority,
    types::{self, NodeId, RaftLogId, ReplicaId, TransferLeaderRequest, VoteRequest},
};

/// For how long a group must have had no leader before peers act on it without a lost node.
const LEADERLESS_MIN: Duration = Duration::from_secs(1);
/// For how long the vote requests of a hand-over count as one.
pub(super) const HANDOVER_WINDOW: Duration = Duration::from_secs(5);

/// One group's part of a takeover request.
#[derive(Clone, Debug)]
pub(super) struct TakeOver {
    pub(super) candidate: ReplicaId,
    pub(super) based_on: Option<RaftLogId>,
    pub(super) elect: bool,
    pub(super) authority: VoteAuthority,
    pub(super) timeout: Duration,
}

impl Replica {
    fn result(&self, outcome: Outcome, message: impl Into<String>) -> v1::TakeOverResult {
        runtime::mark!("take-over answered", outcome);
        let term = self.server.borrow_watched().vote.leader_id().term;
        v1::TakeOverResult {
            group: Some(v1::GroupReplica {
                partition_id: self.partition().0,
                replica_id: self.id().0,
            }),
            outcome: outcome.into(),
            term,
            leader_replica_id: self.leader().map_or(0, |leader| leader.replica.0),
            message: message.into(),
        }
    }

    /// Why the leader that this replica knows may not be passed over; none if it may.
    pub(super) fn leader_stands(
        &self,
        authority: VoteAuthority,
        candidate: ReplicaId,
    ) -> Option<String> {
        let leader = self.leader();
        // If it stands for election again, it has lost its leadership: by a restart, say.
        let is_candidate =
            leader.is_some_and(|leader| leader.replica == candidate && candidate != self.id());
        let lost_node = match authority {
            VoteAuthority::Ordinary => return Some("no authority was given".to_owned()),
            VoteAuthority::Handover => return None,
            VoteAuthority::Conclusion { .. } | VoteAuthority::Peers { .. } if is_candidate => {
                return None;
            }
            VoteAuthority::Conclusion { lost_node, .. } => lost_node,
            VoteAuthority::Peers { lost_node: NodeId(0) } => {
                return (self.leaderless_for() < LEADERLESS_MIN)
                    .then(|| "this replica had a leader a moment ago".to_owned());
            }
            VoteAuthority::Peers { lost_node } => {
                if !self.shared.watch.has_lost(lost_node) {
                    return Some(format!("this node has not lost node {lost_node}"));
                }
                lost_node
            }
        };
        match leader {
            Some(leader) if lost_node != NodeId(0) && leader.node != lost_node => {
                // Somebody else leads by now. Unless that one is gone as well, it stays.
                (!self.shared.watch.has_lost(leader.node))
                    .then(|| format!("replica {} on node {} leads", leader.replica, leader.node))
            }
            Some(_) | None => None,
        }
    }

    /// Takes over, or lets go of the lost leader in favour of the candidate.
    pub(super) async fn take_over(&self, order: TakeOver) -> v1::TakeOverResult {
        if let Some(failure) = self.failure() {
            return self.result(Outcome::Refused, failure);
        }
        let membership = self.membership();
        if *membership.log_id() > order.based_on {
            return self.result(Outcome::Refused, "the group's membership has moved on");
        }
        let limit = order.timeout;
        let working = async {
            if order.candidate == self.id() {
                if !membership.voter_ids().any(|voter| voter == self.id().0) {
                    return self.result(Outcome::Refused, "this replica does not vote");
                }
                self.campaign(&order).await
            } else {
                self.let_go(&order).await
            }
        };
        match runtime::time::timeout(limit, working).await {
            Ok(result) => result,
            Err(_) => self.result(Outcome::NotElected, format!("not done within {limit:?}")),
        }
    }

    async fn campaign(&self, order: &TakeOver) -> v1::TakeOverResult {
        if !self.is_leader() {
            if let Some(reason) = self.leader_stands(order.authority, order.candidate) {
                return self.result(Outcome::LedElsewhere, reason);
            }
            let until = self.shared.environment.now() + order.timeout;
            self.campaign.begin(order.authority, until);
            if order.elect {
                runtime::mark!("take-over: by an election after the others let go");
                if let Err(fatal) = self.raft.trigger().elect(false).await {
                    return self.result(Outcome::Refused, fatal.to_string());
                }
            } else if let Err(reason) = self.campaign_gently().await {
                return self.result(Outcome::NotElected, reason);
            }
            if !self.wait_until_leading(self.shared.options.appoint_timeout).await {
                return self.result(Outcome::NotElected, "no majority granted its vote in time");
            }
        }
        // The first round after the election also waits for everything before to be applied.
        match self.reads.confirm().await {
            Ok(()) => self.result(Outcome::Leading, ""),
            Err(error) => self.result(Outcome::NotElected, error.to_string()),
        }
    }

    /// Campaigns with vote requests that say that they are authorised.
    async fn campaign_gently(&self) -> Result<(), String> {
        let position =
            self.raft.with_raft_state(|state| (*state.vote_ref(), state.log_ids.last().copied()));
        let (vote, last) = position.await.map_err(|fatal| fatal.to_string())?;
        let request = TransferLeaderRequest::new(vote, self.id().0, last);
        // After a restart it waits until something was written, which may be never.
        let campaign = runtime::time::timeout(
            self.shared.options.appoint_timeout,
            self.raft.handle_transfer_leader(request),
        );
        match campaign.await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(refusal))) => Err(refusal.to_string()),
            Ok(Err(fatal)) => Err(fatal.to_string()),
            Err(_) => Err("the replica has written nothing since it started".to_owned()),
        }
    }

    async fn wait_until_leading(&self, limit: Duration) -> bool {
        let mut metrics = self.raft.server_metrics();
        let waiting = async {
            while !self.is_leader() {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        // Level, not edge: asked again at the end.
        let _ = runtime::time::timeout(limit, waiting).await;
        self.is_leader()
    }

    async fn let_go(&self, order: &TakeOver) -> v1::TakeOverResult {
        if self.is_leader() {
            if self.reads.confirm().await.is_ok() {
                return self.result(Outcome::LedElsewhere, "this replica leads, with a quorum");
            }
        } else if let Some(reason) = self.leader_stands(order.authority, order.candidate) {
            return self.result(Outcome::LedElsewhere, reason);
        }
        let vote = match self.raft.with_raft_state(|state| *state.vote_ref()).await {
            Ok(vote) => vote,
            Err(fatal) => return self.result(Outcome::Refused, fatal.to_string()),
        };
        let request = TransferLeaderRequest::new(vote, order.candidate.0, None);
        match self.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => self.result(Outcome::Disarmed, ""),
            Ok(Err(refusal)) => self.result(Outcome::Refused, refusal.to_string()),
            Err(fatal) => self.result(Outcome::Refused, fatal.to_string()),
        }
    }

    /// The vote request as this voter has to take it: without its authority if that does not hold here.
    pub(super) fn check_authority(
        &self,
        mut request: VoteRequest,
        authority: VoteAuthority,
    ) -> Result<VoteRequest, String> {
        if !request.leadership_transfer {
            return Ok(request);
        }
        let candidate = ReplicaId(request.vote.leader_id().node_id);
        match (authority, self.leader_stands(authority, candidate)) {
            (_, None) => {
                runtime::mark!("vote: an authority counted", authority);
                Ok(request)
            }
            // Whether it is granted decides the lease.
            (VoteAuthority::Ordinary | VoteAuthority::Conclusion { .. }, Some(_)) => {
                runtime::mark!("vote: a leader stood, and its lease decided");
                request.leadership_transfer = false;
                Ok(request)
            }
            (VoteAuthority::Peers { .. } | VoteAuthority::Handover, Some(reason)) => {
                runtime::mark!("vote: the authority of peers did not count");
                Err(reason)
            }
        }
    }

    /// Where the replica's log ends, for choosing whom to appoint.
    pub async fn log_position(&self) -> v1::GroupLogPosition {
        let group = v1::GroupReplica { partition_id: self.partition().0, replica_id: self.id().0 };
        if let Some(error) = self.failure() {
            return v1::GroupLogPosition { group: Some(group), error, ..Default::default() };
        }
        let position = self.raft.with_raft_state(|state| {
            let membership = state.membership_state.effective();
            let vote = state.vote_ref();
            v1::GroupLogPosition {
                last_log: state.log_ids.last().map(types::position),
                vote_term: vote.leader_id().term,
                vote_leader_id: vote.leader_id().node_id,
                vote_committed: vote.is_committed(),
                membership_log: membership.log_id().as_ref().map(types::position),
                voter_replica_ids: membership.voter_ids().collect(),
                ..Default::default()
            }
        });
        let leader = self.leader();
        match position.await {
            Ok(position) => v1::GroupLogPosition {
                group: Some(group),
                leader_replica_id: leader.map_or(0, |leader| leader.replica.0),
                leader_lost: self
                    .followed()
                    .is_some_and(|leader| self.shared.watch.has_lost(leader.node)),
                ..position
            },
            Err(fatal) => v1::GroupLogPosition {
                group: Some(group),
                error: fatal.to_string(),
                ..Default::default()
            },
        }
    }
}
