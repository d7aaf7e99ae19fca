//! `PeerService`: what other nodes, and the control plane's leader, ask of this one.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use proto::v1::{
    CollectLogPositionsRequest, CollectLogPositionsResponse, GetSnapshotProgressRequest,
    GetSnapshotProgressResponse, InstallSnapshotResponse, PeerFrames, PeerHello, ProtocolVersion,
    SnapshotChunk, TakeOverRequest, TakeOverResponse, peer_service_server::PeerService,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    connection_watch::ConnectionWatch,
    dispatch::Dispatch,
    frames,
    links::Links,
    receive::{FrameHandler, Reception},
};
use crate::{
    engine::{host::ReplicaHost, types::NodeId},
    place::Place,
};

/// Answers of one stream that may wait for the connection to take them.
const ANSWERS_WAITING_MAX: usize = 8_192;
/// The longest that a caller may take to greet.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// Groups that one request may name.
const GROUPS_MAX: usize = 10_000;
/// Snapshots that are received at the same time.
const RECEIVING_MAX: usize = 4;
/// How long a snapshot waits for its turn.
const RECEIVING_PATIENCE: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub struct PeerApi {
    place: Place,
    host: Arc<ReplicaHost>,
    handler: Arc<dyn FrameHandler>,
    links: Arc<Links>,
    watch: Arc<ConnectionWatch>,
    receiving: Semaphore,
    /// The newest incarnation of each node that has greeted.
    incarnations: Mutex<BTreeMap<NodeId, u64>>,
    shutdown: CancellationToken,
}

impl PeerApi {
    pub fn new(
        place: Place,
        host: Arc<ReplicaHost>,
        links: Arc<Links>,
        watch: Arc<ConnectionWatch>,
        shutdown: CancellationToken,
    ) -> Self {
        let handler = Arc::new(Dispatch::new(Arc::clone(&host)));
        let receiving = Semaphore::new(RECEIVING_MAX);
        let incarnations = Mutex::default();
        Self { place, host, handler, links, watch, receiving, incarnations, shutdown }
    }

    /// Whether the greeting is meant for this node; the caller's id if so.
    fn check(&self, hello: &PeerHello) -> Result<NodeId, Status> {
        if hello.protocol_version != i32::from(ProtocolVersion::ProtocolVersion1) {
            return Err(Status::failed_precondition(format!(
                "protocol version {} is not spoken here; version 1 is",
                hello.protocol_version
            )));
        }
        if hello.zone_id != self.place.zone_id {
            return Err(Status::failed_precondition(format!(
                "this node belongs to zone {}, the greeting is of zone {:?}",
                self.place.zone_id, hello.zone_id
            )));
        }
        if hello.to_node_id != self.place.node.0 {
            return Err(Status::failed_precondition(format!(
                "this is node {}, the greeting is for node {}",
                self.place.node, hello.to_node_id
            )));
        }
        if hello.node_id == 0 || hello.node_id == self.place.node.0 {
            return Err(Status::invalid_argument(format!(
                "{} cannot be the id of another node",
                hello.node_id
            )));
        }
        Ok(NodeId(hello.node_id))
    }

    /// Remembers where the caller is reached, and dials it at once if that failed lately. A process that
    /// has started anew leads nothing any more: the greeting comes before whatever it may lead later.
    async fn meet(&self, caller: NodeId, address: String, incarnation: u64) -> Result<(), Status> {
        if self.is_restarted(caller, incarnation) {
            self.host.forget_leaders_on(caller);
        }
        if !address.is_empty() && self.host.directory().get(caller).as_ref() != Some(&address) {
            self.host
                .directory()
                .set(&[(caller, address)])
                .await
                .map_err(|error| Status::internal(error.to_string()))?;
        }
        self.links.dial_now(caller);
        Ok(())
    }

    /// Whether an older incarnation of the node has greeted before.
    fn is_restarted(&self, node: NodeId, incarnation: u64) -> bool {
        let mut incarnations = self.incarnations.lock().unwrap_or_else(PoisonError::into_inner);
        match incarnations.get_mut(&node) {
            Some(known) => {
                let is_newer = incarnation > *known;
                *known = incarnation.max(*known);
                is_newer
            }
            None => {
                incarnations.insert(node, incarnation);
                false
            }
        }
    }
}

#[tonic::async_trait]
impl PeerService for PeerApi {
    type RaftStream = Pin<Box<dyn Stream<Item = Result<PeerFrames, Status>> + Send>>;

    async fn raft(
        &self,
        request: Request<Streaming<PeerFrames>>,
    ) -> Result<Response<Self::RaftStream>, Status> {
        let mut requests = request.into_inner();
        let first = runtime::time::timeout(HELLO_LIMIT, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no greeting came"))??
            .ok_or_else(|| Status::invalid_argument("the stream ended before the greeting"))?;
        let hello = first
            .hello
            .ok_or_else(|| Status::invalid_argument("the first message must be the greeting"))?;
        let caller = self.check(&hello)?;
        self.meet(caller, hello.address, hello.incarnation).await?;

        let (sender, drain) = frames::queue(ANSWERS_WAITING_MAX);
        let reception = Reception {
            from: caller,
            handler: Arc::clone(&self.handler),
            watch: Arc::clone(&self.watch),
            shutdown: self.shutdown.clone(),
        };
        // Requests may travel with the greeting.
        let first = PeerFrames { hello: None, ..first };
        let requests = futures_util::stream::iter([Ok(first)]).chain(requests);
        tokio::spawn(reception.run(requests, sender));
        Ok(Response::new(Box::pin(drain.map(Ok))))
    }

    async fn collect_log_positions(
        &self,
        request: Request<CollectLogPositionsRequest>,
    ) -> Result<Response<CollectLogPositionsResponse>, Status> {
        let groups = request.into_inner().groups;
        bounded(groups.len())?;
        let positions = self.host.log_positions(&groups).await;
        Ok(Response::new(CollectLogPositionsResponse { positions }))
    }

    async fn take_over(
        &self,
        request: Request<TakeOverRequest>,
    ) -> Result<Response<TakeOverResponse>, Status> {
        let request = request.into_inner();
        bounded(request.groups.len())?;
        let response = self.host.take_over(request).await?;
        Ok(Response::new(response))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<InstallSnapshotResponse>, Status> {
        let _turn = runtime::time::timeout(RECEIVING_PATIENCE, self.receiving.acquire())
            .await
            .map_err(|_| Status::resource_exhausted("this node receives snapshots already"))?
            .map_err(|_| Status::unavailable("this node is stopping"))?;
        let receiving = self.host.receive_snapshot(request.into_inner());
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(Status::unavailable("this node is stopping")),
            received = receiving => Ok(Response::new(received?)),
        }
    }

    async fn get_snapshot_progress(
        &self,
        request: Request<GetSnapshotProgressRequest>,
    ) -> Result<Response<GetSnapshotProgressResponse>, Status> {
        Ok(Response::new(self.host.snapshot_progress(request.get_ref())?))
    }
}

fn bounded(groups: usize) -> Result<(), Status> {
    if groups > GROUPS_MAX {
        return Err(Status::invalid_argument(format!(
            "{groups} groups are too many for one request; at most {GROUPS_MAX} are allowed"
        )));
    }
    Ok(())
}
