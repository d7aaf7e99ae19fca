//! A plan's proposals as actions, as far as the zone still is as the plan saw it and budgets allow.

use std::collections::BTreeSet;

use crate::{
    balance::{BalanceAction, BalancePlan, BalancePolicy, Goal, Tool},
    command::{Action, ChangeProposal, ChangePurpose, TransferProposal},
    ids::PartitionId,
    leaders::Takers,
    operation::{OperationKind, Origin},
    placement::Loads,
};

use super::{Sight, departures::Departures, picture::Picture};

/// What is proposed of one plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Proposals {
    pub transfers: Vec<TransferProposal>,
    pub changes: Vec<ChangeProposal>,
    /// Proposals of the plan that are not carried out now: their time has not come, or the zone has changed.
    pub left_out: usize,
}

impl Proposals {
    pub fn into_actions(self) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.transfers.is_empty() {
            let transfers = self.transfers;
            actions.push(Action::StartTransfers { origin: Origin::Heat, transfers });
        }
        if !self.changes.is_empty() {
            actions.push(Action::StartReplicaChanges { changes: self.changes });
        }
        actions
    }
}

/// What can be done of a plan now. Two partitions that are exchanged go both, or neither.
pub(super) fn of(
    sight: &Sight<'_>,
    plan: &BalancePlan,
    picture: &Picture,
    departures: &Departures,
    policy: &BalancePolicy,
) -> Proposals {
    let mut filter = Filter::of(sight, picture, departures);
    // What safety needs is done by others.
    let meant: Vec<&BalanceAction> =
        plan.actions.iter().filter(|action| action.goal != Goal::Safety).collect();
    let has_load = picture.planner().is_loaded(policy);
    let mut able: BTreeSet<PartitionId> = BTreeSet::new();
    for action in &meant {
        // Without load, numbers of leaders are evened out by others, and exactly.
        let is_for_others =
            !has_load && action.goal == Goal::Counts && action.tool == Tool::TransferLeadership;
        if !is_for_others && filter.takes(action) {
            able.insert(action.partition);
        }
    }
    let mut proposals = Proposals::default();
    for action in meant {
        let is_whole = action.exchanged_with.is_none_or(|other| able.contains(&other));
        if !is_whole || !able.contains(&action.partition) {
            proposals.left_out += 1;
            continue;
        }
        match action.tool {
            Tool::TransferLeadership => proposals.transfers.push(TransferProposal {
                partition: action.partition,
                from: action.from.node,
                to: action.to.node,
                reason: action.reason(),
                parent: None,
            }),
            Tool::MoveReplica => {
                let is_for_counts = !has_load && action.goal == Goal::Counts;
                let purpose = if is_for_counts {
                    ChangePurpose::EvenCounts
                } else {
                    ChangePurpose::SpreadLoad
                };
                proposals.changes.extend(change(sight, action, purpose));
            }
            Tool::AddReplica | Tool::Split { .. } | Tool::Throttle { .. } => {
                proposals.left_out += 1;
            }
        }
    }
    proposals
}

fn change(
    sight: &Sight<'_>,
    action: &BalanceAction,
    purpose: ChangePurpose,
) -> Option<ChangeProposal> {
    let partition = sight.state.partition(action.partition)?;
    Some(ChangeProposal {
        partition: action.partition,
        purpose,
        remove: Some(partition.target_on(action.from.node)?.id),
        add: Some(action.to.node),
        reason: action.reason(),
    })
}

/// What is allowed at this moment.
struct Filter<'a> {
    sight: &'a Sight<'a>,
    picture: &'a Picture,
    departures: &'a Departures,
    takers: Takers,
    loads: Loads,
    transfers_left: usize,
}

impl<'a> Filter<'a> {
    fn of(sight: &'a Sight<'a>, picture: &'a Picture, departures: &'a Departures) -> Self {
        let state = sight.state;
        let running = state.running_operations().filter(|(_, operation)| {
            matches!(operation.kind, OperationKind::TransferLeader { .. })
        });
        let max = state.policy().map_or(0, |policy| policy.transfers_in_flight_max);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Self {
            sight,
            picture,
            departures,
            takers: Takers::of(state, sight.view),
            loads: Loads::of(state),
            transfers_left: max.saturating_sub(running.count()),
        }
    }

    /// Whether it can be done, and if so, counts it.
    fn takes(&mut self, action: &BalanceAction) -> bool {
        let Sight { state, view, now, .. } = *self.sight;
        let id = action.partition;
        let Some(partition) = state.partition(id) else { return false };
        if !self.is_as_planned(action) {
            return false;
        }
        match action.tool {
            Tool::TransferLeadership => {
                let seat = self.takers.seat(view, id, partition, now);
                let can = seat.is_some_and(|seat| {
                    seat.current == action.from.node && seat.eligible.contains(&action.to.node)
                });
                let takes = can && self.transfers_left > 0;
                self.transfers_left -= usize::from(takes);
                takes
            }
            Tool::MoveReplica => {
                let (from, to) = (action.from.node, action.to.node);
                let has_budget = self.loads.zone_has_budget(state)
                    && self.loads.node_has_budget(state, from)
                    && self.loads.node_has_budget(state, to);
                if has_budget {
                    self.loads.reserve(Some(from), Some(to), action.bytes);
                }
                has_budget
            }
            Tool::AddReplica | Tool::Split { .. } | Tool::Throttle { .. } => false,
        }
    }

    /// Whether the partition is where the plan saw it.
    fn is_as_planned(&self, action: &BalanceAction) -> bool {
        let (sight, id) = (self.sight, action.partition);
        let Some(planned) = self.picture.partition(id) else { return false };
        let now = sight.state.partition(id).and_then(|partition| {
            self.picture.partition_now(sight, self.departures, id, partition)
        });
        now.is_some_and(|now| {
            now.replicas() == planned.replicas()
                && now.leader == planned.leader
                && now.running == planned.running
        })
    }
}
