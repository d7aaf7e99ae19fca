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

/// The format of all records of this module, but for the state of a group.
const FORMAT: u8 = 1;
/// The newest format of a group's state. Of the first, it had no `measuring`.
const STATE_FORMAT: u8 = 2;

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
    pub measuring: Option<Measuring>,
}

/// What has changed from some key on since some entry: for a split there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measuring {
    pub at: Bytes,
    /// The entry's index.
    pub since: u64,
    /// More than there were then, or less.
    pub keys: i64,
    pub stored_bytes: i64,
}

impl Measuring {
    /// What is there now of what was there then; none if that cannot be.
    pub fn now(&self, keys: u64, stored_bytes: u64) -> Option<(u64, u64)> {
        let keys = keys.checked_add_signed(self.keys)?;
        Some((keys, stored_bytes.checked_add_signed(self.stored_bytes)?))
    }

    /// What was there then of what is there now; none if that cannot be.
    pub fn then(&self, keys: u64, stored_bytes: u64) -> Option<(u64, u64)> {
        let keys = keys.checked_add_signed(self.keys.checked_neg()?)?;
        Some((keys, stored_bytes.checked_add_signed(self.stored_bytes.checked_neg()?)?))
    }
}

/// The part of a group's state that its first format has.
#[derive(Deserialize)]
struct FirstState {
    lineage: Lineage,
    applied: Option<RaftLogId>,
    membership: StoredMembership,
    range: Option<KeyRange>,
    range_epoch: u64,
    time_ms: u64,
    outcomes_cleared_to_ms: u64,
    keys: u64,
    stored_bytes: u64,
    digest: Digest,
}

impl From<FirstState> for GroupState {
    fn from(first: FirstState) -> Self {
        Self {
            lineage: first.lineage,
            applied: first.applied,
            membership: first.membership,
            range: first.range,
            range_epoch: first.range_epoch,
            time_ms: first.time_ms,
            outcomes_cleared_to_ms: first.outcomes_cleared_to_ms,
            keys: first.keys,
            stored_bytes: first.stored_bytes,
            digest: first.digest,
            measuring: None,
        }
    }
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
            measuring: None,
        }
    }

    pub fn encode(&self) -> Bytes {
        record::encode(STATE_FORMAT, self)
    }

    pub fn decode(data: &[u8]) -> Result<Self, StoreError> {
        if data.first() == Some(&1) {
            return record::decode::<FirstState>(keys::STATE, 1, data).map(Self::from);
        }
        record::decode(keys::STATE, STATE_FORMAT, data)
    }

    /// The state of `replica`; none if it has none yet.
    pub fn load(reader: &dyn Reader, replica: ReplicaId) -> Result<Option<Self>, StoreError> {
        let data = reader.get(keys::STATE, &keys::state(replica))?;
        data.map(|data| Self::decode(&data)).transpose()
    }

    /// What the digest covers besides outcomes.
    pub fn counters(&self) -> [u64; 4] {
        [self.keys, self.stored_bytes, self.range_epoch, self.time_ms]
    }

    /// A key that took so many bytes with its value takes so many now; none: it is absent.
    pub fn count(&mut self, key: &[u8], before: Option<u64>, after: Option<u64>) {
        let bytes = |value: Option<u64>| value.map_or(0, |value| key.len() as u64 + value);
        let (removed, added) = (bytes(before), bytes(after));
        self.keys = self.keys - u64::from(before.is_some()) + u64::from(after.is_some());
        self.stored_bytes = self.stored_bytes - removed + added;
        if let Some(measuring) = &mut self.measuring
            && key >= measuring.at.as_ref()
        {
            measuring.keys += i64::from(after.is_some()) - i64::from(before.is_some());
            measuring.stored_bytes += added.cast_signed() - removed.cast_signed();
        }
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
