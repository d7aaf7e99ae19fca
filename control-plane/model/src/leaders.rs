//! Even leader counts.
//!
//! Each partition's leadership sits on one of the nodes that hold a voting replica and may lead. The
//! plan makes the counts as even as the placement of replicas allows, with the fewest transfers: it is a
//! minimum-cost flow with convex costs (see Harvey et al., "Semi-matchings for bipartite graphs and load
//! balancing", 2003, for why the absence of an improving path means the best possible counts), solved
//! from the present assignment by cancelling negative cycles. So it is deterministic, and an assignment
//! that is as even as possible is left exactly as it is: it settles.
//!
//! Nodes that may not lead (draining, not up) are emptied as far as their partitions have another voter.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    command::TransferProposal,
    ids::{NodeId, PartitionId},
    node::Administrative,
    observation::ZoneView,
    operation::OperationKind,
    partition::Partition,
    reconcile::LAG_ENTRIES_MAX,
    state::ZoneState,
};

/// Transfers that make leader counts even.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderPlan {
    /// In the order of partition ids.
    pub transfers: Vec<TransferProposal>,
    /// Leaderships of each node now, running transfers counted where they go.
    pub before: BTreeMap<NodeId, u32>,
    /// Leaderships of each node after all transfers.
    pub after: BTreeMap<NodeId, u32>,
}

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

/// The plan for the zone as it is now.
pub fn plan(state: &ZoneState, view: &ZoneView) -> LeaderPlan {
    let leading: BTreeSet<NodeId> = state
        .nodes()
        .iter()
        .filter(|(id, node)| node.is_eligible() && view.is_connected(**id))
        .map(|(id, _)| *id)
        .collect();
    let mut fixed: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut seats = Vec::new();
    for (id, partition) in state.partitions().iter() {
        if let Some(node) = destination(state, partition) {
            *fixed.entry(node).or_default() += 1;
        } else if let Some(seat) = seat(view, &leading, *id, partition) {
            seats.push(seat);
        } else if let Some(leader) = view.leader(*id) {
            *fixed.entry(leader.replica.node).or_default() += 1;
        }
    }
    let solution = solve(&seats, &fixed, &leading);
    let count = |assigned: &dyn Fn(usize) -> NodeId| {
        let mut counts: BTreeMap<NodeId, u32> =
            state.nodes().iter().map(|(id, _)| (*id, 0)).collect();
        for (node, count) in &fixed {
            *counts.entry(*node).or_default() += count;
        }
        for index in 0..seats.len() {
            *counts.entry(assigned(index)).or_default() += 1;
        }
        counts
    };
    let before = count(&|index| seats[index].current);
    let after = count(&|index| solution[index]);
    let transfers = seats
        .iter()
        .zip(&solution)
        .filter(|(seat, to)| seat.current != **to)
        .map(|(seat, to)| transfer(state, seat, *to, &before, &after))
        .collect();
    LeaderPlan { transfers, before, after }
}

/// Where a running transfer takes the leadership.
fn destination(state: &ZoneState, partition: &Partition) -> Option<NodeId> {
    match state.operation(partition.change?)?.kind {
        OperationKind::TransferLeader { to, .. } => Some(to),
        OperationKind::Takeover { .. }
        | OperationKind::Repair(_)
        | OperationKind::MoveReplica(_)
        | OperationKind::Drain { .. } => None,
    }
}

/// The partition's leadership, if it can be moved now.
fn seat(
    view: &ZoneView,
    leading: &BTreeSet<NodeId>,
    id: PartitionId,
    partition: &Partition,
) -> Option<Seat> {
    let leader = view.leader(id)?;
    let committed = partition.leader?;
    let observed = partition.observed.as_ref()?;
    // A transfer is checked against the committed leader: one that is not committed yet is left alone.
    if committed.replica != leader.replica.id
        || partition.change.is_some()
        || !partition.is_settled()
    {
        return None;
    }
    let report = &view.replica(id, leader.replica.id)?.report;
    let keeps_up = |replica| {
        report
            .progress
            .iter()
            .any(|progress| progress.replica == replica && progress.lag_entries <= LAG_ENTRIES_MAX)
    };
    let eligible = partition
        .targets
        .iter()
        .filter(|target| leading.contains(&target.node) && observed.is_full_voter(target.id))
        .filter(|target| target.id == leader.replica.id || keeps_up(target.id))
        .map(|target| target.node)
        .collect();
    let preferred = partition
        .preferred_leader
        .and_then(|preferred| partition.target(preferred))
        .map(|target| target.node);
    Some(Seat { partition: id, current: leader.replica.node, eligible, preferred })
}

fn transfer(
    state: &ZoneState,
    seat: &Seat,
    to: NodeId,
    before: &BTreeMap<NodeId, u32>,
    after: &BTreeMap<NodeId, u32>,
) -> TransferProposal {
    let from = seat.current;
    let count = |counts: &BTreeMap<NodeId, u32>, node| counts.get(&node).copied().unwrap_or(0);
    let counts = format!(
        "node {from} leads {} and then {}, node {to} leads {} and then {}",
        count(before, from),
        count(after, from),
        count(before, to),
        count(after, to)
    );
    let node = state.node(from);
    let (why, parent) = match node.map(|node| node.administrative) {
        Some(Administrative::Draining { operation, .. }) => {
            (format!("node {from} is being drained"), Some(operation))
        }
        Some(Administrative::Drained) => (format!("node {from} is drained"), None),
        Some(Administrative::Active) | None => {
            match node.and_then(|node| node.why_not_eligible()) {
                Some(why) => (format!("node {from} may not lead: {why}"), None),
                None => ("even leader counts".to_owned(), None),
            }
        }
    };
    let others: Vec<_> = seat
        .eligible
        .iter()
        .filter(|node| **node != to && **node != from)
        .map(|node| format!("node {node}, which then leads {}", count(after, *node)))
        .collect();
    let rejected = if others.is_empty() {
        "no other voter may lead".to_owned()
    } else {
        format!("rejected: {}", others.join("; "))
    };
    let reason = format!("{why}: {counts}; {rejected}");
    TransferProposal { partition: seat.partition, from, to, reason, parent }
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
    let mut flow = Flow::new(seats, fixed, leading);
    // Each round makes the cost smaller by at least one, and no round undoes another. The bound is a
    // belt beside these braces: what has been reached by then is an improvement all the same.
    for _ in 0..seats.len().saturating_mul(4).saturating_add(64) {
        if !flow.improve() {
            break;
        }
    }
    flow.assigned
}

/// A seat's cost of being moved along an edge, and the tie-breaks among equal costs.
type Move = (i64, bool, PartitionId, usize);

/// The present assignment, and which single moves are possible from it.
struct Flow<'a> {
    seats: &'a [Seat],
    leading: &'a BTreeSet<NodeId>,
    assigned: Vec<NodeId>,
    loads: BTreeMap<NodeId, i64>,
    /// For each pair of nodes, what could move from the first to the second, cheapest first.
    moves: BTreeMap<NodeId, BTreeMap<NodeId, BTreeSet<Move>>>,
    /// Outweighs every number of transfers.
    balance_weight: i64,
}

/// What leads to a node on the cheapest way there.
#[derive(Clone, Copy)]
struct Step {
    cost: i64,
    from: Option<NodeId>,
}

impl<'a> Flow<'a> {
    fn new(
        seats: &'a [Seat],
        fixed: &BTreeMap<NodeId, u32>,
        leading: &'a BTreeSet<NodeId>,
    ) -> Self {
        let mut loads: BTreeMap<NodeId, i64> = leading.iter().map(|node| (*node, 0)).collect();
        for (node, count) in fixed {
            *loads.entry(*node).or_default() += i64::from(*count);
        }
        let assigned: Vec<NodeId> = seats.iter().map(|seat| seat.current).collect();
        for node in &assigned {
            *loads.entry(*node).or_default() += 1;
        }
        let count = i64::try_from(seats.len()).unwrap_or(i64::MAX / 1_000_000);
        let mut flow = Self {
            seats,
            leading,
            assigned,
            loads,
            moves: BTreeMap::new(),
            balance_weight: count.saturating_mul(2).saturating_add(2),
        };
        for index in 0..seats.len() {
            flow.open(index);
        }
        flow
    }

    /// What moving a seat from where it is to `to` adds to the number of transfers.
    fn cost(&self, index: usize, to: NodeId) -> Move {
        let seat = &self.seats[index];
        let cost = match (self.assigned[index] == seat.current, to == seat.current) {
            (true, _) => 1,
            (false, true) => -1,
            (false, false) => 0,
        };
        (cost, seat.preferred != Some(to), seat.partition, index)
    }

    fn open(&mut self, index: usize) {
        let from = self.assigned[index];
        for to in self.seats[index].eligible.iter().filter(|to| **to != from) {
            let cost = self.cost(index, *to);
            self.moves.entry(from).or_default().entry(*to).or_default().insert(cost);
        }
    }

    fn close(&mut self, index: usize) {
        let from = self.assigned[index];
        for to in self.seats[index].eligible.iter().filter(|to| **to != from) {
            let cost = self.cost(index, *to);
            let Some(targets) = self.moves.get_mut(&from) else { continue };
            if let Some(moves) = targets.get_mut(to) {
                moves.remove(&cost);
                if moves.is_empty() {
                    targets.remove(to);
                }
            }
        }
    }

    fn shift(&mut self, from: NodeId, to: NodeId) {
        let cheapest = self.moves.get(&from).and_then(|targets| targets.get(&to));
        let Some((_, _, _, index)) = cheapest.and_then(|moves| moves.first()).copied() else {
            return;
        };
        self.close(index);
        self.assigned[index] = to;
        self.open(index);
        *self.loads.entry(from).or_default() -= 1;
        *self.loads.entry(to).or_default() += 1;
    }

    /// What it gains to take one leadership from a node (negative), by the sum of squares. A node that
    /// may not lead gives whatever it has.
    fn gain(&self, node: NodeId) -> i64 {
        let load = self.loads.get(&node).copied().unwrap_or(0);
        if self.leading.contains(&node) {
            -self.balance_weight * (2 * load - 1)
        } else {
            let total = i64::try_from(self.seats.len()).unwrap_or(i64::MAX / 1_000_000);
            let most = self.loads.values().max().copied().unwrap_or(0) + total + 1;
            -self.balance_weight * (2 * most + 1)
        }
    }

    /// What it costs to give one more leadership to a node.
    fn price(&self, node: NodeId) -> i64 {
        let load = self.loads.get(&node).copied().unwrap_or(0);
        self.balance_weight * (2 * load + 1)
    }

    /// Makes the best single improvement; false if there is none.
    fn improve(&mut self) -> bool {
        // Bellman–Ford from all nodes at once: the way to a node starts at any node that gives one away.
        let mut steps: BTreeMap<NodeId, Step> = self
            .loads
            .iter()
            .filter(|(node, _)| self.moves.contains_key(node))
            .map(|(node, _)| (*node, Step { cost: self.gain(*node), from: None }))
            .collect();
        for round in 0..=self.loads.len() {
            let mut changed = None;
            for (from, targets) in &self.moves {
                let Some(here) = steps.get(from).copied() else { continue };
                for (to, moves) in targets {
                    let Some((cost, ..)) = moves.first() else { continue };
                    let cost = here.cost + cost;
                    if steps.get(to).is_none_or(|step| cost < step.cost) {
                        steps.insert(*to, Step { cost, from: Some(*from) });
                        changed = Some(*to);
                    }
                }
            }
            match changed {
                None => break,
                // It still gets cheaper after as many rounds as there are nodes: a cycle that brings
                // seats back to where they were, at no change of counts.
                Some(node) if round == self.loads.len() => return self.turn(node, &steps),
                Some(_) => {}
            }
        }
        let best = steps
            .iter()
            .filter(|(node, step)| step.from.is_some() && self.leading.contains(node))
            .map(|(node, step)| (step.cost + self.price(*node), *node))
            .filter(|(cost, _)| *cost < 0)
            .min();
        let Some((_, end)) = best else { return false };
        let mut path = vec![end];
        let mut at = end;
        while let Some(from) = steps.get(&at).and_then(|step| step.from) {
            path.push(from);
            at = from;
            if path.len() > self.loads.len() + 1 {
                return false;
            }
        }
        // From the far end: each node takes one before it gives one away.
        for pair in path.windows(2) {
            self.shift(pair[1], pair[0]);
        }
        true
    }

    /// Carries out the cycle that leads to `node`.
    fn turn(&mut self, node: NodeId, steps: &BTreeMap<NodeId, Step>) -> bool {
        let back = |node: NodeId| steps.get(&node).and_then(|step| step.from);
        let mut on_cycle = node;
        for _ in 0..self.loads.len() {
            let Some(from) = back(on_cycle) else { return false };
            on_cycle = from;
        }
        let mut cycle = vec![on_cycle];
        let mut at = on_cycle;
        loop {
            let Some(from) = back(at) else { return false };
            cycle.push(from);
            at = from;
            if at == on_cycle {
                break;
            }
        }
        // Each edge moves the seat that made it cheap: all are chosen before any is moved.
        let chosen: Vec<(usize, NodeId)> = cycle
            .windows(2)
            .filter_map(|pair| {
                let (_, _, _, index) = self.moves.get(&pair[1])?.get(&pair[0])?.first()?;
                Some((*index, pair[0]))
            })
            .collect();
        for (index, to) in chosen {
            self.close(index);
            *self.loads.entry(self.assigned[index]).or_default() -= 1;
            self.assigned[index] = to;
            *self.loads.entry(to).or_default() += 1;
            self.open(index);
        }
        true
    }
}
