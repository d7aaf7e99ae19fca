//! The clock seam, and the clock of each host behind it.
//!
//! turmoil drives one tokio clock for each host, all at the same rate. A [`HostClock`] says what the
//! host's process sees instead: a clock that runs a little too fast or too slowly, that stands still while
//! its machine is paused, and a wall clock that jumps. It is pure arithmetic on simulated time;
//! [`ProcessClock`] puts a boot's timers under it, so that the seam, openraft's runtime and all local
//! waiting agree on the time.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{FutureExt, future::BoxFuture};
use runtime::{
    seams::{Clock, Moment},
    time::Timekeeper,
};
use tokio::time::Instant;

use crate::gate::Gate;

/// The simulated wall clock's date when a simulation starts, in seconds since 1970.
pub const EPOCH_SECONDS: u64 = 1_700_000_000;

/// The date when a simulation starts.
pub fn epoch() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(EPOCH_SECONDS)
}

/// How fast a clock runs, in millionths of the right rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u32);

impl Rate {
    pub const RIGHT: Rate = Rate(1_000_000);
}

/// What a host's clocks say at which simulated time. Between two changes the monotonic clock is linear.
///
/// **Invariant**: the monotonic clock never goes backwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostClock {
    rate: Rate,
    /// The last change, in simulated time, and what the clock said then.
    changed_at: Duration,
    read_then: Duration,
    stands_still: bool,
    wall_ahead_ms: i64,
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new(Duration::ZERO, Rate::RIGHT)
    }
}

fn scaled(duration: Duration, by: u32, over: u32, round_up: bool) -> Duration {
    let product = duration.as_nanos() * u128::from(by);
    let over = u128::from(over.max(1));
    let nanos = if round_up { product.div_ceil(over) } else { product / over };
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl HostClock {
    /// A clock that is right at `now`.
    pub fn new(now: Duration, rate: Rate) -> Self {
        Self { rate, changed_at: now, read_then: now, stands_still: false, wall_ahead_ms: 0 }
    }

    /// Starts the monotonic clock anew, right at `now`.
    pub fn start(&mut self, now: Duration, rate: Rate) {
        *self = Self { wall_ahead_ms: self.wall_ahead_ms, ..Self::new(now, rate) };
    }

    /// What the monotonic clock says.
    pub fn read(&self, now: Duration) -> Duration {
        if self.stands_still {
            return self.read_then;
        }
        let since = now.saturating_sub(self.changed_at);
        if self.rate == Rate::RIGHT {
            return self.read_then + since;
        }
        self.read_then + scaled(since, self.rate.0, Rate::RIGHT.0, false)
    }

    /// The simulated time at which it will have said `reading` for the first time, if nothing changes.
    pub fn due(&self, reading: Duration) -> Duration {
        let ahead = reading.saturating_sub(self.read_then);
        if self.rate == Rate::RIGHT {
            return self.changed_at.saturating_add(ahead);
        }
        self.changed_at.saturating_add(scaled(ahead, Rate::RIGHT.0, self.rate.0, true))
    }

    /// Stops the monotonic clock, or lets it go on.
    pub fn stand_still(&mut self, now: Duration, still: bool) {
        self.read_then = self.read(now);
        self.changed_at = now;
        self.stands_still = still;
    }

    /// Changes the wall clock, and nothing else.
    pub fn jump_wall(&mut self, by_ms: i64) {
        self.wall_ahead_ms = self.wall_ahead_ms.saturating_add(by_ms);
    }

    /// The date by the wall clock, which is not before 1970.
    pub fn wall(&self, now: Duration) -> SystemTime {
        let right = Duration::from_secs(EPOCH_SECONDS) + self.read(now);
        let ahead = Duration::from_millis(self.wall_ahead_ms.unsigned_abs());
        let since = if self.wall_ahead_ms < 0 {
            right.saturating_sub(ahead)
        } else {
            right.saturating_add(ahead)
        };
        UNIX_EPOCH + since
    }
}

/// One boot's use of its host's clock.
#[derive(Debug)]
pub struct ProcessClock {
    gate: Gate,
    /// tokio's clock and simulated time when the process started.
    tokio_then: Instant,
    elapsed_then: Duration,
}

impl ProcessClock {
    /// To be called where the process runs: its runtime has a clock of its own.
    pub fn start(gate: Gate) -> Self {
        let elapsed_then = turmoil::sim_elapsed().unwrap_or_default();
        Self { gate, tokio_then: Instant::now(), elapsed_then }
    }

    fn simulated(&self, moment: Instant) -> Duration {
        self.elapsed_then + moment.saturating_duration_since(self.tokio_then)
    }

    fn tokios(&self, simulated: Duration) -> Instant {
        let since = simulated.saturating_sub(self.elapsed_then);
        self.tokio_then.checked_add(since).unwrap_or(self.tokio_then)
    }
}

impl Timekeeper for ProcessClock {
    fn local(&self, moment: Instant) -> Instant {
        self.tokios(self.gate.clock().read(self.simulated(moment)))
    }

    fn due(&self, local: Instant) -> Instant {
        self.tokios(self.gate.clock().due(self.simulated(local)))
    }

    fn poll_running(&self, context: &mut Context<'_>) -> Poll<()> {
        self.gate.poll_running(context)
    }
}

/// The clock seam of one process. The monotonic clock starts at zero with the boot.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    clock: Arc<ProcessClock>,
    origin: Instant,
}

impl SimulatedClock {
    /// To be called where the process runs.
    pub fn new(clock: Arc<ProcessClock>) -> Self {
        let origin = clock.local(Instant::now());
        Self { clock, origin }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Moment {
        Moment::from_origin(self.clock.local(Instant::now()).saturating_duration_since(self.origin))
    }

    fn wall(&self) -> SystemTime {
        self.clock.gate.clock().wall(self.clock.simulated(Instant::now()))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        runtime::time::sleep(duration).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_clock_that_drifts_is_never_early() {
        for rate in [900_000, 999_983, 1_000_000, 1_000_017, 1_100_000] {
            let clock = HostClock::new(SECOND, Rate(rate));
            assert_eq!(clock.read(SECOND), SECOND);
            for nanos in [1_u64, 333_333, 1_000_000, 7_777_777_777] {
                let reading = SECOND + Duration::from_nanos(nanos);
                let due = clock.due(reading);
                assert!(clock.read(due) >= reading, "{rate} {nanos}");
                assert!(clock.read(due - Duration::from_nanos(2)) < reading, "{rate} {nanos}");
            }
        }
        assert_eq!(HostClock::new(SECOND, Rate(1_100_000)).read(SECOND * 11), SECOND * 12);
    }

    #[test]
    fn a_clock_that_stood_still_goes_on_where_it_was() {
        let mut clock = HostClock::new(Duration::ZERO, Rate(900_000));
        clock.stand_still(SECOND * 10, true);
        assert_eq!(clock.read(SECOND * 60), SECOND * 9);
        clock.stand_still(SECOND * 60, false);
        assert_eq!(clock.read(SECOND * 70), SECOND * 18);
        assert_eq!(clock.due(SECOND * 18), SECOND * 70);
    }

    #[test]
    fn a_jump_of_the_wall_clock_is_no_jump_of_the_other() {
        let mut clock = HostClock::default();
        clock.jump_wall(-7_200_000);
        assert_eq!(clock.read(SECOND), SECOND);
        assert_eq!(clock.wall(SECOND), epoch() + SECOND - SECOND * 7_200);
        clock.jump_wall(7_200_001);
        assert_eq!(clock.wall(SECOND), epoch() + SECOND + Duration::from_millis(1));
    }
}
