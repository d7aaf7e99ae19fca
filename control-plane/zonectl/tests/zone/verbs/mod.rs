//! Every verb of `zonectl`, in both outputs, with its exit codes and its words.

mod applying;
mod brake;
mod dev;
mod heat;
mod init;
mod load;
mod looking;
mod moving;
mod objects;
mod plan;
mod policy;
mod splitting;
mod tls;
mod usage;

use serde_json::Value;

/// The object has exactly these fields. Others rely on the names.
#[track_caller]
pub fn has_fields(object: &Value, names: &[&str]) {
    let object = object.as_object().unwrap_or_else(|| panic!("no object: {object}"));
    let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
    let mut expected = names.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

const NODE: [&str; 15] = [
    "id",
    "name",
    "state",
    "administrative_state",
    "fault_domain",
    "address",
    "leaders",
    "replicas",
    "stored_bytes",
    "capacity_bytes",
    "reads_per_second",
    "writes_per_second",
    "disk_below_reserve",
    "incarnation",
    "software_version",
];

const PARTITION: [&str; 12] = [
    "id",
    "start_key",
    "end_key",
    "range_epoch",
    "leader_node_id",
    "replicas",
    "available",
    "under_replicated",
    "stored_bytes",
    "keys",
    "reads_per_second",
    "writes_per_second",
];

const OPERATION: [&str; 17] = [
    "id",
    "kind",
    "state",
    "summary",
    "reason",
    "origin",
    "step",
    "last_error",
    "progress_percent",
    "remaining_ms",
    "partition_id",
    "node_id",
    "from_node_id",
    "to_node_id",
    "started_zone_time_ms",
    "ended_zone_time_ms",
    "parent_id",
];

const BRAKE: [&str; 8] = [
    "engaged",
    "reason",
    "since_zone_time_ms",
    "overridden_until_zone_time_ms",
    "overridden_for_ms",
    "held_back_repairs",
    "held_back_moves",
    "held_back_transfers",
];

const EVENT: [&str; 9] = [
    "sequence",
    "zone_time_ms",
    "wall_time_ms",
    "kind",
    "message",
    "reason",
    "partition_id",
    "node_id",
    "operation_id",
];

/// The fields and some more.
fn and<'a>(fields: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [fields, more].concat()
}
