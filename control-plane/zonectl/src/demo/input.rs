//! The demo's input: every file below a real directory tree, as index entries.

use std::{
    collections::BTreeMap,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use bytes::Bytes;
use client::{ObjectMetadata, index_key};
use walkdir::WalkDir;

/// The bucket under which the files are indexed.
pub const BUCKET: &[u8] = b"files";

/// The longest key that the index takes.
const KEY_BYTES_MAX: usize = 4_096;

/// What is indexed, in key order.
pub struct Input {
    pub entries: BTreeMap<Bytes, ObjectMetadata>,
    /// How many of the entries are made up, because the tree has too few files.
    pub generated: usize,
    /// Entries of the tree that could not be read or whose path is too long for a key.
    pub skipped: usize,
}

/// Modification time and mode, as the index keeps them for a file.
fn payload(modified_seconds: i64, mode: u32) -> Bytes {
    Bytes::from(format!("mtime={modified_seconds} mode={mode:06o}"))
}

/// Reads at most `most` files below `root`, and makes up what is missing to `least`.
pub fn read(root: &Path, least: usize, most: usize) -> Input {
    let mut entries = BTreeMap::new();
    let mut skipped = 0;
    let walk = WalkDir::new(root).follow_links(false).sort_by_file_name();
    for entry in walk {
        if entries.len() >= most {
            break;
        }
        let Ok(entry) = entry else {
            skipped += 1;
            continue;
        };
        if !entry.file_type().is_file() {
            continue;
        }
        let Ok(metadata) = entry.metadata() else {
            skipped += 1;
            continue;
        };
        let path = entry.path().as_os_str().as_bytes();
        let key = index_key(BUCKET, path);
        if key.len() > KEY_BYTES_MAX {
            skipped += 1;
            continue;
        }
        let value = ObjectMetadata {
            etag: Bytes::from(format!("{:x}-{:x}", metadata.ino(), metadata.mtime_nsec())),
            size_bytes: metadata.len(),
            location: Bytes::copy_from_slice(path),
            user_payload: payload(metadata.mtime(), metadata.mode()),
        };
        entries.insert(key, value);
    }
    let generated = least.saturating_sub(entries.len());
    for number in 0..generated {
        let path = format!("/generated/{:03}/file-{number:06}", number % 997);
        let value = ObjectMetadata {
            etag: Bytes::from(format!("{number:x}")),
            size_bytes: 1_024 * (number as u64 % 4_096),
            location: Bytes::from(path.clone()),
            user_payload: payload(0, 0o100_644),
        };
        entries.insert(index_key(BUCKET, path.as_bytes()), value);
    }
    Input { entries, generated, skipped }
}

impl Input {
    /// Where to cut the key space so that `partitions` start out with about equally many entries.
    pub fn split_keys(&self, partitions: usize) -> Vec<Bytes> {
        let keys: Vec<&Bytes> = self.entries.keys().collect();
        let mut cuts: Vec<Bytes> = (1..partitions)
            .filter_map(|cut| keys.get(cut * keys.len() / partitions).copied().cloned())
            .collect();
        cuts.dedup();
        cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_entries_and_what_lacks_is_made_up() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("below")).unwrap();
        std::fs::write(tree.path().join("below/one"), b"12345").unwrap();
        std::fs::write(tree.path().join("two"), b"").unwrap();
        let input = read(tree.path(), 10, 100);
        assert_eq!(input.entries.len(), 10);
        assert_eq!(input.generated, 8);
        let path = tree.path().join("below/one");
        let entry = &input.entries[&index_key(BUCKET, path.as_os_str().as_bytes())];
        assert_eq!(entry.size_bytes, 5);
        assert_eq!(read(tree.path(), 0, 1).entries.len(), 1);
    }

    #[test]
    fn the_cuts_are_ordered_and_even() {
        let input = read(Path::new("/nonexistent"), 1_000, 2_000);
        assert_eq!((input.generated, input.skipped), (1_000, 1));
        let cuts = input.split_keys(4);
        assert_eq!(cuts.len(), 3);
        assert!(cuts.is_sorted());
        assert_eq!(input.entries.range(..cuts[0].clone()).count(), 250);
    }
}
