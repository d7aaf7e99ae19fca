//! From frames to groups: reads a request, hands it to its replica, writes the answer.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use proto::v1::{self, PeerFrame, RaftPayload, VotePayload, frame_error::Code, peer_frame::Body};
use serde::Serialize;

use super::{
    authority,
    receive::{FrameHandler, fault},
};
use crate::engine::{
    codec::{self, CodecError, FORMAT_VERSION},
    host::ReplicaHost,
    host_peer::FrameFault,
    types::{PartitionId, ReplicaId},
};

/// Answers the frames of peers with what the replicas here say.
pub struct Dispatch {
    host: Arc<ReplicaHost>,
}

impl Dispatch {
    pub fn new(host: Arc<ReplicaHost>) -> Self {
        Self { host }
    }
}

impl FrameHandler for Dispatch {
    fn handle(&self, frame: PeerFrame) -> BoxFuture<'static, Body> {
        let host = Arc::clone(&self.host);
        async move { answer(&host, frame).await.unwrap_or_else(Refusal::into_body) }.boxed()
    }
}

/// Why a frame was not carried out.
enum Refusal {
    Malformed(String),
    Fault(FrameFault),
}

impl From<CodecError> for Refusal {
    fn from(error: CodecError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<FrameFault> for Refusal {
    fn from(fault: FrameFault) -> Self {
        Self::Fault(fault)
    }
}

impl Refusal {
    fn into_body(self) -> Body {
        match self {
            Self::Malformed(message) => fault(Code::Malformed, message),
            Self::Fault(FrameFault { code, message }) => fault(code, message),
        }
    }
}

async fn answer(host: &ReplicaHost, frame: PeerFrame) -> Result<Body, Refusal> {
    let partition = PartitionId(frame.partition_id);
    let from = ReplicaId(frame.from_replica_id);
    let to = ReplicaId(frame.to_replica_id);
    match frame.body {
        Some(Body::AppendEntries(payload)) => {
            let request = codec::decode(payload.format_version, &payload.data)?;
            let response = host.handle_append_entries(partition, from, to, request).await?;
            Ok(Body::AppendEntriesResponse(encode(&response)))
        }
        Some(Body::Vote(payload)) => {
            let VotePayload { format_version, ref data, .. } = payload;
            let request = codec::decode(format_version, data)?;
            let authority = authority::from_wire(&payload).map_err(Refusal::Malformed)?;
            let response = host.handle_vote(partition, from, to, request, authority).await?;
            Ok(Body::VoteResponse(encode(&response)))
        }
        Some(Body::PreVote(payload)) => {
            let request = codec::decode(payload.format_version, &payload.data)?;
            let response = host.handle_pre_vote(partition, from, to, request).await?;
            Ok(Body::PreVoteResponse(encode(&response)))
        }
        Some(Body::TransferLeader(payload)) => {
            let request = codec::decode(payload.format_version, &payload.data)?;
            let response = host.handle_transfer_leader(partition, from, to, request).await?;
            Ok(Body::TransferLeaderResponse(encode(&response)))
        }
        Some(
            Body::AppendEntriesResponse(_)
            | Body::VoteResponse(_)
            | Body::PreVoteResponse(_)
            | Body::TransferLeaderResponse(_)
            | Body::Error(_),
        ) => Err(Refusal::Malformed("an answer where a request is expected".into())),
        None => Err(Refusal::Malformed("a frame without a body".into())),
    }
}

/// The payload of a message of the engine.
pub fn encode<T: Serialize>(message: &T) -> v1::RaftPayload {
    RaftPayload { format_version: FORMAT_VERSION, data: codec::encode(message) }
}
