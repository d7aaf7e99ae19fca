//! What can be derived from the records, kept at hand so that no question about one node or one state
//! walks over all partitions. Never stored.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use uuid::Uuid;

use crate::{
    ids::{NodeId, OperationId, PartitionId, ZoneTime},
    node::Node,
    operation::Operation,
    partition::Partition,
    table::Table,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Indices {
    /// Partitions by the first key of their range.
    pub by_start: BTreeMap<Box<[u8]>, PartitionId>,
    /// Partitions with a replica of any kind on the node.
    pub by_node: BTreeMap<NodeId, BTreeSet<PartitionId>>,
    /// How many target replicas are on the node, and how many of them are preferred leaders; none: not listed.
    pub targets: BTreeMap<NodeId, u32>,
    pub preferred: BTreeMap<NodeId, u32>,
    /// Partitions whose observed leader is on the node.
    pub led_by: BTreeMap<NodeId, BTreeSet<PartitionId>>,
    pub unplaced: BTreeSet<PartitionId>,
    /// Placed with fewer targets than the replication factor.
    pub short: BTreeSet<PartitionId>,
    /// With two targets in one fault domain.
    pub crowded: BTreeSet<PartitionId>,
    /// Placed, but the group is not what is intended, or something retires, or an operation runs.
    pub unsettled: BTreeSet<PartitionId>,
    pub by_identity: BTreeMap<Uuid, NodeId>,
    pub by_name: BTreeMap<String, NodeId>,
    pub running: BTreeSet<OperationId>,
    /// In the sequence in which they are forgotten.
    pub ended: BTreeSet<(ZoneTime, OperationId)>,
    pub failed: BTreeSet<OperationId>,
    /// What was moved or split for its own sake, and not for want of another place.
    pub meant: BTreeSet<OperationId>,
    /// Idempotency keys, oldest first.
    pub remembered: BTreeSet<(ZoneTime, String)>,
}

impl Indices {
    pub fn add_partition(
        &mut self,
        id: PartitionId,
        partition: &Partition,
        nodes: &Table<Node>,
        replication_factor: usize,
    ) {
        self.by_start.insert(partition.range.start().into(), id);
        for node in partition.nodes() {
            self.by_node.entry(node).or_default().insert(id);
        }
        for target in &partition.targets {
            *self.targets.entry(target.node).or_default() += 1;
            if partition.preferred_leader == Some(target.id) {
                *self.preferred.entry(target.node).or_default() += 1;
            }
        }
        if let Some(leader) = partition.leader {
            self.led_by.entry(leader.node).or_default().insert(id);
        }
        if !partition.is_placed() {
            self.unplaced.insert(id);
            return;
        }
        if partition.targets.len() < replication_factor {
            self.short.insert(id);
        }
        if is_crowded(partition, nodes) {
            self.crowded.insert(id);
        }
        if !partition.is_settled() || !partition.retiring.is_empty() || partition.change.is_some() {
            self.unsettled.insert(id);
        }
    }

    pub fn remove_partition(&mut self, id: PartitionId, partition: &Partition) {
        self.by_start.remove(partition.range.start());
        for node in partition.nodes() {
            remove_from(&mut self.by_node, node, id);
        }
        for target in &partition.targets {
            count_down(&mut self.targets, target.node);
            if partition.preferred_leader == Some(target.id) {
                count_down(&mut self.preferred, target.node);
            }
        }
        if let Some(leader) = partition.leader {
            remove_from(&mut self.led_by, leader.node, id);
        }
        for set in [&mut self.unplaced, &mut self.short, &mut self.crowded, &mut self.unsettled] {
            set.remove(&id);
        }
    }

    /// Packs what is large densely: trees that have grown piece by piece are little more than half full.
    pub fn pack(&mut self) {
        self.by_start = std::mem::take(&mut self.by_start).into_iter().collect();
        for set in self.by_node.values_mut().chain(self.led_by.values_mut()) {
            *set = std::mem::take(set).into_iter().collect();
        }
    }

    pub fn add_node(&mut self, id: NodeId, node: &Node) {
        self.by_identity.insert(node.identity, id);
        self.by_name.insert(node.name.clone(), id);
    }

    pub fn remove_node(&mut self, node: &Node) {
        self.by_identity.remove(&node.identity);
        self.by_name.remove(&node.name);
    }

    pub fn add_operation(&mut self, id: OperationId, operation: &Operation) {
        match operation.ended_at {
            None => self.running.insert(id),
            Some(at) => self.ended.insert((at, id)),
        };
        if operation.state == crate::operation::OperationState::Failed {
            self.failed.insert(id);
        }
        if operation.is_meant() {
            self.meant.insert(id);
        }
    }

    pub fn remove_operation(&mut self, id: OperationId, operation: &Operation) {
        self.running.remove(&id);
        self.failed.remove(&id);
        self.meant.remove(&id);
        if let Some(at) = operation.ended_at {
            self.ended.remove(&(at, id));
        }
    }
}

fn remove_from(
    sets: &mut BTreeMap<NodeId, BTreeSet<PartitionId>>,
    node: NodeId,
    partition: PartitionId,
) {
    if let Some(set) = sets.get_mut(&node) {
        set.remove(&partition);
        if set.is_empty() {
            sets.remove(&node);
        }
    }
}

fn count_down(counts: &mut BTreeMap<NodeId, u32>, node: NodeId) {
    if let Entry::Occupied(mut count) = counts.entry(node) {
        *count.get_mut() = count.get().saturating_sub(1);
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// Whether two targets share a fault domain.
pub(crate) fn is_crowded(partition: &Partition, nodes: &Table<Node>) -> bool {
    let mut domains = BTreeSet::new();
    partition
        .targets
        .iter()
        .filter_map(|target| nodes.get(&target.node))
        .any(|node| !domains.insert(node.fault_domain.as_str()))
}
