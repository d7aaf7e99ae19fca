//! All that is known of load.

use std::{collections::BTreeMap, time::Duration};

use planted::Bug;

use super::{
    HOTTEST_MAX, Rates,
    cell::{Cell, Sight, Slot},
    cells::Cells,
    hottest::{Hottest, Told},
    node::{Node, NodeLoad},
    summary::{Summary, SummaryEntry},
};
use crate::ids::{Incarnation, NodeId, PartitionId, ReplicaId, Term};

/// A key that takes much of its partition's load.
#[derive(Clone, Debug, PartialEq)]
pub struct HotKey {
    /// Its first 256 bytes.
    pub key_prefix: Vec<u8>,
    /// Of the partition's requests, 0 to 1: never too small, and too large by the error at most.
    pub share: f64,
    pub share_error: f64,
}

/// What a partition's leader reports. Mirrors `HeatReport` in `zone/v1/node.proto`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Who leads, and in which term: of two in one term, which Raft allows, the one with the greater id is
    /// the later one.
    pub term: Term,
    pub replica: ReplicaId,
    /// What the counts cover.
    pub interval_ms: u64,
    pub reads: u64,
    pub writes: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub request_cpu_us: u64,
    pub apply_cpu_us: u64,
    pub shed: u64,
    /// Requests that waited for others of their key, or were refused for these.
    pub throttled: u64,
    pub waited_us: u64,
    pub stored_bytes: u64,
    /// How much of the load would go to the left half, in thousandths, were it split at the leader's point; 0: no
    /// such point is known.
    pub split_left_permille: u16,
    pub hottest_keys: Vec<HotKey>,
}

/// Load on one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionLoad {
    /// Who served it last; none: nobody has said so to this leader.
    pub leader: Option<NodeId>,
    /// What its leader has to do for it.
    pub short: Rates,
    pub long: Rates,
    /// On one replica's disk.
    pub stored_bytes: f64,
    /// How many requests wait at the same time.
    pub waiting: f64,
    pub shed_per_second: f64,
    /// See [`LoadReport::split_left_permille`].
    pub split_left_permille: u16,
}

impl PartitionLoad {
    /// Processor time on all of its replicas together.
    pub fn cpu_cores_of_all(&self, replicas: u32) -> f64 {
        self.long.request_cpu_cores + self.long.apply_cpu_cores * f64::from(replicas)
    }
}

/// For so long a load counts that a former leader has written down: nodes tell theirs twice a minute at least.
const INHERITED_FOR: Duration = Duration::from_secs(30);

/// Less than so many requests per second are no heat: an average that forgets never comes to nothing.
const HOT_MIN: f64 = 0.01;

/// No partition is asked for more often, in requests or bytes per second. A sum that has taken in a figure
/// many orders above the others has lost them for good, also when the figure is gone again.
const REQUESTS_PER_SECOND_MAX: f64 = 1e8;
const BYTES_PER_SECOND_MAX: f64 = 1e13;
const CORES_MAX: f64 = 1e5;

/// Something has to be left for the right half.
const SPLIT_LEFT_PERMILLE_MAX: u16 = 999;

/// Longer intervals say too little of when the load was.
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// Load by partition and by node.
#[derive(Clone, Debug, Default)]
pub struct ZoneHeat {
    slots: BTreeMap<NodeId, Slot>,
    /// By slot, from 1.
    nodes: Vec<Node>,
    cells: Cells,
    hottest: Hottest,
    /// What a former leader has written down of partitions that nobody has reported yet.
    inherited: BTreeMap<PartitionId, Rates>,
    began_at: Duration,
}

/// Where it begins.
impl ZoneHeat {
    /// With what the leader before has written down. Nodes' sums begin with what nodes say themselves.
    pub fn resume(summary: Option<&Summary>, now: Duration) -> Self {
        let entries = summary.map(Summary::entries).unwrap_or_default();
        let inherited = entries.iter().map(|entry| (entry.partition, entry.rates())).collect();
        let mut heat = Self { inherited, began_at: now, ..Self::default() };
        let mut hottest = Hottest::default();
        for partition in heat.inherited.keys() {
            hottest.note(*partition, Told::default(), |it| heat.weight(it, now));
        }
        heat.hottest = hottest;
        heat
    }
}

/// What nodes say.
impl ZoneHeat {
    pub fn session_opened(&mut self, node: NodeId, incarnation: Incarnation, now: Duration) {
        let Some(slot) = self.slot_or_new(node) else { return };
        if let Some(node) = self.node_mut(slot)
            && incarnation >= node.incarnation
        {
            node.open(incarnation, now);
        }
    }

    /// What the node has reported ages from now on.
    pub fn session_closed(&mut self, node: NodeId, now: Duration) {
        if let Some(slot) = self.slots.get(&node).copied()
            && let Some(node) = self.node_mut(slot)
        {
            node.close(now);
        }
    }

    /// The node is no longer part of the zone.
    pub fn forget_node(&mut self, node: NodeId, now: Duration) {
        self.session_closed(node, now);
        self.slots.remove(&node);
    }

    /// What those replicas of a node cost that do not lead. Nothing without a session of that incarnation.
    pub fn follower_load(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        interval_ms: u64,
        apply_cpu_us: u64,
        now: Duration,
    ) {
        let Some(slot) = self.heard(node, incarnation) else { return };
        let cores = per_second(apply_cpu_us, interval_ms) / 1e6;
        if interval_ms > 0
            && cores <= CORES_MAX
            && let Some(node) = self.node_mut(slot)
        {
            node.follow(cores, now);
        }
    }

    /// Takes in what a partition's leader says of its load; whether it counts. It does not if a newer leader
    /// was heard of, if another node has said that it has this replica, if the node has no session or was
    /// started again since, if it covers no time, and if nothing can be as busy as it says.
    pub fn report(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        partition: PartitionId,
        report: LoadReport,
        now: Duration,
    ) -> bool {
        let Some(slot) = self.heard(node, incarnation) else { return false };
        let before = self.cells.get(partition).copied();
        let leadership = (report.term, report.replica);
        let is_stale = before.is_some_and(|cell| {
            let known = (cell.term, cell.replica);
            leadership < known || (leadership == known && slot != cell.leader)
        });
        if is_stale || report.interval_ms == 0 || !report.is_plausible() {
            return false;
        }
        let rates = report.rates();
        let sight = match &before {
            Some(cell) => {
                let lasted_until = self.lasted_until(cell);
                let before = |at| Some(cell.sight_at(lasted_until, at));
                Self::continued(before, cell.at(), &rates, report.interval(), now)
            }
            None => {
                let before = |at| self.inherited_sight(partition, at);
                Self::continued(before, self.began_at, &rates, report.interval(), now)
            }
        };
        let session = self.node(slot).map_or(0, |node| node.session);
        let interval_ms = report.interval_ms;
        #[allow(clippy::cast_precision_loss)]
        let stored_bytes = report.stored_bytes as f64;
        let cell = Cell::new(leadership, slot, session, now, &sight).with_levels(
            stored_bytes,
            per_second(report.waited_us, interval_ms) / 1e6,
            per_second(report.shed, interval_ms),
        );
        let cell = cell.with_split_point(report.split_left_permille.min(SPLIT_LEFT_PERMILLE_MAX));

        if let Some(before) = &before {
            let was = self.sight_in_sums(before, now);
            if before.leader == slot {
                self.change(slot, was, Some((cell.sight(), cell.shed_per_second)), now);
            } else {
                if !planted::is_planted(Bug::LoadCountedTwice) {
                    self.change(before.leader, was, None, now);
                }
                self.change(slot, None, Some((cell.sight(), cell.shed_per_second)), now);
            }
        } else {
            self.change(slot, None, Some((cell.sight(), cell.shed_per_second)), now);
        }
        self.cells.insert(partition, cell);
        self.inherited.remove(&partition);
        let mut hottest = std::mem::take(&mut self.hottest);
        let told = Told {
            keys: report.hottest_keys,
            throttled_per_second: per_second(report.throttled, interval_ms),
        };
        hottest.note(partition, told, |it| self.weight(it, now));
        self.hottest = hottest;
        true
    }

    /// As it was `before`, which is known from `known_at` on, until the report's interval began, and then as the
    /// report says. Where nothing was known, what it is now is the best guess of what it was.
    fn continued(
        before: impl Fn(Duration) -> Option<Sight>,
        known_at: Duration,
        rates: &Rates,
        interval: Duration,
        now: Duration,
    ) -> Sight {
        let interval = interval.min(now.saturating_sub(known_at));
        match before(now.saturating_sub(interval)) {
            Some(sight) => Sight { input: rates.to_array(), ..sight }.after(interval),
            None => Sight::steady(rates),
        }
    }

    /// What of a cell is part of its leader's sums now, if it is one.
    fn sight_in_sums(&self, cell: &Cell, now: Duration) -> Option<(Sight, f32)> {
        let node = self.node(cell.leader)?;
        let sight = cell.sight_at(node.lasted_in(cell.session), now);
        (node.session == cell.session).then_some((sight, cell.shed_per_second))
    }

    fn change(
        &mut self,
        slot: Slot,
        before: Option<(Sight, f32)>,
        after: Option<(Sight, f32)>,
        now: Duration,
    ) {
        if before.is_none() && after.is_none() {
            return;
        }
        if let Some(node) = self.node_mut(slot) {
            node.change(before, after, now);
        }
    }
}

/// What can be asked.
impl ZoneHeat {
    /// Load on a node; none if it was never heard of.
    pub fn of_node(&self, node: NodeId, now: Duration) -> Option<NodeLoad> {
        self.node(*self.slots.get(&node)?).map(|node| node.load(now))
    }

    /// Load on a partition; none if nobody has reported it to this leader, nor the one before it as hot.
    pub fn of_partition(&self, partition: PartitionId, now: Duration) -> Option<PartitionLoad> {
        let sight = self.sight(partition, now)?;
        let cell = self.cells.get(partition);
        let level = |of: fn(&Cell) -> f32| cell.map_or(0.0, |cell| f64::from(of(cell)));
        Some(PartitionLoad {
            leader: cell.and_then(|cell| self.node(cell.leader)).map(|leader| leader.id),
            short: sight.short(),
            long: sight.long(),
            stored_bytes: level(|cell| cell.stored_bytes),
            waiting: level(|cell| cell.waiting),
            shed_per_second: level(|cell| cell.shed_per_second),
            split_left_permille: cell.map_or(0, |cell| cell.split_left_permille),
        })
    }

    /// Adds the long averages of some partitions, from `from` on, to those gathered. From where on there are
    /// more; none: these were the last.
    pub fn gather(
        &self,
        from: PartitionId,
        count: usize,
        now: Duration,
        gathered: &mut Vec<SummaryEntry>,
    ) -> Option<PartitionId> {
        let (cells, next) = self.cells.some_from(from, count);
        gathered.extend(cells.map(|(partition, cell)| {
            SummaryEntry::new(partition, &cell.sight_at(self.lasted_until(cell), now).long())
        }));
        next
    }

    /// Long averages of partitions that were hot under a former leader, and that nobody has reported since.
    pub fn unreported(&self, now: Duration) -> impl Iterator<Item = SummaryEntry> {
        self.inherited.keys().filter_map(move |partition| {
            let sight = self.inherited_sight(*partition, now)?;
            Some(SummaryEntry::new(*partition, &sight.long()))
        })
    }

    /// The hottest partitions by their short averages, the hottest first; at most [`HOTTEST_MAX`]. One whose
    /// load does not change may be missing for half a minute after others were hotter.
    pub fn hottest(&self, count: usize, now: Duration) -> Vec<(PartitionId, PartitionLoad)> {
        let ranked = self.hottest.ranked(count.min(HOTTEST_MAX), |it| self.weight(it, now));
        let loads = ranked.into_iter();
        let loads = loads.filter_map(|it| Some((it, self.of_partition(it, now)?)));
        loads.filter(|(_, load)| load.short.weight() >= HOT_MIN).collect()
    }

    /// The hottest keys of a partition, as last told; empty unless it is among the hottest.
    pub fn hottest_keys(&self, partition: PartitionId) -> &[HotKey] {
        self.hottest.keys(partition)
    }

    /// How many requests waited for others of their key or were refused for these, as last told; none unless the
    /// partition is among the hottest.
    pub fn throttled_per_second(&self, partition: PartitionId) -> f64 {
        self.hottest.throttled_per_second(partition)
    }

    /// How many partitions were reported.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn is_empty(&self) -> bool {
        self.cells.len() == 0
    }

    /// Neither has anybody reported a partition, nor has a former leader written one down.
    pub fn knows_nothing(&self) -> bool {
        self.is_empty() && self.inherited.is_empty()
    }

    /// Bytes that partitions take here.
    pub fn cell_bytes(&self) -> usize {
        self.cells.page_bytes()
    }

    fn weight(&self, partition: PartitionId, now: Duration) -> f64 {
        self.sight(partition, now).map_or(0.0, |sight| sight.short().weight())
    }

    fn sight(&self, partition: PartitionId, now: Duration) -> Option<Sight> {
        match self.cells.get(partition) {
            Some(cell) => Some(cell.sight_at(self.lasted_until(cell), now)),
            None => self.inherited_sight(partition, now),
        }
    }

    fn inherited_sight(&self, partition: PartitionId, now: Duration) -> Option<Sight> {
        let sight = Sight::steady(self.inherited.get(&partition)?);
        let silent = now.saturating_sub(self.began_at.saturating_add(INHERITED_FOR));
        Some(if silent.is_zero() { sight } else { sight.without_input().after(silent) })
    }
}

/// Nodes by slot.
impl ZoneHeat {
    fn node(&self, slot: Slot) -> Option<&Node> {
        self.nodes.get(index(slot))
    }

    fn node_mut(&mut self, slot: Slot) -> Option<&mut Node> {
        self.nodes.get_mut(index(slot))
    }

    fn slot_or_new(&mut self, node: NodeId) -> Option<Slot> {
        if let Some(slot) = self.slots.get(&node) {
            return Some(*slot);
        }
        let slot = u32::try_from(self.nodes.len() + 1).ok().and_then(Slot::new)?;
        self.nodes.push(Node::new(node));
        self.slots.insert(node, slot);
        Some(slot)
    }

    /// The node's slot, if it has a session of this incarnation.
    fn heard(&self, node: NodeId, incarnation: Incarnation) -> Option<Slot> {
        let slot = *self.slots.get(&node)?;
        let node = self.node(slot)?;
        (node.is_open() && node.incarnation == incarnation).then_some(slot)
    }

    /// Until when the load of a cell counts as it was reported: as long as the session by which it was.
    fn lasted_until(&self, cell: &Cell) -> Duration {
        self.node(cell.leader).map_or(Duration::ZERO, |node| node.lasted_in(cell.session))
    }
}

fn index(slot: Slot) -> usize {
    usize::try_from(slot.get() - 1).unwrap_or(usize::MAX)
}

impl LoadReport {
    fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms).min(INTERVAL_MAX)
    }

    /// Whether a machine could have done that.
    fn is_plausible(&self) -> bool {
        let rates = self.rates();
        let shed_per_second = per_second(self.shed, self.interval_ms);
        let throttled_per_second = per_second(self.throttled, self.interval_ms);
        let waiting = per_second(self.waited_us, self.interval_ms) / 1e6;
        let requests = [
            rates.reads_per_second,
            rates.writes_per_second,
            shed_per_second,
            throttled_per_second,
            waiting,
        ];
        requests.iter().all(|rate| *rate <= REQUESTS_PER_SECOND_MAX)
            && rates.bytes_per_second <= BYTES_PER_SECOND_MAX
            && rates.request_cpu_cores.max(rates.apply_cpu_cores) <= CORES_MAX
    }

    fn rates(&self) -> Rates {
        let rate = |count| per_second(count, self.interval_ms);
        Rates {
            reads_per_second: rate(self.reads),
            writes_per_second: rate(self.writes),
            bytes_per_second: rate(self.bytes_read.saturating_add(self.bytes_written)),
            request_cpu_cores: rate(self.request_cpu_us) / 1e6,
            apply_cpu_cores: rate(self.apply_cpu_us) / 1e6,
        }
    }
}

fn per_second(count: u64, interval_ms: u64) -> f64 {
    // Counts beyond 2^53 lose precision, which a rate does not need.
    #[allow(clippy::cast_precision_loss)]
    let (count, interval_ms) = (count as f64, interval_ms.max(1) as f64);
    count * 1_000.0 / interval_ms
}
