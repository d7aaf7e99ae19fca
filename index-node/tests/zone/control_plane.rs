//! A control plane that decides nothing: a test gives the orders.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures_util::Stream;
use proto::v1::{
    Fence, HeartbeatAcknowledgement, LogPosition, NodeAddress, Order, OrderRefusal,
    RegisterRequest, RegisterResponse, ReplicaReport, SessionOrder, SessionReport, SessionWelcome,
    node_service_server::{NodeService, NodeServiceServer},
};
use runtime::{
    grpc::{ServerOptions, serve},
    seams::Environment,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::Routes};

pub const ZONE: &str = "zone-of-the-test";

#[derive(Default)]
struct State {
    term: u64,
    /// Node ids by identity, and what each node registered last.
    nodes: BTreeMap<String, u64>,
    addresses: BTreeMap<u64, String>,
    incarnations: BTreeMap<u64, u64>,
    sessions: BTreeMap<u64, mpsc::Sender<Result<SessionOrder, Status>>>,
    hellos: BTreeMap<u64, Fence>,
    /// The last report of each replica, by node.
    reports: BTreeMap<(u64, u64), ReplicaReport>,
    full_reports: u64,
    refusals: Vec<(u64, OrderRefusal)>,
    reads: u64,
    writes: u64,
}

/// See the module's documentation. Cheap to clone.
#[derive(Clone)]
pub struct ControlPlane {
    pub address: String,
    state: Arc<Mutex<State>>,
    running: CancellationToken,
}

impl ControlPlane {
    /// Starts under a term, on a free port.
    pub async fn start(term: u64) -> Self {
        let state = Arc::new(Mutex::new(State { term, ..State::default() }));
        Self::start_at("127.0.0.1:0", state).await
    }

    async fn start_at(address: &str, state: Arc<Mutex<State>>) -> Self {
        let listener = Environment::production().network.listen(address).await.unwrap();
        let address = listener.local_address().unwrap().to_string();
        let running = CancellationToken::new();
        let this = Self { address, state, running };
        let service = NodeServiceServer::new(this.clone());
        let stop = this.running.clone();
        tokio::spawn(async move {
            let options = ServerOptions::default();
            serve(listener, Routes::new(service), &options, stop).await.unwrap();
        });
        this
    }

    /// Falls silent: sessions end, and nobody listens.
    pub fn stop(&self) {
        self.running.cancel();
        self.state.lock().unwrap().sessions.clear();
    }

    /// Comes back at the same address, remembering everything, under a term.
    pub async fn restart(&self, term: u64) -> Self {
        self.state.lock().unwrap().term = term;
        let state = Arc::clone(&self.state);
        super::eventually("the address is free again", async || {
            Environment::production().network.listen(&self.address).await.ok().map(drop)
        })
        .await;
        Self::start_at(&self.address, state).await
    }

    pub fn fence(&self, revision: u64) -> Fence {
        Fence { zone_generation: 1, term: self.state.lock().unwrap().term, revision }
    }

    /// Gives orders to a node, under a fence of the test's choice.
    pub async fn order(&self, node: u64, fence: Fence, orders: Vec<Order>) {
        assert!(self.offer(node, fence, orders).await, "the session has ended");
    }

    /// The same, to a node that may end the session; whether the order went out.
    pub async fn offer(&self, node: u64, fence: Fence, orders: Vec<Order>) -> bool {
        let message = SessionOrder { fence: Some(fence), orders, ..SessionOrder::default() };
        let session = super::eventually("the node is in session", async || {
            self.state.lock().unwrap().sessions.get(&node).cloned()
        })
        .await;
        session.send(Ok(message)).await.is_ok()
    }

    pub fn is_in_session(&self, node: u64) -> bool {
        self.state.lock().unwrap().sessions.get(&node).is_some_and(|session| !session.is_closed())
    }

    pub fn node_id(&self, address: &str) -> Option<u64> {
        let state = self.state.lock().unwrap();
        state.addresses.iter().find(|(_, known)| *known == address).map(|(id, _)| *id)
    }

    pub fn incarnation(&self, node: u64) -> u64 {
        self.state.lock().unwrap().incarnations[&node]
    }

    /// The fence that the node said in its last session that it remembers.
    pub fn remembered_fence(&self, node: u64) -> Option<Fence> {
        self.state.lock().unwrap().hellos.get(&node).copied()
    }

    pub fn report(&self, node: u64, replica: u64) -> Option<ReplicaReport> {
        self.state.lock().unwrap().reports.get(&(node, replica)).cloned()
    }

    pub fn forget_reports(&self) {
        self.state.lock().unwrap().reports.clear();
    }

    /// Replica and node that report to lead the partition.
    pub fn leader(&self, partition: u64) -> Option<(u64, u64)> {
        let state = self.state.lock().unwrap();
        let leading = |report: &&ReplicaReport| report.partition_id == partition && report.leading;
        let (key, report) = state.reports.iter().find(|(_, report)| leading(report))?;
        Some((report.replica_id, key.0))
    }

    pub fn membership_log(&self, node: u64, replica: u64) -> Option<LogPosition> {
        self.report(node, replica)?.membership?.log_position
    }

    pub fn take_refusals(&self) -> Vec<(u64, OrderRefusal)> {
        std::mem::take(&mut self.state.lock().unwrap().refusals)
    }

    /// Reads and writes that were reported as heat.
    pub fn heat(&self) -> (u64, u64) {
        let state = self.state.lock().unwrap();
        (state.reads, state.writes)
    }

    fn directory(&self) -> Vec<NodeAddress> {
        let state = self.state.lock().unwrap();
        let entry =
            |(id, address): (&u64, &String)| NodeAddress { node_id: *id, address: address.clone() };
        state.addresses.iter().map(entry).collect()
    }

    /// Tells every node where the others are.
    async fn tell_directory(&self) {
        let directory = self.directory();
        let sessions: Vec<_> = self.state.lock().unwrap().sessions.values().cloned().collect();
        for session in sessions {
            let message = SessionOrder { directory: directory.clone(), ..SessionOrder::default() };
            // A session may have ended in this moment.
            let _ = session.send(Ok(message)).await;
        }
    }

    fn note(&self, node: u64, report: SessionReport) {
        let mut state = self.state.lock().unwrap();
        for replica in report.replicas {
            state.reports.insert((node, replica.replica_id), replica);
        }
        state.full_reports += u64::from(report.full_report_end);
        state.refusals.extend(report.refusals.into_iter().map(|refusal| (node, refusal)));
        for heat in report.heat {
            state.reads += heat.reads;
            state.writes += heat.writes;
        }
    }
}

#[tonic::async_trait]
impl NodeService for ControlPlane {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionOrder, Status>> + Send>>;

    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let request = request.into_inner();
        if !request.zone_id.is_empty() && request.zone_id != ZONE {
            return Err(Status::failed_precondition("another zone's data directory"));
        }
        let node_id = {
            let mut state = self.state.lock().unwrap();
            let next = 1 + u64::try_from(state.nodes.len()).unwrap();
            let node_id = *state.nodes.entry(request.identity).or_insert(next);
            if request.node_id != 0 && request.node_id != node_id {
                return Err(Status::failed_precondition("a node id that is not this identity's"));
            }
            state.addresses.insert(node_id, request.address);
            state.incarnations.insert(node_id, request.incarnation);
            node_id
        };
        Ok(Response::new(RegisterResponse {
            zone_id: ZONE.to_owned(),
            node_id,
            heartbeat_interval_ms: 100,
            session_timeout_ms: 1_000,
        }))
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionReport>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut reports = request.into_inner();
        let hello = reports.message().await?.and_then(|first| first.hello).unwrap();
        let node = hello.node_id;
        let (orders, outgoing) = mpsc::channel(64);
        let welcome = SessionWelcome { fence: Some(self.fence(1)) };
        let welcome = SessionOrder { welcome: Some(welcome), ..SessionOrder::default() };
        orders.send(Ok(welcome)).await.unwrap();
        {
            let mut state = self.state.lock().unwrap();
            state.sessions.insert(node, orders.clone());
            state.hellos.insert(node, hello.highest_fence.unwrap_or_default());
        }
        self.tell_directory().await;

        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let report = tokio::select! {
                    biased;
                    () = this.running.cancelled() => break,
                    report = reports.message() => report,
                };
                let Ok(Some(report)) = report else { break };
                if let Some(heartbeat) = &report.heartbeat {
                    let sequence = heartbeat.sequence;
                    let acknowledgement = Some(HeartbeatAcknowledgement { sequence });
                    let message = SessionOrder { acknowledgement, ..SessionOrder::default() };
                    if orders.send(Ok(message)).await.is_err() {
                        break;
                    }
                }
                this.note(node, report);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}
