//! Which replicas have changed since somebody last asked.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::engine::types::ReplicaId;

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
