//! Wrong parts, to prove that the checks find what they are for.
//!
//! Only through [`RunOptions`](crate::run::RunOptions): nothing in a server can be switched to these.

use std::{str::FromStr, sync::Arc};

use bytes::Bytes;
use runtime::store::{Batch, Entries, Family, Reader, Scan, Store, StoreError, SyncDone};
use serde::{Deserialize, Serialize};

/// What is wrong in a run on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sabotage {
    /// Stores say that something is durable before it is.
    AcknowledgeBeforeSync,
}

impl Sabotage {
    pub const ALL: [Sabotage; 1] = [Sabotage::AcknowledgeBeforeSync];

    pub fn name(self) -> &'static str {
        match self {
            Sabotage::AcknowledgeBeforeSync => "acknowledge-before-sync",
        }
    }

    /// The store as the process gets it.
    pub fn store(self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        match self {
            Sabotage::AcknowledgeBeforeSync => Arc::new(EagerStore { store }),
        }
    }
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Sabotage::ALL.into_iter().find(|sabotage| sabotage.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Sabotage::ALL.iter().map(|sabotage| sabotage.name()).collect();
            format!("there is no sabotage {name:?}; there is {}", names.join(", "))
        })
    }
}

/// A store whose syncs are answered at once and never carried out: what an fsync that was forgotten
/// looks like from above.
struct EagerStore {
    store: Arc<dyn Store>,
}

impl Reader for EagerStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(family, key)
    }

    fn scan(&self, family: Family, scan: Scan) -> Entries<'_> {
        self.store.scan(family, scan)
    }
}

impl Store for EagerStore {
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.store.write(batch)
    }

    fn sync(&self, done: SyncDone) {
        // Never from within the call: an honest store answers later too.
        tokio::spawn(async move { done(Ok(())) });
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
