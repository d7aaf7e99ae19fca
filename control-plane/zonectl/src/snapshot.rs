//! A zone as a problem for `zonectl plan`.
//!
//! What a partition costs in processor time and bytes per second is told for the hottest partitions only, and what
//! its followers cost for each node as a whole. What is left of a node's load without the partitions that are told
//! of is spread over its other replicas by their requests ([`Shares`]), so that each node bears what it says.

use std::collections::{BTreeMap, BTreeSet};

use model::reassignment::{
    AMOUNT_MAX,
    form::{
        FORM_VERSION, GroupForm, MovesForm, NodeForm as NodeOfProblem, ProblemForm, ReplicaForm,
        ResourceForm,
    },
};

use crate::forms::{HeatForm, HeatRatesForm, NodeForm, PartitionForm};

/// Requests are counted over so many seconds, since amounts are whole numbers.
const RATE_SECONDS: f64 = 1_000.0;
/// Processor time is counted in microseconds per second: one core has so many.
const CORE: u64 = 1_000_000;
const READS: usize = 0;
const WRITES: usize = 1;
const STORED: usize = 2;
const TRAFFIC: usize = 3;
const PROCESSOR: usize = 4;
const RESOURCES: [&str; 5] =
    ["reads_per_1000_s", "writes_per_1000_s", "stored_bytes", "bytes_per_s", "processor_us_per_s"];
/// To move all bytes costs this part of what all load of one resource would cost.
const MOVE_PART: u64 = 20;
/// All load of one resource costs at least so much: finer differences than that do not matter;
const SCALE_MIN: u64 = 1_000_000_000;
/// and, where amounts allow it, at most so much: then the cost of any zone can be counted.
const SCALE_MAX: u64 = 1 << 57;

type Amounts = [u64; RESOURCES.len()];

/// The problem of making the zone even. Replicas are where they are; a node that is down, or is to be emptied, may
/// hold none.
///
/// # Errors
/// If partitions and nodes are not of one state: a replica's node is not among them.
pub fn problem(
    nodes: &[NodeForm],
    partitions: &[PartitionForm],
    heat: &HeatForm,
    replication_factor: u32,
) -> Result<ProblemForm, String> {
    let names: BTreeMap<u64, &str> =
        nodes.iter().map(|node| (node.id, node.name.as_str())).collect();
    let shares = Shares::of(partitions, heat);
    let (mut replicas, mut totals) = (Vec::new(), Amounts::default());
    for partition in partitions {
        for placement in &partition.replicas {
            let node = names.get(&placement.node_id).ok_or_else(|| {
                format!(
                    "partition {} has a replica on node {}, which the zone does not know",
                    partition.id, placement.node_id
                )
            })?;
            let demand = shares.demand(partition, placement.node_id);
            for (total, amount) in totals.iter_mut().zip(demand) {
                *total = total.saturating_add(amount);
            }
            replicas.push(ReplicaForm {
                name: format!("partition-{}/replica-{}", partition.id, placement.replica_id),
                group: group(partition),
                node: Some((*node).to_owned()),
                demand: demand.to_vec(),
                move_cost: partition.stored_bytes.div_ceil(MOVE_PART),
            });
        }
    }
    let domains: BTreeSet<&str> =
        nodes.iter().filter(|node| node.stays()).map(|node| node.fault_domain.as_str()).collect();
    // A partition that lacks replicas, or a zone that lacks nodes, can be spread no further than what there is.
    let spread = |partition: &PartitionForm| {
        let most = partition.replicas.len().min(domains.len());
        u32::try_from(most).unwrap_or(u32::MAX).min(replication_factor).max(1)
    };
    let scale = totals[STORED].saturating_mul(MOVE_PART).clamp(SCALE_MIN, SCALE_MAX);
    // Where there is no load, nothing can be above a target.
    let weight = |resource: usize| {
        scale.checked_div(totals[resource]).map_or(0, |weight| weight.clamp(1, AMOUNT_MAX))
    };
    let resource = |(index, name): (usize, &&str)| ResourceForm {
        name: (*name).to_owned(),
        transient: index == STORED,
        load_weight: weight(index),
    };
    // One without a place is no group yet.
    let placed = partitions.iter().filter(|partition| !partition.replicas.is_empty());
    Ok(ProblemForm {
        version: FORM_VERSION,
        resources: RESOURCES.iter().enumerate().map(resource).collect(),
        nodes: problem_nodes(nodes, heat, totals),
        groups: placed
            .map(|partition| GroupForm { name: group(partition), spread_min: spread(partition) })
            .collect(),
        replicas,
        balances: Vec::new(),
        moves: MovesForm { replica_weight: weight(STORED), ..MovesForm::default() },
    })
}

fn group(partition: &PartitionForm) -> String {
    format!("partition-{}", partition.id)
}

/// What is known of processor time and bytes per second, and how the rest is shared.
struct Shares<'a> {
    /// What leading them costs, of the hottest partitions.
    told: BTreeMap<u64, &'a HeatRatesForm>,
    nodes: BTreeMap<u64, Rest>,
}

/// What a node bears without the partitions that are told of.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    cpu_cores: f64,
    bytes_per_second: f64,
    /// Requests per second that make it: of what it leads, and of all that it holds.
    led_requests: f64,
    requests: f64,
}

impl<'a> Shares<'a> {
    fn of(partitions: &[PartitionForm], heat: &'a HeatForm) -> Self {
        let rest = |rates: &HeatRatesForm| Rest {
            cpu_cores: rates.cpu_cores,
            bytes_per_second: rates.bytes_per_second,
            ..Rest::default()
        };
        let nodes = heat.nodes.iter().map(|node| (node.node_id, rest(&node.short_term)));
        let told = heat.partitions.iter().map(|it| (it.partition_id, &it.short_term));
        let mut shares = Self { told: told.collect(), nodes: nodes.collect() };
        for partition in &heat.partitions {
            let node = partition.leader_node_id.and_then(|node| shares.nodes.get_mut(&node));
            if let Some(rest) = node {
                let rates = &partition.short_term;
                rest.cpu_cores = (rest.cpu_cores - rates.cpu_cores).max(0.0);
                rest.bytes_per_second = (rest.bytes_per_second - rates.bytes_per_second).max(0.0);
            }
        }
        for partition in partitions {
            for placement in &partition.replicas {
                let requests = shares.requests(partition, placement.node_id);
                if let Some(rest) = shares.nodes.get_mut(&placement.node_id) {
                    rest.requests += requests;
                    if partition.leader_node_id == Some(placement.node_id) {
                        rest.led_requests += requests;
                    }
                }
            }
        }
        shares
    }

    /// The requests by which a replica shares in what is left of its node's load: a leader answers all of them, the
    /// others apply what is written. None where a partition is told of and led.
    fn requests(&self, partition: &PartitionForm, node: u64) -> f64 {
        let leads = partition.leader_node_id == Some(node);
        let requests = match (leads, self.told.contains_key(&partition.id)) {
            (true, true) => 0.0,
            (true, false) => partition.reads_per_second + partition.writes_per_second,
            (false, _) => partition.writes_per_second,
        };
        // What is no number counts as none.
        requests.max(0.0)
    }

    /// What a replica bears where it is.
    fn demand(&self, partition: &PartitionForm, node: u64) -> Amounts {
        let leads = partition.leader_node_id == Some(node);
        let told = self.told.get(&partition.id).filter(|_| leads);
        let (traffic, cores) = match told {
            Some(rates) => (rates.bytes_per_second, rates.cpu_cores),
            None => self.of_the_rest(partition, node, leads),
        };
        let mut demand = Amounts::default();
        demand[READS] = amount(if leads { partition.reads_per_second } else { 0.0 } * RATE_SECONDS);
        demand[WRITES] = amount(partition.writes_per_second * RATE_SECONDS);
        demand[TRAFFIC] = amount(traffic);
        demand[PROCESSOR] = amount(cores * CORE as f64);
        demand[STORED] = partition.stored_bytes;
        demand
    }

    /// Its bytes per second and its cores.
    fn of_the_rest(&self, partition: &PartitionForm, node: u64, leads: bool) -> (f64, f64) {
        let rest = self.nodes.get(&node).copied().unwrap_or_default();
        let requests = self.requests(partition, node);
        let part = |of: f64| if of > 0.0 { requests / of } else { 0.0 };
        let traffic = if leads { rest.bytes_per_second * part(rest.led_requests) } else { 0.0 };
        (traffic, rest.cpu_cores * part(rest.requests))
    }
}

fn problem_nodes(nodes: &[NodeForm], heat: &HeatForm, totals: Amounts) -> Vec<NodeOfProblem> {
    let cores: BTreeMap<u64, u64> =
        heat.nodes.iter().map(|node| (node.node_id, node.cores.into())).collect();
    let cores_of = |node: &NodeForm| cores.get(&node.id).copied().unwrap_or(0);
    let staying = || nodes.iter().filter(|node| node.stays());
    // Where somebody's are not known, all count for the same.
    let are_known = staying().all(|node| cores_of(node) > 0);
    let weight = |node: &NodeForm| if are_known { cores_of(node) } else { 1 };
    let weights = staying().fold(0, |sum: u64, node| sum.saturating_add(weight(node)));
    let disks = staying().fold(0, |sum: u64, node| sum.saturating_add(node.capacity_bytes));
    nodes
        .iter()
        .map(|node| {
            // How much of them a node can bear is not known: as much as there is.
            let mut capacity = totals.map(|total| total.min(AMOUNT_MAX));
            let mut target = totals.map(|total| part(total, weight(node), weights));
            if cores_of(node) > 0 {
                capacity[PROCESSOR] = cores_of(node) * CORE;
            }
            capacity[STORED] = node.capacity_bytes;
            target[STORED] = part(totals[STORED], node.capacity_bytes, disks);
            for (target, capacity) in target.iter_mut().zip(capacity) {
                *target = capacity.min(*target);
            }
            NodeOfProblem {
                name: node.name.clone(),
                fault_domain: node.fault_domain.clone(),
                location: None,
                capacity: capacity.to_vec(),
                target: target.to_vec(),
                may_receive: node.state == "up" && node.stays() && !node.disk_below_reserve,
                may_hold: node.stays(),
            }
        })
        .collect()
}

/// The part of a total that a weight has among all weights, rounded up.
fn part(total: u64, weight: u64, weights: u64) -> u64 {
    let part = (u128::from(total) * u128::from(weight)).div_ceil(u128::from(weights.max(1)));
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// To the nearest whole number; what is no number counts as none.
fn amount(rate: f64) -> u64 {
    // Saturates.
    (rate.max(0.0).round() as u64).min(AMOUNT_MAX)
}

#[cfg(test)]
mod tests {
    use model::reassignment::{Effort, Problem, solve};
    use proto::v1;

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

    fn rates(bytes_per_second: f64, cpu_cores: f64) -> Option<v1::HeatRates> {
        Some(v1::HeatRates { bytes_per_second, cpu_cores, ..v1::HeatRates::default() })
    }

    /// What nodes bear: their cores, their bytes per second, and the cores that they use.
    fn heat(nodes: &[(u32, f64, f64)], partitions: Vec<v1::PartitionHeat>) -> HeatForm {
        let node = |(node_id, (cores, bytes, used)): (u64, &(u32, f64, f64))| v1::NodeHeat {
            node_id,
            cores: *cores,
            short_term: rates(*bytes, *used),
            long_term: rates(1e9, 9.0),
            reported: true,
            ..v1::NodeHeat::default()
        };
        let nodes = (1..).zip(nodes).map(node).collect();
        let heat = v1::GetHeatResponse { nodes, partitions, ..v1::GetHeatResponse::default() };
        HeatForm::new(heat, &[], None)
    }

    fn hot(partition_id: u64, leader_node_id: u64, bytes: f64, used: f64) -> v1::PartitionHeat {
        v1::PartitionHeat {
            partition_id,
            leader_node_id,
            short_term: rates(bytes, used),
            ..v1::PartitionHeat::default()
        }
    }

    /// Nobody says anything of processor time, and all have as many cores.
    fn silent() -> HeatForm {
        heat(&[(2, 0.0, 0.0); 4], Vec::new())
    }

    fn exported(nodes: &[NodeForm], partitions: &[PartitionForm], factor: u32) -> ProblemForm {
        problem(nodes, partitions, &silent(), factor).unwrap()
    }

    #[test]
    fn an_empty_node_gets_its_share() {
        let (nodes, partitions) = zone();
        let form = exported(&nodes, &partitions, 2);
        assert_eq!(form.replicas[0].demand, [20_000, 10_500, 1 << 30, 0, 0]);
        assert_eq!(form.replicas[1].demand, [0, 10_500, 1 << 30, 0, 0]);
        assert_eq!(form.nodes[0].target, [40_000, 42_000, 4 << 30, 0, 0]);
        assert_eq!(form.nodes[0].capacity, [160_000, 168_000, 1 << 40, 0, 2_000_000]);
        let solution = solve(&Problem::new(&form).unwrap(), 1, Effort { rounds: 10, lanes: 1 });
        assert!(solution.violations_after.is_none());
        let there = solution.assignment.iter().filter(|node| *node == Some(3)).count();
        assert_eq!(there, 4, "{}", solution.after);
    }

    #[test]
    fn a_node_with_twice_the_cores_is_to_bear_twice_as_much() {
        let (mut nodes, partitions) = zone();
        nodes[3].capacity_bytes = 3 << 40;
        let cores = |last| {
            heat(&[(2, 0.0, 1.0), (2, 0.0, 1.0), (2, 0.0, 1.0), (last, 0.0, 0.0)], Vec::new())
        };
        let form = problem(&nodes, &partitions, &cores(4), 2).unwrap();
        let names: Vec<&str> = form.resources.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "reads_per_1000_s",
                "writes_per_1000_s",
                "stored_bytes",
                "bytes_per_s",
                "processor_us_per_s"
            ]
        );
        // All of it: 160,000 reads, 168,000 writes, 16 GiB and three cores, but for rounding.
        let stored = |parts: u64| ((16_u64 << 30) * parts).div_ceil(6);
        let used: u64 = form.replicas.iter().map(|replica| replica.demand[PROCESSOR]).sum();
        assert!(used.abs_diff(3_000_000) < 100, "{used}");
        assert_eq!(form.nodes[0].target, [32_000, 33_600, stored(1), 0, used.div_ceil(5)]);
        assert_eq!(form.nodes[3].target, [64_000, 67_200, stored(3), 0, (used * 2).div_ceil(5)]);
        assert_eq!(form.nodes[3].capacity, [160_000, 168_000, 3 << 40, 0, 4_000_000]);
        // Nobody knows how large the last one is: all are taken to be alike.
        let form = problem(&nodes, &partitions, &cores(0), 2).unwrap();
        assert_eq!(form.nodes[0].target[PROCESSOR], used.div_ceil(4));
        assert_eq!(form.nodes[3].target[READS], 40_000);
        assert_eq!(form.nodes[3].capacity[PROCESSOR], used);
        Problem::new(&form).unwrap();
    }

    #[test]
    fn each_node_bears_what_it_says_as_far_as_is_known_by_partition() {
        let nodes: Vec<NodeForm> = (1..=2).map(node).collect();
        // Node 1 leads the first two, node 2 the third.
        let mut partitions: Vec<PartitionForm> = [[1, 2], [1, 2], [2, 1]]
            .iter()
            .zip(1..)
            .map(|(nodes, id)| partition(id, nodes))
            .collect();
        (partitions[1].reads_per_second, partitions[1].writes_per_second) = (25.0, 5.0);
        (partitions[2].reads_per_second, partitions[2].writes_per_second) = (0.0, 10.0);
        let told = vec![hot(1, 1, 600.0, 0.5)];
        let load = heat(&[(2, 1_000.0, 0.9), (2, 500.0, 0.255)], told);
        let form = problem(&nodes, &partitions, &load, 2).unwrap();
        let borne = |replica: usize| {
            let demand = &form.replicas[replica].demand;
            (demand[TRAFFIC], demand[PROCESSOR])
        };
        // Partition 1 is told of. What is left of node 1 goes by requests: 30 for leading partition 2, 10 for
        // applying what is written to partition 3.
        assert_eq!([borne(0), borne(2), borne(5)], [(600, 500_000), (400, 300_000), (0, 100_000)]);
        // Node 2 applies 10.5 and 5 writes, and leads 10.
        assert_eq!([borne(1), borne(3), borne(4)], [(0, 105_000), (0, 50_000), (500, 100_000)]);
        assert_eq!(form.nodes[0].target, [45_000 / 2, 51_000 / 2, 3 << 30, 750, 577_500]);
        Problem::new(&form).unwrap();
    }

    #[test]
    fn a_busy_node_is_relieved_of_processor_time() {
        let (nodes, mut partitions) = zone();
        for partition in &mut partitions {
            (partition.reads_per_second, partition.writes_per_second) = (0.0, 0.0);
            partition.stored_bytes = 0;
        }
        // Node 1 leads partitions 3 and 6 and is far above its two cores' share.
        let told = vec![hot(3, 1, 0.0, 0.75), hot(6, 1, 0.0, 0.75)];
        let load = heat(&[(2, 0.0, 1.5), (2, 0.0, 0.0), (2, 0.0, 0.0), (2, 0.0, 0.0)], told);
        let form = problem(&nodes, &partitions, &load, 2).unwrap();
        let solution = solve(&Problem::new(&form).unwrap(), 1, Effort { rounds: 10, lanes: 1 });
        assert!(solution.violations_after.is_none());
        let busy = |replica: &usize| form.replicas[*replica].demand[PROCESSOR] > 0;
        let places: BTreeSet<_> = (0..form.replicas.len())
            .filter(busy)
            .map(|replica| solution.assignment.node_of(replica))
            .collect();
        assert_eq!(places.len(), 2, "{places:?}");
    }

    #[test]
    fn a_partition_that_lacks_replicas_is_spread_as_far_as_it_can_be() {
        let (mut nodes, mut partitions) = zone();
        partitions[0].replicas.truncate(1);
        partitions[1] = partition(2, &[1, 2, 3]);
        // Has no place yet.
        partitions[2].replicas.clear();
        let form = exported(&nodes, &partitions, 3);
        let spread = |form: &ProblemForm, name: &str| {
            let group = form.groups.iter().find(|group| group.name == name);
            group.map(|group| group.spread_min)
        };
        assert_eq!(spread(&form, "partition-1"), Some(1));
        assert_eq!(spread(&form, "partition-2"), Some(3));
        assert_eq!(spread(&form, "partition-3"), None);
        assert_eq!(spread(&form, "partition-4"), Some(2));
        let solution = solve(&Problem::new(&form).unwrap(), 1, Effort { rounds: 10, lanes: 1 });
        assert!(solution.violations_after.is_none(), "{}", solution.violations_after);
        // Two racks are left for three replicas.
        (nodes[0].state, nodes[3].fault_domain) = ("down", "rack-3".to_owned());
        let form = exported(&nodes, &partitions, 3);
        assert_eq!(spread(&form, "partition-2"), Some(2));
        let solution = solve(&Problem::new(&form).unwrap(), 1, Effort { rounds: 10, lanes: 1 });
        assert!(solution.violations_after.is_none(), "{}", solution.violations_after);
        for node in &mut nodes {
            node.state = "down";
        }
        Problem::new(&exported(&nodes, &partitions, 3)).unwrap();
    }

    #[test]
    fn nodes_that_are_down_or_to_be_emptied_keep_nothing() {
        let (mut nodes, partitions) = zone();
        (nodes[0].state, nodes[1].administrative_state) = ("down", "draining");
        nodes[2].disk_below_reserve = true;
        let form = exported(&nodes, &partitions, 3);
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
        Problem::new(&exported(&nodes, &partitions, 3)).unwrap();
        // Tens of petabytes that nobody asks for, on very many disks.
        for partition in &mut partitions {
            partition.stored_bytes = 1 << 52;
        }
        Problem::new(&exported(&nodes, &partitions, 3)).unwrap();
        // Petabytes, and next to nobody who asks for them.
        for (reads, writes) in [(0.001, 0.001), (0.0, 0.0)] {
            for partition in &mut partitions {
                partition.stored_bytes = 1 << 46;
                (partition.reads_per_second, partition.writes_per_second) = (reads, writes);
            }
            Problem::new(&exported(&nodes, &partitions, 3)).unwrap();
        }
        for partition in &mut partitions {
            partition.stored_bytes = 0;
            (partition.reads_per_second, partition.writes_per_second) = (0.0, f64::NAN);
        }
        Problem::new(&exported(&nodes, &partitions, 3)).unwrap();
        Problem::new(&exported(&nodes, &[], 3)).unwrap();
    }

    #[test]
    fn replicas_on_unknown_nodes_are_no_zone() {
        let (mut nodes, partitions) = zone();
        nodes.remove(0);
        let refusal = problem(&nodes, &partitions, &silent(), 3).unwrap_err();
        assert!(refusal.contains("node 1"), "{refusal}");
    }
}
