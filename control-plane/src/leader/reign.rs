//! What the tasks and services of one reign share.
//!
//! Locks are taken in this sequence, each for moments: the zone's state, the view, the tally, the sessions, the heat.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::{
    Action, Applied, Command, Fence, Generation, Incarnation, MemberId, NodeId, PartitionId,
    ReplicaId, Term, WallTime, ZoneView, balancer::BalanceReport, command::Registration,
    heat::ZoneHeat, signal_log::SignalLog, tally::Tally, zone_clock::ZoneClock,
};
use planted::Bug;
use proto::v1::{self, SessionReport};
use runtime::{grpc::Channels, seams::Environment};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::load_gauges::LoadGauges;
use super::sessions::{OpenSession, SessionNumber, Sessions};
use crate::{
    configuration::Configuration,
    member::Member,
    metrics,
    raft::{
        group::{Group, ProposeError},
        view::Zone,
    },
    services::from_wire::{self, Malformed},
};

/// One leadership of this member.
pub struct Reign {
    term: Term,
    environment: Environment,
    configuration: Configuration,
    channels: Channels,
    group: Group,
    clock: Mutex<ProposalClock>,
    view: Mutex<ZoneView>,
    tally: Mutex<Tally>,
    heat: Mutex<ZoneHeat>,
    load_gauges: Mutex<LoadGauges>,
    balance: Mutex<Option<BalanceReport>>,
    sessions: Sessions,
    refusals: Mutex<BTreeMap<PartitionId, String>>,
    signals: Mutex<Option<SignalLog>>,
    observed: watch::Sender<u64>,
    connected: watch::Sender<u64>,
    ended: CancellationToken,
}

struct ProposalClock {
    zone: ZoneClock,
    last_proposal_at: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reign {
    pub fn new(member: &Member, term: Term) -> Self {
        let now = member.environment().now().since_origin();
        let committed = member.group().zone().read(model::ZoneState::zone_time);
        let heat = member.group().zone().read(|state| {
            if state.heat_summary().is_some() {
                runtime::mark!("heat: a new leader began with a summary");
            }
            ZoneHeat::resume(state.heat_summary(), now)
        });
        Self {
            term,
            environment: member.environment().clone(),
            configuration: member.configuration().clone(),
            channels: member.channels().clone(),
            group: member.group().clone(),
            clock: Mutex::new(ProposalClock {
                zone: ZoneClock::new(committed, now),
                last_proposal_at: now,
            }),
            view: Mutex::new(ZoneView::new(now)),
            tally: Mutex::new(member.group().zone().read(Tally::unseen)),
            heat: Mutex::new(heat),
            load_gauges: Mutex::default(),
            balance: Mutex::default(),
            sessions: Sessions::default(),
            refusals: Mutex::new(BTreeMap::new()),
            signals: Mutex::new(None),
            observed: watch::Sender::new(0),
            connected: watch::Sender::new(0),
            ended: CancellationToken::new(),
        }
    }

    pub fn term(&self) -> Term {
        self.term
    }

    /// The member whose leadership this is.
    pub fn member_id(&self) -> MemberId {
        self.group.member_id()
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    pub fn zone(&self) -> &Arc<Zone> {
        self.group.zone()
    }

    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Cancelled when this member may not give orders any more.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// Moments as the model takes them.
    pub fn now(&self) -> Duration {
        self.environment.now().since_origin()
    }

    /// What the sessions have shown. Held for moments only: heartbeats wait for it.
    pub fn view(&self) -> MutexGuard<'_, ZoneView> {
        lock(&self.view)
    }

    pub fn load_gauges(&self) -> MutexGuard<'_, LoadGauges> {
        lock(&self.load_gauges)
    }

    /// What the balancer found last; none before its first plan.
    pub fn balance_report(&self) -> Option<BalanceReport> {
        lock(&self.balance).clone()
    }

    pub fn set_balance_report(&self, report: Option<BalanceReport>) {
        *lock(&self.balance) = report;
    }

    /// What is known of load.
    pub fn heat(&self) -> MutexGuard<'_, ZoneHeat> {
        lock(&self.heat)
    }

    /// The judge's latest rounds; none before its first one.
    pub fn signals(&self) -> MutexGuard<'_, Option<SignalLog>> {
        lock(&self.signals)
    }

    /// Wakes when a session has begun, ended or shown something new.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.observed.subscribe()
    }

    /// Wakes when a session has begun or ended, or a dial was refused.
    pub fn watch_connections(&self) -> watch::Receiver<u64> {
        self.connected.subscribe()
    }

    /// Which partitions are not as they should be: the conductor keeps it right.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    fn report_news(&self) {
        self.observed.send_modify(|count| *count += 1);
    }

    fn connection_news(&self) {
        self.connected.send_modify(|count| *count += 1);
        self.report_news();
    }

    /// What orders from the state as it is now carry.
    pub fn fence(&self) -> Fence {
        self.zone().read(|state| self.fence_of(state))
    }

    /// What orders from this state carry.
    pub fn fence_of(&self, state: &model::ZoneState) -> Fence {
        let generation = state.zone().map_or(Generation(1), |zone| zone.generation);
        Fence { generation, term: self.term, revision: state.revision() }
    }

    /// Commits and applies an action, in the zone's time.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(
        &self,
        action: Action,
        idempotency_key: &str,
    ) -> Result<Applied, ProposeError> {
        self.propose_request(action, idempotency_key, 0).await
    }

    /// The same, for a caller whose request has this digest: see [`Command::request_fingerprint`].
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose_request(
        &self,
        action: Action,
        idempotency_key: &str,
        fingerprint: u64,
    ) -> Result<Applied, ProposeError> {
        if self.ended.is_cancelled() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        let started = self.environment.now();
        let zone_time = {
            let committed = self.zone().read(model::ZoneState::zone_time);
            let mut clock = lock(&self.clock);
            clock.last_proposal_at = started.since_origin();
            clock.zone.propose(committed, started.since_origin())
        };
        let wall_time = WallTime(self.environment.wall_ms());
        let command =
            Command::new(zone_time, wall_time, action).of_request(idempotency_key, fingerprint);
        let outcome = self.group.propose(command).await;
        let label = match &outcome {
            Ok(_) => "applied",
            Err(ProposeError::NotLeader { .. }) => "not-leader",
            Err(ProposeError::Refused(_)) => "refused",
            Err(ProposeError::Unknown(_)) => "unknown",
        };
        let elapsed = self.environment.now().since(started);
        ::metrics::counter!(metrics::PROPOSALS, "outcome" => label).increment(1);
        ::metrics::histogram!(metrics::PROPOSAL_SECONDS).record(elapsed.as_secs_f64());
        outcome
    }

    /// Returns when a quorum has confirmed, after this was called, that this reign lasts.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`].
    pub async fn confirm(&self) -> Result<(), ProposeError> {
        if self.ended.is_cancelled() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        if planted::is_planted(Bug::RefusedUnconfirmed) {
            return Ok(());
        }
        self.group.confirm().await
    }

    /// How long nothing has been proposed.
    pub fn quiet_for(&self) -> Duration {
        self.now().saturating_sub(lock(&self.clock).last_proposal_at)
    }

    /// The zone and the node's id, if this registration would change nothing.
    pub fn known(&self, registration: &Registration) -> Option<(Uuid, NodeId)> {
        self.zone().read(|state| {
            let zone_id = state.zone_id()?;
            let id = registration.node?;
            let node = state.node(id)?;
            let same = registration.zone_id == Some(zone_id)
                && registration.identity == node.identity
                && registration.incarnation == node.incarnation
                && registration.name == node.name
                && registration.address == node.address
                && registration.fault_domain == node.fault_domain
                && registration.capacity == node.capacity
                && registration.software_version == node.software_version;
            same.then_some((zone_id, id))
        })
    }

    /// Begins a session of the node; an older one ends.
    pub fn open_session(&self, node: NodeId, incarnation: Incarnation) -> OpenSession {
        let session = {
            let mut view = self.view();
            let session = self.sessions.open(node);
            view.session_opened(node, incarnation, self.now());
            self.heat().session_opened(node, incarnation, self.now());
            session
        };
        self.connection_news();
        session
    }

    /// Ends a session, unless a newer one has taken its place.
    pub fn close_session(&self, node: NodeId, number: SessionNumber) {
        {
            let mut view = self.view();
            if !self.sessions.close(node, number) {
                return;
            }
            view.session_closed(node, self.now());
            self.heat().session_closed(node, self.now());
        }
        self.connection_news();
    }

    /// Takes in a report of the node's session; one of an older session changes nothing.
    ///
    /// # Errors
    /// If the report can never be right. Nothing of it was taken in then.
    pub fn receive(
        &self,
        node: NodeId,
        number: SessionNumber,
        report: SessionReport,
    ) -> Result<(), Malformed> {
        let now = self.now();
        let heartbeat = report.heartbeat.map(from_wire::heartbeat).transpose()?;
        let replicas = report
            .replicas
            .into_iter()
            .map(from_wire::replica_report)
            .collect::<Result<Vec<_>, Malformed>>()?;
        let mut heat = from_wire::heat_reports(report.heat)?;
        if !heat.is_empty() {
            // What is kept of load is bounded by the zone's partitions.
            self.zone().read(|state| {
                heat.retain(|it| state.partition(PartitionId(it.partition_id)).is_some());
            });
        }
        let news = !replicas.is_empty() || report.full_report_end || !report.refusals.is_empty();
        {
            let mut view = self.view();
            if self.sessions.number(node) != Some(number) {
                return Ok(());
            }
            if let Some(heartbeat) = heartbeat {
                view.heartbeat(node, heartbeat, now);
            }
            for replica in replicas {
                view.report(node, replica, now);
            }
            if report.full_report_end {
                view.full_report_end(node);
            }
            self.take_in_heat(&mut view, node, heat, report.follower_load, now);
        }
        for refusal in report.refusals {
            ::metrics::counter!(metrics::ORDERS_REFUSED).increment(1);
            runtime::mark!("order: the leader heard that it was refused");
            tracing::info!(
                node = node.get(),
                partition = refusal.partition_id,
                message = refusal.message,
                "a node refused an order"
            );
            let message = format!("node {node}: {}", refusal.message);
            lock(&self.refusals).insert(PartitionId(refusal.partition_id), message);
        }
        if news {
            self.report_news();
        }
        Ok(())
    }

    /// Of replicas that the node has reported to be there, and in the session that it has now.
    fn take_in_heat(
        &self,
        view: &mut ZoneView,
        node: NodeId,
        reports: Vec<v1::HeatReport>,
        follower_load: Option<v1::FollowerLoad>,
        now: Duration,
    ) {
        if reports.is_empty() && follower_load.is_none() {
            return;
        }
        let session = view.node(node).and_then(|view| view.session);
        let Some(incarnation) = session.map(|session| session.incarnation) else { return };
        let mut heat = self.heat();
        if let Some(v1::FollowerLoad { interval_ms, apply_cpu_us }) = follower_load {
            heat.follower_load(node, incarnation, interval_ms, apply_cpu_us, now);
        }
        for report in reports {
            let (partition, replica) =
                (PartitionId(report.partition_id), ReplicaId(report.replica_id));
            if view.replica(partition, replica).is_none_or(|view| view.node != node) {
                continue;
            }
            let latest = from_wire::heat_report(&report);
            if heat.report(node, incarnation, partition, from_wire::load_report(report), now) {
                view.heat(node, partition, &latest);
            } else {
                runtime::mark!("heat: a report did not count");
            }
        }
    }

    /// The node is no longer part of the zone.
    pub fn forget_node(&self, node: NodeId) {
        self.view().forget_node(node, self.now());
        self.heat().forget_node(node, self.now());
        self.connection_news();
    }

    /// Nobody listens at the node's address.
    pub fn dial_refused(&self, node: NodeId) {
        self.view().dial_refused(node, self.now());
        self.connection_news();
    }

    pub fn dial_answered(&self, node: NodeId) {
        self.view().dial_answered(node);
    }

    /// The orders that nodes have refused since the last call.
    pub fn take_refusals(&self) -> BTreeMap<PartitionId, String> {
        std::mem::take(&mut lock(&self.refusals))
    }
}
