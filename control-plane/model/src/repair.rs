//! Making lost replicas again, adding missing ones, and spreading crowded ones: which changes to start,
//! and which to give up.
//!
//! A node's replicas are made again elsewhere when it has been down for `replace_after` (its data is
//! cheaper to wait for than to copy), or at once when an operator wants it empty. A node that returns
//! before that is taken back without a copy, and a repair that has not changed the group yet is given
//! up. Safety comes first: lost replicas, then missing ones, then crowded ones.

use crate::{
    command::{ChangeProposal, ChangePurpose, EndResult, OperationEnd},
    ids::{NodeId, OperationId, PartitionId},
    node::{Administrative, NodeState},
    observation::{ReplicaPhase, ZoneView},
    operation::{Operation, OperationKind, Origin, ReplicaChange, Split},
    outcome::Refusal,
    partition::Partition,
    placement::{Loads, NoChoice, choose, why_no_room},
    state::ZoneState,
};

/// For how long a split may wait for its group: counting the keys takes seconds where there are millions.
const SPLIT_TIMEOUT_MS: u64 = 120_000;
/// The same once it was refused.
const SPLIT_REFUSED_TIMEOUT_MS: u64 = 10_000;

/// Changes to start now, within the budgets.
pub fn plan(state: &ZoneState, view: &ZoneView, loads: &mut Loads) -> Vec<ChangeProposal> {
    let mut changes = Vec::new();
    if state.brake().is_some() {
        return changes;
    }
    replace_lost(state, view, loads, &mut changes);
    replace_failed(state, view, loads, &mut changes);
    add_missing(state, view, loads, &mut changes);
    spread_crowded(state, view, loads, &mut changes);
    changes
}

fn replace_lost(
    state: &ZoneState,
    view: &ZoneView,
    loads: &mut Loads,
    changes: &mut Vec<ChangeProposal>,
) {
    for (lost, node) in state.nodes().iter().filter(|(id, _)| state.is_replaceable(**id)) {
        for id in state.partitions_on(*lost) {
            if !loads.zone_has_budget(state) {
                return;
            }
            let Some(partition) = state.partition(id) else { continue };
            let Some(target) = partition.target_on(*lost) else { continue };
            if !can_change(state, partition) {
                continue;
            }
            let down_ms = crate::ids::millis(state.zone_time().since(node.liveness.since));
            if let Ok(choice) = choose(state, view, loads, id, partition, Some(target.id)) {
                loads.reserve(None, Some(choice.node), view.stored_bytes_of(id));
                changes.push(ChangeProposal {
                    partition: id,
                    purpose: ChangePurpose::Repair,
                    remove: Some(target.id),
                    add: Some(choice.node),
                    reason: format!(
                        "node {lost} has been down for {down_ms} ms ({}): {}",
                        node.liveness.evidence, choice.reason
                    ),
                });
            }
        }
    }
}

/// Replicas that were stopped by an error of their own, on nodes that live.
fn replace_failed(
    state: &ZoneState,
    view: &ZoneView,
    loads: &mut Loads,
    changes: &mut Vec<ChangeProposal>,
) {
    for (id, replica) in view.failed() {
        if !loads.zone_has_budget(state) {
            return;
        }
        let Some(partition) = state.partition(id) else { continue };
        let Some(target) = partition.target(replica) else { continue };
        // The failed one does not count, although its node is up.
        let healthy = partition.has_majority(|voter| {
            voter.id != replica && state.node(voter.node).is_some_and(|node| node.is_up())
        });
        if !can_change(state, partition)
            || !healthy
            || changes.iter().any(|change| change.partition == id)
        {
            continue;
        }
        if let Ok(choice) = choose(state, view, loads, id, partition, Some(replica)) {
            let message = view.replica(id, replica).map_or("", |view| &*view.report.message);
            loads.reserve(None, Some(choice.node), view.stored_bytes_of(id));
            changes.push(ChangeProposal {
                partition: id,
                purpose: ChangePurpose::ReplaceFailed,
                remove: Some(replica),
                add: Some(choice.node),
                reason: format!(
                    "replica {replica} on node {} has failed ({message}): {}",
                    target.node, choice.reason
                ),
            });
        }
    }
}

fn add_missing(
    state: &ZoneState,
    view: &ZoneView,
    loads: &mut Loads,
    changes: &mut Vec<ChangeProposal>,
) {
    for id in state.short() {
        if !loads.zone_has_budget(state) {
            return;
        }
        let Some(partition) = state.partition(*id) else { continue };
        if !can_change(state, partition) || changes.iter().any(|change| change.partition == *id) {
            continue;
        }
        if let Ok(choice) = choose(state, view, loads, *id, partition, None) {
            loads.reserve(None, Some(choice.node), view.stored_bytes_of(*id));
            changes.push(ChangeProposal {
                partition: *id,
                purpose: ChangePurpose::Repair,
                remove: None,
                add: Some(choice.node),
                reason: format!(
                    "it has {} replicas of {}: {}",
                    partition.targets.len(),
                    state.replication_factor(),
                    choice.reason
                ),
            });
        }
    }
}

fn spread_crowded(
    state: &ZoneState,
    view: &ZoneView,
    loads: &mut Loads,
    changes: &mut Vec<ChangeProposal>,
) {
    for id in state.crowded() {
        if !loads.zone_has_budget(state) {
            return;
        }
        let Some(partition) = state.partition(*id) else { continue };
        if !can_change(state, partition)
            || !partition.is_settled()
            || changes.iter().any(|change| change.partition == *id)
        {
            continue;
        }
        let domain = |node: NodeId| state.node(node).map(|node| node.fault_domain.as_str());
        // Of those that share a domain, one that does not lead, and the youngest of them.
        let shared = partition.targets.iter().filter(|target| {
            let own = domain(target.node);
            partition.targets.iter().any(|other| other.id != target.id && domain(other.node) == own)
        });
        let leader = partition.leader.map(|leader| leader.replica);
        let Some(source) = shared.max_by_key(|target| (leader != Some(target.id), target.id))
        else {
            continue;
        };
        if !loads.node_has_budget(state, source.node) {
            continue;
        }
        let Ok(choice) = choose(state, view, loads, *id, partition, Some(source.id)) else {
            continue;
        };
        let other_domain = domain(choice.node);
        let kept = partition.targets.iter().filter(|target| target.id != source.id);
        if kept.into_iter().any(|target| domain(target.node) == other_domain) {
            // No better than now: there are not enough fault domains.
            continue;
        }
        loads.reserve(Some(source.node), Some(choice.node), view.stored_bytes_of(*id));
        changes.push(ChangeProposal {
            partition: *id,
            purpose: ChangePurpose::Spread,
            remove: Some(source.id),
            add: Some(choice.node),
            reason: format!(
                "node {} shares fault domain {:?} with another replica: {}",
                source.node,
                domain(source.node).unwrap_or_default(),
                choice.reason
            ),
        });
    }
}

/// Whether the partition can take a change now: it has a group, a majority of it lives, and nothing
/// else is under way.
pub(crate) fn can_change(state: &ZoneState, partition: &Partition) -> bool {
    partition.change.is_none()
        && partition.observed.is_some()
        && partition.has_majority(|voter| state.node(voter.node).is_some_and(|node| node.is_up()))
}

/// Operations to give up: repairs of what has come back, changes towards nodes that are lost, transfers
/// that did not happen in time.
pub fn give_up(state: &ZoneState, view: &ZoneView) -> Vec<OperationEnd> {
    state
        .running_operations()
        .filter_map(|(id, operation)| {
            let result = match &operation.kind {
                OperationKind::Repair(change) | OperationKind::MoveReplica(change) => {
                    why_give_up_change(state, view, id, operation, change)?
                }
                OperationKind::TransferLeader { to, .. } => {
                    why_give_up_transfer(state, operation, *to)?
                }
                OperationKind::Split(split) => why_give_up_split(state, operation, split)?,
                OperationKind::Drain { .. } | OperationKind::Takeover { .. } => return None,
            };
            Some(OperationEnd { operation: id, result })
        })
        .collect()
}

fn why_give_up_change(
    state: &ZoneState,
    view: &ZoneView,
    id: OperationId,
    operation: &Operation,
    change: &ReplicaChange,
) -> Option<EndResult> {
    state.check_reversible(id, change).ok()?;
    if has_begun_to_vote(view, change) {
        return None;
    }
    let is_lost = |node| state.node(node).is_none_or(|node| node.liveness.state == NodeState::Down);
    if let Some(add) = change.add
        && is_lost(add.node)
    {
        let reason = format!("node {}, which was to get the replica, is down", add.node);
        return Some(given_up(operation, reason));
    }
    if let (OperationKind::Repair(_), Some(lost)) = (&operation.kind, change.remove)
        && state.node(lost.node).is_some_and(|node| node.is_serving())
        && view
            .replica(change.partition, lost.id)
            .is_some_and(|view| view.report.phase == ReplicaPhase::Live)
    {
        let reason = format!("node {} has returned with its replica: no copy is needed", lost.node);
        return Some(EndResult::Cancelled { reason });
    }
    None
}

/// Whether some replica reports a membership, committed or not, in which the new one votes.
fn has_begun_to_vote(view: &ZoneView, change: &ReplicaChange) -> bool {
    view.replicas(change.partition).any(|(_, view)| {
        view.report.membership.as_ref().is_some_and(|reported| match (change.add, change.remove) {
            (Some(add), _) => reported.membership.is_voter(add.id),
            (None, Some(remove)) => !reported.membership.is_full_voter(remove.id),
            (None, None) => false,
        })
    })
}

fn why_give_up_transfer(state: &ZoneState, operation: &Operation, to: NodeId) -> Option<EndResult> {
    let policy = state.policy()?;
    if !state.node(to).is_some_and(|node| node.is_up()) {
        return Some(given_up(operation, format!("node {to}, which was to lead, is not up")));
    }
    let waited = crate::ids::millis(state.zone_time().since(operation.started_at));
    (waited >= policy.transfer_timeout_ms)
        .then(|| given_up(operation, format!("node {to} did not lead within {waited} ms")))
}

/// A split holds up every other change of its partition: it does not wait for what may never come.
fn why_give_up_split(state: &ZoneState, operation: &Operation, split: &Split) -> Option<EndResult> {
    if state.partition(split.child).is_some() {
        return None;
    }
    let partition = state.partition(split.partition)?;
    let lost = partition.targets.iter().find(|target| state.is_replaceable(target.node));
    if let Some(lost) = lost {
        let reason = format!(
            "the replica on node {} has to be made again first: split it afterwards",
            lost.node
        );
        return Some(given_up(operation, reason));
    }
    let waited = crate::ids::millis(state.zone_time().since(operation.started_at));
    let why = match operation.last_error.as_str() {
        "" => String::new(),
        error => format!(" ({error})"),
    };
    let patience_ms = if why.is_empty() { SPLIT_TIMEOUT_MS } else { SPLIT_REFUSED_TIMEOUT_MS };
    (waited >= patience_ms)
        .then(|| given_up(operation, format!("it was not split within {waited} ms{why}")))
}

/// What an operator asked for has failed; what the control plane planned is planned again.
fn given_up(operation: &Operation, reason: String) -> EndResult {
    if operation.origin == Origin::Operator && operation.parent.is_none() {
        EndResult::Failed { reason }
    } else {
        EndResult::Cancelled { reason }
    }
}

/// Checks that a node has room for a replica of the partition, as far as the leader sees: the part of
/// an operator's move that the replicated state cannot check.
pub fn check_room(
    state: &ZoneState,
    view: &ZoneView,
    partition: PartitionId,
    to: NodeId,
) -> Result<(), Refusal> {
    let node = state.node(to).ok_or(Refusal::NoSuchNode { node: to })?;
    match why_no_room(view, to, node, view.stored_bytes_of(partition)) {
        Some(why) => Err(Refusal::NodeNotEligible { node: to, why }),
        None => Ok(()),
    }
}

/// Checks that the nodes that are there now can take over what a node holds: the part of a drain that
/// the replicated state cannot check. A node that is drained already, or unknown, is for
/// [`crate::apply`] to refuse.
pub fn check_drain_room(state: &ZoneState, view: &ZoneView, node: NodeId) -> Result<(), Refusal> {
    if !state.node(node).is_some_and(|node| node.administrative == Administrative::Active) {
        return Ok(());
    }
    let risk = crate::drain::risk(state, Some(view), node);
    match risk.or_else(|| crate::drain::room_risk(state, view, node)) {
        Some(risk) => {
            Err(Refusal::DrainAtRisk { node, why: risk.why, partitions: risk.partitions })
        }
        None => Ok(()),
    }
}

/// Why a lost or missing replica is not being made again; none if nothing waits for a node.
pub fn waiting_for_nodes(state: &ZoneState, view: &ZoneView) -> Option<NoChoice> {
    let loads = Loads::of(state);
    let lost = state
        .nodes()
        .iter()
        .filter(|(id, _)| state.is_replaceable(**id))
        .flat_map(|(id, _)| state.partitions_on(*id).map(|partition| (partition, Some(*id))));
    let missing = state.short().iter().map(|partition| (*partition, None));
    lost.chain(missing).find_map(|(id, node)| {
        let partition = state.partition(id)?;
        let replaced = match node {
            Some(node) => Some(partition.target_on(node)?.id),
            None => None,
        };
        if partition.change.is_some() {
            return None;
        }
        choose(state, view, &loads, id, partition, replaced).err()
    })
}
