//! A problem as the search needs it: checked, numbered, in flat tables.
//!
//! **Invariant:** everything that is summed up anywhere stays below 2⁶¹ in size ([`super::validate`] checks
//! it with wide integers), so that the search can count in `i64`.

use super::form::{BalanceForm, DistancesForm};

/// No node.
pub(super) const NOWHERE: u32 = u32::MAX;

/// A checked problem. Nodes, replicas and groups are numbered in the sequence of their lists. Tables hold
/// one row for each node or replica, with a column for each resource.
#[derive(Clone, Debug)]
pub struct Problem {
    pub(super) resources: Vec<Resource>,
    pub(super) balances: Vec<Balance>,
    pub(super) node_names: Vec<String>,
    pub(super) replica_names: Vec<String>,
    pub(super) group_names: Vec<String>,
    pub(super) capacity: Vec<i64>,
    pub(super) target: Vec<i64>,
    pub(super) fault_domain: Vec<u32>,
    pub(super) fault_domain_count: usize,
    pub(super) may_receive: Vec<bool>,
    pub(super) may_hold: Vec<bool>,
    pub(super) spread_min: Vec<u32>,
    /// Members of group `g`: `members[member_start[g]..member_start[g + 1]]`, rising.
    pub(super) members: Vec<u32>,
    pub(super) member_start: Vec<u32>,
    pub(super) group: Vec<u32>,
    pub(super) demand: Vec<i64>,
    /// Where each replica is at first; [`NOWHERE`] if it is to be placed.
    pub(super) home: Vec<u32>,
    /// Cost of moving each replica, weighted.
    pub(super) move_cost: Vec<i64>,
    pub(super) group_move_weight: i64,
    pub(super) distance_weight: i64,
    /// The place of each node in `distances`, a square table.
    pub(super) site: Vec<u32>,
    pub(super) site_count: usize,
    pub(super) distances: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub name: String,
    pub transient: bool,
    pub load_weight: i64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    pub resource: usize,
    pub against: usize,
    pub target: i64,
    pub weight: i64,
}

impl Problem {
    pub fn resource_count(&self) -> usize {
        self.resources.len()
    }

    pub fn node_count(&self) -> usize {
        self.node_names.len()
    }

    pub fn replica_count(&self) -> usize {
        self.replica_names.len()
    }

    pub fn group_count(&self) -> usize {
        self.group_names.len()
    }

    pub fn resource_name(&self, resource: usize) -> &str {
        self.resources.get(resource).map_or("", |resource| resource.name.as_str())
    }

    pub fn node_name(&self, node: usize) -> &str {
        self.node_names.get(node).map_or("", String::as_str)
    }

    pub fn replica_name(&self, replica: usize) -> &str {
        self.replica_names.get(replica).map_or("", String::as_str)
    }

    pub fn group_name(&self, group: usize) -> &str {
        self.group_names.get(group).map_or("", String::as_str)
    }

    /// Where the replicas are.
    pub fn initial(&self) -> Assignment {
        Assignment { nodes: self.home.clone() }
    }

    /// Where a replica is at first.
    pub fn initial_node(&self, replica: usize) -> Option<usize> {
        self.home.get(replica).filter(|node| **node != NOWHERE).map(|node| *node as usize)
    }

    pub(super) fn demand_of(&self, replica: usize) -> &[i64] {
        let count = self.resources.len();
        &self.demand[replica * count..(replica + 1) * count]
    }

    pub(super) fn row(&self, node: usize) -> std::ops::Range<usize> {
        let count = self.resources.len();
        node * count..(node + 1) * count
    }

    pub(super) fn members_of(&self, group: usize) -> &[u32] {
        let start = self.member_start[group] as usize;
        &self.members[start..self.member_start[group + 1] as usize]
    }

    /// What it costs by distance that a replica is on a node.
    pub(super) fn distance_cost(&self, replica: usize, node: usize) -> i64 {
        let home = self.home[replica];
        if self.distances.is_empty() || home == NOWHERE {
            return 0;
        }
        let (from, to) = (self.site[home as usize] as usize, self.site[node] as usize);
        self.distance_weight * i64::from(self.distances[from * self.site_count + to])
    }

    /// Whether a replica is somewhere else than at first.
    pub(super) fn is_moved(&self, replica: usize, node: usize) -> bool {
        let home = self.home[replica];
        home != NOWHERE && home as usize != node
    }

    /// Whether a node may get this replica.
    pub(super) fn accepts(&self, node: usize, replica: usize) -> bool {
        self.may_hold[node] && (self.may_receive[node] || self.home[replica] as usize == node)
    }
}

/// A node for each replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub(super) nodes: Vec<u32>,
}

impl Assignment {
    /// The number of the replica's node; none if it is nowhere.
    pub fn node_of(&self, replica: usize) -> Option<usize> {
        self.nodes.get(replica).filter(|node| **node != NOWHERE).map(|node| *node as usize)
    }

    /// The nodes in the sequence of the replicas.
    pub fn iter(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        (0..self.nodes.len()).map(|replica| self.node_of(replica))
    }
}

/// How distances are kept, whatever form they were given in.
pub(super) fn is_by_location(distances: &DistancesForm) -> bool {
    matches!(distances, DistancesForm::Locations { .. })
}

impl Balance {
    pub(super) fn new(form: &BalanceForm, resource: usize, against: usize) -> Option<Self> {
        let target = i64::try_from(form.target).ok()?;
        Some(Self { resource, against, target, weight: i64::try_from(form.weight).ok()? })
    }
}
