//! All that the leader should propose now, in the order of its priority: what restores safety before
//! what an operator wants before what evens out.
//!
//! A level function again: call it as often as you like, but only when what was proposed before has been
//! applied, since the plan is made from the committed state.

use std::time::Duration;

use planted::Bug;

use crate::{
    command::Action,
    drain, leaders,
    node::NodeState,
    observation::ZoneView,
    operation::Origin,
    placement::{self, Loads},
    repair,
    state::ZoneState,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// How long no leader must have changed before leader counts are evened out.
    pub balance_settle: Duration,
    /// Leaders are where load wants them: their numbers are not evened out.
    pub leads_by_heat: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { balance_settle: Duration::from_secs(1), leads_by_heat: false }
    }
}

/// What to propose now.
pub fn plan(
    state: &ZoneState,
    view: &ZoneView,
    now: Duration,
    options: &PlanOptions,
) -> Vec<Action> {
    let mut actions = Vec::new();
    if !state.is_initialized() {
        return actions;
    }
    let placements = placement::place(state, view);
    if !placements.is_empty() {
        actions.push(Action::CommitPlacements { placements });
    }
    let ends = repair::give_up(state, view);
    if !ends.is_empty() {
        actions.push(Action::EndOperations { ends });
    }
    let has_work =
        state.nodes().iter().any(|(id, node)| node.is_draining() || state.is_replaceable(*id))
            || !state.short().is_empty()
            || !state.crowded().is_empty()
            || view.failed().next().is_some();
    if has_work {
        let mut loads = Loads::of(state);
        let mut changes = repair::plan(state, view, &mut loads);
        let drains = drain::plan(state, view, &mut loads);
        changes.extend(drains.changes);
        if !changes.is_empty() {
            actions.push(Action::StartReplicaChanges { changes });
        }
        if !drains.ends.is_empty() {
            actions.push(Action::EndOperations { ends: drains.ends });
        }
        for (operation, error) in drains.notes {
            if state.operation(operation).is_some_and(|known| known.last_error != error) {
                actions.push(Action::NoteOperationError { operation, error });
            }
        }
    }
    actions.extend(balance(state, view, now, options));
    actions
}

/// Transfers that empty draining nodes of leaderships and even out leader counts; none while the zone
/// is moving anyway.
fn balance(
    state: &ZoneState,
    view: &ZoneView,
    now: Duration,
    options: &PlanOptions,
) -> Option<Action> {
    let policy = state.policy()?;
    if state.brake().is_some()
        || state.nodes().iter().any(|(_, node)| node.liveness.state == NodeState::Suspect)
    {
        return None;
    }
    let running = state
        .running_operations()
        .filter(|(_, operation)| {
            matches!(operation.kind, crate::operation::OperationKind::TransferLeader { .. })
        })
        .count();
    let max = usize::try_from(policy.transfers_in_flight_max).unwrap_or(usize::MAX);
    let free = max.saturating_sub(running);
    if free == 0 {
        return None;
    }
    // A drain waits for its leaderships to be gone; evening out waits until leaders are at rest.
    let draining = state.nodes().iter().any(|(id, node)| {
        !node.is_eligible() && node.is_up() && state.partitions_led_by(*id).next().is_some()
    });
    let at_rest = now.saturating_sub(view.leaders_changed_at()) >= options.balance_settle
        && view.leaderless().is_empty()
        && !options.leads_by_heat;
    if !draining && !at_rest {
        return None;
    }
    let restless = planted::is_planted(Bug::PingPongTransfers);
    if running == 0 && leaders::are_even(state) && !restless {
        return None;
    }
    let mut transfers = leaders::plan(state, view, now).transfers;
    if !at_rest {
        transfers
            .retain(|transfer| state.node(transfer.from).is_some_and(|node| !node.is_eligible()));
    }
    transfers.truncate(free);
    (!transfers.is_empty()).then_some(Action::StartTransfers { origin: Origin::Balance, transfers })
}
