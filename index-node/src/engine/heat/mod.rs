//! What a replica has done since it was last asked, and which replicas have changed since.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use proto::v1::HeatReport;
use runtime::seams::Moment;
use tokio::sync::Notify;

use super::types::{PartitionId, ReplicaId};

/// Counters of one replica's load.
pub struct Heat {
    reads: AtomicU64,
    writes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    since: Mutex<Moment>,
}

impl Heat {
    pub fn new(now: Moment) -> Self {
        Self {
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            since: Mutex::new(now),
        }
    }

    pub fn read(&self, bytes: usize) {
        self.reads.fetch_add(1, Relaxed);
        self.bytes_read.fetch_add(bytes as u64, Relaxed);
    }

    pub fn wrote(&self, bytes: usize) {
        self.writes.fetch_add(1, Relaxed);
        self.bytes_written.fetch_add(bytes as u64, Relaxed);
    }

    /// The counts since the last call; none if there is nothing to report.
    pub fn take(&self, partition: PartitionId, now: Moment) -> Option<HeatReport> {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let interval = now.since(*since);
        *since = now;
        let report = HeatReport {
            partition_id: partition.0,
            interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            reads: self.reads.swap(0, Relaxed),
            writes: self.writes.swap(0, Relaxed),
            bytes_read: self.bytes_read.swap(0, Relaxed),
            bytes_written: self.bytes_written.swap(0, Relaxed),
        };
        (report.reads > 0 || report.writes > 0).then_some(report)
    }
}

/// The replicas that changed. However often one does, it is remembered once.
#[derive(Default)]
pub struct Changes {
    replicas: Mutex<BTreeSet<ReplicaId>>,
    notify: Notify,
}

impl Changes {
    pub fn mark(&self, replica: ReplicaId) {
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        if replicas.insert(replica) {
            self.notify.notify_one();
        }
    }

    /// Those that changed since the last call; waits for the first.
    pub async fn take(&self) -> BTreeSet<ReplicaId> {
        loop {
            let notified = self.notify.notified();
            let changed =
                std::mem::take(&mut *self.replicas.lock().unwrap_or_else(PoisonError::into_inner));
            if !changed.is_empty() {
                return changed;
            }
            notified.await;
        }
    }
}
