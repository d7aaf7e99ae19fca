//! A control plane that decides nothing: a test says what it says to its one index node.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::Stream;
use proto::v1::{
    Fence, HeartbeatAcknowledgement, Order, OrderRefusal, RegisterRequest, RegisterResponse,
    ReplicaReport, SessionOrder, SessionReport, SessionWelcome,
    node_service_server::{NodeService, NodeServiceServer},
};
use runtime::{
    grpc::{ServerOptions, serve},
    seams::Environment,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::eventually;

/// The node's id in this control plane's zone.
pub const NODE: u64 = 1;

#[derive(Default)]
struct State {
    term: u64,
    session: Option<mpsc::Sender<Result<SessionOrder, Status>>>,
    sessions: u64,
    registrations: Vec<RegisterRequest>,
    reports: Vec<ReplicaReport>,
    full_reports: u64,
    refusals: Vec<OrderRefusal>,
}

#[derive(Clone)]
struct Service {
    zone_id: String,
    state: Arc<Mutex<State>>,
    running: CancellationToken,
}

/// See the module's documentation.
pub struct ScriptedControlPlane {
    service: Service,
    server: JoinHandle<()>,
    address: String,
}

impl ScriptedControlPlane {
    /// Listens as the leader of this term.
    pub async fn start(address: &str, zone_id: &str, term: u64) -> Self {
        let state = Arc::new(Mutex::new(State { term, ..State::default() }));
        Self::listen(address, zone_id, state).await
    }

    async fn listen(address: &str, zone_id: &str, state: Arc<Mutex<State>>) -> Self {
        let network = Environment::production().network;
        let listener = eventually("a free address", async || network.listen(address).await.ok());
        let listener = listener.await;
        let running = CancellationToken::new();
        let service = Service { zone_id: zone_id.to_owned(), state, running: running.clone() };
        let routes = Routes::new(NodeServiceServer::new(service.clone()));
        let server = tokio::spawn(async move {
            serve(listener, routes, &ServerOptions::default(), running).await.unwrap();
        });
        Self { service, server, address: address.to_owned() }
    }

    /// Comes back at the same address as the leader of another term.
    pub async fn succeeded_by(self, term: u64) -> Self {
        let Self { service, server, address } = self;
        service.running.cancel();
        service.lock().session = None;
        server.await.unwrap();
        let mut state = service.lock();
        state.term = term;
        state.reports.clear();
        state.full_reports = 0;
        drop(state);
        Self::listen(&address, &service.zone_id, Arc::clone(&service.state)).await
    }

    /// Waits until the node is in session and has told of all its replicas.
    pub async fn in_session(&self) {
        eventually("the node in session", async || {
            (self.service.lock().full_reports > 0).then_some(())
        })
        .await;
    }

    /// How often the node has opened a session.
    pub fn sessions(&self) -> u64 {
        self.service.lock().sessions
    }

    pub fn registrations(&self) -> Vec<RegisterRequest> {
        self.service.lock().registrations.clone()
    }

    /// Gives one order, under a fence of the test's choice.
    pub async fn order(&self, fence: Fence, order: Order) {
        let message =
            SessionOrder { fence: Some(fence), orders: vec![order], ..SessionOrder::default() };
        let session = eventually("a session", async || self.service.lock().session.clone()).await;
        // A node that refuses the leader as a whole has ended the session by itself.
        let _ = session.send(Ok(message)).await;
    }

    /// Waits for the refusal of an order of this fence.
    pub async fn refusal(&self, fence: Fence) -> OrderRefusal {
        eventually("a refusal", async || {
            let mut state = self.service.lock();
            let at = state.refusals.iter().position(|refusal| refusal.fence == Some(fence))?;
            Some(state.refusals.remove(at))
        })
        .await
    }

    /// The last report of a replica.
    pub fn report(&self, replica: u64) -> Option<ReplicaReport> {
        let state = self.service.lock();
        state.reports.iter().rev().find(|report| report.replica_id == replica).cloned()
    }

    /// Waits until the node reports the replica so.
    pub async fn reported(
        &self,
        replica: u64,
        wanted: impl Fn(&ReplicaReport) -> bool,
    ) -> ReplicaReport {
        eventually("a report of the replica", async || self.report(replica).filter(&wanted)).await
    }
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, report: SessionReport) {
        let mut state = self.lock();
        state.reports.extend(report.replicas);
        state.full_reports += u64::from(report.full_report_end);
        state.refusals.extend(report.refusals);
    }
}

#[tonic::async_trait]
impl NodeService for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionOrder, Status>> + Send>>;

    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.lock().registrations.push(request.into_inner());
        Ok(Response::new(RegisterResponse {
            zone_id: self.zone_id.clone(),
            node_id: NODE,
            heartbeat_interval_ms: 100,
            session_timeout_ms: 2_000,
        }))
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionReport>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut reports = request.into_inner();
        let (orders, outgoing) = mpsc::channel(64);
        let fence = Fence { zone_generation: 1, term: self.lock().term, revision: 1 };
        let welcome = Some(SessionWelcome { fence: Some(fence) });
        let welcome = SessionOrder { welcome, ..SessionOrder::default() };
        orders.send(Ok(welcome)).await.expect("the receiver is still here");
        {
            let mut state = self.lock();
            state.session = Some(orders.clone());
            state.sessions += 1;
        }
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
                this.note(report);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}
