//! What the leader's sessions know now. Never replicated, and never mixed with intent: a new leader
//! starts with an empty view, and acts on a partition as soon as that partition's nodes have reported.
//!
//! All moments are durations since the leader's own monotonic origin.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    accrual::Arrivals,
    group_view::{GroupSight, GroupView},
    groups::Groups,
    health::Health,
    ids::{Incarnation, LogPosition, NodeId, PartitionId, RangeEpoch, ReplicaId, Term},
    key_range::KeyRange,
    partition::{Membership, Replica},
    partition_set::PartitionSet,
    state::ZoneState,
};

/// The leader's present view of all nodes and groups.
#[derive(Clone, Debug, Default)]
pub struct ZoneView {
    /// When the leader began to look.
    started_at: Duration,
    nodes: BTreeMap<NodeId, NodeView>,
    groups: Groups,
    leaderless: PartitionSet,
    touched: PartitionSet,
    /// Nodes whose report has become complete: what it lacks is news too.
    completed: BTreeSet<NodeId>,
    /// Ranges that a replica on the node had, and has no more.
    moved_on: Vec<(NodeId, KeyRange)>,
    /// Replicas that were stopped by an error of their own.
    failed: BTreeSet<(PartitionId, ReplicaId)>,
    /// Partitions with a replica that does not follow, as a leader says.
    lagging: PartitionSet,
    /// Nodes whose session has begun, become complete, or ended.
    turned: BTreeSet<NodeId>,
    /// When some partition's confirmed leader last changed.
    leaders_changed_at: Duration,
}

/// One node, as its session shows it.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    pub session: Option<Session>,
    /// Of any session of this leader.
    pub last_heartbeat_at: Option<Duration>,
    /// When its last session broke; none while there is one.
    pub session_broken_at: Option<Duration>,
    /// A dial was refused since the session broke: its process is gone.
    pub dial_refused_at: Option<Duration>,
    pub heartbeat: Heartbeat,
    /// What its heartbeats said lately, in its present session.
    pub health: Health,
    /// How its heartbeats come, in its present session.
    pub arrivals: Arrivals,
    replicas: BTreeSet<(PartitionId, ReplicaId)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub incarnation: Incarnation,
    pub opened_at: Duration,
    /// All of the node's replicas have been reported since.
    pub complete: bool,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    pub sequence: u64,
    pub runtime_lag_ms: u64,
    pub disk_free_bytes: u64,
    /// No client writes, no new replicas.
    pub disk_below_reserve: bool,
    /// How long the latest sync of its disk took, or has taken until now.
    pub disk_sync_ms: u64,
    /// Nodes that it shares a partition with and cannot reach.
    pub unreachable: Vec<NodeId>,
}

/// What a node reported of one replica.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaView {
    pub node: NodeId,
    /// The session in which it was reported goes on: kept here, so that nobody has to look for the node.
    pub(crate) is_current: bool,
    pub report: ReplicaReport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplicaPhase {
    Live,
    /// Only the tombstone is left.
    Destroyed,
    /// Stopped by an error of its own.
    Failed,
}

/// Mirrors `ReplicaReport` in `zone/v1/node.proto`. There are millions: what is of varying length is kept as
/// tightly as can be, and what the reports of one group have in common is kept once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaReport {
    pub partition: PartitionId,
    pub replica: ReplicaId,
    pub phase: ReplicaPhase,
    pub term: Term,
    /// The replica that this one believes to lead.
    pub leader: Option<ReplicaId>,
    /// It leads, confirmed by a quorum within the last second.
    pub leading: bool,
    pub last_log: Option<LogPosition>,
    pub applied: Option<LogPosition>,
    pub membership: Option<ReportedMembership>,
    pub range: Option<KeyRange>,
    pub range_epoch: RangeEpoch,
    /// With leadership: how far the other replicas have got.
    pub progress: Box<[Progress]>,
    pub stored_bytes: u64,
    pub keys: u64,
    pub message: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedMembership {
    pub membership: Arc<Membership>,
    pub committed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub replica: ReplicaId,
    pub matched: Option<LogPosition>,
    pub lag_entries: u64,
}

/// Load, as last reported.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub reads_per_second: f64,
    pub writes_per_second: f64,
    pub bytes_read_per_second: f64,
    pub bytes_written_per_second: f64,
}

/// Load on one replica since the report before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeatReport {
    pub interval_ms: u64,
    pub reads: u64,
    pub writes: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

/// A leader whose node has a session, and that said itself that a quorum confirms it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmedLeader {
    pub replica: Replica,
    pub term: Term,
}

/// What sessions report.
impl ZoneView {
    pub fn new(now: Duration) -> Self {
        Self { started_at: now, leaders_changed_at: now, ..Self::default() }
    }

    /// A node has opened a session. What it reported in an earlier one is forgotten: a full report
    /// follows.
    pub fn session_opened(&mut self, node: NodeId, incarnation: Incarnation, now: Duration) {
        self.forget_reports(node, now);
        self.turned.insert(node);
        let view = self.nodes.entry(node).or_default();
        view.session = Some(Session { incarnation, opened_at: now, complete: false });
        view.session_broken_at = None;
        view.dial_refused_at = None;
        view.health = Health::default();
        view.arrivals = Arrivals::default();
    }

    /// The node's session is gone. A newer session of the node must not be hit: call this only for the
    /// one that is current.
    pub fn session_closed(&mut self, node: NodeId, now: Duration) {
        let Some(view) = self.nodes.get_mut(&node) else { return };
        if view.session.take().is_none() {
            return;
        }
        self.turned.insert(node);
        view.session_broken_at = Some(now);
        for (partition, replica) in view.replicas.clone() {
            let group = self.groups.get_mut(partition);
            let reported = group.and_then(|group| group.replicas.get_mut(replica));
            if let Some(reported) = reported.filter(|reported| reported.node == node) {
                reported.is_current = false;
            }
            self.refresh(partition, now);
        }
    }

    /// A dial to a node without session was refused: nothing listens there any more.
    pub fn dial_refused(&mut self, node: NodeId, now: Duration) {
        let view = self.nodes.entry(node).or_default();
        if view.session.is_none() {
            view.dial_refused_at = Some(now);
        }
    }

    /// A dial to a node without session was answered: its process lives.
    pub fn dial_answered(&mut self, node: NodeId) {
        if let Some(view) = self.nodes.get_mut(&node) {
            view.dial_refused_at = None;
        }
    }

    pub fn heartbeat(&mut self, node: NodeId, heartbeat: Heartbeat, now: Duration) {
        let view = self.nodes.entry(node).or_default();
        view.last_heartbeat_at = Some(now);
        view.health.heard(heartbeat.disk_sync_ms, heartbeat.runtime_lag_ms, now);
        view.arrivals.heard(now);
        view.heartbeat = heartbeat;
    }

    /// A node's report of one of its replicas.
    pub fn report(&mut self, node: NodeId, mut report: ReplicaReport, now: Duration) {
        let (partition, replica) = (report.partition, report.replica);
        let from = self.nodes.entry(node).or_default();
        from.replicas.insert((partition, replica));
        let is_current = from.session.is_some();
        let group = self.groups.get_or_default(partition);
        if report.phase == ReplicaPhase::Failed {
            self.failed.insert((partition, replica));
        } else if !self.failed.is_empty() {
            self.failed.remove(&(partition, replica));
        }
        if report.leading {
            group.laggards.take_in(&report, now);
            if !group.laggards.is_empty() {
                self.lagging.insert(partition);
            } else if !self.lagging.is_empty() {
                self.lagging.remove(partition);
            }
        }
        // What was split off there, and did not come with the log, waits for the order that makes it.
        if let Some(ReplicaView { report: before, .. }) = group.replicas.get(replica)
            && let Some(range) = &before.range
            && before.phase == ReplicaPhase::Live
            && (before.range_epoch < report.range_epoch || report.phase != ReplicaPhase::Live)
        {
            self.moved_on.push((node, range.clone()));
        }
        group.replicas.share(&mut report);
        group.replicas.insert(ReplicaView { node, is_current, report });
        self.touched.insert(partition);
        let leader = GroupSight::new(Some(&*group)).leader();
        if group.turn(leader, now) {
            self.leaders_changed_at = now;
        }
        note_leaderless(&mut self.leaderless, partition, group);
    }

    /// The replicas reported since the session was opened are all that the node has.
    pub fn full_report_end(&mut self, node: NodeId) {
        let Some(view) = self.nodes.get_mut(&node) else { return };
        if let Some(session) = &mut view.session {
            session.complete = true;
        }
        self.completed.insert(node);
        self.turned.insert(node);
    }

    /// Load on a partition, as its leader reports it: what another one has reported before counts no more.
    pub fn heat(&mut self, node: NodeId, partition: PartitionId, heat: &HeatReport) {
        if let Some(group) = self.groups.get_mut(partition)
            && let Some(rates) = Rates::of(heat)
        {
            group.load = Some((node, rates));
        }
    }

    /// The node is no longer part of the zone.
    pub fn forget_node(&mut self, node: NodeId, now: Duration) {
        self.forget_reports(node, now);
        self.turned.insert(node);
        self.nodes.remove(&node);
    }

    fn forget_reports(&mut self, node: NodeId, now: Duration) {
        let Some(view) = self.nodes.get_mut(&node) else { return };
        for (partition, replica) in std::mem::take(&mut view.replicas) {
            if let Some(group) = self.groups.get_mut(partition)
                && group.replicas.get(replica).is_some_and(|view| view.node == node)
            {
                group.replicas.remove(replica);
                self.failed.remove(&(partition, replica));
            }
            self.refresh(partition, now);
        }
    }

    /// Keeps what is derived from a group's reports right.
    fn refresh(&mut self, partition: PartitionId, now: Duration) {
        self.touched.insert(partition);
        let Some(group) = self.groups.get_mut(partition) else { return };
        let leader = GroupSight::new(Some(&*group)).leader();
        if group.turn(leader, now) {
            self.leaders_changed_at = now;
        }
        note_leaderless(&mut self.leaderless, partition, group);
    }
}

/// Keeps the set of groups without a confirmed leader right.
fn note_leaderless(leaderless: &mut PartitionSet, partition: PartitionId, group: &GroupView) {
    if group.leaderless_since.is_some() {
        leaderless.insert(partition);
    } else if !leaderless.is_empty() {
        leaderless.remove(partition);
    }
}

impl NodeView {
    /// How unlikely it is that the node's silence still ends in a heartbeat (φ); none as long as too little
    /// is known of how they come.
    pub fn phi(&self, now: Duration) -> Option<f64> {
        let silence = now.saturating_sub(self.last_heartbeat_at?);
        Some(self.arrivals.rhythm()?.phi(silence))
    }
}

/// What can be asked.
impl ZoneView {
    pub fn started_at(&self) -> Duration {
        self.started_at
    }

    pub fn node(&self, node: NodeId) -> Option<&NodeView> {
        self.nodes.get(&node)
    }

    /// All nodes that were ever heard of, in the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeView)> {
        self.nodes.iter().map(|(id, view)| (*id, view))
    }

    pub fn is_connected(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|view| view.session.is_some())
    }

    /// The node has a session and has reported all of its replicas in it.
    pub fn is_complete(&self, node: NodeId) -> bool {
        self.nodes.get(&node).and_then(|view| view.session).is_some_and(|session| session.complete)
    }

    pub fn is_disk_low(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|view| view.heartbeat.disk_below_reserve)
    }

    /// A partition's group: for several questions about the same one.
    pub fn group(&self, partition: PartitionId) -> GroupSight<'_> {
        GroupSight::new(self.groups.get(partition))
    }

    /// What the replica's node says of it in its present session.
    pub fn replica(&self, partition: PartitionId, replica: ReplicaId) -> Option<&ReplicaView> {
        self.group(partition).replica(replica)
    }

    /// All that is reported of a partition in present sessions, in the order of replica ids.
    pub fn replicas(
        &self,
        partition: PartitionId,
    ) -> impl Iterator<Item = (ReplicaId, &ReplicaView)> {
        self.group(partition).replicas()
    }

    /// The newest of those that say that they lead.
    pub fn leader(&self, partition: PartitionId) -> Option<ConfirmedLeader> {
        self.group(partition).leader()
    }

    /// When some partition's confirmed leader last changed: while it does, balance waits.
    pub fn leaders_changed_at(&self) -> Duration {
        self.leaders_changed_at
    }

    /// See [`GroupSight::standing_still_since`].
    pub fn standing_still_since(
        &self,
        partition: PartitionId,
        replica: ReplicaId,
    ) -> Option<Duration> {
        self.group(partition).standing_still_since(replica)
    }

    /// Since when the partition has no confirmed leader; none if it has one.
    pub fn leaderless_since(&self, partition: PartitionId) -> Option<Duration> {
        match self.groups.get(partition) {
            Some(group) => group.leaderless_since,
            None => Some(self.started_at),
        }
    }

    /// Partitions that somebody reported, and that have no confirmed leader.
    pub fn leaderless(&self) -> &PartitionSet {
        &self.leaderless
    }

    /// Replicas that a node reported in its present session.
    pub fn replicas_on(&self, node: NodeId) -> impl Iterator<Item = (PartitionId, &ReplicaView)> {
        // Without a session nothing counts that it has reported.
        let connected = self.nodes.get(&node).filter(|view| view.session.is_some());
        let replicas = connected.into_iter().flat_map(|view| &view.replicas);
        replicas.filter_map(|(partition, replica)| {
            Some((*partition, self.replica(*partition, *replica)?))
        })
    }

    /// Bytes that partitions use on a node.
    pub fn stored_bytes_on(&self, node: NodeId) -> u64 {
        self.replicas_on(node)
            .fold(0, |sum, (_, view)| sum.saturating_add(view.report.stored_bytes))
    }

    /// Load on a node, of the partitions that it leads.
    pub fn rates_on(&self, node: NodeId) -> Rates {
        let loads = self.replicas_on(node).filter_map(|(partition, _)| {
            let (from, rates) = self.groups.get(partition)?.load?;
            (from == node).then_some(rates)
        });
        loads.fold(Rates::default(), |sum, rates| sum.plus(&rates))
    }

    /// Bytes of the partition's data, as its largest replica has it.
    pub fn stored_bytes_of(&self, partition: PartitionId) -> u64 {
        let bytes = self.replicas(partition).map(|(_, view)| view.report.stored_bytes);
        bytes.max().unwrap_or(0)
    }

    /// Load on a partition; none while whoever reported it has no session.
    pub fn rates_of(&self, partition: PartitionId) -> Rates {
        let load = self.groups.get(partition).and_then(|group| group.load);
        let load = load.filter(|(from, _)| self.is_connected(*from));
        load.map_or_else(Rates::default, |(_, rates)| rates)
    }

    /// Load on a partition as it was known last, also if whoever reported it is gone.
    pub fn last_rates_of(&self, partition: PartitionId) -> Rates {
        let load = self.groups.get(partition).and_then(|group| group.load);
        load.map_or_else(Rates::default, |(_, rates)| rates)
    }

    /// Replicas that were stopped by an error of their own, as their nodes say in present sessions.
    pub fn failed(&self) -> impl Iterator<Item = (PartitionId, ReplicaId)> {
        self.failed
            .iter()
            .copied()
            .filter(|(partition, replica)| self.replica(*partition, *replica).is_some())
    }

    /// Partitions of which the node has reported a replica, whether it has a session still or not.
    pub fn reported_by(&self, node: NodeId) -> impl Iterator<Item = PartitionId> {
        let replicas = self.nodes.get(&node).into_iter().flat_map(|view| &view.replicas);
        replicas.map(|(partition, _)| *partition)
    }

    /// Partitions with a replica that does not follow, as a leader says or has said.
    pub fn lagging(&self) -> &PartitionSet {
        &self.lagging
    }

    /// Nodes whose session has begun, become complete, or ended since the last call.
    pub fn take_turned(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.turned)
    }

    /// Partitions about which something new was reported since the last call: what a node has, and what it lacks, once
    /// its report is complete, or once a replica of it has moved on that they might have come with.
    pub fn take_touched(&mut self, state: &ZoneState) -> PartitionSet {
        let mut touched = std::mem::take(&mut self.touched);
        for node in std::mem::take(&mut self.completed) {
            touched.extend(state.partitions_on(node));
        }
        for (node, range) in std::mem::take(&mut self.moved_on) {
            let within = state.partitions_from(range.start());
            let within = within.take_while(|(_, it)| range.contains(it.range.start()));
            touched.extend(within.filter(|(_, it)| it.target_on(node).is_some()).map(|(id, _)| id));
        }
        touched
    }
}

impl Rates {
    fn plus(self, other: &Rates) -> Rates {
        Rates {
            reads_per_second: self.reads_per_second + other.reads_per_second,
            writes_per_second: self.writes_per_second + other.writes_per_second,
            bytes_read_per_second: self.bytes_read_per_second + other.bytes_read_per_second,
            bytes_written_per_second: self.bytes_written_per_second
                + other.bytes_written_per_second,
        }
    }

    /// A node reports again when its load has changed: until then it is as it was reported. Averages are
    /// kept in [`heat`](crate::heat).
    fn of(heat: &HeatReport) -> Option<Rates> {
        if heat.interval_ms == 0 {
            return None;
        }
        let seconds = Duration::from_millis(heat.interval_ms).as_secs_f64();
        // Counts beyond 2^53 lose precision, which a rate does not need.
        #[allow(clippy::cast_precision_loss)]
        let rate = |count: u64| count as f64 / seconds;
        Some(Rates {
            reads_per_second: rate(heat.reads),
            writes_per_second: rate(heat.writes),
            bytes_read_per_second: rate(heat.bytes_read),
            bytes_written_per_second: rate(heat.bytes_written),
        })
    }
}
