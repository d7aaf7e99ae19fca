//! The brake in the replicated state: how it is engaged and released, overridden and restored.

use super::{Applier, Draft};
use crate::{
    brake::{check_override, duration_in_words},
    command::BrakeChange,
    event::EventKind,
    ids::ZoneTime,
    outcome::{Applied, Outcome, Refusal},
    zone::Brake,
};

impl Applier<'_> {
    /// Refuses what the brake holds back while it holds.
    pub(super) fn check_brake(&self) -> Result<(), Refusal> {
        match self.state.brake() {
            Some(brake) => Err(Refusal::Braked { reason: brake.reason.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn set_brake(&mut self, change: &BrakeChange) {
        let now = self.now;
        let brake = self.brake_mut();
        let turned = brake.engaged != change.engaged;
        let since = if turned { now } else { brake.since };
        // An override is for the cause that the operator saw: it goes with the brake, but not with a new word
        // for why it is engaged.
        let overridden_until = if turned { None } else { brake.overridden_until };
        let (engaged, reason) = (change.engaged, change.reason.clone());
        *brake = Brake { engaged, reason, since, overridden_until };
        if turned {
            let (kind, message) = if change.engaged {
                (EventKind::BrakeEngaged, "the brake is engaged: repairs and moves wait")
            } else {
                (EventKind::BrakeReleased, "the brake is released")
            };
            self.record(Draft::new(kind, message.into(), change.reason.clone()));
        }
    }

    /// An operator overrides the brake, for 0 ms: no longer.
    pub(super) fn override_brake(&mut self, for_ms: u64, reason: &str) -> Outcome {
        check_override(for_ms, reason)?;
        if self.state.engaged_brake().is_none() {
            return Err(Refusal::BrakeNotEngaged);
        }
        if for_ms == 0 {
            let why = if reason.is_empty() { "an operator asked for it" } else { reason };
            self.end_override(why);
            return Ok(Applied::Done);
        }
        let until = ZoneTime(self.now.get().saturating_add(for_ms));
        self.brake_mut().overridden_until = Some(until);
        self.record(Draft::new(
            EventKind::BrakeOverridden,
            format!(
                "the brake is overridden for {}: repairs and moves go on",
                duration_in_words(for_ms)
            ),
            reason.to_owned(),
        ));
        Ok(Applied::Done)
    }

    /// Puts into the ledger that an override's time is over: from then on the brake holds in any case.
    pub(super) fn end_override_in_time(&mut self) {
        let brake = self.state.engaged_brake();
        let until = brake.and_then(|brake| brake.overridden_until);
        if until.is_some_and(|until| until <= self.now) {
            self.end_override("the time of its override is over");
        }
    }

    /// Lets the brake hold again, if it is overridden.
    fn end_override(&mut self, why: &str) {
        if self.brake_mut().overridden_until.take().is_some() {
            self.record(Draft::new(
                EventKind::BrakeRestored,
                "the brake holds again: repairs and moves wait".into(),
                why.to_owned(),
            ));
        }
    }

    fn brake_mut(&mut self) -> &mut Brake {
        let zone = self.state.zone.get_mut(&());
        &mut zone.expect("only `init` is applied before there is a zone").brake
    }
}
