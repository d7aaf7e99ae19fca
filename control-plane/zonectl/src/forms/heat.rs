//! Load.
//!
//! A share is a node's load for its capacity against that of the whole zone: 1 is the mean. Two resources have a
//! capacity, and are what the balancer judges by: processor time and stored bytes.

use std::collections::{BTreeMap, BTreeSet};

use model::balance::BalancePolicy;
use proto::v1;
use serde::Serialize;

use super::{NodeForm, some_id, some_text};
use crate::text::show_key;

/// What is known here of the most loaded node's share and what the balancer says of it are of different moments:
/// they may differ by this part and still be of the same node and resource.
const SAME_WITHIN: f64 = 0.2;

/// `zonectl heat`.
#[derive(Clone, Debug, Serialize)]
pub struct HeatForm {
    /// Whether the balancer finds the zone even: `worst_share` is at most `act_above_share`. Null: it has not judged
    /// since this member leads, or there is no load to speak of.
    pub even: Option<bool>,
    /// Above this share the policy wants something done.
    pub act_above_share: f64,
    /// Whose share the balancer's `worst_share` is. Null: it cannot be told, or nobody's.
    pub most_loaded: Option<MostLoadedForm>,
    /// For information, and nothing that is judged by: of all rates' long averages for each core, the highest
    /// against the mean. Null: there is no load to speak of.
    pub max_to_mean: Option<f64>,
    /// In which rate: "reads", "writes", "bytes" or "cpu".
    pub least_even: Option<String>,
    /// At which node.
    pub hottest_node_id: Option<u64>,
    /// Null: the balancer has not planned since this member leads.
    pub balance: Option<BalanceForm>,
    pub nodes: Vec<NodeHeatForm>,
    pub partitions: Vec<PartitionHeatForm>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct MostLoadedForm {
    pub node_id: u64,
    pub resource: Resource,
}

/// What a node has a capacity of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    ProcessorTime,
    StoredBytes,
}

/// What the balancer found last.
#[derive(Clone, Debug, Serialize)]
pub struct BalanceForm {
    /// "idle", "off", "even", "uneven", "settling" or "at-rest".
    pub state: String,
    /// The most loaded node's utilisation against the mean, in its worst dimension. Null: nothing is loaded.
    pub worst_share: Option<f64>,
    pub transfers: u32,
    pub moves: u32,
    pub splits: u32,
    pub waiting: u32,
    pub obstacles: Vec<BalanceObstacleForm>,
    /// What earlier plans have gained of what they promised: 1 is all of it.
    pub realised_gain: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct BalanceObstacleForm {
    pub node_id: u64,
    pub partition_id: Option<u64>,
    /// "hot-key", "indivisible", "waiting", "nothing-gains" or "no-place".
    pub hindrance: String,
}

impl From<v1::BalanceStatus> for BalanceForm {
    fn from(status: v1::BalanceStatus) -> Self {
        let obstacles = status.obstacles.into_iter().map(|it| BalanceObstacleForm {
            node_id: it.node_id,
            partition_id: some_id(it.partition_id),
            hindrance: it.hindrance,
        });
        Self {
            state: status.state,
            worst_share: Some(status.worst_share).filter(|share| *share > 0.0),
            transfers: status.transfers,
            moves: status.moves,
            splits: status.splits,
            waiting: status.waiting,
            obstacles: obstacles.collect(),
            realised_gain: status.realised_gain,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct HeatRatesForm {
    pub reads_per_second: f64,
    pub writes_per_second: f64,
    pub bytes_per_second: f64,
    pub cpu_cores: f64,
    pub shed_per_second: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct NodeHeatForm {
    pub node_id: u64,
    pub name: String,
    pub leaders: u32,
    pub cores: u32,
    pub short_term: HeatRatesForm,
    pub long_term: HeatRatesForm,
    /// In the rate that `least_even` names.
    pub to_mean: Option<f64>,
    pub reported: bool,
    /// Of the short averages. Null: nothing is known of the node's load, or there is none.
    pub processor_share: Option<f64>,
    /// Null: nothing is stored, or it is not known where.
    pub stored_share: Option<f64>,
    /// Null: the node is not known any more.
    pub stored_bytes: Option<u64>,
    pub capacity_bytes: Option<u64>,
}

impl NodeHeatForm {
    pub fn share(&self, resource: Resource) -> Option<f64> {
        match resource {
            Resource::ProcessorTime => self.processor_share,
            Resource::StoredBytes => self.stored_share,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct PartitionHeatForm {
    pub partition_id: u64,
    pub leader_node_id: Option<u64>,
    pub short_term: HeatRatesForm,
    pub long_term: HeatRatesForm,
    pub stored_bytes: u64,
    /// Requests that wait at the same time.
    pub waiting: f64,
    /// Requests that waited for others of their key, or were refused for these.
    pub throttled_per_second: f64,
    pub hottest_keys: Vec<HotKeyForm>,
}

#[derive(Clone, Debug, Serialize)]
pub struct HotKeyForm {
    /// As far as 256 bytes of it go: `bucket/object key`.
    pub key_prefix: String,
    pub share: f64,
    pub share_error: f64,
}

impl From<Option<v1::HeatRates>> for HeatRatesForm {
    fn from(rates: Option<v1::HeatRates>) -> Self {
        let rates = rates.unwrap_or_default();
        Self {
            reads_per_second: rates.reads_per_second,
            writes_per_second: rates.writes_per_second,
            bytes_per_second: rates.bytes_per_second,
            cpu_cores: rates.cpu_cores,
            shed_per_second: rates.shed_per_second,
        }
    }
}

impl From<v1::NodeHeat> for NodeHeatForm {
    fn from(node: v1::NodeHeat) -> Self {
        Self {
            node_id: node.node_id,
            name: node.name,
            leaders: node.leaders,
            cores: node.cores,
            short_term: node.short_term.into(),
            long_term: node.long_term.into(),
            to_mean: node.reported.then_some(node.to_mean),
            reported: node.reported,
            processor_share: None,
            stored_share: None,
            stored_bytes: None,
            capacity_bytes: None,
        }
    }
}

impl From<v1::PartitionHeat> for PartitionHeatForm {
    fn from(partition: v1::PartitionHeat) -> Self {
        let keys = partition.hottest_keys.into_iter().map(|key| HotKeyForm {
            key_prefix: show_key(&key.key_prefix),
            share: key.share,
            share_error: key.share_error,
        });
        Self {
            partition_id: partition.partition_id,
            leader_node_id: some_id(partition.leader_node_id),
            short_term: partition.short_term.into(),
            long_term: partition.long_term.into(),
            stored_bytes: partition.stored_bytes,
            waiting: partition.waiting,
            throttled_per_second: partition.throttled_per_second,
            hottest_keys: keys.collect(),
        }
    }
}

impl HeatForm {
    /// `nodes` are all nodes of the zone; `act_above_permille` is the policy's.
    pub fn new(
        heat: v1::GetHeatResponse,
        nodes: &[NodeForm],
        act_above_permille: Option<u64>,
    ) -> Self {
        let default = u64::from(BalancePolicy::DEFAULT.act_above_permille);
        let act_above_share = act_above_permille.unwrap_or(default) as f64 / 1_000.0;
        let least_even = some_text(heat.least_even);
        let balance: Option<BalanceForm> = heat.balance.map(Into::into);
        let worst_share = balance.as_ref().and_then(|balance| balance.worst_share);
        let staying: BTreeSet<u64> =
            nodes.iter().filter(|node| node.stays()).map(|node| node.id).collect();
        let loaded = heat.nodes.into_iter().map(Into::into).collect();
        let nodes = with_shares(loaded, nodes);
        Self {
            even: worst_share.map(|share| share <= act_above_share),
            act_above_share,
            most_loaded: worst_share.and_then(|share| most_loaded(&nodes, &staying, share)),
            max_to_mean: least_even.is_some().then_some(heat.max_to_mean),
            least_even,
            hottest_node_id: some_id(heat.hottest_node_id),
            balance,
            nodes,
            partitions: heat.partitions.into_iter().map(Into::into).collect(),
        }
    }
}

/// Shares as the balancer counts them: all load, over the capacity of the nodes that stay.
fn with_shares(mut loaded: Vec<NodeHeatForm>, nodes: &[NodeForm]) -> Vec<NodeHeatForm> {
    let known: BTreeMap<u64, &NodeForm> = nodes.iter().map(|node| (node.id, node)).collect();
    let (mut used, mut cores, mut stored, mut disks) = (0.0, 0.0, 0.0, 0.0);
    for load in &mut loaded {
        used += load.short_term.cpu_cores;
        let Some(node) = known.get(&load.node_id) else { continue };
        load.stored_bytes = Some(node.stored_bytes);
        load.capacity_bytes = Some(node.capacity_bytes);
        stored += node.stored_bytes as f64;
        if node.stays() {
            cores += f64::from(load.cores);
            disks += node.capacity_bytes as f64;
        }
    }
    for load in &mut loaded {
        let processor = share(load.short_term.cpu_cores, load.cores.into(), used, cores);
        load.processor_share = processor.filter(|_| load.reported);
        let disk = load.stored_bytes.zip(load.capacity_bytes);
        load.stored_share =
            disk.and_then(|(bytes, capacity)| share(bytes as f64, capacity as f64, stored, disks));
    }
    loaded
}

/// A part of a load for a part of a capacity. None where there is nothing to compare.
fn share(load: f64, capacity: f64, all_load: f64, all_capacity: f64) -> Option<f64> {
    let mean = all_load / all_capacity;
    (capacity > 0.0 && mean.is_finite() && mean > 0.0).then(|| load / capacity / mean)
}

/// Which node's share of which resource the balancer means. A resource with too little load to matter has shares,
/// too: what is nearest is meant.
fn most_loaded(
    nodes: &[NodeHeatForm],
    staying: &BTreeSet<u64>,
    worst_share: f64,
) -> Option<MostLoadedForm> {
    let highest = |resource: Resource| {
        let staying = nodes.iter().filter(|node| staying.contains(&node.node_id));
        let shares = staying.filter_map(|node| Some((node.share(resource)?, node.node_id)));
        // Of two alike the first.
        let (share, node_id) =
            shares.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        Some(((share - worst_share).abs(), MostLoadedForm { node_id, resource }))
    };
    let found = [Resource::ProcessorTime, Resource::StoredBytes].into_iter().filter_map(highest);
    let (distance, found) = found.min_by(|a, b| a.0.total_cmp(&b.0))?;
    (distance <= worst_share * SAME_WITHIN).then_some(found)
}
