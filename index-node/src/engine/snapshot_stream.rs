//! A snapshot as a stream of bounded chunks: header, items, trailer. See `PeerService.InstallSnapshot`.

use std::{
    collections::VecDeque,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use planted::Bug;
use proto::v1::{
    GetSnapshotProgressRequest, GetSnapshotProgressResponse, InstallSnapshotResponse,
    SnapshotChunk, SnapshotHeader, SnapshotItem, SnapshotItems, SnapshotTrailer,
    snapshot_chunk::Body, snapshot_item::Table,
};
use runtime::store::{Family, Reader, Scan, StoreError};

use super::{
    codec::{self, CodecError, FORMAT_VERSION},
    keys,
    log_hold::HeldLog,
    snapshot::{LocalSnapshot, PartitionSnapshot, SnapshotData},
    transport::Route,
    types::{KeyRange, Lineage, RaftVote},
};

/// The most bytes of keys and values in a chunk. A single item fits: keys and values are limited.
pub const CHUNK_ITEM_BYTES_MAX: usize = 224 * 1024;
/// What an item costs on the wire besides its key and value, at most.
const ITEM_OVERHEAD_BYTES: usize = 24;
/// Chunks of which a transfer remembers where they end. The receiver of one that broke off lacks what was on the way:
/// what the connection's windows and buffers hold, of these chunks some tens.
const CHUNK_ENDS_MAX: usize = 256;

/// The running checksum over a snapshot's items.
#[derive(Clone, Default)]
pub(super) struct ItemsChecksum {
    items: u64,
    crc: crc32fast::Hasher,
}

impl ItemsChecksum {
    pub(super) fn add(&mut self, item: &SnapshotItem) {
        let table = u8::try_from(item.table).unwrap_or(u8::MAX);
        self.crc.update(&[table]);
        for part in [&item.key, &item.value] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.crc.update(&length.to_le_bytes());
            self.crc.update(part);
        }
        self.items += 1;
    }

    pub(super) fn trailer(self) -> SnapshotTrailer {
        SnapshotTrailer { items: self.items, crc32: self.crc.finalize() }
    }

    pub(super) fn progress(&self) -> GetSnapshotProgressResponse {
        let SnapshotTrailer { items, crc32 } = self.clone().trailer();
        GetSnapshotProgressResponse { items, crc32 }
    }
}

/// The family of a snapshot's table.
pub(super) fn family(table: Table) -> Option<Family> {
    match table {
        Table::Unspecified => None,
        Table::Data => Some(keys::DATA),
        Table::Outcomes => Some(keys::OUTCOMES),
    }
}

/// Before which items of which table: full keys.
type Place = (Table, Bound<Bytes>);

enum Stage {
    /// What comes then begins there.
    Header(SnapshotHeader, Place),
    Items(Place),
    Trailer,
    Done,
}

/// One local snapshot on its way to one replica: each attempt to send it begins with a [`SnapshotStream`] of the same
/// chunks. It holds a snapshot of the store: let go of it soon.
pub struct SnapshotTransfer {
    header: SnapshotHeader,
    reader: Arc<dyn Reader>,
    lineage: Lineage,
    /// Only this is sent: the lineage may be shared. None: all of it.
    range: Option<KeyRange>,
    chunk_bytes_max: usize,
    /// Where the last chunks end that were read.
    ends: Mutex<VecDeque<(ItemsChecksum, Place)>>,
    /// Until this is let go of.
    _held_log: Option<HeldLog>,
}

impl SnapshotTransfer {
    /// `id`: drawn for this transfer. `chunk_bytes_max`: at most [`CHUNK_ITEM_BYTES_MAX`]; a chunk has one item at
    /// least.
    ///
    /// # Panics
    /// If the snapshot was received rather than made here: openraft sends only its own.
    pub fn new(
        zone_id: &str,
        id: u64,
        route: Route,
        vote: &RaftVote,
        snapshot: PartitionSnapshot,
        chunk_bytes_max: usize,
    ) -> Self {
        let PartitionSnapshot { meta, snapshot } = snapshot;
        let SnapshotData::Local(LocalSnapshot { reader, state, total_bytes, held_log }) = snapshot
        else {
            panic!("a received snapshot is installed, never sent on");
        };
        let header = SnapshotHeader {
            zone_id: zone_id.to_owned(),
            partition_id: route.partition.0,
            from_replica_id: route.from.0,
            to_replica_id: route.to.0,
            format_version: FORMAT_VERSION,
            vote: codec::encode(vote),
            meta: codec::encode(&meta),
            group_state: codec::encode(&*state),
            total_bytes,
            transfer_id: id,
            items_before: 0,
        };
        Self {
            header,
            reader,
            lineage: state.lineage,
            range: state.range.clone(),
            chunk_bytes_max: chunk_bytes_max.min(CHUNK_ITEM_BYTES_MAX),
            ends: Mutex::default(),
            _held_log: held_log,
        }
    }

    /// All of it.
    pub fn chunks(&self) -> SnapshotStream<'_> {
        let start = (Table::Data, self.start(Table::Data));
        let (checksum, stage) =
            (ItemsChecksum::default(), Stage::Header(self.header.clone(), start));
        SnapshotStream { transfer: self, checksum, stage }
    }

    /// What is left of it for a receiver that has kept so much: the header, then what comes after that. None if that is
    /// not where one of the last chunks ends that were read.
    pub fn rest(&self, kept: &GetSnapshotProgressResponse) -> Option<SnapshotStream<'_>> {
        let (checksum, place) =
            self.ends().iter().rev().find(|(checksum, _)| checksum.progress() == *kept)?.clone();
        let header = SnapshotHeader { items_before: kept.items, ..self.header.clone() };
        Some(SnapshotStream { transfer: self, checksum, stage: Stage::Header(header, place) })
    }

    fn ends(&self) -> MutexGuard<'_, VecDeque<(ItemsChecksum, Place)>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_end(&self, checksum: ItemsChecksum, place: Place) {
        let mut ends = self.ends();
        if ends.len() == CHUNK_ENDS_MAX {
            ends.pop_front();
        }
        ends.push_back((checksum, place));
    }

    /// What asks the receiver how far it has come.
    pub fn progress_request(&self) -> GetSnapshotProgressRequest {
        let header = &self.header;
        GetSnapshotProgressRequest {
            zone_id: header.zone_id.clone(),
            partition_id: header.partition_id,
            from_replica_id: header.from_replica_id,
            to_replica_id: header.to_replica_id,
            transfer_id: header.transfer_id,
        }
    }

    /// Where the table's items begin and end.
    fn bounds(&self, table: Table) -> (Bytes, Bytes) {
        match (&self.range, table) {
            (Some(range), Table::Data) => keys::data_range(self.lineage, range),
            (None, _) | (_, Table::Outcomes | Table::Unspecified) => {
                (keys::lineage(self.lineage), keys::lineage(Lineage(self.lineage.0 + 1)))
            }
        }
    }

    fn start(&self, table: Table) -> Bound<Bytes> {
        Bound::Included(self.bounds(table).0)
    }

    /// Whether an outcome, by its key without the lineage, is of a key in the range.
    fn is_own_outcome(&self, key: &[u8]) -> bool {
        let key = keys::key_of_outcome(key);
        self.range.as_ref().is_none_or(|range| key.is_some_and(|key| range.contains(key)))
    }
}

/// Chunks of a transfer, in the sequence in which they are sent.
pub struct SnapshotStream<'a> {
    transfer: &'a SnapshotTransfer,
    checksum: ItemsChecksum,
    stage: Stage,
}

impl SnapshotStream<'_> {
    /// Items of the table after `after`, and the full key of the last one; none at the table's end.
    fn items(
        &mut self,
        table: Table,
        after: Bound<Bytes>,
    ) -> Result<Option<(SnapshotItems, Bytes)>, StoreError> {
        let family = family(table).expect("only the tables of a snapshot are iterated");
        let transfer = self.transfer;
        let end = Bound::Excluded(transfer.bounds(table).1);
        let mut items = Vec::new();
        let mut last = None;
        let mut bytes = 0;
        for entry in transfer.reader.scan(family, Scan { start: after, end, reverse: false }) {
            let (full_key, value) = entry?;
            let key = keys::without_lineage(&full_key);
            if table == Table::Outcomes && !transfer.is_own_outcome(&key) {
                last = Some(full_key);
                continue;
            }
            let item = SnapshotItem { table: table.into(), key, value };
            bytes += item.key.len() + item.value.len() + ITEM_OVERHEAD_BYTES;
            if bytes > transfer.chunk_bytes_max && !items.is_empty() {
                break;
            }
            self.checksum.add(&item);
            items.push(item);
            last = Some(full_key);
        }
        Ok(last.map(|last| (SnapshotItems { items }, last)))
    }
}

impl Iterator for SnapshotStream<'_> {
    type Item = Result<SnapshotChunk, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let body = match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Header(header, place) => {
                    self.stage = Stage::Items(place);
                    Body::Header(header)
                }
                Stage::Items((table, after)) => match self.items(table, after) {
                    Ok(Some((items, last))) => {
                        let place = (table, Bound::Excluded(last));
                        self.transfer.note_end(self.checksum.clone(), place.clone());
                        self.stage = Stage::Items(place);
                        Body::Items(items)
                    }
                    Ok(None) => {
                        self.stage = match table {
                            Table::Data if planted::is_planted(Bug::OutcomesNotInSnapshot) => {
                                Stage::Trailer
                            }
                            Table::Data => {
                                let start = self.transfer.start(Table::Outcomes);
                                Stage::Items((Table::Outcomes, start))
                            }
                            Table::Outcomes | Table::Unspecified => Stage::Trailer,
                        };
                        continue;
                    }
                    Err(error) => return Some(Err(error)),
                },
                Stage::Trailer => Body::Trailer(std::mem::take(&mut self.checksum).trailer()),
                Stage::Done => return None,
            };
            return Some(Ok(SnapshotChunk { body: Some(body) }));
        }
    }
}

/// The receiver's vote in its answer.
pub fn decode_response(response: &InstallSnapshotResponse) -> Result<RaftVote, CodecError> {
    codec::decode(response.format_version, &response.vote)
}

pub(super) fn encode_response(vote: &RaftVote) -> InstallSnapshotResponse {
    InstallSnapshotResponse { format_version: FORMAT_VERSION, vote: codec::encode(vote) }
}
