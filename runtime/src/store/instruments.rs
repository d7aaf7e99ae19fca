//! What a store tells about its syncs.

use std::time::Duration;

const SYNC_SECONDS: &str = "isotherm_store_sync_seconds";
const SYNCS_TOTAL: &str = "isotherm_store_syncs_total";
const SYNC_REQUESTS_TOTAL: &str = "isotherm_store_sync_requests_total";
const SYNC_WAITERS: &str = "isotherm_store_sync_waiters";
const FAILURES_TOTAL: &str = "isotherm_store_failures_total";

/// Describes this module's metrics to the recorder.
pub fn describe_metrics() {
    metrics::describe_histogram!(
        SYNC_SECONDS,
        metrics::Unit::Seconds,
        "How long one sync of the write-ahead log took."
    );
    metrics::describe_counter!(SYNCS_TOTAL, "Syncs of the write-ahead log.");
    metrics::describe_counter!(
        SYNC_REQUESTS_TOTAL,
        "Requests for durability. Divided by the syncs: how many shared one."
    );
    metrics::describe_gauge!(SYNC_WAITERS, "Requests that the latest sync served.");
    metrics::describe_counter!(
        FAILURES_TOTAL,
        "Failures of the store. After one it refuses everything and its process stops."
    );
}

/// One sync has ended.
pub(super) fn synced(took: Duration, waiters: usize) {
    metrics::histogram!(SYNC_SECONDS).record(took.as_secs_f64());
    metrics::counter!(SYNCS_TOTAL).increment(1);
    metrics::counter!(SYNC_REQUESTS_TOTAL).increment(u64::try_from(waiters).unwrap_or(u64::MAX));
    metrics::gauge!(SYNC_WAITERS).set(u32::try_from(waiters).unwrap_or(u32::MAX));
}

/// The store has failed for good.
pub(super) fn failed() {
    metrics::counter!(FAILURES_TOTAL).increment(1);
}
