//! The planner's picture of the zone, kept up to date by changes.
//!
//! Sums are whole numbers, so it does not matter in which sequence changes came: a planner that was told of
//! every change plans what a fresh one would.
//!
//! **Invariant:** everything but `nodes`, `partitions`, `time` and `memory` is what follows from these.

use std::collections::{BTreeMap, BTreeSet};

use crate::{fingerprint::fingerprint, ids::ZoneTime};

use super::{
    snapshot::{
        Amounts, DIMENSIONS, Memory, NodeView, PartitionView, REPLICAS_MAX, Running, STORED_BYTES,
        Snapshot, shares_domain,
    },
    validate::{
        InvalidSnapshot, NODES_MAX, PARTITIONS_MAX, check_count, check_next, check_node,
        check_partition,
    },
};

/// A change since the last plan. A place that is one past the end adds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Node { index: u32, node: NodeView },
    Partition { index: u32, partition: PartitionView },
    Time { time: ZoneTime },
    Memory { memory: Memory },
}

/// What is on a node, and what is under way there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The heat of what is placed there.
    pub load: Amounts,
    /// The squares of its pieces, for how far reports of them may be off all in all.
    pub(super) squares: [u128; DIMENSIONS],
    pub leaders: u32,
    pub replicas: u32,
    /// Ends of running moves.
    pub moves: u32,
    /// Bytes that it still holds of replicas that are leaving it.
    pub leaving_bytes: u64,
}

/// A zone that can be planned for again and again.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    pub(super) time: ZoneTime,
    pub(super) memory: Memory,
    pub(super) nodes: Vec<NodeView>,
    pub(super) partitions: Vec<PartitionView>,
    pub(super) holdings: Vec<Holding>,
    /// The partitions on each node, in no sequence that matters.
    pub(super) residents: Vec<Vec<u32>>,
    /// Where each replica stands in its node's list.
    places: Vec<[u32; REPLICAS_MAX]>,
    /// Partitions with two replicas in one fault domain.
    pub(super) crowded: BTreeSet<u32>,
    /// Partitions with fewer replicas than they should have.
    pub(super) short: BTreeSet<u32>,
    /// Moves that are running.
    pub(super) moves_running: u32,
    /// Of them, with an end in each fault domain; both ends in one count once.
    pub(super) moves_of_domain: BTreeMap<u32, u32>,
}

impl Planner {
    pub fn new(snapshot: Snapshot) -> Result<Self, InvalidSnapshot> {
        let Snapshot { time, nodes, partitions, memory } = snapshot;
        check_count("nodes", nodes.len(), NODES_MAX)?;
        check_count("partitions", partitions.len(), PARTITIONS_MAX)?;
        nodes.iter().try_for_each(check_node)?;
        partitions.iter().try_for_each(|partition| check_partition(partition, nodes.len()))?;
        let mut planner = Self {
            time,
            memory,
            holdings: vec![Holding::default(); nodes.len()],
            residents: vec![Vec::new(); nodes.len()],
            places: vec![[0; REPLICAS_MAX]; partitions.len()],
            crowded: BTreeSet::new(),
            short: BTreeSet::new(),
            moves_running: 0,
            moves_of_domain: BTreeMap::new(),
            nodes,
            partitions,
        };
        for index in 0..planner.partitions.len() {
            planner.enter(index as u32);
        }
        Ok(planner)
    }

    /// Takes a change in. What is refused changes nothing.
    pub fn apply(&mut self, change: Change) -> Result<(), InvalidSnapshot> {
        match change {
            Change::Time { time } => self.time = time,
            Change::Memory { memory } => self.memory = memory,
            Change::Node { index, node } => self.change_node(index, node)?,
            Change::Partition { index, partition } => {
                check_partition(&partition, self.nodes.len())?;
                let (place, next) = (index as usize, self.partitions.len());
                check_next("partition", place, next)?;
                if place == next {
                    check_count("partitions", next + 1, PARTITIONS_MAX)?;
                    self.partitions.push(partition);
                    self.places.push([0; REPLICAS_MAX]);
                } else {
                    self.leave(index);
                    self.partitions[place] = partition;
                }
                self.enter(index);
            }
        }
        Ok(())
    }

    fn change_node(&mut self, index: u32, node: NodeView) -> Result<(), InvalidSnapshot> {
        check_node(&node)?;
        let (place, next) = (index as usize, self.nodes.len());
        check_next("node", place, next)?;
        if place == next {
            check_count("nodes", next + 1, NODES_MAX)?;
            self.nodes.push(node);
            self.holdings.push(Holding::default());
            self.residents.push(Vec::new());
            return Ok(());
        }
        let seen = |node: &NodeView| (node.fault_domain, node.is_gone);
        let is_elsewhere = seen(&self.nodes[place]) != seen(&node);
        self.nodes[place] = node;
        if is_elsewhere {
            for resident in self.residents[place].clone() {
                self.note_crowding(resident);
            }
            // Rare, and a move that only passes through the node is in no list of it.
            self.moves_of_domain.clear();
            for index in 0..self.partitions.len() {
                self.count_domains(self.partitions[index].running, 1);
            }
        }
        Ok(())
    }

    fn enter(&mut self, index: u32) {
        let partition = &self.partitions[index as usize];
        for (replica, node) in partition.replicas().iter().enumerate() {
            let (holding, residents) =
                (&mut self.holdings[*node as usize], &mut self.residents[*node as usize]);
            for (dimension, heat) in partition.heat_on(*node).iter().enumerate() {
                holding.load[dimension] += heat;
                holding.squares[dimension] += u128::from(*heat) * u128::from(*heat);
            }
            holding.replicas += 1;
            holding.leaders += u32::from(replica == usize::from(partition.leader));
            self.places[index as usize][replica] = residents.len() as u32;
            residents.push(index);
        }
        if usize::from(partition.replicas_wanted) > partition.replicas().len() {
            self.short.insert(index);
        }
        self.count_running(index, true);
        self.note_crowding(index);
    }

    fn leave(&mut self, index: u32) {
        self.count_running(index, false);
        let partition = &self.partitions[index as usize];
        for (replica, node) in partition.replicas().iter().enumerate() {
            let (holding, residents) =
                (&mut self.holdings[*node as usize], &mut self.residents[*node as usize]);
            for (dimension, heat) in partition.heat_on(*node).iter().enumerate() {
                holding.load[dimension] -= heat;
                holding.squares[dimension] -= u128::from(*heat) * u128::from(*heat);
            }
            holding.replicas -= 1;
            holding.leaders -= u32::from(replica == usize::from(partition.leader));
            let place = self.places[index as usize][replica];
            residents.swap_remove(place as usize);
            // Whoever stood at the end stands here now.
            if let Some(moved) = residents.get(place as usize).copied() {
                let others = self.partitions[moved as usize].replicas();
                if let Some(other) = others.iter().position(|other| other == node) {
                    self.places[moved as usize][other] = place;
                }
            }
        }
        self.crowded.remove(&index);
        self.short.remove(&index);
    }

    fn count_running(&mut self, index: u32, starts: bool) {
        let partition = &self.partitions[index as usize];
        let Running::Move { from, to } = partition.running else { return };
        let running = partition.running;
        // Where none leaves, the source keeps its replica, and its bytes are counted as placed.
        let leaves = if partition.is_on(from) { 0 } else { partition.copied_bytes() };
        let change = if starts { 1 } else { -1 };
        for end in [from, to] {
            let moves = &mut self.holdings[end as usize].moves;
            *moves = moves.saturating_add_signed(change);
        }
        let bytes = &mut self.holdings[from as usize].leaving_bytes;
        *bytes = if starts { *bytes + leaves } else { *bytes - leaves };
        self.moves_running = self.moves_running.saturating_add_signed(change);
        self.count_domains(running, change);
    }

    fn count_domains(&mut self, running: Running, change: i32) {
        let Running::Move { from, to } = running else { return };
        let domain = |node: u32| self.nodes[node as usize].fault_domain;
        let domains = BTreeSet::from([domain(from), domain(to)]);
        for domain in domains {
            let count = self.moves_of_domain.entry(domain).or_default();
            *count = count.saturating_add_signed(change);
        }
    }

    fn note_crowding(&mut self, index: u32) {
        let replicas = self.partitions[index as usize].replicas();
        let is_crowded = shares_domain(&self.nodes, replicas);
        if is_crowded {
            self.crowded.insert(index);
        } else {
            self.crowded.remove(&index);
        }
    }

    /// A digest of the nodes' numbers of leaders and replicas.
    pub(super) fn counts(&self) -> u64 {
        let counts = self.holdings.iter().map(|it| [it.leaders, it.replicas]);
        fingerprint(counts.flatten().flat_map(u32::to_le_bytes))
    }

    /// What the next plan knows of those before it.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    pub fn nodes(&self) -> &[NodeView] {
        &self.nodes
    }

    pub fn partitions(&self) -> &[PartitionView] {
        &self.partitions
    }

    /// What is on a node.
    pub fn holding(&self, node: u32) -> Option<&Holding> {
        self.holdings.get(node as usize)
    }
}

impl Holding {
    /// Bytes on its disk: of its replicas, of those that leave, and of those that come.
    pub fn held_bytes(&self) -> u64 {
        self.load[STORED_BYTES].saturating_add(self.leaving_bytes)
    }
}
