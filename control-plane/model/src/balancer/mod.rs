//! Balancing the live zone by heat: a picture of it for the planner, and the planner's proposals as actions.
//!
//! Start reading at [`Balancer::round`]. It carries the picture on, a bounded number of partitions at a time, so
//! that a zone of any size costs each round the same, and now and then plans from it. Planning itself needs nothing of
//! the zone, so that whoever holds locks for the rest can let go of them meanwhile.
//!
//! An operator who asks gets a [`Draft`]: what a plan would bring now, from the same picture, with nothing of it
//! remembered.
//!
//! What the picture says may be old by a walk over all partitions. So each proposal is held against the zone as it
//! is before it becomes an action, and again when the action is applied.
//!
//! Deliberately not here: what restores safety (see [`crate::repair`], [`crate::drain`]), and even numbers of
//! leaders where there is no load to go by (see [`crate::leaders`]).

mod departures;
mod draft;
mod memory;
mod own_time;
mod picture;
mod proposals;
mod report;
mod shadow;

use std::time::Duration;

use crate::{
    balance::{BalancePlan, BalancePolicy, Change, Goal, Memory},
    command::Action,
    heat::ZoneHeat,
    ids::{ZoneTime, millis},
    node::{Administrative, NodeState},
    observation::ZoneView,
    operation::{OperationKind, Origin},
    state::ZoneState,
};

use departures::Departures;
use picture::Picture;
use shadow::Shadow;

pub use draft::{
    DRAFT_EFFORT_DEFAULT, DRAFT_EFFORT_MAX, DRAFT_SEED_DEFAULT, Draft, DraftRequest, DraftStep,
    NotReady,
};
pub use report::BalanceReport;
pub use shadow::{Comparison, Proposed};

/// Partitions that one round looks at.
pub const PARTITIONS_PER_ROUND_MAX: usize = 5_000;
/// The least time between two plans.
const PLAN_INTERVAL: Duration = Duration::from_secs(1);
/// Changes that one plan weighs: some tens of milliseconds. What is left is for the next.
const EFFORT: u64 = 1_000_000;
/// Which of equally good nodes is taken: always the same, so that a plan can be made again.
const SEED: u64 = 1;
/// How long after its changes have ended a plan's promise is held against what has come of it: averages of load
/// take so long to follow.
const JUDGED_AFTER_MS: u64 = 30_000;

/// The zone as the balancer is shown it.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    pub state: &'a ZoneState,
    pub view: &'a ZoneView,
    pub heat: &'a ZoneHeat,
    /// The leader's monotonic time.
    pub now: Duration,
}

/// What a plan said that it would bring.
#[derive(Clone, Copy, Debug)]
struct Promise {
    /// The greatest share before, and the one that was promised, in millionths of the mean.
    before_ppm: u64,
    promised_ppm: u64,
    /// Since when nothing of it runs any more.
    ended_at: Option<ZoneTime>,
}

/// Balances one zone as long as one leader leads.
#[derive(Debug, Default)]
pub struct Balancer {
    /// The zone's, when it was looked last.
    policy: BalancePolicy,
    picture: Picture,
    planned_at: Option<Duration>,
    /// All nodes that are to take part did, when it was looked last.
    is_whole: bool,
    /// Something was being moved for load then.
    is_moving: bool,
    promise: Option<Promise>,
    report: Option<BalanceReport>,
    shadow: Option<Shadow>,
}

impl Balancer {
    /// All of a round: looks, and if it is time, plans and proposes.
    pub fn round(&mut self, sight: &Sight<'_>) -> Vec<Action> {
        if !self.look(sight) {
            return Vec::new();
        }
        let Some(plan) = self.plan() else { return Vec::new() };
        self.propose(sight, &plan)
    }

    /// Looks at the next partitions; whether it is time for a plan.
    pub fn look(&mut self, sight: &Sight<'_>) -> bool {
        if !sight.state.is_initialized() {
            return false;
        }
        if self.policy != *sight.state.balance_policy() {
            self.policy = sight.state.balance_policy().clone();
            // What the policy before found not worth doing, this one may.
            let memory = self.picture.planner().memory().clone().without_rest();
            self.picture.apply(Change::Memory { memory });
        }
        match sight.state.shadow_policy() {
            None => self.shadow = None,
            Some(policy) if self.shadow.as_ref().is_some_and(|it| it.is_of(policy)) => {}
            Some(policy) => self.shadow = Some(Shadow::new(policy.clone())),
        }
        if self.report.is_none() {
            let memory = sight.state.balance_memory().cloned().unwrap_or_default();
            self.picture.apply(Change::Memory { memory });
        }
        self.picture.pass_time(sight);
        let departures = Departures::of(sight.state, &self.policy, self.picture.own_time());
        self.picture.look(sight, &departures, PARTITIONS_PER_ROUND_MAX);
        let is_due = self
            .planned_at
            .is_none_or(|planned_at| sight.now.saturating_sub(planned_at) >= PLAN_INTERVAL);
        if !is_due || !self.picture.is_fresh() {
            return false;
        }
        self.planned_at = Some(sight.now);
        self.picture.begin_walk();
        self.is_whole = is_whole(sight.state);
        let mut running = sight.state.running_operations();
        self.is_moving = running.any(|(_, operation)| operation.origin == Origin::Heat);
        // The picture is kept fresh all the same: an operator may ask for a plan.
        may_balance(sight)
    }

    /// Plans from what was looked at. This may take some tens of milliseconds, and needs nothing of the zone.
    pub fn plan(&mut self) -> Option<BalancePlan> {
        let memory = self.judged();
        self.picture.apply(Change::Memory { memory });
        let planner = self.picture.planner();
        let plan = if self.is_whole {
            planner.plan(&self.policy, SEED, EFFORT)
        } else {
            planner.plan_relief(&self.policy, SEED, EFFORT)
        };
        let plan = plan.ok()?;
        self.plan_in_the_shadow(&plan);
        self.picture.apply(Change::Memory { memory: plan.memory.clone() });
        let is_for_evenness = plan.actions.iter().any(|action| action.goal == Goal::Balance);
        if is_for_evenness && self.promise.is_none() {
            let before_ppm = plan.before.worst_share_ppm;
            let promised_ppm = before_ppm.saturating_sub(plan.after.worst_share_ppm);
            self.promise = Some(Promise { before_ppm, promised_ppm, ended_at: None });
        }
        Some(plan)
    }

    /// Plans by the shadow policy from the same picture, for the comparison alone.
    fn plan_in_the_shadow(&mut self, active: &BalancePlan) {
        let Some(shadow) = &mut self.shadow else { return };
        let memory = self.picture.planner().memory().clone();
        self.picture.apply(Change::Memory { memory: shadow.memory.clone() });
        let planned = self.picture.planner().plan_measured_by(
            &self.policy,
            shadow.policy(),
            SEED,
            EFFORT,
            self.is_whole,
        );
        self.picture.apply(Change::Memory { memory });
        if let Ok((plan, worst_share_ppm)) = planned {
            shadow.compare(self.picture.own_time().committed(), active, &plan, worst_share_ppm);
        }
    }

    /// How the shadow policy does; none without one, and before its first plan.
    pub fn comparison(&self) -> Option<&Comparison> {
        self.shadow.as_ref()?.comparison()
    }

    /// What can be done of a plan now.
    pub fn propose(&mut self, sight: &Sight<'_>, plan: &BalancePlan) -> Vec<Action> {
        let departures = Departures::of(sight.state, &self.policy, self.picture.own_time());
        let proposals = proposals::of(sight, plan, &self.picture, &departures, &self.policy);
        let report = BalanceReport::of(plan, &proposals, self.picture.time(), &self.policy);
        self.report = Some(report.after(self.report.as_ref()));
        let memory = plan.memory.clone().lasting();
        let known = sight.state.balance_memory().cloned().unwrap_or_default();
        let note = (known != memory).then_some(Action::RememberBalance { memory });
        proposals.into_actions().into_iter().chain(note).collect()
    }

    /// Whether leaders are where load wants them, so that even numbers of them are no goal: there is load, or there
    /// was a while ago, or it is not known yet.
    pub fn leads_by_heat(&self, state: &ZoneState) -> bool {
        !self.picture.is_complete()
            || self.picture.planner().is_loaded(&self.policy)
            || departures::was_moved_by_heat(state, &self.policy)
    }

    /// What the latest plan found; none before the first.
    pub fn report(&self) -> Option<&BalanceReport> {
        self.report.as_ref()
    }

    /// The planner's memory, with what has come of a promise that can be judged by now.
    fn judged(&mut self) -> Memory {
        let planner = self.picture.planner();
        let memory = planner.memory().clone();
        let Some(promise) = &mut self.promise else { return memory };
        if self.is_moving {
            promise.ended_at = None;
            return memory;
        }
        let now = self.picture.time();
        let ended_at = *promise.ended_at.get_or_insert(now);
        if millis(now.since(ended_at)) < JUDGED_AFTER_MS {
            return memory;
        }
        let permille = |ppm: u64| u32::try_from(ppm / 1_000).unwrap_or(u32::MAX);
        let realised_ppm = promise.before_ppm.saturating_sub(planner.worst_share_ppm(&self.policy));
        let memory = memory.judged(permille(promise.promised_ppm), permille(realised_ppm));
        self.promise = None;
        memory
    }
}

/// Whether anything may be moved now that need not be.
fn may_balance(sight: &Sight<'_>) -> bool {
    let Sight { state, view, .. } = sight;
    let is_suspected =
        state.nodes().iter().any(|(_, node)| node.liveness.state == NodeState::Suspect);
    state.brake().is_none() && !is_suspected && view.leaderless().is_empty()
}

/// Whether all nodes that are to take part do: while one does not, load is moved only where it is too much.
fn is_whole(state: &ZoneState) -> bool {
    state.nodes().iter().all(|(_, node)| {
        node.administrative != Administrative::Active || node.liveness.state == NodeState::Up
    })
}

/// The partition and the node that an operation has taken something from, if it is such a one.
fn left(kind: &OperationKind) -> Option<(crate::ids::PartitionId, crate::ids::NodeId)> {
    match kind {
        OperationKind::TransferLeader { partition, from, .. } => Some((*partition, (*from)?)),
        OperationKind::MoveReplica(change) => Some((change.partition, change.remove?.node)),
        OperationKind::Repair(_)
        | OperationKind::Takeover { .. }
        | OperationKind::Split(_)
        | OperationKind::Drain { .. } => None,
    }
}
