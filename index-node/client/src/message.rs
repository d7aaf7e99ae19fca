//! What is asked of a partition, and what it answers: in the client's words, and in those of the wire.

use std::time::Duration;

use bytes::Bytes;
use proto::v1::{self, index_service_client::IndexServiceClient};
use runtime::grpc::MESSAGE_BYTES_MAX;
use tonic::{Status, transport::Channel};

use crate::{
    error::RequestError,
    identifiers::Version,
    values::{Condition, Deleted, Item, ObjectMetadata},
};

/// What is asked of a partition.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Put { key: Bytes, value: ObjectMetadata, condition: Option<Condition> },
    Delete { key: Bytes, condition: Option<Condition> },
    Get { key: Bytes },
    List { prefix: Bytes, after: Bytes, limit: u32 },
}

impl Call {
    pub(crate) fn is_write(&self) -> bool {
        match self {
            Self::Put { .. } | Self::Delete { .. } => true,
            Self::Get { .. } | Self::List { .. } => false,
        }
    }

    /// For metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Put { .. } => "put",
            Self::Delete { .. } => "delete",
            Self::Get { .. } => "get",
            Self::List { .. } => "list",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Put { version: Version },
    Delete(Deleted),
    Get { item: Option<Item> },
    List { items: Vec<Item>, covered_to: Bytes },
}

impl Answer {
    /// The error for an answer to another call than was made.
    pub(crate) fn unexpected(&self) -> RequestError {
        RequestError::Nonsense(format!("an answer to another call: {self:?}"))
    }
}

/// A call as the wire knows it.
pub(crate) enum Message {
    Put(v1::PutRequest),
    Delete(v1::DeleteRequest),
    Get(v1::GetRequest),
    List(v1::ListRequest),
}

impl Message {
    /// `write_id`: for writes only.
    pub(crate) fn new(call: Call, target: v1::Target, write_id: Option<v1::WriteId>) -> Self {
        let target = Some(target);
        match call {
            Call::Put { key, value, condition } => Self::Put(v1::PutRequest {
                target,
                key,
                value: Some(value.into()),
                condition: condition.map(Into::into),
                write_id,
            }),
            Call::Delete { key, condition } => Self::Delete(v1::DeleteRequest {
                target,
                key,
                condition: condition.map(Into::into),
                write_id,
            }),
            Call::Get { key } => Self::Get(v1::GetRequest { target, key }),
            Call::List { prefix, after, limit } => {
                Self::List(v1::ListRequest { target, prefix, start_after: after, limit })
            }
        }
    }

    /// The answer, and the partition's time.
    pub(crate) async fn send(
        self,
        channel: Channel,
        limit: Duration,
    ) -> Result<(Answer, u64), Status> {
        let mut node =
            IndexServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        fn with_limit<T>(message: T, limit: Duration) -> tonic::Request<T> {
            let mut request = tonic::Request::new(message);
            request.set_timeout(limit);
            request
        }
        Ok(match self {
            Self::Put(message) => {
                let answer = node.put(with_limit(message, limit)).await?.into_inner();
                (Answer::Put { version: Version(answer.version) }, answer.partition_time_ms)
            }
            Self::Delete(message) => {
                let answer = node.delete(with_limit(message, limit)).await?.into_inner();
                let deleted = Deleted { version: Version(answer.version), existed: answer.existed };
                (Answer::Delete(deleted), answer.partition_time_ms)
            }
            Self::Get(message) => {
                let answer = node.get(with_limit(message, limit)).await?.into_inner();
                (Answer::Get { item: answer.item.map(Into::into) }, answer.partition_time_ms)
            }
            Self::List(message) => {
                let answer = node.list(with_limit(message, limit)).await?.into_inner();
                let items = answer.items.into_iter().map(Into::into).collect();
                (Answer::List { items, covered_to: answer.covered_to }, answer.partition_time_ms)
            }
        })
    }
}
