//! Problems to measure and to test with, drawn from a seed.
//!
//! They resemble those of the ROADEF/EURO challenge: nodes of several sizes, replicas with a long tail of
//! sizes whose demands go together, groups from single replicas to large ones, targets near the mean
//! utilisation, and a first assignment that is feasible and uneven.

use model::{
    reassignment::form::{
        BalanceForm, DistancesForm, FORM_VERSION, GroupForm, MovesForm, NodeForm, ProblemForm,
        ReplicaForm, ResourceForm,
    },
    seeded::{FRACTION_BITS, Seeded},
};

/// What a problem is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub nodes: usize,
    pub replicas: usize,
    pub resources: usize,
    /// The first so many resources are held at both ends of a move.
    pub transient: usize,
    pub balances: usize,
    /// How full the zone is.
    pub fill_percent: u64,
}

struct Draft {
    domains: Vec<usize>,
    capacity: Vec<Vec<u64>>,
    load: Vec<Vec<u64>>,
    demand: Vec<Vec<u64>>,
    /// Members of each group are numbered one after another.
    groups: Vec<Vec<usize>>,
    spread: Vec<usize>,
    place: Vec<usize>,
}

/// A problem of this shape whose replicas break no rule where they are.
pub fn generate(shape: Shape, seed: u64) -> ProblemForm {
    let mut seeded = Seeded::new(seed);
    let mut draft = draw(shape, &mut seeded);
    place(&mut draft, shape, &mut seeded);
    write_down(&draft, shape, &mut seeded)
}

fn draw(shape: Shape, seeded: &mut Seeded) -> Draft {
    const SIZES: [u64; 6] = [1, 1, 1, 2, 2, 4];
    let domain_count = shape.nodes.div_ceil(20).max(2);
    let capacity: Vec<Vec<u64>> = (0..shape.nodes)
        .map(|_| {
            let size = seeded.pick(&SIZES).unwrap_or(1) * 1_000_000;
            (0..shape.resources).map(|_| size * (80 + seeded.below(41) as u64) / 100).collect()
        })
        .collect();
    let mut demand: Vec<Vec<u64>> = (0..shape.replicas)
        .map(|_| {
            let size = 200 + ((seeded.exponential() * 1_000) >> FRACTION_BITS);
            let size = if seeded.below(50) == 0 { size * 6 } else { size };
            let each = (0..shape.resources).map(|_| size * (40 + seeded.below(121) as u64));
            // Now and then nothing of a resource is needed.
            each.map(|amount| if seeded_is_zero(amount) { 0 } else { amount }).collect()
        })
        .collect();
    for resource in 0..shape.resources {
        let all: u64 = capacity.iter().map(|row| row[resource]).sum();
        let wanted: u64 = demand.iter().map(|row| row[resource]).sum();
        for row in &mut demand {
            row[resource] = row[resource] * shape.fill_percent * (all / 100) / wanted.max(1);
        }
    }
    let (mut groups, mut next) = (Vec::new(), 0);
    while next < shape.replicas {
        let size = match seeded.below(20) {
            0..8 => 1,
            8..14 => 2 + seeded.below(3),
            14..19 => 4 + seeded.below(8),
            _ => 12 + seeded.below(shape.nodes / 4 + 1),
        };
        let size = size.min(shape.replicas - next).min(shape.nodes / 2).max(1);
        groups.push((next..next + size).collect::<Vec<_>>());
        next += size;
    }
    let spread =
        groups.iter().map(|group| 1 + seeded.below(group.len().min(domain_count))).collect();
    Draft {
        domains: (0..shape.nodes).map(|node| node % domain_count).collect(),
        load: vec![vec![0; shape.resources]; shape.nodes],
        capacity,
        demand,
        groups,
        spread,
        place: vec![0; shape.replicas],
    }
}

fn seeded_is_zero(amount: u64) -> bool {
    amount.is_multiple_of(17)
}

/// Puts every replica on a node at random, the large ones first. A node that nothing else will do for grows.
fn place(draft: &mut Draft, shape: Shape, seeded: &mut Seeded) {
    let mut order: Vec<usize> = (0..draft.groups.len()).collect();
    let size = |group: &usize| -> u64 {
        draft.groups[*group].iter().map(|replica| draft.demand[*replica].iter().sum::<u64>()).sum()
    };
    order.sort_by_key(|group| std::cmp::Reverse((draft.spread[*group], size(group), *group)));
    for group in order {
        let mut taken: Vec<usize> = Vec::new();
        let mut domains: Vec<usize> = Vec::new();
        for replica in draft.groups[group].clone() {
            let wants_domain = domains.len() < draft.spread[group];
            let allowed = |node: usize| {
                let is_known = wants_domain && domains.contains(&draft.domains[node]);
                !taken.contains(&node) && !is_known
            };
            let fits = |node: usize| {
                let each = draft.demand[replica].iter().zip(&draft.load[node]);
                each.zip(&draft.capacity[node]).all(|((need, load), max)| need + load <= *max)
            };
            let drawn: Vec<usize> = (0..200).map(|_| seeded.below(shape.nodes)).collect();
            let all = 0..shape.nodes;
            let node = drawn
                .into_iter()
                .find(|node| allowed(*node) && fits(*node))
                .or_else(|| all.clone().find(|node| allowed(*node) && fits(*node)))
                .or_else(|| all.clone().find(|node| allowed(*node)))
                .expect("a group has at most half as many members as there are nodes");
            taken.push(node);
            let domain = draft.domains[node];
            if !domains.contains(&domain) {
                domains.push(domain);
            }
            draft.place[replica] = node;
            for resource in 0..shape.resources {
                draft.load[node][resource] += draft.demand[replica][resource];
                let load = draft.load[node][resource];
                draft.capacity[node][resource] = draft.capacity[node][resource].max(load);
            }
        }
    }
}

fn write_down(draft: &Draft, shape: Shape, seeded: &mut Seeded) -> ProblemForm {
    let resources = (0..shape.resources)
        .map(|index| ResourceForm {
            name: format!("resource-{index}"),
            transient: index < shape.transient,
            load_weight: [100, 10, 1][index % 3],
        })
        .collect();
    let target_percent = shape.fill_percent;
    let nodes = (0..shape.nodes)
        .map(|index| NodeForm {
            name: format!("node-{index}"),
            fault_domain: format!("rack-{}", draft.domains[index]),
            location: Some(format!("row-{}", draft.domains[index] % 8)),
            capacity: draft.capacity[index].clone(),
            target: (draft.capacity[index].iter())
                .map(|max| max * (target_percent - 6 + seeded.below(5) as u64) / 100)
                .collect(),
            may_receive: true,
            may_hold: true,
        })
        .collect();
    let groups = draft.spread.iter().enumerate();
    let groups = groups
        .map(|(index, spread)| GroupForm {
            name: format!("group-{index}"),
            spread_min: u32::try_from(*spread).unwrap_or(1),
        })
        .collect();
    let mut replicas = Vec::new();
    for (group, members) in draft.groups.iter().enumerate() {
        replicas.extend(members.iter().map(|replica| ReplicaForm {
            name: format!("replica-{replica}"),
            group: format!("group-{group}"),
            node: Some(format!("node-{}", draft.place[*replica])),
            demand: draft.demand[*replica].clone(),
            move_cost: 1 + seeded.below(1_000) as u64,
        }));
    }
    let rows = 0..draft.domains.iter().map(|domain| domain % 8 + 1).max().unwrap_or(1);
    let costs = rows.clone().map(|row| {
        rows.clone().map(|column| u32::try_from(row.abs_diff(column)).unwrap_or(0) * 4).collect()
    });
    ProblemForm {
        version: FORM_VERSION,
        resources,
        nodes,
        groups,
        replicas,
        balances: (0..shape.balances)
            .map(|index| BalanceForm {
                resource: format!("resource-{}", index % shape.resources),
                against: format!("resource-{}", (index + 1) % shape.resources),
                target: 1,
                weight: 10,
            })
            .collect(),
        moves: MovesForm {
            replica_weight: 1,
            group_weight: 10,
            distance_weight: 100,
            distances: DistancesForm::Locations {
                names: rows.clone().map(|row| format!("row-{row}")).collect(),
                costs: costs.collect(),
            },
        },
    }
}
