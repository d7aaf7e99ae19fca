//! Averages that forget: exponentially, with one half-life for what is new and one for what lasts.
//!
//! A report says how much there was in an interval, not when in it. Its load is taken as even over the
//! interval, which makes the average exact for a steady load whatever the intervals are. Between reports the
//! load goes on as last reported (the *input*), towards which the average moves.

use std::time::Duration;

pub const SHORT_HALF_LIFE: Duration = Duration::from_secs(10);
pub const LONG_HALF_LIFE: Duration = Duration::from_secs(300);

/// What is left, after some time, of what an average was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decay {
    pub short: f64,
    pub long: f64,
}

impl Decay {
    pub fn over(elapsed: Duration) -> Self {
        if elapsed.is_zero() {
            return Self { short: 1.0, long: 1.0 };
        }
        let seconds = elapsed.as_secs_f64();
        let left = |half_life: Duration| (-seconds / half_life.as_secs_f64()).exp2();
        Self { short: left(SHORT_HALF_LIFE), long: left(LONG_HALF_LIFE) }
    }
}

/// The two averages of one dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Averages {
    pub short: f64,
    pub long: f64,
}

impl Averages {
    pub fn of(rate: f64) -> Self {
        Self { short: rate, long: rate }
    }

    /// After a time in which the load was `input`.
    pub fn after(self, decay: Decay, input: f64) -> Self {
        Self {
            short: input + (self.short - input) * decay.short,
            long: input + (self.long - input) * decay.long,
        }
    }
}
