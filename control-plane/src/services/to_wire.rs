//! From the model to the wire.
//!
//! Figures that need more than one record (how healthy a partition is, how far an operation has got)
//! come from [`crate::services::figures`]; this module only translates.

use bytes::Bytes;
use model::{
    Fence, LogPosition, NodeId, OperationId, ZoneState,
    balancer::{Comparison, Proposed},
    brake::HeldBack,
    key_range::KeyRange,
    node::{Administrative, NodeState},
    operation::{Operation, OperationState, SplitPoint},
    order::{Order, OrderKind},
    partition::{Membership, Partition, Replica},
    takeover::{GroupReplica, TakeOverGroup},
};
use planted::Bug;
use proto::v1::{self, split_partition::Point};

use super::from_wire::BALANCE;

pub fn range(range: &KeyRange) -> v1::KeyRange {
    v1::KeyRange {
        start: Bytes::copy_from_slice(range.start()),
        end: Bytes::copy_from_slice(range.end()),
    }
}

pub fn placement(replica: Replica) -> v1::ReplicaPlacement {
    v1::ReplicaPlacement { replica_id: replica.id.get(), node_id: replica.node.get() }
}

pub fn placements<'a>(
    replicas: impl IntoIterator<Item = &'a Replica>,
) -> Vec<v1::ReplicaPlacement> {
    replicas.into_iter().copied().map(placement).collect()
}

pub fn log_position(position: LogPosition) -> v1::LogPosition {
    v1::LogPosition {
        term: position.term.get(),
        leader_id: position.leader_id,
        index: position.index,
    }
}

pub fn fence(fence: Fence) -> v1::Fence {
    v1::Fence {
        zone_generation: fence.generation.get(),
        term: fence.term.get(),
        revision: fence.revision.get(),
    }
}

/// The policy, with its version; none before there is a zone.
pub fn policy(state: &ZoneState) -> Option<v1::Policy> {
    let mut policy = v1::Policy { version: Some(state.policy_version()), ..v1::Policy::default() };
    for (name, value) in state.whole_policy()?.values() {
        policy.set_value(&name, value);
    }
    Some(policy)
}

/// The shadow policy, and how it does by what the leader has seen; nothing if there is none.
pub fn shadow_policy(
    state: &ZoneState,
    comparison: Option<&Comparison>,
) -> v1::GetShadowPolicyResponse {
    let Some(shadow) = state.shadow_policy() else {
        return v1::GetShadowPolicyResponse::default();
    };
    let mut balance = v1::BalancePolicy::default();
    for (name, value) in shadow.values() {
        balance.set_value(name.strip_prefix(BALANCE).unwrap_or(&name), value);
    }
    let comparison = comparison.filter(|comparison| comparison.set_by == shadow.set_by);
    v1::GetShadowPolicyResponse {
        balance: Some(balance),
        reason: shadow.reason.clone(),
        set_zone_time_ms: shadow.set_at.get(),
        set_wall_time_ms: shadow.wall_time.get(),
        comparison: comparison.map(|comparison| v1::ShadowComparison {
            began_zone_time_ms: comparison.began_at.get(),
            planned_zone_time_ms: comparison.planned_at.get(),
            plans: comparison.plans,
            better: comparison.better,
            equal: comparison.equal,
            worse: comparison.worse,
            active: Some(proposals(&comparison.active, comparison.plans)),
            shadow: Some(proposals(&comparison.shadow, comparison.plans)),
        }),
    }
}

fn proposals(proposed: &Proposed, plans: u64) -> v1::PolicyProposals {
    let share = |permille: u64| permille as f64 / 1_000.0;
    v1::PolicyProposals {
        transfers: proposed.transfers,
        moves: proposed.moves,
        splits: proposed.splits,
        bytes: proposed.bytes,
        worst_share_max: share(proposed.worst_share_permille_max),
        worst_share_mean: share(proposed.worst_share_permille_sum) / plans.max(1) as f64,
        worst_share_last: share(proposed.worst_share_permille),
    }
}

/// The brake, and what waits for it; nothing if it is not engaged.
pub fn brake(state: &ZoneState, held_back: HeldBack) -> v1::Brake {
    let Some(brake) = state.engaged_brake() else { return v1::Brake::default() };
    let overridden_for_ms = brake.overridden_for_ms(state.zone_time());
    let until = brake.overridden_until.filter(|_| overridden_for_ms.is_some());
    v1::Brake {
        engaged: true,
        reason: brake.reason.clone(),
        since_zone_time_ms: brake.since.get(),
        overridden_until_zone_time_ms: until.map_or(0, model::ZoneTime::get),
        overridden_for_ms: overridden_for_ms.unwrap_or(0),
        held_back_repairs: held_back.repairs,
        held_back_moves: held_back.moves,
        held_back_transfers: held_back.transfers,
    }
}

/// A membership that was seen committed.
pub fn membership(membership: &Membership) -> v1::Membership {
    let voter_sets = membership
        .voter_sets
        .iter()
        .map(|voters| v1::VoterSet { voters: placements(voters) })
        .collect();
    v1::Membership {
        log_position: Some(log_position(membership.log_position)),
        voter_sets,
        learners: placements(&membership.learners),
        committed: true,
    }
}

pub fn node_state(state: NodeState) -> v1::NodeState {
    match state {
        NodeState::Up => v1::NodeState::Up,
        NodeState::Recovering => v1::NodeState::Recovering,
        NodeState::Slow => v1::NodeState::Slow,
        NodeState::Suspect => v1::NodeState::Suspect,
        NodeState::Down => v1::NodeState::Down,
    }
}

pub fn administrative_state(state: Administrative) -> v1::AdministrativeState {
    match state {
        Administrative::Active => v1::AdministrativeState::Active,
        Administrative::Draining { .. } => v1::AdministrativeState::Draining,
        Administrative::Drained => v1::AdministrativeState::Drained,
    }
}

fn operation_state(state: OperationState) -> v1::OperationState {
    match state {
        OperationState::Running => v1::OperationState::Running,
        OperationState::Succeeded => v1::OperationState::Succeeded,
        OperationState::Failed => v1::OperationState::Failed,
        OperationState::Cancelled => v1::OperationState::Cancelled,
    }
}

/// An operation; `progress` says how far it has got.
pub fn operation(id: OperationId, operation: &Operation, progress: Progress) -> v1::Operation {
    let optional_node = |node: Option<NodeId>| node.map_or(0, NodeId::get);
    v1::Operation {
        id: id.get(),
        kind: operation.kind.as_str().to_owned(),
        state: operation_state(operation.state).into(),
        summary: operation.summary(),
        reason: operation.reason.clone(),
        origin: operation.origin.as_str().to_owned(),
        step: progress.step,
        last_error: operation.last_error.clone(),
        progress_percent: progress.percent,
        remaining_ms: progress.remaining_ms,
        partition_id: operation.partition().map_or(0, model::PartitionId::get),
        node_id: optional_node(operation.node()),
        from_node_id: optional_node(operation.from_node()),
        to_node_id: optional_node(operation.to_node()),
        started_zone_time_ms: operation.started_at.get(),
        ended_zone_time_ms: operation.ended_at.map_or(0, model::ZoneTime::get),
        parent_id: operation.parent.map_or(0, OperationId::get),
    }
}

/// How far an operation has got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub step: String,
    pub percent: u32,
    /// 0: no estimate.
    pub remaining_ms: u64,
}

pub fn event(sequence: model::EventSequence, event: &model::event::Event) -> v1::Event {
    v1::Event {
        sequence: sequence.get(),
        zone_time_ms: event.zone_time.get(),
        wall_time_ms: event.wall_time.get(),
        kind: event.kind.as_str().to_owned(),
        message: event.message.clone(),
        reason: event.reason.clone(),
        partition_id: event.partition.map_or(0, model::PartitionId::get),
        node_id: event.node.map_or(0, NodeId::get),
        operation_id: event.operation.map_or(0, OperationId::get),
    }
}

/// The replicas that a client may find leading, and the one that is believed to.
pub fn route(id: model::PartitionId, partition: &Partition) -> v1::PartitionRoute {
    let voters = partition.voters();
    let mut range = range(&partition.range);
    if planted::is_planted(Bug::RangeGap) && !range.start.is_empty() {
        range.start = [&range.start[..], b"\0"].concat().into();
    }
    v1::PartitionRoute {
        partition_id: id.get(),
        range: Some(range),
        range_epoch: partition.range_epoch.get(),
        replicas: placements(&voters),
        leader_node_id: partition.leader.map_or(0, |leader| leader.node.get()),
    }
}

pub fn node_address(id: NodeId, node: &model::node::Node) -> v1::NodeAddress {
    v1::NodeAddress { node_id: id.get(), address: node.address.clone() }
}

/// An order as the addressed node gets it.
pub fn order(order: &Order) -> v1::Order {
    let kind = match &order.kind {
        OrderKind::Ensure { range: of, range_epoch, founders, campaign } => {
            v1::order::Kind::Ensure(v1::EnsureReplica {
                range: Some(range(of)),
                range_epoch: range_epoch.get(),
                founders: placements(founders),
                campaign: *campaign,
            })
        }
        OrderKind::AddLearner { learner } => {
            v1::order::Kind::AddLearner(v1::AddLearner { learner: Some(placement(*learner)) })
        }
        OrderKind::ChangeMembers { voters } => {
            v1::order::Kind::ChangeMembers(v1::ChangeMembers { voters: placements(voters) })
        }
        OrderKind::TransferLeader { to } => {
            v1::order::Kind::TransferLeader(v1::TransferLeader { to_replica_id: to.get() })
        }
        OrderKind::Split { at, child, replicas, range_epoch } => {
            let point = match at {
                SplitPoint::Key(key) => Point::At(Bytes::copy_from_slice(key)),
                SplitPoint::MiddleOfLoad => Point::By(v1::SplitBy::Load.into()),
                SplitPoint::MiddleOfSize => Point::By(v1::SplitBy::Size.into()),
            };
            v1::order::Kind::Split(v1::SplitPartition {
                child_partition_id: child.get(),
                replicas: placements(replicas),
                range_epoch: range_epoch.get(),
                point: Some(point),
            })
        }
        OrderKind::Destroy => v1::order::Kind::Destroy(v1::DestroyReplica {}),
    };
    v1::Order {
        partition_id: order.partition.get(),
        replica_id: order.replica.get(),
        membership_log: order.membership_log.map(log_position),
        kind: Some(kind),
    }
}

pub fn group_replica(group: GroupReplica) -> v1::GroupReplica {
    v1::GroupReplica { partition_id: group.partition.get(), replica_id: group.replica.get() }
}

pub fn take_over_group(group: TakeOverGroup) -> v1::TakeOverGroup {
    let asked = GroupReplica { partition: group.partition, replica: group.replica };
    v1::TakeOverGroup {
        group: Some(group_replica(asked)),
        candidate_replica_id: group.candidate.get(),
        membership_log: group.membership_log.map(log_position),
        elect: group.elect,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::policy::FIELDS;

    use super::*;
    use crate::services::from_wire::POLICY_VERSION;

    #[test]
    fn the_wire_has_the_fields_of_the_policy_and_no_others() {
        let wire = v1::Policy { balance: Some(v1::BalancePolicy::default()), ..Default::default() };
        let on_the_wire: BTreeSet<&str> = wire.values().into_iter().map(|(name, _)| name).collect();
        let in_the_model: BTreeSet<&str> = FIELDS.iter().map(|field| field.name).collect();
        assert_eq!(on_the_wire, &in_the_model | &BTreeSet::from([POLICY_VERSION]));
        for (number, field) in (1..).zip(FIELDS) {
            let mut wire = v1::Policy::default();
            assert!(wire.set_value(field.name, number), "{}", field.name);
            let set: Vec<_> = wire.values().into_iter().filter(|it| it.1.is_some()).collect();
            assert_eq!(set, [(field.name, Some(number))]);
        }
        assert!(!v1::Policy::default().set_value("no_such_field", 1));
    }
}
