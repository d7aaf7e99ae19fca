//! Which rules an assignment breaks, and how often.

use std::fmt;

use serde::Serialize;

use super::problem::{Assignment, Problem};

/// How often an assignment breaks each rule; all zero: it is feasible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Violations {
    /// Replicas that are nowhere.
    pub unplaced: u64,
    /// Replicas on nodes that may hold none, and replicas that came to nodes which may receive none.
    pub misplaced: u64,
    /// Replicas beside another of their group on the same node.
    pub conflicts: u64,
    /// Fault domains that groups lack.
    pub spread_shortfall: u64,
    /// Pairs of a node and a resource whose load is above the capacity.
    pub over_capacity: u64,
    /// Pairs of a node and a resource that moves would fill beyond its capacity meanwhile, although it
    /// is not beyond it at first, or further than it is at first.
    pub over_transient: u64,
}

/// One rule that is broken in one place. Replicas, nodes, groups and resources are numbers of the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    Unplaced {
        replica: usize,
    },
    Misplaced {
        replica: usize,
        node: usize,
    },
    /// So many more than one of a group are beside another of it.
    Conflict {
        group: usize,
        replicas: u64,
    },
    SpreadShortfall {
        group: usize,
        fault_domains: u64,
        wanted: u64,
    },
    OverCapacity {
        node: usize,
        resource: usize,
        load: i64,
        capacity: i64,
    },
    /// While replicas move.
    OverTransient {
        node: usize,
        resource: usize,
        load: i64,
        capacity: i64,
    },
}

impl Violations {
    pub fn of(problem: &Problem, assignment: &Assignment) -> Self {
        let mut found = Self::default();
        each(problem, assignment, |violation| match violation {
            Violation::Unplaced { .. } => found.unplaced += 1,
            Violation::Misplaced { .. } => found.misplaced += 1,
            Violation::Conflict { replicas, .. } => found.conflicts += replicas,
            Violation::SpreadShortfall { fault_domains, wanted, .. } => {
                found.spread_shortfall += wanted - fault_domains;
            }
            Violation::OverCapacity { .. } => found.over_capacity += 1,
            Violation::OverTransient { .. } => found.over_transient += 1,
        });
        found
    }

    /// Where rules are broken: the first so many places.
    pub fn first(problem: &Problem, assignment: &Assignment, max: usize) -> Vec<Violation> {
        let mut found = Vec::new();
        each(problem, assignment, |violation| {
            if found.len() < max {
                found.push(violation);
            }
        });
        found
    }

    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// How many there are of all kinds.
    pub fn count(&self) -> u64 {
        self.unplaced
            + self.misplaced
            + self.conflicts
            + self.spread_shortfall
            + self.over_capacity
            + self.over_transient
    }
}

/// Shows every place where a rule is broken.
fn each(problem: &Problem, assignment: &Assignment, mut see: impl FnMut(Violation)) {
    let size = problem.capacity.len();
    let (mut loads, mut before, mut usage) = (vec![0_i64; size], vec![0; size], vec![0; size]);
    let add = |table: &mut [i64], node: usize, replica: usize| {
        let demand = problem.demand_of(replica);
        for (sum, demand) in table[problem.row(node)].iter_mut().zip(demand) {
            *sum += demand;
        }
    };
    for (replica, node) in assignment.iter().enumerate() {
        let home = problem.initial_node(replica);
        if let Some(home) = home {
            add(&mut before, home, replica);
            add(&mut usage, home, replica);
        }
        let Some(node) = node else {
            see(Violation::Unplaced { replica });
            continue;
        };
        add(&mut loads, node, replica);
        if home != Some(node) {
            add(&mut usage, node, replica);
        }
        if !problem.accepts(node, replica) {
            see(Violation::Misplaced { replica, node });
        }
    }
    let count = problem.resource_count();
    for (index, capacity) in problem.capacity.iter().enumerate() {
        let (node, resource) = (index / count, index % count);
        let (load, capacity) = (loads[index], *capacity);
        let is_held = usage[index] > capacity.max(before[index]);
        if load > capacity {
            see(Violation::OverCapacity { node, resource, load, capacity });
        } else if problem.resources[resource].transient && is_held {
            see(Violation::OverTransient { node, resource, load: usage[index], capacity });
        }
    }
    for group in 0..problem.group_count() {
        let members = problem.members_of(group).iter();
        let mut nodes: Vec<u32> = members
            .map(|member| assignment.nodes[*member as usize])
            .filter(|node| *node != super::problem::NOWHERE)
            .collect();
        let placed = nodes.len();
        nodes.sort_unstable();
        nodes.dedup();
        if placed > nodes.len() {
            see(Violation::Conflict { group, replicas: (placed - nodes.len()) as u64 });
        }
        let mut domains: Vec<u32> =
            nodes.iter().map(|node| problem.fault_domain[*node as usize]).collect();
        domains.sort_unstable();
        domains.dedup();
        let (fault_domains, wanted) = (domains.len() as u64, u64::from(problem.spread_min[group]));
        if fault_domains < wanted {
            see(Violation::SpreadShortfall { group, fault_domains, wanted });
        }
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return formatter.write_str("no rule is broken");
        }
        let Self {
            unplaced,
            misplaced,
            conflicts,
            spread_shortfall,
            over_capacity,
            over_transient,
        } = self;
        write!(
            formatter,
            "{unplaced} replicas are nowhere, {misplaced} where they may not be, {conflicts} beside \
             another of their group; groups lack {spread_shortfall} fault domains; {over_capacity} \
             capacities are exceeded, {over_transient} more while replicas move"
        )
    }
}
