//! What a member counts and measures.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub const LEADER: &str = "isotherm_control_plane_leader";
pub const TERM: &str = "isotherm_control_plane_term";
pub const REVISION: &str = "isotherm_control_plane_revision";
pub const NODES: &str = "isotherm_control_plane_nodes";
pub const PARTITIONS: &str = "isotherm_control_plane_partitions";
pub const PARTITIONS_AVAILABLE: &str = "isotherm_control_plane_partitions_available";
pub const PARTITIONS_UNDER_REPLICATED: &str = "isotherm_control_plane_partitions_under_replicated";
pub const OPERATIONS_RUNNING: &str = "isotherm_control_plane_operations_running";
pub const OPERATIONS_FAILED: &str = "isotherm_control_plane_operations_failed";
pub const BRAKE: &str = "isotherm_control_plane_brake_engaged";
pub const SESSIONS: &str = "isotherm_control_plane_sessions";
pub const HEARTBEATS: &str = "isotherm_control_plane_heartbeats_total";
pub const HEARTBEAT_LATENESS: &str = "isotherm_control_plane_heartbeat_interval_seconds";
pub const ORDERS: &str = "isotherm_control_plane_orders_total";
pub const ORDERS_REFUSED: &str = "isotherm_control_plane_orders_refused_total";
pub const PROPOSALS: &str = "isotherm_control_plane_proposals_total";
pub const PROPOSAL_SECONDS: &str = "isotherm_control_plane_proposal_seconds";
pub const TAKEOVERS: &str = "isotherm_control_plane_takeovers_total";
pub const TAKEOVER_SECONDS: &str = "isotherm_control_plane_takeover_seconds";
pub const TICK_SECONDS: &str = "isotherm_control_plane_tick_seconds";
pub const TICK_LATENESS: &str = "isotherm_control_plane_tick_lateness_seconds";

/// Says what each metric means and how it is measured.
pub fn describe_metrics() {
    describe_gauge!(LEADER, "1 while this member leads and gives orders");
    describe_gauge!(TERM, "Raft term of the control plane that this member knows");
    describe_gauge!(REVISION, "Revision of the zone's state that this member has applied");
    describe_gauge!(NODES, "Index nodes by the state that was concluded (leader only)");
    describe_gauge!(PARTITIONS, "Partitions of the zone (leader only)");
    describe_gauge!(PARTITIONS_AVAILABLE, "Partitions with a confirmed leader (leader only)");
    describe_gauge!(
        PARTITIONS_UNDER_REPLICATED,
        "Partitions with fewer healthy replicas than they should have (leader only)"
    );
    describe_gauge!(OPERATIONS_RUNNING, "Operations that have not ended (leader only)");
    describe_gauge!(OPERATIONS_FAILED, "Operations that have failed for good (leader only)");
    describe_gauge!(BRAKE, "1 while the brake holds back discretionary changes (leader only)");
    describe_gauge!(SESSIONS, "Sessions with index nodes (leader only)");
    describe_counter!(HEARTBEATS, "Heartbeats of index nodes");
    describe_histogram!(
        HEARTBEAT_LATENESS,
        Unit::Seconds,
        "Time between two heartbeats of one index node"
    );
    describe_counter!(ORDERS, "Orders that were sent to index nodes, by kind");
    describe_counter!(ORDERS_REFUSED, "Orders that index nodes refused");
    describe_counter!(PROPOSALS, "Commands that were proposed, by outcome");
    describe_histogram!(
        PROPOSAL_SECONDS,
        Unit::Seconds,
        "Time from proposing a command until it was applied"
    );
    describe_counter!(TAKEOVERS, "Partitions that were given another leader, by outcome");
    describe_histogram!(
        TAKEOVER_SECONDS,
        Unit::Seconds,
        "Time from the conclusion that a leader is lost until another one leads"
    );
    describe_histogram!(TICK_SECONDS, Unit::Seconds, "Time that one round of the judge took");
    describe_histogram!(
        TICK_LATENESS,
        Unit::Seconds,
        "How much later than intended a round of the judge began"
    );
}
