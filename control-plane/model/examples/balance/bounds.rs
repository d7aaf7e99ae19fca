//! What no planner can do better.

use model::balance::{Amounts, NodeView, PROCESSOR, PartitionView, STORED_BYTES};

/// The least that the greatest utilisation can be, in thousandths of the mean: the mean, or the largest
/// piece alone on the largest node.
pub fn best_permille(nodes: &[NodeView], heat: &[(Amounts, Amounts)], replicas: u64) -> u64 {
    let all: u64 = heat
        .iter()
        .map(|(leader, follower)| leader[PROCESSOR] + (replicas - 1) * follower[PROCESSOR])
        .sum();
    let capacity: u64 = nodes.iter().map(|node| node.capacity[PROCESSOR]).sum();
    let largest = nodes.iter().map(|node| node.capacity[PROCESSOR]).max().unwrap_or(1);
    let piece = heat.iter().map(|(leader, _)| leader[PROCESSOR]).max().unwrap_or(0);
    (piece * capacity * 1_000 / largest / all.max(1)).max(1_000)
}

/// The least bytes that must be copied until no node has more than so many thousandths of the mean
/// utilisation.
///
/// What all nodes can hold without a copy is bounded by what they have if every partition on them were led
/// there, and by what they may have; what is missing then must come with copies, at best of the partitions
/// with the most load for each byte. Transfers cost nothing.
pub fn least_bytes(nodes: &[NodeView], partitions: &[PartitionView], limit_permille: u64) -> u64 {
    let load = |view: &PartitionView| {
        let followers = view.replicas().len() as u64 - 1;
        view.leader_heat[PROCESSOR] + followers * view.follower_heat[PROCESSOR]
    };
    let all: u64 = partitions.iter().map(load).sum();
    let capacity: u64 = nodes.iter().map(|node| node.capacity[PROCESSOR]).sum();
    let mut at_most = vec![0_u64; nodes.len()];
    for view in partitions {
        for node in view.replicas() {
            at_most[*node as usize] += view.leader_heat[PROCESSOR];
        }
    }
    let reachable: u64 = nodes
        .iter()
        .zip(&at_most)
        .map(|(node, most)| {
            let limit =
                u128::from(all) * u128::from(node.capacity[PROCESSOR]) * u128::from(limit_permille)
                    / u128::from(capacity)
                    / 1_000;
            (*most).min(limit as u64)
        })
        .sum();
    let mut missing = all.saturating_sub(reachable);
    let mut pieces: Vec<(u64, u64)> = partitions
        .iter()
        .map(|view| (view.leader_heat[PROCESSOR], view.leader_heat[STORED_BYTES]))
        .collect();
    // The most load for each byte first.
    pieces.sort_by(|a, b| {
        (u128::from(b.0) * u128::from(a.1)).cmp(&(u128::from(a.0) * u128::from(b.1)))
    });
    let mut bytes = 0;
    for (load, size) in pieces {
        if missing == 0 {
            break;
        }
        let taken = load.min(missing);
        bytes += u64::try_from(u128::from(size) * u128::from(taken) / u128::from(load.max(1)))
            .unwrap_or(u64::MAX);
        missing -= taken;
    }
    bytes
}
