//! Where a member keeps what, in the store.
//!
//! - Family `member`: who this member is, and how far the zone's state is applied.
//! - Family `zone`: the records of the zone's state, below a *generation*: the number of the snapshot
//!   that they grew from. One record of family `member` says which generation is live, so that a
//!   received snapshot goes live by one atomic write.
//!
//! The Raft log has a family of its own, see [`runtime::raft`].

use bytes::Bytes;
use openraft::alias::{LogIdOf, StoredMembershipOf};
use runtime::{
    record,
    store::{Batch, Family, Reader, Scan, StoreError},
};
use serde::{Deserialize, Serialize};

use super::TypeConfig;

/// Who this member is, and how far the zone's state is applied.
pub const MEMBER: Family = Family("member");
/// The records of the zone's state.
pub const ZONE: Family = Family("zone");

/// The newest version of the records here that this software writes and reads.
pub const FORMAT_VERSION: u8 = 1;

const APPLIED_KEY: &[u8] = b"applied";

/// Which records of the zone's state a snapshot, or the live state, consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl Generation {
    /// Where this generation's record `key` lies in family [`ZONE`].
    pub fn key(self, key: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(8 + key.len());
        bytes.extend_from_slice(&self.0.to_be_bytes());
        bytes.extend_from_slice(key);
        bytes.into()
    }

    fn next(self) -> Generation {
        Generation(self.0 + 1)
    }

    /// All records of this generation.
    pub fn scan(self) -> Scan {
        Scan::range(self.key(&[]), self.next().key(&[]))
    }

    /// Deletes all records of this generation.
    pub fn delete(self, batch: &mut Batch) {
        batch.delete_range(ZONE, self.key(&[]), self.next().key(&[]));
    }

    /// Deletes all records of all other generations.
    pub fn delete_others(self, batch: &mut Batch) {
        batch.delete_range(ZONE, Generation(0).key(&[]), self.key(&[]));
        batch.delete_range(ZONE, self.next().key(&[]), Generation(u64::MAX).key(&[]));
    }
}

/// How far the zone's state is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedRecord {
    pub generation: u64,
    pub log_id: Option<LogIdOf<TypeConfig>>,
    pub membership: StoredMembershipOf<TypeConfig>,
}

impl AppliedRecord {
    pub fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// The record of a store; of an empty one, the beginning.
    pub fn read(reader: &dyn Reader) -> Result<Self, StoreError> {
        match reader.get(MEMBER, APPLIED_KEY)? {
            Some(bytes) => record::decode(MEMBER, FORMAT_VERSION, &bytes),
            None => Ok(Self::default()),
        }
    }

    /// The record under a key of [`MEMBER`]; none if the key is another one's.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Option<Self>, StoreError> {
        if key != APPLIED_KEY {
            return Ok(None);
        }
        record::decode(MEMBER, FORMAT_VERSION, value).map(Some)
    }

    pub fn write(&self, batch: &mut Batch) {
        batch.put(MEMBER, APPLIED_KEY, record::encode(FORMAT_VERSION, self));
    }
}
