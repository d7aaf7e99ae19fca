//! The names of the JSON's fields, as `zonectl --help` lists them. What they mean is in `docs/zonectl-json.md`.
//!
//! `name[]` is a list, `name {…}` an object with fields of its own, and `<name>` stands for the fields that are
//! listed under that name. The forms' tests hold these lists, and the page's, against what is written.

/// Verbs and what is shown in several places, with their fields.
pub const FIELDS: [(&str, &str); 25] = [
    ("init", "zone_id, partitions"),
    (
        "status",
        "healthy, problems[], zone_id, revision, from_leader,\n\
         control_plane {leader, term, members[] {id, address, state, lag_entries}},\n\
         nodes[] <node>, partitions {total, available, under_replicated, unavailable},\n\
         operations {running, failed}, brake <brake>, replication_factor",
    ),
    ("node list", "[] <node>"),
    ("node show", "<node detail>"),
    ("node uncordon", "<node>"),
    ("explain node", "<node detail>, events[] <event>"),
    ("partition list", "[] <partition>"),
    ("partition show", "<partition detail>"),
    (
        "explain partition",
        "<partition detail>, led_because <event>,\n\
         places[] {replica_id, node_id, node_name, node_state, fault_domain, role,\n  \
         lag_entries, placed_by <operation>}, events[] <event>",
    ),
    ("operation list", "[] <operation>"),
    ("operation watch", "<operation>"),
    ("events", "<event>"),
    (
        "heat",
        "even, act_above_share, most_loaded {node_id, resource},\n\
         max_to_mean, least_even, hottest_node_id,\n\
         balance {state, worst_share, transfers, moves, splits, waiting,\n  \
         obstacles[] {node_id, partition_id, hindrance}, realised_gain},\n\
         nodes[] {node_id, name, leaders, cores, short_term <rates>, long_term <rates>,\n  \
         to_mean, reported, processor_share, stored_share, stored_bytes, capacity_bytes},\n\
         partitions[] {partition_id, leader_node_id, short_term <rates>,\n  \
         long_term <rates>, stored_bytes, waiting, throttled_per_second,\n  \
         hottest_keys[] {key_prefix, share, share_error}}",
    ),
    ("put", "version"),
    ("delete", "version, existed"),
    ("get", "bucket, key, version, etag, size_bytes, location, user_payload"),
    ("list", "items[] {bucket, key, version, etag, size_bytes, location, user_payload}, more"),
    (
        "<node>",
        "id, name, state, administrative_state, fault_domain, address, leaders,\n\
         replicas, stored_bytes, capacity_bytes, reads_per_second, writes_per_second,\n\
         disk_below_reserve, incarnation, software_version",
    ),
    (
        "<node detail>",
        "<node>, identity, evidence, partition_ids[], led_partition_ids[],\n\
         in_state_for_ms, lapses, signals {has_session, since_heartbeat_ms,\n  \
         disk_sync_ms, runtime_lag_ms, disk_free_bytes, cannot_reach_node_ids[],\n  \
         unreachable_for_node_ids[], dial_refused, phi}",
    ),
    (
        "<partition>",
        "id, start_key, end_key, range_epoch, leader_node_id,\n\
         replicas[] {replica_id, node_id}, available, under_replicated,\n\
         stored_bytes, keys, reads_per_second, writes_per_second",
    ),
    (
        "<partition detail>",
        "<partition>, membership {log_term, log_index, committed,\n  \
         voter_sets[][] {replica_id, node_id}, learners[] {replica_id, node_id}},\n\
         replica_views[] {replica_id, node_id, role, term, applied_index, lag_entries,\n  \
         message}, retiring[] {replica_id, node_id}, operations[] <operation>",
    ),
    (
        "<operation>",
        "id, kind, state, summary, reason, origin, step, last_error,\n\
         progress_percent, remaining_ms, partition_id, node_id, from_node_id,\n\
         to_node_id, started_zone_time_ms, ended_zone_time_ms, parent_id",
    ),
    (
        "<event>",
        "sequence, zone_time_ms, wall_time_ms, kind, message, reason,\n\
         partition_id, node_id, operation_id",
    ),
    (
        "<rates>",
        "reads_per_second, writes_per_second, bytes_per_second, cpu_cores,\n\
         shed_per_second",
    ),
    (
        "<brake>",
        "engaged, reason, since_zone_time_ms, overridden_until_zone_time_ms,\n\
         overridden_for_ms, held_back_repairs, held_back_moves, held_back_transfers",
    ),
];

/// The list for people.
pub fn listed() -> String {
    let each = FIELDS.iter().map(|(name, fields)| {
        let fields = fields.replace('\n', "\n    ");
        format!("  {name}:\n    {fields}\n")
    });
    each.collect()
}
