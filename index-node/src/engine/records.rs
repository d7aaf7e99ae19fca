//! What the engine persists, besides the Raft logs. Every record is framed by [`runtime::record`].

use bytes::Bytes;
use runtime::{
    record,
    store::{Family, Reader, StoreError},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    command::WriteOutcome,
    digest::Digest,
    keys,
    types::{KeyRange, Lineage, PartitionId, Placement, RaftLogId, ReplicaId, StoredMembership},
};

/// The format of all records of this module.
const FORMAT: u8 = 1;

pub fn encode<T: Serialize>(value: &T) -> Bytes {
    record::encode(FORMAT, value)
}

pub fn decode<T: DeserializeOwned>(family: Family, data: &[u8]) -> Result<T, StoreError> {
    record::decode(family, FORMAT, data)
}

/// Reads the record under `key`, if there is one.
pub fn read<T: DeserializeOwned>(
    reader: &dyn Reader,
    family: Family,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    reader.get(family, key)?.map(|data| decode(family, &data)).transpose()
}

/// A replica that is on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    pub partition: PartitionId,
    pub replica: ReplicaId,
    /// What a new group is created with.
    pub range: KeyRange,
    pub range_epoch: u64,
    /// The group's first voters; empty for a replica that came later.
    pub founders: Vec<Placement>,
}

/// A replica that was on this node and never will be again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    pub partition: PartitionId,
}

/// A group's replicated state, except its keys and outcomes, as far as one replica has applied the log.
/// It is written in the batch of the entries that it includes: so it and they are never apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// Local: where this replica's keys and outcomes are.
    pub lineage: Lineage,
    pub applied: Option<RaftLogId>,
    pub membership: StoredMembership,
    /// None: no `Create` was applied yet.
    pub range: Option<KeyRange>,
    pub range_epoch: u64,
    /// Partition time: the highest timestamp of an applied command.
    pub time_ms: u64,
    /// Outcomes that expire before this time are gone.
    pub outcomes_cleared_to_ms: u64,
    pub keys: u64,
    /// Of keys and encoded values.
    pub stored_bytes: u64,
    pub digest: Digest,
}

impl GroupState {
    pub fn new(lineage: Lineage) -> Self {
        Self {
            lineage,
            applied: None,
            membership: StoredMembership::default(),
            range: None,
            range_epoch: 0,
            time_ms: 0,
            outcomes_cleared_to_ms: 0,
            keys: 0,
            stored_bytes: 0,
            digest: Digest::default(),
        }
    }

    /// The state of `replica`; none if it has none yet.
    pub fn load(reader: &dyn Reader, replica: ReplicaId) -> Result<Option<Self>, StoreError> {
        read(reader, keys::STATE, &keys::state(replica))
    }
}

/// A key's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredValue {
    pub version: u64,
    pub value: Bytes,
}

/// What became of a write, for its retries. Only outcomes that a retry must learn are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOutcome {
    pub outcome: WriteOutcome,
}
