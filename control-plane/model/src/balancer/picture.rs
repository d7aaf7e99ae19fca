//! The zone as the planner sees it, kept up to date a few partitions at a time.
//!
//! A partition's place in the picture is the sequence in which it was first seen; nodes, too, keep their places,
//! also those that are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use planted::Bug;

use crate::{
    balance::{
        AMOUNT_MAX, Amounts, Change, DEPARTURES_MAX, DIMENSIONS, NO_LEADER, NodeView, PROCESSOR,
        PartitionView, Planner, REPLICAS_MAX, Running, STORED_BYTES,
    },
    heat::PartitionLoad,
    ids::{NodeId, PartitionId, ZoneTime},
    node::{Administrative, Node},
    operation::{OperationKind, ReplicaChange},
    partition::Partition,
    state::ZoneState,
};

use super::{Sight, departures::Departures, own_time::OwnTime};

/// A partition that sheds load wants more than it gets, though nobody knows how much more: at most so many times.
const SHED_FACTOR_MAX: f64 = 10.0;

#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    planner: Planner,
    nodes: BTreeMap<NodeId, u32>,
    domains: BTreeMap<String, u32>,
    partitions: BTreeMap<PartitionId, u32>,
    /// Partitions with a change under way when they were looked at: they are looked at each time.
    busy: BTreeSet<PartitionId>,
    /// The partition that was looked at last; none: the walk is over.
    walk: Option<PartitionId>,
    walks: u64,
    has_begun: bool,
    time: OwnTime,
}

impl Picture {
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    /// See [`OwnTime`].
    pub fn time(&self) -> ZoneTime {
        self.time.now()
    }

    pub fn own_time(&self) -> &OwnTime {
        &self.time
    }

    /// Whether every partition has been looked at.
    pub fn is_complete(&self) -> bool {
        self.walks > 0
    }

    /// Whether every partition has been looked at since the walk began.
    pub fn is_fresh(&self) -> bool {
        self.is_complete() && self.walk.is_none()
    }

    /// All shall be looked at once more.
    pub fn begin_walk(&mut self) {
        self.walk.get_or_insert_default();
    }

    /// What is refused is left as it was: it can only be an amount beyond all reason.
    pub fn apply(&mut self, change: Change) {
        if let Err(error) = self.planner.apply(change) {
            debug_assert!(false, "the picture cannot be changed: {error}");
        }
    }

    /// Looks at all nodes, at all partitions with a change under way, and at so many others.
    pub fn look(&mut self, sight: &Sight<'_>, departures: &Departures, partitions_max: usize) {
        for (id, node) in sight.state.nodes().iter() {
            self.look_at_node(sight, *id, node);
        }
        self.forget_removed(sight.state);
        let running = sight.state.running_operations().filter_map(|(_, it)| it.partition());
        let mut batch: BTreeSet<PartitionId> = std::mem::take(&mut self.busy);
        batch.extend(running);
        if !std::mem::replace(&mut self.has_begun, true) {
            self.begin_walk();
        }
        if let Some(after) = self.walk {
            let rest = sight.state.partitions().range((Excluded(after), Unbounded));
            let next: Vec<PartitionId> = rest.map(|(id, _)| *id).take(partitions_max).collect();
            self.walk = next.last().copied().filter(|_| next.len() == partitions_max);
            self.walks += u64::from(self.walk.is_none());
            batch.extend(next);
        }
        for id in batch {
            let Some(partition) = sight.state.partition(id) else { continue };
            if partition.change.is_some() {
                self.busy.insert(id);
            }
            if let Some(partition) = self.partition_now(sight, departures, id, partition) {
                let next = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
                let index = *self.partitions.entry(id).or_insert(next);
                self.apply(Change::Partition { index, partition });
            }
        }
    }

    /// Before each look, and before what has left where is put in terms of this time.
    pub fn pass_time(&mut self, sight: &Sight<'_>) {
        self.time.pass(sight.state.zone_time(), sight.now);
        self.apply(Change::Time { time: self.time() });
    }

    fn look_at_node(&mut self, sight: &Sight<'_>, id: NodeId, node: &Node) {
        let next = u32::try_from(self.domains.len()).unwrap_or(u32::MAX);
        let fault_domain = match self.domains.get(&node.fault_domain) {
            Some(known) => *known,
            None => *self.domains.entry(node.fault_domain.clone()).or_insert(next),
        };
        let is_there = node.is_eligible() && sight.view.is_connected(id);
        let is_replaceable = sight.state.is_replaceable(id);
        let mut capacity: Amounts = [0; DIMENSIONS];
        capacity[PROCESSOR] = u64::from(node.capacity.cores).saturating_mul(1_000_000);
        capacity[STORED_BYTES] = node.capacity.stored_bytes;
        let node = NodeView {
            id,
            fault_domain,
            capacity: capacity.map(|amount| amount.min(AMOUNT_MAX)),
            may_receive: is_there && !sight.view.is_disk_low(id),
            may_lead: is_there,
            is_leaving: node.administrative != Administrative::Active || is_replaceable,
            is_gone: is_replaceable,
        };
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let index = *self.nodes.entry(id).or_insert(next);
        if self.planner.nodes().get(index as usize) != Some(&node) {
            self.apply(Change::Node { index, node });
        }
    }

    /// Nodes that are no longer part of the zone keep their places, and take no part.
    fn forget_removed(&mut self, state: &ZoneState) {
        if self.nodes.len() == state.nodes().len() {
            return;
        }
        let removed = self.nodes.iter().filter(|(id, _)| state.node(**id).is_none());
        let gone: Vec<(NodeId, u32)> = removed.map(|(id, index)| (*id, *index)).collect();
        for (id, index) in gone {
            let node = NodeView { id, is_leaving: true, is_gone: true, ..NodeView::default() };
            if self.planner.nodes().get(index as usize) != Some(&node) {
                self.apply(Change::Node { index, node });
            }
        }
    }

    /// The place of a node.
    pub fn place(&self, node: NodeId) -> Option<u32> {
        self.nodes.get(&node).copied()
    }

    /// The place of a partition.
    pub fn place_of(&self, partition: PartitionId) -> Option<u32> {
        self.partitions.get(&partition).copied()
    }

    /// A partition as it was looked at last.
    pub fn partition(&self, id: PartitionId) -> Option<&PartitionView> {
        self.planner.partitions().get(*self.partitions.get(&id)? as usize)
    }

    /// The partition as it is now; none if it cannot be planned for: it has no place yet.
    pub fn partition_now(
        &self,
        sight: &Sight<'_>,
        departures: &Departures,
        id: PartitionId,
        partition: &Partition,
    ) -> Option<PartitionView> {
        let targets = &partition.targets;
        if targets.is_empty() || targets.len() > REPLICAS_MAX {
            return None;
        }
        let mut nodes = [0; REPLICAS_MAX];
        for (place, target) in nodes.iter_mut().zip(targets) {
            *place = self.place(target.node)?;
        }
        let leader = sight.view.leader(id).map(|leader| leader.replica);
        let committed = partition.leader.map(|leader| leader.replica);
        let (running, heir) = self.running(sight, partition);
        let leads = heir.or(leader.map(|replica| replica.id));
        let leads = targets.iter().position(|target| Some(target.id) == leads);
        // What cannot be changed now is left alone.
        let is_free = partition.change.is_none()
            && partition.is_settled()
            && leader.is_some()
            && leader.map(|replica| replica.id) == committed;
        let running = if is_free || running != Running::Nothing { running } else { Running::Light };
        let left = departures.of_partition(id);
        let load = sight.heat.of_partition(id, sight.now);
        let stored_bytes = sight.view.stored_bytes_of(id);
        let (mut leader_heat, mut follower_heat) = amounts(load.as_ref(), stored_bytes);
        if planted::is_planted(Bug::StaleHeat)
            && let Some(known) = self.partition(id)
        {
            (leader_heat, follower_heat) = (known.leader_heat, known.follower_heat);
        }
        Some(PartitionView {
            id,
            nodes,
            replica_count: u8::try_from(targets.len()).ok()?,
            replicas_wanted: u8::try_from(sight.state.replication_factor()).unwrap_or(u8::MAX),
            leader: leads.and_then(|place| u8::try_from(place).ok()).unwrap_or(NO_LEADER),
            running,
            split_left_permille: load
                .as_ref()
                .filter(|_| departures.may_be_split(id, self.time()))
                .map_or(0, |load| load.split_left_permille),
            hottest_key_permille: hottest_key_permille(sight, id),
            leader_heat,
            follower_heat,
            noise_permille: load.as_ref().map_or(0, noise_permille),
            cooldown_until: departures.cooldown_until(id),
            departures: left
                .iter()
                .take(DEPARTURES_MAX)
                .rev()
                .filter_map(|left| left.departure(|node| self.place(node)))
                .collect(),
        })
    }

    /// What is under way for a partition, and who will lead it by that, if that is known.
    fn running(
        &self,
        sight: &Sight<'_>,
        partition: &Partition,
    ) -> (Running, Option<crate::ids::ReplicaId>) {
        let operation = partition.change.and_then(|id| sight.state.operation(id));
        let Some(operation) = operation else { return (Running::Nothing, None) };
        match &operation.kind {
            OperationKind::TransferLeader { to_replica, .. } => (Running::Light, Some(*to_replica)),
            OperationKind::Repair(change) | OperationKind::MoveReplica(change) => {
                let led = change.remove.is_some()
                    && partition.leader.map(|leader| leader.replica)
                        == change.remove.map(|removed| removed.id);
                let heir = change.add.filter(|_| led).map(|added| added.id);
                (self.copying(partition, change).unwrap_or(Running::Light), heir)
            }
            OperationKind::Takeover { .. }
            | OperationKind::Split(_)
            | OperationKind::Drain { .. } => (Running::Light, None),
        }
    }

    fn copying(&self, partition: &Partition, change: &ReplicaChange) -> Option<Running> {
        let to = change.add?.node;
        let leader = partition.leader.map(|leader| leader.node);
        let from = change.remove.map(|removed| removed.node).or(leader)?;
        Some(Running::Move { from: self.place(from)?, to: self.place(to)? })
    }
}

/// What the leader bears, and what each follower does.
fn amounts(load: Option<&PartitionLoad>, stored_bytes: u64) -> (Amounts, Amounts) {
    let (mut leader, mut follower): (Amounts, Amounts) = ([0; DIMENSIONS], [0; DIMENSIONS]);
    leader[STORED_BYTES] = stored_bytes.min(AMOUNT_MAX);
    follower[STORED_BYTES] = leader[STORED_BYTES];
    let Some(load) = load else { return (leader, follower) };
    let rates = &load.short;
    let served = rates.reads_per_second + rates.writes_per_second;
    // What is turned away at the door is wanted all the same.
    let wanted = if served > 0.0 { 1.0 + load.shed_per_second / served } else { 1.0 };
    let wanted = wanted.min(SHED_FACTOR_MAX);
    let apply_us = rates.apply_cpu_cores * 1e6;
    leader[0] = amount(rates.reads_per_second * wanted);
    leader[1] = amount(rates.writes_per_second * wanted);
    leader[2] = amount(rates.bytes_per_second * wanted);
    leader[PROCESSOR] = amount((rates.request_cpu_cores * 1e6 + apply_us) * wanted);
    follower[1] = amount(rates.writes_per_second * wanted);
    follower[PROCESSOR] = amount(apply_us * wanted);
    (leader, follower)
}

/// By how much a short average of so few requests may be off, in thousandths. As much is known of a rate as of the
/// requests in twice the average's mean age (an exponential average's variance is half of one report's over that),
/// and what a request costs is known from one in sixteen of them, which are not all alike.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn noise_permille(load: &PartitionLoad) -> u16 {
    const SECONDS: f64 = 2.0 * 14.4;
    const SAMPLING: f64 = 2.0;
    let requests = (load.short.reads_per_second + load.short.writes_per_second) * SECONDS;
    let part = SAMPLING / requests.max(1.0).sqrt();
    (part.min(1.0) * 1_000.0) as u16
}

/// To the nearest whole; beyond all bounds is the bound.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn amount(rate: f64) -> u64 {
    ((rate + 0.5) as u64).min(AMOUNT_MAX)
}

/// How much of a partition's requests are for its hottest key, for certain; in thousandths.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn hottest_key_permille(sight: &Sight<'_>, id: PartitionId) -> u16 {
    let keys = sight.heat.hottest_keys(id).iter();
    let shares = keys.map(|key| (key.share - key.share_error).clamp(0.0, 1.0));
    (shares.fold(0.0, f64::max) * 1_000.0) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heat::Rates;

    fn load(reads_per_second: f64, shed_per_second: f64) -> PartitionLoad {
        let short = Rates {
            reads_per_second,
            writes_per_second: 20.0,
            bytes_per_second: 5_000.0,
            request_cpu_cores: 0.1,
            apply_cpu_cores: 0.02,
        };
        PartitionLoad {
            leader: None,
            long: short,
            short,
            stored_bytes: 0.0,
            waiting: 0.0,
            shed_per_second,
            split_left_permille: 0,
        }
    }

    #[test]
    fn followers_bear_what_is_applied_and_all_bear_what_is_stored() {
        let (leader, follower) = amounts(Some(&load(80.0, 0.0)), 7);
        assert_eq!(leader, [80, 20, 5_000, 120_000, 7]);
        assert_eq!(follower, [0, 20, 0, 20_000, 7]);
        assert_eq!(amounts(None, 7), ([0, 0, 0, 0, 7], [0, 0, 0, 0, 7]));
    }

    #[test]
    fn what_is_turned_away_is_wanted_as_well_within_bounds() {
        let (leader, follower) = amounts(Some(&load(80.0, 100.0)), 0);
        assert_eq!((leader[0], leader[PROCESSOR], follower[PROCESSOR]), (160, 240_000, 40_000));
        let (leader, _) = amounts(Some(&load(80.0, 1e9)), 0);
        assert_eq!(leader[PROCESSOR], 1_200_000, "ten times at most");
        let none = PartitionLoad { short: Rates::default(), ..load(0.0, 50.0) };
        assert_eq!(amounts(Some(&none), 0).0, [0; DIMENSIONS]);
        let absurd = load(f64::MAX, 0.0);
        assert_eq!(amounts(Some(&absurd), u64::MAX).0[0], AMOUNT_MAX);
    }

    #[test]
    fn of_few_requests_little_is_known() {
        assert_eq!(noise_permille(&load(0.0, 0.0)), 83);
        assert_eq!(noise_permille(&load(9_980.0, 0.0)), 3);
        let none = PartitionLoad { short: Rates::default(), ..load(0.0, 0.0) };
        assert_eq!(noise_permille(&none), 1_000);
    }
}
