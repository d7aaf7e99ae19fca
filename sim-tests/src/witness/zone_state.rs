//! What must be true of each committed state of the zone, and from one to the next: pure functions of the
//! state that a member has applied.
//!
//! - G4: the ranges cover the key space exactly; a partition's replicas are on distinct nodes, and a
//!   replica id is one placement for ever.
//! - G7: while too many nodes are down the brake is engaged, and while it is, no change begins.
//! - G8: an operation goes on until it ends, and has ended for good.
//! - G10: an operation has a reason.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    ZoneState,
    ids::{NodeId, PartitionId, ReplicaId, ZoneTime},
    node::{Administrative, NodeState},
    operation::{Operation, OperationKind, OperationState, Origin},
};

use crate::checks::Problem;

/// For how long too many nodes may be down before the brake is engaged: rounds of judgement, and the
/// commit.
const BRAKE_WITHIN_MS: u64 = 3_000;

/// Follows the zone's state from one committed command to the next.
#[derive(Default)]
pub(super) struct ZoneStates {
    newest: Option<ZoneState>,
    placements: BTreeMap<ReplicaId, (PartitionId, NodeId)>,
    /// Since when too many nodes have been down without a brake.
    unbraked: Option<ZoneTime>,
}

impl ZoneStates {
    /// A member has applied a command that no member had applied before.
    pub(super) fn advances(&mut self, state: ZoneState) -> Result<(), Problem> {
        if !state.is_initialized() {
            return Ok(());
        }
        covers(&state)?;
        self.placed(&state)?;
        self.brakes(&state)?;
        for (id, operation) in state.operations().iter() {
            if operation.reason.trim().is_empty() {
                let sentence = format!("operation {id} has no reason");
                return Err(Problem::new("G10", sentence).with_details(format!("{operation:?}")));
            }
        }
        if let Some(before) = &self.newest {
            operations_go_on(before, &state)?;
            begins_nothing_while_braked(before, &state)?;
            if state.revision() < before.revision() || state.zone_time() < before.zone_time() {
                let sentence = "the zone's revision or time went back".to_owned();
                return Err(Problem::new("G8", sentence));
            }
        }
        self.newest = Some(state);
        Ok(())
    }

    fn placed(&mut self, state: &ZoneState) -> Result<(), Problem> {
        for (id, partition) in state.partitions().iter() {
            let nodes: BTreeSet<NodeId> =
                partition.targets.iter().map(|replica| replica.node).collect();
            if nodes.len() != partition.targets.len() {
                let sentence = format!("partition {id} is to have two replicas on one node");
                return Err(Problem::new("G4", sentence).with_details(format!("{partition:?}")));
            }
            let retiring = partition.retiring.iter().map(|retiring| &retiring.replica);
            for replica in partition.targets.iter().chain(retiring) {
                let placement = (*id, replica.node);
                let known = *self.placements.entry(replica.id).or_insert(placement);
                if known != placement {
                    let sentence = format!(
                        "replica {} was of partition {} on node {}, and is of partition {id} on node {}",
                        replica.id, known.0, known.1, replica.node
                    );
                    return Err(Problem::new("G2", sentence));
                }
            }
        }
        Ok(())
    }

    fn brakes(&mut self, state: &ZoneState) -> Result<(), Problem> {
        let active: Vec<NodeState> = state
            .nodes()
            .iter()
            .filter(|(_, node)| node.administrative == Administrative::Active)
            .map(|(_, node)| node.liveness.state)
            .collect();
        let down = active.iter().filter(|state| **state == NodeState::Down).count();
        if down < 2 || 3 * down <= active.len() || state.brake().is_some() {
            self.unbraked = None;
            return Ok(());
        }
        let since = *self.unbraked.get_or_insert(state.zone_time());
        let lasts_ms = state.zone_time().since(since).as_millis();
        if lasts_ms > u128::from(BRAKE_WITHIN_MS) {
            let sentence = format!(
                "{down} of {} nodes have been down for {lasts_ms} ms, and the brake is not engaged",
                active.len()
            );
            return Err(Problem::new("G7", sentence));
        }
        Ok(())
    }
}

fn covers(state: &ZoneState) -> Result<(), Problem> {
    let mut ranges: Vec<_> =
        state.partitions().iter().map(|(id, partition)| (&partition.range, *id)).collect();
    ranges.sort_by(|(left, _), (right, _)| left.start().cmp(right.start()));
    let problem = |sentence: String| Err(Problem::new("G4", sentence));
    let (Some((first, _)), Some((last, _))) = (ranges.first(), ranges.last()) else {
        return Ok(());
    };
    if !first.start().is_empty() || !last.end().is_empty() {
        return problem("the first and the last keys belong to no partition".into());
    }
    for pair in ranges.windows(2) {
        let [(left, left_id), (right, right_id)] = pair else { continue };
        if left.end() != right.start() || left.end().is_empty() {
            return problem(format!(
                "between partition {left_id}, which ends at {:?}, and partition {right_id}, which starts \
                 at {:?}, is a gap or an overlap",
                left.end(),
                right.start()
            ));
        }
    }
    Ok(())
}

fn operations_go_on(before: &ZoneState, after: &ZoneState) -> Result<(), Problem> {
    for (id, was) in before.operations().iter() {
        let is = after.operation(*id);
        let problem = |what: &str| {
            let details = format!("{was:?}\n{is:?}");
            Err(Problem::new("G8", format!("operation {id} {what}")).with_details(details))
        };
        match (was.state, is) {
            (OperationState::Running, None) => return problem("was forgotten while it ran"),
            (OperationState::Running, Some(is)) if !is_same(was, is) => {
                return problem("became another one");
            }
            (OperationState::Running, Some(_)) | (_, None) => {}
            (ended, Some(is)) if is.state != ended => return problem("ended twice"),
            (_, Some(_)) => {}
        }
    }
    Ok(())
}

fn is_same(was: &Operation, is: &Operation) -> bool {
    let kind = match (&was.kind, &is.kind) {
        (OperationKind::Repair(was), OperationKind::Repair(is))
        | (OperationKind::MoveReplica(was), OperationKind::MoveReplica(is)) => was == is,
        (was, is) => std::mem::discriminant(was) == std::mem::discriminant(is),
    };
    kind && was.origin == is.origin && was.parent == is.parent
}

/// While the brake is engaged no repair, no removal and no discretionary move begins.
fn begins_nothing_while_braked(before: &ZoneState, after: &ZoneState) -> Result<(), Problem> {
    let (Some(was), Some(is)) = (before.brake(), after.brake()) else { return Ok(()) };
    if was.since != is.since {
        return Ok(());
    }
    for (id, operation) in after.operations().iter() {
        let held_back = match operation.kind {
            OperationKind::Repair(_) | OperationKind::MoveReplica(_) => true,
            OperationKind::TransferLeader { .. } => operation.origin == Origin::Balance,
            OperationKind::Takeover { .. } | OperationKind::Drain { .. } => false,
        };
        if held_back && before.operation(*id).is_none() {
            let sentence =
                format!("operation {id} began while the brake was engaged ({})", is.reason);
            return Err(Problem::new("G7", sentence).with_details(format!("{operation:?}")));
        }
    }
    Ok(())
}
