//! What is read and written, and its conversion from and to the wire.

use bytes::{BufMut, Bytes, BytesMut};
use proto::v1;

use crate::identifiers::Version;

/// An object's metadata: what the index keeps for a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObjectMetadata {
    /// Opaque tag of the content, at most 256 bytes.
    pub etag: Bytes,
    pub size_bytes: u64,
    /// Where the object's bytes are; opaque to the index.
    pub location: Bytes,
    /// Anything else that the caller keeps; opaque to the index.
    pub user_payload: Bytes,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub key: Bytes,
    pub value: ObjectMetadata,
    pub version: Version,
}

/// When a write may take effect at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Only if the key is absent.
    Absent,
    /// Only if the key has exactly this version.
    VersionEquals(Version),
}

/// What became of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The delete's position in the log of the key's partition.
    pub version: Version,
    /// Whether the key was there.
    pub existed: bool,
}

/// The index key of an object: bucket, NUL, object key.
pub fn index_key(bucket: &[u8], object_key: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(bucket.len() + 1 + object_key.len());
    key.put_slice(bucket);
    key.put_u8(0);
    key.put_slice(object_key);
    key.freeze()
}

/// Bucket and object key of an index key; none if it has no NUL.
pub fn split_index_key(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let nul = key.iter().position(|byte| *byte == 0)?;
    Some((&key[..nul], &key[nul + 1..]))
}

impl From<v1::ObjectMetadata> for ObjectMetadata {
    fn from(value: v1::ObjectMetadata) -> Self {
        let v1::ObjectMetadata { etag, size_bytes, location, user_payload } = value;
        Self { etag, size_bytes, location, user_payload }
    }
}

impl From<ObjectMetadata> for v1::ObjectMetadata {
    fn from(value: ObjectMetadata) -> Self {
        let ObjectMetadata { etag, size_bytes, location, user_payload } = value;
        Self { etag, size_bytes, location, user_payload }
    }
}

impl From<v1::Item> for Item {
    fn from(item: v1::Item) -> Self {
        Self {
            key: item.key,
            value: item.value.unwrap_or_default().into(),
            version: Version(item.version),
        }
    }
}

impl From<Condition> for v1::Condition {
    fn from(condition: Condition) -> Self {
        let kind = match condition {
            Condition::Absent => v1::condition::Kind::Absent(true),
            Condition::VersionEquals(version) => v1::condition::Kind::VersionEquals(version.0),
        };
        Self { kind: Some(kind) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_key_is_bucket_nul_object_key() {
        let key = index_key(b"photos", b"a\0b");
        assert_eq!(key.as_ref(), b"photos\0a\0b");
        assert_eq!(split_index_key(&key), Some((&b"photos"[..], &b"a\0b"[..])));
        assert_eq!(split_index_key(b"no bucket"), None);
    }
}
