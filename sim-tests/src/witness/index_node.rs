//! What the disks of index nodes must say, each for itself and all together.
//!
//! - The groups' invariants, by [`Group`].
//! - G5: the fences that a node remembers only rise. A replica id belongs to one disk, and after its
//!   tombstone to none.
//! - G3: replicas that have applied the same have the same state; a write has one effect; data changes
//!   only together with the state that says so, in the replica's own lineage, within its range.
//! - G4: one configuration has distinct nodes; ranges do not overlap.

use std::collections::{BTreeMap, BTreeSet};

use index_node::engine::{
    command::{Operation, WriteId},
    keys,
    records::{self, GroupState, ReplicaRecord, StoredValue},
    transport::Fence,
    types::{KeyRange, Lineage, TypeConfig},
};
use openraft::EntryPayload;
use runtime::{
    raft::{
        FAMILY,
        inspect::{self, Position},
    },
    store::{Change, StoreError},
};

use super::{
    Effect, damaged,
    group::{Group, Reached, Replica},
    log::{self, LogEffect},
};
use crate::checks::Problem;

/// All index nodes of a zone.
#[derive(Default)]
pub(super) struct IndexNodes {
    disks: BTreeMap<String, Disk>,
    /// Hosts whose disks cannot be understood at the moment.
    blind: BTreeSet<String>,
    /// By partition.
    groups: BTreeMap<u64, Group>,
    /// By replica: its partition, and the disk that it is on or was on.
    replicas: BTreeMap<u64, (u64, Home)>,
    /// By partition and epoch: its range.
    ranges: BTreeMap<(u64, u64), KeyRange>,
    /// By partition and position: the state of who has applied that much.
    states: BTreeMap<(u64, Position), GroupState>,
    /// By partition and index: the write that the entry asks for.
    writes: BTreeMap<(u64, u64, Position), WriteId>,
    /// By write: the partition and version that it made. The halves of a split remember the same writes.
    effects: BTreeMap<WriteId, (u64, u64)>,
}

/// One disk: the host's name, and how often the host was wiped before.
type Home = (String, u64);

/// What one node has on its disk.
#[derive(Default)]
struct Disk {
    wipes: u64,
    replicas: BTreeSet<u64>,
    tombstones: BTreeSet<u64>,
    states: BTreeMap<u64, GroupState>,
    fence: Fence,
    orders: BTreeMap<Vec<u8>, Fence>,
}

impl IndexNodes {
    /// What the process finds on its disk when it starts.
    pub(super) fn boots(&mut self, host: &str, content: &[Change]) -> Result<(), Problem> {
        let before = self.disks.remove(host).unwrap_or_default();
        let wiped = content.is_empty() && !before.replicas.is_empty();
        let (mut disk, mut logs) = match Disk::read(content) {
            Ok(read) => read,
            Err(problem) => {
                for replica in before.replicas.clone() {
                    self.group_of(replica).into_iter().for_each(|group| group.unwatch(replica));
                }
                self.disks.insert(host.to_owned(), before);
                self.blind.insert(host.to_owned());
                self.expect_unseen();
                return Err(problem);
            }
        };
        disk.wipes = before.wipes + u64::from(wiped);
        if self.blind.remove(host) {
            self.expect_unseen();
            self.learn_replicas((host.to_owned(), disk.wipes), content)?;
        }
        for replica in before.replicas.difference(&disk.replicas) {
            self.group_of(*replica).into_iter().for_each(|group| group.forget(*replica));
        }
        for replica in &disk.replicas {
            let mut found = logs
                .get_mut(replica)
                .map_or_else(Replica::default, |log| std::mem::take(log.replica(*replica)));
            found.applied = disk.states.get(replica).and_then(applied);
            if let Some(group) = self.group_of(*replica) {
                group.boots(*replica, found)?;
            }
        }
        self.disks.insert(host.to_owned(), disk);
        Ok(())
    }

    /// Takes note of replicas that were made while nobody watched.
    fn learn_replicas(&mut self, home: Home, content: &[Change]) -> Result<(), Problem> {
        for change in content {
            let Change::Put { family, key, value } = change else { continue };
            let Some(replica) =
                id_behind(keys::REPLICA_PREFIX, key).filter(|_| *family == keys::META)
            else {
                continue;
            };
            let record: ReplicaRecord = records::decode(keys::META, value).map_err(damaged)?;
            self.replicas.entry(replica).or_insert_with(|| (record.partition.0, home.clone()));
        }
        Ok(())
    }

    fn expect_unseen(&mut self) {
        let expect = !self.blind.is_empty();
        self.groups.values_mut().for_each(|group| group.expect_unseen(expect));
    }

    pub(super) fn written(&mut self, host: &str, changes: &[Change]) -> Result<Effect, Problem> {
        let mut disk = self.disks.remove(host).unwrap_or_default();
        let effect = self.written_to(&mut disk, host, changes);
        self.disks.insert(host.to_owned(), disk);
        effect
    }

    pub(super) fn synced(&mut self, reached: Reached) {
        if let Some(group) = self.groups.get_mut(&reached.group) {
            group.synced(reached.replica, reached.position);
        }
    }

    fn written_to(
        &mut self,
        disk: &mut Disk,
        host: &str,
        changes: &[Change],
    ) -> Result<Effect, Problem> {
        self.records_change(disk, host, changes)?;
        let mut effects: BTreeMap<u64, (Option<Position>, LogEffect)> = BTreeMap::new();
        let mut states = Vec::new();
        for change in changes {
            let (family, key) = target(change);
            if family == keys::STATE
                && let Change::Put { value, .. } = change
                && let Some(replica) = inspect::group_of(key)
                && disk.replicas.contains(&replica)
            {
                let state = GroupState::decode(value).map_err(damaged)?;
                states.push((replica, state));
            }
            let Some(replica) = inspect::group_of(key)
                .filter(|replica| family == FAMILY && disk.replicas.contains(replica))
            else {
                continue;
            };
            let Some(group) = self.group_of(replica) else { continue };
            let before = group.replica(replica).last();
            let (_, effect) = effects.entry(replica).or_insert((before, LogEffect::default()));
            match change {
                Change::Put { value, .. } => {
                    let (_, record) = inspect::decode::<TypeConfig>(key, value).map_err(damaged)?;
                    if let inspect::GroupRecord::Entry { position, .. } = record {
                        self.note_write(replica, position, key, value).map_err(damaged)?;
                    }
                    let group = self.group_of(replica).expect("it was there just now");
                    log::put(group, replica, record, effect)?;
                }
                Change::Delete { .. } => {
                    if let Some(index) = inspect::entry_index(key) {
                        log::delete(group, replica, index..index + 1, effect);
                    }
                }
                Change::DeleteRange { start, end, .. } => {
                    log::delete(group, replica, log::indexes(start, end), effect);
                }
            }
        }
        for (replica, state) in &states {
            if let Some(group) = self.group_of(*replica) {
                let before = group.replica(*replica).last();
                effects.entry(*replica).or_insert((before, LogEffect::default()));
            }
            self.state_changes(disk, *replica, state, &states)?;
            self.gives_away(disk, *replica, state, &states, changes)?;
        }
        self.data_changes(disk, changes, &states)?;
        disk.states.extend(states);

        let mut outcome = Effect::default();
        for (replica, (before, effect)) in effects {
            let Some((partition, _)) = self.replicas.get(&replica).cloned() else { continue };
            let Some(group) = self.group_of(replica) else { continue };
            log::finish(group, replica, &effect)?;
            outcome.must_be_synced |= effect.must_be_synced;
            let after = group.replica(replica).last().filter(|after| Some(*after) != before);
            outcome.reached.extend(after.map(|position| Reached {
                group: partition,
                replica,
                position,
            }));
        }
        Ok(outcome)
    }

    fn group_of(&mut self, replica: u64) -> Option<&mut Group> {
        let (partition, _) = self.replicas.get(&replica)?;
        let has_blind = !self.blind.is_empty();
        Some(self.groups.entry(*partition).or_insert_with(|| group(*partition, has_blind)))
    }

    /// Family `meta`: replicas, tombstones, fences.
    fn records_change(
        &mut self,
        disk: &mut Disk,
        host: &str,
        changes: &[Change],
    ) -> Result<(), Problem> {
        let home = (host.to_owned(), disk.wipes);
        for change in changes {
            let (family, key) = target(change);
            if family != keys::META {
                continue;
            }
            let removed = matches!(change, Change::Delete { .. } | Change::DeleteRange { .. });
            if removed && key.starts_with(keys::TOMBSTONE_PREFIX) {
                let sentence = format!("{host} forgot that it deleted a replica");
                return Err(Problem::new("G5", sentence));
            }
            if let Some(replica) = id_behind(keys::REPLICA_PREFIX, key) {
                if removed {
                    disk.replicas.remove(&replica);
                    disk.states.remove(&replica);
                    if let Some(group) = self.group_of(replica) {
                        group.forget(replica);
                    }
                    continue;
                }
                if disk.tombstones.contains(&replica) {
                    let sentence = format!("{host} makes replica {replica}, which it had deleted");
                    return Err(Problem::new("G5", sentence));
                }
                let Change::Put { value, .. } = change else { continue };
                let record: ReplicaRecord = records::decode(keys::META, value).map_err(damaged)?;
                let known = self
                    .replicas
                    .entry(replica)
                    .or_insert_with(|| (record.partition.0, home.clone()));
                if *known != (record.partition.0, home.clone()) {
                    let sentence = format!(
                        "replica {replica} of partition {} is made on {host}, but that id was of \
                         partition {} on {} (disk {})",
                        record.partition, known.0, known.1.0, known.1.1
                    );
                    return Err(Problem::new("G2", sentence));
                }
            }
            let (fence, orders) = (disk.fence, disk.orders.get(&key.to_vec()).copied());
            disk.put(change).map_err(damaged)?;
            let order = disk.orders.get(&key.to_vec()).copied();
            let revision = |fence: Fence| (fence.zone_generation, fence.revision);
            if disk.fence < fence || order.map(revision) < orders.map(revision) {
                let sentence =
                    format!("{host} accepted an order older than one that it had accepted");
                let details = format!("{fence:?} → {:?}; {orders:?} → {order:?}", disk.fence);
                return Err(Problem::new("G5", sentence).with_details(details));
            }
        }
        Ok(())
    }

    /// Remembers which write an entry asks for.
    fn note_write(
        &mut self,
        replica: u64,
        position: Position,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StoreError> {
        let Some((partition, _)) = self.replicas.get(&replica) else { return Ok(()) };
        let entry = inspect::entry::<TypeConfig>(key, value)?;
        if let EntryPayload::Normal(command) = entry.payload
            && let Operation::Write(write) = command.operation
        {
            self.writes.insert((*partition, position.index, position), write.write_id);
        }
        Ok(())
    }

    /// A replica has applied something, or a snapshot.
    fn state_changes(
        &mut self,
        disk: &Disk,
        replica: u64,
        state: &GroupState,
        batch: &[(u64, GroupState)],
    ) -> Result<(), Problem> {
        let Some((partition, _)) = self.replicas.get(&replica).cloned() else { return Ok(()) };
        let of = |sentence: String| format!("partition {partition}, replica {replica}: {sentence}");
        let has_blind = !self.blind.is_empty();
        let group = self.groups.entry(partition).or_insert_with(|| group(partition, has_blind));
        let membership = state.membership.membership();
        if let Some(log_id) = state.membership.log_id() {
            let position = Position::of::<TypeConfig>(log_id);
            group.knows_voters(position, membership.get_joint_config().clone());
        }
        for voters in membership.get_joint_config() {
            let nodes: BTreeSet<_> = voters
                .iter()
                .filter_map(|voter| membership.get_node(voter))
                .map(|node| node.node_id)
                .collect();
            if nodes.len() != voters.len() {
                let sentence = format!("its voters {voters:?} share nodes: {nodes:?}");
                return Err(Problem::new("G4", of(sentence)));
            }
        }
        if let Some(before) = disk.states.get(&replica)
            && before.time_ms > state.time_ms
        {
            let sentence =
                format!("its time went back, {} to {} ms", before.time_ms, state.time_ms);
            return Err(Problem::new("G3", of(sentence)));
        }
        // The halves of a split share their lineage: each has keys of its own there.
        let shares = |(other, it): (&u64, &GroupState)| {
            let it = batch.iter().find(|(id, _)| id == other).map_or(it, |(_, newer)| newer);
            *other != replica && it.lineage == state.lineage && may_overlap(it, state)
        };
        if disk.states.iter().any(shares) {
            let sentence =
                format!("it shares keys of lineage {} with another replica", state.lineage);
            return Err(Problem::new("G3", of(sentence)));
        }
        if let Some(applied) = applied(state) {
            group.applies(replica, applied)?;
            // Where the keys are is a replica's own affair, and so is when it cleans up.
            let shared = GroupState {
                lineage: Lineage::default(),
                outcomes_cleared_to_ms: 0,
                ..state.clone()
            };
            let known = self.states.entry((partition, applied)).or_insert_with(|| shared.clone());
            if *known != shared {
                let sentence = format!("its state after {applied} is not that of another replica");
                let details = format!("{shared:#?}\nand\n{known:#?}");
                return Err(Problem::new("G3", of(sentence)).with_details(details));
            }
        }
        let Some(range) = &state.range else { return Ok(()) };
        self.range_is(partition, state.range_epoch, range)
    }

    /// G2: keys that a replica gives away have a new owner in the same batch, or are deleted in it.
    fn gives_away(
        &self,
        disk: &Disk,
        replica: u64,
        state: &GroupState,
        batch: &[(u64, GroupState)],
        changes: &[Change],
    ) -> Result<(), Problem> {
        let Some(before) = disk.states.get(&replica) else { return Ok(()) };
        let (Some(was), Some(is)) = (&before.range, &state.range) else { return Ok(()) };
        if before.lineage != state.lineage || was == is {
            return Ok(());
        }
        let taken = batch.iter().any(|(other, it)| {
            let range = it.range.as_ref();
            *other != replica
                && it.lineage == state.lineage
                && range.is_some_and(|range| range.start == is.end && range.end == was.end)
        });
        let left = keys::data(state.lineage, &is.end);
        let deleted = changes.iter().any(|change| {
            matches!(change, Change::DeleteRange { family, start, .. }
                if *family == keys::DATA && *start == left)
        });
        if taken || deleted {
            return Ok(());
        }
        let sentence =
            format!("replica {replica} gave away {was:?} but for {is:?}, and nobody has got it");
        Err(Problem::new("G2", sentence))
    }

    fn range_is(&mut self, partition: u64, epoch: u64, range: &KeyRange) -> Result<(), Problem> {
        let known = self.ranges.entry((partition, epoch)).or_insert_with(|| range.clone());
        if known != range {
            let sentence = format!("partition {partition} has two ranges in epoch {epoch}");
            let details = format!("{known:?} and {range:?}");
            return Err(Problem::new("G4", sentence).with_details(details));
        }
        let is_newest =
            self.ranges.range((partition, epoch + 1)..=(partition, u64::MAX)).next().is_none();
        if !is_newest {
            // Who is behind has not applied the split yet.
            return Ok(());
        }
        let newest: BTreeMap<u64, &KeyRange> =
            self.ranges.iter().map(|((partition, _), range)| (*partition, range)).collect();
        for (other, theirs) in newest {
            let overlaps = (theirs.end.is_empty() || range.start < theirs.end)
                && (range.end.is_empty() || theirs.start < range.end);
            if other != partition && overlaps {
                let sentence = format!("partitions {partition} and {other} overlap");
                let details = format!("{range:?} and {theirs:?}");
                return Err(Problem::new("G4", sentence).with_details(details));
            }
        }
        Ok(())
    }

    /// Families `data` and `outcomes`.
    fn data_changes(
        &mut self,
        disk: &Disk,
        changes: &[Change],
        states: &[(u64, GroupState)],
    ) -> Result<(), Problem> {
        for (place, change) in changes.iter().enumerate() {
            let (family, key) = target(change);
            if ![keys::DATA, keys::OUTCOMES].contains(&family) {
                continue;
            }
            let Some(lineage) = keys::lineage_of(key) else { continue };
            let touched: Vec<u64> = disk
                .states
                .iter()
                .filter(|(_, state)| state.lineage == lineage && is_touched(state, change))
                .map(|(replica, _)| *replica)
                .collect();
            let Some(replica) = touched.first() else { continue };
            let has_changed = |replica: &u64| states.iter().any(|(changed, _)| changed == replica);
            // Old outcomes are cleared for all who share them, by one of them.
            let clears = family == keys::OUTCOMES && matches!(change, Change::DeleteRange { .. });
            let unchanged = touched.iter().find(|replica| !has_changed(replica));
            let is_alone = if clears { !touched.iter().any(has_changed) } else { true };
            if let Some(replica) = unchanged.filter(|_| is_alone) {
                let sentence =
                    format!("replica {replica}: its {} changed, but not its state", family.0);
                return Err(Problem::new("G3", sentence));
            }
            let Change::Put { value, .. } = change else { continue };
            let heirs: Vec<_> =
                states.iter().filter(|(_, state)| state.lineage == lineage).collect();
            if family != keys::DATA || heirs.is_empty() {
                continue;
            }
            // Who learns of a split from the log writes what comes before it, and clears the child's keys at once.
            let is_cleared = changes[place + 1..].iter().any(|later| match later {
                Change::DeleteRange { family: of, start, end } => {
                    *of == keys::DATA && start <= key && key < end
                }
                Change::Put { .. } | Change::Delete { .. } => false,
            });
            if is_cleared {
                continue;
            }
            let key = keys::without_lineage(key);
            // In the batch of a split the last writes before it may be the child's.
            let is_inside = |(_, state): &&(u64, GroupState)| {
                state.range.as_ref().is_some_and(|range| range.contains(&key))
            };
            if !heirs.iter().any(is_inside) {
                let sentence =
                    format!("replica {replica}: key {key:?} was written out of its range");
                return Err(Problem::new("G3", sentence));
            }
            let stored: StoredValue = records::decode(keys::DATA, value).map_err(damaged)?;
            self.takes_effect(*replica, stored.version)?;
        }
        Ok(())
    }

    /// At most once: the write in the entry that made this version made no other one.
    fn takes_effect(&mut self, replica: u64, version: u64) -> Result<(), Problem> {
        let Some((partition, _)) = self.replicas.get(&replica).cloned() else { return Ok(()) };
        let Some(group) = self.groups.get_mut(&partition) else { return Ok(()) };
        let Some(position) = group.replica(replica).log.get(&version).copied() else {
            return Ok(());
        };
        let Some(write) = self.writes.get(&(partition, version, position)) else { return Ok(()) };
        let effect = (partition, version);
        let first = *self.effects.entry(*write).or_insert(effect);
        if first != effect {
            let sentence = format!(
                "one write took effect twice, as version {} of partition {} and version {version} of \
                 partition {partition}",
                first.1, first.0
            );
            return Err(Problem::new("G3", sentence));
        }
        Ok(())
    }
}

impl Disk {
    /// A disk with this content, and its logs by replica.
    fn read(content: &[Change]) -> Result<(Self, BTreeMap<u64, Group>), Problem> {
        let mut disk = Self::default();
        let mut logs: BTreeMap<u64, Group> = BTreeMap::new();
        for change in content {
            let Change::Put { family, key, value } = change else { continue };
            if *family == FAMILY {
                let (replica, record) =
                    inspect::decode::<TypeConfig>(key, value).map_err(damaged)?;
                let group = logs.entry(replica).or_insert_with(|| Group::new(String::new()));
                log::put(group, replica, record, &mut LogEffect::default())?;
            } else {
                disk.put(change).map_err(damaged)?;
            }
        }
        Ok((disk, logs))
    }

    /// Takes over a record that was written or found.
    fn put(&mut self, change: &Change) -> Result<(), StoreError> {
        let Change::Put { family, key, value } = change else { return Ok(()) };
        if *family == keys::STATE {
            if let Some(replica) = inspect::group_of(key) {
                self.states.insert(replica, GroupState::decode(value)?);
            }
        } else if *family == keys::META {
            if let Some(replica) = id_behind(keys::REPLICA_PREFIX, key) {
                self.replicas.insert(replica);
            } else if let Some(replica) = id_behind(keys::TOMBSTONE_PREFIX, key) {
                self.tombstones.insert(replica);
            } else if key == keys::FENCE {
                self.fence = records::decode(*family, value)?;
            } else if key.starts_with(ORDER_PREFIX) {
                self.orders.insert(key.to_vec(), records::decode(*family, value)?);
            }
        }
        Ok(())
    }
}

/// See [`keys::order`].
const ORDER_PREFIX: &[u8] = b"order/";

/// `has_blind`: some disk is not understood at the moment, and may have a replica of the group.
fn group(partition: u64, has_blind: bool) -> Group {
    let mut group = Group::new(format!("partition {partition}"));
    group.expect_unseen(has_blind);
    group
}

/// Whether both may have the same keys.
fn may_overlap(one: &GroupState, other: &GroupState) -> bool {
    let (Some(one), Some(other)) = (&one.range, &other.range) else { return true };
    (one.end.is_empty() || other.start < one.end) && (other.end.is_empty() || one.start < other.end)
}

/// Whether a change in the state's lineage is one of its own keys or outcomes.
fn is_touched(state: &GroupState, change: &Change) -> bool {
    let Some(range) = &state.range else { return true };
    let (family, key) = target(change);
    let (start, end) = keys::data_range(state.lineage, range);
    match change {
        Change::DeleteRange { start: from, end: to, .. } => {
            family == keys::OUTCOMES || (*from < end && start < *to)
        }
        Change::Put { .. } | Change::Delete { .. } if family == keys::DATA => {
            start <= *key && *key < end
        }
        Change::Put { .. } | Change::Delete { .. } => {
            let key = keys::without_lineage(key);
            keys::key_of_outcome(&key).is_some_and(|key| range.contains(key))
        }
    }
}

fn applied(state: &GroupState) -> Option<Position> {
    state.applied.as_ref().map(Position::of::<TypeConfig>)
}

fn id_behind(prefix: &[u8], key: &[u8]) -> Option<u64> {
    let id = key.strip_prefix(prefix)?;
    Some(u64::from_be_bytes(id.try_into().ok()?))
}

fn target(change: &Change) -> (runtime::store::Family, &bytes::Bytes) {
    match change {
        Change::Put { family, key, .. } | Change::Delete { family, key } => (*family, key),
        Change::DeleteRange { family, start, .. } => (*family, start),
    }
}
