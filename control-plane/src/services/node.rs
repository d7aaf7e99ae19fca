//! `NodeService`: how index nodes join the zone and hold their sessions with the leader.
//!
//! Each session is read in a task of its own, which answers heartbeats by itself: neither a round of
//! the judge nor a commit stands between a heartbeat and its acknowledgement.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use model::{Action, Applied, Incarnation, NodeId};
use proto::v1::{
    Heartbeat, HeartbeatAcknowledgement, ProtocolVersion, RegisterRequest, RegisterResponse,
    SessionHello, SessionOrder, SessionReport, SessionWelcome, node_service_server::NodeService,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{from_wire, refusal, to_wire};
use crate::{
    leader::{
        Reign,
        sessions::{OpenSession, SessionNumber},
    },
    member::Member,
    metrics,
};

/// How long a node may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The service of one member.
pub struct NodeApi {
    member: Arc<Member>,
}

impl NodeApi {
    pub fn new(member: Arc<Member>) -> Self {
        Self { member }
    }
}

#[tonic::async_trait]
impl NodeService for NodeApi {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let request = request.into_inner();
        if request.protocol_version != i32::from(ProtocolVersion::ProtocolVersion1) {
            return Err(Status::failed_precondition(format!(
                "protocol version {} is not spoken here: this member speaks version 1",
                request.protocol_version
            )));
        }
        let registration = from_wire::registration(request)?;
        model::apply::check_registration(&registration)
            .map_err(|refused| refusal::status(&refused))?;
        if self.member.zone_id().is_none() && self.member.group().members().is_empty() {
            return Err(refusal::status(&model::Refusal::NotInitialized));
        }
        let reign = self.member.leading()?;
        let (zone_id, node) = match reign.known(&registration) {
            // A node that comes back after a change of the leader, unchanged, costs no commit.
            Some(known) => known,
            None => match reign.propose(Action::RegisterNode(registration), "").await {
                Ok(Applied::NodeRegistered { zone_id, node }) => (zone_id, node),
                Ok(applied) => {
                    return Err(Status::internal(format!(
                        "a registration was answered with {applied:?}"
                    )));
                }
                Err(error) => return Err(refusal::propose_status(&error)),
            },
        };
        let timers = &self.member.configuration().liveness;
        Ok(Response::new(RegisterResponse {
            zone_id: zone_id.to_string(),
            node_id: node.get(),
            heartbeat_interval_ms: timers.heartbeat_interval_ms,
            session_timeout_ms: timers.session_timeout_ms,
        }))
    }

    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionOrder, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionReport>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let reign = self.member.leading()?;
        let mut reports = request.into_inner();
        let first = self.member.environment().timeout(HELLO_TIMEOUT, reports.next()).await;
        let first = first
            .ok_or_else(|| Status::deadline_exceeded("no hello came"))?
            .transpose()?
            .ok_or_else(|| Status::invalid_argument("a session starts with a hello"))?;
        let hello = first
            .hello
            .ok_or_else(|| Status::invalid_argument("a session's first message holds a hello"))?;
        let (node, incarnation) = self.check_hello(&reign, &hello)?;

        let OpenSession { number, sender, receiver, superseded } =
            reign.open_session(node, incarnation);
        let welcome = SessionOrder {
            welcome: Some(SessionWelcome { fence: Some(to_wire::fence(reign.fence())) }),
            ..SessionOrder::default()
        };
        // The channel is new: there is room.
        let _ = sender.try_send(Ok(welcome));
        tracing::info!(node = node.get(), incarnation = incarnation.get(), "session opened");

        let member = Arc::clone(&self.member);
        tokio::spawn(async move {
            let first = SessionReport { hello: None, ..first };
            let mut session = Session { member, reign, node, number, sender, last_heartbeat: None };
            let end = session.run(first, reports, superseded).await;
            session.end(end);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl NodeApi {
    /// Whether this node may have a session with this leader.
    fn check_hello(
        &self,
        reign: &Reign,
        hello: &SessionHello,
    ) -> Result<(NodeId, Incarnation), Status> {
        let node = NodeId(hello.node_id);
        let incarnation = Incarnation(hello.incarnation);
        let registered =
            self.member.group().zone().read(|state| state.node(node).map(|node| node.incarnation));
        if registered != Some(incarnation) {
            return Err(Status::failed_precondition(format!(
                "node {node} has not registered with incarnation {incarnation}: register first"
            )));
        }
        let highest = hello.highest_fence.unwrap_or_default();
        let fence = reign.fence();
        if (highest.zone_generation, highest.term) > (fence.generation.get(), fence.term.get()) {
            // A newer leader has spoken to this node: this one is about to learn of it.
            runtime::mark!("session: the node has seen a newer leader");
            return Err(self.member.wrong_leader());
        }
        Ok((node, incarnation))
    }
}

/// One session while it lasts.
struct Session {
    member: Arc<Member>,
    reign: Arc<Reign>,
    node: NodeId,
    number: SessionNumber,
    sender: tokio::sync::mpsc::Sender<Result<SessionOrder, Status>>,
    last_heartbeat: Option<runtime::seams::Moment>,
}

/// How a session ended.
enum End {
    /// The node closed it, or its connection broke.
    Broken(String),
    /// This side closed it, for this reason.
    Closed(Status),
}

impl Session {
    async fn run(
        &mut self,
        first: SessionReport,
        mut reports: Streaming<SessionReport>,
        superseded: tokio_util::sync::CancellationToken,
    ) -> End {
        if let Err(end) = self.receive(first) {
            return end;
        }
        loop {
            let report = tokio::select! {
                biased;
                () = superseded.cancelled() => {
                    runtime::mark!("session: superseded by a newer one");
                    return End::Closed(Status::aborted("a newer session of this node has begun"));
                }
                () = self.reign.ended().cancelled() => return End::Closed(self.member.wrong_leader()),
                () = self.sender.closed() => return End::Broken("nobody reads its orders".into()),
                report = reports.next() => report,
            };
            let received = match report {
                Some(Ok(report)) => self.receive(report),
                Some(Err(status)) => {
                    return End::Broken(format!("{:?}: {}", status.code(), status.message()));
                }
                None => return End::Broken("the node closed it".into()),
            };
            if let Err(end) = received {
                return end;
            }
        }
    }

    fn receive(&mut self, report: SessionReport) -> Result<(), End> {
        if report.hello.is_some() {
            return Err(End::Closed(Status::invalid_argument("a session has one hello only")));
        }
        let sequence = report.heartbeat.as_ref().map(|heartbeat| heartbeat.sequence);
        if let Some(heartbeat) = &report.heartbeat {
            self.measure(heartbeat);
        }
        let received = self.reign.receive(self.node, self.number, report);
        received.map_err(|malformed| End::Closed(malformed.into()))?;
        if let Some(sequence) = sequence {
            let acknowledgement = SessionOrder {
                acknowledgement: Some(HeartbeatAcknowledgement { sequence }),
                ..SessionOrder::default()
            };
            // A node that reads too slowly misses acknowledgements and asks elsewhere.
            let _ = self.sender.try_send(Ok(acknowledgement));
        }
        Ok(())
    }

    fn measure(&mut self, _heartbeat: &Heartbeat) {
        let now = self.member.environment().now();
        if let Some(last) = self.last_heartbeat.replace(now) {
            ::metrics::histogram!(metrics::HEARTBEAT_LATENESS)
                .record(now.since(last).as_secs_f64());
        }
        ::metrics::counter!(metrics::HEARTBEATS).increment(1);
    }

    fn end(self, end: End) {
        let reason = match end {
            End::Broken(reason) => reason,
            End::Closed(status) => {
                let reason = status.message().to_owned();
                // If there is no room the node learns it from the stream's end.
                let _ = self.sender.try_send(Err(status));
                reason
            }
        };
        tracing::info!(node = self.node.get(), reason, "session ended");
        self.reign.close_session(self.node, self.number);
    }
}
