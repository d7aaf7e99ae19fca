//! The brake: whether it holds, what it holds back, and for how long an operator may override it (G7).
//!
//! It is engaged and released by [`crate::detector`], for what seems to be lost at once, and holds back what the
//! control plane would begin by itself: repairs, the moves and transfers of drains, evening out; and two commands,
//! to remove a node and to rebalance. It does not hold back takeovers, first placements, what has begun already,
//! and what an operator asks for by name: a move, a transfer, the start of a drain.
//!
//! An operator who knows that the lost nodes will not come back can override it for a while. Then it is engaged
//! still, but holds nothing back. All other checks stay: no change begins in a partition without a majority. The
//! override ends when its time is over, by the operator's word, and with the brake, so that one that is engaged
//! later holds.

use std::collections::BTreeSet;

use crate::{
    ids::{PartitionId, ReplicaId, ZoneTime, millis},
    node::NodeState,
    observation::ZoneView,
    outcome::Refusal,
    partition::{Partition, Replica},
    reason::check_reason,
    repair::can_change,
    state::ZoneState,
    status::plural,
    tally::OpenDomains,
    zone::Brake,
};

/// The longest override: whoever needs more looks again first.
pub const OVERRIDE_MS_MAX: u64 = 60 * 60 * 1_000;

impl Brake {
    /// How much longer an operator's override lasts at that zone time; none: there is none, or it is over.
    pub fn overridden_for_ms(&self, now: ZoneTime) -> Option<u64> {
        let until = self.overridden_until.filter(|until| self.engaged && *until > now)?;
        Some(millis(until.since(now)))
    }
}

impl ZoneState {
    /// The brake if it holds: it is engaged, and no operator overrides it now.
    pub fn brake(&self) -> Option<&Brake> {
        self.engaged_brake().filter(|brake| brake.overridden_for_ms(self.zone_time()).is_none())
    }

    /// The brake if it is engaged, overridden or not.
    pub fn engaged_brake(&self) -> Option<&Brake> {
        self.zone().map(|zone| &zone.brake).filter(|brake| brake.engaged)
    }

    pub fn is_brake_overridden(&self) -> bool {
        self.engaged_brake().is_some() && self.brake().is_none()
    }
}

/// Checks what an operator asks for, whatever the zone's state; 0 ms, which ends an override, needs no reason.
///
/// # Errors
/// If it is too long, or the reason is none that a person can read.
pub fn check_override(for_ms: u64, reason: &str) -> Result<(), Refusal> {
    if for_ms > OVERRIDE_MS_MAX {
        return Err(Refusal::OverrideTooLong { for_ms, max_ms: OVERRIDE_MS_MAX });
    }
    if for_ms == 0 && reason.is_empty() {
        return Ok(());
    }
    check_reason(reason)
}

/// What would begin, if there is a place for it and the budgets allow it, if the brake did not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// Partitions with a replica that is lost for good, missing, failed, or without need in another's fault domain.
    pub repairs: u32,
    /// Replicas on nodes that are being drained.
    pub moves: u32,
    /// Leaderships on nodes that live and should not lead.
    pub transfers: u32,
}

impl HeldBack {
    pub fn total(self) -> u32 {
        self.repairs.saturating_add(self.moves).saturating_add(self.transfers)
    }
}

/// What waits for the brake; nothing if it does not hold. Without a view (on a member that does not lead) a
/// replica that has failed on a living node is not known.
pub fn held_back(state: &ZoneState, view: Option<&ZoneView>) -> HeldBack {
    if state.brake().is_none() {
        return HeldBack::default();
    }
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let failed: BTreeSet<(PartitionId, ReplicaId)> =
        view.map(|view| view.failed().collect()).unwrap_or_default();
    let replaceable = state.nodes().iter().filter(|(id, _)| state.is_replaceable(**id));
    let affected: BTreeSet<PartitionId> = replaceable
        .flat_map(|(id, _)| state.partitions_on(*id))
        .chain(failed.iter().map(|(partition, _)| *partition))
        .chain(state.short().iter().copied())
        .chain(state.crowded().iter().copied())
        .collect();
    let open = OpenDomains::of(state);
    let waiting = affected.into_iter().filter(|id| {
        state.partition(*id).is_some_and(|partition| {
            can_change(state, partition) && needs_repair(state, &failed, &open, *id, partition)
        })
    });
    let mut held_back = HeldBack { repairs: count(waiting.count()), ..HeldBack::default() };
    for (id, node) in state.nodes().iter() {
        if node.is_up() && !node.is_eligible() {
            held_back.transfers += count(state.leader_count(*id));
        }
        // Of one that is down the replicas are made again elsewhere: these are repairs.
        if node.is_draining() && node.liveness.state != NodeState::Down {
            let on = state.partitions_on(*id).filter_map(|partition| state.partition(partition));
            let moves = on.filter(|partition| {
                partition.target_on(*id).is_some() && can_change(state, partition)
            });
            held_back.moves += count(moves.count());
        }
    }
    held_back
}

fn needs_repair(
    state: &ZoneState,
    failed: &BTreeSet<(PartitionId, ReplicaId)>,
    open: &OpenDomains,
    id: PartitionId,
    partition: &Partition,
) -> bool {
    let is_lost =
        |target: &Replica| state.is_replaceable(target.node) || failed.contains(&(id, target.id));
    state.short().contains(&id)
        || partition.targets.iter().any(is_lost)
        || state.crowded().contains(&id) && open.has_room_for(state, partition)
}

/// The brake in a sentence, if it is engaged.
pub fn problem(state: &ZoneState, held_back: HeldBack) -> Option<String> {
    let brake = state.engaged_brake()?;
    let reason = &brake.reason;
    if let Some(left_ms) = brake.overridden_for_ms(state.zone_time()) {
        let left = duration_in_words(left_ms);
        return Some(format!(
            "the brake is engaged, but an operator overrides it for another {left}: {reason}"
        ));
    }
    Some(format!(
        "the brake is engaged, so {} (leaders are still taken over): {reason}; `zonectl brake override --for 10m \
         --reason …` lets them go on",
        waiting_in_words(held_back)
    ))
}

fn waiting_in_words(held_back: HeldBack) -> String {
    let number = |count: u32, one: &str, many: &str| {
        (count > 0).then(|| plural(usize::try_from(count).unwrap_or(usize::MAX), one, many))
    };
    let mut waiting: Vec<String> = [
        number(held_back.repairs, "repair", "repairs"),
        number(held_back.moves, "move of a drain", "moves of drains"),
        number(held_back.transfers, "transfer of leadership", "transfers of leadership"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let verb = if held_back.total() == 1 { "waits" } else { "wait" };
    match waiting.pop() {
        None => "repairs and moves would have to wait".to_owned(),
        Some(last) if waiting.is_empty() => format!("{last} {verb}"),
        Some(last) => format!("{} and {last} {verb}", waiting.join(", ")),
    }
}

/// In minutes if they are many, rounded up, for example `9 min` or `40 s`.
pub(crate) fn duration_in_words(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    if seconds > 90 { format!("{} min", seconds.div_ceil(60)) } else { format!("{seconds} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_said_in_words() {
        let said =
            |repairs, moves, transfers| waiting_in_words(HeldBack { repairs, moves, transfers });
        assert_eq!(said(0, 0, 0), "repairs and moves would have to wait");
        assert_eq!(said(1, 0, 0), "1 repair waits");
        assert_eq!(said(3, 2, 0), "3 repairs and 2 moves of drains wait");
        assert_eq!(said(1, 1, 4), "1 repair, 1 move of a drain and 4 transfers of leadership wait");
    }

    #[test]
    fn durations_are_rounded_up() {
        for (ms, words) in [
            (1, "1 s"),
            (40_000, "40 s"),
            (90_001, "2 min"),
            (540_000, "9 min"),
            (599_001, "10 min"),
        ] {
            assert_eq!(duration_in_words(ms), words);
        }
    }

    #[test]
    fn an_override_has_a_limit_and_a_reason() {
        let refused = |for_ms, reason: &str| {
            let refusal = check_override(for_ms, reason).expect_err("refused");
            assert_eq!(refusal.category(), crate::outcome::Category::InvalidArgument);
            refusal.to_string()
        };
        assert_eq!(check_override(OVERRIDE_MS_MAX, "rack 3 is gone: größer"), Ok(()));
        assert_eq!(check_override(1, &"x".repeat(256)), Ok(()));
        assert_eq!(check_override(0, ""), Ok(()), "to end one needs no reason");
        assert!(refused(OVERRIDE_MS_MAX + 1, "why").contains("at most 3600000 ms"));
        assert!(refused(u64::MAX, "why").contains("an hour"));
        for reason in ["", " ", "a\nb", "a\u{1b}[31m", &"x".repeat(257)] {
            assert!(refused(1_000, reason).contains("reason"), "{reason:?}");
        }
        assert!(refused(0, &"x".repeat(257)).contains("256 bytes"));
    }
}
