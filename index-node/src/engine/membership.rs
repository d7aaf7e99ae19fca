//! What the control plane asks of a group's leader: changes of members, and handing over.
//!
//! Everything is idempotent: asked again for what is already so, it does nothing. Every change of members
//! is conditional on the membership that it was decided on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use openraft::{
    ChangeMembers, Precondition,
    async_runtime::WatchReceiver,
    error::{ClientWriteError, RaftError},
};
use planted::Bug;

use super::{
    replica::Replica,
    types::{Placement, RaftLogId, ReplicaId, ReplicaNode, StoredMembership, TypeConfig},
};

/// A replica that is further behind does not become a voter.
pub const VOTER_LAG_ENTRIES_MAX: u64 = 1_000;
/// How long a change may wait for its quorum. It goes on afterwards; the next order finds it done.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a hand-over may take before it is tried with another voter: meanwhile nobody writes.
const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(400);

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("this replica does not lead")]
    NotLeader,
    #[error("the group's membership is another one than the order is based on")]
    MovedOn,
    #[error("replica {0} is no member yet")]
    NotMember(ReplicaId),
    #[error("replica {replica} is {lag} entries behind")]
    Behind { replica: ReplicaId, lag: u64 },
    #[error("the leader would be removed: hand over first")]
    RemovesLeader,
    #[error("replica {0} does not vote")]
    NotVoter(ReplicaId),
    #[error("this node has lost replica {0}'s node")]
    Lost(ReplicaId),
    #[error("the hand-over went to replica {led_by} instead")]
    LedByAnother { led_by: ReplicaId },
    #[error("{0}")]
    Refused(String),
    #[error("not done within {0:?}; it may still be")]
    Timeout(Duration),
}

type Change = ChangeMembers<u64, ReplicaNode>;

fn refusal(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ChangeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => ChangeError::NotLeader,
        RaftError::APIError(ClientWriteError::PreconditionFailed(_)) => ChangeError::MovedOn,
        RaftError::APIError(
            error @ (ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::LogEntryDiscarded(_)),
        ) => ChangeError::Refused(error.to_string()),
        RaftError::Fatal(fatal) => ChangeError::Refused(fatal.to_string()),
    }
}

impl Replica {
    pub(super) fn membership(&self) -> std::sync::Arc<StoredMembership> {
        self.server.borrow_watched().membership_config.clone()
    }

    /// Entries that a replica is behind this leader's last; none if this replica does not lead.
    fn lag(&self, replica: u64) -> Option<u64> {
        let metrics = self.data.borrow_watched();
        if replica == self.id().0 {
            return Some(0);
        }
        let last = metrics.last_log.as_ref().map_or(0, |last| last.index + 1);
        let matched = metrics.replication.as_ref()?.get(&replica)?.as_ref();
        Some(last.saturating_sub(matched.map_or(0, |matched| matched.index + 1)))
    }

    async fn change(
        &self,
        change: Change,
        retain: bool,
        based_on: Option<RaftLogId>,
    ) -> Result<(), ChangeError> {
        let precondition = Precondition::LastMembershipLogId { last_membership_log_id: based_on };
        let change = self.raft.change_membership_if(change, retain, [precondition]);
        match runtime::time::timeout(CHANGE_TIMEOUT, Box::pin(change)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refusal(error)),
            Err(_) => Err(ChangeError::Timeout(CHANGE_TIMEOUT)),
        }
    }

    /// Lets a replica learn.
    pub async fn add_learner(
        &self,
        learner: Placement,
        based_on: Option<RaftLogId>,
    ) -> Result<(), ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::NotLeader);
        }
        if self.membership().get_node(&learner.replica.0).is_some() {
            runtime::mark!("members: the learner learnt already");
            return Ok(());
        }
        let node = ReplicaNode { node_id: learner.node };
        let change = ChangeMembers::AddNodes(BTreeMap::from([(learner.replica.0, node)]));
        self.change(change, true, based_on).await
    }

    /// Makes exactly these replicas vote, by one joint change, and lets go of all others. Also ends a
    /// joint state that somebody left behind.
    pub async fn change_members(
        &self,
        voters: &[Placement],
        based_on: Option<RaftLogId>,
    ) -> Result<(), ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::NotLeader);
        }
        let wanted: BTreeSet<u64> = voters.iter().map(|voter| voter.replica.0).collect();
        if wanted.is_empty() {
            return Err(ChangeError::Refused("a group needs a voter".to_owned()));
        }
        let membership = self.membership();
        if membership.get_joint_config().len() > 1 {
            runtime::mark!("members: a joint state was ended");
        }
        if membership.get_joint_config().as_slice() != std::slice::from_ref(&wanted) {
            if *membership.log_id() != based_on {
                return Err(ChangeError::MovedOn);
            }
            self.check_voters(voters, &membership)?;
            self.change(ChangeMembers::ReplaceAllVoters(wanted.clone()), false, based_on).await?;
        }
        self.remove_others(&wanted).await
    }

    fn check_voters(
        &self,
        voters: &[Placement],
        membership: &StoredMembership,
    ) -> Result<(), ChangeError> {
        if voters.iter().all(|voter| voter.replica != self.id()) {
            return Err(ChangeError::RemovesLeader);
        }
        for voter in voters {
            let replica = voter.replica;
            match membership.get_node(&replica.0) {
                None => return Err(ChangeError::NotMember(replica)),
                Some(node) if node.node_id != voter.node => {
                    return Err(ChangeError::Refused(format!(
                        "replica {replica} is on node {}, not on node {}",
                        node.node_id, voter.node
                    )));
                }
                Some(_) => {}
            }
            let lag = self.lag(replica.0).ok_or(ChangeError::NotMember(replica))?;
            let votes_already = membership.voter_ids().any(|voter| voter == replica.0);
            if lag > VOTER_LAG_ENTRIES_MAX
                && !votes_already
                && !planted::is_planted(Bug::LearnerPromotedEarly)
            {
                return Err(ChangeError::Behind { replica, lag });
            }
        }
        Ok(())
    }

    /// Learners that are left of a change that was given up.
    async fn remove_others(&self, wanted: &BTreeSet<u64>) -> Result<(), ChangeError> {
        let membership = self.membership();
        let others: BTreeSet<u64> = membership
            .nodes()
            .map(|(replica, _)| *replica)
            .filter(|id| !wanted.contains(id))
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        runtime::mark!("members: learners of a change that was given up were removed");
        self.change(ChangeMembers::RemoveNodes(others), false, *membership.log_id()).await
    }

    /// Hands over to a voter. If it does not take over, another voter gets it rather than nobody: while
    /// a hand-over is pending the group refuses writes.
    pub async fn transfer_leader(&self, to: ReplicaId) -> Result<(), ChangeError> {
        if to == self.id() && self.is_leader() {
            return Ok(());
        }
        if !self.is_leader() {
            // Asked again right after it: the new leader may not have been heard of yet.
            return match self.followed() {
                Some(leader) if leader.replica == to => Ok(()),
                Some(_) | None => Err(ChangeError::NotLeader),
            };
        }
        let voters = self.voters();
        let target = voters.iter().find(|voter| voter.replica == to);
        let target = *target.ok_or(ChangeError::NotVoter(to))?;
        if self.shared.watch.has_lost(target.node) {
            return Err(ChangeError::Lost(to));
        }
        let lag = self.lag(to.0).unwrap_or(u64::MAX);
        if lag > VOTER_LAG_ENTRIES_MAX {
            return Err(ChangeError::Behind { replica: to, lag });
        }
        let mut candidates = vec![to];
        let mut others: Vec<_> = voters
            .iter()
            .filter(|voter| voter.replica != to && voter.replica != self.id())
            .filter(|voter| !self.shared.watch.has_lost(voter.node))
            .map(|voter| (self.lag(voter.replica.0).unwrap_or(u64::MAX), voter.replica))
            .collect();
        others.sort_unstable();
        candidates.extend(others.into_iter().map(|(_, replica)| replica));
        let environment = &self.shared.environment;
        for candidate in candidates {
            let began = environment.now();
            let triggered = self.raft.trigger().transfer_leader(candidate.0).await;
            triggered.map_err(|fatal| ChangeError::Refused(fatal.to_string()))?;
            let led_by = self.led_by_another(HAND_OVER_TIMEOUT).await;
            tracing::debug!(
                partition = %self.partition(),
                %candidate,
                ?led_by,
                took = ?environment.now().since(began),
                "handed over"
            );
            if let Some(led_by) = led_by {
                return if led_by == to {
                    Ok(())
                } else {
                    Err(ChangeError::LedByAnother { led_by })
                };
            }
        }
        runtime::mark!("hand-over: no voter took over in time");
        Err(ChangeError::Refused("no voter took over".to_owned()))
    }

    /// Who leads instead of this replica, as soon as one does.
    async fn led_by_another(&self, limit: Duration) -> Option<ReplicaId> {
        let mut metrics = self.raft.server_metrics();
        let waiting = async {
            loop {
                let leader = metrics.borrow_watched().current_leader;
                if let Some(leader) = leader.filter(|leader| *leader != self.id().0) {
                    return Some(ReplicaId(leader));
                }
                if metrics.changed().await.is_err() {
                    return None;
                }
            }
        };
        runtime::time::timeout(limit, waiting).await.ok().flatten()
    }
}
