//! Where a group's records are: group (8 bytes, big endian), kind (1 byte), and for entries the index
//! (8 bytes, big endian). So a group is one contiguous range, and its entries are in order.

use bytes::Bytes;

use crate::store::Family;

/// The family that holds all groups of a store.
pub const FAMILY: Family = Family("raft");

/// The newest payload format that this release writes and reads, of every kind.
pub(super) const FORMAT: u8 = 1;

/// What a record is. The numbers are on disk: never change or reuse one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Vote = 0,
    Committed = 1,
    Purged = 2,
    Entry = 3,
}

const ENTRY_KEY_BYTES: usize = 17;

/// The key of the group's only record of a kind.
pub(super) fn single(group: u64, kind: Kind) -> Bytes {
    let mut key = Vec::with_capacity(ENTRY_KEY_BYTES);
    key.extend_from_slice(&group.to_be_bytes());
    key.push(kind as u8);
    key.into()
}

pub(super) fn entry(group: u64, index: u64) -> Bytes {
    let mut key = Vec::with_capacity(ENTRY_KEY_BYTES);
    key.extend_from_slice(&group.to_be_bytes());
    key.push(Kind::Entry as u8);
    key.extend_from_slice(&index.to_be_bytes());
    key.into()
}

/// The index in an entry's key; none if it is not one.
pub(super) fn entry_index(key: &[u8]) -> Option<u64> {
    let index = key.get(9..)?;
    Some(u64::from_be_bytes(index.try_into().ok()?))
}

/// The first key that can belong to the group, and a key behind its last.
pub(super) fn group_range(group: u64) -> (Bytes, Bytes) {
    let start = Bytes::copy_from_slice(&group.to_be_bytes());
    let mut end = start.to_vec();
    end.push(u8::MAX);
    (start, end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_one_range_and_its_entries_are_in_order() {
        for group in [0, 1, 255, u64::MAX] {
            let (start, end) = group_range(group);
            let mut keys: Vec<Bytes> =
                [Kind::Vote, Kind::Committed, Kind::Purged].map(|kind| single(group, kind)).into();
            keys.extend([0, 1, 255, 256, u64::MAX].map(|index| entry(group, index)));
            assert!(keys.is_sorted());
            assert!(keys.iter().all(|key| start <= *key && *key < end));
            if let Some(next) = group.checked_add(1) {
                assert!(end <= group_range(next).0);
            }
        }
    }

    #[test]
    fn an_entry_key_tells_its_index() {
        assert_eq!(entry_index(&entry(7, 260)), Some(260));
        assert_eq!(entry_index(&single(7, Kind::Vote)), None);
    }
}
