//! A store that shows everything that passes through it to the [`Witness`].

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use runtime::store::{Batch, Entries, Family, Reader, Scan, Store, StoreError, SyncDone};

use super::Witness;

pub(super) struct WitnessedStore {
    store: Arc<dyn Store>,
    host: String,
    witness: Witness,
    /// Which start of the process this is: a store of an earlier one has nothing to say any more.
    boot: u64,
    batches: AtomicU64,
}

impl WitnessedStore {
    pub(super) fn new(store: Arc<dyn Store>, host: String, witness: Witness, boot: u64) -> Self {
        Self { store, host, witness, boot, batches: AtomicU64::new(0) }
    }
}

impl Reader for WitnessedStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(family, key)
    }

    fn scan(&self, family: Family, scan: Scan) -> Entries<'_> {
        self.store.scan(family, scan)
    }
}

impl Store for WitnessedStore {
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let changes = batch.changes().to_vec();
        self.store.write(batch)?;
        let number = self.batches.fetch_add(1, Ordering::Relaxed) + 1;
        self.witness.written(&self.host, self.boot, number, &changes, self);
        Ok(())
    }

    fn sync(&self, done: SyncDone) {
        let through = self.batches.load(Ordering::Relaxed);
        let (host, boot, witness) = (self.host.clone(), self.boot, self.witness.clone());
        witness.sync_requested(&host, boot);
        self.store.sync(Box::new(move |outcome| {
            if outcome.is_ok() {
                witness.synced(&host, boot, through);
            }
            done(outcome);
        }));
    }

    fn snapshot(&self) -> Arc<dyn Reader> {
        self.store.snapshot()
    }

    fn approximate_bytes(&self, family: Family, start: &[u8], end: &[u8]) -> u64 {
        self.store.approximate_bytes(family, start, end)
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        self.store.free_bytes()
    }
}
