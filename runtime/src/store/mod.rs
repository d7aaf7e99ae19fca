//! The store seam: an ordered key-value store with families, atomic batches, iterators, snapshots and
//! an explicit sync.
//!
//! Logs, votes and state machines use nothing else to persist. The rules that every implementation
//! keeps, and that [`contract`] checks:
//!
//! - A batch is atomic and visible to reads as soon as [`Store::write`] has returned.
//! - It is durable only once a [`Store::sync`] that was requested after it has completed. One sync
//!   serves everybody who waits in that moment (group commit).
//! - Durability is a prefix: after a crash the store holds all batches up to some point, in the
//!   sequence in which they were written, *across families*, and at least those that were synced.
//! - A write or sync that fails is never retried: the store stays failed, and its owner stops.
//!
//! [`rocks::RocksStore`] is production's; [`simulated::SimulatedDisk`] is the simulation's.

pub mod contract;
mod instruments;
pub mod rocks;
pub mod simulated;

pub use instruments::describe_metrics;

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;

/// A named keyspace of a store. All families of a store share one write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family(pub &'static str);

/// Why the store could not do what was asked.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// The device or the library failed. Final for this store: its owner stops.
    #[error("the store failed to {action}: {message}")]
    Failed { action: &'static str, message: String },
    /// A record does not match its checksum or its encoding. Final: its owner stops.
    #[error("corrupt record in {family}: {message}")]
    Corrupt { family: &'static str, message: String },
    /// The device is full. Final for this store: its owner stops.
    #[error("no space left on the device")]
    NoSpace,
}

impl From<StoreError> for std::io::Error {
    fn from(error: StoreError) -> Self {
        let kind = match error {
            StoreError::Failed { .. } => std::io::ErrorKind::Other,
            StoreError::Corrupt { .. } => std::io::ErrorKind::InvalidData,
            StoreError::NoSpace => std::io::ErrorKind::StorageFull,
        };
        std::io::Error::new(kind, error)
    }
}

/// One change in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put {
        family: Family,
        key: Bytes,
        value: Bytes,
    },
    Delete {
        family: Family,
        key: Bytes,
    },
    /// Deletes `start..end` (end exclusive).
    DeleteRange {
        family: Family,
        start: Bytes,
        end: Bytes,
    },
}

/// Changes that take effect together, in this sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change::Put { family, key: key.into(), value: value.into() });
    }

    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        self.changes.push(Change::Delete { family, key: key.into() });
    }

    /// Deletes `start..end`, end exclusive. An empty or inverted range changes nothing.
    pub fn delete_range(&mut self, family: Family, start: impl Into<Bytes>, end: impl Into<Bytes>) {
        self.changes.push(Change::DeleteRange { family, start: start.into(), end: end.into() });
    }

    pub fn append(&mut self, mut other: Batch) {
        self.changes.append(&mut other.changes);
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// Which keys to iterate over, and in which direction.
#[derive(Clone, Debug)]
pub struct Scan {
    pub start: Bound<Bytes>,
    pub end: Bound<Bytes>,
    pub reverse: bool,
}

impl Scan {
    /// All keys that start with `prefix`, ascending. An empty prefix: all keys.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = match prefix_end(&start) {
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        Self { start: Bound::Included(start), end, reverse: false }
    }

    /// `start..end`, end exclusive, ascending.
    pub fn range(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self {
            start: Bound::Included(start.into()),
            end: Bound::Excluded(end.into()),
            reverse: false,
        }
    }

    /// The same keys, descending.
    pub fn reversed(mut self) -> Self {
        self.reverse = !self.reverse;
        self
    }
}

/// The smallest key greater than every key that starts with `prefix`; none if there is no such key.
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end.into())
}

/// Keys and values in order.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), StoreError>> + Send + 'a>;

/// What can be read: a store as it is now, or a snapshot of it.
pub trait Reader: Send + Sync + 'static {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The entries as they are when this is called: later writes do not show.
    fn scan(&self, family: Family, scan: Scan) -> Entries<'_>;
}

/// Called once when everything written before the request is durable, or cannot become so. It may be
/// called from any thread, and must be short.
pub type SyncDone = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// An ordered, durable key-value store.
pub trait Store: Reader {
    /// Applies the batch atomically. It is visible on return, durable after a later sync.
    fn write(&self, batch: Batch) -> Result<(), StoreError>;

    /// Asks for durability of everything written before this call.
    fn sync(&self, done: SyncDone);

    /// The store as it is now, unmoved by later writes.
    fn snapshot(&self) -> Arc<dyn Reader>;

    /// About how many bytes the range occupies; cheap, and good to some ten percent at best.
    fn approximate_bytes(&self, family: Family, start: &[u8], end: &[u8]) -> u64;

    /// Bytes that can still be written to the device.
    fn free_bytes(&self) -> Result<u64, StoreError>;
}

/// [`Store::sync`] as a future.
pub fn synced(store: &dyn Store) -> BoxFuture<'static, Result<(), StoreError>> {
    let (sender, receiver) = oneshot::channel();
    store.sync(Box::new(move |outcome| {
        // Whoever asked may have stopped waiting.
        let _ = sender.send(outcome);
    }));
    async move {
        receiver.await.unwrap_or_else(|_| {
            Err(StoreError::Failed { action: "sync", message: "the store has stopped".into() })
        })
    }
    .boxed()
}
