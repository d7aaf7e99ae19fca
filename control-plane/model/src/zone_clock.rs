//! The leader's side of zone time: the last committed zone time plus the leader's monotonic advance,
//! at most one second for each step, so that a pause or a jump of a clock never ages the zone.

use std::time::Duration;

use crate::ids::{ZoneTime, millis};

/// The most that zone time advances from one command to the next.
pub const ZONE_TIME_STEP_MAX_MS: u64 = 1_000;

/// Proposes zone times while a member leads.
#[derive(Clone, Copy, Debug)]
pub struct ZoneClock {
    base: ZoneTime,
    at: Duration,
}

impl ZoneClock {
    /// Starts at the committed zone time; `now` is the leader's monotonic time since its own origin.
    pub const fn new(committed: ZoneTime, now: Duration) -> Self {
        Self { base: committed, at: now }
    }

    /// The zone time to put into a command that is proposed now. Consecutive calls never go backwards.
    pub fn propose(&mut self, committed: ZoneTime, now: Duration) -> ZoneTime {
        let elapsed = millis(now.saturating_sub(self.at)).min(ZONE_TIME_STEP_MAX_MS);
        self.base = ZoneTime(self.base.get().saturating_add(elapsed)).max(committed);
        self.at = self.at.max(now);
        self.base
    }

    /// The zone time now, for comparing with; proposes nothing.
    pub fn read(&self, now: Duration) -> ZoneTime {
        let elapsed = millis(now.saturating_sub(self.at)).min(ZONE_TIME_STEP_MAX_MS);
        ZoneTime(self.base.get().saturating_add(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advances_with_the_monotonic_clock_but_never_leaps() {
        let at = Duration::from_millis;
        let mut clock = ZoneClock::new(ZoneTime(500), at(10_000));
        assert_eq!(clock.read(at(10_200)), ZoneTime(700));
        assert_eq!(clock.propose(ZoneTime(500), at(10_200)), ZoneTime(700));
        assert_eq!(clock.propose(ZoneTime(500), at(10_200)), ZoneTime(700));
        assert_eq!(clock.propose(ZoneTime(500), at(99_000)), ZoneTime(1_700), "a pause is capped");
        assert_eq!(clock.propose(ZoneTime(500), at(50_000)), ZoneTime(1_700), "no way back");
        assert_eq!(clock.propose(ZoneTime(9_000), at(99_100)), ZoneTime(9_000));
    }
}
