//! The store on RocksDB: production's.
//!
//! - [`write`](Store::write) puts a batch into the memtables and into the write-ahead log's buffer in
//!   memory; [`sync`](Store::sync) hands its callback to the flusher thread ([`flusher`]), which writes
//!   the buffer out and syncs the file once for everybody who waits.
//! - [`database`] is opened and closed only while the process does not end.
//! - [`directory`] keeps strangers, a second process and a newer format out, and remembers how far the
//!   log was synced.
//! - [`view`] has the reads, of the store and of its snapshots.
//!
//! # Why the prefix holds across families
//!
//! All families share one log, so what a crash leaves of the *log* is a prefix of the batches. What could
//! break it is a memtable that reaches its file before the log does, for then one family is ahead of the
//! others. RocksDB excludes that for more than one family: a memtable is switched together with the log
//! (the old log's buffer is written out), and before its file becomes part of the database all closed
//! logs are synced (`DBImpl::SyncClosedWals`). So a flush of one family makes everything before it
//! durable in all families, and `atomic_flush` is not needed.
//!
//! Recovery is to a point in time: replay stops at the first record that is torn or damaged, also if
//! that is in an older one of several log files, and refuses if a family's files are ahead of that point.
//! If the point lies before something that was synced, opening is refused
//! ([`OpenError::LostWrites`]). What is visible after opening is durable: recovery writes what it
//! replayed into files and syncs them.
//!
//! # Failure
//!
//! The first write or sync that fails is final. The store keeps the error and gives it to every later
//! call; nothing is retried, since after a failed sync the kernel may have dropped the pages and a second
//! sync would succeed without them.

mod database;
mod directory;
mod error;
mod flusher;
mod options;
mod view;

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use rocksdb::{ColumnFamily, WriteBatch};

pub use error::OpenError;
pub use options::RocksOptions;

use self::{database::Database, directory::Directory, flusher::Flusher};
use super::{
    Batch, Change, Entries, Family, Reader, Scan, Store, StoreError, SyncDone, instruments,
};

/// A store on RocksDB, in a directory of its own.
pub struct RocksStore {
    engine: Arc<Engine>,
    flusher: Flusher,
}

/// The database itself, shared by the store, its flusher and its snapshots; closed with the last of them.
struct Engine {
    // Fields are dropped in this sequence: the directory stays locked until the database is closed.
    database: Database,
    directory: Directory,
    /// Set by the first failure and never changed.
    failure: OnceLock<StoreError>,
    syncs: AtomicU64,
}

impl RocksStore {
    /// Opens the store in the directory `path`, or creates both.
    ///
    /// # Errors
    /// See [`OpenError`]: each says what is wrong and what to do about it.
    pub fn open(
        path: impl AsRef<Path>,
        families: &[Family],
        options: RocksOptions,
    ) -> Result<Arc<Self>, OpenError> {
        let directory = Directory::open(path.as_ref(), options.kind)?;
        let synced = directory.synced_through()?;
        if synced > 0 {
            let found = options.last_sequence(&directory)?;
            if found < synced {
                let path = directory.path().to_owned();
                return Err(OpenError::LostWrites { path, synced, found });
            }
        }
        let database = options.open_database(&directory, families)?;
        assert!(database.latest_sequence_number() >= synced, "the same log was read a moment ago");
        let engine = Arc::new(Engine {
            database,
            directory,
            failure: OnceLock::new(),
            syncs: AtomicU64::new(0),
        });
        let flusher = Flusher::start(Arc::clone(&engine)).map_err(|source| OpenError::Io {
            path: path.as_ref().to_owned(),
            action: "start the flusher thread for",
            source,
        })?;
        Ok(Arc::new(Self { engine, flusher }))
    }

    /// How many times the log has been synced since the store was opened.
    pub fn syncs(&self) -> u64 {
        self.engine.syncs.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// # Errors
    /// The failure that the store is stopped by.
    fn check(&self) -> Result<(), StoreError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Stops the store with `error`, unless it is stopped already. Returns what it is stopped by.
    fn fail(&self, error: StoreError) -> StoreError {
        let mut first = false;
        let failure = self.failure.get_or_init(|| {
            first = true;
            error
        });
        if first {
            instruments::failed();
        }
        failure.clone()
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        self.database.cf_handle(family.0).ok_or_else(|| StoreError::Failed {
            action: "find the family",
            message: format!("{} was not named when the store was opened", family.0),
        })
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        let writes = self.translate(batch).map_err(|error| self.fail(error))?;
        self.database.write(writes).map_err(|error| self.fail(device_error("write", &error)))
    }

    fn translate(&self, batch: &Batch) -> Result<WriteBatch, StoreError> {
        let mut writes = WriteBatch::default();
        for change in batch.changes() {
            match change {
                Change::Put { family, key, value } => {
                    writes.put_cf(self.family(*family)?, key, value);
                }
                Change::Delete { family, key } => writes.delete_cf(self.family(*family)?, key),
                Change::DeleteRange { family, start, end } => {
                    // RocksDB refuses inverted ranges; here they are empty.
                    if start < end {
                        writes.delete_range_cf(self.family(*family)?, start, end);
                    }
                }
            }
        }
        Ok(writes)
    }

    /// Makes everything written so far durable.
    fn sync(&self) -> Result<(), StoreError> {
        self.check()?;
        let sequence = self.database.latest_sequence_number();
        self.database.flush_wal(true).map_err(|error| self.fail(device_error("sync", &error)))?;
        self.directory.note_synced(sequence).map_err(|error| {
            self.fail(StoreError::Failed { action: "note the sync", message: error.to_string() })
        })?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What a failed call to RocksDB means for a write or a sync.
fn device_error(action: &'static str, error: &rocksdb::Error) -> StoreError {
    let message = error.to_string();
    if message.contains("No space left on device") {
        StoreError::NoSpace
    } else {
        StoreError::Failed { action, message }
    }
}

impl Reader for RocksStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.engine.get(family, key)
    }

    fn scan(&self, family: Family, scan: Scan) -> Entries<'_> {
        self.engine.scan(family, scan)
    }
}

impl Store for RocksStore {
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.engine.write(&batch)
    }

    fn sync(&self, done: SyncDone) {
        self.flusher.request(done);
    }

    fn snapshot(&self) -> Arc<dyn Reader> {
        view::snapshot(Arc::clone(&self.engine))
    }

    /// What is still in memtables is not counted: RocksDB estimates from its files.
    fn approximate_bytes(&self, family: Family, start: &[u8], end: &[u8]) -> u64 {
        let Ok(family) = self.engine.family(family) else { return 0 };
        if start >= end {
            return 0;
        }
        let ranges = [rocksdb::Range::new(start, end)];
        self.engine.database.get_approximate_sizes_cf(family, &ranges).into_iter().sum()
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        self.engine.check()?;
        let status = nix::sys::statvfs::statvfs(self.engine.directory.path()).map_err(|error| {
            StoreError::Failed { action: "ask for free space", message: error.to_string() }
        })?;
        Ok(status.blocks_available().saturating_mul(status.fragment_size()))
    }
}
