//! A zone as a problem for `zonectl plan`.

use std::collections::{BTreeMap, BTreeSet};

use model::reassignment::{
    AMOUNT_MAX,
    form::{
        FORM_VERSION, GroupForm, MovesForm, NodeForm as NodeOfProblem, ProblemForm, ReplicaForm,
        ResourceForm,
    },
};

use crate::forms::{NodeForm, PartitionForm};

/// Requests are counted over so many seconds, since amounts are whole numbers.
const RATE_SECONDS: f64 = 1_000.0;
const READS: usize = 0;
const WRITES: usize = 1;
const BYTES: usize = 2;
/// To move all bytes costs this part of what all load of one resource would cost.
const MOVE_PART: u64 = 20;
/// All load of one resource costs at least so much: finer differences than that do not matter.
const SCALE_MIN: u64 = 1_000_000_000;

/// The problem of making the zone even. Replicas are where they are; a node that is down, or is to be emptied, may
/// hold none.
///
/// # Errors
/// If partitions and nodes are not of one state: a replica's node is not among them.
pub fn problem(
    nodes: &[NodeForm],
    partitions: &[PartitionForm],
    replication_factor: u32,
) -> Result<ProblemForm, String> {
    let names: BTreeMap<u64, &str> =
        nodes.iter().map(|node| (node.id, node.name.as_str())).collect();
    let mut replicas = Vec::new();
    for partition in partitions {
        for placement in &partition.replicas {
            let node = names.get(&placement.node_id).ok_or_else(|| {
                format!(
                    "partition {} has a replica on node {}, which the zone does not know",
                    partition.id, placement.node_id
                )
            })?;
            let leads = partition.leader_node_id == Some(placement.node_id);
            let reads = if leads { partition.reads_per_second } else { 0.0 };
            replicas.push(ReplicaForm {
                name: format!("partition-{}/replica-{}", partition.id, placement.replica_id),
                group: group(partition),
                node: Some((*node).to_owned()),
                demand: vec![
                    amount(reads),
                    amount(partition.writes_per_second),
                    partition.stored_bytes,
                ],
                move_cost: partition.stored_bytes,
            });
        }
    }
    let total = |resource: usize| -> u64 {
        replicas.iter().fold(0, |sum: u64, replica| sum.saturating_add(replica.demand[resource]))
    };
    let totals = [READS, WRITES, BYTES].map(total);
    let domains: BTreeSet<&str> =
        nodes.iter().filter(|node| may_hold(node)).map(|node| node.fault_domain.as_str()).collect();
    let spread = u32::try_from(domains.len()).unwrap_or(u32::MAX).min(replication_factor).max(1);
    let scale = totals[BYTES].saturating_mul(MOVE_PART).max(SCALE_MIN);
    let resource = |name: &str, index: usize| ResourceForm {
        name: name.to_owned(),
        transient: index == BYTES,
        // Where there is no load, nothing can be above a target.
        load_weight: scale
            .checked_div(totals[index])
            .map_or(0, |weight| weight.clamp(1, AMOUNT_MAX)),
    };
    Ok(ProblemForm {
        version: FORM_VERSION,
        resources: vec![
            resource("reads_per_1000_s", READS),
            resource("writes_per_1000_s", WRITES),
            resource("stored_bytes", BYTES),
        ],
        nodes: problem_nodes(nodes, totals),
        groups: partitions
            .iter()
            .map(|partition| GroupForm { name: group(partition), spread_min: spread })
            .collect(),
        replicas,
        balances: Vec::new(),
        moves: MovesForm {
            replica_weight: (scale / MOVE_PART)
                .checked_div(totals[BYTES])
                .map_or(0, |weight| weight.max(1)),
            ..MovesForm::default()
        },
    })
}

fn group(partition: &PartitionForm) -> String {
    format!("partition-{}", partition.id)
}

fn problem_nodes(nodes: &[NodeForm], totals: [u64; 3]) -> Vec<NodeOfProblem> {
    let staying = nodes.iter().filter(|node| may_hold(node));
    let (count, capacity) = staying.fold((0_u64, 0_u64), |(count, sum), node| {
        (count + 1, sum.saturating_add(node.capacity_bytes))
    });
    let evenly = |total: u64| total.div_ceil(count.max(1));
    let by_capacity = |node: &NodeForm| {
        let share = u128::from(totals[BYTES]) * u128::from(node.capacity_bytes);
        u64::try_from(share.div_ceil(u128::from(capacity.max(1)))).unwrap_or(u64::MAX)
    };
    nodes
        .iter()
        .map(|node| NodeOfProblem {
            name: node.name.clone(),
            fault_domain: node.fault_domain.clone(),
            location: None,
            // How many requests a node can bear is not known: as many as there are.
            capacity: vec![totals[READS], totals[WRITES], node.capacity_bytes],
            target: vec![
                evenly(totals[READS]),
                evenly(totals[WRITES]),
                by_capacity(node).min(node.capacity_bytes),
            ],
            may_receive: node.state == "up" && may_hold(node) && !node.disk_below_reserve,
            may_hold: may_hold(node),
        })
        .collect()
}

fn may_hold(node: &NodeForm) -> bool {
    node.administrative_state == "active" && node.state != "down"
}

/// Requests per second as a whole number of them in [`RATE_SECONDS`].
fn amount(per_second: f64) -> u64 {
    // Saturates; what is no number counts as none.
    (per_second.max(0.0) * RATE_SECONDS).round() as u64
}

#[cfg(test)]
mod tests {
    use model::reassignment::{Effort, Problem, solve};

    use super::*;
    use crate::forms::PlacementForm;

    fn node(id: u64) -> NodeForm {
        NodeForm {
            id,
            name: format!("node-{id}"),
            state: "up",
            administrative_state: "active",
            fault_domain: format!("rack-{id}"),
            address: String::new(),
            leaders: 0,
            replicas: 0,
            stored_bytes: 0,
            capacity_bytes: 1 << 40,
            reads_per_second: 0.0,
            writes_per_second: 0.0,
            disk_below_reserve: false,
            incarnation: 1,
            software_version: String::new(),
        }
    }

    fn partition(id: u64, nodes: &[u64]) -> PartitionForm {
        let replicas = nodes
            .iter()
            .map(|node_id| PlacementForm { replica_id: id * 10 + node_id, node_id: *node_id });
        PartitionForm {
            id,
            start_key: String::new(),
            end_key: String::new(),
            range_epoch: 1,
            leader_node_id: nodes.first().copied(),
            replicas: replicas.collect(),
            available: true,
            under_replicated: false,
            stored_bytes: 1 << 30,
            keys: 1,
            reads_per_second: 20.0,
            writes_per_second: 10.5,
        }
    }

    fn zone() -> (Vec<NodeForm>, Vec<PartitionForm>) {
        let nodes = (1..=4).map(node).collect();
        // Nothing on the fourth node.
        let partitions = (1..=8).map(|id| partition(id, &[id % 3 + 1, (id + 1) % 3 + 1])).collect();
        (nodes, partitions)
    }

    #[test]
    fn an_empty_node_gets_its_share() {
        let (nodes, partitions) = zone();
        let form = problem(&nodes, &partitions, 2).unwrap();
        assert_eq!(form.replicas[0].demand, [20_000, 10_500, 1 << 30]);
        assert_eq!(form.replicas[1].demand, [0, 10_500, 1 << 30]);
        assert_eq!(form.nodes[0].target, [40_000, 42_000, 4 << 30]);
        let solution = solve(&Problem::new(&form).unwrap(), 1, Effort { rounds: 10, lanes: 1 });
        assert!(solution.violations_after.is_none());
        let there = solution.assignment.iter().filter(|node| *node == Some(3)).count();
        assert_eq!(there, 4, "{}", solution.after);
    }

    #[test]
    fn nodes_that_are_down_or_to_be_emptied_keep_nothing() {
        let (mut nodes, partitions) = zone();
        (nodes[0].state, nodes[1].administrative_state) = ("down", "draining");
        nodes[2].disk_below_reserve = true;
        let form = problem(&nodes, &partitions, 3).unwrap();
        let may = |node: usize| (form.nodes[node].may_hold, form.nodes[node].may_receive);
        assert_eq!(
            [may(0), may(1), may(2), may(3)],
            [(false, false), (false, false), (true, false), (true, true)]
        );
        assert!(form.groups.iter().all(|group| group.spread_min == 2));
    }

    #[test]
    fn zones_of_any_size_are_problems_that_can_be_solved() {
        let (nodes, mut partitions) = zone();
        for partition in &mut partitions {
            partition.stored_bytes = 1 << 39;
            partition.reads_per_second = 1e7;
        }
        Problem::new(&problem(&nodes, &partitions, 3).unwrap()).unwrap();
        // Petabytes, and next to nobody who asks for them.
        for (reads, writes) in [(0.001, 0.001), (0.0, 0.0)] {
            for partition in &mut partitions {
                partition.stored_bytes = 1 << 46;
                (partition.reads_per_second, partition.writes_per_second) = (reads, writes);
            }
            Problem::new(&problem(&nodes, &partitions, 3).unwrap()).unwrap();
        }
        for partition in &mut partitions {
            partition.stored_bytes = 0;
            (partition.reads_per_second, partition.writes_per_second) = (0.0, f64::NAN);
        }
        Problem::new(&problem(&nodes, &partitions, 3).unwrap()).unwrap();
        Problem::new(&problem(&nodes, &[], 3).unwrap()).unwrap();
    }

    #[test]
    fn replicas_on_unknown_nodes_are_no_zone() {
        let (mut nodes, partitions) = zone();
        nodes.remove(0);
        assert!(problem(&nodes, &partitions, 3).unwrap_err().contains("node 1"));
    }
}
