//! Receives a snapshot into a fresh lineage, in bounded batches as it comes in. Nothing of it is live
//! before the trailer was verified and openraft has installed it; if anything goes wrong before, the
//! lineage is deleted again. Only what merely broke off is kept for a while, in memory and in its lineage: see
//! [`Kept`]. After a restart of the process nothing of it is there.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use planted::Bug;
use proto::v1::{
    GetSnapshotProgressRequest, GetSnapshotProgressResponse, SnapshotHeader, SnapshotItems,
    SnapshotTrailer, snapshot_item::Table,
};
use runtime::{
    seams::Moment,
    store::{Batch, Store, StoreError},
};

use super::{
    codec::{self, CodecError},
    keys,
    lineages::Lineages,
    records::{self, GroupState, StoredOutcome, StoredValue},
    snapshot::{PartitionSnapshot, ReceivedSnapshot, SnapshotData, UnusedLineage},
    snapshot_stream::{ItemsChecksum, family},
    types::{Lineage, RaftVote, ReplicaId, SnapshotMeta},
};

/// The most bytes that vote, meta and state of the group in a header have together, as a whole chunk has.
const HEADER_BYTES_MAX: usize = 256 * 1024;

/// How long what broke off is kept.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// A replica's place for a snapshot that broke off on its way.
#[derive(Default)]
pub(super) struct Kept(Mutex<Option<(Moment, SnapshotReceiver)>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Option<(Moment, SnapshotReceiver)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, receiver: SnapshotReceiver, now: Moment) {
        if receiver.can_go_on() {
            *self.lock() = Some((now, receiver));
        }
    }

    pub(super) fn take(&self) -> Option<SnapshotReceiver> {
        self.lock().take().map(|(_, receiver)| receiver)
    }

    /// Lets go of what nobody has gone on with, and of anything where room is short.
    pub(super) fn expire(&self, now: Moment, is_room_short: bool) {
        let mut kept = self.lock();
        if is_room_short || kept.as_ref().is_some_and(|(since, _)| now.since(*since) >= KEPT_FOR) {
            *kept = None;
        }
    }

    /// What is kept of a transfer; nothing where none of it is.
    pub(super) fn progress(
        &self,
        request: &GetSnapshotProgressRequest,
    ) -> GetSnapshotProgressResponse {
        let kept = self.lock();
        let progress = kept.as_ref().and_then(|(_, receiver)| {
            receiver.progress(request.from_replica_id, request.transfer_id)
        });
        progress.unwrap_or_default()
    }
}

/// Why a snapshot is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the snapshot is malformed: {0}")]
    Malformed(&'static str),
    #[error("the snapshot's header has {0} bytes; it must have at most {HEADER_BYTES_MAX}")]
    TooLong(usize),
    #[error("the snapshot arrived damaged: {0}")]
    Damaged(&'static str),
    #[error("what was received of the snapshot before is not here")]
    NotHere,
}

pub(super) struct SnapshotReceiver {
    /// The header of the first attempt.
    header: SnapshotHeader,
    store: Arc<dyn Store>,
    lineage: UnusedLineage,
    vote: RaftVote,
    meta: SnapshotMeta,
    state: GroupState,
    checksum: ItemsChecksum,
    keys: u64,
    stored_bytes: u64,
}

impl SnapshotReceiver {
    pub(super) fn begin(
        store: &Arc<dyn Store>,
        lineages: &Lineages,
        header: SnapshotHeader,
    ) -> Result<Self, ReceiveError> {
        let header_bytes = header.vote.len() + header.meta.len() + header.group_state.len();
        if header_bytes > HEADER_BYTES_MAX {
            return Err(ReceiveError::TooLong(header_bytes));
        }
        let vote = codec::decode(header.format_version, &header.vote)?;
        let meta: SnapshotMeta = codec::decode(header.format_version, &header.meta)?;
        let state: GroupState = codec::decode(header.format_version, &header.group_state)?;
        if meta.last_log_id != state.applied || meta.last_log_id.is_none() {
            return Err(ReceiveError::Malformed("meta and group state are not of one moment"));
        }
        let mut batch = Batch::new();
        let mut lineage = lineages.allocate(&mut batch);
        if planted::is_planted(Bug::SnapshotOverLiveLineage)
            && let Some(live) = GroupState::load(store.as_ref(), ReplicaId(header.to_replica_id))?
        {
            lineage = live.lineage;
        }
        store.write(batch)?;
        Ok(Self {
            lineage: UnusedLineage::new(Arc::clone(store), lineage),
            store: Arc::clone(store),
            vote,
            meta,
            state,
            checksum: ItemsChecksum::default(),
            keys: 0,
            stored_bytes: 0,
            header,
        })
    }

    /// Whether what broke off may go on at all.
    pub(super) fn can_go_on(&self) -> bool {
        self.header.transfer_id != 0 && self.checksum.progress().items > 0
    }

    /// What was received so far, if it is of this transfer.
    pub(super) fn progress(
        &self,
        from_replica_id: u64,
        transfer_id: u64,
    ) -> Option<GetSnapshotProgressResponse> {
        let own = (self.header.from_replica_id, self.header.transfer_id);
        (own == (from_replica_id, transfer_id)).then(|| self.checksum.progress())
    }

    /// Goes on where another attempt at the same transfer broke off: of the very same snapshot, after exactly the items
    /// that are here.
    pub(super) fn go_on(mut self, header: &SnapshotHeader) -> Result<Self, ReceiveError> {
        let kept = self.progress(header.from_replica_id, header.transfer_id);
        let is_here = kept.is_some_and(|kept| kept.items == header.items_before);
        // Who leads may have voted since; the snapshot is what it was.
        let own = &self.header;
        let is_same = (own.format_version, &own.meta, &own.group_state)
            == (header.format_version, &header.meta, &header.group_state);
        if !is_here || !is_same {
            return Err(ReceiveError::NotHere);
        }
        self.vote = codec::decode(header.format_version, &header.vote)?;
        Ok(self)
    }

    /// Writes one chunk of items.
    pub(super) fn items(&mut self, items: SnapshotItems) -> Result<(), ReceiveError> {
        let mut batch = Batch::new();
        for item in items.items {
            self.checksum.add(&item);
            let table = item.table();
            match table {
                Table::Data => {
                    let stored: StoredValue = records::decode(keys::DATA, &item.value)?;
                    self.keys += 1;
                    self.stored_bytes += (item.key.len() + stored.value.len()) as u64;
                    if planted::is_planted(Bug::SnapshotWithoutLastEntries)
                        && self.state.applied.is_some_and(|last| stored.version + 5 > last.index)
                    {
                        continue;
                    }
                }
                Table::Outcomes => {
                    let _: StoredOutcome = records::decode(keys::OUTCOMES, &item.value)?;
                    if keys::key_of_outcome(&item.key).is_none() {
                        return Err(ReceiveError::Malformed("the key of an outcome is none"));
                    }
                }
                Table::Unspecified => {
                    return Err(ReceiveError::Malformed("an item of an unknown table"));
                }
            }
            let family = family(table).ok_or(ReceiveError::Malformed("an unknown table"))?;
            batch.put(family, full_key(self.lineage.lineage(), &item.key), item.value);
        }
        self.store.write(batch)?;
        Ok(())
    }

    /// Verifies that everything came, undamaged.
    pub(super) fn finish(
        self,
        trailer: &SnapshotTrailer,
    ) -> Result<(RaftVote, PartitionSnapshot), ReceiveError> {
        if self.checksum.trailer() != *trailer {
            return Err(ReceiveError::Damaged("count or checksum of its items differ"));
        }
        if (self.keys, self.stored_bytes) != (self.state.keys, self.state.stored_bytes) {
            return Err(ReceiveError::Damaged("its counters do not fit its keys"));
        }
        let snapshot =
            SnapshotData::Received(ReceivedSnapshot { lineage: self.lineage, state: self.state });
        Ok((self.vote, PartitionSnapshot { meta: self.meta, snapshot }))
    }
}

fn full_key(lineage: Lineage, key: &[u8]) -> Bytes {
    let prefix = keys::lineage(lineage);
    let mut full = BytesMut::with_capacity(prefix.len() + key.len());
    full.put_slice(&prefix);
    full.put_slice(key);
    full.freeze()
}
