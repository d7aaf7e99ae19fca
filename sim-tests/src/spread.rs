//! G9 for load: while what is asked for stays the same, load is spread, and then nothing moves any more.
//!
//! What is seen of few requests is never quite even, so it is not asked whether it is; when nothing has been moved for
//! so long that anything worth it would have been, nothing may be moved any more.

use std::{collections::BTreeMap, ops::Range};

use proto::v1::{GetHeatResponse, HeatRates, Operation, PartitionSummary};

use crate::checks::Problem;

/// With less of its cores used than this a node has no load to speak of,
const BUSY_MIN: f64 = 0.05;
/// and with less than this of all cores a zone has none: the policy's `idle_permille`, by as much more as what was
/// idle may become without being another load, and as an average may be off.
const ZONE_BUSY_MIN: f64 = IDLE * 1.3 * 1.25;
/// The policy's `idle_permille`, and where an average may be on either side of it.
const IDLE: f64 = 0.02;
const EDGE: Range<f64> = IDLE * 0.75..IDLE * 1.25;
/// A transfer that makes the most loaded node less loaded by more than this part of the mean is none that can be
/// overlooked: averages over ten seconds of a few hundred requests are off by half of it.
const GAIN_MIN: f64 = 0.3;
/// From here on one key is a partition's heat, which would be as hot elsewhere.
const HOT_KEY_MIN: f64 = 0.45;

/// Operations by which load is spread.
pub const ORIGIN: &str = "heat";

/// Whether nothing is being done about load.
///
/// # Errors
/// With what is, in words.
pub fn is_done(heat: &GetHeatResponse) -> Result<(), String> {
    let Some(balance) = &heat.balance else {
        return Err("the balancer to plan".into());
    };
    if balance.state == "settling" {
        return Err(format!(
            "load to be spread (the most loaded node has {:.3} of the mean)",
            balance.worst_share
        ));
    }
    Ok(())
}

/// Whether the zone has as much load as it takes to count, give or take what an average may be off: whether and when it
/// begins to be spread is then a matter of luck.
pub fn is_on_the_edge(heat: &GetHeatResponse) -> bool {
    EDGE.contains(&utilisation(heat))
}

/// The part of all cores that is used.
fn utilisation(heat: &GetHeatResponse) -> f64 {
    let used: f64 = heat.nodes.iter().map(|node| cores(&node.short_term)).sum();
    let all: f64 = heat.nodes.iter().map(|node| f64::from(node.cores)).sum();
    if all > 0.0 { used / all } else { 0.0 }
}

fn cores(rates: &Option<HeatRates>) -> f64 {
    rates.as_ref().map_or(0.0, |rates| rates.cpu_cores)
}

/// What load has moved, in the sequence in which it began, after the operation with this id.
pub fn moved(operations: &[Operation], after: u64) -> Vec<&Operation> {
    let mut moved: Vec<&Operation> =
        operations.iter().filter(|it| it.origin == ORIGIN && it.id > after).collect();
    moved.sort_by_key(|operation| operation.id);
    moved
}

/// Whether nothing has gone back to a node that it was taken from.
///
/// # Errors
/// With what has.
pub fn check_no_return(moved: &[&Operation]) -> Result<(), Problem> {
    let mut left: BTreeMap<(u64, &str), Vec<u64>> = BTreeMap::new();
    // A split takes nothing anywhere.
    for operation in moved.iter().filter(|it| it.to_node_id != 0) {
        let been = left.entry((operation.partition_id, operation.kind.as_str())).or_default();
        if been.contains(&operation.to_node_id) {
            return Err(problem("what load has moved has gone back under the same load", moved));
        }
        been.push(operation.from_node_id);
    }
    Ok(())
}

/// Whether no single transfer of leadership would relieve the most loaded node by much: a second opinion, from what
/// the zone tells of load, on what its planner says of itself. What load or an operator has taken away from a
/// node does not go back there.
///
/// # Errors
/// With the transfer that would.
pub fn check_spread(
    heat: &GetHeatResponse,
    partitions: &[PartitionSummary],
    operations: &[Operation],
) -> Result<(), Problem> {
    let is_meant = |it: &&Operation| [ORIGIN, "operator"].contains(&it.origin.as_str());
    let moved: Vec<&Operation> = operations.iter().filter(is_meant).collect();
    let loads: BTreeMap<u64, f64> =
        heat.nodes.iter().map(|node| (node.node_id, cores(&node.short_term))).collect();
    let Some((worst, most)) = loads.iter().max_by(|a, b| a.1.total_cmp(b.1)) else {
        return Ok(());
    };
    #[allow(clippy::cast_precision_loss)]
    let mean = loads.values().sum::<f64>() / loads.len() as f64;
    let is_zone_busy = utilisation(heat) > ZONE_BUSY_MIN;
    let is_busy = heat.nodes.iter().any(|node| {
        cores(&node.short_term) > BUSY_MIN * f64::from(node.cores) && node.node_id == *worst
    });
    if !is_busy || !is_zone_busy {
        return Ok(());
    }
    for led in heat.partitions.iter().filter(|it| it.leader_node_id == *worst) {
        if led.hottest_keys.iter().any(|key| key.share > HOT_KEY_MIN) {
            continue;
        }
        let load = cores(&led.short_term);
        let partition = partitions.iter().find(|it| it.id == led.partition_id);
        for replica in partition.iter().flat_map(|it| &it.replicas) {
            let to = replica.node_id;
            let returns =
                moved.iter().any(|it| it.partition_id == led.partition_id && it.from_node_id == to);
            let Some(there) = loads.get(&to).filter(|_| to != *worst && !returns) else { continue };
            if (there + load).max(most - load) < most - GAIN_MIN * mean {
                let sentence = format!(
                    "load is not spread: node {worst} spends {most:.3} cores, and {:.3} if node {to}, \
                     which spends {there:.3}, led partition {}",
                    most - load,
                    led.partition_id
                );
                return Err(Problem::new("G9", sentence).with_details(format!("{heat:#?}")));
            }
        }
    }
    Ok(())
}

/// Whether load has moved nothing more.
///
/// # Errors
/// With what it has.
pub fn check_left_alone(moved: &[&Operation]) -> Result<(), Problem> {
    if moved.is_empty() {
        return Ok(());
    }
    Err(problem(
        "load has moved something after it was spread, and what is asked for was the same",
        moved,
    ))
}

fn problem(sentence: &str, moved: &[&Operation]) -> Problem {
    let lines: Vec<String> = moved
        .iter()
        .map(|it| format!("{} at {} ms: {}", it.summary, it.started_zone_time_ms, it.reason))
        .collect();
    Problem::new("G9", sentence).with_details(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use proto::v1::BalanceStatus;

    use super::*;

    fn operation(id: u64, partition_id: u64, from_node_id: u64, to_node_id: u64) -> Operation {
        Operation {
            id,
            kind: "transfer-leader".into(),
            origin: ORIGIN.into(),
            partition_id,
            from_node_id,
            to_node_id,
            ..Operation::default()
        }
    }

    #[test]
    fn a_zone_that_goes_on_settling_is_not_done() {
        let said = |state: &str| GetHeatResponse {
            balance: Some(BalanceStatus { state: state.into(), ..BalanceStatus::default() }),
            ..GetHeatResponse::default()
        };
        for state in ["even", "at-rest", "idle", "uneven"] {
            is_done(&said(state)).unwrap();
        }
        is_done(&said("settling")).unwrap_err();
        is_done(&GetHeatResponse::default()).unwrap_err();
    }

    #[test]
    fn a_load_that_one_transfer_would_even_out_is_not_spread() {
        use proto::v1::{HotKey, NodeHeat, PartitionHeat, ReplicaPlacement};
        let rates = |cpu_cores| Some(HeatRates { cpu_cores, ..HeatRates::default() });
        let node = |node_id, cpu_cores| NodeHeat {
            node_id,
            cores: 2,
            short_term: rates(cpu_cores),
            ..NodeHeat::default()
        };
        let led = |partition_id, leader_node_id, cpu_cores| PartitionHeat {
            partition_id,
            leader_node_id,
            short_term: rates(cpu_cores),
            ..PartitionHeat::default()
        };
        let partition = |id| PartitionSummary {
            id,
            replicas: [1, 2]
                .map(|node_id| ReplicaPlacement { node_id, ..ReplicaPlacement::default() })
                .into(),
            ..PartitionSummary::default()
        };
        let partitions = [partition(1), partition(2), partition(3)];
        let mut heat = GetHeatResponse {
            nodes: vec![node(1, 0.8), node(2, 0.2)],
            partitions: vec![led(1, 1, 0.4), led(2, 1, 0.4), led(3, 2, 0.2)],
            ..GetHeatResponse::default()
        };
        let by_hand = Operation { origin: "operator".into(), ..operation(1, 1, 2, 1) };
        let gone_before = [by_hand, operation(2, 2, 2, 1)];
        assert_eq!(check_spread(&heat, &partitions, &[]).unwrap_err().guarantee, "G9");
        check_spread(&heat, &partitions, &gone_before).unwrap();
        for one in &mut heat.partitions {
            one.hottest_keys = vec![HotKey { share: 0.9, ..HotKey::default() }];
        }
        check_spread(&heat, &partitions, &[]).unwrap();
        // One piece of it all, or next to nothing, cannot be spread.
        heat.partitions = vec![led(1, 1, 0.8), led(3, 2, 0.2)];
        check_spread(&heat, &partitions, &[]).unwrap();
        heat.nodes = vec![node(1, 0.08), node(2, 0.02)];
        heat.partitions = vec![led(1, 1, 0.04), led(2, 1, 0.04)];
        check_spread(&heat, &partitions, &[]).unwrap();
        // Nor can what one node bears of a large zone that is idle.
        heat.nodes = vec![node(1, 0.2), node(2, 0.02)];
        heat.partitions = vec![led(1, 1, 0.1), led(2, 1, 0.1)];
        check_spread(&heat, &partitions, &[]).unwrap_err();
        heat.nodes.extend((3..=6).map(|id| node(id, 0.0)));
        check_spread(&heat, &partitions, &[]).unwrap();
    }

    #[test]
    fn a_load_that_just_counts_or_just_does_not_is_on_the_edge() {
        use proto::v1::NodeHeat;
        let heat = |cpu_cores| {
            let short_term = Some(HeatRates { cpu_cores, ..HeatRates::default() });
            let node = NodeHeat { cores: 2, short_term, ..NodeHeat::default() };
            GetHeatResponse {
                nodes: vec![node, NodeHeat { cores: 2, ..NodeHeat::default() }],
                ..GetHeatResponse::default()
            }
        };
        for (cpu_cores, expected) in [(0.05, false), (0.07, true), (0.09, true), (0.11, false)] {
            assert_eq!(is_on_the_edge(&heat(cpu_cores)), expected, "{cpu_cores}");
        }
        assert!(!is_on_the_edge(&GetHeatResponse::default()));
    }

    #[test]
    fn a_return_is_found_in_whatever_sequence_it_is_listed() {
        let by_others = Operation { origin: "balance".into(), ..operation(9, 1, 3, 1) };
        let mut operations =
            vec![operation(4, 1, 2, 3), by_others, operation(1, 1, 1, 2), operation(2, 2, 2, 1)];
        let ids: Vec<u64> = moved(&operations, 1).iter().map(|it| it.id).collect();
        assert_eq!(ids, [2, 4]);
        check_no_return(&moved(&operations, 0)).unwrap();
        check_left_alone(&moved(&operations, 4)).unwrap();
        assert_eq!(check_left_alone(&moved(&operations, 3)).unwrap_err().guarantee, "G9");
        operations.insert(0, operation(5, 1, 3, 1));
        assert_eq!(check_no_return(&moved(&operations, 0)).unwrap_err().guarantee, "G9");
        // Splits have no nodes.
        let split = |id| Operation { kind: "split".into(), ..operation(id, 1, 0, 0) };
        check_no_return(&[&split(6), &split(7)]).unwrap();
        // Under another load before, it is none.
        check_no_return(&moved(&operations, 2)).unwrap();
    }
}
