//! The members' network: one request of `MemberService.Raft` for each of Raft's messages, and a
//! client-streaming call for a snapshot.
//!
//! Every request names the member id that it is meant for, so that a member whose disk was wiped, and
//! who therefore has a new id at the old address, never answers for its former self.

use std::{future::Future, io, time::Duration};

use openraft::{
    BasicNode, OptionalSend, RaftNetworkFactory,
    alias::{SnapshotOf, VoteOf},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        VoteRequest, VoteResponse,
    },
};
use proto::v1::{
    MemberRaftRequest, member_raft_request::Kind, member_service_client::MemberServiceClient,
};
use runtime::{grpc::Channels, seams::Environment};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Code, Status, transport::Channel};

use super::{
    MESSAGE_BYTES_MAX, TypeConfig,
    encoding::{self, FORMAT_VERSION},
    snapshot::{self, ZoneSnapshot},
};

/// How long one snapshot may take; a million partitions take seconds.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(120);

/// How long to wait before a member that cannot be reached is tried again.
const BACKOFF: Duration = Duration::from_millis(100);

/// How long entries may take: longer than a heartbeat, since the answer waits for the disk.
const APPEND_TIMEOUT: Duration = Duration::from_secs(1);

/// After so many timeouts in a row the connection counts as dead, and a new one is made: the network
/// may have swallowed it without a word.
const TIMEOUTS_IN_A_ROW_MAX: u32 = 10;

/// Makes the connections to the other members.
#[derive(Clone)]
pub struct MemberNetwork {
    member_id: u64,
    environment: Environment,
    channels: Channels,
}

impl MemberNetwork {
    pub fn new(member_id: u64, environment: Environment, channels: Channels) -> Self {
        Self { member_id, environment, channels }
    }
}

impl RaftNetworkFactory<TypeConfig> for MemberNetwork {
    type Network = MemberConnection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> MemberConnection {
        let address = node.addr.clone();
        MemberConnection { network: self.clone(), target, address, timeouts_in_a_row: 0 }
    }
}

/// The connection to one other member.
pub struct MemberConnection {
    network: MemberNetwork,
    target: u64,
    address: String,
    timeouts_in_a_row: u32,
}

fn unreachable(error: &dyn std::fmt::Display) -> Unreachable<TypeConfig> {
    Unreachable::new(&io::Error::other(error.to_string()))
}

/// What a refused or failed call means to Raft: whether to try again at once or after a pause.
fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
    let error = io::Error::other(format!("{:?}: {}", status.code(), status.message()));
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted => {
            RPCError::Network(NetworkError::new(&error))
        }
        _ => RPCError::Unreachable(Unreachable::new(&error)),
    }
}

impl MemberConnection {
    fn client(&self) -> MemberServiceClient<Channel> {
        MemberServiceClient::new(self.network.channels.get(&self.address))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        kind: Kind,
        request: &Q,
        limit: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        let request = MemberRaftRequest {
            from_member_id: self.network.member_id,
            to_member_id: self.target,
            kind: kind.into(),
            format_version: FORMAT_VERSION,
            data: encoding::encode(request).into(),
        };
        let mut client = self.client();
        let Some(answer) = self.network.environment.timeout(limit, client.raft(request)).await
        else {
            self.timeouts_in_a_row += 1;
            if self.timeouts_in_a_row >= TIMEOUTS_IN_A_ROW_MAX {
                self.network.channels.forget(&self.address);
                self.timeouts_in_a_row = 0;
            }
            let error = io::Error::from(io::ErrorKind::TimedOut);
            return Err(RPCError::Network(NetworkError::new(&error)));
        };
        self.timeouts_in_a_row = 0;
        let answer = answer.map_err(|status| rpc_error(&status))?.into_inner();
        encoding::decode(answer.format_version, &answer.data)
            .map_err(|error| RPCError::Unreachable(unreachable(&error)))
    }
}

impl RaftNetworkV2<TypeConfig> for MemberConnection {
    type SnapshotData = ZoneSnapshot;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let limit = if request.entries.is_empty() {
            option.soft_ttl()
        } else {
            APPEND_TIMEOUT.max(option.soft_ttl())
        };
        self.call(Kind::AppendEntries, &request, limit).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Kind::Vote, &request, option.soft_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Kind::PreVote, &request, option.soft_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, ZoneSnapshot>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let chunks = snapshot::chunks(self.network.member_id, self.target, &vote, snapshot);
        let mut client = self.client();
        let transfer =
            self.network.environment.timeout(SNAPSHOT_TIMEOUT, client.install_snapshot(chunks));
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = transfer => answer,
        };
        let answer = answer
            .ok_or_else(|| unreachable(&"the snapshot took too long"))?
            .map_err(|status| StreamingError::from(rpc_error(&status)))?
            .into_inner();
        encoding::decode(answer.format_version, &answer.data)
            .map_err(|error| StreamingError::Unreachable(unreachable(&error)))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Kind::TransferLeader, &request, option.soft_ttl()).await
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(BACKOFF)))
    }
}
