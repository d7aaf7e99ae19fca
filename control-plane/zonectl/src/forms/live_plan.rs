//! A plan for the live zone: what `zonectl plan` writes, and `zonectl apply` reads.

use model::fingerprint::fingerprint;
use proto::v1;
use serde::{Deserialize, Serialize};

use super::some_id;

/// The version of the form of a plan.
pub const PLAN_VERSION: u32 = 1;

/// A plan. Shares are of the mean utilisation: 1 is even.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LivePlanForm {
    /// [`PLAN_VERSION`].
    pub version: u32,
    pub zone_id: String,
    /// The zone's revision that it was made from.
    pub revision: u64,
    /// Load says where things belong; otherwise their numbers do.
    #[serde(default)]
    pub by_load: bool,
    #[serde(default)]
    pub worst_share_before: f64,
    #[serde(default)]
    pub worst_share_after: f64,
    pub steps: Vec<PlanStepForm>,
    #[serde(default)]
    pub nodes: Vec<PlanOutlookForm>,
    /// Why nodes stay above their share.
    #[serde(default)]
    pub obstacles: Vec<PlanObstacleForm>,
    /// Why the plan does not do all, or cannot be applied now.
    #[serde(default)]
    pub held_back: Vec<String>,
    /// Changes that would help and do not fit now.
    #[serde(default)]
    pub left_out: u32,
    #[serde(default)]
    pub evaluations: u64,
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub effort: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanChange {
    TransferLeader,
    MoveReplica,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanStepForm {
    pub partition_id: u64,
    pub change: PlanChange,
    pub from_node_id: u64,
    pub to_node_id: u64,
    /// The replica that moves; null for a transfer.
    pub replica_id: Option<u64>,
    /// What it is conditional on: who leads, and the partition's target replicas.
    pub leader_node_id: u64,
    pub target_replica_ids: Vec<u64>,
    /// The partition that goes the other way.
    pub exchanged_with_partition_id: Option<u64>,
    pub reason: String,
    #[serde(default)]
    pub effect: PlanEffectForm,
}

/// The shares of a step's nodes before and after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanEffectForm {
    pub goal: String,
    /// Shares of what.
    pub dimension: String,
    pub from_before: f64,
    pub from_after: f64,
    pub to_before: f64,
    pub to_after: f64,
    /// Bytes that are copied.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanOutlookForm {
    pub node_id: u64,
    pub name: String,
    pub share_before: f64,
    pub share_after: f64,
    pub leaders_before: u32,
    pub leaders_after: u32,
    pub replicas_before: u32,
    pub replicas_after: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanObstacleForm {
    pub node_id: u64,
    pub partition_id: Option<u64>,
    pub hindrance: String,
}

/// `zonectl apply`.
#[derive(Clone, Debug, Serialize)]
pub struct AppliedForm {
    pub zone_id: String,
    /// One for each step.
    pub operation_ids: Vec<u64>,
}

/// `zonectl rebalance`.
#[derive(Clone, Debug, Serialize)]
pub struct RebalanceForm {
    pub dry_run: bool,
    pub transfers: Vec<TransferForm>,
    pub moves: Vec<MoveForm>,
    /// Leaders of each node, before and after.
    pub counts: Vec<LeaderCountForm>,
    /// One operation for each step; empty with a dry run.
    pub operation_ids: Vec<u64>,
    /// Nodes that are up and active, but hold no replica and so cannot lead anything.
    pub empty_nodes: Vec<u64>,
    pub plan: LivePlanForm,
}

#[derive(Clone, Debug, Serialize)]
pub struct TransferForm {
    pub partition_id: u64,
    pub from_node_id: u64,
    pub to_node_id: u64,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct MoveForm {
    pub partition_id: u64,
    pub replica_id: Option<u64>,
    pub from_node_id: u64,
    pub to_node_id: u64,
    pub bytes: u64,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct LeaderCountForm {
    pub node_id: u64,
    pub before: u32,
    pub after: u32,
}

impl LivePlanForm {
    pub fn steps_of(&self, change: PlanChange) -> impl Iterator<Item = &PlanStepForm> {
        self.steps.iter().filter(move |step| step.change == change)
    }

    /// A node's name; its id if it has none that is known.
    pub fn name_of(&self, node: u64) -> String {
        let known = self.nodes.iter().find(|outlook| outlook.node_id == node);
        known.map_or_else(|| node.to_string(), |outlook| outlook.name.clone())
    }

    /// What asks for exactly this plan. Asked twice it is the same request.
    pub fn request(&self) -> v1::ApplyPlanRequest {
        v1::ApplyPlanRequest {
            zone_id: self.zone_id.clone(),
            steps: self.steps.iter().map(PlanStepForm::to_wire).collect(),
            idempotency_key: self.key(),
        }
    }

    /// The same for the same plan. The revision tells it from one that asks for the same at another time.
    fn key(&self) -> String {
        let steps = self.steps.iter().map(PlanStepForm::to_wire);
        let text = format!("{} {} {:?}", self.zone_id, self.revision, steps.collect::<Vec<_>>());
        format!("plan-{}-{:016x}", self.revision, fingerprint(text.bytes()))
    }
}

impl PlanStepForm {
    fn to_wire(&self) -> v1::PlanStep {
        let (from_node_id, to_node_id) = (self.from_node_id, self.to_node_id);
        let change = match self.change {
            PlanChange::TransferLeader => {
                let transfer = v1::PlannedTransfer { from_node_id, to_node_id };
                v1::plan_step::Change::Transfer(transfer)
            }
            PlanChange::MoveReplica => {
                let replica_id = self.replica_id.unwrap_or(0);
                let moved = v1::PlannedMove { replica_id, from_node_id, to_node_id };
                v1::plan_step::Change::Move(moved)
            }
        };
        v1::PlanStep {
            partition_id: self.partition_id,
            target_replica_ids: self.target_replica_ids.clone(),
            leader_node_id: self.leader_node_id,
            change: Some(change),
            reason: self.reason.clone(),
            exchanged_with_partition_id: self.exchanged_with_partition_id.unwrap_or(0),
            effect: None,
        }
    }

    /// None: the zone is newer than this program.
    fn of(step: v1::PlanStep) -> Option<Self> {
        let (change, replica, from_node_id, to_node_id) = match step.change? {
            v1::plan_step::Change::Transfer(it) => {
                (PlanChange::TransferLeader, None, it.from_node_id, it.to_node_id)
            }
            v1::plan_step::Change::Move(it) => {
                (PlanChange::MoveReplica, Some(it.replica_id), it.from_node_id, it.to_node_id)
            }
        };
        let effect = step.effect.unwrap_or_default();
        Some(Self {
            partition_id: step.partition_id,
            change,
            from_node_id,
            to_node_id,
            replica_id: replica,
            leader_node_id: step.leader_node_id,
            target_replica_ids: step.target_replica_ids,
            exchanged_with_partition_id: some_id(step.exchanged_with_partition_id),
            reason: step.reason,
            effect: PlanEffectForm {
                goal: effect.goal,
                dimension: effect.dimension,
                from_before: effect.from_before,
                from_after: effect.from_after,
                to_before: effect.to_before,
                to_after: effect.to_after,
                bytes: effect.bytes,
            },
        })
    }
}

impl TryFrom<v1::BalancePlan> for LivePlanForm {
    type Error = String;

    fn try_from(plan: v1::BalancePlan) -> Result<Self, String> {
        let outlook = |node: v1::NodeOutlook| PlanOutlookForm {
            node_id: node.node_id,
            name: node.name,
            share_before: node.share_before,
            share_after: node.share_after,
            leaders_before: node.leaders_before,
            leaders_after: node.leaders_after,
            replicas_before: node.replicas_before,
            replicas_after: node.replicas_after,
        };
        let obstacle = |it: v1::BalanceObstacle| PlanObstacleForm {
            node_id: it.node_id,
            partition_id: some_id(it.partition_id),
            hindrance: it.hindrance,
        };
        let steps: Option<Vec<PlanStepForm>> =
            plan.steps.into_iter().map(PlanStepForm::of).collect();
        let steps = steps.ok_or(
            "the zone plans a change that this zonectl does not know: use the zone's version",
        )?;
        Ok(Self {
            version: PLAN_VERSION,
            zone_id: plan.zone_id,
            revision: plan.revision,
            by_load: plan.by_load,
            worst_share_before: plan.worst_share_before,
            worst_share_after: plan.worst_share_after,
            steps,
            nodes: plan.nodes.into_iter().map(outlook).collect(),
            obstacles: plan.obstacles.into_iter().map(obstacle).collect(),
            held_back: plan.held_back,
            left_out: plan.left_out,
            evaluations: plan.evaluations,
            seed: plan.seed,
            effort: plan.effort,
        })
    }
}

impl RebalanceForm {
    /// `nodes` are all nodes of the zone.
    pub fn new(
        dry_run: bool,
        plan: LivePlanForm,
        operation_ids: Vec<u64>,
        nodes: &[v1::NodeSummary],
    ) -> Self {
        let is_empty = |node: &&v1::NodeSummary| {
            node.replicas == 0
                && node.state() == v1::NodeState::Up
                && node.administrative_state() == v1::AdministrativeState::Active
        };
        let transfer = |step: &PlanStepForm| TransferForm {
            partition_id: step.partition_id,
            from_node_id: step.from_node_id,
            to_node_id: step.to_node_id,
            reason: step.reason.clone(),
        };
        let moved = |step: &PlanStepForm| MoveForm {
            partition_id: step.partition_id,
            replica_id: step.replica_id,
            from_node_id: step.from_node_id,
            to_node_id: step.to_node_id,
            bytes: step.effect.bytes,
            reason: step.reason.clone(),
        };
        let count = |node: &PlanOutlookForm| LeaderCountForm {
            node_id: node.node_id,
            before: node.leaders_before,
            after: node.leaders_after,
        };
        Self {
            dry_run,
            transfers: plan.steps_of(PlanChange::TransferLeader).map(transfer).collect(),
            moves: plan.steps_of(PlanChange::MoveReplica).map(moved).collect(),
            counts: plan.nodes.iter().map(count).collect(),
            operation_ids,
            empty_nodes: nodes.iter().filter(is_empty).map(|node| node.id).collect(),
            plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(partition_id: u64) -> v1::PlanStep {
        let transfer = v1::PlannedTransfer { from_node_id: 1, to_node_id: 2 };
        v1::PlanStep {
            partition_id,
            target_replica_ids: vec![1, 2, 3],
            leader_node_id: 1,
            change: Some(v1::plan_step::Change::Transfer(transfer)),
            reason: "even".into(),
            ..v1::PlanStep::default()
        }
    }

    #[test]
    fn a_plan_survives_its_file_and_keeps_its_key() {
        let (transfer, mut moved) = (step(7), step(8));
        let replica = v1::PlannedMove { replica_id: 2, from_node_id: 1, to_node_id: 4 };
        moved.change = Some(v1::plan_step::Change::Move(replica));
        moved.exchanged_with_partition_id = 7;
        let steps = vec![transfer, moved];
        let zone_id = "z".to_owned();
        let sent = v1::BalancePlan { zone_id, revision: 9, steps, ..v1::BalancePlan::default() };
        let plan = LivePlanForm::try_from(sent.clone()).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        let read: LivePlanForm = serde_json::from_str(&text).unwrap();
        assert_eq!(read, plan);
        let request = read.request();
        assert_eq!(request.steps, sent.steps);
        assert_eq!(request, plan.request());
        assert!(request.idempotency_key.len() <= 64);
        for other in [
            LivePlanForm { revision: 10, ..plan.clone() },
            LivePlanForm { steps: vec![plan.steps[0].clone()], ..plan.clone() },
        ] {
            assert_ne!(other.request().idempotency_key, request.idempotency_key);
        }
    }

    #[test]
    fn what_is_only_for_people_may_be_left_out_of_a_plans_file() {
        let plan = r#"{"version": 1, "zone_id": "z", "revision": 3, "steps": [{"partition_id": 1,
            "change": "move-replica", "from_node_id": 1, "to_node_id": 2, "replica_id": 5,
            "leader_node_id": 1, "target_replica_ids": [5, 6, 7],
            "exchanged_with_partition_id": null, "reason": ""}]}"#;
        let plan: LivePlanForm = serde_json::from_str(plan).unwrap();
        assert_eq!(plan.steps_of(PlanChange::MoveReplica).count(), 1);
        assert_eq!(plan.name_of(2), "2");
    }
}
