//! RocksDB's store: what it refuses to open, what a crash leaves, how it fails and how it syncs.

mod store_support;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use runtime::store::{
    Batch, Family, Reader, Scan, Store, StoreError,
    contract::Machine,
    rocks::{OpenError, RocksOptions, RocksStore},
    synced,
};
use store_support::{RocksMachine, options};
use tempfile::TempDir;

const DATA: Family = Family("data");
const LOG: Family = Family("log");
const FAMILIES: [Family; 2] = [DATA, LOG];

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn open(path: &Path) -> Result<Arc<RocksStore>, OpenError> {
    RocksStore::open(path, &FAMILIES, options())
}

fn refusal(path: &Path) -> OpenError {
    open(path).err().expect("must be refused")
}

fn put(store: &dyn Store, key: &str, value: impl Into<Bytes>) {
    let mut batch = Batch::new();
    batch.put(DATA, Bytes::copy_from_slice(key.as_bytes()), value);
    store.write(batch).expect("written");
}

/// The newest write-ahead log that holds anything.
fn log_file(path: &Path) -> PathBuf {
    let mut logs: Vec<PathBuf> = fs::read_dir(path.join("rocksdb"))
        .expect("listed")
        .map(|entry| entry.expect("listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .filter(|path| fs::metadata(path).expect("there").len() > 0)
        .collect();
    logs.sort();
    logs.pop().expect("a log")
}

#[tokio::test]
async fn a_new_directory_is_created_and_found_again() {
    let parent = directory();
    let path = parent.path().join("deep").join("data");
    let store = open(&path).expect("created");
    put(&*store, "key", "value");
    synced(&*store).await.expect("synced");
    drop(store);
    let store = open(&path).expect("opened again");
    assert_eq!(store.get(DATA, b"key"), Ok(Some("value".into())));
    assert!(fs::read_to_string(path.join("ISOTHERM")).expect("read").contains("kind index-node"));
}

#[test]
fn a_family_can_be_added_and_left_out() {
    let path = directory();
    let one = [DATA];
    let store = RocksStore::open(path.path(), &one, options()).expect("created");
    put(&*store, "key", "value");
    drop(store);
    drop(open(path.path()).expect("opened with one more"));
    let store = RocksStore::open(path.path(), &one, options()).expect("opened with one less");
    assert_eq!(store.get(DATA, b"key"), Ok(Some("value".into())));
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let path = directory();
    fs::write(path.path().join("thesis.txt"), "years of work").expect("written");
    let error = refusal(path.path());
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("name an empty directory"), "{error}");
    let names: Vec<_> = fs::read_dir(path.path()).expect("listed").collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn a_file_is_refused() {
    let path = directory();
    let file = path.path().join("file");
    fs::write(&file, "text").expect("written");
    let error = refusal(&file);
    assert!(matches!(error, OpenError::NotADirectory { .. }), "{error}");
}

#[test]
fn a_directory_in_use_is_refused() {
    let path = directory();
    let store = open(path.path()).expect("opened");
    let error = refusal(path.path());
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    // A snapshot keeps the database open.
    let snapshot = store.snapshot();
    drop(store);
    let error = refusal(path.path());
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(snapshot);
    drop(open(path.path()).expect("free again"));
}

#[test]
fn another_kind_a_newer_format_and_a_damaged_marker_are_refused() {
    let path = directory();
    drop(open(path.path()).expect("created"));
    let error = RocksStore::open(path.path(), &FAMILIES, RocksOptions::new("control-plane"))
        .err()
        .expect("must be refused");
    assert!(
        matches!(&error, OpenError::WrongKind { found, expected: "control-plane", .. }
            if found == "index-node"),
        "{error}"
    );
    let marker = path.path().join("ISOTHERM");
    let original = fs::read_to_string(&marker).expect("read");
    fs::write(&marker, original.replace("format 1", "format 2")).expect("written");
    let error = refusal(path.path());
    assert!(matches!(error, OpenError::TooNew { found: 2, supported: 1, .. }), "{error}");
    for damage in ["", "isotherm data directory\n", "isotherm data directory\nformat 0\nkind x\n"] {
        fs::write(&marker, damage).expect("written");
        let error = refusal(path.path());
        assert!(matches!(error, OpenError::Corrupt { .. }), "{damage:?}: {error}");
    }
    fs::write(&marker, original).expect("written");
    drop(open(path.path()).expect("whole again"));
}

#[test]
fn an_interrupted_creation_is_finished() {
    let path = directory();
    fs::write(path.path().join("SYNCED"), "").expect("written");
    fs::write(path.path().join("ISOTHERM.new"), "isoth").expect("written");
    drop(open(path.path()).expect("created"));
    drop(open(path.path()).expect("opened again"));
}

#[tokio::test]
async fn a_torn_tail_is_no_damage() {
    let machine = RocksMachine::new(&FAMILIES);
    put(&*machine.store, "synced", "value");
    synced(&*machine.store).await.expect("synced");
    put(&*machine.store, "torn", vec![7; 100]);
    // Larger than the log's buffer, so that something of it reaches the file.
    put(&*machine.store, "large", vec![7; 3 << 20]);
    let image = machine.image();
    let log = log_file(image.path());
    let length = fs::metadata(&log).expect("there").len();
    assert!(length > 1 << 20, "{length}");
    let file = OpenOptions::new().write(true).open(&log).expect("opened");
    file.set_len(length - 1000).expect("cut");
    let store = open(image.path()).expect("opened");
    assert_eq!(store.get(DATA, b"synced"), Ok(Some("value".into())));
    assert_eq!(store.get(DATA, b"torn"), Ok(Some(vec![7; 100].into())));
    assert_eq!(store.get(DATA, b"large"), Ok(None));
}

#[tokio::test]
async fn damage_before_the_end_of_what_was_synced_is_refused() {
    let machine = RocksMachine::new(&FAMILIES);
    for number in 0..100 {
        put(&*machine.store, &format!("key {number:03}"), vec![b'x'; 200]);
    }
    synced(&*machine.store).await.expect("synced");
    let image = machine.image();
    let log = log_file(image.path());
    let file = OpenOptions::new().write(true).open(&log).expect("opened");
    let middle = fs::metadata(&log).expect("there").len() / 2;
    file.write_all_at(&[0xa5; 16], middle).expect("damaged");
    // Also when it is tried again.
    for _ in 0..2 {
        let error = refusal(image.path());
        assert!(
            matches!(error, OpenError::LostWrites { synced: 100, found: 1..100, .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_missing_log_is_refused() {
    let machine = RocksMachine::new(&FAMILIES);
    put(&*machine.store, "key", "value");
    synced(&*machine.store).await.expect("synced");
    let image = machine.image();
    fs::remove_file(log_file(image.path())).expect("removed");
    let error = refusal(image.path());
    assert!(matches!(error, OpenError::LostWrites { synced: 1, found: 0, .. }), "{error}");
}

#[tokio::test]
async fn a_missing_table_file_is_refused() {
    let machine = RocksMachine::new(&FAMILIES);
    put(&*machine.store, "key", "value");
    synced(&*machine.store).await.expect("synced");
    let image = machine.image();
    // Recovery writes what it replayed into a table file.
    drop(open(image.path()).expect("opened"));
    let table = fs::read_dir(image.path().join("rocksdb"))
        .expect("listed")
        .map(|entry| entry.expect("listed").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .expect("a table");
    fs::remove_file(table).expect("removed");
    let error = refusal(image.path());
    assert!(matches!(error, OpenError::Corrupt { .. } | OpenError::Engine { .. }), "{error}");
}

/// A flush of one family's memtable must not let it get ahead of another's.
#[tokio::test]
async fn families_stay_together_across_flushes() {
    let mut small = options();
    small.write_buffer_bytes = 1 << 20;
    let path = directory();
    let store = RocksStore::open(path.path(), &FAMILIES, small).expect("created");
    for number in 0..600_u32 {
        let mut batch = Batch::new();
        batch.put(LOG, number.to_be_bytes().to_vec(), "small");
        // This family's memtables fill, are switched and flushed; the other's hardly.
        batch.put(DATA, number.to_be_bytes().to_vec(), noise(number));
        store.write(batch).expect("written");
        if number % 100 != 99 {
            continue;
        }
        let image = copy_of(path.path());
        let survivor = open(image.path()).expect("opened");
        let keys = |family| -> Vec<Bytes> {
            survivor.scan(family, Scan::prefix("")).map(|entry| entry.expect("read").0).collect()
        };
        assert_eq!(keys(DATA), keys(LOG), "after {number}");
        assert!(!keys(DATA).is_empty(), "a flush of a memtable makes what is before it durable");
    }
}

/// Bytes that do not compress.
fn noise(seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut bytes = Vec::with_capacity(8192);
    while bytes.len() < 8192 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes
}

/// A copy of a directory whose files come and go meanwhile.
fn copy_of(path: &Path) -> TempDir {
    loop {
        let image = directory();
        let engine = image.path().join("rocksdb");
        fs::create_dir(&engine).expect("created");
        for name in ["SYNCED", "ISOTHERM"] {
            fs::copy(path.join(name), image.path().join(name)).expect("copied");
        }
        let manifest = || -> Vec<(PathBuf, u64)> {
            let mut files: Vec<_> = fs::read_dir(path.join("rocksdb"))
                .expect("listed")
                .map(|entry| entry.expect("listed").path())
                .map(|path| (path.clone(), fs::metadata(path).map_or(0, |file| file.len())))
                .collect();
            files.sort();
            files
        };
        let before = manifest();
        let complete = before.iter().all(|(path, _)| {
            let name = path.file_name().expect("a name");
            fs::copy(path, engine.join(name)).is_ok()
        });
        // Once more if a flush or a compaction was under way.
        if complete && manifest() == before {
            return image;
        }
    }
}

#[tokio::test]
async fn waiting_requests_share_a_sync() {
    let machine = RocksMachine::new(&FAMILIES);
    let store = machine.store();
    let before = machine.store.syncs();
    let mut waiting = Vec::new();
    for number in 0..1000 {
        put(&*store, &format!("{number}"), "value");
        waiting.push(synced(&*store));
    }
    for outcome in waiting {
        outcome.await.expect("synced");
    }
    let syncs = machine.store.syncs() - before;
    assert!((1..500).contains(&syncs), "{syncs} syncs for 1000 requests");
}

#[tokio::test]
async fn requests_are_served_when_the_store_is_dropped() {
    let machine = RocksMachine::new(&FAMILIES);
    put(&*machine.store, "key", "value");
    let outcome = synced(&*machine.store);
    drop(machine);
    outcome.await.expect("synced");
}

#[tokio::test]
async fn the_last_reference_may_be_dropped_by_a_callback() {
    let path = directory();
    let store = open(path.path()).expect("opened");
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let last = Arc::clone(&store);
    store.sync(Box::new(move |outcome| {
        drop(last);
        let _ = sender.send(outcome);
    }));
    drop(store);
    receiver.await.expect("answered").expect("synced");
}

#[tokio::test]
async fn a_failed_write_stops_the_store() {
    let machine = RocksMachine::new(&FAMILIES);
    put(&*machine.store, "key", "value");
    let mut batch = Batch::new();
    batch.put(Family("unknown"), "key", "value");
    let failure = machine.store.write(batch).expect_err("must fail");
    assert!(matches!(failure, StoreError::Failed { .. }));
    let mut batch = Batch::new();
    batch.put(DATA, "key", "other");
    assert_eq!(machine.store.write(batch), Err(failure.clone()));
    assert_eq!(machine.store.get(DATA, b"key"), Err(failure.clone()));
    assert_eq!(machine.store.scan(DATA, Scan::prefix("")).next(), Some(Err(failure.clone())));
    assert_eq!(machine.store.snapshot().get(DATA, b"key"), Err(failure.clone()));
    assert_eq!(machine.store.free_bytes(), Err(failure.clone()));
    assert_eq!(synced(&*machine.store).await, Err(failure));
}
