//! Which snapshots of a replica are on their way: while they are, the log behind them is not cut.
//!
//! A receiver goes on with the log where its snapshot ends. openraft does not hold the log back for it; if the log were
//! cut meanwhile, all that was sent would be worth nothing, and the next snapshot might fare no better.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The snapshots that were handed out and still exist. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct LogHold(Arc<Mutex<BTreeMap<u64, usize>>>);

/// Belongs to one snapshot: the log behind it is held until this is dropped.
pub(super) struct HeldLog {
    hold: LogHold,
    index: u64,
}

impl LogHold {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the log for a snapshot whose last entry has this index.
    pub fn hold(&self, index: u64) -> HeldLog {
        *self.lock().entry(index).or_default() += 1;
        HeldLog { hold: self.clone(), index }
    }

    /// Whether a snapshot is on its way that at most `entries_max` entries came after, the latest of them with the
    /// index `applied`.
    pub fn is_held(&self, applied: u64, entries_max: u64) -> bool {
        // Those that are older have waited too long: what they hold may go, but newer ones still count.
        self.lock().range(applied.saturating_sub(entries_max)..).next().is_some()
    }
}

impl Drop for HeldLog {
    fn drop(&mut self) {
        let mut held = self.hold.lock();
        if let Some(count) = held.get_mut(&self.index) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_held_while_any_snapshot_is_on_its_way_and_not_too_old() {
        let hold = LogHold::default();
        assert!(!hold.is_held(100, 50));
        let (first, again) = (hold.hold(100), hold.hold(100));
        assert!(hold.is_held(100, 50) && hold.is_held(150, 50));
        assert!(!hold.is_held(151, 50), "it is too far behind");
        let second = hold.hold(120);
        drop(first);
        assert!(hold.is_held(150, 50));
        drop(second);
        assert!(hold.is_held(150, 50), "one of the same index is left");
        drop(again);
        assert!(!hold.is_held(100, 50));
    }
}
