//! What the members of groups have to do with each other: never on one node, spread over fault domains,
//! and not all moved at once.
//!
//! Most groups are small and are simply gone through; a large one keeps a count for each node and fault
//! domain.

use super::problem::{NOWHERE, Problem};

/// Groups above this size keep counts.
const SMALL_MAX: usize = 12;

#[derive(Clone)]
pub(super) struct Groups {
    /// The node of each replica, as in the state; here so that a group is one look.
    node_of: Vec<u32>,
    /// For each large group, its members on each node and in each fault domain.
    large: Vec<Option<Box<Counts>>>,
    moved: Vec<u32>,
    /// How many groups have so many moved members.
    with_moved: Vec<u32>,
    moved_max: usize,
}

#[derive(Clone)]
struct Counts {
    nodes: Vec<u64>,
    /// Members that are on a node beside another one. Only a broken rule makes it more than 0.
    doubles: u32,
    domains: Vec<u32>,
}

impl Groups {
    pub fn new(problem: &Problem) -> Self {
        let counts = || Counts {
            nodes: vec![0; problem.node_count().div_ceil(64)],
            doubles: 0,
            domains: vec![0; problem.fault_domain_count],
        };
        let large = (0..problem.group_count())
            .map(|group| {
                let is_large = problem.members_of(group).len() > SMALL_MAX;
                is_large.then(|| Box::new(counts()))
            })
            .collect();
        let largest = (0..problem.group_count()).map(|group| problem.members_of(group).len()).max();
        let mut with_moved = vec![0; largest.unwrap_or(0) + 2];
        with_moved[0] = problem.group_count() as u32;
        Self {
            node_of: vec![NOWHERE; problem.replica_count()],
            large,
            moved: vec![0; problem.group_count()],
            with_moved,
            moved_max: 0,
        }
    }

    pub fn enter(&mut self, problem: &Problem, replica: usize, node: usize) {
        let group = problem.group[replica] as usize;
        self.node_of[replica] = node as u32;
        if let Some(counts) = &mut self.large[group] {
            let bit = 1 << (node % 64);
            counts.doubles += u32::from(counts.nodes[node / 64] & bit != 0);
            counts.nodes[node / 64] |= bit;
            counts.domains[problem.fault_domain[node] as usize] += 1;
        }
        if problem.is_moved(replica, node) {
            self.recount(group, 1);
        }
    }

    pub fn leave(&mut self, problem: &Problem, replica: usize, node: usize) {
        let group = problem.group[replica] as usize;
        self.node_of[replica] = NOWHERE;
        if let Some(counts) = &mut self.large[group] {
            let is_alone = counts.doubles == 0 || {
                let mut others = problem.members_of(group).iter();
                !others.any(|other| self.node_of[*other as usize] as usize == node)
            };
            if is_alone {
                counts.nodes[node / 64] &= !(1 << (node % 64));
            } else {
                counts.doubles -= 1;
            }
            counts.domains[problem.fault_domain[node] as usize] -= 1;
        }
        if problem.is_moved(replica, node) {
            self.recount(group, -1);
        }
    }

    fn recount(&mut self, group: usize, change: i32) {
        let before = self.moved[group];
        let after = before.saturating_add_signed(change);
        self.moved[group] = after;
        self.with_moved[before as usize] -= 1;
        self.with_moved[after as usize] += 1;
        self.moved_max = self.moved_max.max(after as usize);
        while self.moved_max > 0 && self.with_moved[self.moved_max] == 0 {
            self.moved_max -= 1;
        }
    }

    /// The cost of the group with the most moved members.
    pub fn cost(&self, problem: &Problem) -> i64 {
        problem.group_move_weight * self.moved_max as i64
    }

    /// How that cost changes when groups, each named once, get so many more moved members.
    pub fn gain(&self, problem: &Problem, changes: &[(usize, i32)]) -> i64 {
        if problem.group_move_weight == 0 || changes.iter().all(|(_, change)| *change == 0) {
            return 0;
        }
        let after = |(group, change): &(usize, i32)| {
            self.moved[*group].saturating_add_signed(*change) as usize
        };
        let mut level = changes.iter().map(after).max().unwrap_or(0).max(self.moved_max);
        while level > 0 {
            let here = self.with_moved.get(level).copied().unwrap_or(0) as usize;
            let left = changes.iter().filter(|(group, _)| self.moved[*group] as usize == level);
            if here > left.count() || changes.iter().any(|change| after(change) == level) {
                break;
            }
            level -= 1;
        }
        problem.group_move_weight * (level as i64 - self.moved_max as i64)
    }

    /// Whether another member of the replica's group is on the node.
    #[inline]
    pub fn conflicts(&self, problem: &Problem, replica: usize, node: usize) -> bool {
        let group = problem.group[replica] as usize;
        if let Some(counts) = &self.large[group] {
            let is_there = counts.nodes[node / 64] & (1 << (node % 64)) != 0;
            let is_own = self.node_of[replica] as usize == node;
            if !is_own || counts.doubles == 0 {
                return is_there && !is_own;
            }
        }
        let mut members = problem.members_of(group).iter();
        members.any(|member| {
            self.node_of[*member as usize] as usize == node && *member as usize != replica
        })
    }

    /// Whether the replica's group is spread well enough, or no worse than before, if the replica goes
    /// to the node.
    #[inline]
    pub fn stays_spread(&self, problem: &Problem, replica: usize, node: usize) -> bool {
        let group = problem.group[replica] as usize;
        let from = self.node_of[replica];
        if problem.spread_min[group] <= 1 || from == NOWHERE {
            return true;
        }
        let domains = &problem.fault_domain;
        let (old, new) = (domains[from as usize], domains[node]);
        if old == new || self.in_domain(problem, group, old) > 1 {
            return true;
        }
        self.in_domain(problem, group, new) == 0
            || self.spread(problem, group) > problem.spread_min[group]
    }

    /// Members of a group in a fault domain.
    pub fn in_domain(&self, problem: &Problem, group: usize, domain: u32) -> u32 {
        if let Some(counts) = &self.large[group] {
            return counts.domains[domain as usize];
        }
        let members = problem.members_of(group).iter();
        let inside = members.filter(|member| {
            let node = self.node_of[**member as usize];
            node != NOWHERE && problem.fault_domain[node as usize] == domain
        });
        inside.count() as u32
    }

    /// Over how many fault domains a group is spread.
    pub fn spread(&self, problem: &Problem, group: usize) -> u32 {
        if let Some(counts) = &self.large[group] {
            return counts.domains.iter().filter(|count| **count > 0).count() as u32;
        }
        let mut seen = [NOWHERE; SMALL_MAX];
        let mut found = 0;
        for member in problem.members_of(group) {
            let node = self.node_of[*member as usize];
            if node == NOWHERE {
                continue;
            }
            let domain = problem.fault_domain[node as usize];
            if !seen[..found].contains(&domain) {
                seen[found] = domain;
                found += 1;
            }
        }
        found as u32
    }
}
