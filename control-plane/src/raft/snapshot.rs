//! Snapshots of the zone's state: sent record by record from a snapshot of the store, received into a
//! generation of their own.
//!
//! Neither side ever holds more than one chunk in memory. What was received is dead weight until its
//! trailer was verified and the state machine switches to it; what is abandoned is deleted, at the
//! latest when the member starts again.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use openraft::alias::{SnapshotMetaOf, SnapshotOf, VoteOf};
use proto::v1::{
    MemberSnapshotChunk, MemberSnapshotHeader, MemberSnapshotRecord, MemberSnapshotRecords,
    MemberSnapshotTrailer, member_snapshot_chunk::Body,
};
use runtime::store::{Batch, Reader, Scan, Store, StoreError};
use tonic::Status;

use super::{
    TypeConfig,
    checksum::Checksum,
    encoding::{self, FORMAT_VERSION},
    records::{Generation, ZONE},
};

/// How many bytes of records one chunk holds at most, except for a single record that is larger.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// The records of one generation, as they were in one moment.
#[derive(Clone)]
pub struct ZoneSnapshot {
    pub reader: Arc<dyn Reader>,
    pub generation: Generation,
}

impl std::fmt::Debug for ZoneSnapshot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ZoneSnapshot").field("generation", &self.generation).finish()
    }
}

/// What a snapshot's sender wants its receiver to know first.
pub struct Header {
    pub vote: VoteOf<TypeConfig>,
    pub meta: SnapshotMetaOf<TypeConfig>,
}

struct Sender {
    snapshot: ZoneSnapshot,
    after: Option<Bytes>,
    records: u64,
    checksum: Checksum,
}

enum Sending {
    Header(MemberSnapshotHeader, Sender),
    Records(Sender),
    Ended,
}

impl Sender {
    /// The next records, up to a chunk's size; none at the end.
    fn next(&mut self) -> Result<Vec<MemberSnapshotRecord>, StoreError> {
        let mut scan: Scan = self.snapshot.generation.scan();
        if let Some(after) = &self.after {
            scan.start = Bound::Excluded(after.clone());
        }
        let prefix = self.snapshot.generation.key(&[]).len();
        let mut records = Vec::new();
        let mut bytes = 0;
        for entry in self.snapshot.reader.scan(ZONE, scan) {
            let (key, value) = entry?;
            if !records.is_empty() && bytes + key.len() + value.len() > CHUNK_BYTES_MAX {
                break;
            }
            bytes += key.len() + value.len();
            self.records += 1;
            self.after = Some(key.clone());
            let key = key.slice(prefix..);
            self.checksum.add(&key);
            self.checksum.add(&value);
            records.push(MemberSnapshotRecord { key, value });
        }
        Ok(records)
    }
}

/// The snapshot as the chunks of `MemberService.InstallSnapshot`. If the store fails on the way, the
/// stream ends without a trailer, and the receiver refuses it.
pub fn chunks(
    from: u64,
    to: u64,
    vote: &VoteOf<TypeConfig>,
    snapshot: SnapshotOf<TypeConfig, ZoneSnapshot>,
) -> impl Stream<Item = MemberSnapshotChunk> + Send + 'static {
    let header = MemberSnapshotHeader {
        from_member_id: from,
        to_member_id: to,
        format_version: FORMAT_VERSION,
        vote: encoding::encode(vote).into(),
        meta: encoding::encode(&snapshot.meta).into(),
    };
    let sender = Sender {
        snapshot: snapshot.snapshot,
        after: None,
        records: 0,
        checksum: Checksum::default(),
    };
    stream::unfold(Sending::Header(header, sender), |sending| async move {
        let (body, next) = match sending {
            Sending::Header(header, sender) => (Body::Header(header), Sending::Records(sender)),
            Sending::Records(mut sender) => match sender.next() {
                Ok(records) if records.is_empty() => {
                    let trailer = MemberSnapshotTrailer {
                        records: sender.records,
                        crc32: sender.checksum.value(),
                    };
                    (Body::Trailer(trailer), Sending::Ended)
                }
                Ok(records) => {
                    (Body::Records(MemberSnapshotRecords { records }), Sending::Records(sender))
                }
                Err(error) => {
                    tracing::error!(%error, "a snapshot cannot be read to be sent");
                    return None;
                }
            },
            Sending::Ended => return None,
        };
        Some((MemberSnapshotChunk { body: Some(body) }, next))
    })
}

/// A generation that is being received. Deleted when it is dropped, unless it was kept.
pub struct Staged {
    store: Arc<dyn Store>,
    generation: Generation,
    kept: bool,
}

impl Staged {
    pub fn new(store: Arc<dyn Store>, generation: Generation) -> Self {
        Self { store, generation, kept: false }
    }

    /// The received records. They stay until the state machine replaces them.
    fn snapshot(&self) -> ZoneSnapshot {
        ZoneSnapshot { reader: self.store.snapshot(), generation: self.generation }
    }

    /// The generation went live.
    pub fn keep(mut self) {
        self.kept = true;
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut batch = Batch::new();
        self.generation.delete(&mut batch);
        if let Err(error) = self.store.write(batch) {
            tracing::error!(%error, "an abandoned snapshot cannot be deleted");
        }
    }
}

/// Reads the header of a snapshot that is meant for this member.
///
/// # Errors
/// What to answer the sender: the first message is no header, it is meant for another member, or its
/// encoding is not known here.
pub async fn receive_header<S>(chunks: &mut S, member_id: u64) -> Result<Header, Status>
where
    S: Stream<Item = Result<MemberSnapshotChunk, Status>> + Unpin,
{
    let first = chunks.next().await.transpose()?.and_then(|chunk| chunk.body);
    let Some(Body::Header(header)) = first else {
        return Err(Status::invalid_argument("a snapshot starts with its header"));
    };
    if header.to_member_id != member_id {
        return Err(Status::failed_precondition(format!(
            "the snapshot is for member {}; this is member {member_id}",
            header.to_member_id
        )));
    }
    let decode = |error: encoding::EncodingError| Status::invalid_argument(error.to_string());
    Ok(Header {
        vote: encoding::decode(header.format_version, &header.vote).map_err(decode)?,
        meta: encoding::decode(header.format_version, &header.meta).map_err(decode)?,
    })
}

/// Writes the records that follow the header into the staged generation, and verifies the trailer.
///
/// # Errors
/// What to answer the sender: the stream broke off, its trailer does not fit, or the store failed.
pub async fn receive_records<S>(chunks: &mut S, staged: &Staged) -> Result<ZoneSnapshot, Status>
where
    S: Stream<Item = Result<MemberSnapshotChunk, Status>> + Unpin,
{
    let mut records = 0;
    let mut checksum = Checksum::default();
    while let Some(chunk) = chunks.next().await.transpose()? {
        match chunk.body {
            Some(Body::Records(chunk)) => {
                let mut batch = Batch::new();
                for record in chunk.records {
                    records += 1;
                    checksum.add(&record.key);
                    checksum.add(&record.value);
                    batch.put(ZONE, staged.generation.key(&record.key), record.value);
                }
                staged.store.write(batch).map_err(|error| Status::internal(error.to_string()))?;
            }
            Some(Body::Trailer(trailer)) => {
                if trailer.records != records || trailer.crc32 != checksum.value() {
                    return Err(Status::data_loss(format!(
                        "the snapshot's trailer names {} records with checksum {:08x}, but {records} \
                         with {:08x} came",
                        trailer.records,
                        trailer.crc32,
                        checksum.value()
                    )));
                }
                return Ok(staged.snapshot());
            }
            Some(Body::Header(_)) | None => {
                return Err(Status::invalid_argument(
                    "after a snapshot's header, only records and the trailer may follow",
                ));
            }
        }
    }
    Err(Status::data_loss("the snapshot ended without a trailer"))
}
