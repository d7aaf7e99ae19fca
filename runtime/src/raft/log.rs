//! The log of one group.
//!
//! Each call writes one batch. Entries and votes are durable when openraft is told so; everything else
//! rides along: since durability is a prefix, a truncation is durable before the entries that replace
//! what it took, and a purge never before the apply that allowed it.
//!
//! That a quorum has elected a leader rides along, too. Whoever elected it has synced its vote; who has
//! merely heard of it promises nothing until it acknowledges an entry, and that waits for a sync which
//! covers what was noted before. So a change of leader waits for two syncs fewer.
//!
//! **Invariant**: no holes. Appending one is refused, reading one is a corruption.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::{Stream, stream};
use openraft::{
    OptionalSend, RaftLogReader, RaftTypeConfig,
    alias::{EntryOf, LogIdOf, VoteOf},
    entry::RaftEntry,
    storage::{IOFlushed, LogState, RaftLogStorage},
    vote::RaftVote,
};
use planted::Bug;

use super::{
    cache::{Cache, corrupt, decode_entry, stored_index},
    keys::{self, FAMILY, FORMAT, Kind},
};
use crate::{
    record,
    store::{Batch, Scan, Store, StoreError, synced},
};

/// About how much one message to a follower, or one step of apply, reads at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// Up to so many entries are deleted one by one: a range deletion burdens every later read of the
/// neighbourhood until it is compacted away.
const SINGLE_DELETES_MAX: u64 = 64;

/// Log, vote and commit position of one Raft group. Clones are the same log.
///
/// There must be at most one of a group at a time, apart from clones: each keeps the log's ends and its
/// newest entries in memory.
pub struct LogStore<C: RaftTypeConfig> {
    store: Arc<dyn Store>,
    group: u64,
    /// None until the first use, which reads what the store holds.
    cache: Arc<Mutex<Option<Cache<C>>>>,
}

impl<C: RaftTypeConfig> Clone for LogStore<C> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), group: self.group, cache: Arc::clone(&self.cache) }
    }
}

/// A locked cache that has been loaded.
struct Loaded<'a, C: RaftTypeConfig>(MutexGuard<'a, Option<Cache<C>>>);

impl<C: RaftTypeConfig> std::ops::Deref for Loaded<'_, C> {
    type Target = Cache<C>;
    fn deref(&self) -> &Cache<C> {
        self.0.as_ref().expect("loaded when the value was made")
    }
}

impl<C: RaftTypeConfig> std::ops::DerefMut for Loaded<'_, C> {
    fn deref_mut(&mut self) -> &mut Cache<C> {
        self.0.as_mut().expect("loaded when the value was made")
    }
}

impl<C: RaftTypeConfig> LogStore<C>
where
    C::Entry: Clone,
{
    /// The log of `group` in `store`, whose families include [`FAMILY`].
    pub fn new(store: Arc<dyn Store>, group: u64) -> Self {
        Self { store, group, cache: Arc::default() }
    }

    fn cache(&self) -> Result<Loaded<'_, C>, StoreError> {
        let mut cache = self.cache.lock().expect("no code panics while it holds the cache");
        if cache.is_none() {
            *cache = Some(Cache::load(&*self.store, self.group)?);
        }
        Ok(Loaded(cache))
    }

    /// Puts deletions of the entries in `indexes` into the batch.
    fn delete_entries(&self, batch: &mut Batch, indexes: Range<u64>) {
        if indexes.end.saturating_sub(indexes.start) <= SINGLE_DELETES_MAX {
            for index in indexes {
                batch.delete(FAMILY, keys::entry(self.group, index));
            }
        } else {
            let start = keys::entry(self.group, indexes.start);
            batch.delete_range(FAMILY, start, keys::entry(self.group, indexes.end));
        }
    }

    /// The entries of `wanted` that the log has, up to and including the one that reaches `bytes_max`.
    fn read(&self, wanted: Range<u64>, bytes_max: usize) -> Result<Vec<EntryOf<C>>, StoreError> {
        let (present, scan) = {
            let cache = self.cache()?;
            let indexes = cache.indexes();
            let present = wanted.start.max(indexes.start)..wanted.end.min(indexes.end);
            if present.is_empty() {
                return Ok(Vec::new());
            }
            if let Some(entries) = cache.recent(&present, bytes_max) {
                return Ok(entries);
            }
            let start = keys::entry(self.group, present.start);
            let end = keys::entry(self.group, present.end);
            // The scan is a view of this moment; the log may move on while it is read.
            (present, self.store.scan(FAMILY, Scan::range(start, end)))
        };
        let mut entries = Vec::new();
        let mut bytes_read = 0;
        let mut next = present.start;
        for item in scan {
            let (key, value) = item?;
            let found = stored_index(&key)?;
            if found != next {
                return Err(self.hole(next, found - 1));
            }
            entries.push(decode_entry::<C>(&key, &value)?);
            next += 1;
            bytes_read += value.len();
            if bytes_read >= bytes_max {
                return Ok(entries);
            }
        }
        if next < present.end {
            return Err(self.hole(next, present.end - 1));
        }
        Ok(entries)
    }

    fn hole(&self, first: u64, last: u64) -> StoreError {
        corrupt(format!("group {}: entries {first} to {last} are missing", self.group))
    }
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl<C: RaftTypeConfig> RaftLogReader<C> for LogStore<C>
where
    C::Entry: Clone,
{
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<EntryOf<C>>, io::Error> {
        Ok(self.read(indexes(&range), usize::MAX)?)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<EntryOf<C>>, io::Error> {
        Ok(self.read(start..end, READ_BYTES_MAX)?)
    }

    /// Reads in portions: after a restart the range can be long.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<EntryOf<C>, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let portion = Vec::new().into_iter();
        let start = (self.clone(), indexes(&range), portion);
        stream::try_unfold(start, |(log, mut wanted, mut portion)| async move {
            if portion.len() == 0 {
                portion = log.read(wanted.clone(), READ_BYTES_MAX)?.into_iter();
            }
            let Some(entry) = portion.next() else { return Ok(None) };
            wanted.start = entry.index() + 1;
            Ok(Some((entry, (log, wanted, portion))))
        })
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<C>>, io::Error> {
        Ok(self.cache()?.vote.clone())
    }
}

impl<C: RaftTypeConfig> RaftLogStorage<C> for LogStore<C>
where
    C::Entry: Clone,
{
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, io::Error> {
        let cache = self.cache()?;
        Ok(LogState { last_purged_log_id: cache.purged(), last_log_id: cache.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<C>) -> Result<(), io::Error> {
        let durable = {
            let mut cache = self.cache()?;
            let mut batch = Batch::new();
            batch.put(FAMILY, keys::single(self.group, Kind::Vote), record::encode(FORMAT, vote));
            self.store.write(batch)?;
            cache.vote = Some(vote.clone());
            if vote.is_committed() {
                return Ok(());
            }
            synced(&*self.store)
        };
        if planted::is_planted(Bug::VoteNotSynced) {
            return Ok(());
        }
        Ok(durable.await?)
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<C>>) -> Result<(), io::Error> {
        let mut cache = self.cache()?;
        let mut batch = Batch::new();
        let key = keys::single(self.group, Kind::Committed);
        batch.put(FAMILY, key, record::encode(FORMAT, &committed));
        self.store.write(batch)?;
        cache.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<C>>, io::Error> {
        Ok(self.cache()?.committed.clone())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<C>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        {
            let mut cache = self.cache()?;
            let mut batch = Batch::new();
            let mut accepted = Vec::new();
            let mut next = cache.next_index();
            for entry in entries {
                let index = entry.index();
                if next.is_some_and(|next| next != index) {
                    return Err(StoreError::Failed {
                        action: "append to the log",
                        message: format!("entry {index} where {next:?} has to follow"),
                    }
                    .into());
                }
                next = Some(index + 1);
                let value = record::encode(FORMAT, &entry);
                accepted.push((entry, value.len()));
                batch.put(FAMILY, keys::entry(self.group, index), value);
            }
            self.store.write(batch)?;
            for (entry, bytes) in accepted {
                cache.appended(entry, bytes);
            }
        }
        if planted::is_planted(Bug::AcknowledgedBeforeSync) {
            callback.io_completed(Ok(()));
            self.store.sync(Box::new(|_| ()));
            return Ok(());
        }
        self.store
            .sync(Box::new(move |outcome| callback.io_completed(outcome.map_err(io::Error::from))));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<C>>) -> Result<(), io::Error> {
        let mut cache = self.cache()?;
        let present = cache.indexes();
        let from = last.as_ref().map_or(0, |last| last.index + 1).max(present.start);
        if from >= present.end {
            return Ok(());
        }
        let mut batch = Batch::new();
        self.delete_entries(&mut batch, from..present.end);
        self.store.write(batch)?;
        cache.truncated_after(last);
        Ok(())
    }

    async fn purge(&mut self, through: LogIdOf<C>) -> Result<(), io::Error> {
        let mut cache = self.cache()?;
        let newest = cache.last().filter(|_| planted::is_planted(Bug::PurgeBeforeApply));
        let through = newest.unwrap_or(through);
        if cache.purged().is_some_and(|purged| purged.index >= through.index) {
            return Ok(());
        }
        let present = cache.indexes();
        let mut batch = Batch::new();
        let key = keys::single(self.group, Kind::Purged);
        batch.put(FAMILY, key, record::encode(FORMAT, &through));
        let end = present.end.min(through.index + 1);
        self.delete_entries(&mut batch, present.start..end.max(present.start));
        self.store.write(batch)?;
        cache.purged_through(through);
        Ok(())
    }
}
