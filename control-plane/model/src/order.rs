//! Orders: what one replica shall be, now. Each is a level, repeated until reports show that it holds;
//! carrying one out twice changes nothing. Mirrors `Order` in `zone/v1/node.proto`.

use crate::{
    ids::{LogPosition, NodeId, PartitionId, RangeEpoch, ReplicaId},
    key_range::KeyRange,
    operation::SplitPoint,
    partition::Replica,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The node that it goes to.
    pub node: NodeId,
    pub partition: PartitionId,
    /// The addressed replica.
    pub replica: ReplicaId,
    /// The membership that it is based on; none where the group has none yet.
    pub membership_log: Option<LogPosition>,
    pub kind: OrderKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderKind {
    Ensure {
        range: KeyRange,
        range_epoch: RangeEpoch,
        /// The first members of a new group; empty: the replica starts blank.
        founders: Vec<Replica>,
        /// Of a new group: campaign once.
        campaign: bool,
    },
    /// To the leader.
    AddLearner {
        learner: Replica,
    },
    /// To the leader: exactly these vote, and nobody else belongs to the group.
    ChangeMembers {
        voters: Vec<Replica>,
    },
    /// To the leader.
    TransferLeader {
        to: ReplicaId,
    },
    /// To the leader: the partition shall become two.
    Split {
        at: SplitPoint,
        child: PartitionId,
        replicas: Vec<Replica>,
        /// Of the range that is meant.
        range_epoch: RangeEpoch,
    },
    Destroy,
}
