//! Even leader counts.
//!
//! Each partition's leadership sits on one of the nodes that hold a voting replica and may lead. The
//! plan makes the counts as even as the placement of replicas allows, with the fewest transfers (see
//! [`flow`]). It is deterministic, and an assignment that is as even as possible is left exactly as it
//! is: it settles.
//!
//! Nodes that may not lead (draining, not up) are emptied as far as their partitions have another voter. While a
//! node is slow or has just been, nothing else moves: soon it takes leaderships again, and what was evened out
//! without it would move once more.
//!
//! A leadership goes only to a replica that its leader knows to be close behind and to follow, and not
//! again at once to one that has just failed to take it (see [`backoff`]).

mod backoff;
mod flow;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use planted::Bug;

use crate::{
    command::TransferProposal,
    ids::{NodeId, PartitionId},
    node::{Administrative, NodeState},
    observation::ZoneView,
    operation::OperationKind,
    partition::Partition,
    reconcile::keeps_up,
    state::ZoneState,
};

pub use backoff::{REST_MAX, REST_MIN, resting};
pub use flow::{EFFORT_MAX, Seat, Solution, solve, solve_within};

/// A replica that has made no progress for so long, although it should, gets no leadership. Longer than
/// it takes a leader to report how far the others are while its log grows.
const STANDSTILL_MAX: Duration = Duration::from_secs(10);

/// Transfers that make leader counts even.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderPlan {
    /// In the order of partition ids.
    pub transfers: Vec<TransferProposal>,
    /// Leaderships of each node now, running transfers counted where they go.
    pub before: BTreeMap<NodeId, u32>,
    /// Leaderships of each node after all transfers.
    pub after: BTreeMap<NodeId, u32>,
}

/// Whether leader counts are even already, as far as is committed: a cheap answer to whether a plan is
/// worth while.
pub fn are_even(state: &ZoneState) -> bool {
    let (mut most, mut least) = (0, usize::MAX);
    for (id, node) in state.nodes().iter() {
        let count = state.leader_count(*id);
        if node.is_eligible() {
            most = most.max(count);
            least = least.min(count);
        } else if count > 0 {
            return false;
        }
    }
    most <= least.saturating_add(1)
}

/// The plan for the zone as it is now.
pub fn plan(state: &ZoneState, view: &ZoneView, now: Duration) -> LeaderPlan {
    let takers = Takers::of(state, view);
    let is_passing = is_passing(state);
    let mut fixed: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut seats = Vec::new();
    for (id, partition) in state.partitions().iter() {
        if let Some(node) = destination(state, partition) {
            *fixed.entry(node).or_default() += 1;
        } else if let Some(seat) = takers.seat(view, *id, partition, now) {
            if is_passing && takers.leading.contains(&seat.current) {
                *fixed.entry(seat.current).or_default() += 1;
            } else {
                seats.push(seat);
            }
        } else if let Some(leader) = view.leader(*id) {
            *fixed.entry(leader.replica.node).or_default() += 1;
        }
    }
    let mut solution = solve(&seats, &fixed, &takers.leading);
    if planted::is_planted(Bug::PingPongTransfers)
        && let (Some(first), Some(seat)) = (solution.first_mut(), seats.first())
        && let Some(other) = seat.eligible.iter().find(|node| **node != seat.current)
    {
        *first = *other;
    }
    let count = |assigned: &dyn Fn(usize) -> NodeId| {
        let mut counts: BTreeMap<NodeId, u32> =
            state.nodes().iter().map(|(id, _)| (*id, 0)).collect();
        for (node, count) in &fixed {
            *counts.entry(*node).or_default() += count;
        }
        for index in 0..seats.len() {
            *counts.entry(assigned(index)).or_default() += 1;
        }
        counts
    };
    let before = count(&|index| seats[index].current);
    let after = count(&|index| solution[index]);
    let transfers = seats
        .iter()
        .zip(&solution)
        .filter(|(seat, to)| seat.current != **to)
        .map(|(seat, to)| transfer(state, seat, *to, &before, &after))
        .collect();
    LeaderPlan { transfers, before, after }
}

/// Whether a node that takes part is worse than its peers for now.
fn is_passing(state: &ZoneState) -> bool {
    state.nodes().iter().any(|(_, node)| {
        node.administrative == Administrative::Active
            && matches!(node.liveness.state, NodeState::Slow | NodeState::Recovering)
    })
}

/// Who can take leaderships now.
#[derive(Clone, Debug)]
pub struct Takers {
    leading: BTreeSet<NodeId>,
    resting: BTreeSet<(PartitionId, NodeId)>,
}

impl Takers {
    pub fn of(state: &ZoneState, view: &ZoneView) -> Self {
        let leading = state.nodes().iter().filter(|(id, node)| {
            let is_eligible = node.is_eligible()
                || planted::is_planted(Bug::SlowNodeKeepsLeading) && node.is_serving();
            is_eligible && view.is_connected(**id)
        });
        Self { leading: leading.map(|(id, _)| *id).collect(), resting: resting(state) }
    }

    /// The partition's leadership and who can take it; none if it cannot be moved now.
    pub fn seat(
        &self,
        view: &ZoneView,
        id: PartitionId,
        partition: &Partition,
        now: Duration,
    ) -> Option<Seat> {
        let mut seat = seat(view, &self.leading, id, partition, now)?;
        let current = seat.current;
        seat.eligible.retain(|node| *node == current || !self.resting.contains(&(id, *node)));
        Some(seat)
    }
}

/// Where a running transfer takes the leadership.
fn destination(state: &ZoneState, partition: &Partition) -> Option<NodeId> {
    match state.operation(partition.change?)?.kind {
        OperationKind::TransferLeader { to, .. } => Some(to),
        OperationKind::Takeover { .. }
        | OperationKind::Repair(_)
        | OperationKind::MoveReplica(_)
        | OperationKind::Split(_)
        | OperationKind::Drain { .. } => None,
    }
}

/// The partition's leadership, if it can be moved now.
fn seat(
    view: &ZoneView,
    leading: &BTreeSet<NodeId>,
    id: PartitionId,
    partition: &Partition,
    now: Duration,
) -> Option<Seat> {
    let leader = view.leader(id)?;
    let committed = partition.leader?;
    let observed = partition.observed.as_ref()?;
    // A transfer is checked against the committed leader: one that is not committed yet is left alone.
    if committed.replica != leader.replica.id
        || partition.change.is_some()
        || !partition.is_settled()
    {
        return None;
    }
    let report = &view.replica(id, leader.replica.id)?.report;
    let follows = |replica| {
        keeps_up(report, leader.replica.id, replica)
            && view
                .standing_still_since(id, replica)
                .is_none_or(|since| now.saturating_sub(since) < STANDSTILL_MAX)
    };
    let eligible = partition
        .targets
        .iter()
        .filter(|target| leading.contains(&target.node) && observed.is_full_voter(target.id))
        .filter(|target| follows(target.id))
        .map(|target| target.node)
        .collect();
    let preferred = partition
        .preferred_leader
        .and_then(|preferred| partition.target(preferred))
        .map(|target| target.node);
    Some(Seat { partition: id, current: leader.replica.node, eligible, preferred })
}

fn transfer(
    state: &ZoneState,
    seat: &Seat,
    to: NodeId,
    before: &BTreeMap<NodeId, u32>,
    after: &BTreeMap<NodeId, u32>,
) -> TransferProposal {
    let from = seat.current;
    let count = |counts: &BTreeMap<NodeId, u32>, node| counts.get(&node).copied().unwrap_or(0);
    let counts = format!(
        "node {from} leads {} and then {}, node {to} leads {} and then {}",
        count(before, from),
        count(after, from),
        count(before, to),
        count(after, to)
    );
    let node = state.node(from);
    let (why, parent) = match node.map(|node| node.administrative) {
        Some(Administrative::Draining { operation, .. }) => {
            (format!("node {from} is being drained"), Some(operation))
        }
        Some(Administrative::Drained) => (format!("node {from} is drained"), None),
        Some(Administrative::Active) | None => {
            match node.and_then(|node| node.why_not_eligible()) {
                Some(why) => (format!("node {from} may not lead: {why}"), None),
                None => ("even leader counts".to_owned(), None),
            }
        }
    };
    let others: Vec<_> = seat
        .eligible
        .iter()
        .filter(|node| **node != to && **node != from)
        .map(|node| format!("node {node}, which then leads {}", count(after, *node)))
        .collect();
    let rejected = if others.is_empty() {
        "no other voter may lead".to_owned()
    } else {
        format!("rejected: {}", others.join("; "))
    };
    let reason = format!("{why}: {counts}; {rejected}");
    TransferProposal { partition: seat.partition, from, to, reason, parent }
}
