//! The identifiers of the engine and the type configuration of its Raft groups.

use std::fmt;

use bytes::Bytes;
use proto::v1;
use serde::{Deserialize, Serialize};

use super::command::{PartitionCommand, PartitionOutcome};

macro_rules! identifier {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

identifier!(
    /// An index node.
    NodeId
);
identifier!(
    /// A contiguous range of keys, and the group of replicas that keeps it.
    PartitionId
);
identifier!(
    /// One placement of a partition on a node. Never reused; it is the replica's Raft id, and the key
    /// of its group in the log store.
    ReplicaId
);
identifier!(
    /// The namespace of one replica's keys in this node's store. Local to the node, never reused.
    Lineage
);

/// What a group's membership says of each replica: where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaNode {
    pub node_id: NodeId,
}

openraft::declare_raft_types!(
    /// The type configuration of a partition's group.
    pub TypeConfig:
        D = PartitionCommand,
        R = PartitionOutcome,
        NodeId = u64,
        Node = ReplicaNode,
        AsyncRuntime = runtime::raft::RaftRuntime,
);

pub type RaftLogId = openraft::alias::LogIdOf<TypeConfig>;
pub type RaftVote = openraft::alias::VoteOf<TypeConfig>;
pub type RaftEntry = openraft::alias::EntryOf<TypeConfig>;
pub type RaftMembership = openraft::Membership<u64, ReplicaNode>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub type AppendEntriesRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub type AppendEntriesResponse = openraft::raft::AppendEntriesResponse<TypeConfig>;
pub type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
pub type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
pub type TransferLeaderRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
pub type TransferLeaderResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;

type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;

/// The log id with this position.
pub fn log_id(term: u64, leader: u64, index: u64) -> RaftLogId {
    RaftLogId::new(LeaderId { term, node_id: leader }, index)
}

/// The position of a log id, for the wire.
pub fn position(log_id: &RaftLogId) -> v1::LogPosition {
    v1::LogPosition {
        term: log_id.leader_id.term,
        leader_id: log_id.leader_id.node_id,
        index: log_id.index,
    }
}

/// The log id with a position from the wire.
pub fn from_position(position: &v1::LogPosition) -> RaftLogId {
    log_id(position.term, position.leader_id, position.index)
}

/// A range of keys: start inclusive, end exclusive. An empty end is the end of the key space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: Bytes,
}

impl KeyRange {
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && (self.end.is_empty() || key < self.end.as_ref())
    }

    /// Whether there is a key in it.
    pub fn is_proper(&self) -> bool {
        self.end.is_empty() || self.start < self.end
    }
}

impl From<KeyRange> for v1::KeyRange {
    fn from(range: KeyRange) -> Self {
        Self { start: range.start, end: range.end }
    }
}

impl From<v1::KeyRange> for KeyRange {
    fn from(range: v1::KeyRange) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// One member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Placement {
    pub replica: ReplicaId,
    pub node: NodeId,
}

impl From<Placement> for v1::ReplicaPlacement {
    fn from(placement: Placement) -> Self {
        Self { replica_id: placement.replica.0, node_id: placement.node.0 }
    }
}

impl From<v1::ReplicaPlacement> for Placement {
    fn from(placement: v1::ReplicaPlacement) -> Self {
        Self { replica: ReplicaId(placement.replica_id), node: NodeId(placement.node_id) }
    }
}
