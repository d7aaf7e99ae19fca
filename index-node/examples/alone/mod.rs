//! A node on its own, for examples.

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use index_node::engine::{
    snapshot::PartitionSnapshot,
    transport::{GroupTransport, PeerWatch, Route, TransportError, VoteAuthority},
    types::{
        AppendEntriesRequest, AppendEntriesResponse, NodeId, RaftVote, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};

/// A replica that is alone has nobody to talk to.
pub struct Nobody;

fn nobody<T: Send + 'static>() -> BoxFuture<'static, Result<T, TransportError>> {
    async { Err(TransportError::Unreachable("there is nobody".to_owned())) }.boxed()
}

impl GroupTransport for Nobody {
    fn append_entries(
        &self,
        _: Route,
        _: AppendEntriesRequest,
        _: Duration,
    ) -> BoxFuture<'static, Result<AppendEntriesResponse, TransportError>> {
        nobody()
    }

    fn vote(
        &self,
        _: Route,
        _: VoteRequest,
        _: VoteAuthority,
        _: Duration,
    ) -> BoxFuture<'static, Result<VoteResponse, TransportError>> {
        nobody()
    }

    fn pre_vote(
        &self,
        _: Route,
        _: VoteRequest,
        _: Duration,
    ) -> BoxFuture<'static, Result<VoteResponse, TransportError>> {
        nobody()
    }

    fn transfer_leader(
        &self,
        _: Route,
        _: TransferLeaderRequest,
        _: Duration,
    ) -> BoxFuture<'static, Result<TransferLeaderResponse, TransportError>> {
        nobody()
    }

    fn install_snapshot(
        &self,
        _: Route,
        _: RaftVote,
        _: PartitionSnapshot,
    ) -> BoxFuture<'static, Result<RaftVote, TransportError>> {
        nobody()
    }
}

impl PeerWatch for Nobody {
    fn has_lost(&self, _: NodeId) -> bool {
        false
    }
}
