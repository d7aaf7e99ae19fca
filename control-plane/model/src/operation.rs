//! Operations: durable changes that any later leader carries on. What has failed for good stays, with
//! its reason, until newer ones push it out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{NodeId, OperationId, PartitionId, ReplicaId, ZoneTime},
    key_range::display_key,
    partition::Replica,
    table::{Record, decode_number, encode_number},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub kind: OperationKind,
    pub state: OperationState,
    pub origin: Origin,
    /// Why: inputs, scores, the best rejected alternative.
    pub reason: String,
    /// The error that it is waiting on, or that ended it; empty: none.
    pub last_error: String,
    pub started_at: ZoneTime,
    pub ended_at: Option<ZoneTime>,
    /// The operation that this one is a part of.
    pub parent: Option<OperationId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    /// Leaders were appointed because theirs were lost.
    Takeover {
        lost: Option<NodeId>,
        partitions: Vec<PartitionId>,
    },
    /// A replica is made again because its node is lost, or because one is missing.
    Repair(ReplicaChange),
    MoveReplica(ReplicaChange),
    TransferLeader {
        partition: PartitionId,
        from: Option<NodeId>,
        to: NodeId,
        to_replica: ReplicaId,
    },
    /// A partition becomes two, on the same nodes.
    Split(Split),
    /// A node is emptied; its parts are operations of their own.
    Drain {
        node: NodeId,
        replicas_at_start: u32,
    },
}

/// A partition that is to be split. The child is a partition from when its group was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub partition: PartitionId,
    pub at: SplitPoint,
    pub child: PartitionId,
    /// The child's: one on each node of the partition.
    pub replicas: Vec<Replica>,
}

/// Where a partition is to be split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SplitPoint {
    /// The first key of the right half.
    Key(Box<[u8]>),
    /// Where the leader sees the latest requests fall into halves.
    MiddleOfLoad,
    /// Where the leader finds the bytes of keys and values to fall into halves.
    MiddleOfSize,
}

impl fmt::Display for SplitPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitPoint::Key(key) => formatter.write_str(&display_key(key)),
            SplitPoint::MiddleOfLoad => formatter.write_str("the middle of its load"),
            SplitPoint::MiddleOfSize => formatter.write_str("the middle of its size"),
        }
    }
}

/// A change of a partition's target replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaChange {
    pub partition: PartitionId,
    /// None: a replica is added only.
    pub remove: Option<Replica>,
    /// None: a replica is taken away without another in its place.
    pub add: Option<Replica>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OperationState {
    Running,
    Succeeded,
    /// Failed for good.
    Failed,
    Cancelled,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Origin {
    Operator,
    Repair,
    /// To even out numbers of leaders or replicas where there is no load to go by.
    Balance,
    Takeover,
    /// To spread load.
    Heat,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Operator => "operator",
            Origin::Repair => "repair",
            Origin::Balance => "balance",
            Origin::Takeover => "takeover",
            Origin::Heat => "heat",
        }
    }
}

impl OperationState {
    pub fn as_str(self) -> &'static str {
        match self {
            OperationState::Running => "running",
            OperationState::Succeeded => "succeeded",
            OperationState::Failed => "failed",
            OperationState::Cancelled => "cancelled",
        }
    }
}

impl Operation {
    pub fn is_running(&self) -> bool {
        self.state == OperationState::Running
    }

    /// Whether something was moved or split for its own sake: by an operator, or to even something out. What had to
    /// leave a node, or was lost there, is welcome back; and even numbers of leaders come and go with every restart.
    pub fn is_meant(&self) -> bool {
        let is_transfer = matches!(self.kind, OperationKind::TransferLeader { .. });
        let is_change = is_transfer
            || matches!(self.kind, OperationKind::MoveReplica(_) | OperationKind::Split(_));
        let is_by_choice = match self.origin {
            Origin::Operator | Origin::Heat => true,
            Origin::Balance => !is_transfer,
            Origin::Repair | Origin::Takeover => false,
        };
        let is_done = self.state == OperationState::Succeeded;
        is_change && is_by_choice && is_done && self.parent.is_none()
    }

    /// The change of targets that this operation makes, if it makes one.
    pub fn replica_change(&self) -> Option<&ReplicaChange> {
        match &self.kind {
            OperationKind::Repair(change) | OperationKind::MoveReplica(change) => Some(change),
            OperationKind::Takeover { .. }
            | OperationKind::TransferLeader { .. }
            | OperationKind::Split(_)
            | OperationKind::Drain { .. } => None,
        }
    }

    /// The split that this operation is.
    pub fn split(&self) -> Option<&Split> {
        match &self.kind {
            OperationKind::Split(split) => Some(split),
            OperationKind::Takeover { .. }
            | OperationKind::Repair(_)
            | OperationKind::MoveReplica(_)
            | OperationKind::TransferLeader { .. }
            | OperationKind::Drain { .. } => None,
        }
    }

    /// The one partition that this operation is about.
    pub fn partition(&self) -> Option<PartitionId> {
        match &self.kind {
            OperationKind::Repair(change) | OperationKind::MoveReplica(change) => {
                Some(change.partition)
            }
            OperationKind::TransferLeader { partition, .. } => Some(*partition),
            OperationKind::Split(split) => Some(split.partition),
            OperationKind::Takeover { partitions, .. } => match partitions.as_slice() {
                [only] => Some(*only),
                _ => None,
            },
            OperationKind::Drain { .. } => None,
        }
    }

    /// The node that this operation is about.
    pub fn node(&self) -> Option<NodeId> {
        match &self.kind {
            OperationKind::Takeover { lost, .. } => *lost,
            OperationKind::Drain { node, .. } => Some(*node),
            OperationKind::Repair(_)
            | OperationKind::MoveReplica(_)
            | OperationKind::Split(_)
            | OperationKind::TransferLeader { .. } => None,
        }
    }

    pub fn from_node(&self) -> Option<NodeId> {
        match &self.kind {
            OperationKind::Repair(change) | OperationKind::MoveReplica(change) => {
                change.remove.map(|replica| replica.node)
            }
            OperationKind::TransferLeader { from, .. } => *from,
            OperationKind::Takeover { .. }
            | OperationKind::Split(_)
            | OperationKind::Drain { .. } => None,
        }
    }

    pub fn to_node(&self) -> Option<NodeId> {
        match &self.kind {
            OperationKind::Repair(change) | OperationKind::MoveReplica(change) => {
                change.add.map(|replica| replica.node)
            }
            OperationKind::TransferLeader { to, .. } => Some(*to),
            OperationKind::Takeover { .. }
            | OperationKind::Split(_)
            | OperationKind::Drain { .. } => None,
        }
    }

    /// What it does, in a sentence.
    pub fn summary(&self) -> String {
        match &self.kind {
            OperationKind::Takeover { lost, partitions } => {
                let count = partitions.len();
                match lost {
                    Some(node) => {
                        format!("appoint leaders for {count} partitions of lost node {node}")
                    }
                    None => format!("appoint leaders for {count} partitions without one"),
                }
            }
            OperationKind::Repair(change) => change.summary("make again"),
            OperationKind::MoveReplica(change) => change.summary("move"),
            OperationKind::TransferLeader { partition, from, to, .. } => match from {
                Some(from) => {
                    format!(
                        "transfer the leadership of partition {partition} from node {from} to node {to}"
                    )
                }
                None => format!("transfer the leadership of partition {partition} to node {to}"),
            },
            OperationKind::Split(split) => format!(
                "split partition {} at {}: the right half becomes partition {}",
                split.partition, split.at, split.child
            ),
            OperationKind::Drain { node, .. } => format!("drain node {node}"),
        }
    }
}

impl OperationKind {
    /// The name of the kind on the wire.
    pub fn as_str(&self) -> &'static str {
        match self {
            OperationKind::Takeover { .. } => "takeover",
            OperationKind::Repair(_) => "repair",
            OperationKind::MoveReplica(_) => "move-replica",
            OperationKind::TransferLeader { .. } => "transfer-leader",
            OperationKind::Split(_) => "split",
            OperationKind::Drain { .. } => "drain",
        }
    }
}

impl ReplicaChange {
    fn summary(&self, verb: &str) -> String {
        let partition = self.partition;
        match (self.remove, self.add) {
            (Some(from), Some(to)) => format!(
                "{verb} a replica of partition {partition}: {} on node {} becomes {} on node {}",
                from.id, from.node, to.id, to.node
            ),
            (None, Some(to)) => {
                format!("add replica {} of partition {partition} on node {}", to.id, to.node)
            }
            (Some(from), None) => {
                format!(
                    "give up replica {} of partition {partition} on node {}",
                    from.id, from.node
                )
            }
            (None, None) => format!("leave partition {partition} as it is"),
        }
    }
}

impl Record for Operation {
    const TAG: u8 = 5;
    type Key = OperationId;
    fn encode_key(key: &OperationId) -> Vec<u8> {
        encode_number(key.get())
    }
    fn decode_key(bytes: &[u8]) -> Option<OperationId> {
        decode_number(bytes).map(OperationId)
    }
}
