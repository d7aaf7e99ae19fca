//! What an assignment costs, term by term, and what no assignment can cost less than.

use std::fmt;

use serde::Serialize;

use super::problem::{Assignment, Problem};

/// The terms of the cost, weighted. Their sum is what the solver makes small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Load above the nodes' targets.
    pub load: i64,
    /// What is free of one resource without the other.
    pub balance: i64,
    /// The replicas' own costs of being moved.
    pub replica_moves: i64,
    /// The most moves within one group.
    pub group_moves: i64,
    /// The distances gone.
    pub distance: i64,
}

impl Cost {
    /// The cost of an assignment, from scratch. A replica that is nowhere costs nothing.
    pub fn of(problem: &Problem, assignment: &Assignment) -> Self {
        let mut cost = Self::default();
        let mut loads = vec![0_i64; problem.capacity.len()];
        let mut moved = vec![0_i64; problem.group_count()];
        for (replica, node) in assignment.iter().enumerate() {
            let Some(node) = node else { continue };
            for (load, demand) in
                loads[problem.row(node)].iter_mut().zip(problem.demand_of(replica))
            {
                *load += demand;
            }
            cost.distance += problem.distance_cost(replica, node);
            if problem.is_moved(replica, node) {
                cost.replica_moves += problem.move_cost[replica];
                moved[problem.group[replica] as usize] += 1;
            }
        }
        cost.group_moves = moved.iter().max().copied().unwrap_or(0) * problem.group_move_weight;
        for node in 0..problem.node_count() {
            let row = &loads[problem.row(node)];
            cost.load += load_cost(problem, node, |resource| row[resource]);
            cost.balance += balance_cost(problem, node, |resource| row[resource]);
        }
        cost
    }

    pub fn total(&self) -> i64 {
        self.load + self.balance + self.replica_moves + self.group_moves + self.distance
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { load, balance, replica_moves, group_moves, distance } = self;
        write!(
            formatter,
            "{}: load {load}, balance {balance}, replica moves {replica_moves}, group moves \
             {group_moves}, distance {distance}",
            self.total()
        )
    }
}

/// What one node's load above its targets costs.
#[inline]
pub(super) fn load_cost(problem: &Problem, node: usize, load: impl Fn(usize) -> i64) -> i64 {
    let targets = &problem.target[problem.row(node)];
    let each = problem.resources.iter().zip(targets).enumerate();
    each.map(|(index, (resource, target))| {
        // Within i64 whatever is assigned: checked when the problem was.
        resource.load_weight.wrapping_mul(load(index).wrapping_sub(*target).max(0))
    })
    .fold(0, i64::wrapping_add)
}

/// What one node's free resources cost that do not fit together.
#[inline]
pub(super) fn balance_cost(problem: &Problem, node: usize, load: impl Fn(usize) -> i64) -> i64 {
    let capacities = &problem.capacity[problem.row(node)];
    let free = |resource: usize| capacities[resource].wrapping_sub(load(resource));
    let each = problem.balances.iter().map(|balance| {
        let surplus =
            balance.target.wrapping_mul(free(balance.resource)).wrapping_sub(free(balance.against));
        balance.weight.wrapping_mul(surplus.max(0))
    });
    each.fold(0, i64::wrapping_add)
}

/// What no assignment of all replicas can cost less than: as if all nodes were one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LowerBound {
    pub load: i64,
    pub balance: i64,
}

impl LowerBound {
    pub fn of(problem: &Problem) -> Self {
        let count = problem.resource_count();
        let sum = |table: &[i64], resource: usize| -> i64 {
            table.iter().skip(resource).step_by(count).sum()
        };
        let demand: Vec<i64> = (0..count).map(|resource| sum(&problem.demand, resource)).collect();
        let load = problem.resources.iter().enumerate().map(|(index, resource)| {
            resource.load_weight * (demand[index] - sum(&problem.target, index)).max(0)
        });
        let free = |resource: usize| sum(&problem.capacity, resource) - demand[resource];
        let balance = problem.balances.iter().map(|balance| {
            let surplus = balance.target * free(balance.resource) - free(balance.against);
            balance.weight * surplus.max(0)
        });
        Self { load: load.sum(), balance: balance.sum() }
    }

    pub fn total(&self) -> i64 {
        self.load + self.balance
    }

    /// How far a cost is above the bound, in ten-thousandths of the bound; none if the bound is 0.
    pub fn gap_basis_points(&self, cost: &Cost) -> Option<i64> {
        let bound = i128::from(self.total());
        let above = i128::from(cost.total()) - bound;
        (bound > 0).then(|| i64::try_from(above * 10_000 / bound).unwrap_or(i64::MAX))
    }
}
