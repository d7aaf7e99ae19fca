//! How fast a client may retry.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use runtime::seams::Environment;

/// Waits that double, between a least and a most, each jittered by half of itself.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    min: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { next: min, min, max }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// The next wait.
    pub(crate) fn draw(&mut self, environment: &Environment) -> Duration {
        let base = self.next;
        self.next = (base * 2).min(self.max);
        environment.jittered(base).min(self.max)
    }

    /// The longest wait, jittered, whatever came before.
    pub(crate) fn draw_longest(&self, environment: &Environment) -> Duration {
        environment.jittered(self.max)
    }
}

/// Bounds how much of a client's traffic can be retries.
///
/// Each request pays in a fraction of an attempt, each attempt after a request's first takes one out;
/// following a hint is free, so that sick partitions do not slow down the moves of healthy ones, and so is an
/// attempt at the time that a server has named, so that one key that is throttled does not slow down others.
/// When nothing is left, requests do not fail (an outage of a few seconds has to be survived by
/// everybody who waits in it): they wait for the longest backoff between attempts, so that a zone in
/// trouble sees five attempts per second and waiting request at most.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    thousandths: AtomicU64,
}

const ATTEMPT: u64 = 1_000;
const PAID_PER_REQUEST: u64 = 200;
const CAPACITY: u64 = 1_000 * ATTEMPT;

impl RetryBudget {
    pub(crate) fn full() -> Self {
        Self { thousandths: AtomicU64::new(CAPACITY) }
    }

    pub(crate) fn pay_in(&self) {
        let _ = self.thousandths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some((left + PAID_PER_REQUEST).min(CAPACITY))
        });
    }

    /// Whether an attempt was left.
    pub(crate) fn take(&self) -> bool {
        self.thousandths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(ATTEMPT))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_within_its_bounds() {
        let environment = Environment::production();
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));
        for base in [5, 10, 20, 40, 80, 160, 200, 200] {
            let wait = backoff.draw(&environment);
            assert!(wait >= Duration::from_millis(base) / 2, "{wait:?} for {base}");
            assert!(wait <= Duration::from_millis(base * 3 / 2 + 1).min(backoff.max), "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.draw(&environment) <= Duration::from_millis(8));
    }

    #[test]
    fn the_budget_runs_out_and_fills_again() {
        let budget = RetryBudget::full();
        let taken = std::iter::repeat_with(|| budget.take()).take_while(|left| *left).count();
        assert_eq!(taken, 1_000);
        for _ in 0..5 {
            budget.pay_in();
        }
        assert!(budget.take());
        assert!(!budget.take());
    }
}
