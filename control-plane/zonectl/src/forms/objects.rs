//! Keys and values of the index.

use client::{Deleted, Item};
use serde::Serialize;

use crate::text::escape;

/// `zonectl get`, and each item of `zonectl list`.
#[derive(Clone, Debug, Serialize)]
pub struct ItemForm {
    /// Null if the key has no bucket.
    pub bucket: Option<String>,
    /// The object key; the whole key if it has no bucket.
    pub key: String,
    pub version: u64,
    pub etag: String,
    pub size_bytes: u64,
    pub location: String,
    pub user_payload: String,
}

impl From<Item> for ItemForm {
    fn from(item: Item) -> Self {
        let (bucket, key) = match client::split_index_key(&item.key) {
            Some((bucket, object)) => (Some(escape(bucket)), escape(object)),
            None => (None, escape(&item.key)),
        };
        Self {
            bucket,
            key,
            version: item.version.0,
            etag: escape(&item.value.etag),
            size_bytes: item.value.size_bytes,
            location: escape(&item.value.location),
            user_payload: escape(&item.value.user_payload),
        }
    }
}

/// `zonectl list`.
#[derive(Clone, Debug, Serialize)]
pub struct ListForm {
    pub items: Vec<ItemForm>,
    /// Whether there are more: go on after the last key.
    pub more: bool,
}

/// `zonectl put`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PutForm {
    pub version: u64,
}

/// `zonectl delete`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DeletedForm {
    pub version: u64,
    /// Whether the key was there.
    pub existed: bool,
}

impl From<Deleted> for DeletedForm {
    fn from(deleted: Deleted) -> Self {
        Self { version: deleted.version.0, existed: deleted.existed }
    }
}

#[cfg(test)]
mod tests {
    use client::{ObjectMetadata, Version};

    use super::*;

    #[test]
    fn an_item_shows_binary_values_safely() {
        let value = ObjectMetadata {
            etag: vec![0xff, 0x00].into(),
            size_bytes: 9,
            location: "disk-3".into(),
            user_payload: "a\\b\n".into(),
        };
        let key = client::index_key(b"photos", b"cat.jpg");
        let form = ItemForm::from(Item { key, value, version: Version(4) });
        let json = serde_json::to_value(form).unwrap();
        let expected = serde_json::json!({
            "bucket": "photos", "key": "cat.jpg", "version": 4, "etag": "\\xff\\x00",
            "size_bytes": 9, "location": "disk-3", "user_payload": "a\\\\b\\x0a"
        });
        assert_eq!(json, expected);
    }
}
