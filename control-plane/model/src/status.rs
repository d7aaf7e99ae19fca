//! Figures for people: what is wrong, worst first, and what the counts are.
//!
//! On the leader they come from what its sessions know now; on another member (no view) from what was
//! last committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    brake::{self, HeldBack},
    group_view::GroupSight,
    ids::{NodeId, PartitionId, ReplicaId},
    node::{Administrative, Node, NodeState},
    observation::{Rates, ReplicaPhase, ZoneView},
    operation::OperationState,
    partition::{Partition, Replica},
    state::ZoneState,
};

/// Problems that are listed one by one before they are summed up.
const NAMED_MAX: usize = 5;
/// A voter that does not follow its leader for so long is no healthy replica.
const STANDSTILL_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// One sentence for each thing that is not as it should be, worst first. What is wrong with the
    /// control plane's own members is for the server to add.
    pub problems: Vec<String>,
    pub partitions: PartitionCounts,
    pub operations_running: u32,
    pub operations_failed: u32,
    /// What would begin if the brake did not hold.
    pub held_back: HeldBack,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionCounts {
    pub total: u32,
    /// With a confirmed leader.
    pub available: u32,
    pub under_replicated: u32,
    pub unavailable: u32,
}

/// One node's figures.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFigures {
    pub leaders: u32,
    pub replicas: u32,
    pub stored_bytes: u64,
    pub rates: Rates,
    pub disk_below_reserve: bool,
}

/// One partition's figures.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionFigures {
    /// None: none confirmed.
    pub leader: Option<NodeId>,
    pub available: bool,
    pub under_replicated: bool,
    pub stored_bytes: u64,
    pub keys: u64,
    pub rates: Rates,
}

/// What one replica is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaFigures {
    pub replica: Replica,
    pub role: Role,
    pub term: u64,
    pub applied_index: u64,
    pub lag_entries: u64,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Leader,
    Voter,
    Learner,
    /// Its node has a session and does not have it.
    Absent,
    Failed,
    /// Its node has no session.
    Unknown,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Voter => "voter",
            Role::Learner => "learner",
            Role::Absent => "absent",
            Role::Failed => "failed",
            Role::Unknown => "unknown",
        }
    }
}

/// The zone's figures.
pub fn figures(state: &ZoneState, view: Option<&ZoneView>, now: Duration) -> Figures {
    let mut figures = Figures::default();
    if !state.is_initialized() {
        figures.problems.push("the zone is not initialised: run `zonectl init`".into());
        return figures;
    }
    let (mut unavailable, mut under_replicated) = (Vec::new(), Vec::new());
    for (id, record) in state.partitions().iter() {
        figures.partitions.total += 1;
        if leader_of(state, view, *id, record).is_some() {
            figures.partitions.available += 1;
        } else {
            unavailable.push(*id);
        }
        if is_under_replicated(state, view, *id, record, now) {
            under_replicated.push(*id);
        }
    }
    let count = |list: &[PartitionId]| u32::try_from(list.len()).unwrap_or(u32::MAX);
    figures.partitions.unavailable = count(&unavailable);
    figures.partitions.under_replicated = count(&under_replicated);
    figures.held_back = brake::held_back(state, view);
    let problems = &mut figures.problems;
    unavailable_problems(state, view, now, &unavailable, problems);
    problems.extend(brake::problem(state, figures.held_back));
    node_problems(state, problems);
    if !under_replicated.is_empty() {
        problems.push(format!(
            "{} with fewer healthy replicas than intended: {}",
            plural(under_replicated.len(), "partition is", "partitions are"),
            named(&under_replicated)
        ));
        if let Some(view) = view
            && let Some(waiting) = crate::repair::waiting_for_nodes(state, view)
        {
            problems.push(format!("a repair waits: {waiting}"));
        }
    }
    disk_problems(state, view, problems);
    replica_problems(state, view, problems);
    standstill_problems(state, view, &under_replicated, now, problems);
    let failed: Vec<_> = state.failed_operations().collect();
    // A takeover that has failed is tried again: it is no problem of its own.
    let lasting = failed.iter().filter(|(_, operation)| operation.kind.as_str() != "takeover");
    figures.operations_failed = u32::try_from(lasting.count()).unwrap_or(u32::MAX);
    let running = state.running_operations().count();
    figures.operations_running = u32::try_from(running).unwrap_or(u32::MAX);
    figures
}

fn unavailable_problems(
    state: &ZoneState,
    view: Option<&ZoneView>,
    now: Duration,
    unavailable: &[PartitionId],
    problems: &mut Vec<String>,
) {
    let unplaced: Vec<_> =
        unavailable.iter().copied().filter(|id| state.unplaced().contains(id)).collect();
    let leaderless: Vec<_> =
        unavailable.iter().copied().filter(|id| !state.unplaced().contains(id)).collect();
    if !leaderless.is_empty() {
        let longest = view
            .and_then(|view| leaderless.iter().filter_map(|id| view.leaderless_since(*id)).min());
        let since = longest.map_or(String::new(), |since| {
            format!(" (the first for {} ms)", now.saturating_sub(since).as_millis())
        });
        problems.push(format!(
            "{} unavailable, without a confirmed leader{since}: {}",
            plural(leaderless.len(), "partition is", "partitions are"),
            named(&leaderless)
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

fn node_problems(state: &ZoneState, problems: &mut Vec<String>) {
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

fn disk_problems(state: &ZoneState, view: Option<&ZoneView>, problems: &mut Vec<String>) {
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

fn replica_problems(state: &ZoneState, view: Option<&ZoneView>, problems: &mut Vec<String>) {
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
fn standstill_problems(
    state: &ZoneState,
    view: Option<&ZoneView>,
    partitions: &[PartitionId],
    now: Duration,
    problems: &mut Vec<String>,
) {
    let Some(view) = view else { return };
    let mut more = 0_usize;
    for id in partitions {
        let Some(record) = state.partition(*id) else { continue };
        for target in &record.targets {
            // Of a node that is not up, enough is said.
            let is_up = state.node(target.node).is_some_and(|node| node.is_up());
            let Some(still) = standstill(&view.group(*id), target.id, now).filter(|_| is_up) else {
                continue;
            };
            if problems.len() >= 4 * NAMED_MAX {
                more += 1;
                continue;
            }
            let figures = replica_figures(Some(view), *id, record, *target);
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

/// For how long a replica has not followed its leader, if that is too long.
fn standstill(sight: &GroupSight<'_>, replica: ReplicaId, now: Duration) -> Option<Duration> {
    let still = now.saturating_sub(sight.standing_still_since(replica)?);
    (still > STANDSTILL_MAX).then_some(still)
}

/// One node's figures; none if it is not known.
pub fn node(state: &ZoneState, view: Option<&ZoneView>, id: NodeId) -> Option<NodeFigures> {
    state.node(id)?;
    let leaders = match view {
        // Of two that say that they lead the newer counts: a frozen node cannot know that it was deposed.
        Some(view) => view
            .replicas_on(id)
            .filter(|(_, replica)| replica.report.leading)
            .filter(|(partition, _)| {
                view.leader(*partition).is_some_and(|leader| leader.replica.node == id)
            })
            .count(),
        None => state.leader_count(id),
    };
    Some(NodeFigures {
        leaders: u32::try_from(leaders).unwrap_or(u32::MAX),
        replicas: state.target_count(id),
        stored_bytes: view.map_or(0, |view| view.stored_bytes_on(id)),
        rates: view.map_or_else(Rates::default, |view| view.rates_on(id)),
        disk_below_reserve: view.is_some_and(|view| view.is_disk_low(id)),
    })
}

/// One partition's figures; none if it is not known.
pub fn partition(
    state: &ZoneState,
    view: Option<&ZoneView>,
    id: PartitionId,
    now: Duration,
) -> Option<PartitionFigures> {
    let record = state.partition(id)?;
    let leader = leader_of(state, view, id, record);
    let keys = view.map_or(0, |view| {
        let leading = view.leader(id).and_then(|leader| view.replica(id, leader.replica.id));
        let most = || view.replicas(id).map(|(_, replica)| replica.report.keys).max();
        leading.map(|replica| replica.report.keys).or_else(most).unwrap_or(0)
    });
    Some(PartitionFigures {
        leader,
        available: leader.is_some(),
        under_replicated: is_under_replicated(state, view, id, record, now),
        stored_bytes: view.map_or(0, |view| view.stored_bytes_of(id)),
        keys,
        rates: view.map_or_else(Rates::default, |view| view.rates_of(id)),
    })
}

/// What each replica of a partition is, intended or not, in the order of replica ids.
pub fn replicas(
    state: &ZoneState,
    view: Option<&ZoneView>,
    id: PartitionId,
) -> Vec<ReplicaFigures> {
    let Some(record) = state.partition(id) else { return Vec::new() };
    let observed = record.observed.iter().flat_map(|observed| {
        observed.voter_sets.iter().flatten().chain(&observed.learners).copied()
    });
    let all: BTreeSet<Replica> = record
        .targets
        .iter()
        .copied()
        .chain(observed)
        .chain(record.retiring.iter().map(|retiring| retiring.replica))
        .collect();
    all.into_iter().map(|replica| replica_figures(view, id, record, replica)).collect()
}

fn replica_figures(
    view: Option<&ZoneView>,
    id: PartitionId,
    record: &Partition,
    replica: Replica,
) -> ReplicaFigures {
    let mut figures = ReplicaFigures {
        replica,
        role: Role::Unknown,
        term: 0,
        applied_index: 0,
        lag_entries: 0,
        message: String::new(),
    };
    let Some(view) = view else { return figures };
    let leader = view.leader(id);
    let Some(known) = view.replica(id, replica.id) else {
        if view.is_complete(replica.node) {
            figures.role = Role::Absent;
        }
        return figures;
    };
    let report = &known.report;
    figures.role = match report.phase {
        ReplicaPhase::Failed => Role::Failed,
        ReplicaPhase::Destroyed => Role::Absent,
        ReplicaPhase::Live if leader.is_some_and(|leader| leader.replica.id == replica.id) => {
            Role::Leader
        }
        ReplicaPhase::Live => {
            let membership = report.membership.as_ref().map(|reported| &reported.membership);
            match membership.or(record.observed.as_ref()) {
                Some(membership) if membership.is_voter(replica.id) => Role::Voter,
                Some(_) | None => Role::Learner,
            }
        }
    };
    figures.term = report.term.get();
    figures.applied_index = report.applied.map_or(0, |applied| applied.index);
    figures.message.clone_from(&report.message);
    let leading = leader.and_then(|leader| view.replica(id, leader.replica.id));
    let progress = leading.and_then(|leading| {
        leading.report.progress.iter().find(|progress| progress.replica == replica.id)
    });
    figures.lag_entries = progress.map_or(0, |progress| progress.lag_entries);
    figures
}

/// The node with the confirmed leader; without a view, where the leader was last seen, if that is up.
fn leader_of(
    state: &ZoneState,
    view: Option<&ZoneView>,
    id: PartitionId,
    record: &Partition,
) -> Option<NodeId> {
    let node = match view {
        Some(view) => view.leader(id)?.replica.node,
        None => record.leader?.node,
    };
    state.node(node).filter(|node| node.liveness.state != NodeState::Down).map(|_| node)
}

/// Fewer healthy replicas than it should have, or two in a fault domain where more are left.
fn is_under_replicated(
    state: &ZoneState,
    view: Option<&ZoneView>,
    id: PartitionId,
    record: &Partition,
    now: Duration,
) -> bool {
    let sight = view.map(|view| view.group(id));
    let healthy = record.targets.iter().filter(|target| {
        let votes =
            record.observed.as_ref().is_some_and(|observed| observed.is_full_voter(target.id));
        let up = state.node(target.node).is_some_and(|node| node.is_up());
        let reported = match view.zip(sight) {
            Some((view, sight)) if view.is_complete(target.node) => {
                sight.replica(target.id).is_some_and(|view| view.report.phase == ReplicaPhase::Live)
            }
            Some(_) | None => true,
        };
        let follows = sight.is_none_or(|sight| standstill(&sight, target.id, now).is_none());
        votes && up && reported && follows
    });
    if healthy.count() < state.replication_factor() {
        return true;
    }
    state.crowded().contains(&id) && could_spread(state, record)
}

/// Whether a node in a fault domain without the partition could take a replica.
pub(crate) fn could_spread(state: &ZoneState, record: &Partition) -> bool {
    let used: BTreeSet<&str> = record
        .targets
        .iter()
        .filter_map(|target| state.node(target.node))
        .map(|node| node.fault_domain.as_str())
        .collect();
    state.nodes().iter().any(|(_, node)| {
        node.administrative == Administrative::Active
            && node.liveness.state != NodeState::Down
            && !used.contains(node.fault_domain.as_str())
    })
}

pub(crate) fn plural(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// Names the first few.
fn named(ids: &[PartitionId]) -> String {
    let mut names: Vec<_> = ids.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    if ids.len() > NAMED_MAX {
        names.push("…".into());
    }
    names.join(", ")
}

/// Failed operations of the kinds that somebody must look at.
pub fn needs_attention(state: &ZoneState) -> impl Iterator<Item = crate::ids::OperationId> {
    state
        .failed_operations()
        .filter(|(_, operation)| {
            operation.state == OperationState::Failed && operation.kind.as_str() != "takeover"
        })
        .map(|(id, _)| id)
}
