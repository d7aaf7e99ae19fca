//! How a group's messages get from one node to another, all of them being in this process: by calling it.
//!
//! Connections among the nodes would cost processors that the sessions need, and say nothing about them.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture, stream};
use index_node::engine::{
    host::ReplicaHost,
    host_peer::FrameFault,
    snapshot::PartitionSnapshot,
    snapshot_stream::{self, SnapshotTransfer},
    transport::{GroupTransport, Route, TransportError, VoteAuthority},
    types::{
        AppendEntriesRequest, AppendEntriesResponse, NodeId, RaftVote, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use tonic::Status;

/// All nodes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Peers {
    hosts: Arc<RwLock<BTreeMap<NodeId, Weak<ReplicaHost>>>>,
}

fn unreachable(reason: impl ToString) -> TransportError {
    TransportError::Unreachable(reason.to_string())
}

impl Peers {
    /// From now on the node is reached.
    pub fn add(&self, node: NodeId, host: &Arc<ReplicaHost>) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(node, Arc::downgrade(host));
    }

    fn host(&self, node: NodeId) -> Result<Arc<ReplicaHost>, TransportError> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.get(&node).and_then(Weak::upgrade);
        host.ok_or_else(|| unreachable(format!("node {node} is not there")))
    }

    fn call<T, F>(
        &self,
        route: Route,
        limit: Duration,
        call: impl FnOnce(Arc<ReplicaHost>) -> F,
    ) -> BoxFuture<'static, Result<T, TransportError>>
    where
        F: Future<Output = Result<T, FrameFault>> + Send + 'static,
        T: Send + 'static,
    {
        let calling = match self.host(route.to_node) {
            Ok(host) => call(host),
            Err(error) => return futures_util::future::ready(Err(error)).boxed(),
        };
        async move {
            let answer = runtime::time::timeout(limit, calling).await;
            answer.map_err(|_| TransportError::Timeout(limit))?.map_err(unreachable)
        }
        .boxed()
    }
}

impl GroupTransport for Peers {
    fn append_entries(
        &self,
        route: Route,
        request: AppendEntriesRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<AppendEntriesResponse, TransportError>> {
        let Route { partition, from, to, .. } = route;
        self.call(route, limit, |host| async move {
            host.handle_append_entries(partition, from, to, request).await
        })
    }

    fn vote(
        &self,
        route: Route,
        request: VoteRequest,
        authority: VoteAuthority,
        limit: Duration,
    ) -> BoxFuture<'static, Result<VoteResponse, TransportError>> {
        let Route { partition, from, to, .. } = route;
        self.call(route, limit, move |host| async move {
            host.handle_vote(partition, from, to, request, authority).await
        })
    }

    fn pre_vote(
        &self,
        route: Route,
        request: VoteRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<VoteResponse, TransportError>> {
        let Route { partition, from, to, .. } = route;
        self.call(route, limit, |host| async move {
            host.handle_pre_vote(partition, from, to, request).await
        })
    }

    fn transfer_leader(
        &self,
        route: Route,
        request: TransferLeaderRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<TransferLeaderResponse, TransportError>> {
        let Route { partition, from, to, .. } = route;
        self.call(route, limit, |host| async move {
            host.handle_transfer_leader(partition, from, to, request).await
        })
    }

    fn install_snapshot(
        &self,
        route: Route,
        vote: RaftVote,
        snapshot: PartitionSnapshot,
    ) -> BoxFuture<'static, Result<RaftVote, TransportError>> {
        let host = self.host(route.to_node);
        async move {
            let host = host?;
            let transfer =
                SnapshotTransfer::new(host.zone_id(), 0, route, &vote, snapshot, usize::MAX);
            let chunks = transfer
                .chunks()
                .map(|chunk| chunk.map_err(|error| Status::internal(error.to_string())));
            let answer = host.receive_snapshot(stream::iter(chunks)).await.map_err(unreachable)?;
            snapshot_stream::decode_response(&answer).map_err(unreachable)
        }
        .boxed()
    }
}
