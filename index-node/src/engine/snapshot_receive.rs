//! Receives a snapshot into a fresh lineage, in bounded batches as it comes in. Nothing of it is live
//! before the trailer was verified and openraft has installed it; if anything goes wrong before, the
//! lineage is deleted again.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use planted::Bug;
use proto::v1::{SnapshotHeader, SnapshotItems, SnapshotTrailer, snapshot_item::Table};
use runtime::store::{Batch, Store, StoreError};

use super::{
    codec::{self, CodecError},
    keys,
    lineages::Lineages,
    records::{self, GroupState, StoredOutcome, StoredValue},
    snapshot::{PartitionSnapshot, ReceivedSnapshot, SnapshotData, UnusedLineage},
    snapshot_stream::{ItemsChecksum, family},
    types::{Lineage, RaftVote, ReplicaId, SnapshotMeta},
};

/// Why a snapshot is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the snapshot is malformed: {0}")]
    Malformed(&'static str),
    #[error("the snapshot arrived damaged: {0}")]
    Damaged(&'static str),
}

pub(super) struct SnapshotReceiver {
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
        header: &SnapshotHeader,
    ) -> Result<Self, ReceiveError> {
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
        })
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
