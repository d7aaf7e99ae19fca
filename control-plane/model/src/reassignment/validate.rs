//! From what is written to what can be solved: every field is checked, and a refusal names the item, the
//! field, and what would be right.
//!
//! A problem whose replicas break its rules where they are is not refused: repairing that is what the
//! solver is asked for. One whose rules no assignment can keep, whatever the amounts, is.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    form::{DistancesForm, FORM_VERSION, NodeForm, ProblemForm, ReplicaForm},
    problem::{Balance, NOWHERE, Problem, Resource, is_by_location},
};

pub const RESOURCES_MAX: usize = 32;
pub const NODES_MAX: usize = 50_000;
pub const REPLICAS_MAX: usize = 2_000_000;
pub const BALANCES_MAX: usize = 64;
/// Rows of a table of distances.
pub const DISTANCE_ROWS_MAX: usize = 8_192;
pub const NAME_BYTES_MAX: usize = 128;
/// Every amount and weight is at most this, so that products fit wide integers.
pub const AMOUNT_MAX: u64 = 1 << 53;
/// No cost and no sum of loads may be able to reach this.
pub const TOTAL_MAX: i128 = 1 << 61;

/// What is wrong with a problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProblem {
    #[error("version is {found}: it must be {FORM_VERSION}")]
    Version { found: u32 },
    #[error("there are {found} {what}: there must be {min} to {max}")]
    Count { what: &'static str, found: usize, min: usize, max: usize },
    #[error("{item}: its name has {found} bytes: it must have 1 to {NAME_BYTES_MAX}")]
    Name { item: String, found: usize },
    #[error("{item}: there is another one of this name: names must be distinct")]
    Duplicate { item: String },
    #[error("{item}: {field} has {found} entries: it must have {expected}, one for each {each}")]
    Length { item: String, field: &'static str, found: usize, expected: usize, each: &'static str },
    #[error("{item}: {field} is {found}: it must be at most {max}")]
    Amount { item: String, field: String, found: u64, max: u64 },
    #[error("{item}: {field} is \"{found}\": there is no such {what}")]
    Unknown { item: String, field: &'static str, found: String, what: &'static str },
    #[error("{item}: {field} is missing: moves are priced by location")]
    NoLocation { item: String, field: &'static str },
    #[error("{item}: it has no replicas: leave it out, or name it as some replica's group")]
    EmptyGroup { item: String },
    #[error("{item}: spread_min is {found}: it must be at most {max}, {bound}")]
    Spread { item: String, found: u32, max: usize, bound: &'static str },
    #[error(
        "{what} could reach {found}: it must stay below {TOTAL_MAX}; choose coarser units or smaller weights"
    )]
    Total { what: String, found: i128 },
}

impl Problem {
    /// Checks a problem and numbers it.
    pub fn new(form: &ProblemForm) -> Result<Self, InvalidProblem> {
        if form.version != FORM_VERSION {
            return Err(InvalidProblem::Version { found: form.version });
        }
        check_count("resources", form.resources.len(), 1, RESOURCES_MAX)?;
        check_count("nodes", form.nodes.len(), 1, NODES_MAX)?;
        check_count("groups", form.groups.len(), 0, REPLICAS_MAX)?;
        check_count("replicas", form.replicas.len(), 0, REPLICAS_MAX)?;
        check_count("balances", form.balances.len(), 0, BALANCES_MAX)?;
        let resources = numbers("resource", form.resources.iter().map(|item| &item.name))?;
        let nodes = numbers("node", form.nodes.iter().map(|item| &item.name))?;
        let groups = numbers("group", form.groups.iter().map(|item| &item.name))?;
        numbers("replica", form.replicas.iter().map(|item| &item.name))?;
        let mut problem = Self {
            resources: Vec::new(),
            balances: Vec::new(),
            node_names: form.nodes.iter().map(|node| node.name.clone()).collect(),
            replica_names: form.replicas.iter().map(|replica| replica.name.clone()).collect(),
            group_names: form.groups.iter().map(|group| group.name.clone()).collect(),
            capacity: Vec::with_capacity(form.nodes.len() * form.resources.len()),
            target: Vec::with_capacity(form.nodes.len() * form.resources.len()),
            fault_domain: Vec::with_capacity(form.nodes.len()),
            fault_domain_count: 0,
            may_receive: form.nodes.iter().map(|node| node.may_receive).collect(),
            may_hold: form.nodes.iter().map(|node| node.may_hold).collect(),
            spread_min: form.groups.iter().map(|group| group.spread_min).collect(),
            members: Vec::new(),
            member_start: Vec::new(),
            group: Vec::with_capacity(form.replicas.len()),
            demand: Vec::with_capacity(form.replicas.len() * form.resources.len()),
            home: Vec::with_capacity(form.replicas.len()),
            move_cost: Vec::with_capacity(form.replicas.len()),
            group_move_weight: amount("moves", "group_weight", form.moves.group_weight)?,
            distance_weight: amount("moves", "distance_weight", form.moves.distance_weight)?,
            site: Vec::new(),
            site_count: 0,
            distances: Vec::new(),
        };
        problem.take_resources(form, &resources)?;
        let mut domains = BTreeMap::new();
        for node in &form.nodes {
            problem.take_node(node, &mut domains)?;
        }
        problem.fault_domain_count = domains.len();
        let replica_weight = amount("moves", "replica_weight", form.moves.replica_weight)?;
        for replica in &form.replicas {
            problem.take_replica(replica, replica_weight, &nodes, &groups)?;
        }
        problem.take_members();
        problem.check_groups()?;
        problem.take_distances(form)?;
        problem.check_totals()?;
        Ok(problem)
    }

    fn take_resources(
        &mut self,
        form: &ProblemForm,
        resources: &BTreeMap<&str, u32>,
    ) -> Result<(), InvalidProblem> {
        for resource in &form.resources {
            let item = || format!("resource \"{}\"", resource.name);
            let load_weight = checked(item, "load_weight", resource.load_weight)?;
            let (name, transient) = (resource.name.clone(), resource.transient);
            self.resources.push(Resource { name, transient, load_weight });
        }
        for (index, balance) in form.balances.iter().enumerate() {
            let item = format!("balances[{index}]");
            let find = |field, name: &String| {
                resources.get(name.as_str()).map(|number| *number as usize).ok_or_else(|| {
                    let (item, found) = (item.clone(), shortened(name));
                    InvalidProblem::Unknown { item, field, found, what: "resource" }
                })
            };
            let resource = find("resource", &balance.resource)?;
            let against = find("against", &balance.against)?;
            amount(&item, "target", balance.target)?;
            amount(&item, "weight", balance.weight)?;
            self.balances.extend(Balance::new(balance, resource, against));
        }
        Ok(())
    }

    fn take_node<'a>(
        &mut self,
        node: &'a NodeForm,
        domains: &mut BTreeMap<&'a str, u32>,
    ) -> Result<(), InvalidProblem> {
        let item = || format!("node \"{}\"", node.name);
        let found = node.fault_domain.len();
        if !(1..=NAME_BYTES_MAX).contains(&found) {
            return Err(InvalidProblem::Name { item: format!("{}: fault_domain", item()), found });
        }
        let next = number(domains.len());
        self.fault_domain.push(*domains.entry(node.fault_domain.as_str()).or_insert(next));
        for (field, amounts) in [("capacity", &node.capacity), ("target", &node.target)] {
            check_length(item, field, amounts.len(), self.resources.len(), "resource")?;
            for (resource, found) in self.resources.iter().zip(amounts) {
                let value = checked(item, &format!("{field} of \"{}\"", resource.name), *found)?;
                if field == "capacity" {
                    self.capacity.push(value);
                } else {
                    self.target.push(value);
                }
            }
        }
        Ok(())
    }

    fn take_replica(
        &mut self,
        replica: &ReplicaForm,
        replica_weight: i64,
        nodes: &BTreeMap<&str, u32>,
        groups: &BTreeMap<&str, u32>,
    ) -> Result<(), InvalidProblem> {
        let item = || format!("replica \"{}\"", replica.name);
        let unknown = |field, name: &str, what| InvalidProblem::Unknown {
            item: item(),
            field,
            found: shortened(name),
            what,
        };
        let group = groups.get(replica.group.as_str());
        self.group.push(*group.ok_or_else(|| unknown("group", &replica.group, "group"))?);
        self.home.push(match &replica.node {
            None => NOWHERE,
            Some(name) => *nodes.get(name.as_str()).ok_or_else(|| unknown("node", name, "node"))?,
        });
        check_length(item, "demand", replica.demand.len(), self.resources.len(), "resource")?;
        for (resource, found) in self.resources.iter().zip(&replica.demand) {
            if let Ok(value) = checked(item, "demand", *found) {
                self.demand.push(value);
            } else {
                checked(item, &format!("demand of \"{}\"", resource.name), *found)?;
            }
        }
        let move_cost = checked(item, "move_cost", replica.move_cost)?;
        let weighted = i128::from(move_cost) * i128::from(replica_weight);
        let found = weighted;
        self.move_cost.push(i64::try_from(weighted).map_err(|_| InvalidProblem::Total {
            what: format!("{}: the cost of moving it", item()),
            found,
        })?);
        Ok(())
    }

    fn take_members(&mut self) {
        let mut counts = vec![0_u32; self.spread_min.len() + 1];
        for group in &self.group {
            counts[*group as usize + 1] += 1;
        }
        for index in 1..counts.len() {
            counts[index] += counts[index - 1];
        }
        self.member_start = counts.clone();
        self.members = vec![0; self.group.len()];
        for (replica, group) in self.group.iter().enumerate() {
            let place = &mut counts[*group as usize];
            self.members[*place as usize] = number(replica);
            *place += 1;
        }
    }

    fn take_distances(&mut self, form: &ProblemForm) -> Result<(), InvalidProblem> {
        let by_location = is_by_location(&form.moves.distances);
        let (rows, each): (&[Vec<u32>], _) = match &form.moves.distances {
            DistancesForm::None => return Ok(()),
            DistancesForm::Nodes(rows) => (rows, "node"),
            DistancesForm::Locations { costs, .. } => (costs, "location"),
        };
        self.site_count = match &form.moves.distances {
            DistancesForm::None => 0,
            DistancesForm::Nodes(_) => form.nodes.len(),
            DistancesForm::Locations { names, .. } => names.len(),
        };
        check_count("rows of distances", self.site_count, 1, DISTANCE_ROWS_MAX)?;
        let item = || "moves".to_owned();
        check_length(item, "distances", rows.len(), self.site_count, each)?;
        for (index, row) in rows.iter().enumerate() {
            let item = || format!("moves: row {index} of distances");
            check_length(item, "it", row.len(), self.site_count, each)?;
            self.distances.extend(row);
        }
        let locations = match &form.moves.distances {
            DistancesForm::Locations { names, .. } => numbers("location", names.iter())?,
            DistancesForm::None | DistancesForm::Nodes(_) => BTreeMap::new(),
        };
        for (index, node) in form.nodes.iter().enumerate() {
            if !by_location {
                self.site.push(number(index));
                continue;
            }
            let (item, field) = (format!("node \"{}\"", node.name), "location");
            let Some(location) = &node.location else {
                return Err(InvalidProblem::NoLocation { item, field });
            };
            let known = locations.get(location.as_str()).copied();
            self.site.push(known.ok_or_else(|| InvalidProblem::Unknown {
                item,
                field,
                found: shortened(location),
                what: "location in moves.distances",
            })?);
        }
        Ok(())
    }

    /// No assignment keeps the rules for a group that is to be spread further than its replicas, or the nodes that
    /// may hold any, are: the search for one would be in vain.
    fn check_groups(&self) -> Result<(), InvalidProblem> {
        let holding = self.fault_domain.iter().zip(&self.may_hold).filter(|(_, holds)| **holds);
        let domains: BTreeSet<u32> = holding.map(|(domain, _)| *domain).collect();
        for (group, found) in self.spread_min.iter().copied().enumerate() {
            let item = || format!("group \"{}\"", self.group_names[group]);
            let members = self.members_of(group).len();
            if members == 0 {
                return Err(InvalidProblem::EmptyGroup { item: item() });
            }
            for (max, bound) in [
                (members, "the number of its replicas"),
                // Where no node may hold any, every replica says so.
                (
                    domains.len().max(1),
                    "the number of fault domains with nodes that may hold replicas",
                ),
            ] {
                if found as usize > max {
                    return Err(InvalidProblem::Spread { item: item(), found, max, bound });
                }
            }
        }
        Ok(())
    }

    /// Whatever the assignment, nothing overflows; nor does this: what is too large for it is too large.
    fn check_totals(&self) -> Result<(), InvalidProblem> {
        let count = self.resources.len();
        let sum = |table: &[i64], resource: usize| -> i128 {
            table.iter().skip(resource).step_by(count).map(|value| i128::from(*value)).sum()
        };
        let below = |what: String, found: i128| {
            if found < TOTAL_MAX { Ok(()) } else { Err(InvalidProblem::Total { what, found }) }
        };
        let mut cost = 0_i128;
        for (index, resource) in self.resources.iter().enumerate() {
            // A load counts twice: while it moves, both ends hold it.
            let load = 2 * sum(&self.demand, index);
            let what = format!("the sum of \"{}\"", resource.name);
            below(what, load + sum(&self.capacity, index) + sum(&self.target, index))?;
            cost = cost.saturating_add(load.saturating_mul(i128::from(resource.load_weight)));
        }
        for balance in &self.balances {
            let target = i128::from(balance.target);
            // Each sum is below 2^62 by now, and a target is at most 2^53.
            let scarce = sum(&self.capacity, balance.resource) * target;
            let short = 2 * sum(&self.demand, balance.against);
            let long = sum(&self.capacity, balance.against)
                + 2 * sum(&self.demand, balance.resource) * target;
            let weight = i128::from(balance.weight).max(1);
            cost = cost.saturating_add((scarce + short + long).saturating_mul(weight));
        }
        let moves = self.move_cost.iter().map(|cost| i128::from(*cost)).sum::<i128>();
        let replicas = self.group.len() as i128;
        let farthest = self.distances.iter().max().copied().unwrap_or(0);
        // At most 2^21 replicas, 2^53 for a weight, and 2^32 for a distance.
        let of_groups = replicas * i128::from(self.group_move_weight);
        let gone = replicas * i128::from(farthest) * i128::from(self.distance_weight);
        below("the cost".to_owned(), cost.saturating_add(moves + of_groups + gone))
    }
}

fn check_count(
    what: &'static str,
    found: usize,
    min: usize,
    max: usize,
) -> Result<(), InvalidProblem> {
    if (min..=max).contains(&found) {
        Ok(())
    } else {
        Err(InvalidProblem::Count { what, found, min, max })
    }
}

fn check_length(
    item: impl Fn() -> String,
    field: &'static str,
    found: usize,
    expected: usize,
    each: &'static str,
) -> Result<(), InvalidProblem> {
    if found == expected {
        Ok(())
    } else {
        Err(InvalidProblem::Length { item: item(), field, found, expected, each })
    }
}

/// An amount within its bound.
fn amount(item: &str, field: &str, found: u64) -> Result<i64, InvalidProblem> {
    checked(|| item.to_owned(), field, found)
}

fn checked(item: impl Fn() -> String, field: &str, found: u64) -> Result<i64, InvalidProblem> {
    match i64::try_from(found) {
        Ok(value) if found <= AMOUNT_MAX => Ok(value),
        Ok(_) | Err(_) => {
            let (item, field, max) = (item(), field.to_owned(), AMOUNT_MAX);
            Err(InvalidProblem::Amount { item, field, found, max })
        }
    }
}

/// The place of each name in its list; names are distinct and not too long.
fn numbers<'a>(
    what: &'static str,
    names: impl ExactSizeIterator<Item = &'a String>,
) -> Result<BTreeMap<&'a str, u32>, InvalidProblem> {
    let mut known = Vec::with_capacity(names.len());
    for (index, name) in names.enumerate() {
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
            return Err(InvalidProblem::Name {
                item: format!("{what} at {index}"),
                found: name.len(),
            });
        }
        known.push((name.as_str(), number(index)));
    }
    let mut seen = BTreeSet::new();
    if let Some((name, _)) = known.iter().find(|(name, _)| !seen.insert(*name)) {
        return Err(InvalidProblem::Duplicate { item: format!("{what} \"{name}\"") });
    }
    Ok(known.into_iter().collect())
}

/// A number within a list; lists are bounded far below 2³².
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NOWHERE)
}

/// What a message quotes of a name that may be of any length.
fn shortened(name: &str) -> String {
    name.chars().take(NAME_BYTES_MAX).collect()
}
