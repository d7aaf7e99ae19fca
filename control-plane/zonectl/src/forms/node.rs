//! Index nodes.

use proto::v1;
use serde::Serialize;

use super::EventForm;

/// A node in `zonectl node list` and `zonectl status`.
#[derive(Clone, Debug, Serialize)]
pub struct NodeForm {
    pub id: u64,
    pub name: String,
    /// `up`, `recovering`, `slow`, `suspect`, `down` or `unknown`.
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

impl NodeForm {
    /// Whether it shall keep what it holds: it is neither down nor to be emptied.
    pub fn stays(&self) -> bool {
        self.administrative_state == "active" && self.state != "down"
    }
}

fn state_name(state: v1::NodeState) -> &'static str {
    match state {
        v1::NodeState::Unspecified => "unknown",
        v1::NodeState::Up => "up",
        v1::NodeState::Recovering => "recovering",
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
    /// In zone time.
    pub in_state_for_ms: u64,
    /// How often it was lost or slow, without ten minutes in between in which it was well.
    pub lapses: u32,
    /// What it is judged by, as the leader knows it now.
    pub signals: NodeSignalsForm,
}

/// What the leader knows of a node now.
#[derive(Clone, Debug, Serialize)]
pub struct NodeSignalsForm {
    pub has_session: bool,
    /// Null: this leader has had no heartbeat of it.
    pub since_heartbeat_ms: Option<u64>,
    /// Averaged over a few seconds, as the next.
    pub disk_sync_ms: f64,
    pub runtime_lag_ms: f64,
    pub disk_free_bytes: u64,
    pub cannot_reach_node_ids: Vec<u64>,
    pub unreachable_for_node_ids: Vec<u64>,
    /// Its process is gone.
    pub dial_refused: bool,
    /// How unlikely it is that the next heartbeat is merely late; null: not known yet.
    pub phi: Option<f64>,
}

impl From<v1::NodeSignals> for NodeSignalsForm {
    fn from(signals: v1::NodeSignals) -> Self {
        Self {
            has_session: signals.has_session,
            since_heartbeat_ms: signals.since_heartbeat_ms,
            disk_sync_ms: signals.disk_sync_ms,
            runtime_lag_ms: signals.runtime_lag_ms,
            disk_free_bytes: signals.disk_free_bytes,
            cannot_reach_node_ids: signals.cannot_reach_node_ids,
            unreachable_for_node_ids: signals.unreachable_for_node_ids,
            dial_refused: signals.dial_refused,
            phi: signals.phi,
        }
    }
}

/// `zonectl explain node`.
#[derive(Clone, Debug, Serialize)]
pub struct NodeExplanationForm {
    #[serde(flatten)]
    pub detail: NodeDetailForm,
    /// What the ledger has of it, oldest first: every judgement with its evidence.
    pub events: Vec<EventForm>,
}

impl From<v1::NodeDetail> for NodeDetailForm {
    fn from(detail: v1::NodeDetail) -> Self {
        Self {
            node: detail.summary.unwrap_or_default().into(),
            identity: detail.identity,
            evidence: detail.evidence,
            partition_ids: detail.partition_ids,
            led_partition_ids: detail.led_partition_ids,
            in_state_for_ms: detail.in_state_for_ms,
            lapses: detail.lapses,
            signals: detail.signals.unwrap_or_default().into(),
        }
    }
}
