//! Mending what is broken at first: replicas that are nowhere or where they may not be, members of a group
//! that meet or crowd into too few fault domains, nodes above their capacity.
//!
//! Largest first, each to the cheapest node that takes it; if none does, one other replica is moved out of
//! the way. What cannot be mended stays as it is, and is tried again as the search makes room.

use crate::seeded::Seeded;

use super::{moves::Change, state::State};

/// Nodes that are compared for a replica before all of them are.
const SAMPLED_NODES: usize = 128;
/// Replicas that are tried to be moved out of the way of one.
const EJECTED_MAX: usize = 256;
/// Replicas that one call tries to mend, so that no call takes long.
const MENDED_MAX: usize = 4_096;

/// Tries to mend what is broken. Returns how many changes it has weighed.
pub(super) fn mend(state: &mut State<'_>, seeded: &mut Seeded) -> u64 {
    let mut troubled = troubled(state);
    // Where there are more, every other call begins somewhere: what cannot be mended must not keep all else waiting.
    if troubled.len() > MENDED_MAX && seeded.below(2) == 1 {
        let first = seeded.below(troubled.len());
        troubled.rotate_left(first);
    }
    troubled.truncate(MENDED_MAX);
    let mut weighed = 0;
    for replica in troubled {
        if !is_troubled(state, replica) {
            continue;
        }
        let sample: Vec<usize> =
            (0..SAMPLED_NODES).map(|_| seeded.below(state.problem.node_count())).collect();
        let found = cheapest(state, replica, sample.into_iter(), &mut weighed)
            .or_else(|| cheapest(state, replica, 0..state.problem.node_count(), &mut weighed));
        match found {
            Some(node) => {
                state.take(replica);
                state.put(replica, node);
            }
            None => eject(state, replica, seeded, &mut weighed),
        }
    }
    weighed
}

/// Replicas that should go somewhere else, largest first.
fn troubled(state: &State<'_>) -> Vec<usize> {
    let problem = state.problem;
    let count = problem.resource_count();
    let capacity: Vec<i64> = (0..count)
        .map(|resource| problem.capacity.iter().skip(resource).step_by(count).sum::<i64>().max(1))
        .collect();
    // Parts of the whole capacity, in units that make small replicas comparable.
    let size = |replica: usize| -> i128 {
        let demand = problem.demand_of(replica).iter().zip(&capacity);
        demand.map(|(demand, all)| (i128::from(*demand) << 40) / i128::from(*all)).sum()
    };
    let mut found: Vec<(i128, usize)> = (0..problem.replica_count())
        .filter(|replica| is_troubled(state, *replica))
        .map(|replica| (size(replica), replica))
        .collect();
    found.sort_unstable_by_key(|(size, replica)| (-size, *replica));
    found.into_iter().map(|(_, replica)| replica).collect()
}

fn is_troubled(state: &State<'_>, replica: usize) -> bool {
    let problem = state.problem;
    let Some(node) = state.node_of(replica) else { return true };
    if !problem.may_hold[node] || state.groups.conflicts(problem, replica, node) {
        return true;
    }
    if state.is_over(node) {
        let row = problem.row(node);
        let each = state.load_of(node).iter().zip(&problem.capacity[row]);
        let mut needs = each.zip(problem.demand_of(replica));
        return needs.any(|((load, max), demand)| load > max && *demand > 0);
    }
    let group = problem.group[replica] as usize;
    problem.spread_min[group] > 1
        && state.groups.spread(problem, group) < problem.spread_min[group]
        && state.groups.in_domain(problem, group, problem.fault_domain[node]) > 1
}

/// Whether a replica may go to a node, and is no longer troubled there.
fn helps(state: &State<'_>, replica: usize, node: usize) -> bool {
    let problem = state.problem;
    let group = problem.group[replica] as usize;
    if state.node_of(replica) == Some(node) || !state.may_go(replica, node) {
        return false;
    }
    let wants_spread = problem.spread_min[group] > state.groups.spread(problem, group);
    let new = state.groups.in_domain(problem, group, problem.fault_domain[node]) == 0;
    let only_spread = state.node_of(replica).is_some_and(|from| {
        problem.may_hold[from]
            && !state.groups.conflicts(problem, replica, from)
            && !state.is_over(from)
    });
    !only_spread || !wants_spread || new
}

/// The node where the replica is cheapest; one in a new fault domain before all others if its group lacks
/// one.
fn cheapest(
    state: &State<'_>,
    replica: usize,
    nodes: impl Iterator<Item = usize>,
    weighed: &mut u64,
) -> Option<usize> {
    let problem = state.problem;
    let group = problem.group[replica] as usize;
    let wants_spread = problem.spread_min[group] > state.groups.spread(problem, group);
    let rank = |node: usize| {
        let domain = problem.fault_domain[node];
        let shares = wants_spread && state.groups.in_domain(problem, group, domain) > 0;
        let cost = state.gain_of_arrival(node, replica) + state.own_cost(replica, node);
        (shares, cost, node)
    };
    nodes
        .filter(|node| {
            *weighed += 1;
            helps(state, replica, *node) && state.has_room(*node, replica)
        })
        .map(rank)
        .min()
        .map(|(_, _, node)| node)
}

/// Makes room for the replica by moving another one to a third node.
fn eject(state: &mut State<'_>, replica: usize, seeded: &mut Seeded, weighed: &mut u64) {
    let problem = state.problem;
    for _ in 0..EJECTED_MAX {
        let node = seeded.below(problem.node_count());
        let Some(other) = seeded.pick(state.residents(node)) else { continue };
        let other = other as usize;
        *weighed += 1;
        if problem.group[other] == problem.group[replica]
            || !helps(state, replica, node)
            || !state.has_room_without(node, replica, other)
        {
            continue;
        }
        let sample: Vec<usize> =
            (0..SAMPLED_NODES).map(|_| seeded.below(problem.node_count())).collect();
        let thirds = sample.into_iter().filter(|third| *third != node);
        let Some(third) = cheapest(state, other, thirds, weighed) else { continue };
        if state.node_of(replica).is_some() {
            let change = Change::Replace { replica, other, to: third };
            if state.weigh(change).is_some() {
                state.carry_out(change);
                return;
            }
        } else {
            state.take(other);
            state.put(other, third);
            state.put(replica, node);
            return;
        }
    }
}
