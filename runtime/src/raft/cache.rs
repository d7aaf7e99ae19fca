//! What a group's log store keeps in memory: its vote, the ends of its log, and the newest entries,
//! which are what replication and apply read a moment after they were appended.
//!
//! **Invariants**: what is cached equals what a read of the store would give. The log is contiguous; it
//! begins behind `purged`, if anything was purged.

use std::{collections::VecDeque, ops::Range};

use openraft::{
    RaftTypeConfig,
    alias::{EntryOf, LogIdOf, VoteOf},
    entry::RaftEntry,
};

use super::keys::{self, FAMILY, FORMAT, Kind};
use crate::{
    record,
    store::{Scan, Store, StoreError},
};

/// Encoded size of the entries that are kept, per group.
const TAIL_BYTES_MAX: usize = 32 << 10;

pub(super) struct Cache<C: RaftTypeConfig> {
    pub(super) vote: Option<VoteOf<C>>,
    pub(super) committed: Option<LogIdOf<C>>,
    purged: Option<LogIdOf<C>>,
    /// Index of the first entry; of the next one, if the log is empty.
    first: u64,
    /// The last entry's id; `purged`, if the log is empty.
    last: Option<LogIdOf<C>>,
    /// The newest entries, contiguous and up to `last`, each with its encoded size.
    tail: VecDeque<(EntryOf<C>, usize)>,
    tail_bytes: usize,
}

impl<C: RaftTypeConfig> Cache<C>
where
    C::Entry: Clone,
{
    /// Reads what the store holds of the group.
    pub(super) fn load(store: &dyn Store, group: u64) -> Result<Self, StoreError> {
        let single = |kind| store.get(FAMILY, &keys::single(group, kind));
        let vote = decoded(single(Kind::Vote)?)?;
        let committed = decoded::<Option<LogIdOf<C>>>(single(Kind::Committed)?)?.flatten();
        let purged: Option<LogIdOf<C>> = decoded(single(Kind::Purged)?)?;
        let begin = purged.as_ref().map_or(0, |purged| purged.index + 1);
        let scan = Scan {
            start: std::ops::Bound::Included(keys::entry(group, begin)),
            end: std::ops::Bound::Included(keys::entry(group, u64::MAX)),
            reverse: false,
        };
        let newest = store.scan(FAMILY, scan.clone().reversed()).next().transpose()?;
        let oldest = store.scan(FAMILY, scan).next().transpose()?;
        let (Some((oldest_key, _)), Some((newest_key, newest))) = (oldest, newest) else {
            return Ok(Self::new(vote, committed, purged.clone(), begin, purged));
        };
        let first = stored_index(&oldest_key)?;
        if purged.is_some() && first != begin {
            return Err(corrupt(format!(
                "group {group}: entries {begin} to {} are missing",
                first - 1
            )));
        }
        let entry: EntryOf<C> = decode_entry::<C>(&newest_key, &newest)?;
        Ok(Self::new(vote, committed, purged, first, Some(entry.log_id())))
    }

    fn new(
        vote: Option<VoteOf<C>>,
        committed: Option<LogIdOf<C>>,
        purged: Option<LogIdOf<C>>,
        first: u64,
        last: Option<LogIdOf<C>>,
    ) -> Self {
        Self { vote, committed, purged, first, last, tail: VecDeque::new(), tail_bytes: 0 }
    }

    pub(super) fn purged(&self) -> Option<LogIdOf<C>> {
        self.purged.clone()
    }

    pub(super) fn last(&self) -> Option<LogIdOf<C>> {
        self.last.clone()
    }

    /// The indexes of the log's entries.
    pub(super) fn indexes(&self) -> Range<u64> {
        self.first..self.end()
    }

    /// Index behind the last entry.
    fn end(&self) -> u64 {
        self.last.as_ref().map_or(self.first, |last| last.index + 1)
    }

    /// The index that the next entry must have; none if the log is empty and was never purged, for then
    /// it may begin anywhere.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.index + 1)
    }

    pub(super) fn appended(&mut self, entry: EntryOf<C>, bytes: usize) {
        if self.last.is_none() {
            self.first = entry.index();
        }
        self.last = Some(entry.log_id());
        self.tail.push_back((entry, bytes));
        self.tail_bytes += bytes;
        while self.tail_bytes > TAIL_BYTES_MAX {
            self.forget_oldest();
        }
    }

    /// The log ends with `last` now. It was longer before.
    pub(super) fn truncated_after(&mut self, last: Option<LogIdOf<C>>) {
        let end = last.as_ref().map_or(0, |last| last.index + 1);
        while self.tail.back().is_some_and(|(entry, _)| entry.index() >= end) {
            if let Some((_, bytes)) = self.tail.pop_back() {
                self.tail_bytes -= bytes;
            }
        }
        self.last = if end <= self.first { self.purged.clone() } else { last };
    }

    /// The log begins behind `purged` now.
    pub(super) fn purged_through(&mut self, purged: LogIdOf<C>) {
        while self.tail.front().is_some_and(|(entry, _)| entry.index() <= purged.index) {
            self.forget_oldest();
        }
        if self.end() <= purged.index + 1 {
            self.last = Some(purged.clone());
        }
        self.first = purged.index + 1;
        self.purged = Some(purged);
    }

    fn forget_oldest(&mut self) {
        if let Some((_, bytes)) = self.tail.pop_front() {
            self.tail_bytes -= bytes;
        }
    }

    /// The entries of the range, up to and including the one that reaches `bytes_max`; none if they are
    /// not all here.
    pub(super) fn recent(&self, range: &Range<u64>, bytes_max: usize) -> Option<Vec<EntryOf<C>>> {
        let (oldest, _) = self.tail.front()?;
        let skip = usize::try_from(range.start.checked_sub(oldest.index())?).ok()?;
        let count = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        if self.tail.len() < skip.checked_add(count)? {
            return None;
        }
        let mut bytes_taken = 0;
        let taken = self
            .tail
            .range(skip..skip + count)
            .take_while(|(_, bytes)| {
                let more = bytes_taken < bytes_max;
                bytes_taken += bytes;
                more
            })
            .map(|(entry, _)| entry.clone())
            .collect();
        Some(taken)
    }
}

fn decoded<T: serde::de::DeserializeOwned>(
    record: Option<bytes::Bytes>,
) -> Result<Option<T>, StoreError> {
    record.map(|record| record::decode(FAMILY, FORMAT, &record)).transpose()
}

pub(super) fn corrupt(message: String) -> StoreError {
    StoreError::Corrupt { family: FAMILY.0, message }
}

pub(super) fn stored_index(key: &[u8]) -> Result<u64, StoreError> {
    keys::entry_index(key).ok_or_else(|| corrupt(format!("{key:?} is no entry's key")))
}

/// The entry in a record, which must be the one that its key says.
pub(super) fn decode_entry<C: RaftTypeConfig>(
    key: &[u8],
    record: &[u8],
) -> Result<EntryOf<C>, StoreError> {
    let expected = stored_index(key)?;
    let entry: EntryOf<C> =
        record::decode(FAMILY, FORMAT, record).map_err(|error| match error {
            StoreError::Corrupt { message, .. } => corrupt(format!("entry {expected}: {message}")),
            other => other,
        })?;
    if entry.index() != expected {
        return Err(corrupt(format!("entry {expected} says that it is {}", entry.index())));
    }
    Ok(entry)
}
