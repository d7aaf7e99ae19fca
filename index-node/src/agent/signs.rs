//! What the node observes of itself: its disk, and how long its tasks wait for their turn.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::{
    seams::{Environment, Moment},
    store::{Store, synced},
};

use crate::engine::host::ReplicaHost;

const DISK_INTERVAL: Duration = Duration::from_secs(1);
const LAG_INTERVAL: Duration = Duration::from_millis(10);
/// The pause between two syncs that are measured.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// The latest observations; heartbeats carry them.
#[derive(Default)]
pub struct Signs {
    disk_free_bytes: AtomicU64,
    disk_below_reserve: AtomicBool,
    runtime_lag_us: AtomicU64,
    /// When the task that measures the lag last had its turn.
    last_turn: Mutex<Option<Moment>>,
    disk: Mutex<DiskSync>,
}

/// The latest sync of the disk.
#[derive(Clone, Copy, Debug, Default)]
struct DiskSync {
    took: Duration,
    /// When the one began that has not ended.
    pending_since: Option<Moment>,
}

impl Signs {
    pub fn disk_free_bytes(&self) -> u64 {
        self.disk_free_bytes.load(Ordering::Relaxed)
    }

    pub fn disk_below_reserve(&self) -> bool {
        self.disk_below_reserve.load(Ordering::Relaxed)
    }

    /// The longest that a task waited for its turn since the last call, or has waited until now: tasks
    /// that never get their turn cannot say so.
    pub fn take_runtime_lag(&self, now: Moment) -> Duration {
        let measured = Duration::from_micros(self.runtime_lag_us.swap(0, Ordering::Relaxed));
        let last = *self.last_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = last.map_or(Duration::ZERO, |last| now.since(last));
        measured.max(pending.saturating_sub(LAG_INTERVAL))
    }

    /// How long the latest sync of the disk took, or has taken until now.
    pub fn disk_sync(&self, now: Moment) -> Duration {
        let disk = *self.disk();
        let pending = disk.pending_since.map_or(Duration::ZERO, |since| now.since(since));
        disk.took.max(pending)
    }

    fn disk(&self) -> MutexGuard<'_, DiskSync> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw_lag(&self, lag: Duration) {
        let lag_us = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.runtime_lag_us.fetch_max(lag_us, Ordering::Relaxed);
    }
}

/// Looks after the disk, until dropped: below `reserve_bytes` the host refuses client writes and new
/// replicas. It takes them again only with an eighth more than the reserve, so that it does not flap.
pub async fn watch_disk(
    environment: Environment,
    store: Arc<dyn Store>,
    host: Arc<ReplicaHost>,
    signs: Arc<Signs>,
    reserve_bytes: u64,
) {
    loop {
        match store.free_bytes() {
            Ok(free) => {
                let was_below = signs.disk_below_reserve();
                let margin = if was_below { reserve_bytes / 8 } else { 0 };
                let enough = reserve_bytes.saturating_add(margin);
                let is_below = free < enough;
                signs.disk_free_bytes.store(free, Ordering::Relaxed);
                signs.disk_below_reserve.store(is_below, Ordering::Relaxed);
                metrics::gauge!("isotherm_node_disk_free_bytes").set(free as f64);
                if is_below != was_below {
                    host.set_disk_below_reserve(is_below);
                    if is_below {
                        tracing::error!(free, reserve_bytes, "the disk is below its reserve");
                    } else {
                        tracing::info!(free, reserve_bytes, "the disk is above its reserve again");
                    }
                }
            }
            Err(error) => tracing::error!(%error, "the free space of the disk is not known"),
        }
        environment.sleep(DISK_INTERVAL).await;
    }
}

/// Measures how long a sync of the disk takes, until dropped. It shares the syncs of others, so it costs at
/// most as many as it asks for.
pub async fn watch_syncs(environment: Environment, store: Arc<dyn Store>, signs: Arc<Signs>) {
    loop {
        let began = environment.now();
        signs.disk().pending_since = Some(began);
        if synced(store.as_ref()).await.is_err() {
            // Whoever owns the store stops the process.
            return std::future::pending().await;
        }
        let took = environment.now().since(began);
        *signs.disk() = DiskSync { took, pending_since: None };
        environment.sleep(SYNC_INTERVAL).await;
    }
}

/// Measures how late the tasks of this runtime get their turn, until dropped.
pub async fn watch_lag(environment: Environment, signs: Arc<Signs>) {
    loop {
        let asked = environment.now();
        *signs.last_turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        environment.sleep(LAG_INTERVAL).await;
        let lag = environment.now().since(asked).saturating_sub(LAG_INTERVAL);
        signs.saw_lag(lag);
        metrics::histogram!("isotherm_node_runtime_lag_seconds").record(lag.as_secs_f64());
    }
}
