//! `IndexService` over the replicas of this node: checks what comes in, and converts at the edge.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use proto::v1::{self, condition, index_service_server::IndexService};
use tonic::{Request, Response, Status};

use super::{
    command::{Condition, Mutation, WriteId},
    error::RequestError,
    host::ReplicaHost,
    instruments,
    replica::Replica,
    requests::{Found, ListQuery, WriteRequest},
    types::PartitionId,
};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4_096;
/// The longest value, encoded, in bytes.
pub const VALUE_BYTES_MAX: usize = 65_536;
/// The longest etag, in bytes.
pub const ETAG_BYTES_MAX: usize = 256;
/// The most items of a page.
pub const LIST_LIMIT_MAX: u32 = 1_000;

/// A request that took longer than this is worth a line in the log.
const SLOW: Duration = Duration::from_millis(20);

/// What clients call.
#[derive(Clone)]
pub struct IndexApi {
    host: Arc<ReplicaHost>,
}

fn invalid(message: impl Into<String>) -> RequestError {
    RequestError::Invalid(message.into())
}

fn check_key(name: &str, key: &[u8]) -> Result<(), RequestError> {
    if key.is_empty() {
        return Err(invalid(format!("{name} is empty; it has 1 to {KEY_BYTES_MAX} bytes")));
    }
    check_length(name, key)
}

fn check_length(name: &str, bytes: &[u8]) -> Result<(), RequestError> {
    if bytes.len() > KEY_BYTES_MAX {
        return Err(invalid(format!(
            "{name} has {} bytes; at most {KEY_BYTES_MAX} are allowed",
            bytes.len()
        )));
    }
    Ok(())
}

fn encode_value(value: Option<v1::ObjectMetadata>) -> Result<Bytes, RequestError> {
    let value = value.ok_or_else(|| invalid("value is missing"))?;
    if value.etag.len() > ETAG_BYTES_MAX {
        return Err(invalid(format!(
            "value.etag has {} bytes; at most {ETAG_BYTES_MAX} are allowed",
            value.etag.len()
        )));
    }
    let length = value.encoded_len();
    if length > VALUE_BYTES_MAX {
        return Err(invalid(format!(
            "value has {length} bytes encoded; at most {VALUE_BYTES_MAX} are allowed"
        )));
    }
    Ok(value.encode_to_vec().into())
}

fn convert_condition(condition: Option<v1::Condition>) -> Result<Condition, RequestError> {
    let Some(condition) = condition else { return Ok(Condition::None) };
    match condition.kind {
        None => Err(invalid("condition is empty; leave it out for an unconditional write")),
        Some(condition::Kind::Absent(true)) => Ok(Condition::Absent),
        Some(condition::Kind::Absent(false)) => Err(invalid("condition.absent can only be true")),
        Some(condition::Kind::VersionEquals(0)) => {
            Err(invalid("condition.version_equals is 0; use condition.absent"))
        }
        Some(condition::Kind::VersionEquals(version)) => Ok(Condition::VersionEquals(version)),
    }
}

fn convert_write_id(write_id: Option<v1::WriteId>) -> Result<(WriteId, u64), RequestError> {
    let write_id = write_id.ok_or_else(|| invalid("write_id is missing"))?;
    let id = WriteId::try_from(write_id.id.as_ref()).map_err(|_| {
        invalid(format!("write_id.id has {} bytes instead of 16", write_id.id.len()))
    })?;
    Ok((id, write_id.expires_at_ms))
}

fn convert_item(found: Found) -> Result<v1::Item, Status> {
    let value = v1::ObjectMetadata::decode(found.value)
        .map_err(|error| Status::data_loss(format!("a stored value cannot be read: {error}")))?;
    Ok(v1::Item { key: found.key, value: Some(value), version: found.version })
}

impl IndexApi {
    pub fn new(host: Arc<ReplicaHost>) -> Self {
        Self { host }
    }

    /// Counts the answer, and converts its error.
    async fn answer<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, RequestError>>,
    ) -> Result<T, Status> {
        let began = self.host.now();
        let answer = work.await;
        let took = self.host.now().since(began);
        instruments::request(method, &answer, took);
        if took > SLOW {
            tracing::debug!(method, ?took, refusal = ?answer.as_ref().err(), "a request took long");
        }
        if let Err(error) = &answer {
            runtime::mark!("request refused", error);
        }
        answer.map_err(|error| error.status(self.host.directory()))
    }

    /// The replica that the client means, and the range epoch that it believes in.
    async fn target(
        &self,
        target: Option<v1::Target>,
    ) -> Result<(Arc<Replica>, u64), RequestError> {
        let target = target.ok_or_else(|| invalid("target is missing"))?;
        if target.partition_id == 0 {
            return Err(invalid("target.partition_id is missing"));
        }
        let partition = PartitionId(target.partition_id);
        let replica = self.host.replica_at_once(partition).await;
        let replica = replica.ok_or(RequestError::UnknownPartition { partition })?;
        if let Some(problem) = replica.failure() {
            return Err(RequestError::Unavailable { partition, problem });
        }
        Ok((replica, target.range_epoch))
    }

    async fn do_put(&self, request: v1::PutRequest) -> Result<v1::PutResponse, RequestError> {
        check_key("key", &request.key)?;
        let value = encode_value(request.value)?;
        let condition = convert_condition(request.condition)?;
        let (write_id, expires_at_ms) = convert_write_id(request.write_id)?;
        let (replica, range_epoch) = self.target(request.target).await?;
        let applied = replica
            .write(WriteRequest {
                range_epoch,
                key: request.key,
                mutation: Mutation::Put { value },
                condition,
                write_id,
                expires_at_ms,
            })
            .await?;
        Ok(v1::PutResponse { version: applied.version, partition_time_ms: replica.now_ms() })
    }

    async fn do_delete(
        &self,
        request: v1::DeleteRequest,
    ) -> Result<v1::DeleteResponse, RequestError> {
        check_key("key", &request.key)?;
        let condition = convert_condition(request.condition)?;
        let (write_id, expires_at_ms) = convert_write_id(request.write_id)?;
        let (replica, range_epoch) = self.target(request.target).await?;
        let applied = replica
            .write(WriteRequest {
                range_epoch,
                key: request.key,
                mutation: Mutation::Delete,
                condition,
                write_id,
                expires_at_ms,
            })
            .await?;
        Ok(v1::DeleteResponse {
            version: applied.version,
            existed: applied.existed,
            partition_time_ms: replica.now_ms(),
        })
    }
}

#[tonic::async_trait]
impl IndexService for IndexApi {
    async fn put(
        &self,
        request: Request<v1::PutRequest>,
    ) -> Result<Response<v1::PutResponse>, Status> {
        self.answer("put", self.do_put(request.into_inner())).await.map(Response::new)
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        self.answer("delete", self.do_delete(request.into_inner())).await.map(Response::new)
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let request = request.into_inner();
        let work = async {
            check_key("key", &request.key)?;
            let (replica, range_epoch) = self.target(request.target).await?;
            let found = replica.get(range_epoch, &request.key).await?;
            Ok((found, replica.now_ms()))
        };
        let (found, partition_time_ms) = self.answer("get", work).await?;
        let item = found.map(convert_item).transpose()?;
        Ok(Response::new(v1::GetResponse { item, partition_time_ms }))
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let request = request.into_inner();
        let work = async {
            check_length("prefix", &request.prefix)?;
            check_length("start_after", &request.start_after)?;
            if !(1..=LIST_LIMIT_MAX).contains(&request.limit) {
                return Err(invalid(format!(
                    "limit is {}; it has to be 1 to {LIST_LIMIT_MAX}",
                    request.limit
                )));
            }
            let (replica, range_epoch) = self.target(request.target).await?;
            let query = ListQuery {
                range_epoch,
                prefix: request.prefix,
                start_after: request.start_after,
                limit: usize::try_from(request.limit).unwrap_or(usize::MAX),
            };
            let page = replica.list(&query).await?;
            Ok((page, replica.now_ms()))
        };
        let (page, partition_time_ms) = self.answer("list", work).await?;
        let items = page.items.into_iter().map(convert_item).collect::<Result<_, _>>()?;
        Ok(Response::new(v1::ListResponse {
            items,
            covered_to: page.covered_to,
            more_here: page.more_here,
            partition_time_ms,
        }))
    }
}
