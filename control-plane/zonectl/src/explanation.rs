//! What `zonectl explain` prints: the answer first, then what it rests on.

use std::{fmt::Write, time::Duration};

use crate::{
    forms::{EventForm, NodeExplanationForm, PartitionExplanationForm},
    tables::{event_line, operation_line},
    text::{count, show_bound, show_bytes, show_duration},
};

/// Events that are shown, the newest ones.
const EVENTS_MAX: usize = 20;

fn duration(milliseconds: u64) -> String {
    show_duration(Duration::from_millis(milliseconds))
}

fn nodes(ids: &[u64]) -> String {
    if ids.is_empty() {
        return "none".to_owned();
    }
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    format!("nodes {}", ids.join(", "))
}

/// Why a node is in its state.
pub fn node(explanation: &NodeExplanationForm) -> String {
    let NodeExplanationForm { detail, events } = explanation;
    let (node, signals) = (&detail.node, &detail.signals);
    let mut text = format!(
        "{} (node {}) has been {} for {}: {}.\n",
        node.name,
        node.id,
        node.state,
        duration(detail.in_state_for_ms),
        detail.evidence
    );
    let session = match (signals.has_session, signals.since_heartbeat_ms) {
        (true, Some(ago)) => format!("yes; the last heartbeat came {} ago", duration(ago)),
        (true, None) => "yes; no heartbeat yet".to_owned(),
        (false, Some(ago)) => format!("none; the last heartbeat came {} ago", duration(ago)),
        (false, None) => "none, and no heartbeat since the present leader leads".to_owned(),
    };
    let phi = signals.phi.map_or_else(
        || "not known yet: too few heartbeats have come".to_owned(),
        |phi| format!("φ {phi:.1}; from 8 on, with peers that miss it too, it is suspect"),
    );
    let lapses = match detail.lapses {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        count => format!("{count} times, without ten minutes in between in which it was well"),
    };
    let process =
        if signals.dial_refused { "gone: a dial was refused" } else { "not known to be gone" };
    let _ = writeln!(text, "\nWhat it is judged by now:");
    for (name, value) in [
        ("session", session),
        ("its silence", phi),
        ("process", process.to_owned()),
        ("disk sync", format!("{:.1} ms, averaged over a few seconds", signals.disk_sync_ms)),
        (
            "waiting for its turn",
            format!("{:.1} ms, averaged over a few seconds", signals.runtime_lag_ms),
        ),
        ("disk space left", show_bytes(signals.disk_free_bytes)),
        ("cannot reach", nodes(&signals.cannot_reach_node_ids)),
        ("cannot be reached by", nodes(&signals.unreachable_for_node_ids)),
        ("was lost or slow", lapses),
        ("leads", format!("{} of the {} partitions that it holds", node.leaders, node.replicas)),
    ] {
        let _ = writeln!(text, "  {name:<22}{value}");
    }
    ledger(&mut text, events);
    text.trim_end().to_owned()
}

/// Why a partition is where it is.
pub fn partition(explanation: &PartitionExplanationForm) -> String {
    let PartitionExplanationForm { detail, led_because, places, events } = explanation;
    let partition = &detail.partition;
    let name = |id: u64| {
        let place = places.iter().find(|place| place.node_id == id);
        let name = place.and_then(|place| place.node_name.clone());
        name.unwrap_or_else(|| format!("node {id}"))
    };
    let leader = match partition.leader_node_id {
        Some(id) => format!("is led by {}", name(id)),
        None => "has no leader that is confirmed".to_owned(),
    };
    let health = match (partition.available, partition.under_replicated) {
        (true, false) => "available, with all the replicas that it should have",
        (true, true) => "available, with fewer healthy replicas than it should have",
        (false, _) => "not available",
    };
    let mut text = format!(
        "Partition {}, from {} to {}, {leader}; it is {health}.\n\nWhy there:\n",
        partition.id,
        show_bound(&partition.start_key, "the lowest key"),
        show_bound(&partition.end_key, "the highest key"),
    );
    let because = match led_because {
        Some(event) => event_line(event),
        None => "the ledger goes back no further".to_owned(),
    };
    let _ = writeln!(text, "  its leader: {because}");
    for place in places {
        let role = place.role.as_deref().unwrap_or("not reported");
        let behind = match place.lag_entries {
            Some(0) | None => String::new(),
            Some(lag) => format!(", {}", count(lag, "entry behind", "entries behind")),
        };
        let domain = place.fault_domain.as_deref().unwrap_or("unknown");
        let state = place.node_state.unwrap_or("unknown");
        let why = match &place.placed_by {
            Some(operation) => format!(
                "operation {}, {} (asked by {}): {}",
                operation.id, operation.summary, operation.origin, operation.reason
            ),
            None => {
                "placed when the partition was made, or longer ago than is remembered".to_owned()
            }
        };
        let _ = writeln!(
            text,
            "  replica {} on {} ({domain}, {state}), {role}{behind}: {why}",
            place.replica_id,
            name(place.node_id),
        );
    }
    for operation in detail.operations.iter().filter(|operation| !operation.has_ended()) {
        let _ = writeln!(text, "\nIt is being changed: {}", operation_line(operation));
        let _ = writeln!(text, "  because: {}", operation.reason);
    }
    ledger(&mut text, events);
    text.trim_end().to_owned()
}

/// The newest events, and how many are left out.
fn ledger(text: &mut String, events: &[EventForm]) {
    let skipped = events.len().saturating_sub(EVENTS_MAX);
    let _ = match (skipped, events.is_empty()) {
        (_, true) => writeln!(text, "\nThe ledger has nothing about it any more."),
        (0, false) => writeln!(text, "\nWhat the ledger has about it:"),
        (skipped, false) => {
            writeln!(text, "\nWhat the ledger has about it, without the {skipped} oldest events:")
        }
    };
    for event in &events[skipped..] {
        let _ = writeln!(text, "{}", event_line(event));
    }
}
