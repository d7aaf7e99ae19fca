//! Index nodes.

use proto::v1;
use serde::Serialize;

/// A node in `zonectl node list` and `zonectl status`.
#[derive(Clone, Debug, Serialize)]
pub struct NodeForm {
    pub id: u64,
    pub name: String,
    /// `up`, `suspect`, `down` or `unknown`.
    pub state: &'static str,
    /// `active`, `draining`, `drained` or `unknown`.
    pub administrative_state: &'static str,
    pub fault_domain: String,
    pub address: String,
    pub leaders: u32,
    pub replicas: u32,
    pub stored_bytes: u64,
    pub capacity_bytes: u64,
    pub reads_per_second: f64,
    pub writes_per_second: f64,
    /// Client writes and new replicas are refused.
    pub disk_below_reserve: bool,
    /// Rises with each start.
    pub incarnation: u64,
    pub software_version: String,
}

fn state_name(state: v1::NodeState) -> &'static str {
    match state {
        v1::NodeState::Unspecified => "unknown",
        v1::NodeState::Up => "up",
        v1::NodeState::Slow => "slow",
        v1::NodeState::Suspect => "suspect",
        v1::NodeState::Down => "down",
    }
}

fn administrative_name(state: v1::AdministrativeState) -> &'static str {
    match state {
        v1::AdministrativeState::Unspecified => "unknown",
        v1::AdministrativeState::Active => "active",
        v1::AdministrativeState::Draining => "draining",
        v1::AdministrativeState::Drained => "drained",
    }
}

impl From<v1::NodeSummary> for NodeForm {
    fn from(node: v1::NodeSummary) -> Self {
        Self {
            state: state_name(node.state()),
            administrative_state: administrative_name(node.administrative_state()),
            id: node.id,
            name: node.name,
            fault_domain: node.fault_domain,
            address: node.address,
            leaders: node.leaders,
            replicas: node.replicas,
            stored_bytes: node.stored_bytes,
            capacity_bytes: node.capacity_bytes,
            reads_per_second: node.reads_per_second,
            writes_per_second: node.writes_per_second,
            disk_below_reserve: node.disk_below_reserve,
            incarnation: node.incarnation,
            software_version: node.software_version,
        }
    }
}

/// `zonectl node show`.
#[derive(Clone, Debug, Serialize)]
pub struct NodeDetailForm {
    #[serde(flatten)]
    pub node: NodeForm,
    /// UUID, drawn when the node's data directory was made.
    pub identity: String,
    /// Why it is in its state.
    pub evidence: String,
    pub partition_ids: Vec<u64>,
    pub led_partition_ids: Vec<u64>,
}

impl From<v1::NodeDetail> for NodeDetailForm {
    fn from(detail: v1::NodeDetail) -> Self {
        Self {
            node: detail.summary.unwrap_or_default().into(),
            identity: detail.identity,
            evidence: detail.evidence,
            partition_ids: detail.partition_ids,
            led_partition_ids: detail.led_partition_ids,
        }
    }
}
