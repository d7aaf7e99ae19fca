//! Which groups need a leader now.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    ids::{NodeId, PartitionId, ReplicaId},
    node::NodeState,
    observation::{ReplicaPhase, ZoneView},
    partition::{Partition, Replica},
    state::ZoneState,
};

/// A group without a leader, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub partition: PartitionId,
    /// The node that led and is lost; none: the group simply has no leader.
    pub lost: Option<NodeId>,
    /// The lost node is only suspect: a survivor must have lost it too.
    pub needs_witness: bool,
    /// Members that can be asked.
    pub survivors: Vec<Replica>,
    /// Why it is needed.
    pub reason: String,
}

/// Where a group that may need a leader was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Its leader is on this lost node, whatever that said last: a frozen process keeps its session.
    OnLost(NodeId, PartitionId),
    /// Nobody confirms a leader.
    Leaderless(PartitionId),
}

impl Place {
    fn partition(self) -> PartitionId {
        match self {
            Self::OnLost(_, partition) | Self::Leaderless(partition) => partition,
        }
    }
}

/// Looks at groups that may need a leader, in turn if there are more than one look can take in: after a cold
/// start, or as long as a new leader hears of more groups than of leaders, there are as many as partitions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lookout {
    /// The latest that was looked at; none: the next look begins at the beginning.
    after: Option<Place>,
}

/// What one look has shown.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub needs: Vec<Need>,
    /// All that were looked at.
    pub at: BTreeSet<PartitionId>,
    /// There were no others.
    pub is_all: bool,
}

impl Lookout {
    /// At most so many groups.
    pub fn look(
        &mut self,
        state: &ZoneState,
        view: &ZoneView,
        now: Duration,
        leaderless_after: Duration,
        looks_max: usize,
    ) -> Looked {
        let began = self.after;
        let rest = places(state, view, began);
        let first = places(state, view, None).take_while(|place| Some(*place) <= began);
        let mut circle = rest.chain(first);
        let places: Vec<Place> = circle.by_ref().take(looks_max.max(1)).collect();
        let is_all = circle.next().is_none();
        self.after = if is_all { None } else { places.last().copied() };
        let at: BTreeSet<PartitionId> = places.into_iter().map(Place::partition).collect();
        let needs = at.iter().filter_map(|id| need(state, view, *id, now, leaderless_after));
        Looked { needs: needs.collect(), at, is_all }
    }
}

/// The places that come after the given one.
fn places(state: &ZoneState, view: &ZoneView, after: Option<Place>) -> impl Iterator<Item = Place> {
    let (node, partition) = match after {
        None => (Some(NodeId(0)), PartitionId(0)),
        Some(Place::OnLost(node, _)) => (Some(node), PartitionId(0)),
        Some(Place::Leaderless(partition)) => (None, partition),
    };
    let nodes = node.into_iter().flat_map(|node| state.nodes().range(node..));
    let lost = nodes.filter(|(_, node)| !node.is_up()).flat_map(|(id, _)| {
        let reported = view.replicas_on(*id).filter(|(_, replica)| replica.report.leading);
        let reported = reported.map(|(partition, _)| partition);
        let led: BTreeSet<PartitionId> = state.partitions_led_by(*id).chain(reported).collect();
        led.into_iter().map(|partition| Place::OnLost(*id, partition))
    });
    let leaderless = view.leaderless().after(partition);
    lost.filter(move |place| Some(*place) > after).chain(leaderless.map(Place::Leaderless))
}

pub(super) fn need(
    state: &ZoneState,
    view: &ZoneView,
    id: PartitionId,
    now: Duration,
    leaderless_after: Duration,
) -> Option<Need> {
    let partition = state.partition(id)?;
    if !partition.is_placed() || confirmed(state, view, id).is_some() {
        return None;
    }
    let believed = believed_leader(view, id, partition);
    let (lost, needs_witness, reason) = match believed
        .and_then(|replica| Some((replica.node, state.node(replica.node)?)))
    {
        Some((node, record)) => match record.liveness.state {
            NodeState::Down => {
                (Some(node), false, format!("node {node} is down: {}", record.liveness.evidence))
            }
            NodeState::Suspect => {
                let needs_witness = !record.liveness.by_own_account;
                (
                    Some(node),
                    needs_witness,
                    format!("node {node} is suspect: {}", record.liveness.evidence),
                )
            }
            // Its node may lead it happily, and has merely not said so yet.
            NodeState::Up | NodeState::Recovering | NodeState::Slow if !view.is_complete(node) => {
                return None;
            }
            NodeState::Up | NodeState::Recovering | NodeState::Slow => {
                (None, false, waited(view, id, now, leaderless_after)?)
            }
        },
        None => (None, false, waited(view, id, now, leaderless_after)?),
    };
    let survivors: Vec<Replica> = members(view, id, partition)
        .into_iter()
        .filter(|replica| Some(replica.node) != lost && is_there(view, id, *replica))
        .collect();
    let majority =
        partition.has_majority(|voter| survivors.iter().any(|survivor| survivor.id == voter.id));
    majority.then_some(Need { partition: id, lost, needs_witness, survivors, reason })
}

/// The leader that counts: it says so itself, and its node is up.
pub(super) fn confirmed(
    state: &ZoneState,
    view: &ZoneView,
    id: PartitionId,
) -> Option<crate::observation::ConfirmedLeader> {
    view.leader(id)
        .filter(|leader| state.node(leader.replica.node).is_some_and(|node| node.is_up()))
}

fn waited(
    view: &ZoneView,
    id: PartitionId,
    now: Duration,
    leaderless_after: Duration,
) -> Option<String> {
    let waited = now.saturating_sub(view.leaderless_since(id)?);
    (waited >= leaderless_after)
        .then(|| format!("no leader was confirmed for {} ms", waited.as_millis()))
}

/// Whom the replicas believe to lead, in the newest term; or who was last seen to.
fn believed_leader(view: &ZoneView, id: PartitionId, partition: &Partition) -> Option<Replica> {
    let reported = view
        .replicas(id)
        .filter(|(_, view)| view.report.phase == ReplicaPhase::Live)
        .map(|(_, view)| (view.report.term, view.report.leader))
        .max();
    let last = partition.leader;
    match (reported, last) {
        // A newer term in which nobody leads yet.
        (Some((term, None)), Some(last)) if term > last.term => None,
        (Some((term, Some(leader))), Some(last)) if term >= last.term => {
            find(view, id, partition, leader)
        }
        (Some((_, Some(leader))), None) => find(view, id, partition, leader),
        (_, Some(last)) => Some(Replica { id: last.replica, node: last.node }),
        (_, None) => None,
    }
}

fn find(
    view: &ZoneView,
    id: PartitionId,
    partition: &Partition,
    replica: ReplicaId,
) -> Option<Replica> {
    partition
        .replica(replica)
        .or_else(|| members(view, id, partition).into_iter().find(|member| member.id == replica))
}

/// All that vote, or may have come to vote since the membership was last committed here.
fn members(view: &ZoneView, id: PartitionId, partition: &Partition) -> BTreeSet<Replica> {
    let reported = view.replicas(id).filter_map(|(_, view)| view.report.membership.as_ref());
    partition
        .voters()
        .into_iter()
        .chain(partition.targets.iter().copied())
        .chain(reported.flat_map(|reported| reported.membership.voters()))
        .collect()
}

fn is_there(view: &ZoneView, id: PartitionId, replica: Replica) -> bool {
    view.replica(id, replica.id)
        .is_some_and(|view| view.node == replica.node && view.report.phase == ReplicaPhase::Live)
}
