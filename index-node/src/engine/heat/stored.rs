//! What a replica's data takes on the disk: asked of the store seldom, since that walks its files.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use runtime::{seams::Moment, store::Store};

use crate::engine::{keys, records::GroupState, types::Lineage};

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

    /// Asks the store. What it does not say, since it has not written it to a file yet, is at least the
    /// bytes of keys and values.
    pub fn refresh(&self, store: &dyn Store, state: &GroupState, now: Moment) -> u64 {
        let (lineage, at_least) = (state.lineage, state.stored_bytes);
        let whole = (keys::lineage(lineage), keys::lineage(Lineage(lineage.0 + 1)));
        let own = state.range.as_ref().map(|range| keys::data_range(lineage, range));
        let own = own.unwrap_or_else(|| whole.clone());
        let told = store
            .approximate_bytes(keys::DATA, &own.0, &own.1)
            .saturating_add(store.approximate_bytes(keys::OUTCOMES, &whole.0, &whole.1));
        let bytes = if told == 0 { at_least } else { told };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, bytes));
        bytes
    }
}
