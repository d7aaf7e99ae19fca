//! What `zonectl explain` prints: the answer first, then what it rests on.

use std::{fmt::Write, time::Duration};

use crate::{
    forms::NodeExplanationForm,
    tables::event_line,
    text::{show_bytes, show_duration},
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
    text.trim_end().to_owned()
}
