//! Transfers of leadership that did not happen are not proposed again at once.
//!
//! Each failure of a transfer of a partition to a node doubles the time for which that transfer rests; a
//! success ends it. It is derived from the operations that have ended, in zone time: so it survives a
//! change of the control plane's leader, and needs no memory of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    ids::{NodeId, PartitionId, ZoneTime},
    operation::{Operation, OperationKind, OperationState},
    state::ZoneState,
};

/// How long a transfer rests after its first failure.
pub const REST_MIN: Duration = Duration::from_secs(2);
/// However often it has failed, it does not rest longer.
pub const REST_MAX: Duration = Duration::from_secs(60);

/// A partition's leadership on its way to a node.
type Transfer = (PartitionId, NodeId);

/// What has become of one transfer, looked at from its end.
struct Failures {
    last: ZoneTime,
    count: u32,
    /// Before these there was a success.
    complete: bool,
}

fn rest(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    REST_MIN.saturating_mul(1 << doublings).min(REST_MAX)
}

fn transfer_of(operation: &Operation) -> Option<Transfer> {
    match operation.kind {
        OperationKind::TransferLeader { partition, to, .. } => Some((partition, to)),
        OperationKind::Takeover { .. }
        | OperationKind::Repair(_)
        | OperationKind::MoveReplica(_)
        | OperationKind::Split(_)
        | OperationKind::Drain { .. } => None,
    }
}

/// Transfers that are not to be proposed now.
pub fn resting(state: &ZoneState) -> BTreeSet<Transfer> {
    if !may_rest(state) {
        return BTreeSet::new();
    }
    let now = state.zone_time();
    let mut seen: BTreeMap<Transfer, Failures> = BTreeMap::new();
    for operation in state.ended_operations_newest_first() {
        let (Some(transfer), Some(ended_at)) = (transfer_of(operation), operation.ended_at) else {
            continue;
        };
        let failures =
            seen.entry(transfer).or_insert(Failures { last: ended_at, count: 0, complete: false });
        match operation.state {
            OperationState::Succeeded => failures.complete = true,
            OperationState::Failed | OperationState::Cancelled if !failures.complete => {
                failures.count += 1;
            }
            OperationState::Failed | OperationState::Cancelled | OperationState::Running => {}
        }
    }
    seen.into_iter()
        .filter(|(_, failures)| {
            failures.count > 0 && now.since(failures.last) < rest(failures.count)
        })
        .map(|(transfer, _)| transfer)
        .collect()
}

/// Whether any transfer has failed lately: mostly none has, and there is nothing to look for.
fn may_rest(state: &ZoneState) -> bool {
    let now = state.zone_time();
    state
        .ended_operations_newest_first()
        .take_while(|operation| operation.ended_at.is_some_and(|at| now.since(at) < REST_MAX))
        .any(|operation| {
            transfer_of(operation).is_some() && operation.state != OperationState::Succeeded
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_rest_up_to_a_minute() {
        let seconds: Vec<u64> = (1..=8).map(|failures| rest(failures).as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(rest(u32::MAX), REST_MAX);
    }
}
