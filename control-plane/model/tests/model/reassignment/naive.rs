//! An assignment's cost and the rules that it breaks, as the definitions read: by name, from the form, with
//! wide integers and no care for speed. It shares nothing with what it checks.

use std::collections::{BTreeMap, BTreeSet};

use model::reassignment::form::{DistancesForm, ProblemForm};

/// A node's name for each replica, or none.
pub type Places = Vec<Option<String>>;

/// The rules that are broken, in words.
pub fn broken(form: &ProblemForm, places: &Places) -> Vec<String> {
    let mut found = Vec::new();
    let node = |name: &str| form.nodes.iter().find(|node| node.name == name).unwrap();
    for (replica, place) in form.replicas.iter().zip(places) {
        match place {
            None => found.push(format!("{} is nowhere", replica.name)),
            Some(name) => {
                let came = replica.node.as_ref() != Some(name);
                if !node(name).may_hold || (came && !node(name).may_receive) {
                    found.push(format!("{} may not be on {name}", replica.name));
                }
            }
        }
    }
    for group in &form.groups {
        let members =
            form.replicas.iter().zip(places).filter(|(member, _)| member.group == group.name);
        let names: Vec<&String> = members.filter_map(|(_, place)| place.as_ref()).collect();
        if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
            found.push(format!("{} meets itself", group.name));
        }
        let domains: BTreeSet<&str> =
            names.iter().map(|name| node(name).fault_domain.as_str()).collect();
        if domains.len() < group.spread_min as usize {
            found.push(format!("{} is spread over {}", group.name, domains.len()));
        }
    }
    for place in &form.nodes {
        for (index, resource) in form.resources.iter().enumerate() {
            let usage: i128 = form
                .replicas
                .iter()
                .zip(places)
                .filter(|(replica, now)| {
                    let is_here = now.as_ref() == Some(&place.name);
                    let was_here = replica.node.as_ref() == Some(&place.name);
                    is_here || (was_here && resource.transient)
                })
                .map(|(replica, _)| i128::from(replica.demand[index]))
                .sum();
            if usage > i128::from(place.capacity[index]) {
                found.push(format!("{} has too much {}", place.name, resource.name));
            }
        }
    }
    found
}

/// The cost, summed up over the definitions.
pub fn cost(form: &ProblemForm, places: &Places) -> i128 {
    let mut total = 0;
    for node in &form.nodes {
        let load: Vec<i128> = (0..form.resources.len())
            .map(|index| {
                let here = form.replicas.iter().zip(places);
                here.filter(|(_, place)| place.as_ref() == Some(&node.name))
                    .map(|(replica, _)| i128::from(replica.demand[index]))
                    .sum()
            })
            .collect();
        for (index, resource) in form.resources.iter().enumerate() {
            let above = (load[index] - i128::from(node.target[index])).max(0);
            total += above * i128::from(resource.load_weight);
        }
        let free = |name: &String| {
            let index = form.resources.iter().position(|resource| resource.name == *name).unwrap();
            i128::from(node.capacity[index]) - load[index]
        };
        for balance in &form.balances {
            let lacking =
                i128::from(balance.target) * free(&balance.resource) - free(&balance.against);
            total += lacking.max(0) * i128::from(balance.weight);
        }
    }
    let mut moved: BTreeMap<&str, i128> = BTreeMap::new();
    for (replica, place) in form.replicas.iter().zip(places) {
        let (Some(from), Some(to)) = (&replica.node, place) else { continue };
        let distance = i128::from(distance(form, from, to));
        total += distance * i128::from(form.moves.distance_weight);
        if from != to {
            total += i128::from(replica.move_cost) * i128::from(form.moves.replica_weight);
            *moved.entry(&replica.group).or_default() += 1;
        }
    }
    let most = moved.values().max().copied().unwrap_or(0);
    total + most * i128::from(form.moves.group_weight)
}

fn distance(form: &ProblemForm, from: &str, to: &str) -> u32 {
    let index = |name: &str| form.nodes.iter().position(|node| node.name == name).unwrap();
    match &form.moves.distances {
        DistancesForm::None => 0,
        DistancesForm::Nodes(rows) => rows[index(from)][index(to)],
        DistancesForm::Locations { names, costs } => {
            let place = |name: &str| {
                let location = form.nodes[index(name)].location.as_ref().unwrap();
                names.iter().position(|known| known == location).unwrap()
            };
            costs[place(from)][place(to)]
        }
    }
}
