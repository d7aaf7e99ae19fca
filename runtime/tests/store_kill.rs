//! A real process, killed by `kill -9` while it writes and syncs: what it was told to be durable is
//! there.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use runtime::store::{
    Batch, Family, Reader, Scan, Store,
    rocks::{RocksOptions, RocksStore},
};
use tempfile::TempDir;

const FAMILIES: [Family; 2] = [Family("first"), Family("second")];
const DIRECTORY: &str = "STORE_KILL_DIRECTORY";

fn open(path: &Path) -> Arc<RocksStore> {
    RocksStore::open(path, &FAMILIES, RocksOptions::new("index-node")).expect("opened")
}

fn last(store: &RocksStore, family: Family) -> Option<u64> {
    let newest = store.scan(family, Scan::prefix("").reversed()).next()?;
    let (key, _) = newest.expect("read");
    Some(u64::from_be_bytes(key.as_ref().try_into().expect("eight bytes")))
}

/// The process that is killed. Does nothing when it is run as a test among others.
#[test]
fn the_writer() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let store = open(Path::new(&path));
    let mut number = last(&store, FAMILIES[0]).map_or(0, |last| last + 1);
    loop {
        let mut batch = Batch::new();
        for family in FAMILIES {
            batch.put(family, number.to_be_bytes().to_vec(), vec![7; 1000]);
        }
        store.write(batch).expect("written");
        if number.is_multiple_of(3) {
            store.sync(Box::new(move |outcome| {
                outcome.expect("synced");
                println!("durable {number}");
                std::io::stdout().flush().expect("printed");
            }));
        }
        number += 1;
    }
}

#[test]
fn what_a_killed_process_synced_is_there() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut durable = 0;
    for round in 0..3 {
        let mut writer = Command::new(std::env::current_exe().expect("this test's path"))
            .args(["--exact", "the_writer", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut output = BufReader::new(writer.stdout.take().expect("piped")).lines();
        let mut numbers = output.by_ref().map_while(Result::ok).filter_map(|line| {
            line.rsplit_once("durable ").and_then(|(_, number)| number.parse::<u64>().ok())
        });
        // Let it get somewhere; then kill it in the middle of whatever it does.
        durable = numbers.nth(200 + round * 50).expect("it writes until it is killed");
        writer.kill().expect("killed");
        durable = numbers.last().unwrap_or(durable);
        writer.wait().expect("ended");

        let store = open(directory.path());
        for family in FAMILIES {
            let keys: Vec<u64> = store
                .scan(family, Scan::prefix(""))
                .map(|entry| entry.expect("read").0)
                .map(|key| u64::from_be_bytes(key.as_ref().try_into().expect("eight bytes")))
                .collect();
            assert!(keys.iter().copied().eq(0..keys.len() as u64), "no gaps in {}", family.0);
        }
        let [first, second] = FAMILIES.map(|family| last(&store, family));
        assert_eq!(first, second, "the families hold the same prefix");
        assert!(first >= Some(durable), "{first:?} is there, {durable} was durable");
    }
    assert!(durable > 500);
}

/// The process that ends while other threads open and close stores. Does nothing when it is run as a test
/// among others.
#[test]
fn the_leaver() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let (opened, stores) = std::sync::mpsc::channel();
    for thread in 0..4 {
        let path = Path::new(&path).join(thread.to_string());
        let opened = opened.clone();
        std::thread::spawn(move || {
            while let Ok(store) =
                RocksStore::open(&path, &FAMILIES, RocksOptions::new("index-node"))
            {
                let _ = opened.send(());
                drop(store);
            }
        });
    }
    for () in stores.iter().take(10) {}
    std::process::exit(0);
}

#[test]
fn a_process_may_end_while_threads_open_and_close_stores() {
    for _ in 0..12 {
        let directory = TempDir::new().expect("a temporary directory");
        let leaver = Command::new(std::env::current_exe().expect("this test's path"))
            .args(["--exact", "the_leaver", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .output()
            .expect("run");
        let errors = String::from_utf8_lossy(&leaver.stderr);
        assert!(leaver.status.success(), "{}: {errors}", leaver.status);
    }
}
