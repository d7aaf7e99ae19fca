//! How a group's messages reach its other replicas.
//!
//! The engine calls [`GroupTransport`] for everything that goes out; what comes in is handed to
//! [`ReplicaHost`](super::host::ReplicaHost). The transport knows nodes and frames; it decides nothing
//! about groups.

use std::{sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use futures_util::future::BoxFuture;
use openraft::{
    OptionalSend,
    error::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RaftNetworkFactory},
    raft::SnapshotResponse,
};
use openraft_multi::{GroupNetworkAdapter, GroupRouter};
use runtime::seams::{Clock, Moment};

use super::{
    snapshot::{PartitionSnapshot, SnapshotData},
    types::{
        AppendEntriesRequest, AppendEntriesResponse, NodeId, PartitionId, RaftVote, ReplicaId,
        ReplicaNode, TransferLeaderRequest, TransferLeaderResponse, TypeConfig, VoteRequest,
        VoteResponse,
    },
};

/// From which replica of which group to which other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub partition: PartitionId,
    pub from: ReplicaId,
    pub to: ReplicaId,
    pub to_node: NodeId,
}

/// Highest order seen, or that an order carries: compared field by field.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Fence {
    pub zone_generation: u64,
    pub term: u64,
    pub revision: u64,
}

impl From<proto::v1::Fence> for Fence {
    fn from(fence: proto::v1::Fence) -> Self {
        Self { zone_generation: fence.zone_generation, term: fence.term, revision: fence.revision }
    }
}

impl From<Fence> for proto::v1::Fence {
    fn from(fence: Fence) -> Self {
        Self { zone_generation: fence.zone_generation, term: fence.term, revision: fence.revision }
    }
}

/// Why a voter may grant a vote although it heard of a leader a moment ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VoteAuthority {
    /// An ordinary election: the lease holds.
    #[default]
    Ordinary,
    /// The leader itself hands over.
    Handover,
    /// The control plane has committed the conclusion that the node is lost (0: that the group has no
    /// leader).
    Conclusion { fence: Fence, lost_node: NodeId },
    /// The peers have lost the leader's node (0: the group has had no leader for a while).
    Peers { lost_node: NodeId },
}

/// Why a message got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The node cannot be reached, or the replica is not there: try again later, with a backoff.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer within the limit.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Carries messages between the replicas of all groups. Nothing here is retried: the groups are.
pub trait GroupTransport: Send + Sync + 'static {
    fn append_entries(
        &self,
        route: Route,
        request: AppendEntriesRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<AppendEntriesResponse, TransportError>>;

    fn vote(
        &self,
        route: Route,
        request: VoteRequest,
        authority: VoteAuthority,
        limit: Duration,
    ) -> BoxFuture<'static, Result<VoteResponse, TransportError>>;

    fn pre_vote(
        &self,
        route: Route,
        request: VoteRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<VoteResponse, TransportError>>;

    fn transfer_leader(
        &self,
        route: Route,
        request: TransferLeaderRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<TransferLeaderResponse, TransportError>>;

    /// Streams a snapshot (see [`SnapshotStream`](super::snapshot_stream::SnapshotStream)) and answers
    /// with the receiver's vote. It is dropped when the leader cancels it; the transport limits how
    /// long it may take without progress.
    fn install_snapshot(
        &self,
        route: Route,
        vote: RaftVote,
        snapshot: PartitionSnapshot,
    ) -> BoxFuture<'static, Result<RaftVote, TransportError>>;
}

/// Which other nodes this one has lost, by its own watch of the connections to them.
pub trait PeerWatch: Send + Sync + 'static {
    fn has_lost(&self, node: NodeId) -> bool;
}

/// With what authority a replica campaigns just now.
#[derive(Default)]
pub(super) struct Campaign {
    current: Mutex<Option<(VoteAuthority, Moment)>>,
}

impl Campaign {
    /// The vote requests that go out until `until` carry this authority.
    pub(super) fn begin(&self, authority: VoteAuthority, until: Moment) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((authority, until));
    }

    fn authority(&self, now: Moment) -> VoteAuthority {
        let current = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current {
            Some((authority, until)) if now <= until => authority,
            Some(_) | None => VoteAuthority::Ordinary,
        }
    }
}

/// One replica's way out, as openraft wants it.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) transport: Arc<dyn GroupTransport>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) partition: PartitionId,
    pub(super) from: ReplicaId,
    pub(super) campaign: Arc<Campaign>,
    /// The longest that a request may wait for its answer.
    pub(super) request_timeout: Duration,
}

impl Network {
    fn route(&self, to: u64, to_node: NodeId) -> Route {
        Route { partition: self.partition, from: self.from, to: ReplicaId(to), to_node }
    }

    fn limit(&self, option: &RPCOption) -> Duration {
        option.soft_ttl().min(self.request_timeout)
    }

    fn error(
        &self,
        target: u64,
        action: openraft::RPCTypes,
        error: TransportError,
    ) -> RPCError<TypeConfig> {
        match error {
            TransportError::Unreachable(message) => {
                RPCError::Unreachable(Unreachable::from_string(message))
            }
            TransportError::Timeout(timeout) => {
                RPCError::Timeout(Timeout { action, id: self.from.0, target, timeout })
            }
        }
    }
}

impl GroupRouter<TypeConfig, NodeId> for Network {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &self,
        target: u64,
        node: NodeId,
        request: AppendEntriesRequest,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse, RPCError<TypeConfig>> {
        self.transport
            .append_entries(self.route(target, node), request, self.limit(&option))
            .await
            .map_err(|error| self.error(target, openraft::RPCTypes::AppendEntries, error))
    }

    async fn vote(
        &self,
        target: u64,
        node: NodeId,
        request: VoteRequest,
        option: RPCOption,
    ) -> Result<VoteResponse, RPCError<TypeConfig>> {
        let authority = if request.leadership_transfer {
            self.campaign.authority(self.clock.now())
        } else {
            VoteAuthority::Ordinary
        };
        self.transport
            .vote(self.route(target, node), request, authority, self.limit(&option))
            .await
            .map_err(|error| self.error(target, openraft::RPCTypes::Vote, error))
    }

    async fn pre_vote(
        &self,
        target: u64,
        node: NodeId,
        request: VoteRequest,
        option: RPCOption,
    ) -> Result<VoteResponse, RPCError<TypeConfig>> {
        self.transport
            .pre_vote(self.route(target, node), request, self.limit(&option))
            .await
            .map_err(|error| self.error(target, openraft::RPCTypes::Vote, error))
    }

    async fn full_snapshot(
        &self,
        target: u64,
        node: NodeId,
        vote: RaftVote,
        snapshot: PartitionSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = self.transport.install_snapshot(self.route(target, node), vote, snapshot);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = sending => match answer {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                // Never a timeout: openraft would start over at once, without a backoff.
                Err(error) => Err(Unreachable::from_string(error).into()),
            },
        }
    }

    async fn transfer_leader(
        &self,
        target: u64,
        node: NodeId,
        request: TransferLeaderRequest,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse, RPCError<TypeConfig>> {
        self.transport
            .transfer_leader(self.route(target, node), request, self.limit(&option))
            .await
            .map_err(|error| self.error(target, openraft::RPCTypes::TransferLeader, error))
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = GroupNetworkAdapter<TypeConfig, NodeId, Network>;

    async fn new_client(&mut self, target: u64, node: &ReplicaNode) -> Self::Network {
        GroupNetworkAdapter::new(self.clone(), target, node.node_id)
    }
}
