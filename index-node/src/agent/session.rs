//! One session with the control plane's leader.

use std::{collections::BTreeSet, time::Duration};

use proto::v1::{
    Heartbeat, OrderRefusal, SessionHello, SessionOrder, SessionReport,
    node_service_client::NodeServiceClient,
};
use runtime::grpc::MESSAGE_BYTES_MAX;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Agent, Registered, registration::leader_hint, reports};
use crate::{
    engine::{
        transport::Fence,
        types::{NodeId, ReplicaId},
    },
    orders::OrderBatch,
};

/// Messages that may wait for the connection to take them.
const QUEUE_MESSAGES: usize = 64;
/// Changes of replicas are gathered for so long.
const REPORT_INTERVAL: Duration = Duration::from_millis(5);
const HEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Refusals in one message.
const REFUSALS_MAX: usize = 256;

/// Why a session has ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the leader ended it: {} ({:?})", .0.message(), .0.code())]
    Status(Status),
    #[error("the leader ended it without a reason")]
    Ended,
    #[error("nothing came from the leader for {0:?}")]
    Silent(Duration),
    #[error("the connection takes no more messages")]
    Stuck,
    #[error("the member is of an older generation or term than one that this node has seen")]
    Deposed,
}

impl SessionError {
    /// The address of the member that leads, if the session's end says so.
    pub fn leader_hint(&self) -> Option<String> {
        match self {
            Self::Status(status) => leader_hint(status),
            Self::Ended | Self::Silent(_) | Self::Stuck | Self::Deposed => None,
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The sending half of a session.
struct Reports {
    queue: mpsc::Sender<SessionReport>,
    /// The longest that a message may wait.
    limit: Duration,
    heartbeats: u64,
    acknowledged: u64,
}

impl Reports {
    async fn send(&self, report: SessionReport) -> Result<(), SessionError> {
        match runtime::time::timeout(self.limit, self.queue.send(report)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SessionError::Ended),
            Err(_) => Err(SessionError::Stuck),
        }
    }
}

impl Agent {
    /// Holds a session until it breaks; returns why it did.
    pub(super) async fn session(&mut self, registered: &Registered) -> SessionError {
        match self.converse(registered).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn converse(
        &mut self,
        registered: &Registered,
    ) -> Result<std::convert::Infallible, SessionError> {
        let timeout = registered.session_timeout;
        let (queue, outgoing) = mpsc::channel(QUEUE_MESSAGES);
        let mut reports = Reports { queue, limit: timeout, heartbeats: 0, acknowledged: 0 };
        let hello = SessionHello {
            node_id: registered.node.0,
            incarnation: self.registrar.incarnation(),
            highest_fence: Some(self.host.highest_fence().into()),
        };
        reports.send(SessionReport { hello: Some(hello), ..SessionReport::default() }).await?;

        let mut client = NodeServiceClient::new(self.channels.get(&registered.endpoint))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let mut orders =
            runtime::time::timeout(timeout, client.session(ReceiverStream::new(outgoing)))
                .await
                .map_err(|_| SessionError::Silent(timeout))?
                .map_err(SessionError::Status)?
                .into_inner();
        tracing::info!(member = registered.endpoint, "in session with the control plane's leader");

        self.heartbeat(&mut reports).await?;
        // What changes from here on is reported again; what changed before is in the full report.
        for message in reports::messages(self.host.reports(), true) {
            reports.send(message).await?;
        }
        self.host.restart_heat();
        self.exchange(&mut reports, &mut orders, registered).await
    }

    async fn exchange(
        &mut self,
        reports: &mut Reports,
        orders: &mut Streaming<SessionOrder>,
        registered: &Registered,
    ) -> Result<std::convert::Infallible, SessionError> {
        let mut heartbeats = runtime::time::interval(registered.heartbeat_interval);
        let mut heat = runtime::time::interval(HEAT_INTERVAL);
        let mut changes = runtime::time::interval(REPORT_INTERVAL);
        let mut changed: BTreeSet<ReplicaId> = BTreeSet::new();
        let mut heard_at = self.environment.now();
        let mut refusals = Vec::new();
        let mut losses = self.watch.subscribe();
        loop {
            tokio::select! {
                biased;
                _ = heartbeats.tick() => {
                    let silence = self.environment.now().since(heard_at);
                    if silence >= registered.session_timeout {
                        return Err(SessionError::Silent(silence));
                    }
                    self.heartbeat(reports).await?;
                }
                // Who lost a peer says so at once: it may be what a takeover waits for.
                _ = losses.changed() => self.heartbeat(reports).await?,
                message = orders.message() => {
                    let message =
                        message.map_err(SessionError::Status)?.ok_or(SessionError::Ended)?;
                    heard_at = self.environment.now();
                    self.receive(message, reports)?;
                }
                more = self.host.changed(), if changed.is_empty() => changed.extend(more),
                _ = changes.tick(), if !changed.is_empty() => {
                    let replicas =
                        changed.iter().filter_map(|replica| self.host.report(*replica)).collect();
                    changed.clear();
                    for message in reports::messages(replicas, false) {
                        reports.send(message).await?;
                    }
                }
                count = self.refusals.recv_many(&mut refusals, REFUSALS_MAX) => {
                    // The executor that sends them lives as long as the node does.
                    if count == 0 {
                        return Err(SessionError::Ended);
                    }
                    let refusals: Vec<OrderRefusal> = std::mem::take(&mut refusals);
                    reports.send(SessionReport { refusals, ..SessionReport::default() }).await?;
                }
                _ = heat.tick() => {
                    let Some((heat, follower_load)) = self.host.heat() else { continue };
                    let follower_load = Some(follower_load);
                    let report = SessionReport { heat, follower_load, ..SessionReport::default() };
                    reports.send(report).await?;
                }
            }
        }
    }

    async fn heartbeat(&self, reports: &mut Reports) -> Result<(), SessionError> {
        reports.heartbeats += 1;
        let lag = self.signs.take_runtime_lag(self.environment.now());
        let heartbeat = Heartbeat {
            sequence: reports.heartbeats,
            acknowledged_sequence: reports.acknowledged,
            runtime_lag_ms: milliseconds(lag),
            disk_free_bytes: self.signs.disk_free_bytes(),
            disk_below_reserve: self.signs.disk_below_reserve(),
            disk_sync_ms: milliseconds(self.signs.disk_sync(self.environment.now())),
            unreachable_node_ids: self.watch.lost().into_iter().map(|node| node.0).collect(),
        };
        reports.send(SessionReport { heartbeat: Some(heartbeat), ..SessionReport::default() }).await
    }

    fn receive(&self, message: SessionOrder, reports: &mut Reports) -> Result<(), SessionError> {
        let welcome = message.welcome.and_then(|welcome| welcome.fence).map(Fence::from);
        if let Some(fence) = welcome {
            let highest = self.host.highest_fence();
            if (fence.zone_generation, fence.term) < (highest.zone_generation, highest.term) {
                return Err(SessionError::Deposed);
            }
        }
        if let Some(acknowledgement) = message.acknowledgement {
            reports.acknowledged = reports.acknowledged.max(acknowledgement.sequence);
            self.contact.heard();
        }
        let directory: Vec<(NodeId, String)> = message
            .directory
            .into_iter()
            .filter(|entry| entry.node_id != 0 && !entry.address.is_empty())
            .map(|entry| (NodeId(entry.node_id), entry.address))
            .collect();
        let batch = OrderBatch {
            welcome,
            fence: message.fence.map(Into::into),
            orders: message.orders,
            directory,
        };
        if !batch.is_empty() {
            self.deliver(&batch);
        }
        Ok(())
    }

    /// Hands the batch on, in as many copies and as late as the network delivers it.
    fn deliver(&self, batch: &OrderBatch) {
        for delay in self.environment.network.deliveries() {
            let (orders, batch) = (self.orders.clone(), batch.clone());
            if delay.is_zero() {
                orders.give(batch);
                continue;
            }
            let environment = self.environment.clone();
            tokio::spawn(async move {
                environment.sleep(delay).await;
                runtime::mark!("order: delivered late");
                orders.give(batch);
            });
        }
    }
}
