//! Figures for people: what is wrong, worst first, and what the counts are.
//!
//! On the leader they come from what its sessions know now; on another member (no view) from what was
//! last committed.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    brake::{self, HeldBack},
    group_view::GroupSight,
    ids::{NodeId, PartitionId, ReplicaId},
    node::NodeState,
    observation::{Rates, ReplicaPhase, ZoneView},
    operation::OperationState,
    partition::{Partition, Replica},
    problems,
    state::ZoneState,
    tally::{OpenDomains, Tally},
};

/// Zones of more partitions have their figures from a tally: a walk over so many takes a few milliseconds.
const WALKED_PARTITIONS_MAX: usize = 2_000;
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

/// The zone's figures. Walks over all partitions: whoever needs them again and again keeps a [`Tally`].
pub fn figures(state: &ZoneState, view: Option<&ZoneView>, now: Duration) -> Figures {
    figures_of(state, view, &Tally::of(state, view, now), now)
}

/// The zone's figures for a leader that keeps a tally: it is used where a walk over all partitions would take long.
pub fn figures_by(state: &ZoneState, view: &ZoneView, tally: &Tally, now: Duration) -> Figures {
    if state.partitions().len() <= WALKED_PARTITIONS_MAX {
        figures(state, Some(view), now)
    } else {
        figures_of(state, Some(view), tally, now)
    }
}

/// The zone's figures from a tally that is kept: nothing here walks over more than is wrong.
pub fn figures_of(
    state: &ZoneState,
    view: Option<&ZoneView>,
    tally: &Tally,
    now: Duration,
) -> Figures {
    let mut figures = Figures::default();
    if !state.is_initialized() {
        figures.problems.push("the zone is not initialised: run `zonectl init`".into());
        return figures;
    }
    let (unavailable, under_replicated) = (tally.unavailable(), tally.under_replicated());
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    figures.partitions = PartitionCounts {
        total: count(state.partitions().len()),
        available: count(state.partitions().len().saturating_sub(unavailable.len())),
        under_replicated: count(under_replicated.len()),
        unavailable: count(unavailable.len()),
    };
    figures.held_back = brake::held_back(state, view);
    let problems = &mut figures.problems;
    problems::unavailable(state, view, now, unavailable, problems);
    problems.extend(brake::problem(state, figures.held_back));
    problems::nodes(state, problems);
    if !under_replicated.is_empty() {
        problems.push(format!(
            "{} with fewer healthy replicas than intended: {}",
            plural(under_replicated.len(), "partition is", "partitions are"),
            problems::named(under_replicated.iter())
        ));
        if let Some(view) = view
            && let Some(waiting) = crate::repair::waiting_for_nodes(state, view)
        {
            problems.push(format!("a repair waits: {waiting}"));
        }
    }
    problems::disks(state, view, problems);
    problems::replicas(state, view, problems);
    problems::standing_still(state, view, under_replicated, now, problems);
    let failed: Vec<_> = state.failed_operations().collect();
    // A takeover that has failed is tried again: it is no problem of its own.
    let lasting = failed.iter().filter(|(_, operation)| operation.kind.as_str() != "takeover");
    figures.operations_failed = u32::try_from(lasting.count()).unwrap_or(u32::MAX);
    let running = state.running_operations().count();
    figures.operations_running = u32::try_from(running).unwrap_or(u32::MAX);
    figures
}

/// For how long a replica has not followed its leader, if that is too long.
pub(crate) fn standstill(
    sight: &GroupSight<'_>,
    replica: ReplicaId,
    now: Duration,
) -> Option<Duration> {
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

pub(crate) fn replica_figures(
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
            let membership = report.membership.as_ref().map(|reported| &*reported.membership);
            match membership.or(record.observed.as_ref()) {
                Some(membership) if membership.is_voter(replica.id) => Role::Voter,
                Some(_) | None => Role::Learner,
            }
        }
    };
    figures.term = report.term.get();
    figures.applied_index = report.applied.map_or(0, |applied| applied.index);
    figures.message = report.message.to_string();
    let leading = leader.and_then(|leader| view.replica(id, leader.replica.id));
    let progress = leading.and_then(|leading| {
        leading.report.progress.iter().find(|progress| progress.replica == replica.id)
    });
    figures.lag_entries = progress.map_or(0, |progress| progress.lag_entries);
    figures
}

/// The node with the confirmed leader; without a view, where the leader was last seen, if that is up.
pub(crate) fn leader_of(
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

/// Fewer healthy replicas than it should have.
pub(crate) fn lacks_replicas(
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
        let is_live = sight
            .and_then(|sight| sight.replica(target.id))
            .is_some_and(|known| known.report.phase == ReplicaPhase::Live);
        // Of a node that has not said all yet, the rest may be as it should be.
        let reported = is_live || view.is_none_or(|view| !view.is_complete(target.node));
        let follows = sight.is_none_or(|sight| standstill(&sight, target.id, now).is_none());
        votes && up && reported && follows
    });
    healthy.count() < state.replication_factor()
}

/// Fewer healthy replicas than it should have, or two in a fault domain where more are left.
fn is_under_replicated(
    state: &ZoneState,
    view: Option<&ZoneView>,
    id: PartitionId,
    record: &Partition,
    now: Duration,
) -> bool {
    lacks_replicas(state, view, id, record, now)
        || state.crowded().contains(&id) && OpenDomains::of(state).has_room_for(state, record)
}

pub(crate) fn plural(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
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
