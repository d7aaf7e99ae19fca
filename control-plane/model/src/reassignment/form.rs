//! The form in which a problem is written down: what a file holds, name by name.
//!
//! Version 1. Unknown fields are refused, since a misspelt one would silently change the problem. Amounts
//! are whole numbers in any unit, the same one for all that a resource is compared with. A list of
//! amounts has one entry for each resource, in the sequence of `resources`.
//!
//! An instance of the ROADEF/EURO challenge of 2012 fits without loss if its dependencies between services
//! are left out: a machine is a node, its location the fault domain, its safety capacity the target; a
//! process is a replica, a service a group.

use serde::{Deserialize, Serialize};

/// The version of the form that is written and read.
pub const FORM_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemForm {
    /// [`FORM_VERSION`].
    pub version: u32,
    pub resources: Vec<ResourceForm>,
    pub nodes: Vec<NodeForm>,
    pub groups: Vec<GroupForm>,
    pub replicas: Vec<ReplicaForm>,
    #[serde(default)]
    pub balances: Vec<BalanceForm>,
    #[serde(default)]
    pub moves: MovesForm,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceForm {
    pub name: String,
    /// A replica that moves holds its demand at both ends meanwhile.
    #[serde(default)]
    pub transient: bool,
    /// What one unit of load above a node's target costs.
    #[serde(default)]
    pub load_weight: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeForm {
    pub name: String,
    /// What fails as one.
    pub fault_domain: String,
    /// Where it stands, if moves are priced by location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What must not be exceeded, for each resource.
    pub capacity: Vec<u64>,
    /// Above this, load costs.
    pub target: Vec<u64>,
    /// Replicas may come here.
    #[serde(default = "yes")]
    pub may_receive: bool,
    /// Replicas may stay here. A node that is being drained or is gone may hold none.
    #[serde(default = "yes")]
    pub may_hold: bool,
}

/// Replicas that are never on the same node. It has one at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupForm {
    pub name: String,
    /// Over how many fault domains they are spread at least: at most as many as it has replicas, and as there are
    /// fault domains with nodes that may hold some.
    #[serde(default = "one")]
    pub spread_min: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaForm {
    pub name: String,
    pub group: String,
    /// Where it is; absent: nowhere yet, and to be placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub demand: Vec<u64>,
    #[serde(default)]
    pub move_cost: u64,
}

/// What is free of one resource is worth little without the other: on each node
/// max(0, `target` × free of `resource` − free of `against`) costs `weight`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceForm {
    pub resource: String,
    pub against: String,
    pub target: u64,
    pub weight: u64,
}

/// What moves cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovesForm {
    /// Times the move cost of each replica that moves.
    #[serde(default)]
    pub replica_weight: u64,
    /// Times the number of replicas that move, of the group where that is the greatest.
    #[serde(default)]
    pub group_weight: u64,
    /// Times the cost between the two nodes, for each replica that moves.
    #[serde(default)]
    pub distance_weight: u64,
    #[serde(default)]
    pub distances: DistancesForm,
}

/// The cost of going from one place (row) to another (column). The diagonal counts for replicas that stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum DistancesForm {
    /// None costs anything.
    #[default]
    None,
    /// Between nodes, in the sequence of `nodes`.
    Nodes(Vec<Vec<u32>>),
    /// Between locations.
    Locations { names: Vec<String>, costs: Vec<Vec<u32>> },
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}
