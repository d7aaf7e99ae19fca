//! A plan's proposals as actions, as far as the zone still is as the plan saw it and budgets allow.

use std::collections::BTreeSet;

use planted::Bug;

use crate::{
    balance::{BalanceAction, BalancePlan, BalancePolicy, Goal, STORED_BYTES, Tool},
    command::{Action, ChangeProposal, ChangePurpose, TransferProposal},
    ids::PartitionId,
    leaders::Takers,
    operation::{OperationKind, Origin, SplitPoint},
    placement::Loads,
};

use super::{Sight, departures::Departures, picture::Picture};

/// With more partitions than so many for each node load splits none: each costs memory, and splits are not undone.
const PARTITIONS_PER_NODE_MAX: usize = 1_000;

/// A partition that is too large a piece.
#[derive(Clone, Debug)]
pub(super) struct SplitProposal {
    pub partition: PartitionId,
    pub at: SplitPoint,
    pub reason: String,
}

/// What is proposed of one plan.
#[derive(Clone, Debug, Default)]
pub(super) struct Proposals {
    pub transfers: Vec<TransferProposal>,
    pub changes: Vec<ChangeProposal>,
    pub splits: Vec<SplitProposal>,
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
        actions.extend(self.splits.into_iter().map(|split| Action::SplitPartition {
            partition: split.partition,
            at: split.at,
            origin: Origin::Heat,
            reason: split.reason,
        }));
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
    // What safety needs is done by others; hot keys are throttled by the nodes themselves, request by request.
    let is_meant = |action: &&BalanceAction| {
        action.goal != Goal::Safety && !matches!(action.tool, Tool::Throttle { .. })
    };
    let meant: Vec<&BalanceAction> = plan.actions.iter().filter(is_meant).collect();
    let has_load = picture.planner().is_loaded(policy);
    let mut able: BTreeSet<PartitionId> = BTreeSet::new();
    for action in &meant {
        // Without load, numbers of leaders are evened out by others, and exactly.
        let is_for_others = !has_load && action.is_for_leaders();
        if !is_for_others && filter.takes(action) {
            able.insert(action.partition);
        }
    }
    let mut proposals = Proposals::default();
    if planted::is_planted(Bug::BalanceRestless) && able.is_empty() {
        proposals.transfers.extend(filter.restless());
    }
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
            Tool::Split { .. } => proposals.splits.push(SplitProposal {
                partition: action.partition,
                at: if action.column == STORED_BYTES {
                    SplitPoint::MiddleOfSize
                } else {
                    SplitPoint::MiddleOfLoad
                },
                reason: action.reason(),
            }),
            Tool::AddReplica | Tool::Throttle { .. } => proposals.left_out += 1,
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

    /// Some transfer that nothing speaks for.
    fn restless(&self) -> Option<TransferProposal> {
        let Sight { state, view, now, .. } = *self.sight;
        let mut seats = state
            .partitions()
            .iter()
            .filter_map(|(id, partition)| self.takers.seat(view, *id, partition, now));
        let seat = seats.find(|seat| seat.eligible.len() > 1)?;
        let to = seat.eligible.iter().find(|node| **node != seat.current)?;
        let reason = "nothing speaks for it".to_owned();
        let (partition, from) = (seat.partition, seat.current);
        Some(TransferProposal { partition, from, to: *to, reason, parent: None })
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
            Tool::Split { .. } => {
                let zone_max = PARTITIONS_PER_NODE_MAX * state.nodes().len();
                state.partitions().len() < zone_max
            }
            Tool::AddReplica | Tool::Throttle { .. } => false,
        }
    }

    fn is_as_planned(&self, action: &BalanceAction) -> bool {
        is_as_planned(self.sight, self.picture, self.departures, action.partition)
    }
}

/// Whether the partition is where the picture shows it.
pub(super) fn is_as_planned(
    sight: &Sight<'_>,
    picture: &Picture,
    departures: &Departures,
    id: PartitionId,
) -> bool {
    let Some(planned) = picture.partition(id) else { return false };
    let partition = sight.state.partition(id);
    let now = partition.and_then(|it| picture.partition_now(sight, departures, id, it));
    now.is_some_and(|now| {
        now.replicas() == planned.replicas()
            && now.leader == planned.leader
            && now.running == planned.running
    })
}
