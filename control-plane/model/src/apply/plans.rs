//! Plans that an operator was shown, and now wants: all of it, or nothing.
//!
//! Each step says what of its partition it is conditional on. So nobody gets what he was not shown: where the zone
//! is another by now, nothing is begun, and the refusal names what has changed.

use std::collections::BTreeSet;

use super::{Applier, ChangesInFlight};
use crate::{
    balance::REPLICAS_MAX,
    command::{PlannedChange, PlannedStep},
    ids::{NodeId, OperationId, PartitionId},
    node::NodeState,
    operation::{OperationKind, Origin, ReplicaChange},
    outcome::{Applied, Outcome, Refusal},
    partition::{Partition, Replica},
    state::ZoneState,
};

/// Steps of one plan.
pub const STEPS_MAX: usize = 1_000;
/// Bytes of the reason for one step.
pub const REASON_BYTES_MAX: usize = 1_024;
/// Partitions that a refusal names.
pub const CHANGES_NAMED_MAX: usize = 16;

/// Whether the steps could be a plan at all, whatever the zone is like.
pub fn check_plan_form(steps: &[PlannedStep]) -> Result<(), Refusal> {
    let wrong = |what: String| Err(Refusal::InvalidPlan(what));
    let count = steps.len();
    if count > STEPS_MAX {
        return wrong(format!("it has {count} steps, and at most {STEPS_MAX} are taken at once"));
    }
    let mut partitions = BTreeSet::new();
    for step in steps {
        check_step_form(step)?;
        if !partitions.insert(step.partition) {
            let partition = step.partition;
            return wrong(format!("partition {partition} is in it twice: give each one step"));
        }
    }
    for step in steps {
        let (partition, other) = (step.partition, step.exchanged_with);
        if let Some(other) = other.filter(|other| !partitions.contains(other)) {
            return wrong(format!(
                "partition {partition} is exchanged for partition {other}, which is not in it: give both, or neither"
            ));
        }
    }
    Ok(())
}

fn check_step_form(step: &PlannedStep) -> Result<(), Refusal> {
    let partition = step.partition;
    let wrong = |what: String| {
        Err(Refusal::InvalidPlan(format!("the step of partition {partition} {what}")))
    };
    let targets = &step.targets;
    let is_ordered = targets.windows(2).all(|pair| pair[0] < pair[1]);
    if targets.is_empty() || targets.len() > REPLICAS_MAX || !is_ordered {
        return wrong(format!(
            "is conditional on {} replicas: give the ids of its 1 to {REPLICAS_MAX} target replicas, rising",
            targets.len()
        ));
    }
    let bytes = step.reason.len();
    if bytes > REASON_BYTES_MAX {
        return wrong(format!("has a reason of {bytes} bytes: at most {REASON_BYTES_MAX}"));
    }
    if step.reason.chars().any(char::is_control) {
        return wrong("has a reason with control characters: give plain text".into());
    }
    if step.change.from() == step.change.to() {
        return wrong(format!("goes from node {0} to node {0}: give two nodes", step.change.to()));
    }
    if step.exchanged_with == Some(partition) {
        return wrong("is exchanged for itself: give another partition".into());
    }
    match step.change {
        PlannedChange::TransferLeader { from, .. } if from != step.leader => wrong(format!(
            "takes the leadership from node {from}, and is conditional on node {} leading: give one node",
            step.leader
        )),
        PlannedChange::MoveReplica { replica, .. } if !targets.contains(&replica) => {
            wrong(format!(
                "moves replica {replica}, which is none of the replicas that it is conditional on: give one of them"
            ))
        }
        PlannedChange::TransferLeader { .. } | PlannedChange::MoveReplica { .. } => Ok(()),
    }
}

/// What a plan may still begin.
#[derive(Clone, Debug)]
pub(crate) struct PlanBudget {
    changes: ChangesInFlight,
    /// As many as ran before the plan.
    transfers_running: u32,
    transfers_planned: u32,
    before: ChangesInFlight,
}

impl PlanBudget {
    pub fn of(state: &ZoneState) -> Self {
        let changes = state.changes_in_flight();
        Self {
            before: changes.clone(),
            changes,
            transfers_running: state.transfers_in_flight(),
            transfers_planned: 0,
        }
    }

    /// Counts a step, whether it fits or not.
    fn spend(&mut self, step: &PlannedStep) {
        match step.change {
            PlannedChange::TransferLeader { .. } => self.transfers_planned += 1,
            PlannedChange::MoveReplica { from, to, .. } => {
                self.changes.zone += 1;
                for node in [from, to] {
                    *self.changes.nodes.entry(node).or_default() += 1;
                }
            }
        }
    }

    /// Whether all that was counted fits.
    fn check(&self, state: &ZoneState) -> Result<(), Refusal> {
        let Some(policy) = state.policy() else { return Err(Refusal::NotInitialized) };
        let over = |what: String, planned: u32, running: u32, max: u32| {
            if planned == 0 || planned.saturating_add(running) <= max {
                return Ok(());
            }
            Err(Refusal::PlanOverBudget { what, planned, running, max })
        };
        let (planned, running) = (self.transfers_planned, self.transfers_running);
        over("transfers of leadership".into(), planned, running, policy.transfers_in_flight_max)?;
        let (before, changes) = (&self.before, &self.changes);
        over(
            "moves of replicas in the zone".into(),
            changes.zone - before.zone,
            before.zone,
            policy.changes_in_flight_zone_max,
        )?;
        for (node, count) in &changes.nodes {
            // Nothing is read from a node that is down.
            if state.node(*node).is_none_or(|node| node.liveness.state == NodeState::Down) {
                continue;
            }
            let running = before.nodes.get(node).copied().unwrap_or(0);
            over(
                format!("moves of replicas to or from node {node}"),
                count - running,
                running,
                policy.changes_in_flight_node_max,
            )?;
        }
        Ok(())
    }

    /// Takes a step in if it fits beside those before it.
    pub fn take(&mut self, state: &ZoneState, step: &PlannedStep) -> Result<(), Refusal> {
        let mut with = self.clone();
        with.spend(step);
        with.check(state)?;
        *self = with;
        Ok(())
    }
}

impl ZoneState {
    /// Whether the partition still is as the step wants it, and the step can be done; the replica that leads or
    /// leaves by it.
    pub(crate) fn check_step(&self, step: &PlannedStep) -> Result<Replica, String> {
        let id = step.partition;
        let partition = self.partition(id).ok_or("it does not exist")?;
        let now = partition.targets.iter().map(|target| target.id);
        if !now.clone().eq(step.targets.iter().copied()) {
            let (now, then) = (list(now), list(step.targets.iter()));
            return Err(format!("its replicas are {now} by now, and were {then}"));
        }
        let (leader, planned) = (partition.leader.map(|leader| leader.node), step.leader);
        match leader {
            Some(leader) if leader == planned => {}
            Some(leader) => {
                return Err(format!("node {leader} leads it by now, and node {planned} did"));
            }
            None => return Err(format!("nobody is known to lead it, and node {planned} did")),
        }
        let checked = match step.change {
            PlannedChange::TransferLeader { to, .. } => self.check_transfer(id, partition, to),
            PlannedChange::MoveReplica { replica, from, to } => {
                let source = partition.target(replica).filter(|source| source.node == from);
                let source = source.ok_or(format!("replica {replica} is not on node {from}"))?;
                self.check_planned_move(id, partition, source, to)
            }
        };
        checked.map_err(|refusal| refusal.to_string())
    }

    fn check_planned_move(
        &self,
        id: PartitionId,
        partition: &Partition,
        source: Replica,
        to: NodeId,
    ) -> Result<Replica, Refusal> {
        self.check_addition(id, partition, to)?;
        self.check_free(id, partition)?;
        if !partition.is_settled() {
            return Err(Refusal::NotSettled { partition: id });
        }
        self.check_fault_domains(id, partition, source, to)?;
        Ok(source)
    }

    /// Each step's replica that leads or leaves by it, if all steps can be done.
    fn check_plan(&self, steps: &[PlannedStep]) -> Result<Vec<Replica>, Refusal> {
        let (mut replicas, mut changed, mut more) = (Vec::new(), Vec::new(), 0);
        let mut budget = PlanBudget::of(self);
        for step in steps {
            budget.spend(step);
            match self.check_step(step) {
                Ok(replica) => replicas.push(replica),
                Err(how) if changed.len() < CHANGES_NAMED_MAX => {
                    changed.push((step.partition, how))
                }
                Err(_) => more += 1,
            }
        }
        if !changed.is_empty() {
            return Err(Refusal::PlanChanged { changed, more });
        }
        budget.check(self)?;
        Ok(replicas)
    }
}

impl Applier<'_> {
    /// All steps, or none.
    pub(super) fn apply_plan(&mut self, steps: &[PlannedStep]) -> Outcome {
        check_plan_form(steps)?;
        self.check_brake()?;
        let replicas = self.state.check_plan(steps)?;
        let begun =
            steps.iter().zip(replicas).map(|(step, replica)| self.begin_step(step, replica));
        Ok(Applied::Operations(begun.collect()))
    }

    fn begin_step(&mut self, step: &PlannedStep, replica: Replica) -> OperationId {
        let (partition, reason) = (step.partition, step.reason.clone());
        match step.change {
            PlannedChange::TransferLeader { from, .. } => {
                self.begin_transfer(partition, Some(from), replica, Origin::Operator, reason, None)
            }
            PlannedChange::MoveReplica { to, .. } => {
                let add = Some(Replica { id: self.added_replica(), node: to });
                let change = ReplicaChange { partition, remove: Some(replica), add };
                let kind = OperationKind::MoveReplica(change);
                self.begin_change(kind, change, Origin::Operator, reason, None)
            }
        }
    }
}

fn list(ids: impl Iterator<Item = impl ToString>) -> String {
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    if ids.is_empty() { "none".into() } else { ids.join(", ") }
}
