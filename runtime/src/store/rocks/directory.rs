//! The data directory around RocksDB: whose it is, that only one process has it, and how far it was
//! synced.
//!
//! ```text
//! ISOTHERM    written once, at creation: format version and kind. Locked by the process that uses it.
//! SYNCED      the sequence number through which writes are durable (8 bytes, big endian), and its CRC-32
//! rocksdb/    RocksDB's own files
//! ```
//!
//! `SYNCED` is overwritten in place after each sync, without a sync of its own, so it can lag but never
//! run ahead. It exists because RocksDB, told to recover to a point in time (which is what gives the
//! prefix across families after a power loss), silently stops at the first damaged record of its log.
//! That is right for a torn tail, which was promised to nobody, and wrong for a record that had been
//! synced. With `SYNCED` the two are told apart.
//!
//! **Invariant**: nothing that was there before is overwritten or removed.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::OpenError;

const MARKER: &str = "ISOTHERM";
const WATERMARK: &str = "SYNCED";
const ENGINE: &str = "rocksdb";
/// Layout of the directory and of everything in it.
const FORMAT: u32 = 1;
const WATERMARK_BYTES: usize = 12;

/// A data directory that this process has for itself until the value is dropped.
pub(super) struct Directory {
    path: PathBuf,
    watermark: File,
    /// Holds the lock.
    _marker: File,
}

impl Directory {
    /// Opens the directory, or creates it if it is missing or empty.
    pub(super) fn open(path: &Path, kind: &'static str) -> Result<Self, OpenError> {
        let io = |action: &'static str| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, action, source }
        };
        if path.exists() && !path.is_dir() {
            return Err(OpenError::NotADirectory { path: path.to_owned() });
        }
        fs::create_dir_all(path).map_err(io("create"))?;
        let marker_path = path.join(MARKER);
        if !marker_path.exists() {
            if !is_empty(path).map_err(io("list"))? {
                return Err(OpenError::Foreign { path: path.to_owned() });
            }
            create(path, kind).map_err(io("prepare"))?;
        }
        let marker = File::open(&marker_path).map_err(io("open the marker file in"))?;
        match marker.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
        }
        let text = fs::read_to_string(&marker_path).map_err(io("read the marker file in"))?;
        check(path, &text, kind)?;
        let watermark = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path.join(WATERMARK))
            .map_err(io("open the file SYNCED in"))?;
        Ok(Self { path: path.to_owned(), watermark, _marker: marker })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where RocksDB keeps its files.
    pub(super) fn engine_path(&self) -> PathBuf {
        self.path.join(ENGINE)
    }

    /// The sequence number through which writes are known to have been durable.
    pub(super) fn synced_through(&self) -> Result<u64, OpenError> {
        let mut bytes = [0; WATERMARK_BYTES];
        self.watermark.read_exact_at(&mut bytes, 0).map_err(|source| OpenError::Io {
            path: self.path.clone(),
            action: "read the file SYNCED in",
            source,
        })?;
        let (sequence, checksum) = bytes.split_at(8);
        if crc32fast::hash(sequence).to_be_bytes() != checksum {
            return Err(OpenError::Corrupt {
                path: self.path.clone(),
                message: "the file SYNCED does not match its checksum".to_owned(),
            });
        }
        Ok(u64::from_be_bytes(sequence.try_into().expect("split at 8")))
    }

    /// Notes that writes through `sequence` are durable.
    pub(super) fn note_synced(&self, sequence: u64) -> io::Result<()> {
        self.watermark.write_all_at(&watermark(sequence), 0)
    }
}

fn watermark(sequence: u64) -> [u8; WATERMARK_BYTES] {
    let sequence = sequence.to_be_bytes();
    let mut bytes = [0; WATERMARK_BYTES];
    bytes[..8].copy_from_slice(&sequence);
    bytes[8..].copy_from_slice(&crc32fast::hash(&sequence).to_be_bytes());
    bytes
}

/// Whether nothing is there yet, or only what an interrupted [`create`] or a new file system leaves.
fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name != WATERMARK && name != temporary(MARKER).as_str() && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The marker comes last: a directory that has one is complete.
fn create(path: &Path, kind: &str) -> io::Result<()> {
    let mut synced = File::create(path.join(WATERMARK))?;
    synced.write_all(&watermark(0))?;
    synced.sync_all()?;
    let temporary = path.join(temporary(MARKER));
    let mut marker = File::create(&temporary)?;
    write!(marker, "isotherm data directory\nformat {FORMAT}\nkind {kind}\n")?;
    marker.sync_all()?;
    fs::rename(&temporary, path.join(MARKER))?;
    File::open(path)?.sync_all()?;
    // The directory's own entry must survive a power loss as well. Where the parent cannot be opened
    // (an unreadable mount point) there is nothing more to do.
    if let Some(parent) = path.parent()
        && let Ok(parent) = File::open(parent)
    {
        parent.sync_all()?;
    }
    Ok(())
}

fn temporary(name: &str) -> String {
    format!("{name}.new")
}

fn check(path: &Path, text: &str, expected_kind: &'static str) -> Result<(), OpenError> {
    let damaged = || OpenError::Corrupt {
        path: path.to_owned(),
        message: format!("the marker file {MARKER} cannot be understood"),
    };
    let mut lines = text.lines();
    if lines.next() != Some("isotherm data directory") {
        return Err(damaged());
    }
    let mut field = |name: &str| {
        lines.next().and_then(|line| line.strip_prefix(name)).map(str::trim).ok_or_else(damaged)
    };
    let format: u32 = field("format ")?.parse().map_err(|_| damaged())?;
    if format == 0 {
        return Err(damaged());
    }
    if format > FORMAT {
        return Err(OpenError::TooNew { path: path.to_owned(), found: format, supported: FORMAT });
    }
    let kind = field("kind ")?;
    if kind != expected_kind {
        return Err(OpenError::WrongKind {
            path: path.to_owned(),
            found: kind.to_owned(),
            expected: expected_kind,
        });
    }
    Ok(())
}
