//! What a plan may still spend: moves at the same time, bytes, transfers, splits, and room on disks.

use std::collections::BTreeMap;

use super::{
    planner::Planner,
    policy::BalancePolicy,
    snapshot::{PartitionView, STORED_BYTES},
};

#[derive(Clone, Debug)]
pub(super) struct Budget {
    moves_of_node: Vec<u32>,
    moves_of_domain: BTreeMap<u32, u32>,
    moves_left: u32,
    arriving_bytes: Vec<u64>,
    bytes_left: u64,
    is_begun: bool,
    transfers_left: u32,
    splits_left: u32,
}

/// The two ends of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copied {
    pub source: u32,
    pub to: u32,
    pub bytes: u64,
}

impl Budget {
    pub fn new(planner: &Planner, policy: &BalancePolicy) -> Self {
        Self {
            moves_of_node: planner.holdings.iter().map(|holding| holding.moves).collect(),
            moves_of_domain: planner.moves_of_domain.clone(),
            moves_left: policy.moves_zone_max.saturating_sub(planner.moves_running),
            arriving_bytes: vec![0; planner.nodes.len()],
            bytes_left: policy.plan_bytes_max,
            is_begun: false,
            transfers_left: policy.transfers_max,
            splits_left: policy.splits_max,
        }
    }

    pub fn moves_of(&self, node: u32) -> u32 {
        self.moves_of_node[node as usize]
    }

    pub fn may_transfer(&self, count: u32) -> bool {
        self.transfers_left >= count
    }

    pub fn may_move(&self, count: u32) -> bool {
        self.moves_left >= count
    }

    pub fn may_split(&self) -> bool {
        self.splits_left > 0
    }

    /// Whether a node may be at one end of so many more moves.
    pub fn node_has(
        &self,
        planner: &Planner,
        policy: &BalancePolicy,
        node: u32,
        more: u32,
    ) -> bool {
        let domain = planner.nodes[node as usize].fault_domain;
        let running = self.moves_of_domain.get(&domain).copied().unwrap_or(0);
        self.moves_of(node).saturating_add(more) <= policy.moves_node_max
            && running.saturating_add(more) <= policy.moves_fault_domain_max
    }

    /// Whether so many bytes are left; a plan's first move may be of any size, or a partition that is larger
    /// than the budget would never move.
    pub fn has_bytes(&self, bytes: u64) -> bool {
        bytes <= self.bytes_left || !self.is_begun
    }

    /// Whether two partitions can be copied, in one plan: that a plan may copy one of any size goes for one alone.
    pub fn has_bytes_for_both(&self, one: &PartitionView, other: &PartitionView) -> bool {
        one.copied_bytes().saturating_add(other.copied_bytes()) <= self.bytes_left
    }

    /// Whether a node has room for so many bytes while nothing that is leaving has left yet.
    pub fn has_room(
        &self,
        planner: &Planner,
        policy: &BalancePolicy,
        node: u32,
        bytes: u64,
    ) -> bool {
        let node = node as usize;
        let capacity = planner.nodes[node].capacity[STORED_BYTES];
        let held = planner.holdings[node].held_bytes();
        let all = held.saturating_add(self.arriving_bytes[node]).saturating_add(bytes);
        let max = u128::from(capacity) * u128::from(policy.stored_max_permille) / 1_000;
        capacity == 0 || u128::from(all) <= max
    }

    /// Counts a copy. `is_free`: it does not count against the plan's bytes.
    pub fn spend_move(&mut self, planner: &Planner, copied: Copied, is_free: bool) {
        let Copied { source, to, bytes } = copied;
        self.moves_left = self.moves_left.saturating_sub(1);
        if !is_free {
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
            self.is_begun = true;
        }
        self.arriving_bytes[to as usize] += bytes;
        self.moves_of_node[source as usize] += 1;
        self.moves_of_node[to as usize] += 1;
        let domain = |node: u32| planner.nodes[node as usize].fault_domain;
        *self.moves_of_domain.entry(domain(source)).or_default() += 1;
        if domain(to) != domain(source) {
            *self.moves_of_domain.entry(domain(to)).or_default() += 1;
        }
    }

    pub fn spend_transfer(&mut self) {
        self.transfers_left = self.transfers_left.saturating_sub(1);
    }

    pub fn spend_split(&mut self) {
        self.splits_left = self.splits_left.saturating_sub(1);
    }
}

/// Where a replica's data is copied from: the node that it leaves, or, if that is gone or there is none, the
/// leader's, or another that is there.
pub(super) fn source(
    planner: &Planner,
    partition: &PartitionView,
    from: Option<u32>,
) -> Option<u32> {
    let leader = partition.leader_node();
    let mut known = from.into_iter().chain(leader).chain(partition.replicas().iter().copied());
    known.find(|node| !planner.nodes[*node as usize].is_gone)
}
