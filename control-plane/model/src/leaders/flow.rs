//! Assigning leaderships to nodes: as evenly as possible, with the fewest changes.
//!
//! It is a minimum-cost flow with convex costs: each leadership more on a node costs more than the one
//! before, and each change of the present assignment costs a little. An assignment is the best possible
//! exactly when no path or cycle of moves makes it cheaper (Harvey et al., "Semi-matchings for bipartite
//! graphs and load balancing", 2003). So: first single moves from the fullest to the emptiest, which do
//! most of the work; then the cheapest path or cycle, found by Bellman–Ford, again and again until there
//! is none, or until so many moves have been weighed that the plan would take too long.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{NodeId, PartitionId};

/// Moves that one plan weighs at most, so that no plan takes long. Only zones with very many nodes and
/// partitions come near it.
pub const EFFORT_MAX: u64 = 20_000_000;

/// One leadership that can be somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub partition: PartitionId,
    pub current: NodeId,
    /// Where it may be; the current node is among them if it may lead.
    pub eligible: BTreeSet<NodeId>,
    /// Breaks ties.
    pub preferred: Option<NodeId>,
}

/// Where each seat shall be, and what it took to find that out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    /// In the sequence of the seats.
    pub assigned: Vec<NodeId>,
    /// Moves that were weighed.
    pub weighed: u64,
}

/// Where each seat shall be: as even as possible, and then with the fewest changes, and then by
/// preference.
///
/// `fixed`: leaderships that stay where they are. `leading`: nodes that may lead. A seat without an
/// eligible node stays.
pub fn solve(
    seats: &[Seat],
    fixed: &BTreeMap<NodeId, u32>,
    leading: &BTreeSet<NodeId>,
) -> Vec<NodeId> {
    solve_within(seats, fixed, leading, EFFORT_MAX).assigned
}

/// Like [`solve`], but begins nothing more once so many moves have been weighed. What has been found by
/// then is an improvement all the same, and the next plan goes on from there.
pub fn solve_within(
    seats: &[Seat],
    fixed: &BTreeMap<NodeId, u32>,
    leading: &BTreeSet<NodeId>,
    effort_max: u64,
) -> Solution {
    let mut flow = Flow::new(seats, fixed, leading, effort_max);
    flow.level();
    // Each improvement makes the cost smaller by at least one, so there is an end.
    while flow.improve() {}
    let assigned = flow.assigned.iter().map(|at| flow.nodes[*at]).collect();
    Solution { assigned, weighed: flow.weighed }
}

/// A seat's cost of being moved along an edge, and the tie-breaks among equal costs.
type Move = (i64, bool, PartitionId, usize);

/// The present assignment, and which single moves are possible from it. Nodes are numbered from 0, in
/// the order of their ids.
struct Flow<'a> {
    seats: &'a [Seat],
    nodes: Vec<NodeId>,
    numbers: BTreeMap<NodeId, usize>,
    leads: Vec<bool>,
    loads: Vec<i64>,
    assigned: Vec<usize>,
    /// For each pair of nodes, what could move from the first to the second, cheapest first.
    moves: Vec<BTreeMap<usize, BTreeSet<Move>>>,
    /// Outweighs every number of transfers.
    balance_weight: i64,
    weighed: u64,
    effort_max: u64,
}

/// What leads to a node on the cheapest way there.
#[derive(Clone, Copy)]
struct Step {
    cost: i64,
    from: Option<usize>,
}

impl<'a> Flow<'a> {
    fn new(
        seats: &'a [Seat],
        fixed: &BTreeMap<NodeId, u32>,
        leading: &BTreeSet<NodeId>,
        effort_max: u64,
    ) -> Self {
        let current = seats.iter().map(|seat| seat.current);
        let eligible = seats.iter().flat_map(|seat| seat.eligible.iter().copied());
        let nodes: BTreeSet<NodeId> =
            leading.iter().chain(fixed.keys()).copied().chain(current).chain(eligible).collect();
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let numbers: BTreeMap<NodeId, usize> =
            nodes.iter().enumerate().map(|(number, node)| (*node, number)).collect();
        let leads = nodes.iter().map(|node| leading.contains(node)).collect();
        let mut loads: Vec<i64> =
            nodes.iter().map(|node| fixed.get(node).map_or(0, |count| i64::from(*count))).collect();
        let assigned: Vec<usize> = seats.iter().map(|seat| numbers[&seat.current]).collect();
        for at in &assigned {
            loads[*at] += 1;
        }
        let count = i64::try_from(seats.len()).unwrap_or(i64::MAX / 1_000_000);
        let mut flow = Self {
            seats,
            moves: vec![BTreeMap::new(); nodes.len()],
            nodes,
            numbers,
            leads,
            loads,
            assigned,
            balance_weight: count.saturating_mul(2).saturating_add(2),
            weighed: 0,
            effort_max,
        };
        for index in 0..seats.len() {
            flow.open(index);
        }
        flow
    }

    /// What moving a seat from where it is to `to` adds to the number of transfers.
    fn cost(&self, index: usize, to: NodeId) -> Move {
        let seat = &self.seats[index];
        let cost = match (self.nodes[self.assigned[index]] == seat.current, to == seat.current) {
            (true, _) => 1,
            (false, true) => -1,
            (false, false) => 0,
        };
        (cost, seat.preferred != Some(to), seat.partition, index)
    }

    fn weigh(&mut self, moves: usize) {
        self.weighed = self.weighed.saturating_add(u64::try_from(moves).unwrap_or(u64::MAX));
    }

    fn is_spent(&self) -> bool {
        self.weighed >= self.effort_max
    }

    /// Where a seat could be moved.
    fn choices(&self, index: usize) -> Vec<(usize, Move)> {
        let from = self.nodes[self.assigned[index]];
        let others = self.seats[index].eligible.iter().filter(|to| **to != from);
        others.map(|to| (self.numbers[to], self.cost(index, *to))).collect()
    }

    fn open(&mut self, index: usize) {
        let from = self.assigned[index];
        for (to, cost) in self.choices(index) {
            self.moves[from].entry(to).or_default().insert(cost);
        }
    }

    fn close(&mut self, index: usize) {
        let from = self.assigned[index];
        for (to, cost) in self.choices(index) {
            if let Some(moves) = self.moves[from].get_mut(&to) {
                moves.remove(&cost);
                if moves.is_empty() {
                    self.moves[from].remove(&to);
                }
            }
        }
    }

    /// The seat that is cheapest to move from one node to another.
    fn cheapest(&self, from: usize, to: usize) -> Option<usize> {
        let (_, _, _, index) = self.moves[from].get(&to)?.first()?;
        Some(*index)
    }

    fn shift(&mut self, index: usize, to: usize) {
        self.close(index);
        self.loads[self.assigned[index]] -= 1;
        self.assigned[index] = to;
        self.loads[to] += 1;
        self.open(index);
    }

    /// Single moves from the fullest node to the emptiest that it shares a partition with.
    fn level(&mut self) {
        let key = |flow: &Self, node: usize| {
            // Nodes that may not lead give away whatever they have, before all others.
            (!flow.leads[node], flow.loads[node], node)
        };
        let mut sources: BTreeSet<(bool, i64, usize)> =
            (0..self.nodes.len()).map(|node| key(self, node)).collect();
        while let Some((_, _, from)) = sources.pop_last() {
            if self.is_spent() {
                return;
            }
            self.weigh(self.moves[from].len() + 1);
            let target = self.moves[from]
                .keys()
                .copied()
                .filter(|to| !self.leads[from] || self.loads[*to] + 2 <= self.loads[from])
                .min_by_key(|to| (self.loads[*to], *to));
            let seat = target.and_then(|to| Some((self.cheapest(from, to)?, to)));
            let Some((index, to)) = seat else { continue };
            sources.remove(&key(self, to));
            self.shift(index, to);
            sources.insert(key(self, from));
            sources.insert(key(self, to));
        }
    }

    /// What it gains to take one leadership from a node (negative), by the sum of squares. A node that
    /// may not lead gives whatever it has.
    fn gain(&self, node: usize) -> i64 {
        if self.leads[node] {
            return -self.balance_weight * (2 * self.loads[node] - 1);
        }
        let total = i64::try_from(self.seats.len()).unwrap_or(i64::MAX / 1_000_000);
        let most = self.loads.iter().max().copied().unwrap_or(0) + total + 1;
        -self.balance_weight * (2 * most + 1)
    }

    /// What it costs to give one more leadership to a node.
    fn price(&self, node: usize) -> i64 {
        self.balance_weight * (2 * self.loads[node] + 1)
    }

    /// Makes one improvement, a path or a cycle of moves; false if there is none, or no effort left to
    /// look for it to the end: half a search shows no sound way.
    fn improve(&mut self) -> bool {
        // From all nodes at once: the way to a node starts at any node that gives one away.
        let mut steps: Vec<Option<Step>> = (0..self.nodes.len())
            .map(|node| {
                let gives = !self.moves[node].is_empty();
                gives.then(|| Step { cost: self.gain(node), from: None })
            })
            .collect();
        loop {
            if self.is_spent() {
                return false;
            }
            self.weigh(self.moves.iter().map(BTreeMap::len).sum());
            if !self.relax(&mut steps) {
                break;
            }
            // A cycle among the ways is one that pays by itself: it brings seats back to where they
            // were, at no change of counts.
            if let Some(cycle) = find_cycle(&steps) {
                self.carry_out(&cycle);
                return true;
            }
        }
        let ends = steps.iter().enumerate().filter_map(|(node, step)| {
            let step = step.filter(|step| step.from.is_some() && self.leads[node])?;
            Some((step.cost + self.price(node), node))
        });
        let Some((_, end)) = ends.filter(|(cost, _)| *cost < 0).min() else { return false };
        let mut path = vec![end];
        while let Some(from) = steps[path[path.len() - 1]].and_then(|step| step.from) {
            path.push(from);
        }
        self.carry_out(&path);
        true
    }

    /// One round of Bellman–Ford; whether any way became cheaper.
    fn relax(&self, steps: &mut [Option<Step>]) -> bool {
        let mut changed = false;
        for (from, targets) in self.moves.iter().enumerate() {
            let Some(here) = steps[from] else { continue };
            for (to, moves) in targets {
                let Some((cost, ..)) = moves.first() else { continue };
                let cost = here.cost + cost;
                if steps[*to].is_none_or(|step| cost < step.cost) {
                    steps[*to] = Some(Step { cost, from: Some(from) });
                    changed = true;
                }
            }
        }
        changed
    }

    /// Moves one seat along each edge of a way that is given from its end to its start. All seats are
    /// chosen before any is moved.
    fn carry_out(&mut self, way: &[usize]) {
        let chosen: Vec<(usize, usize)> = way
            .windows(2)
            .filter_map(|edge| Some((self.cheapest(edge[1], edge[0])?, edge[0])))
            .collect();
        for (index, to) in chosen {
            self.shift(index, to);
        }
    }
}

/// A cycle among the ways, from its end to its start, which are the same node.
fn find_cycle(steps: &[Option<Step>]) -> Option<Vec<usize>> {
    let back = |node: usize| steps[node].and_then(|step| step.from);
    // Each node is visited once: with the number of the walk that first came by.
    let mut walks = vec![0_usize; steps.len()];
    for start in 0..steps.len() {
        let walk = start + 1;
        let mut at = start;
        while walks[at] == 0 {
            walks[at] = walk;
            match back(at) {
                Some(from) => at = from,
                None => break,
            }
        }
        if walks[at] != walk || back(at).is_none() {
            continue;
        }
        let mut cycle = vec![at];
        let mut next = back(at);
        while let Some(node) = next {
            cycle.push(node);
            if node == at {
                return Some(cycle);
            }
            next = back(node);
        }
    }
    None
}
