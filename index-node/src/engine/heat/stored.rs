//! What a replica's data takes on the disk: asked of the store seldom, since that walks its files.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use runtime::{seams::Moment, store::Store};

use crate::engine::{keys, types::Lineage};

/// How old an estimate may become.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// The last estimate, and when it was made.
#[derive(Default)]
pub struct StoredEstimate(Mutex<Option<(Moment, u64)>>);

impl StoredEstimate {
    /// The estimate if it is not too old.
    pub fn fresh(&self, now: Moment) -> Option<u64> {
        let estimate = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        estimate.filter(|(at, _)| now.since(*at) < REFRESH_INTERVAL).map(|(_, bytes)| bytes)
    }

    /// The estimate, however old it is.
    pub fn last(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|(_, bytes)| bytes)
    }

    /// Asks the store. What it does not say, since it has not written it to a file yet, is `at_least` the
    /// bytes of keys and values.
    pub fn refresh(&self, store: &dyn Store, lineage: Lineage, at_least: u64, now: Moment) -> u64 {
        let (start, end) = (keys::lineage(lineage), keys::lineage(Lineage(lineage.0 + 1)));
        let families = [keys::DATA, keys::OUTCOMES];
        let told = families.iter().fold(0_u64, |sum, family| {
            sum.saturating_add(store.approximate_bytes(*family, &start, &end))
        });
        let bytes = if told == 0 { at_least } else { told };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, bytes));
        bytes
    }
}
