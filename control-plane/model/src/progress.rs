//! How far a running operation is, from what is committed and what is reported now.

use crate::{
    ids::OperationId,
    observation::{ReplicaPhase, ZoneView},
    operation::{Operation, OperationKind, OperationState, ReplicaChange, Split},
    reconcile::LAG_ENTRIES_MAX,
    state::ZoneState,
};

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u32,
    /// The step that it is in, in words.
    pub step: String,
    /// An estimate; none yet.
    pub remaining_ms: Option<u64>,
}

/// The operation's progress; none if it is not known. Without a view (on a member that does not lead)
/// only what is committed shows.
pub fn progress(state: &ZoneState, view: Option<&ZoneView>, id: OperationId) -> Option<Progress> {
    let operation = state.operation(id)?;
    let (percent, step) = match operation.state {
        OperationState::Succeeded => (100, "done".to_owned()),
        OperationState::Failed | OperationState::Cancelled => {
            (0, operation.state.as_str().to_owned())
        }
        OperationState::Running => match &operation.kind {
            OperationKind::Repair(change) | OperationKind::MoveReplica(change) => {
                change_step(state, view, change)
            }
            OperationKind::TransferLeader { to, .. } => {
                (50, format!("waiting for node {to} to lead"))
            }
            OperationKind::Split(split) => split_step(state, split),
            OperationKind::Drain { node, replicas_at_start } => {
                let left = state.target_count(*node);
                let leaders = state.leader_count(*node);
                let gone = replicas_at_start.saturating_sub(left);
                let step = format!(
                    "{leaders} leaderships and {left} of {replicas_at_start} replicas left"
                );
                (percent_of(gone, *replicas_at_start).min(99), step)
            }
            OperationKind::Takeover { .. } => (50, "appointing leaders".to_owned()),
        },
    };
    let remaining_ms = remaining(state, operation, percent);
    Some(Progress { percent, step, remaining_ms })
}

fn change_step(
    state: &ZoneState,
    view: Option<&ZoneView>,
    change: &ReplicaChange,
) -> (u32, String) {
    let Some(partition) = state.partition(change.partition) else {
        return (100, "the partition is gone".to_owned());
    };
    if partition.is_settled() {
        return (90, "destroying the replica that left".to_owned());
    }
    let Some(observed) = &partition.observed else {
        return (0, "waiting for the group".to_owned());
    };
    let Some(add) = change.add else {
        return (50, "changing the members".to_owned());
    };
    if observed.is_joint() {
        return (80, "leaving the joint membership".to_owned());
    }
    if observed.is_voter(add.id) {
        return (85, "ending the change of members".to_owned());
    }
    let Some(view) = view else {
        return (10, "making the new replica and letting it catch up".to_owned());
    };
    let there = view
        .replica(change.partition, add.id)
        .is_some_and(|view| view.report.phase == ReplicaPhase::Live);
    if !there {
        return (5, format!("making replica {} on node {}", add.id, add.node));
    }
    let leader = view.leader(change.partition);
    let report = leader.and_then(|leader| view.replica(change.partition, leader.replica.id));
    let progress = report
        .and_then(|view| view.report.progress.iter().find(|progress| progress.replica == add.id));
    match (report, progress) {
        (None, _) => (10, "waiting for a leader".to_owned()),
        (Some(_), None) => (15, format!("adding replica {} as a learner", add.id)),
        (Some(report), Some(progress)) => {
            let last = report.report.last_log.map_or(0, |position| position.index);
            if progress.matched.is_some() && progress.lag_entries <= LAG_ENTRIES_MAX {
                return (70, "changing the members".to_owned());
            }
            let done = last.saturating_sub(progress.lag_entries);
            let share = done.saturating_mul(50).checked_div(last).unwrap_or(0).min(50);
            let percent = 20 + u32::try_from(share).unwrap_or(0);
            (percent, format!("catching up: {} entries behind", progress.lag_entries))
        }
    }
}

fn split_step(state: &ZoneState, split: &Split) -> (u32, String) {
    if state.partition(split.child).is_none() {
        return (20, format!("waiting for the group to split at {}", split.at));
    }
    (80, format!("waiting for partition {} to have a leader", split.child))
}

fn percent_of(part: u32, whole: u32) -> u32 {
    let percent = u64::from(part).saturating_mul(100).checked_div(u64::from(whole)).unwrap_or(100);
    u32::try_from(percent.min(100)).unwrap_or(100)
}

/// What is left if it goes on as it went.
fn remaining(state: &ZoneState, operation: &Operation, percent: u32) -> Option<u64> {
    if !operation.is_running() || percent < 5 {
        return None;
    }
    let elapsed = crate::ids::millis(state.zone_time().since(operation.started_at));
    elapsed.checked_mul(u64::from(100 - percent.min(100)))?.checked_div(u64::from(percent))
}
