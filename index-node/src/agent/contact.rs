//! When a leader of the control plane was last heard of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::seams::{Clock, Moment};

/// What the peers' own takeover waits for: the control plane's silence.
pub struct Contact {
    clock: Arc<dyn Clock>,
    /// Milliseconds of the clock.
    heard_ms: AtomicU64,
}

impl Contact {
    /// The silence counts from now.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let contact = Self { clock, heard_ms: AtomicU64::new(0) };
        contact.heard();
        contact
    }

    /// A leader has acknowledged something just now.
    pub fn heard(&self) {
        let now = self.clock.now().since_origin().as_millis();
        self.heard_ms.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// For how long no leader has acknowledged anything.
    pub fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.clock.now().since(Moment::from_origin(heard))
    }
}
