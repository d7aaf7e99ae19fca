//! Why a client's request was not carried out, and how that is said on the wire.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proto::v1::{self, error_detail::Kind};
use runtime::grpc::detail;
use tonic::{Code, Status};

use super::{
    directory::Directory,
    types::{KeyRange, NodeId, PartitionId, Placement},
    view::SplitOff,
};

/// In every case but the last, this attempt of the request had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("{0}")]
    Invalid(String),
    #[error("partition {partition} is not on this node")]
    UnknownPartition { partition: PartitionId },
    #[error("this replica of partition {partition} does not lead")]
    WrongLeader { partition: PartitionId, leader: Option<Placement> },
    #[error(
        "the request does not fit the range of partition {partition}, which is at epoch {range_epoch}"
    )]
    WrongRange {
        partition: PartitionId,
        range: Option<KeyRange>,
        range_epoch: u64,
        /// The child that was split off here last.
        split_off: Option<Arc<SplitOff>>,
        /// The node that says so, which is the first to lead the child.
        node: NodeId,
    },
    #[error("{problem}; partition time is {now_ms} ms")]
    Expiry { problem: &'static str, now_ms: u64 },
    #[error("the condition does not hold: {}", describe_version(*current_version))]
    ConditionFailed { current_version: u64 },
    #[error("{problem}; retry in {retry_after:?}")]
    Exhausted { problem: &'static str, retry_after: Duration },
    #[error(
        "key {} alone has {under_way} {kind} under way in partition {partition}, and others are to be \
         served as well; retry in {retry_after:?}",
        describe_key(key)
    )]
    Throttled {
        partition: PartitionId,
        key: Bytes,
        kind: &'static str,
        under_way: usize,
        retry_after: Duration,
    },
    #[error("partition {partition} cannot answer now: {problem}")]
    Unavailable { partition: PartitionId, problem: String },
    #[error("the outcome of the write is not known: {problem}")]
    OutcomeUnknown { problem: String },
}

fn describe_version(version: u64) -> String {
    match version {
        0 => "the key is absent".to_owned(),
        version => format!("the key has version {version}"),
    }
}

/// So many bytes of a key are told of.
const SHOWN_KEY_BYTES: usize = 64;

fn describe_key(key: &[u8]) -> String {
    match key.get(..SHOWN_KEY_BYTES) {
        Some(beginning) if beginning.len() < key.len() => {
            format!("\"{}…\"", beginning.escape_ascii())
        }
        _ => format!("\"{}\"", key.escape_ascii()),
    }
}

impl RequestError {
    /// The status that a client gets. Hints carry addresses from the directory.
    pub fn status(&self, directory: &Directory) -> Status {
        let message = self.to_string();
        match self {
            Self::Invalid(_) => Status::invalid_argument(message),
            Self::UnknownPartition { partition } => {
                let kind = v1::UnknownReplica {
                    partition_id: partition.0,
                    replica_id: 0,
                    destroyed: false,
                };
                detail::status(Code::NotFound, message, Kind::UnknownReplica(kind))
            }
            Self::WrongLeader { leader, .. } => {
                let leader = leader.map(|leader| v1::NodeAddress {
                    node_id: leader.node.0,
                    address: directory.get(leader.node).unwrap_or_default(),
                });
                let kind = Kind::WrongLeader(v1::WrongLeader { leader });
                detail::status(Code::FailedPrecondition, message, kind)
            }
            Self::WrongRange { partition, range, range_epoch, split_off, node } => {
                let split_off = split_off.as_ref().map(|child| v1::SplitOff {
                    partition_id: child.partition.0,
                    range: Some(child.range.clone().into()),
                    range_epoch: child.range_epoch,
                    replicas: child.replicas.iter().map(|replica| (*replica).into()).collect(),
                    leader_node_id: node.0,
                });
                let kind = Kind::WrongRange(v1::WrongRange {
                    partition_id: partition.0,
                    range: range.clone().map(Into::into),
                    range_epoch: *range_epoch,
                    split_off,
                });
                detail::status(Code::FailedPrecondition, message, kind)
            }
            Self::Expiry { now_ms, .. } => {
                let kind = Kind::PartitionTime(v1::PartitionTime { now_ms: *now_ms });
                detail::status(Code::FailedPrecondition, message, kind)
            }
            Self::ConditionFailed { current_version } => {
                let kind = v1::ConditionFailed { current_version: *current_version };
                detail::status(Code::Aborted, message, Kind::ConditionFailed(kind))
            }
            Self::Exhausted { retry_after, .. } | Self::Throttled { retry_after, .. } => {
                let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
                let kind = Kind::RetryAfter(v1::RetryAfter { retry_after_ms });
                detail::status(Code::ResourceExhausted, message, kind)
            }
            Self::Unavailable { .. } => Status::unavailable(message),
            Self::OutcomeUnknown { .. } => {
                let kind = Kind::OutcomeUnknown(v1::OutcomeUnknown {});
                detail::status(Code::Unknown, message, kind)
            }
        }
    }
}
