//! The store's families, and how their keys are laid out.
//!
//! Numbers in keys are big-endian, so that they sort as numbers.

use bytes::{BufMut, Bytes, BytesMut};
use runtime::store::Family;

use super::{
    command::WriteId,
    types::{KeyRange, Lineage, PartitionId, ReplicaId},
};

/// What the node itself remembers, and which replicas it holds.
pub const META: Family = Family("meta");
/// Replica id → the group's replicated state.
pub const STATE: Family = Family("state");
/// (lineage, key) → value and version.
pub const DATA: Family = Family("data");
/// (lineage, expiry, write id, key) → outcome. With the key, so that the halves of a split can go on
/// side by side in one lineage: neither meets an outcome of the other's.
pub const OUTCOMES: Family = Family("outcomes");

/// All families that the store of an index node has.
pub const FAMILIES: [Family; 5] = [META, STATE, DATA, OUTCOMES, runtime::raft::FAMILY];

const LINEAGE_BYTES: usize = 8;
/// Of an outcome's key: expiry and write id.
const OUTCOME_BYTES: usize = 8 + size_of::<WriteId>();

fn number(prefix: &[u8], number: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(prefix.len() + 8);
    key.put_slice(prefix);
    key.put_u64(number);
    key.freeze()
}

pub const LAYOUT: &[u8] = b"layout";
pub const IDENTITY: &[u8] = b"identity";
pub const REGISTRATION: &[u8] = b"registration";
pub const INCARNATION: &[u8] = b"incarnation";
pub const FENCE: &[u8] = b"fence";
pub const DIRECTORY: &[u8] = b"directory";
pub const NEXT_LINEAGE: &[u8] = b"next-lineage";
pub const REPLICA_PREFIX: &[u8] = b"replica/";
pub const TOMBSTONE_PREFIX: &[u8] = b"tombstone/";
const ORDER_PREFIX: &[u8] = b"order/";

pub fn replica(replica: ReplicaId) -> Bytes {
    number(REPLICA_PREFIX, replica.0)
}

pub fn tombstone(replica: ReplicaId) -> Bytes {
    number(TOMBSTONE_PREFIX, replica.0)
}

/// The highest order that was accepted for the partition.
pub fn order(partition: PartitionId) -> Bytes {
    number(ORDER_PREFIX, partition.0)
}

pub fn state(replica: ReplicaId) -> Bytes {
    number(b"", replica.0)
}

pub fn data(lineage: Lineage, key: &[u8]) -> Bytes {
    let mut full = BytesMut::with_capacity(LINEAGE_BYTES + key.len());
    full.put_u64(lineage.0);
    full.put_slice(key);
    full.freeze()
}

/// Where the keys of the range begin and end, in `data`.
pub fn data_range(lineage: Lineage, range: &KeyRange) -> (Bytes, Bytes) {
    let end = if range.end.is_empty() {
        self::lineage(Lineage(lineage.0 + 1))
    } else {
        data(lineage, &range.end)
    };
    (data(lineage, &range.start), end)
}

pub fn outcome(lineage: Lineage, expires_at_ms: u64, write_id: &WriteId, key: &[u8]) -> Bytes {
    let mut full = BytesMut::with_capacity(LINEAGE_BYTES + OUTCOME_BYTES + key.len());
    full.put_u64(lineage.0);
    full.put_u64(expires_at_ms);
    full.put_slice(write_id);
    full.put_slice(key);
    full.freeze()
}

/// The index key in a key of `outcomes` that has no lineage any more; none if it is too short for one.
pub fn key_of_outcome(without_lineage: &[u8]) -> Option<&[u8]> {
    without_lineage.get(OUTCOME_BYTES..).filter(|key| !key.is_empty())
}

/// The first key, in `outcomes`, of those that expire at or after the given time.
pub fn outcomes_from(lineage: Lineage, expires_at_ms: u64) -> Bytes {
    let mut full = BytesMut::with_capacity(LINEAGE_BYTES + 8);
    full.put_u64(lineage.0);
    full.put_u64(expires_at_ms);
    full.freeze()
}

/// The first key of a lineage, in `data` and in `outcomes`; also the end of the one before.
pub fn lineage(lineage: Lineage) -> Bytes {
    number(b"", lineage.0)
}

/// The lineage that a key of `data` or `outcomes` belongs to; none if it is too short for one.
pub fn lineage_of(full: &[u8]) -> Option<Lineage> {
    let bytes = full.first_chunk::<LINEAGE_BYTES>()?;
    Some(Lineage(u64::from_be_bytes(*bytes)))
}

/// A key of `data` or `outcomes` without its lineage.
pub fn without_lineage(full: &Bytes) -> Bytes {
    full.slice(LINEAGE_BYTES.min(full.len())..)
}
