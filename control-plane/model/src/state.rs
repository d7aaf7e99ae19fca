//! The replicated state of a zone: what every member of the control plane has after the same commands.
//!
//! It is kept as records in tables; a command changes few of them, and only those are handed to the
//! store ([`ZoneState::take_changes`]). A state is rebuilt from its records
//! ([`ZoneState::from_records`]). What can be derived is derived ([`crate::indices`]).
//!
//! **Invariant (G4):** the partitions' ranges cover the key space exactly, and the targets of one
//! partition are on distinct nodes. Checked on load, and after each command for what it touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Included, Unbounded},
};

use planted::Bug;
use uuid::Uuid;

use crate::{
    balance::Memory,
    event::Event,
    heat::{Summary, summary::SummaryError},
    ids::{EventSequence, NodeId, OperationId, PartitionId, Revision, ZoneTime},
    indices::Indices,
    key_range::{CoverError, check_adjacent, check_cover},
    node::{Node, RemovedNode},
    operation::Operation,
    partition::Partition,
    policy::{Policy, PolicyRecord, ShadowPolicy},
    table::{Record, RecordChange, Table},
    zone::{Remembered, Zone},
};

/// The state of a zone; without a zone until [`crate::command::Action::InitializeZone`].
#[derive(Clone, Debug, Default)]
pub struct ZoneState {
    pub(crate) zone: Table<Zone>,
    pub(crate) nodes: Table<Node>,
    pub(crate) removed: Table<RemovedNode>,
    pub(crate) partitions: Table<Partition>,
    pub(crate) operations: Table<Operation>,
    pub(crate) events: Table<Event>,
    pub(crate) remembered: Table<Remembered>,
    pub(crate) heat: Table<Summary>,
    pub(crate) balance: Table<Memory>,
    pub(crate) policies: Table<PolicyRecord>,
    pub(crate) shadows: Table<ShadowPolicy>,
    pub(crate) indices: Indices,
}

/// What commands have changed since the last [`ZoneState::take_changes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// For the store, to be written in one batch.
    pub records: Vec<RecordChange>,
    /// For watchers, in ascending order.
    pub nodes: Vec<NodeId>,
    pub partitions: Vec<PartitionId>,
    pub operations: Vec<OperationId>,
    pub events: Vec<EventSequence>,
}

/// Why records are not a zone's state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("record {key:02x?} belongs to no table that this version knows")]
    UnknownTable { key: Vec<u8> },
    #[error("record {key:02x?} does not decode")]
    Malformed {
        key: Vec<u8>,
        #[source]
        source: postcard::Error,
    },
    #[error("the ranges do not cover the key space")]
    Cover(#[from] CoverError),
    #[error("partition {partition} has two replicas on node {node}")]
    SharedNode { partition: PartitionId, node: NodeId },
    #[error("there are {what} although there is no zone")]
    NoZone { what: &'static str },
    #[error("what is written down of load is not possible")]
    Heat(#[from] SummaryError),
}

impl ZoneState {
    /// Rebuilds a state from its records, in any order.
    pub fn from_records<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        records: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, LoadError> {
        let mut state = Self::default();
        for (key, value) in records {
            state.load(key.as_ref(), value.as_ref())?;
        }
        state.partitions.pack();
        state.rebuild_indices();
        state.indices.pack();
        state.check()?;
        Ok(state)
    }

    /// All records, for a snapshot. (A store that holds them already needs this not.)
    pub fn records(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.zone
            .encode_all()
            .chain(self.nodes.encode_all())
            .chain(self.removed.encode_all())
            .chain(self.partitions.encode_all())
            .chain(self.operations.encode_all())
            .chain(self.events.encode_all())
            .chain(self.remembered.encode_all())
            .chain(self.heat.encode_all())
            .chain(self.balance.encode_all())
            .chain(self.policies.encode_all())
            .chain(self.shadows.encode_all())
    }

    /// What has changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes {
            nodes: self.nodes.changed().copied().collect(),
            partitions: self.partitions.changed().copied().collect(),
            operations: self.operations.changed().copied().collect(),
            events: self
                .events
                .changed()
                .filter(|sequence| self.events.contains(sequence))
                .copied()
                .collect(),
            records: self.zone.drain_changes(),
        };
        changes.records.extend(self.nodes.drain_changes());
        changes.records.extend(self.removed.drain_changes());
        changes.records.extend(self.partitions.drain_changes());
        changes.records.extend(self.operations.drain_changes());
        changes.records.extend(self.events.drain_changes());
        changes.records.extend(self.remembered.drain_changes());
        changes.records.extend(self.heat.drain_changes());
        changes.records.extend(self.balance.drain_changes());
        changes.records.extend(self.policies.drain_changes());
        changes.records.extend(self.shadows.drain_changes());
        changes
    }

    fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        let unknown = || LoadError::UnknownTable { key: key.to_vec() };
        let (tag, rest) = key.split_first().ok_or_else(unknown)?;
        let loaded = match *tag {
            Zone::TAG => self.zone.load(rest, value),
            Node::TAG => self.nodes.load(rest, value),
            RemovedNode::TAG => self.removed.load(rest, value),
            Partition::TAG => self.partitions.load(rest, value),
            Operation::TAG => self.operations.load(rest, value),
            Event::TAG => self.events.load(rest, value),
            Remembered::TAG => self.remembered.load(rest, value),
            Summary::TAG => self.heat.load(rest, value),
            Memory::TAG => self.balance.load(rest, value),
            PolicyRecord::TAG => self.policies.load(rest, value),
            ShadowPolicy::TAG => self.shadows.load(rest, value),
            _ => return Err(unknown()),
        };
        loaded.map_err(|source| LoadError::Malformed { key: key.to_vec(), source })
    }

    fn rebuild_indices(&mut self) {
        self.indices = self.derive_indices();
    }

    fn derive_indices(&self) -> Indices {
        let mut indices = Indices::default();
        let replication_factor = self.replication_factor();
        for (id, node) in self.nodes.iter() {
            indices.add_node(*id, node);
        }
        for (id, partition) in self.partitions.iter() {
            indices.add_partition(*id, partition, &self.nodes, replication_factor);
        }
        for (id, operation) in self.operations.iter() {
            indices.add_operation(*id, operation);
        }
        for (key, remembered) in self.remembered.iter() {
            indices.remembered.insert((remembered.at, key.clone()));
        }
        indices
    }

    /// Whether all that is derived from the records is what it would be if it were derived anew. Walks
    /// over the whole state: for tests.
    pub fn is_consistent(&self) -> bool {
        self.indices == self.derive_indices()
    }

    /// Checks G4 over the whole state.
    pub fn check(&self) -> Result<(), LoadError> {
        if self.zone.is_empty() {
            let what = if !self.partitions.is_empty() {
                "partitions"
            } else if !self.nodes.is_empty() {
                "nodes"
            } else {
                return Ok(());
            };
            return Err(LoadError::NoZone { what });
        }
        self.heat_summary().map_or(Ok(()), Summary::check)?;
        let in_key_order = self.partitions_in_key_order().map(|(_, partition)| &partition.range);
        check_cover(in_key_order)?;
        if self.indices.by_start.len() != self.partitions.len() {
            // Two ranges with the same start: the index holds only one of them.
            return Err(CoverError::Overlap { from: "the start of another range".into() }.into());
        }
        self.partitions.iter().try_for_each(|(id, partition)| check_nodes(*id, partition))
    }

    /// Checks G4 for the partitions that have changed since the last [`ZoneState::take_changes`].
    pub(crate) fn check_changed(&self) -> Result<(), LoadError> {
        for id in self.partitions.changed() {
            let Some(partition) = self.partitions.get(id) else { continue };
            if !planted::is_planted(Bug::TwoReplicasOnOneNode) {
                check_nodes(*id, partition)?;
            }
            let start = partition.range.start();
            let before = self.indices.by_start.range::<[u8], _>((Unbounded, Excluded(start)));
            let before = before.map(|(_, id)| *id).next_back();
            match before.and_then(|id| self.partitions.get(&id)) {
                Some(before) => check_adjacent(before.range.end(), start)?,
                None if start.is_empty() => {}
                None => return Err(CoverError::NoStart.into()),
            }
            let next = self.indices.by_start.range::<[u8], _>((Excluded(start), Unbounded));
            match next.map(|(start, _)| start).next() {
                Some(next) => check_adjacent(partition.range.end(), next)?,
                None if partition.range.end().is_empty() => {}
                None => {
                    let from = crate::key_range::display_key(partition.range.end());
                    return Err(CoverError::NoEnd { from }.into());
                }
            }
        }
        Ok(())
    }

    pub(crate) fn replication_factor(&self) -> usize {
        self.zone().map_or(0, |zone| usize::from(zone.policy.replication_factor))
    }

    /// Changes a partition and keeps the indices right.
    pub(crate) fn update_partition<T>(
        &mut self,
        id: PartitionId,
        update: impl FnOnce(&mut Partition) -> T,
    ) -> Option<T> {
        let replication_factor = self.replication_factor();
        let partition = self.partitions.get_mut(&id)?;
        self.indices.remove_partition(id, partition);
        let output = update(partition);
        self.indices.add_partition(id, partition, &self.nodes, replication_factor);
        Some(output)
    }

    pub(crate) fn insert_partition(&mut self, id: PartitionId, partition: Partition) {
        let replication_factor = self.replication_factor();
        self.indices.add_partition(id, &partition, &self.nodes, replication_factor);
        self.partitions.insert(id, partition);
    }

    /// Changes a node and keeps the indices right, those of its partitions included.
    pub(crate) fn update_node(&mut self, id: NodeId, update: impl FnOnce(&mut Node)) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let fault_domain = node.fault_domain.clone();
        self.indices.remove_node(node);
        update(node);
        self.indices.add_node(id, node);
        if node.fault_domain == fault_domain {
            return;
        }
        for partition in self.indices.by_node.get(&id).cloned().unwrap_or_default() {
            let record = self.partitions.get(&partition).expect("indexed partitions exist");
            if crate::indices::is_crowded(record, &self.nodes) {
                self.indices.crowded.insert(partition);
            } else {
                self.indices.crowded.remove(&partition);
            }
        }
    }

    pub(crate) fn insert_node(&mut self, id: NodeId, node: Node) {
        self.indices.add_node(id, &node);
        self.nodes.insert(id, node);
    }

    pub(crate) fn remove_node_record(&mut self, id: NodeId) -> Option<Node> {
        let node = self.nodes.remove(&id)?;
        self.indices.remove_node(&node);
        Some(node)
    }

    pub(crate) fn update_operation(
        &mut self,
        id: OperationId,
        update: impl FnOnce(&mut Operation),
    ) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        self.indices.remove_operation(id, operation);
        update(operation);
        self.indices.add_operation(id, operation);
    }

    pub(crate) fn insert_operation(&mut self, id: OperationId, operation: Operation) {
        self.indices.add_operation(id, &operation);
        self.operations.insert(id, operation);
    }

    pub(crate) fn remove_operation_record(&mut self, id: OperationId) {
        if let Some(operation) = self.operations.remove(&id) {
            self.indices.remove_operation(id, &operation);
        }
    }
}

/// What can be asked.
impl ZoneState {
    /// The zone; none before it was initialised.
    pub fn zone(&self) -> Option<&Zone> {
        self.zone.get(&())
    }

    pub fn is_initialized(&self) -> bool {
        self.zone().is_some()
    }

    pub fn zone_id(&self) -> Option<Uuid> {
        self.zone().map(|zone| zone.zone_id)
    }

    /// Position of the last command; 0 before the zone was initialised.
    pub fn revision(&self) -> Revision {
        self.zone().map_or(Revision(0), |zone| zone.revision)
    }

    pub fn zone_time(&self) -> ZoneTime {
        self.zone().map_or(ZoneTime(0), |zone| zone.zone_time)
    }

    pub fn policy(&self) -> Option<&Policy> {
        self.zone().map(|zone| &zone.policy)
    }

    pub fn nodes(&self) -> &Table<Node> {
        &self.nodes
    }

    pub fn removed_nodes(&self) -> &Table<RemovedNode> {
        &self.removed
    }

    pub fn partitions(&self) -> &Table<Partition> {
        &self.partitions
    }

    pub fn operations(&self) -> &Table<Operation> {
        &self.operations
    }

    pub fn events(&self) -> &Table<Event> {
        &self.events
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub fn node_named(&self, name: &str) -> Option<(NodeId, &Node)> {
        let id = *self.indices.by_name.get(name)?;
        Some((id, self.nodes.get(&id)?))
    }

    pub fn node_with_identity(&self, identity: Uuid) -> Option<NodeId> {
        self.indices.by_identity.get(&identity).copied()
    }

    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(&id)
    }

    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        self.operations.get(&id)
    }

    pub fn partitions_in_key_order(&self) -> impl Iterator<Item = (PartitionId, &Partition)> {
        self.indices
            .by_start
            .values()
            .map(|id| (*id, self.partitions.get(id).expect("indexed partitions exist")))
    }

    /// Partitions in key order that start at the key or behind it.
    pub fn partitions_from(&self, key: &[u8]) -> impl Iterator<Item = (PartitionId, &Partition)> {
        self.indices
            .by_start
            .range::<[u8], _>((Included(key), Unbounded))
            .map(|(_, id)| (*id, self.partitions.get(id).expect("indexed partitions exist")))
    }

    /// Partitions in key order, from the one after `after`.
    pub fn partitions_after(
        &self,
        after: PartitionId,
    ) -> impl Iterator<Item = (PartitionId, &Partition)> {
        let start = match self.partitions.get(&after) {
            Some(partition) => Excluded(partition.range.start()),
            None => Unbounded,
        };
        self.indices
            .by_start
            .range::<[u8], _>((start, Unbounded))
            .map(|(_, id)| (*id, self.partitions.get(id).expect("indexed partitions exist")))
    }

    /// The partition that a key belongs to.
    pub fn partition_of_key(&self, key: &[u8]) -> Option<PartitionId> {
        let up_to = self.indices.by_start.range::<[u8], _>((Unbounded, Included(key)));
        up_to.map(|(_, id)| *id).next_back()
    }

    /// Partitions with a replica of any kind on the node, in the order of their ids.
    pub fn partitions_on(&self, node: NodeId) -> impl Iterator<Item = PartitionId> {
        self.indices.by_node.get(&node).into_iter().flatten().copied()
    }

    /// Partitions whose observed leader is on the node, in the order of their ids.
    pub fn partitions_led_by(&self, node: NodeId) -> impl Iterator<Item = PartitionId> {
        self.indices.led_by.get(&node).into_iter().flatten().copied()
    }

    /// Partitions whose observed leader is on the node.
    pub fn leader_count(&self, node: NodeId) -> usize {
        self.indices.led_by.get(&node).map_or(0, BTreeSet::len)
    }

    /// Target replicas on each node, nodes without any included.
    pub fn target_counts(&self) -> BTreeMap<NodeId, u32> {
        self.nodes.iter().map(|(id, _)| (*id, self.target_count(*id))).collect()
    }

    /// Target replicas on one node.
    pub fn target_count(&self, node: NodeId) -> u32 {
        self.indices.targets.get(&node).copied().unwrap_or(0)
    }

    /// Replicas on each node that are their partitions' preferred leaders, nodes without any left out.
    pub fn preferred_counts(&self) -> &BTreeMap<NodeId, u32> {
        &self.indices.preferred
    }

    pub fn unplaced(&self) -> &BTreeSet<PartitionId> {
        &self.indices.unplaced
    }

    /// Partitions whose group is not yet what is intended, or that an operation is changing.
    pub fn unsettled(&self) -> &BTreeSet<PartitionId> {
        &self.indices.unsettled
    }

    /// Placed partitions with fewer targets than the replication factor.
    pub fn short(&self) -> &BTreeSet<PartitionId> {
        &self.indices.short
    }

    /// Partitions with two targets in one fault domain.
    pub fn crowded(&self) -> &BTreeSet<PartitionId> {
        &self.indices.crowded
    }

    pub fn running_operations(&self) -> impl Iterator<Item = (OperationId, &Operation)> {
        self.indices
            .running
            .iter()
            .map(|id| (*id, self.operations.get(id).expect("indexed operations exist")))
    }

    /// Operations that have ended and are still remembered, the latest to end first.
    pub fn ended_operations_newest_first(&self) -> impl Iterator<Item = &Operation> {
        self.indices
            .ended
            .iter()
            .rev()
            .map(|(_, id)| self.operations.get(id).expect("indexed operations exist"))
    }

    /// Operations that have failed for good and are still remembered.
    pub fn failed_operations(&self) -> impl Iterator<Item = (OperationId, &Operation)> {
        self.indices
            .failed
            .iter()
            .map(|id| (*id, self.operations.get(id).expect("indexed operations exist")))
    }

    /// The first outcome of a command with this idempotency key, and what it was, if it is remembered.
    pub fn remembered(&self, key: &str) -> Option<&Remembered> {
        self.remembered.get(&key.to_owned())
    }

    /// Whether something waits for zone time to pass, so that a quiet leader must propose
    /// [`crate::command::Action::Tick`] about twice a second.
    pub fn wants_ticks(&self) -> bool {
        !self.indices.unplaced.is_empty()
            || !self.indices.running.is_empty()
            || self.nodes.iter().any(|(_, node)| !node.is_up())
            || self.engaged_brake().is_some_and(|brake| brake.overridden_until.is_some())
            || !crate::leaders::resting(self).is_empty()
    }
}

fn check_nodes(id: PartitionId, partition: &Partition) -> Result<(), LoadError> {
    let mut nodes = BTreeSet::new();
    for target in &partition.targets {
        if !nodes.insert(target.node) {
            return Err(LoadError::SharedNode { partition: id, node: target.node });
        }
    }
    Ok(())
}
