//! What must be true of a zone, seen from outside: pure functions of what its services answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::Bytes;
use proto::v1::{
    GetHeatResponse, HeatRates, NodeSummary, PartitionMap, PartitionSummary, ZoneStatus,
};
use serde::{Deserialize, Serialize};

/// A guarantee that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which one, for example `G4`.
    pub guarantee: String,
    /// In a sentence.
    pub sentence: String,
    /// Evidence, in lines; may be empty.
    pub details: String,
}

impl Problem {
    pub fn new(guarantee: &str, sentence: impl Into<String>) -> Self {
        Self { guarantee: guarantee.into(), sentence: sentence.into(), details: String::new() }
    }

    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.guarantee, self.sentence)
    }
}

/// A partition as the checks need it: its id, where it starts and where it ends (empty: no bound).
struct Range<'a> {
    partition_id: u64,
    start: &'a Bytes,
    end: &'a Bytes,
}

/// G4: the ranges, in the given sequence, cover the key space exactly.
fn cover(ranges: &[Range<'_>]) -> Result<(), Problem> {
    let problem = |sentence: String| Err(Problem::new("G4", sentence));
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
        return problem("no partition covers anything".into());
    };
    if !first.start.is_empty() {
        return problem(format!("keys below {:?} belong to no partition", first.start));
    }
    if !last.end.is_empty() {
        return problem(format!("keys from {:?} on belong to no partition", last.end));
    }
    for pair in ranges.windows(2) {
        let [left, right] = pair else { continue };
        if left.end != right.start || left.end.is_empty() {
            return problem(format!(
                "partition {} ends at {:?}, but the next one, {}, starts at {:?}",
                left.partition_id, left.end, right.partition_id, right.start
            ));
        }
    }
    Ok(())
}

/// G4 on the partition map that a member gives to clients.
///
/// # Errors
/// If a key belongs to no partition or to two, or a partition is placed on one node twice.
pub fn check_partition_map(map: &PartitionMap) -> Result<(), Problem> {
    let empty = Bytes::new();
    let ranges: Vec<Range<'_>> = map
        .partitions
        .iter()
        .map(|route| Range {
            partition_id: route.partition_id,
            start: route.range.as_ref().map_or(&empty, |range| &range.start),
            end: route.range.as_ref().map_or(&empty, |range| &range.end),
        })
        .collect();
    cover(&ranges)?;
    for route in &map.partitions {
        let nodes: BTreeSet<u64> = route.replicas.iter().map(|replica| replica.node_id).collect();
        if nodes.len() != route.replicas.len() {
            return Err(Problem::new(
                "G4",
                format!("partition {} has two replicas on one node", route.partition_id),
            ));
        }
    }
    Ok(())
}

/// G4 on the partitions as the control plane's leader lists them, in key order: full cover, and each
/// partition with `replication_factor` replicas on distinct nodes, on distinct fault domains.
///
/// # Errors
/// If it is not so.
pub fn check_partitions(
    partitions: &[PartitionSummary],
    nodes: &[NodeSummary],
    replication_factor: usize,
) -> Result<(), Problem> {
    let empty = Bytes::new();
    let ranges: Vec<Range<'_>> = partitions
        .iter()
        .map(|partition| Range {
            partition_id: partition.id,
            start: partition.range.as_ref().map_or(&empty, |range| &range.start),
            end: partition.range.as_ref().map_or(&empty, |range| &range.end),
        })
        .collect();
    cover(&ranges)?;
    for partition in partitions {
        let on: BTreeSet<u64> = partition.replicas.iter().map(|replica| replica.node_id).collect();
        let domains: BTreeSet<&str> = nodes
            .iter()
            .filter(|node| on.contains(&node.id))
            .map(|node| node.fault_domain.as_str())
            .collect();
        if partition.replicas.len() != replication_factor
            || on.len() != replication_factor
            || domains.len() != replication_factor
        {
            return Err(Problem::new(
                "G4",
                format!(
                    "partition {} has {} replicas on nodes {on:?} in fault domains {domains:?}, \
                     not {replication_factor} on as many nodes and domains",
                    partition.id,
                    partition.replicas.len()
                ),
            ));
        }
    }
    Ok(())
}

/// Whether every partition of the zone has a leader, and none is missing of those that it was made with.
///
/// # Errors
/// With what is missing, in words.
pub fn is_available(status: &ZoneStatus, partitions: u32) -> Result<(), String> {
    if !status.from_leader {
        return Err("a leader of the control plane".into());
    }
    let counts = status.partitions.unwrap_or_default();
    // A split makes more of them.
    if counts.total < partitions || counts.available != counts.total {
        return Err(format!(
            "all of at least {partitions} partitions to be available (there are {}, of which {} are)",
            counts.total, counts.available
        ));
    }
    Ok(())
}

/// Whether the zone is as it should be, and at rest.
///
/// # Errors
/// With what is missing, in words.
pub fn is_settled(status: &ZoneStatus, partitions: u32) -> Result<(), String> {
    is_available(status, partitions)?;
    let counts = status.partitions.unwrap_or_default();
    if counts.under_replicated > 0 || counts.unavailable > 0 {
        return Err(format!(
            "{} partitions to be replicated fully, and {} to be available: {}",
            counts.under_replicated,
            counts.unavailable,
            status.problems.join("; ")
        ));
    }
    if status.operations_running > 0 {
        return Err(format!("{} operations to end", status.operations_running));
    }
    if !status.healthy {
        return Err(format!("the zone to call itself healthy: {}", status.problems.join("; ")));
    }
    Ok(())
}

/// Whether leaders are as even as the placement of the replicas allows: no row of hand-overs, each to a
/// replica of the partition that is handed over, leads from one node to another that has at least two
/// leaders fewer.
///
/// # Errors
/// With two nodes between which leaders could be evened out, in words.
pub fn is_even(partitions: &[PartitionSummary]) -> Result<(), String> {
    let mut leaders: BTreeMap<u64, usize> = BTreeMap::new();
    let mut hand_overs: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for partition in partitions {
        *leaders.entry(partition.leader_node_id).or_default() += 1;
        let others = partition.replicas.iter().map(|replica| replica.node_id);
        for other in others {
            leaders.entry(other).or_default();
            hand_overs.entry(partition.leader_node_id).or_default().insert(other);
        }
    }
    for (from, most) in &leaders {
        let mut reached = BTreeSet::from([*from]);
        let mut next = vec![*from];
        while let Some(node) = next.pop() {
            for other in hand_overs.get(&node).into_iter().flatten() {
                if reached.insert(*other) {
                    next.push(*other);
                }
            }
        }
        let fewest = reached.iter().map(|node| (leaders[node], *node)).min();
        if let Some((fewest, node)) = fewest
            && fewest + 2 <= *most
        {
            return Err(format!(
                "leaders to be even (node {from} has {most}, node {node} only {fewest})"
            ));
        }
    }
    Ok(())
}

/// A node need not say at once that so few requests per second have become none.
const UNNOTICED_MAX: f64 = 6.25;

/// Whether the leader knows, when nobody asks for anything any more, that it is so: of every node, and of every
/// partition.
///
/// # Errors
/// With who is still thought to have load, in words.
pub fn is_idle(heat: &GetHeatResponse, partitions: &[PartitionSummary]) -> Result<(), String> {
    if let Some(node) = heat.nodes.iter().find(|node| !node.reported) {
        return Err(format!("{} to report its load", node.name));
    }
    let busiest = partitions.iter().find(|partition| {
        partition.reads_per_second.max(partition.writes_per_second) > UNNOTICED_MAX
    });
    match busiest {
        Some(partition) => Err(format!(
            "the load of partition {} to be over ({} reads/s, {} writes/s)",
            partition.id, partition.reads_per_second, partition.writes_per_second
        )),
        None => Ok(()),
    }
}

/// What averages in 32 bits, and partitions that are too cold to be told of, may make up.
const HEAT_TOLERANCE: f64 = 1.0;

/// Load is what can be, and no node has more of it than the partitions that it leads: whatever has moved where,
/// none is counted twice. For zones of which all partitions can be told.
///
/// # Errors
/// If it is not so.
pub fn check_heat(heat: &GetHeatResponse) -> Result<(), Problem> {
    let of = |rates: &Option<HeatRates>| {
        let rates = rates.unwrap_or_default();
        [rates.reads_per_second, rates.writes_per_second, rates.bytes_per_second, rates.cpu_cores]
    };
    let problem =
        |sentence: String| Err(Problem::new("G10", sentence).with_details(format!("{heat:#?}")));
    let nodes = heat.nodes.iter().flat_map(|node| [&node.short_term, &node.long_term]);
    let partitions = heat.partitions.iter().flat_map(|it| [&it.short_term, &it.long_term]);
    if nodes.chain(partitions).flat_map(of).any(|rate| !rate.is_finite() || rate < 0.0) {
        return problem("a load is negative, or no number".into());
    }
    for node in &heat.nodes {
        let led = heat.partitions.iter().filter(|it| it.leader_node_id == node.node_id);
        let led =
            led.map(|partition| of(&partition.short_term)).fold([0.0; 4], |mut sum, rates| {
                sum.iter_mut().zip(rates).for_each(|(sum, rate)| *sum += rate);
                sum
            });
        // Bytes and processor time follow from requests; of the latter followers have some, too.
        let pairs = of(&node.short_term).into_iter().zip(led).take(2);
        for (load, led) in pairs {
            if load > led * 1.01 + HEAT_TOLERANCE {
                let name = &node.name;
                return problem(format!(
                    "{name} has {load} requests per second, and the partitions that it leads {led}"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{KeyRange, NodeHeat, PartitionCounts, PartitionHeat, ReplicaPlacement};

    fn partition(
        id: u64,
        start: &'static str,
        end: &'static str,
        nodes: &[u64],
    ) -> PartitionSummary {
        PartitionSummary {
            id,
            range: Some(KeyRange { start: start.into(), end: end.into() }),
            replicas: nodes
                .iter()
                .map(|node| ReplicaPlacement { replica_id: id * 100 + node, node_id: *node })
                .collect(),
            ..PartitionSummary::default()
        }
    }

    fn nodes() -> Vec<NodeSummary> {
        [(1, "a"), (2, "b"), (3, "b")]
            .map(|(id, domain)| NodeSummary {
                id,
                fault_domain: domain.into(),
                ..NodeSummary::default()
            })
            .into()
    }

    #[test]
    fn exact_cover_passes() {
        check_partitions(&[partition(1, "", "", &[1, 2])], &nodes(), 2).unwrap();
        let two = [partition(1, "", "m", &[1, 2]), partition(2, "m", "", &[1, 3])];
        check_partitions(&two, &nodes(), 2).unwrap();
    }

    #[test]
    fn gaps_overlaps_and_bad_placements_are_found() {
        let cases = [
            vec![],
            vec![partition(1, "a", "", &[1, 2])],
            vec![partition(1, "", "z", &[1, 2])],
            vec![partition(1, "", "m", &[1, 2]), partition(2, "n", "", &[1, 2])],
            vec![partition(1, "", "m", &[1, 2]), partition(2, "k", "", &[1, 2])],
            vec![partition(1, "", "", &[1, 2]), partition(2, "", "", &[1, 2])],
            vec![partition(1, "", "", &[1, 1])],
            vec![partition(1, "", "", &[1])],
            vec![partition(1, "", "", &[2, 3])],
        ];
        for partitions in cases {
            let problem = check_partitions(&partitions, &nodes(), 2).unwrap_err();
            assert_eq!(problem.guarantee, "G4", "{problem}");
        }
    }

    #[test]
    fn load_that_is_counted_twice_or_goes_on_for_ever_is_found() {
        let rates = |reads_per_second| Some(HeatRates { reads_per_second, ..HeatRates::default() });
        let node = |node_id, reads| NodeHeat {
            node_id,
            short_term: rates(reads),
            reported: true,
            ..NodeHeat::default()
        };
        let led = |leader_node_id, reads| PartitionHeat {
            leader_node_id,
            short_term: rates(reads),
            ..PartitionHeat::default()
        };
        let heat = |nodes: &[f64], partitions: &[(u64, f64)]| GetHeatResponse {
            nodes: (1..).zip(nodes).map(|(id, reads)| node(id, *reads)).collect(),
            partitions: partitions.iter().map(|(leader, reads)| led(*leader, *reads)).collect(),
            ..GetHeatResponse::default()
        };
        check_heat(&heat(&[30.0, 0.0], &[(1, 20.0), (1, 10.0), (2, 5.0)])).unwrap();
        check_heat(&heat(&[20.0, 20.0], &[(2, 20.0)])).unwrap_err();
        check_heat(&heat(&[f64::NAN], &[])).unwrap_err();
        check_heat(&heat(&[], &[(1, -1.0)])).unwrap_err();

        let busy = |reads_per_second| {
            [PartitionSummary { reads_per_second, ..partition(1, "", "", &[1, 2]) }]
        };
        let mut heat = heat(&[0.0], &[]);
        is_idle(&heat, &busy(6.0)).unwrap();
        is_idle(&heat, &busy(7.0)).unwrap_err();
        heat.nodes[0].reported = false;
        is_idle(&heat, &busy(0.0)).unwrap_err();
    }

    #[test]
    fn leaders_are_even_if_no_row_of_hand_overs_would_help() {
        let led = |leader, nodes: &[u64]| PartitionSummary {
            leader_node_id: leader,
            ..partition(1, "", "", nodes)
        };
        is_even(&[led(1, &[1, 2]), led(2, &[1, 2]), led(1, &[1, 2])]).unwrap();
        is_even(&[led(1, &[1, 2]), led(1, &[1, 2])]).unwrap_err();
        // Node 3 has one replica only, and leads there: it cannot have more.
        is_even(&[led(1, &[1, 2]), led(1, &[1, 2]), led(2, &[1, 2]), led(3, &[2, 3])]).unwrap();
        // From 1 by way of 2 to 3, which has nothing.
        is_even(&[led(1, &[1, 2]), led(1, &[1, 2]), led(2, &[2, 3])]).unwrap_err();
        // An empty node cannot lead anything.
        is_even(&[led(1, &[1, 2]), led(2, &[1, 2])]).unwrap();
    }

    #[test]
    fn a_zone_is_settled_only_if_nothing_is_left_to_do() {
        let settled = ZoneStatus {
            healthy: true,
            from_leader: true,
            partitions: Some(PartitionCounts {
                total: 4,
                available: 4,
                ..PartitionCounts::default()
            }),
            ..ZoneStatus::default()
        };
        is_settled(&settled, 4).unwrap();
        is_settled(&settled, 5).unwrap_err();
        is_settled(&ZoneStatus { healthy: false, ..settled.clone() }, 4).unwrap_err();
        is_settled(&ZoneStatus { from_leader: false, ..settled.clone() }, 4).unwrap_err();
        is_settled(&ZoneStatus { operations_running: 1, ..settled.clone() }, 4).unwrap_err();
        let counts =
            PartitionCounts { total: 4, available: 4, under_replicated: 1, unavailable: 0 };
        is_settled(&ZoneStatus { partitions: Some(counts), ..settled }, 4).unwrap_err();
    }
}
