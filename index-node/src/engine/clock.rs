//! Partition time, as one replica estimates it.
//!
//! It goes on by this node's monotonic clock and jumps forward to every timestamp that is applied, on
//! followers too: a new leader starts about where the old one stopped. It is never behind the replicated
//! time, and never goes back while the process lives. One step counts as a second at most, so that a
//! process that was frozen does not let everything expire; so somebody has to call it now and then.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use runtime::seams::{Clock, Moment};

/// The most that partition time advances between two looks at it.
const STEP_MAX: Duration = Duration::from_secs(1);

pub struct PartitionClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    time: Duration,
    looked_at: Moment,
}

impl PartitionClock {
    pub fn new(clock: Arc<dyn Clock>, time_ms: u64) -> Self {
        let state = State { time: Duration::from_millis(time_ms), looked_at: clock.now() };
        Self { clock, state: Mutex::new(state) }
    }

    pub fn now_ms(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let step = now.since(state.looked_at).min(STEP_MAX);
        state.time += step;
        state.looked_at = now;
        u64::try_from(state.time.as_millis()).unwrap_or(u64::MAX)
    }

    /// An applied command carried this timestamp.
    pub fn observe(&self, time_ms: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.time = state.time.max(Duration::from_millis(time_ms));
    }
}
