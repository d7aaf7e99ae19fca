//! What is kept of one partition. Of a million each byte counts a million times: averages are 32 bits wide,
//! of which 24 count, and a moment takes 8 bytes.

use std::{num::NonZeroU32, time::Duration};

use super::{
    DIMENSIONS, Rates,
    average::{Averages, Decay},
};
use crate::ids::{ReplicaId, Term};

/// Which of the nodes that were heard of, from 1: so that no cell takes no more room than a cell.
pub type Slot = NonZeroU32;
/// Which session of its node a report came by.
pub type SessionCount = u32;

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    pub term: Term,
    pub replica: ReplicaId,
    /// Seconds since the leader's origin. Until then the averages are made up.
    at_seconds: f64,
    short: [f32; DIMENSIONS],
    long: [f32; DIMENSIONS],
    /// The load since `at`, as far as is known.
    input: [f32; DIMENSIONS],
    pub stored_bytes: f32,
    pub waiting: f32,
    pub shed_per_second: f32,
    /// Of the load, left of its leader's split point, in thousandths; 0: none is known.
    pub split_left_permille: u16,
    /// Who leads it, and by which session it said so.
    pub leader: Slot,
    pub session: SessionCount,
}

/// Rates of all dimensions at one moment, as a cell has them then.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sight {
    pub averages: [Averages; DIMENSIONS],
    pub input: [f64; DIMENSIONS],
}

impl Sight {
    /// A load that has been the same for long, as far as anybody knows, and goes on.
    pub fn steady(rates: &Rates) -> Self {
        let input = rates.to_array();
        Self { averages: input.map(Averages::of), input }
    }

    pub fn short(&self) -> Rates {
        Rates::from_array(self.averages.map(|averages| averages.short))
    }

    pub fn long(&self) -> Rates {
        Rates::from_array(self.averages.map(|averages| averages.long))
    }

    /// After some time in which the load was what it is.
    pub fn after(mut self, elapsed: Duration) -> Self {
        let decay = Decay::over(elapsed);
        for (averages, input) in self.averages.iter_mut().zip(self.input) {
            *averages = averages.after(decay, input);
        }
        self
    }

    pub fn without_input(mut self) -> Self {
        self.input = [0.0; DIMENSIONS];
        self
    }
}

// Half of the digits are enough, and an average is never beyond what 32 bits can hold: see `narrow`.
#[allow(clippy::cast_possible_truncation)]
fn narrow(value: f64) -> f32 {
    value.clamp(0.0, f64::from(f32::MAX)) as f32
}

impl Cell {
    pub fn new(
        (term, replica): (Term, ReplicaId),
        leader: Slot,
        session: SessionCount,
        now: Duration,
        sight: &Sight,
    ) -> Self {
        Self {
            term,
            replica,
            at_seconds: now.as_secs_f64(),
            short: sight.averages.map(|averages| narrow(averages.short)),
            long: sight.averages.map(|averages| narrow(averages.long)),
            input: sight.input.map(narrow),
            stored_bytes: 0.0,
            waiting: 0.0,
            shed_per_second: 0.0,
            split_left_permille: 0,
            leader,
            session,
        }
    }

    pub fn with_split_point(mut self, left_permille: u16) -> Self {
        self.split_left_permille = left_permille;
        self
    }

    pub fn with_levels(mut self, stored_bytes: f64, waiting: f64, shed_per_second: f64) -> Self {
        self.stored_bytes = narrow(stored_bytes);
        self.waiting = narrow(waiting);
        self.shed_per_second = narrow(shed_per_second);
        self
    }

    pub fn at(&self) -> Duration {
        Duration::from_secs_f64(self.at_seconds)
    }

    /// As it was when it was last made up.
    pub fn sight(&self) -> Sight {
        let mut sight = Sight { input: self.input.map(f64::from), ..Sight::default() };
        for (index, averages) in sight.averages.iter_mut().enumerate() {
            averages.short = f64::from(self.short[index]);
            averages.long = f64::from(self.long[index]);
        }
        sight
    }

    /// As it is now, if its load went on until `lasted_until` and there has been none since.
    pub fn sight_at(&self, lasted_until: Duration, now: Duration) -> Sight {
        let at = self.at();
        let until = lasted_until.min(now).max(at);
        let lasted = self.sight().after(until.saturating_sub(at));
        if until >= now {
            return lasted;
        }
        lasted.without_input().after(now.saturating_sub(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_of_them_are_small() {
        assert!(size_of::<Option<Cell>>() <= 112, "{} bytes", size_of::<Option<Cell>>());
    }
}
