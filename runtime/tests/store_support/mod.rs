//! The two stores as machines for the contract suite.

// Each test binary uses its part of this module.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use runtime::{
    seams::Environment,
    store::{
        Family, Store,
        contract::Machine,
        rocks::{RocksOptions, RocksStore},
        simulated::SimulatedDisk,
    },
};
use tempfile::TempDir;

/// How often a copy of a directory is tried: background work ends within milliseconds.
const IMAGE_ATTEMPTS_MAX: usize = 1_000;

/// RocksDB in a directory. A crash image is a copy of the directory while it is open: what is in the
/// log's buffer is not in it.
pub struct RocksMachine {
    families: Vec<Family>,
    // Closed before its directory is removed.
    pub store: Arc<RocksStore>,
    directory: TempDir,
}

impl RocksMachine {
    pub fn new(families: &[Family]) -> Self {
        Self::in_directory(families, TempDir::new().expect("a temporary directory"))
    }

    fn in_directory(families: &[Family], directory: TempDir) -> Self {
        let store = RocksStore::open(directory.path(), families, options()).expect("opened");
        Self { families: families.to_vec(), store, directory }
    }

    /// The directory as it is at one moment. RocksDB flushes and compacts in the background, so a copy
    /// counts only if no file was made, removed or written while it was taken.
    pub fn image(&self) -> TempDir {
        let from = self.directory.path();
        for _ in 0..IMAGE_ATTEMPTS_MAX {
            let image = TempDir::new().expect("a temporary directory");
            let before = listing(from);
            // First what says how far was synced: it must not be ahead of the rest.
            let copied = fs::copy(from.join("SYNCED"), image.path().join("SYNCED"))
                .and_then(|_| copy(from, image.path()));
            let is_whole = match copied {
                Ok(()) => before.is_ok_and(|before| listing(from).is_ok_and(|now| now == before)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => panic!("{}: {error}", from.display()),
            };
            if is_whole {
                return image;
            }
            // RocksDB's threads work in real time.
            #[allow(clippy::disallowed_methods)]
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the directory never came to rest");
    }
}

impl Machine for RocksMachine {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    fn crashed(&self, _: u64) -> Box<dyn Machine> {
        Box::new(Self::in_directory(&self.families, self.image()))
    }
}

pub fn options() -> RocksOptions {
    RocksOptions::new("index-node")
}

/// Every file below `path`, with its size and when it was written.
fn listing(path: &Path) -> io::Result<BTreeMap<PathBuf, (u64, SystemTime)>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            files.extend(listing(&entry.path())?);
        } else {
            files.insert(entry.path(), (metadata.len(), metadata.modified()?));
        }
    }
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else if !target.exists() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// A simulated disk, opened.
pub struct SimulatedMachine {
    families: Vec<Family>,
    pub disk: SimulatedDisk,
    store: Arc<dyn Store>,
}

impl SimulatedMachine {
    pub fn new(families: &[Family]) -> Self {
        Self::with(families, SimulatedDisk::new())
    }

    fn with(families: &[Family], disk: SimulatedDisk) -> Self {
        let store = disk.open(families, &Environment::production());
        Self { families: families.to_vec(), disk, store }
    }
}

impl Machine for SimulatedMachine {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    fn crashed(&self, seed: u64) -> Box<dyn Machine> {
        Box::new(Self::with(&self.families, self.disk.crash_image(seed)))
    }
}
