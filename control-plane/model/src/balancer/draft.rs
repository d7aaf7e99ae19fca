//! What an operator gets who asks for a plan now.
//!
//! It is made of steps that can be applied as they are: each was checked just as it is when it is applied, and all
//! fit the budgets together. What it says of the time afterwards is of these steps only.
//!
//! Planning may take a while and needs nothing of the zone. So it has three parts: a [`DraftRequest`], the plan, and
//! the [`Draft`]; whoever holds locks for the zone can let go of them for the second.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    apply::{PlanBudget, REASON_BYTES_MAX, STEPS_MAX},
    balance::{
        BalanceAction, BalancePlan, BalancePolicy, End, Goal, Hindrance, NodeOutlook, Obstacle,
        Rehearsal, RehearsedStep, Score, Tool,
    },
    command::{PlannedChange, PlannedStep},
    ids::{NodeId, PartitionId},
    leaders::{self, Takers},
    repair,
    state::ZoneState,
};

use super::{
    Balancer, Sight, departures::Departures, is_whole, picture::Picture, proposals::is_as_planned,
};

/// Changes that are weighed for one draft, unless said otherwise, and at most: the conductor waits meanwhile.
pub const DRAFT_EFFORT_DEFAULT: u64 = super::EFFORT;
pub const DRAFT_EFFORT_MAX: u64 = 4 * super::EFFORT;
pub const DRAFT_SEED_DEFAULT: u64 = super::SEED;

/// There is nothing to plan from yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leader has not looked at every partition yet: ask again in some seconds")]
pub struct NotReady;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct DraftRequest {
    policy: BalancePolicy,
    seed: u64,
    effort: u64,
    /// For evenness, too; otherwise only overload is relieved.
    evens_out: bool,
}

/// A plan for the zone as it is, to be shown, and to be applied as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub steps: Vec<DraftStep>,
    /// The zone as it is, and as it would be with all steps done.
    pub before: Score,
    pub after: Score,
    pub nodes: Vec<NodeOutlook>,
    /// What is in the way of the goals; what safety needs is told elsewhere.
    pub obstacles: Vec<Obstacle>,
    /// Why some or all of what could be done is not in it.
    pub held_back: Vec<String>,
    /// Changes that would help and do not fit now: budgets, or something that is under way.
    pub left_out: usize,
    /// Load says where things belong; otherwise their numbers do.
    pub is_by_load: bool,
    pub evaluations: u64,
    pub seed: u64,
    pub effort: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftStep {
    pub step: PlannedStep,
    pub goal: Goal,
    /// Both ends before and after it, with the steps before it done.
    pub from: End,
    pub to: End,
    /// What is measured there: a dimension, leaderships or replicas.
    pub column: &'static str,
    /// Bytes that are copied.
    pub bytes: u64,
}

/// A change that could become a step.
struct Wish {
    goal: Goal,
    tool: Tool,
    partition: PartitionId,
    from: NodeId,
    to: NodeId,
    reason: String,
    exchanged_with: Option<PartitionId>,
}

impl Balancer {
    /// A draft, at once. The same zone, seed and effort give the same.
    pub fn draft(&self, sight: &Sight<'_>, seed: u64, effort: u64) -> Result<Draft, NotReady> {
        let request = self.request_draft(sight, seed, effort)?;
        let plan = self.plan_draft(&request);
        Ok(self.finish_draft(sight, &request, &plan))
    }

    pub fn request_draft(
        &self,
        sight: &Sight<'_>,
        seed: u64,
        effort: u64,
    ) -> Result<DraftRequest, NotReady> {
        let bounds = sight.state.policy().filter(|_| self.picture.is_complete()).ok_or(NotReady)?;
        let transfers_left =
            bounds.transfers_in_flight_max.saturating_sub(sight.state.transfers_in_flight());
        let policy = BalancePolicy {
            transfers_max: self.policy.transfers_max.min(transfers_left),
            moves_zone_max: self.policy.moves_zone_max.min(bounds.changes_in_flight_zone_max),
            moves_node_max: self.policy.moves_node_max.min(bounds.changes_in_flight_node_max),
            ..self.policy.clone()
        };
        let effort = effort.min(DRAFT_EFFORT_MAX);
        Ok(DraftRequest { policy, seed, effort, evens_out: is_whole(sight.state) })
    }

    /// Plans from what was looked at. This may take some hundred milliseconds, and needs nothing of the zone.
    pub fn plan_draft(&self, request: &DraftRequest) -> BalancePlan {
        let DraftRequest { policy, seed, effort, evens_out } = request;
        let plan = self.picture.planner().draft(policy, *seed, *effort, *evens_out);
        // A policy that cannot be followed moves nothing.
        plan.unwrap_or_default()
    }

    /// What of the plan can be applied to the zone as it is now.
    pub fn finish_draft(
        &self,
        sight: &Sight<'_>,
        request: &DraftRequest,
        plan: &BalancePlan,
    ) -> Draft {
        let picture = &self.picture;
        let is_by_load = picture.planner().is_loaded(&request.policy);
        let wishes = wishes(sight, plan, is_by_load);
        let wished = wishes.len();
        let departures = Departures::of(sight.state, &self.policy, picture.own_time());
        let mut chooser = Chooser::of(sight, picture, departures);
        let mut chosen = chooser.choose(wishes);
        let rehearsed = |chosen: &[Chosen]| {
            let steps: Vec<RehearsedStep> = chosen.iter().map(|(_, _, step)| *step).collect();
            picture.planner().rehearse(&request.policy, &steps).unwrap_or_default()
        };
        let mut rehearsal = rehearsed(&chosen);
        // What was to come may have made room for what is left.
        let is_part = chosen.len() < wished;
        while is_part && is_worse(&rehearsal) && without_worst(&mut chosen, &rehearsal) {
            rehearsal = rehearsed(&chosen);
        }
        let steps = chosen.into_iter().zip(&rehearsal.actions).map(|((step, goal, _), action)| {
            let (from, to, bytes) = (action.from, action.to, action.bytes);
            DraftStep { step, goal, from, to, column: action.column_name(), bytes }
        });
        let steps: Vec<DraftStep> = steps.collect();
        // Transfers that run leave none for this plan: they come back.
        let are_used = request.policy.transfers_max == 0 && self.policy.transfers_max > 0;
        let obstacles = plan.obstacles.iter().filter(|obstacle| obstacle.goal != Goal::Safety);
        let obstacles = obstacles.map(|obstacle| match obstacle.hindrance {
            Hindrance::NothingGains if are_used => {
                Obstacle { hindrance: Hindrance::Waiting, ..*obstacle }
            }
            _ => *obstacle,
        });
        Draft {
            left_out: wished - steps.len(),
            steps,
            before: rehearsal.before,
            after: rehearsal.after,
            nodes: rehearsal.nodes,
            obstacles: obstacles.collect(),
            held_back: held_back(sight, plan),
            is_by_load,
            evaluations: plan.evaluations,
            seed: request.seed,
            effort: request.effort,
        }
    }
}

/// A step, and the same for a rehearsal.
type Chosen = (PlannedStep, Goal, RehearsedStep);

/// Whether the zone is worse off afterwards, by more than a thousandth of the mean where load is concerned.
fn is_worse(rehearsal: &Rehearsal) -> bool {
    let Rehearsal { before, after, .. } = rehearsal;
    Score { worst_share_ppm: after.worst_share_ppm.saturating_sub(1_000), ..*after } > *before
}

/// Takes the last step out that brings load to the most loaded node, with what it was to be exchanged for. Returns
/// whether there was one; where only numbers count, there is none.
fn without_worst(chosen: &mut Vec<Chosen>, rehearsal: &Rehearsal) -> bool {
    let worst = rehearsal.nodes.iter().max_by_key(|node| (node.after.share_permille, node.node));
    let brings = |(step, goal, _): &Chosen| {
        *goal != Goal::Counts && worst.is_some_and(|worst| step.change.to() == worst.node)
    };
    let last = chosen.iter().rposition(brings);
    // A node that is only left with what it had needs another step's place: the last one's.
    let last = last.or_else(|| chosen.iter().rposition(|(_, goal, _)| *goal != Goal::Counts));
    let Some(last) = last else { return false };
    let (step, ..) = chosen.remove(last);
    chosen.retain(|(other, ..)| other.exchanged_with != Some(step.partition));
    true
}

/// What the plan wants. Without load, numbers of leaders are evened out exactly.
fn wishes(sight: &Sight<'_>, plan: &BalancePlan, is_by_load: bool) -> Vec<Wish> {
    let mut wishes = Vec::new();
    if !is_by_load {
        let transfers = leaders::plan(sight.state, sight.view, sight.now).transfers;
        wishes.extend(transfers.into_iter().map(|it| Wish {
            goal: Goal::Counts,
            tool: Tool::TransferLeadership,
            partition: it.partition,
            from: it.from,
            to: it.to,
            reason: it.reason,
            exchanged_with: None,
        }));
    }
    // What safety needs is done by others.
    let is_meant = |action: &&BalanceAction| {
        matches!(action.tool, Tool::TransferLeadership | Tool::MoveReplica)
            && action.goal != Goal::Safety
            && (is_by_load || !action.is_for_leaders())
    };
    wishes.extend(plan.actions.iter().filter(is_meant).map(|action| Wish {
        goal: action.goal,
        tool: action.tool,
        partition: action.partition,
        from: action.from.node,
        to: action.to.node,
        reason: action.reason(),
        exchanged_with: action.exchanged_with,
    }));
    wishes
}

/// Chooses what can be applied.
struct Chooser<'a> {
    sight: &'a Sight<'a>,
    picture: &'a Picture,
    departures: Departures,
    takers: Takers,
    budget: PlanBudget,
    taken: BTreeSet<PartitionId>,
}

impl<'a> Chooser<'a> {
    fn of(sight: &'a Sight<'a>, picture: &'a Picture, departures: Departures) -> Self {
        let takers = Takers::of(sight.state, sight.view);
        let (budget, taken) = (PlanBudget::of(sight.state), BTreeSet::new());
        Self { sight, picture, departures, takers, budget, taken }
    }

    /// Steps that can be applied together. Two partitions that are exchanged go both, or neither.
    fn choose(&mut self, wishes: Vec<Wish>) -> Vec<Chosen> {
        let mut able: BTreeMap<PartitionId, (PlannedStep, RehearsedStep)> = BTreeMap::new();
        let mut sequence = Vec::new();
        for wish in wishes {
            if sequence.len() < STEPS_MAX
                && let Some(step) = self.take(&wish)
            {
                able.insert(wish.partition, step);
                sequence.push((wish.partition, wish.goal));
            }
        }
        let is_whole =
            |step: &PlannedStep| step.exchanged_with.is_none_or(|other| able.contains_key(&other));
        let whole = sequence.into_iter().filter_map(|(partition, goal)| {
            let (step, rehearsed) = able.get(&partition).filter(|(step, _)| is_whole(step))?;
            Some((step.clone(), goal, *rehearsed))
        });
        whole.collect()
    }

    /// The wish as a step, if it can be done beside those that were taken before; then it is counted.
    fn take(&mut self, wish: &Wish) -> Option<(PlannedStep, RehearsedStep)> {
        let state = self.sight.state;
        let step = step(state, wish)?;
        let can = !self.taken.contains(&wish.partition)
            && is_as_planned(self.sight, self.picture, &self.departures, wish.partition)
            && self.is_seen_to_work(wish)
            && state.check_step(&step).is_ok()
            && self.budget.take(state, &step).is_ok();
        let rehearsed = RehearsedStep {
            goal: wish.goal,
            tool: wish.tool,
            index: self.picture.place_of(wish.partition)?,
            from: self.picture.place(wish.from)?,
            to: self.picture.place(wish.to)?,
        };
        can.then(|| {
            self.taken.insert(wish.partition);
            (step, rehearsed)
        })
    }

    /// Whether sessions have nothing against it.
    fn is_seen_to_work(&self, wish: &Wish) -> bool {
        let Sight { state, view, now, .. } = *self.sight;
        match wish.tool {
            Tool::TransferLeadership => {
                let seat = state
                    .partition(wish.partition)
                    .and_then(|it| self.takers.seat(view, wish.partition, it, now));
                seat.is_some_and(|seat| {
                    seat.current == wish.from && seat.eligible.contains(&wish.to)
                })
            }
            Tool::MoveReplica => repair::check_room(state, view, wish.partition, wish.to).is_ok(),
            Tool::AddReplica | Tool::Split { .. } | Tool::Throttle { .. } => false,
        }
    }
}

fn step(state: &ZoneState, wish: &Wish) -> Option<PlannedStep> {
    let partition = state.partition(wish.partition)?;
    let (from, to) = (wish.from, wish.to);
    let change = match wish.tool {
        Tool::TransferLeadership => PlannedChange::TransferLeader { from, to },
        Tool::MoveReplica => {
            PlannedChange::MoveReplica { replica: partition.target_on(from)?.id, from, to }
        }
        Tool::AddReplica | Tool::Split { .. } | Tool::Throttle { .. } => return None,
    };
    Some(PlannedStep {
        partition: wish.partition,
        targets: partition.targets.iter().map(|target| target.id).collect(),
        leader: partition.leader?.node,
        change,
        reason: bounded(&wish.reason),
        exchanged_with: wish.exchanged_with,
    })
}

/// As much of a reason as a plan may carry.
fn bounded(reason: &str) -> String {
    let end = reason.floor_char_boundary(REASON_BYTES_MAX);
    reason[..end].to_owned()
}

fn held_back(sight: &Sight<'_>, plan: &BalancePlan) -> Vec<String> {
    let state = sight.state;
    let mut reasons = Vec::new();
    if let Some(brake) = state.brake() {
        let why = &brake.reason;
        reasons.push(format!("the brake is engaged, so no plan is taken: {why}"));
    }
    if !is_whole(state) {
        reasons.push("not every node that takes part is up: only overload is relieved".into());
    }
    let safety = plan.actions.iter().filter(|action| action.goal == Goal::Safety).count();
    if safety > 0 {
        reasons.push(format!(
            "the zone has to be made safe first ({safety} changes): only overload is relieved"
        ));
    }
    // What a split brings is known when its halves are measured: then they are spread, by a plan of their own.
    let splits = plan.actions.iter().filter(|action| matches!(action.tool, Tool::Split { .. }));
    let large: Vec<String> = splits.map(|action| action.partition.to_string()).collect();
    if let [first, rest @ ..] = large.as_slice() {
        let (them, what) = if rest.is_empty() {
            ("it", format!("partition {first} is"))
        } else {
            ("them", format!("partitions {} are", large.join(", ")))
        };
        reasons.push(format!(
            "{what} too large a piece and no plan has splits: the zone splits {them} by itself, or \
             `zonectl partition split {first} --by load` does it now"
        ));
    }
    reasons
}
