//! What operators are shown of load.

use std::time::Duration;

use model::{
    NodeId, PartitionId, ZoneState,
    balance::Obstacle,
    balancer::BalanceReport,
    heat::{
        HotKey, PartitionLoad, Rates, ZoneHeat,
        evenness::{Evenness, LoadedNode, evenness},
    },
};
use proto::v1;

use crate::leader::Reign;

/// The nodes' load as of some moment, by id.
pub fn loaded_nodes(state: &ZoneState, heat: &ZoneHeat, now: Duration) -> Vec<LoadedNode> {
    let loaded = state.nodes().iter().map(|(id, node)| LoadedNode {
        node: *id,
        cores: node.capacity.cores,
        load: heat.of_node(*id, now).unwrap_or_default(),
    });
    loaded.collect()
}

/// Load by node, and the hottest partitions.
pub async fn heat(reign: &Reign, top: usize) -> v1::GetHeatResponse {
    let report = reign.balancer().await.report().map(balance);
    let now = reign.now();
    reign.zone().read(|state| {
        let heat = reign.heat();
        let nodes = loaded_nodes(state, &heat, now);
        // Of those that say nothing, nobody knows whether they could take more.
        let heard: Vec<LoadedNode> =
            nodes.iter().filter(|node| node.load.reported).copied().collect();
        let evenness = evenness(&heard);
        let shown = nodes.iter().map(|node| {
            let name = state.node(node.node).map_or_else(String::new, |it| it.name.clone());
            // As committed: to count what sessions say is to walk over all partitions.
            let led = u32::try_from(state.leader_count(node.node)).unwrap_or(u32::MAX);
            node_heat(node, name, led, evenness.as_ref())
        });
        let hottest = heat.hottest(top, now).into_iter();
        let partitions = hottest.map(|(id, load)| partition_heat(&heat, id, &load));
        v1::GetHeatResponse {
            nodes: shown.collect(),
            partitions: partitions.collect(),
            max_to_mean: evenness.as_ref().map_or(0.0, |it| it.max_to_mean),
            least_even: evenness.as_ref().map_or_else(String::new, |it| it.dimension.name().into()),
            hottest_node_id: evenness.as_ref().map_or(0, |it| it.hottest.get()),
            balance: report,
        }
    })
}

fn balance(report: &BalanceReport) -> v1::BalanceStatus {
    let state = match report {
        BalanceReport { worst_share_permille: 0, .. } => "idle",
        BalanceReport { is_off: true, .. } => "off",
        BalanceReport { is_settling: true, .. } => "settling",
        BalanceReport { is_at_rest: true, .. } => "at-rest",
        BalanceReport { above_since: Some(_), .. } => "uneven",
        BalanceReport { .. } => "even",
    };
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    v1::BalanceStatus {
        state: state.to_owned(),
        worst_share: f64::from(report.worst_share_permille) / 1_000.0,
        transfers: count(report.transfers),
        moves: count(report.moves),
        splits: count(report.splits),
        waiting: count(report.left_out),
        obstacles: report.obstacles.iter().map(obstacle).collect(),
        realised_gain: f64::from(report.realised_gain_permille) / 1_000.0,
    }
}

pub fn obstacle(it: &Obstacle) -> v1::BalanceObstacle {
    v1::BalanceObstacle {
        node_id: it.node.get(),
        partition_id: it.partition.map_or(0, PartitionId::get),
        hindrance: it.hindrance.as_str().to_owned(),
    }
}

fn node_heat(
    node: &LoadedNode,
    name: String,
    leaders: u32,
    evenness: Option<&Evenness>,
) -> v1::NodeHeat {
    let LoadedNode { node, cores, load } = node;
    let to_mean = evenness.and_then(|evenness| {
        let found = evenness.to_mean.iter().find(|(id, _)| id == node);
        found.map(|(_, to_mean)| *to_mean)
    });
    v1::NodeHeat {
        node_id: node.get(),
        name,
        leaders,
        cores: *cores,
        short_term: Some(rates(&load.short, load.cpu_cores_short(), load.shed_per_second)),
        long_term: Some(rates(&load.long, load.cpu_cores_long(), load.shed_per_second)),
        to_mean: to_mean.unwrap_or(0.0),
        reported: load.reported,
    }
}

fn partition_heat(heat: &ZoneHeat, id: PartitionId, load: &PartitionLoad) -> v1::PartitionHeat {
    // What was clamped to a whole number of bytes before it was narrowed is one again.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let stored_bytes = load.stored_bytes as u64;
    let hot_key = |key: &HotKey| v1::HotKey {
        key_prefix: key.key_prefix.clone().into(),
        share: key.share,
        share_error: key.share_error,
    };
    v1::PartitionHeat {
        partition_id: id.get(),
        leader_node_id: load.leader.map_or(0, NodeId::get),
        short_term: Some(rates(&load.short, load.short.cpu_cores(), load.shed_per_second)),
        long_term: Some(rates(&load.long, load.long.cpu_cores(), load.shed_per_second)),
        stored_bytes,
        waiting: load.waiting,
        hottest_keys: heat.hottest_keys(id).iter().map(hot_key).collect(),
        throttled_per_second: heat.throttled_per_second(id),
    }
}

/// What is refused has no average: it is told as it was last.
fn rates(rates: &Rates, cpu_cores: f64, shed_per_second: f64) -> v1::HeatRates {
    v1::HeatRates {
        reads_per_second: rates.reads_per_second,
        writes_per_second: rates.writes_per_second,
        bytes_per_second: rates.bytes_per_second,
        cpu_cores,
        shed_per_second,
    }
}
