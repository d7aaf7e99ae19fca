//! The clock seam: a process's monotonic clock is tokio's paused one, which turmoil drives; the wall
//! clock is turmoil's, which starts at a fixed date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{FutureExt, future::BoxFuture};
use runtime::seams::{Clock, Moment};
use tokio::time::Instant;

/// The simulated wall clock's date when a simulation starts, in seconds since 1970.
pub const EPOCH_SECONDS: u64 = 1_700_000_000;

/// The date when a simulation starts.
pub fn epoch() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(EPOCH_SECONDS)
}

/// One process's clocks. The monotonic one starts at zero with the boot.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedClock {
    origin: Instant,
}

impl SimulatedClock {
    /// To be called where the process runs: its runtime has a clock of its own.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Moment {
        Moment::from_origin(self.origin.elapsed())
    }

    fn wall(&self) -> SystemTime {
        turmoil::since_epoch().map_or_else(epoch, |since| UNIX_EPOCH + since)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}
