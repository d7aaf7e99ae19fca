//! The two stores as machines for the contract suite.

// Each test binary uses its part of this module.
#![allow(dead_code)]

use std::{fs, path::Path, sync::Arc};

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

    pub fn image(&self) -> TempDir {
        let image = TempDir::new().expect("a temporary directory");
        // First what says how far was synced: it must not be ahead of the rest.
        fs::copy(self.directory.path().join("SYNCED"), image.path().join("SYNCED"))
            .expect("copied");
        copy(self.directory.path(), image.path());
        image
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

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            fs::create_dir(&target).expect("created");
            copy(&entry.path(), &target);
        } else if !target.exists() {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
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
