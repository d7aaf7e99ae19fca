//! Planning for the live zone: which leaderships and replicas should be elsewhere, and why.
//!
//! The goals in their sequence: restore safety, relieve overload, even out utilisation in every dimension,
//! even out counts; each with the least movement. The tools, cheapest first: transfer a leadership, move a
//! replica, exchange two, split a partition; where one key is the heat, throttle.
//!
//! What it promises: a plan keeps replicas on distinct nodes and never on fewer fault domains than before,
//! leaves room for what moves need at both ends, and stays within the policy's budgets. On a load that does
//! not change, plans come to an end, and nothing goes back to where it just was.
//!
//! Why plans come to an end: a change is taken only if the stress of its source becomes less by enough, and what
//! it adds to the destination leaves that less loaded there than the source was. So the nodes' stresses, greatest
//! first, become smaller in the order of a dictionary with each change, and pieces that are too large to help stay
//! where they are. What comes to an end under noise stays at an end: see `rest`.
//!
//! Where to start reading: [`Snapshot`] goes in, [`BalancePlan`] comes out of [`plan`]; a [`Planner`] is
//! kept up to date by [`Change`]s and plans the same.
//!
//! Deliberately not here: carrying anything out, and where snapshots come from; and the best assignment at
//! any price, which [`crate::reassignment`] searches for.

mod action;
mod budget;
mod divide;
mod exchange;
mod measure;
mod planner;
mod policy;
mod rehearsal;
mod relief;
mod rest;
mod safety;
mod snapshot;
mod tally;
mod validate;
mod weigh;
mod work;

pub use action::{
    BalanceAction, BalancePlan, End, Goal, Hindrance, OBSTACLES_MAX, Obstacle, Rejected, Score,
    Tool,
};
pub use planner::{Change, Holding, Planner};
pub use policy::{BalancePolicy, Bounds, InvalidPolicy, POLICY_VERSION, WEIGHT_MAX};
pub use rehearsal::{NodeOutlook, Rehearsal, RehearsedStep, Standing};
pub use rest::Rest;
pub use snapshot::{
    Amounts, DEPARTURES_MAX, DIMENSION_NAMES, DIMENSIONS, Departed, Departure, Memory, NO_LEADER,
    NodeView, PROCESSOR, PartitionView, REPLICAS_MAX, Running, STORED_BYTES, Snapshot,
};
pub use validate::{AMOUNT_MAX, InvalidSnapshot, NODES_MAX, PARTITIONS_MAX};

use crate::ids::{ZoneTime, millis};

use work::Work;

/// Evaluations that a plan may take unless said otherwise: about a second's.
pub const EFFORT_DEFAULT: u64 = 20_000_000;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("the snapshot cannot be planned for")]
    Snapshot(#[source] InvalidSnapshot),
    #[error("the policy cannot be followed")]
    Policy(#[source] InvalidPolicy),
}

/// Plans from a snapshot. The same arguments give the same plan, on every machine.
///
/// `seed`: which of equally good nodes is taken. `effort`: how many changes may be weighed, see
/// [`EFFORT_DEFAULT`]; the plan ends with the step that it is at by then.
pub fn plan(
    snapshot: Snapshot,
    policy: &BalancePolicy,
    seed: u64,
    effort: u64,
) -> Result<BalancePlan, PlanError> {
    let planner = Planner::new(snapshot).map_err(PlanError::Snapshot)?;
    planner.plan(policy, seed, effort).map_err(PlanError::Policy)
}

impl Planner {
    /// Plans for the zone as it is known now: see [`plan`].
    pub fn plan(
        &self,
        policy: &BalancePolicy,
        seed: u64,
        effort: u64,
    ) -> Result<BalancePlan, InvalidPolicy> {
        self.plan_goals(&self.memory, policy, seed, effort, true, |_| ()).map(|(plan, ())| plan)
    }

    /// The same with nothing done for evenness alone: while the zone is not what it is meant to be.
    pub fn plan_relief(
        &self,
        policy: &BalancePolicy,
        seed: u64,
        effort: u64,
    ) -> Result<BalancePlan, InvalidPolicy> {
        self.plan_goals(&self.memory, policy, seed, effort, false, |_| ()).map(|(plan, ())| plan)
    }

    /// What there is to be had if somebody asks for it now: evening out goes on to the policy's stop, however small
    /// the distance, and however short a while it has lasted. The plan's memory is for nobody.
    ///
    /// `evens_out`: for evenness, too; otherwise only relief.
    pub fn draft(
        &self,
        policy: &BalancePolicy,
        seed: u64,
        effort: u64,
        evens_out: bool,
    ) -> Result<BalancePlan, InvalidPolicy> {
        let memory = Memory { is_settling: true, ..self.memory.clone().without_rest() };
        self.plan_goals(&memory, policy, seed, effort, evens_out, |_| ()).map(|(plan, ())| plan)
    }

    /// A plan, and the worst share in millionths that it would leave as another policy measures it. `evens_out`:
    /// whether anything is done for evenness alone.
    pub fn plan_measured_by(
        &self,
        other: &BalancePolicy,
        policy: &BalancePolicy,
        seed: u64,
        effort: u64,
        evens_out: bool,
    ) -> Result<(BalancePlan, u64), InvalidPolicy> {
        self.plan_goals(&self.memory, policy, seed, effort, evens_out, |work| {
            work.worst_share_ppm_by(other)
        })
    }

    /// `see`: is shown the zone with all of the plan done.
    fn plan_goals<T>(
        &self,
        known: &Memory,
        policy: &BalancePolicy,
        seed: u64,
        effort: u64,
        evens_out: bool,
        see: impl FnOnce(&Work<'_>) -> T,
    ) -> Result<(BalancePlan, T), InvalidPolicy> {
        policy.check()?;
        let mut work = Work::new(self, known, policy, seed, effort);
        let before = work.score();
        let now = Rest::of(&work);
        let rest = known.rest.as_ref().and_then(|rest| rest.kept(&now, &work));
        safety::restore(&mut work);
        let is_safe = work.actions.is_empty();
        let mut memory = Memory {
            above_since: self.above_since(policy, before.worst_share_ppm).filter(|_| evens_out),
            counts_rest: None,
            rest: rest.filter(|_| is_safe),
            ..known.clone()
        };
        work.is_at_rest = memory.rest.is_some();
        let mut is_settling = relief::relieve(&mut work, Goal::Overload);
        // What is only for evenness waits until the zone is as safe as it can be.
        if !evens_out {
            memory.is_settling = false;
        } else if is_safe {
            let has_lasted = memory
                .above_since
                .is_some_and(|since| millis(self.time.since(since)) >= policy.act_after_ms);
            if (has_lasted && memory.rest.is_none()) || known.is_settling {
                let goes_on = relief::relieve(&mut work, Goal::Balance);
                is_settling |= goes_on;
                memory.rest = (!goes_on).then_some(now);
            }
            if work.actions.is_empty() && !is_settling {
                memory.counts_rest = even_counts(&mut work);
            }
            memory.is_settling = is_settling;
        } else {
            memory.is_settling |= is_settling;
        }
        let seen = see(&work);
        let plan = BalancePlan {
            before,
            after: work.score(),
            memory,
            evaluations: work.evaluations,
            obstacles: work.obstacles,
            actions: work.actions,
        };
        Ok((plan, seen))
    }

    /// The most loaded node's share of the mean utilisation, in its worst dimension, in millionths.
    pub fn worst_share_ppm(&self, policy: &BalancePolicy) -> u64 {
        Work::new(self, &self.memory, policy, 0, 0).score().worst_share_ppm
    }

    /// Whether requests make enough load, in some dimension, to go by: on average, or on a node that is overloaded.
    pub fn is_loaded(&self, policy: &BalancePolicy) -> bool {
        let staying = self.nodes.iter().zip(&self.holdings).filter(|(node, _)| !node.is_leaving);
        let (mut load, mut capacity) = ([0_u128; DIMENSIONS], [0_u128; DIMENSIONS]);
        for (node, holding) in staying {
            for dimension in 0..DIMENSIONS {
                load[dimension] += u128::from(holding.load[dimension]);
                capacity[dimension] += u128::from(node.capacity[dimension]);
            }
        }
        let is_loaded = |dimension: usize| {
            let least = capacity[dimension] * u128::from(policy.idle_permille);
            let is_busy = capacity[dimension] > 0 && load[dimension] * 1_000 >= least;
            is_busy || self.is_overloaded_in(dimension, policy)
        };
        (0..STORED_BYTES).any(is_loaded)
    }

    /// Since when the worst node's share has been above the band.
    fn above_since(&self, policy: &BalancePolicy, worst_share_ppm: u64) -> Option<ZoneTime> {
        let is_above = worst_share_ppm > u64::from(policy.act_above_permille) * 1_000;
        is_above.then(|| self.memory.above_since.unwrap_or(self.time))
    }
}

/// Evens out counts, unless nothing was left to be done the last time and counts are as they were. Returns
/// where they rest; none if something was done.
fn even_counts(work: &mut Work<'_>) -> Option<u64> {
    let counts = work.planner.counts();
    if work.memory.counts_rest != Some(counts) {
        relief::relieve(work, Goal::Counts);
    }
    work.actions.is_empty().then_some(counts)
}
