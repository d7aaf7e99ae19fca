//! What is not as it should be, in sentences. How many partitions it is comes from a tally; nothing here walks over
//! more than is wrong.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    ids::{NodeId, PartitionId},
    node::{Node, NodeState},
    observation::ZoneView,
    partition_set::PartitionSet,
    state::ZoneState,
    status::{plural, replica_figures, standstill},
};

/// Problems that are listed one by one before they are summed up.
const NAMED_MAX: usize = 5;

pub(crate) fn unavailable(
    state: &ZoneState,
    view: Option<&ZoneView>,
    now: Duration,
    unavailable: &PartitionSet,
    problems: &mut Vec<String>,
) {
    let unplaced = state.unplaced();
    // What is not placed has no leader.
    let leaderless = unavailable.len().saturating_sub(unplaced.len());
    if leaderless > 0 {
        let placed = || unavailable.iter().filter(|id| !unplaced.contains(id));
        let longest = view.and_then(|view| longest_leaderless(view, placed()));
        let since = longest.map_or(String::new(), |since| {
            format!(" (the first for {} ms)", now.saturating_sub(since).as_millis())
        });
        problems.push(format!(
            "{} unavailable, without a confirmed leader{since}: {}",
            plural(leaderless, "partition is", "partitions are"),
            named(placed())
        ));
    }
    if !unplaced.is_empty() {
        let up = state.nodes().iter().filter(|(_, node)| node.is_serving()).count();
        problems.push(format!(
            "{} not placed yet: {up} nodes are up and active, and {} are needed",
            plural(unplaced.len(), "partition is", "partitions are"),
            state.replication_factor()
        ));
    }
}

/// Since when the first of these has no leader. Nothing is longer than since this leader began to look: with that
/// the search ends, as at the start, when it is true of all.
fn longest_leaderless(
    view: &ZoneView,
    partitions: impl Iterator<Item = PartitionId>,
) -> Option<Duration> {
    let mut longest = None;
    for since in partitions.filter_map(|id| view.leaderless_since(id)) {
        longest = Some(longest.map_or(since, |longest: Duration| longest.min(since)));
        if since <= view.started_at() {
            break;
        }
    }
    longest
}

pub(crate) fn nodes(state: &ZoneState, problems: &mut Vec<String>) {
    for wanted in [NodeState::Down, NodeState::Suspect, NodeState::Slow] {
        let affected: Vec<_> =
            state.nodes().iter().filter(|(_, node)| node.liveness.state == wanted).collect();
        for (id, node) in affected.iter().take(NAMED_MAX) {
            problems.push(format!(
                "node {id} ({}) is {wanted}: {}{}",
                node.name,
                node.liveness.evidence,
                replacement(state, **id, node)
            ));
        }
        if affected.len() > NAMED_MAX {
            problems.push(format!("{} more nodes are {wanted}", affected.len() - NAMED_MAX));
        }
    }
}

/// What becomes of a lost node's replicas.
fn replacement(state: &ZoneState, id: NodeId, node: &Node) -> String {
    let held = state.target_count(id);
    if node.liveness.state != NodeState::Down || held == 0 {
        return String::new();
    }
    if state.is_replaceable(id) {
        return format!("; {held} replicas are being made again elsewhere");
    }
    let Some(policy) = state.policy() else { return String::new() };
    let down = crate::ids::millis(state.zone_time().since(node.liveness.since));
    let left = policy.replace_after_ms.saturating_sub(down).div_ceil(1_000);
    format!("; its {held} replicas are made again elsewhere if it is not back in {left} s")
}

pub(crate) fn disks(state: &ZoneState, view: Option<&ZoneView>, problems: &mut Vec<String>) {
    let Some(view) = view else { return };
    let is_named = |node: &Node| node.liveness.state == NodeState::Slow;
    for (id, node) in
        state.nodes().iter().filter(|(id, node)| view.is_disk_low(**id) && !is_named(node))
    {
        problems.push(format!(
            "node {id} ({}) has too little disk space left: it takes no client writes and no new replicas",
            node.name
        ));
    }
}

pub(crate) fn replicas(state: &ZoneState, view: Option<&ZoneView>, problems: &mut Vec<String>) {
    let Some(view) = view else { return };
    let failed = view.failed().filter_map(|(partition, replica)| {
        let known = view.replica(partition, replica)?;
        state.node(known.node).map(|_| ((known.node, partition, replica), known))
    });
    let failed: BTreeMap<_, _> = failed.collect();
    let room = (4 * NAMED_MAX).saturating_sub(problems.len());
    for ((node, partition, replica), known) in failed.iter().take(room) {
        problems.push(format!(
            "replica {replica} of partition {partition} on node {node} has failed: {}",
            known.report.message
        ));
    }
    let more = failed.len().saturating_sub(room);
    if more > 0 {
        problems.push(format!("{more} more replicas have failed"));
    }
}

/// Voters that do not follow, of those partitions.
pub(crate) fn standing_still(
    state: &ZoneState,
    view: Option<&ZoneView>,
    partitions: &PartitionSet,
    now: Duration,
    problems: &mut Vec<String>,
) {
    let Some(view) = view else { return };
    let mut more = 0_usize;
    for id in view.lagging().iter().filter(|id| partitions.contains(*id)) {
        let Some(record) = state.partition(id) else { continue };
        for target in &record.targets {
            // Of a node that is not up, enough is said.
            let is_up = state.node(target.node).is_some_and(|node| node.is_up());
            let Some(still) = standstill(&view.group(id), target.id, now).filter(|_| is_up) else {
                continue;
            };
            if problems.len() >= 4 * NAMED_MAX {
                more += 1;
                continue;
            }
            let figures = replica_figures(Some(view), id, record, *target);
            problems.push(format!(
                "replica {} of partition {id} on node {} has not followed its leader for {} s: it is {} entries behind",
                target.id,
                target.node,
                still.as_secs(),
                figures.lag_entries
            ));
        }
    }
    if more > 0 {
        problems.push(format!("{more} more replicas do not follow their leaders"));
    }
}

/// Names the first few.
pub(crate) fn named(mut ids: impl Iterator<Item = PartitionId>) -> String {
    let mut names: Vec<_> = ids.by_ref().take(NAMED_MAX).map(|id| id.to_string()).collect();
    if ids.next().is_some() {
        names.push("…".into());
    }
    names.join(", ")
}
