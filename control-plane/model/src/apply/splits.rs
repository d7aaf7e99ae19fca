//! Splits: how they start, when the partition table changes, and how they end.
//!
//! Nothing of the table changes before the group was seen to have split: then the parent shrinks and the
//! child appears, in one command, so that each committed state covers the key space. What is adopted is
//! what the child's group says of itself. So it makes no difference whether the operation still runs: a
//! split that was cancelled too late is one.

use super::{Applier, Draft};
use crate::{
    command::{GroupObservation, SplitOff},
    event::EventKind,
    ids::{OperationId, PartitionId},
    key_range::{KEY_BYTES_MAX, KeyRange, display_key},
    operation::{Operation, OperationKind, OperationState, Origin, Split, SplitPoint},
    outcome::{Applied, Outcome, Refusal},
    partition::{Partition, Replica},
    state::ZoneState,
};

/// Splits that run at a time. They move no data, but each stirs its partition's clients.
pub const SPLITS_IN_FLIGHT_MAX: u32 = 16;

impl Applier<'_> {
    pub(super) fn split_partition(
        &mut self,
        id: PartitionId,
        at: &SplitPoint,
        origin: Origin,
        reason: &str,
    ) -> Outcome {
        if origin != Origin::Operator {
            self.check_brake()?;
        }
        let partition = self.partition(id)?;
        check_point(id, partition, at)?;
        self.state.check_free(id, partition)?;
        if !partition.is_settled() {
            return Err(Refusal::NotSettled { partition: id });
        }
        let count = self.state.splits_in_flight();
        if count >= SPLITS_IN_FLIGHT_MAX {
            let (what, max) = ("splits".into(), SPLITS_IN_FLIGHT_MAX);
            return Err(Refusal::OverBudget { what, count, max });
        }
        let nodes: Vec<_> = partition.targets.iter().map(|target| target.node).collect();
        let child = self.new_partition();
        let replicas =
            nodes.into_iter().map(|node| Replica { id: self.new_replica(), node }).collect();
        let kind = OperationKind::Split(Split { partition: id, at: at.clone(), child, replicas });
        let operation = self.start_operation(kind, origin, reason.to_owned(), None);
        self.state.update_partition(id, |partition| partition.change = Some(operation));
        Ok(Applied::Operation(operation))
    }

    /// A child was seen: the partition that it was split off from gives it its keys.
    pub(super) fn adopt(
        &mut self,
        observation: &GroupObservation,
        split_off: &SplitOff,
    ) -> Result<(), Refusal> {
        let id = observation.partition;
        let invalid = |why: &str| Refusal::InvalidPlacement { partition: id, why: why.into() };
        let given_out = self.state.zone().map_or(0, |zone| zone.counters.partition);
        if id.get() == 0 || id.get() > given_out {
            return Err(invalid("its id was never given out"));
        }
        let membership = observation.membership.as_ref();
        let membership = membership.ok_or_else(|| invalid("its members are not known"))?;
        let membership = self.well_formed(id, membership)?;
        let [targets] = membership.voter_sets.as_slice() else {
            return Err(invalid("it changes its members before it is known"));
        };
        let targets = targets.clone();
        let mut nodes: Vec<_> = targets.iter().map(|target| target.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.len() != targets.len() {
            return Err(invalid("two of its replicas are on one node"));
        }
        let range = split_off.range.clone();
        let parent_id = self.state.partition_of_key(range.start());
        let parent_id = parent_id.ok_or_else(|| invalid("nothing holds its first key"))?;
        let parent = self.partition(parent_id)?;
        let not_cut_off = parent.range.start() == range.start()
            || parent.range.end() != range.end()
            || split_off.range_epoch <= parent.range_epoch;
        if not_cut_off {
            // Of several splits in a row another one comes first.
            return Err(Refusal::StaleObservation {
                what: format!("the range of partition {id} next to that of partition {parent_id}"),
            });
        }
        let left = KeyRange::new(parent.range.start(), range.start())
            .map_err(|error| invalid(&error.to_string()))?;
        let leader_node = parent.leader.map(|leader| leader.node);
        let preferred = targets.iter().find(|target| leader_node == Some(target.node));
        let child = Partition {
            range: range.clone(),
            range_epoch: split_off.range_epoch,
            preferred_leader: preferred.or(targets.first()).map(|target| target.id),
            targets,
            retiring: Vec::new(),
            observed: Some(membership),
            leader: None,
            change: None,
        };
        let operation = parent.change.filter(|change| {
            self.state
                .operation(*change)
                .and_then(Operation::split)
                .is_some_and(|it| it.child == id)
        });
        self.state.update_partition(parent_id, |parent| {
            parent.range = left;
            parent.range_epoch = split_off.range_epoch;
        });
        self.state.insert_partition(id, child);
        let reason = match operation {
            Some(operation) => format!("committed by the group, as operation {operation} wanted"),
            None => {
                "committed by the group; the operation had ended before that was seen".to_owned()
            }
        };
        self.record(Draft {
            partition: Some(id),
            operation,
            ..Draft::new(
                EventKind::PartitionSplit,
                format!(
                    "partition {parent_id} was split at {}: partition {id} has the keys from there on",
                    display_key(range.start())
                ),
                reason,
            )
        });
        Ok(())
    }

    /// Ends the split that made this partition, if all that it was for has happened.
    pub(super) fn end_split_of(&mut self, child: PartitionId) {
        let mut running = self.state.running_operations();
        let parent = running.find_map(|(_, operation)| {
            operation.split().filter(|split| split.child == child).map(|split| split.partition)
        });
        drop(running);
        if let Some(parent) = parent {
            self.end_change_if_done(parent);
        }
    }

    /// A split that its group has made goes on until it has succeeded.
    pub(super) fn end_split(
        &mut self,
        id: OperationId,
        end: OperationState,
        error: &str,
    ) -> Result<(), Refusal> {
        let operation = self.operation(id)?;
        let Some(split) = operation.split() else { return Ok(()) };
        let (parent, child) = (split.partition, split.child);
        if end != OperationState::Succeeded && self.state.partition(child).is_some() {
            let why = format!("partition {child} exists");
            return Err(Refusal::PastNoReturn { operation: id, why });
        }
        self.release(parent, id);
        self.finish_operation(id, end, error);
        Ok(())
    }
}

fn check_point(id: PartitionId, partition: &Partition, at: &SplitPoint) -> Result<(), Refusal> {
    let SplitPoint::Key(key) = at else { return Ok(()) };
    if key.len() > KEY_BYTES_MAX {
        let bytes = u64::try_from(key.len()).unwrap_or(u64::MAX);
        let max = u64::try_from(KEY_BYTES_MAX).unwrap_or(u64::MAX);
        return Err(Refusal::SplitKeyTooLong { bytes, max });
    }
    let range = &partition.range;
    if range.contains(key) && key.as_ref() != range.start() {
        return Ok(());
    }
    let end = if range.end().is_empty() { "the last one".into() } else { display_key(range.end()) };
    Err(Refusal::NotInside {
        partition: id,
        key: display_key(key),
        start: display_key(range.start()),
        end,
    })
}

impl ZoneState {
    /// Splits that run now.
    pub fn splits_in_flight(&self) -> u32 {
        let running = self.running_operations();
        let count = running.filter(|(_, operation)| operation.split().is_some()).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether the child is there, and led.
    pub(super) fn split_done(&self, split: &Split) -> Result<(), String> {
        match self.partition(split.child) {
            None => Err(format!("partition {} is not split yet", split.partition)),
            Some(child) if child.leader.is_none() => {
                Err(format!("partition {} has no leader yet", split.child))
            }
            Some(_) => Ok(()),
        }
    }
}
