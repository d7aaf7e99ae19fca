//! What left which node a while ago, from the operations that are remembered: so a new leader knows it, too.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    balance::{BalancePolicy, Departed, Departure},
    ids::{NodeId, PartitionId, ZoneTime},
    operation::{Operation, OperationKind, OperationState, Origin},
    state::ZoneState,
};

use super::{left, own_time::OwnTime};

/// What could not be split is no more divisible a moment later.
const SPLIT_RETRY_AFTER: Duration = Duration::from_secs(600);

/// One thing that has left a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub from: NodeId,
    pub at: ZoneTime,
    pub what: Departed,
}

/// By partition, the latest first; all times are the balancer's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Departures {
    left: BTreeMap<PartitionId, Vec<Left>>,
    /// When partitions were split, or split off.
    split: BTreeMap<PartitionId, ZoneTime>,
    /// When partitions could not be split.
    unsplit: BTreeMap<PartitionId, ZoneTime>,
    /// How long whatever was changed is left alone.
    cooldown: Duration,
}

impl Departures {
    /// Of what an operator or the balancer has moved for its own sake. What was moved because a node was to be left,
    /// or was lost, is welcome back there.
    pub fn of(state: &ZoneState, policy: &BalancePolicy, time: &OwnTime) -> Self {
        let cooldown = Duration::from_millis(policy.cooldown_ms);
        let mut departures = Self { cooldown, ..Self::default() };
        for operation in lately_ended(state, policy) {
            let ended_at = operation.ended_at.map(|at| time.when(at));
            if let (OperationKind::Split(split), Some(at)) = (&operation.kind, ended_at) {
                if operation.state == OperationState::Succeeded {
                    for half in [split.partition, split.child] {
                        departures.split.entry(half).or_insert(at);
                    }
                } else {
                    departures.unsplit.entry(split.partition).or_insert(at);
                }
            }
            let (Some((partition, from)), Some(at)) = (left(&operation.kind), ended_at) else {
                continue;
            };
            if !operation.is_meant() {
                continue;
            }
            let what = match operation.kind {
                OperationKind::TransferLeader { .. } => [Some(Departed::Leadership), None],
                // Whether it led is not remembered: as if it had.
                _ => [Some(Departed::Replica), Some(Departed::Leadership)],
            };
            let left = what.into_iter().flatten().map(|what| Left { from, at, what });
            departures.left.entry(partition).or_default().extend(left);
        }
        departures
    }

    /// Until when the partition is left alone, since something was changed about it.
    pub fn cooldown_until(&self, partition: PartitionId) -> ZoneTime {
        let left = self.of_partition(partition).iter().map(|left| left.at);
        let changed_at = left.chain(self.split.get(&partition).copied()).max();
        changed_at.map_or(ZoneTime::default(), |at| at.after(self.cooldown))
    }

    /// Whether it may be split, for all that is remembered: not soon after it could not.
    pub fn may_be_split(&self, partition: PartitionId, now: ZoneTime) -> bool {
        let failed_at = self.unsplit.get(&partition);
        failed_at.is_none_or(|at| now.since(*at) >= SPLIT_RETRY_AFTER)
    }

    pub fn of_partition(&self, partition: PartitionId) -> &[Left] {
        self.left.get(&partition).map_or(&[], Vec::as_slice)
    }
}

impl Left {
    /// For the planner, to which nodes are places.
    pub fn departure(&self, place: impl Fn(NodeId) -> Option<u32>) -> Option<Departure> {
        Some(Departure { from: place(self.from)?, at: self.at, what: self.what })
    }
}

/// Whether load has moved anything lately.
pub(super) fn was_moved_by_heat(state: &ZoneState, policy: &BalancePolicy) -> bool {
    state.running_operations().any(|(_, operation)| operation.origin == Origin::Heat)
        || lately_ended(state, policy).any(|operation| operation.origin == Origin::Heat)
}

fn lately_ended<'a>(
    state: &'a ZoneState,
    policy: &BalancePolicy,
) -> impl Iterator<Item = &'a Operation> {
    let (now, window) = (state.zone_time(), Duration::from_millis(policy.reversal_window_ms));
    state
        .ended_operations_newest_first()
        .take_while(move |operation| operation.ended_at.is_some_and(|at| now.since(at) < window))
}
