//! `MemberService`: what members of the control plane ask each other.

use std::{future::Future, sync::Arc};

use openraft::raft::SnapshotResponse;
use proto::v1::{
    IdentifyRequest, IdentifyResponse, MemberRaftRequest, MemberRaftResponse, MemberSnapshotChunk,
    member_raft_request::Kind, member_service_server::MemberService,
};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    member::Member,
    raft::{
        TypeConfig,
        encoding::{self, FORMAT_VERSION},
        records::AppliedRecord,
        snapshot::{self, Staged, ZoneSnapshot},
    },
};

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, ZoneSnapshot>;

/// The service of one member.
pub struct MemberApi {
    member: Arc<Member>,
}

impl MemberApi {
    pub fn new(member: Arc<Member>) -> Self {
        Self { member }
    }
}

/// Decodes a message, lets Raft answer it, encodes the answer.
async fn answer<Q, A, E, F>(
    request: &MemberRaftRequest,
    handle: impl FnOnce(Q) -> F,
) -> Result<Response<MemberRaftResponse>, Status>
where
    Q: DeserializeOwned,
    A: Serialize,
    E: std::fmt::Display,
    F: Future<Output = Result<A, E>>,
{
    let message = encoding::decode(request.format_version, &request.data)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let answer = handle(message)
        .await
        .map_err(|error| Status::unavailable(format!("Raft has stopped: {error}")))?;
    Ok(Response::new(encoded(&answer)))
}

fn encoded<A: Serialize>(answer: &A) -> MemberRaftResponse {
    MemberRaftResponse { format_version: FORMAT_VERSION, data: encoding::encode(answer).into() }
}

/// Lets Raft install what was received.
async fn install(
    member: Arc<Member>,
    vote: openraft::alias::VoteOf<TypeConfig>,
    received: Snapshot,
    staged: Staged,
) -> Result<SnapshotResponse<TypeConfig>, Status> {
    let generation = staged.generation();
    let installed = member.group().raft().install_full_snapshot(vote, received).await;
    let live = AppliedRecord::read(member.store().as_ref());
    match (&installed, &live) {
        // Raft has refused it, for an older vote, say: nobody will ever switch to it.
        (Ok(_), Ok(live)) if live.generation() != generation => drop(staged),
        // It is live; or Raft has stopped, perhaps in the middle, and the next start cleans up.
        _ => staged.keep(),
    }
    installed.map_err(|error| Status::unavailable(format!("Raft has stopped: {error}")))
}

#[tonic::async_trait]
impl MemberService for MemberApi {
    async fn identify(
        &self,
        _request: Request<IdentifyRequest>,
    ) -> Result<Response<IdentifyResponse>, Status> {
        let group = self.member.group();
        Ok(Response::new(IdentifyResponse {
            member_id: group.member_id().get(),
            initialized: group.is_initialized().await,
            zone_id: self.member.zone_id().map_or_else(String::new, |id| id.to_string()),
            address: self.member.configuration().advertised_address().to_owned(),
        }))
    }

    async fn raft(
        &self,
        request: Request<MemberRaftRequest>,
    ) -> Result<Response<MemberRaftResponse>, Status> {
        let request = request.into_inner();
        let group = self.member.group();
        if request.to_member_id != group.member_id().get() {
            return Err(Status::failed_precondition(format!(
                "the message is for member {}; this is member {}",
                request.to_member_id,
                group.member_id()
            )));
        }
        let raft = group.raft();
        match request.kind() {
            Kind::AppendEntries => answer(&request, |message| raft.append_entries(message)).await,
            Kind::Vote => answer(&request, |message| raft.vote(message)).await,
            Kind::PreVote => answer(&request, |message| raft.pre_vote(message)).await,
            Kind::TransferLeader => {
                answer(&request, |message| raft.handle_transfer_leader(message)).await
            }
            Kind::Unspecified => Err(Status::invalid_argument(
                "kind is not one that this member knows: is the sender newer?",
            )),
        }
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<MemberSnapshotChunk>>,
    ) -> Result<Response<MemberRaftResponse>, Status> {
        let mut chunks = request.into_inner();
        let group = self.member.group();
        let header = snapshot::receive_header(&mut chunks, group.member_id().get()).await?;
        let staged = group.generations().stage(self.member.store());
        let records = snapshot::receive_records(&mut chunks, &staged).await?;
        let received = Snapshot { meta: header.meta, snapshot: records };
        // In a task of its own: were it dropped with a call that its sender gave up, the records
        // would be deleted while the state machine switches to them.
        let member = Arc::clone(&self.member);
        let answer = tokio::spawn(install(member, header.vote, received, staged))
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(encoded(&answer)))
    }
}
