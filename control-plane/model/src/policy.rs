//! What the zone's operator has decided once and for all partitions, and the bounds that the replicated
//! state keeps itself within.

use serde::{Deserialize, Serialize};

/// How a zone treats its partitions. Durations are in zone time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Replicas of each partition: 1, 3 or 5.
    pub replication_factor: u8,
    /// How long a node is down before its replicas are made again elsewhere.
    pub replace_after_ms: u64,
    /// How long no new node must have come before the first partitions are placed, so that a zone that
    /// is being switched on is spread over all of its nodes.
    pub placement_settle_ms: u64,
    /// Changes of replicas at the same time, in the zone and on or off one node.
    pub changes_in_flight_zone_max: u32,
    pub changes_in_flight_node_max: u32,
    /// Transfers of leadership at the same time.
    pub transfers_in_flight_max: u32,
    /// A transfer of leadership that has not happened after so long has failed.
    pub transfer_timeout_ms: u64,
    pub events_max: u64,
    pub events_age_max_ms: u64,
    /// Operations that have ended and are remembered.
    pub ended_operations_max: u32,
    pub idempotency_keys_max: u32,
    pub idempotency_age_max_ms: u64,
}

/// What `replace_after_ms: 0` in an `init` stands for.
pub const REPLACE_AFTER_DEFAULT_MS: u64 = 5 * 60 * 1000;
/// No zone has more partitions than so many at its start.
pub const SPLIT_KEYS_MAX: usize = 100_000;

impl Policy {
    pub fn new(replication_factor: u8, replace_after_ms: u64) -> Self {
        const HOUR_MS: u64 = 60 * 60 * 1000;
        Self {
            replication_factor,
            replace_after_ms,
            placement_settle_ms: 2_000,
            changes_in_flight_zone_max: 16,
            changes_in_flight_node_max: 4,
            transfers_in_flight_max: 16,
            transfer_timeout_ms: 10_000,
            events_max: 20_000,
            events_age_max_ms: 7 * 24 * HOUR_MS,
            ended_operations_max: 2_000,
            idempotency_keys_max: 20_000,
            idempotency_age_max_ms: 24 * HOUR_MS,
        }
    }
}
