//! The calls that takeovers make, and the answers to them.

use std::time::Duration;

use crate::ids::{LogPosition, NodeId, PartitionId, ReplicaId, Term};

/// Names a call that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// One RPC to one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub id: CallId,
    pub node: NodeId,
    pub kind: CallKind,
    /// The call has failed if it has not been answered by then.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// `CollectLogPositions`.
    Collect { groups: Vec<GroupReplica> },
    /// `TakeOver`, by the authority of a committed conclusion.
    TakeOver { lost_node: Option<NodeId>, groups: Vec<TakeOverGroup> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupReplica {
    pub partition: PartitionId,
    /// The replica on the asked node.
    pub replica: ReplicaId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeOverGroup {
    pub partition: PartitionId,
    /// The replica on the asked node.
    pub replica: ReplicaId,
    /// The one that shall lead: if it is the asked one, it campaigns; otherwise that lets go.
    pub candidate: ReplicaId,
    pub membership_log: Option<LogPosition>,
    /// Campaign at once: the others were disarmed.
    pub elect: bool,
}

/// An answer to `CollectLogPositions`, for one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPosition {
    pub partition: PartitionId,
    pub replica: ReplicaId,
    pub last_log: Option<LogPosition>,
    pub vote_term: Term,
    pub vote_leader: ReplicaId,
    pub vote_committed: bool,
    /// The replica that this one believes to lead.
    pub leader: Option<ReplicaId>,
    pub membership_log: Option<LogPosition>,
    pub voters: Vec<ReplicaId>,
    /// Its own watch has lost the leader's node.
    pub leader_lost: bool,
    /// Why there is no position; empty: there is one.
    pub error: String,
}

/// An answer to `TakeOver`, for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupResult {
    pub partition: PartitionId,
    pub replica: ReplicaId,
    pub outcome: TakeOverOutcome,
    pub term: Term,
    /// With `LedElsewhere`.
    pub leader: Option<ReplicaId>,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOverOutcome {
    /// The asked replica leads and has a quorum.
    Leading,
    /// It has let go of the lost leader.
    Disarmed,
    /// It tried, and does not lead.
    NotElected,
    /// Another replica leads already.
    LedElsewhere,
    /// It did not act.
    Refused,
}

impl Default for GroupResult {
    fn default() -> Self {
        Self {
            partition: PartitionId(0),
            replica: ReplicaId(0),
            outcome: TakeOverOutcome::Refused,
            term: Term(0),
            leader: None,
            message: String::new(),
        }
    }
}
