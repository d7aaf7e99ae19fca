//! Reads: of the store as it is, and of snapshots.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use rocksdb::{DBRawIterator, ErrorKind, ReadOptions};
use self_cell::self_cell;

use super::Engine;
use crate::store::{Entries, Family, Reader, Scan, StoreError};

impl Engine {
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.check()?;
        let found = self.database.get_pinned_cf(self.family(family)?, key);
        owned(family, found)
    }

    pub(super) fn scan(&self, family: Family, scan: Scan) -> Entries<'_> {
        let start = || {
            self.check()?;
            let handle = self.family(family)?;
            Ok(bounds(&scan).map(|options| self.database.raw_iterator_cf_opt(handle, options)))
        };
        entries(family, scan.reverse, start())
    }
}

type Borrowed<'a> = rocksdb::Snapshot<'a>;

self_cell! {
    /// A snapshot of the database, which it keeps open.
    struct Snapshot {
        owner: Arc<Engine>,
        #[covariant]
        dependent: Borrowed,
    }
}

pub(super) fn snapshot(engine: Arc<Engine>) -> Arc<dyn Reader> {
    Arc::new(Snapshot::new(engine, |engine| engine.database.snapshot()))
}

impl Reader for Snapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let engine = self.borrow_owner();
        engine.check()?;
        let found = self.borrow_dependent().get_pinned_cf(engine.family(family)?, key);
        owned(family, found)
    }

    fn scan(&self, family: Family, scan: Scan) -> Entries<'_> {
        let engine = self.borrow_owner();
        let start = || {
            engine.check()?;
            let handle = engine.family(family)?;
            let snapshot = self.borrow_dependent();
            Ok(bounds(&scan).map(|options| snapshot.raw_iterator_cf_opt(handle, options)))
        };
        entries(family, scan.reverse, start())
    }
}

fn owned(
    family: Family,
    found: Result<Option<rocksdb::DBPinnableSlice<'_>>, rocksdb::Error>,
) -> Result<Option<Bytes>, StoreError> {
    match found {
        Ok(value) => Ok(value.map(|value| Bytes::copy_from_slice(&value))),
        Err(error) => Err(read_error(family, &error)),
    }
}

fn read_error(family: Family, error: &rocksdb::Error) -> StoreError {
    let message = error.to_string();
    if error.kind() == ErrorKind::Corruption {
        StoreError::Corrupt { family: family.0, message }
    } else {
        StoreError::Failed { action: "read", message }
    }
}

/// Read options for the scan's keys; none if there can be no such key.
fn bounds(scan: &Scan) -> Option<ReadOptions> {
    // RocksDB's lower bound is inclusive, its upper bound exclusive. The next key after K is K with a
    // zero byte behind it.
    let lower = match &scan.start {
        Bound::Included(key) => Some(key.to_vec()),
        Bound::Excluded(key) => Some(successor(key)),
        Bound::Unbounded => None,
    };
    let upper = match &scan.end {
        Bound::Included(key) => Some(successor(key)),
        Bound::Excluded(key) => Some(key.to_vec()),
        Bound::Unbounded => None,
    };
    if let Some(upper) = &upper
        && lower.as_deref().unwrap_or_default() >= upper.as_slice()
    {
        return None;
    }
    let mut options = ReadOptions::default();
    if let Some(lower) = lower {
        options.set_iterate_lower_bound(lower);
    }
    if let Some(upper) = upper {
        options.set_iterate_upper_bound(upper);
    }
    Some(options)
}

fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn entries<'a>(
    family: Family,
    reverse: bool,
    iterator: Result<Option<DBRawIterator<'a>>, StoreError>,
) -> Entries<'a> {
    match iterator {
        Ok(Some(mut cursor)) => {
            if reverse {
                cursor.seek_to_last();
            } else {
                cursor.seek_to_first();
            }
            Box::new(Cursor { family, reverse, fresh: true, cursor: Some(cursor) })
        }
        Ok(None) => Box::new(std::iter::empty()),
        Err(error) => Box::new(std::iter::once(Err(error))),
    }
}

/// Stands on the entry that was given last, and before the first at the one to come: a caller who wants
/// no more costs no step. RocksDB's iterators are a consistent view from the moment of their creation.
struct Cursor<'a> {
    family: Family,
    reverse: bool,
    fresh: bool,
    /// None after the end or an error.
    cursor: Option<DBRawIterator<'a>>,
}

impl Iterator for Cursor<'_> {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let cursor = self.cursor.as_mut()?;
        if self.fresh {
            self.fresh = false;
        } else if self.reverse {
            cursor.prev();
        } else {
            cursor.next();
        }
        if let Some((key, value)) = cursor.item() {
            return Some(Ok((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))));
        }
        let outcome = cursor.status();
        self.cursor = None;
        outcome.err().map(|error| Err(read_error(self.family, &error)))
    }
}
