//! An ordered map that remembers which of its records have changed, so that a change persists only the
//! records that it touched: the state is never serialised as a whole.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use serde::{Serialize, de::DeserializeOwned};

/// What a table stores: how its keys look on disk.
pub trait Record: Serialize + DeserializeOwned {
    /// First byte of every key of this table; one for each table, never reassigned.
    const TAG: u8;
    type Key: Ord + Clone;
    /// The key after the tag. Bytes sort as keys do.
    fn encode_key(key: &Self::Key) -> Vec<u8>;
    fn decode_key(bytes: &[u8]) -> Option<Self::Key>;
}

/// Makes a type the record of a table that holds one at most.
macro_rules! single_record {
    ($record:ty, $tag:literal) => {
        impl $crate::table::Record for $record {
            const TAG: u8 = $tag;
            type Key = ();
            fn encode_key((): &()) -> Vec<u8> {
                Vec::new()
            }
            fn decode_key(bytes: &[u8]) -> Option<()> {
                bytes.is_empty().then_some(())
            }
        }
    };
}
pub(crate) use single_record;

/// A record as the store keeps it: its key (tag first), and its value, none if it is gone.
pub type RecordChange = (Vec<u8>, Option<Vec<u8>>);

/// An ordered map of records.
#[derive(Clone, Debug)]
pub struct Table<R: Record> {
    records: BTreeMap<R::Key, R>,
    changed: BTreeSet<R::Key>,
}

impl<R: Record> Default for Table<R> {
    fn default() -> Self {
        Self { records: BTreeMap::new(), changed: BTreeSet::new() }
    }
}

impl<R: Record> Table<R> {
    pub fn get(&self, key: &R::Key) -> Option<&R> {
        self.records.get(key)
    }

    pub fn contains(&self, key: &R::Key) -> bool {
        self.records.contains_key(key)
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All records in the order of their keys.
    pub fn iter(&self) -> btree_map::Iter<'_, R::Key, R> {
        self.records.iter()
    }

    pub fn range(
        &self,
        range: impl std::ops::RangeBounds<R::Key>,
    ) -> btree_map::Range<'_, R::Key, R> {
        self.records.range(range)
    }

    pub fn first(&self) -> Option<(&R::Key, &R)> {
        self.records.first_key_value()
    }

    pub fn last(&self) -> Option<(&R::Key, &R)> {
        self.records.last_key_value()
    }

    /// The record, which counts as changed from now on.
    pub fn get_mut(&mut self, key: &R::Key) -> Option<&mut R> {
        let record = self.records.get_mut(key)?;
        if !self.changed.contains(key) {
            self.changed.insert(key.clone());
        }
        Some(record)
    }

    pub fn insert(&mut self, key: R::Key, record: R) -> Option<R> {
        self.changed.insert(key.clone());
        self.records.insert(key, record)
    }

    pub fn remove(&mut self, key: &R::Key) -> Option<R> {
        let removed = self.records.remove(key);
        if removed.is_some() {
            self.changed.insert(key.clone());
        }
        removed
    }

    /// Keys that have changed since [`Table::drain_changes`].
    pub fn changed(&self) -> impl Iterator<Item = &R::Key> {
        self.changed.iter()
    }

    /// What has changed since the last call, encoded for the store.
    pub fn drain_changes(&mut self) -> Vec<RecordChange> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .iter()
            .map(|key| (record_key::<R>(key), self.records.get(key).map(encode_record)))
            .collect()
    }

    /// All records, encoded for the store.
    pub fn encode_all(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.records.iter().map(|(key, record)| (record_key::<R>(key), encode_record(record)))
    }

    /// Packs the records densely: a tree that has grown record by record is little more than half full.
    pub(crate) fn pack(&mut self) {
        self.records = std::mem::take(&mut self.records).into_iter().collect();
    }

    /// Puts a stored record back; it does not count as changed.
    pub(crate) fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), postcard::Error> {
        let key = R::decode_key(key).ok_or(postcard::Error::DeserializeBadEncoding)?;
        let (record, rest) = postcard::take_from_bytes(value)?;
        if !rest.is_empty() {
            return Err(postcard::Error::DeserializeBadEncoding);
        }
        self.records.insert(key, record);
        Ok(())
    }
}

fn record_key<R: Record>(key: &R::Key) -> Vec<u8> {
    let mut bytes = vec![R::TAG];
    bytes.extend(R::encode_key(key));
    bytes
}

fn encode_record<R: Record>(record: &R) -> Vec<u8> {
    postcard::to_stdvec(record).expect("records hold nothing that postcard cannot encode")
}

/// The keys of a table that numbers its records.
pub(crate) fn encode_number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

pub(crate) fn decode_number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    struct Word(String);

    impl Record for Word {
        const TAG: u8 = b'w';
        type Key = NodeId;
        fn encode_key(key: &NodeId) -> Vec<u8> {
            encode_number(key.get())
        }
        fn decode_key(bytes: &[u8]) -> Option<NodeId> {
            decode_number(bytes).map(NodeId)
        }
    }

    #[test]
    fn only_what_was_touched_is_drained() {
        let mut table = Table::<Word>::default();
        for id in 1..=3 {
            table.insert(NodeId(id), Word(id.to_string()));
        }
        assert_eq!(table.drain_changes().len(), 3);
        assert!(table.drain_changes().is_empty());
        table.get_mut(&NodeId(2)).expect("there").0.push('!');
        table.remove(&NodeId(3));
        table.remove(&NodeId(9));
        let changes = table.drain_changes();
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0].0, [b'w', 0, 0, 0, 0, 0, 0, 0, 2]);
        assert!(changes[1].1.is_none());

        let mut loaded = Table::<Word>::default();
        for (key, value) in table.encode_all() {
            loaded.load(&key[1..], &value).expect("own encoding");
        }
        assert_eq!(loaded.records, table.records);
        assert!(loaded.drain_changes().is_empty());
        assert!(loaded.load(&[1], &[]).is_err());
        let (key, mut value) = table.encode_all().next().expect("one");
        value.push(0);
        assert!(loaded.load(&key[1..], &value).is_err(), "bytes left over are no record");
    }
}
