//! The end of a process in the middle of a call to its store.

use std::sync::Arc;

/// What is to be done at the moment of an interrupt. It must not call the disk's store.
pub type Act = Arc<dyn Fn() + Send + Sync>;

/// A call that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InterruptedCall {
    Write,
    /// One sync of the device, which may serve several callers.
    Sync,
}

/// On which side of the call the process ends: whether the call still has its effect. Nobody hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Before,
    After,
}

/// The end of the process at the `number`th call from now, the next one being the first.
#[derive(Clone)]
pub struct Interrupt {
    pub side: Side,
    pub call: InterruptedCall,
    pub number: u64,
    pub act: Act,
}

/// Counts the calls until an interrupt.
pub(super) struct Countdown {
    interrupt: Interrupt,
    seen: u64,
}

impl Countdown {
    pub(super) fn new(interrupt: Interrupt) -> Self {
        Self { interrupt, seen: 0 }
    }

    /// Takes note of a call; if the process ends there, on which side of it and whom to tell.
    pub(super) fn count(&mut self, call: InterruptedCall) -> Option<(Side, Act)> {
        if call != self.interrupt.call {
            return None;
        }
        self.seen += 1;
        (self.seen >= self.interrupt.number)
            .then(|| (self.interrupt.side, Arc::clone(&self.interrupt.act)))
    }
}
