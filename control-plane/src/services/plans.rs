//! Plans for the live zone: made, shown, and taken back from those who want them.

use model::{
    Action, NodeId, PartitionId, Refusal, ReplicaId, ZoneState,
    apply::{CHANGES_NAMED_MAX, check_plan_form},
    balance::{End, Goal, NodeOutlook},
    balancer::{DRAFT_EFFORT_DEFAULT, DRAFT_EFFORT_MAX, DRAFT_SEED_DEFAULT, Draft, DraftStep},
    command::{PlannedChange, PlannedStep},
    repair,
};
use proto::v1::{self, plan_step::Change};
use tonic::Status;

use super::{from_wire::Malformed, heat, refusal};
use crate::leader::Reign;

/// A plan for the zone as it is now.
///
/// # Errors
/// If it is asked for too much, or there is nothing to plan from yet.
pub async fn plan(
    reign: &Reign,
    request: v1::PlanBalanceRequest,
) -> Result<v1::BalancePlan, Status> {
    let v1::PlanBalanceRequest { seed, effort } = request;
    if effort > DRAFT_EFFORT_MAX {
        let message = format!("effort is {effort}: it must be at most {DRAFT_EFFORT_MAX}");
        return Err(Status::invalid_argument(message));
    }
    let seed = if seed == 0 { DRAFT_SEED_DEFAULT } else { seed };
    let effort = if effort == 0 { DRAFT_EFFORT_DEFAULT } else { effort };
    let _turn = reign.turn_to_plan().await;
    let balancer = reign.balancer().await;
    let request = reign.sighted(|sight| balancer.request_draft(sight, seed, effort));
    let request = request.map_err(|not_ready| Status::unavailable(not_ready.to_string()))?;
    // No lock is held for the zone meanwhile: heartbeats would wait for it.
    let plan = balancer.plan_draft(&request);
    Ok(reign.sighted(|sight| to_wire(sight.state, &balancer.finish_draft(sight, &request, &plan))))
}

fn to_wire(state: &ZoneState, draft: &Draft) -> v1::BalancePlan {
    let name = |id: NodeId| state.node(id).map_or_else(String::new, |node| node.name.clone());
    let outlook = |it: &NodeOutlook| v1::NodeOutlook {
        node_id: it.node.get(),
        name: name(it.node),
        share_before: share(it.before.share_permille.into(), 1_000.0),
        share_after: share(it.after.share_permille.into(), 1_000.0),
        leaders_before: it.before.leaders,
        leaders_after: it.after.leaders,
        replicas_before: it.before.replicas,
        replicas_after: it.after.replicas,
    };
    let mut nodes: Vec<v1::NodeOutlook> = draft.nodes.iter().map(outlook).collect();
    nodes.sort_unstable_by_key(|node| node.node_id);
    v1::BalancePlan {
        zone_id: state.zone_id().map_or_else(String::new, |id| id.to_string()),
        revision: state.revision().get(),
        steps: draft.steps.iter().map(step_to_wire).collect(),
        worst_share_before: share(draft.before.worst_share_ppm, 1e6),
        worst_share_after: share(draft.after.worst_share_ppm, 1e6),
        nodes,
        obstacles: draft.obstacles.iter().map(heat::obstacle).collect(),
        held_back: draft.held_back.clone(),
        left_out: u32::try_from(draft.left_out).unwrap_or(u32::MAX),
        by_load: draft.is_by_load,
        evaluations: draft.evaluations,
        seed: draft.seed,
        effort: draft.effort,
    }
}

fn share(parts: u64, whole: f64) -> f64 {
    parts as f64 / whole
}

fn step_to_wire(planned: &DraftStep) -> v1::PlanStep {
    let DraftStep { step, goal, from, to, column, bytes } = planned;
    let change = match step.change {
        PlannedChange::TransferLeader { from, to } => {
            Change::Transfer(v1::PlannedTransfer { from_node_id: from.get(), to_node_id: to.get() })
        }
        PlannedChange::MoveReplica { replica, from, to } => Change::Move(v1::PlannedMove {
            replica_id: replica.get(),
            from_node_id: from.get(),
            to_node_id: to.get(),
        }),
    };
    let goal = match goal {
        Goal::Safety => "safety",
        Goal::Overload => "overload",
        Goal::Balance => "balance",
        Goal::Counts => "counts",
    };
    let course = |end: &End| {
        let permille = |part: u32| share(part.into(), 1_000.0);
        (permille(end.before_permille), permille(end.after_permille))
    };
    let ((from_before, from_after), (to_before, to_after)) = (course(from), course(to));
    v1::PlanStep {
        partition_id: step.partition.get(),
        target_replica_ids: step.targets.iter().map(|replica| replica.get()).collect(),
        leader_node_id: step.leader.get(),
        change: Some(change),
        reason: step.reason.clone(),
        exchanged_with_partition_id: step.exchanged_with.map_or(0, PartitionId::get),
        effect: Some(v1::PlanEffect {
            goal: goal.to_owned(),
            dimension: (*column).to_owned(),
            from_before,
            from_after,
            to_before,
            to_after,
            bytes: *bytes,
        }),
    }
}

/// What a plan asks for, if it can be one for this zone. Before it goes into the log: there is no limit to what a
/// caller may send.
///
/// # Errors
/// If it is none, or sessions say that a node has no room for it.
pub fn action(reign: &Reign, request: v1::ApplyPlanRequest) -> Result<Action, Status> {
    let steps = request.steps.into_iter().map(step_from_wire);
    let steps = steps.collect::<Result<Vec<PlannedStep>, Malformed>>()?;
    check_plan_form(&steps).map_err(|refused| refusal::status(&refused))?;
    reign.zone().read(|state| {
        check_zone(state, &request.zone_id)?;
        check_room(reign, state, &steps)
    })?;
    Ok(Action::ApplyPlan { steps })
}

fn check_zone(state: &ZoneState, given: &str) -> Result<(), Status> {
    let Some(zone_id) = state.zone_id() else {
        return Err(refusal::status(&Refusal::NotInitialized));
    };
    if uuid::Uuid::try_parse(given) == Ok(zone_id) {
        return Ok(());
    }
    if given.is_empty() {
        let expected = "give the id of the zone that the plan was made for";
        return Err(Malformed::new("zone_id", "empty", expected).into());
    }
    Err(Status::failed_precondition(format!(
        "the plan was made for zone {given:?}, and this is zone {zone_id}: apply it there, or plan here; nothing was \
         begun"
    )))
}

/// How much room there is, only the sessions tell.
fn check_room(reign: &Reign, state: &ZoneState, steps: &[PlannedStep]) -> Result<(), Status> {
    let view = reign.view();
    let refused = steps.iter().filter_map(|step| match step.change {
        // What is not there is for the model to name.
        PlannedChange::MoveReplica { to, .. } if state.node(to).is_some() => {
            let room = repair::check_room(state, &view, step.partition, to);
            room.err().map(|refused| (step.partition, refused.to_string()))
        }
        PlannedChange::MoveReplica { .. } | PlannedChange::TransferLeader { .. } => None,
    });
    let mut changed: Vec<(PartitionId, String)> = refused.collect();
    if changed.is_empty() {
        return Ok(());
    }
    let more = u64::try_from(changed.len().saturating_sub(CHANGES_NAMED_MAX)).unwrap_or(u64::MAX);
    changed.truncate(CHANGES_NAMED_MAX);
    Err(refusal::status(&Refusal::PlanChanged { changed, more }))
}

fn step_from_wire(step: v1::PlanStep) -> Result<PlannedStep, Malformed> {
    let known = |field: &'static str, id: u64| {
        if id == 0 { Err(Malformed::new(field, 0, "ids start at 1")) } else { Ok(id) }
    };
    let node = |field, id| known(field, id).map(NodeId);
    let change = match step.change {
        Some(Change::Transfer(transfer)) => PlannedChange::TransferLeader {
            from: node("transfer.from_node_id", transfer.from_node_id)?,
            to: node("transfer.to_node_id", transfer.to_node_id)?,
        },
        Some(Change::Move(moved)) => PlannedChange::MoveReplica {
            replica: ReplicaId(known("move.replica_id", moved.replica_id)?),
            from: node("move.from_node_id", moved.from_node_id)?,
            to: node("move.to_node_id", moved.to_node_id)?,
        },
        None => {
            let expected = "each step is a transfer or a move";
            return Err(Malformed::new("change", "absent", expected));
        }
    };
    let targets = step.target_replica_ids.into_iter();
    let targets = targets.map(|id| known("target_replica_ids", id).map(ReplicaId));
    let other = step.exchanged_with_partition_id;
    Ok(PlannedStep {
        partition: PartitionId(known("partition_id", step.partition_id)?),
        targets: targets.collect::<Result<_, Malformed>>()?,
        leader: node("leader_node_id", step.leader_node_id)?,
        change,
        reason: step.reason,
        exchanged_with: (other != 0).then_some(PartitionId(other)),
    })
}
