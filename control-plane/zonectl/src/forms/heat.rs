//! Load.

use proto::v1;
use serde::Serialize;

use super::{some_id, some_text};
use crate::text::show_key;

/// `zonectl heat`.
#[derive(Clone, Debug, Serialize)]
pub struct HeatForm {
    /// The highest load that a node has for its capacity, against the mean. Null: there is no load to speak of.
    pub max_to_mean: Option<f64>,
    /// In which dimension: "reads", "writes", "bytes" or "cpu".
    pub least_even: Option<String>,
    pub hottest_node_id: Option<u64>,
    /// Null: the balancer has not planned since this member leads.
    pub balance: Option<BalanceForm>,
    pub nodes: Vec<NodeHeatForm>,
    pub partitions: Vec<PartitionHeatForm>,
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
    pub to_mean: Option<f64>,
    pub reported: bool,
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

impl From<v1::GetHeatResponse> for HeatForm {
    fn from(heat: v1::GetHeatResponse) -> Self {
        let least_even = some_text(heat.least_even);
        Self {
            max_to_mean: least_even.is_some().then_some(heat.max_to_mean),
            least_even,
            hottest_node_id: some_id(heat.hottest_node_id),
            balance: heat.balance.map(Into::into),
            nodes: heat.nodes.into_iter().map(Into::into).collect(),
            partitions: heat.partitions.into_iter().map(Into::into).collect(),
        }
    }
}
