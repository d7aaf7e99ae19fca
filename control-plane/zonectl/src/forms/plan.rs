//! What `zonectl plan` answers.

use std::time::Duration;

use model::reassignment::{Cost, Problem, Solution, Violation, Violations};
use serde::Serialize;

use crate::text::{count, escape};

/// Places that are named where the answer breaks rules.
const BROKEN_MAX: usize = 10;

/// An answer to a problem.
#[derive(Clone, Debug, Serialize)]
pub struct PlanForm {
    /// Where the problem came from.
    pub problem: String,
    /// Whether the answer breaks no rule.
    pub feasible: bool,
    pub nodes: usize,
    pub replicas: usize,
    pub groups: usize,
    pub resources: Vec<String>,
    pub cost_before: CostForm,
    pub cost_after: CostForm,
    pub lower_bound: BoundForm,
    /// How far the cost is above the bound; null if the bound is 0.
    pub gap_percent: Option<f64>,
    pub violations_before: ViolationsForm,
    pub violations_after: ViolationsForm,
    /// Where the answer breaks rules, in sentences: the first ten places.
    pub broken_after: Vec<String>,
    pub search: SearchForm,
    /// Replicas that are to go from one node to another.
    pub moved_replicas: usize,
    /// Replicas that were nowhere and have got a place.
    pub placed_replicas: usize,
    pub assignment: Vec<PlaceForm>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct CostForm {
    pub total: i64,
    #[serde(flatten)]
    pub terms: Cost,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct BoundForm {
    pub total: i64,
    pub load: i64,
    pub balance: i64,
}

/// How often each rule is broken.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub struct ViolationsForm(pub Violations);

impl ViolationsForm {
    /// The rules that are broken, for example `2 replicas without a place, 1 capacity exceeded`; `none`.
    pub fn brief(&self) -> String {
        let Violations {
            unplaced,
            misplaced,
            conflicts,
            spread_shortfall,
            over_capacity,
            over_transient,
        } = self.0;
        let each = [
            (unplaced, "without a place"),
            (misplaced, "where replicas may not be"),
            (conflicts, "beside another of the group"),
            (spread_shortfall, "fault domains too few"),
            (over_capacity, "capacities exceeded"),
            (over_transient, "capacities exceeded during moves"),
        ];
        let found: Vec<String> = each
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        if found.is_empty() { "none".to_owned() } else { found.join(", ") }
    }

    /// What would be needed to keep the rules that are broken, for example `more capacity, or more time`.
    pub fn remedy(&self) -> String {
        let Violations {
            unplaced,
            misplaced,
            conflicts,
            spread_shortfall,
            over_capacity,
            over_transient,
        } = self.0;
        let each = [
            (unplaced + misplaced + over_capacity + over_transient, "more capacity"),
            (unplaced + misplaced + conflicts, "more nodes that may receive"),
            (spread_shortfall, "nodes that may receive in more fault domains"),
        ];
        let mut found: Vec<&str> =
            each.iter().filter(|(number, _)| *number > 0).map(|(_, what)| *what).collect();
        found.push("or more time");
        found.join(", ")
    }
}

/// What was done, and what gives the same answer again.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SearchForm {
    pub rounds: u32,
    pub planned_rounds: u32,
    pub lanes: usize,
    pub seed: u64,
    pub evaluations: u64,
    pub elapsed_ms: u64,
}

/// Where a replica is to be.
#[derive(Clone, Debug, Serialize)]
pub struct PlaceForm {
    pub replica: String,
    pub node: Option<String>,
    pub from: Option<String>,
}

impl PlaceForm {
    pub fn is_moved(&self) -> bool {
        self.from.is_some() && self.node.is_some() && self.from != self.node
    }
}

impl SearchForm {
    pub fn new(solution: &Solution, lanes: usize, seed: u64, elapsed: Duration) -> Self {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let Solution { rounds, planned_rounds, evaluations, .. } = *solution;
        Self { rounds, planned_rounds, lanes, seed, evaluations, elapsed_ms }
    }
}

impl PlanForm {
    pub fn new(name: String, problem: &Problem, solution: &Solution, search: SearchForm) -> Self {
        let node = |node: Option<usize>| node.map(|node| problem.node_name(node).to_owned());
        let places = solution.assignment.iter().enumerate().map(|(replica, place)| PlaceForm {
            replica: problem.replica_name(replica).to_owned(),
            node: node(place),
            from: node(problem.initial_node(replica)),
        });
        let assignment: Vec<PlaceForm> = places.collect();
        let (bound, after) = (solution.bound, solution.after);
        Self {
            problem: name,
            feasible: solution.violations_after.is_none(),
            nodes: problem.node_count(),
            replicas: problem.replica_count(),
            groups: problem.group_count(),
            resources: (0..problem.resource_count())
                .map(|resource| problem.resource_name(resource).to_owned())
                .collect(),
            cost_before: CostForm { total: solution.before.total(), terms: solution.before },
            cost_after: CostForm { total: after.total(), terms: after },
            lower_bound: BoundForm {
                total: bound.total(),
                load: bound.load,
                balance: bound.balance,
            },
            // The bound is of all replicas in places that break no rule.
            gap_percent: bound
                .gap_basis_points(&after)
                .filter(|_| solution.violations_after.is_none())
                .map(|points| points as f64 / 100.0),
            violations_before: ViolationsForm(solution.violations_before),
            violations_after: ViolationsForm(solution.violations_after),
            broken_after: Violations::first(problem, &solution.assignment, BROKEN_MAX)
                .into_iter()
                .map(|violation| sentence(problem, violation))
                .collect(),
            search,
            moved_replicas: assignment.iter().filter(|place| place.is_moved()).count(),
            placed_replicas: assignment
                .iter()
                .filter(|place| place.from.is_none() && place.node.is_some())
                .count(),
            assignment,
        }
    }
}

/// Where a rule is broken, for example `node n7 holds 12 of disk and has 10`.
fn sentence(problem: &Problem, violation: Violation) -> String {
    let shown = |name: &str| escape(name.as_bytes());
    let node = |node| shown(problem.node_name(node));
    let replica = |replica| shown(problem.replica_name(replica));
    let group = |group| shown(problem.group_name(group));
    let resource = |resource| shown(problem.resource_name(resource));
    match violation {
        Violation::Unplaced { replica: it } => format!("replica {} has no place", replica(it)),
        Violation::Misplaced { replica: it, node: at } => {
            format!("replica {} is on node {}, where it may not be", replica(it), node(at))
        }
        Violation::Conflict { group: of, replicas } => {
            let them = if replicas == 1 { "a replica" } else { "replicas" };
            format!("group {} has {them} beside another on the same node", group(of))
        }
        Violation::SpreadShortfall { group: of, fault_domains, wanted } => {
            let (found, group) = (count(fault_domains, "fault domain", "fault domains"), group(of));
            format!("group {group} is in {found}, not in {wanted}")
        }
        Violation::OverCapacity { node: at, resource: of, load, capacity } => {
            format!("node {} holds {load} of {} and has {capacity}", node(at), resource(of))
        }
        Violation::OverTransient { node: at, resource: of, load, capacity } => format!(
            "node {} would hold {load} of {} while replicas move, and has {capacity}",
            node(at),
            resource(of)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_help_depends_on_what_is_broken() {
        let of = |violations: Violations| ViolationsForm(violations).remedy();
        let violations = Violations { over_capacity: 2, ..Violations::default() };
        assert_eq!(of(violations), "more capacity, or more time");
        let violations = Violations { conflicts: 1, spread_shortfall: 1, ..Violations::default() };
        assert_eq!(
            of(violations),
            "more nodes that may receive, nodes that may receive in more fault domains, or more time"
        );
    }
}
