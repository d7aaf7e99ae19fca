//! The simulated disk: same seed, same disk; and the faults that it can have.

mod store_support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::{
    record,
    seams::{Environment, Randomness},
    store::{Batch, Family, Reader, Scan, Store, StoreError, simulated::SimulatedDisk, synced},
};

const DATA: Family = Family("data");

/// Counts up through SplitMix64.
struct Seeded(AtomicU64);

impl Randomness for Seeded {
    fn next_u64(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn environment(seed: u64) -> Environment {
    Environment { randomness: Arc::new(Seeded(AtomicU64::new(seed))), ..Environment::production() }
}

fn put(store: &dyn Store, key: u32) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put(DATA, key.to_be_bytes().to_vec(), record::encode(1, &key));
    store.write(batch)
}

fn count(reader: &dyn Reader) -> usize {
    reader.scan(DATA, Scan::prefix("")).count()
}

/// How many of the batches are left, and how long the syncs took.
async fn history(seed: u64) -> (usize, Vec<Duration>) {
    let disk = SimulatedDisk::new();
    let store = disk.open(&[DATA], &environment(seed));
    let mut delays = Vec::new();
    for round in 0..5 {
        for key in 0..10 {
            put(&*store, round * 10 + key).expect("written");
        }
        let start = tokio::time::Instant::now();
        if round < 3 {
            synced(&*store).await.expect("synced");
        }
        delays.push(start.elapsed());
    }
    disk.crash(seed);
    (count(&*disk.open(&[DATA], &environment(seed))), delays)
}

#[tokio::test(start_paused = true)]
async fn a_seed_decides_everything() {
    let mut outcomes = Vec::new();
    for seed in 0..20 {
        let (left, delays) = history(seed).await;
        assert_eq!((left, delays.clone()), history(seed).await);
        assert!((30..=50).contains(&left));
        // Timers are good to a millisecond.
        assert!(delays[..3].iter().all(|delay| *delay <= Duration::from_millis(8)), "{delays:?}");
        outcomes.push(left);
    }
    outcomes.sort_unstable();
    outcomes.dedup();
    assert!(outcomes.len() > 5, "seeds must differ: {outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sync_covers_what_was_written_before_it_began() {
    let disk = SimulatedDisk::new();
    let store = disk.open(&[DATA], &environment(1));
    put(&*store, 1).expect("written");
    let first = synced(&*store);
    tokio::task::yield_now().await;
    // The first sync runs. These two come too late for it, and share the second.
    put(&*store, 2).expect("written");
    let second = synced(&*store);
    put(&*store, 3).expect("written");
    let third = synced(&*store);
    first.await.expect("synced");
    assert_eq!((disk.syncs(), disk.unsynced_batches()), (1, 2));
    second.await.expect("synced");
    third.await.expect("synced");
    assert_eq!((disk.syncs(), disk.unsynced_batches()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_old_store_has_lost_the_disk() {
    let disk = SimulatedDisk::new();
    let old = disk.open(&[DATA], &environment(1));
    put(&*old, 1).expect("written");
    let pending = synced(&*old);
    tokio::task::yield_now().await;
    disk.crash(0);
    let new = disk.open(&[DATA], &environment(2));
    let before = count(&*new);
    assert!(pending.await.is_err(), "a sync across a crash confirms nothing");
    assert!(put(&*old, 2).is_err());
    assert!(old.get(DATA, b"").is_err());
    assert!(synced(&*old).await.is_err());
    put(&*new, 3).expect("written");
    assert_eq!(count(&*new), before + 1);
    // Opening without a crash keeps everything, and takes the disk away as well.
    let newest = disk.open(&[DATA], &environment(3));
    assert_eq!(count(&*newest), before + 1);
    assert!(put(&*new, 4).is_err());
    disk.crash(0);
    assert_eq!(count(&*disk.open(&[DATA], &environment(4))), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_disk_answers_when_it_goes_on() {
    let disk = SimulatedDisk::new();
    let store = disk.open(&[DATA], &environment(1));
    disk.stall_syncs(true);
    put(&*store, 1).expect("written");
    let pending = synced(&*store);
    let waited = tokio::time::timeout(Duration::from_secs(60), pending);
    assert!(waited.await.is_err());
    assert_eq!(disk.unsynced_batches(), 1);
    let pending = synced(&*store);
    disk.stall_syncs(false);
    pending.await.expect("synced");
    assert_eq!(disk.unsynced_batches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_is_slow() {
    let disk = SimulatedDisk::new();
    disk.set_sync_delay(Duration::from_secs(2), Duration::from_secs(3));
    let store = disk.open(&[DATA], &environment(1));
    let start = tokio::time::Instant::now();
    synced(&*store).await.expect("synced");
    assert!((2000..=3001).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_stops_the_store_until_it_is_opened_again() {
    let disk = SimulatedDisk::new();
    let store = disk.open(&[DATA], &environment(1));
    put(&*store, 1).expect("written");
    disk.fail_syncs(true);
    let failure = synced(&*store).await.expect_err("must fail");
    disk.fail_syncs(false);
    assert_eq!(synced(&*store).await, Err(failure.clone()), "a failed sync is never retried");
    assert_eq!(put(&*store, 2), Err(failure.clone()));
    assert_eq!(store.get(DATA, b""), Err(failure));
    disk.crash(0);
    let store = disk.open(&[DATA], &environment(2));
    put(&*store, 3).expect("written");
    synced(&*store).await.expect("synced");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_writes_for_good() {
    let disk = SimulatedDisk::new();
    let store = disk.open(&[DATA], &environment(1));
    disk.set_free_bytes(1000);
    assert_eq!(store.free_bytes(), Ok(1000));
    put(&*store, 1).expect("written: free space is only what is told");
    disk.set_full(true);
    assert_eq!(store.free_bytes(), Ok(0));
    assert_eq!(put(&*store, 2), Err(StoreError::NoSpace));
    disk.set_full(false);
    assert_eq!(put(&*store, 2), Err(StoreError::NoSpace));
    let store = disk.open(&[DATA], &environment(2));
    assert_eq!(count(&*store), 1);
    put(&*store, 2).expect("written");
}

#[tokio::test(start_paused = true)]
async fn a_corrupted_record_is_noticed_when_it_is_decoded() {
    let disk = SimulatedDisk::new();
    let store = disk.open(&[DATA], &environment(1));
    put(&*store, 1).expect("written");
    let key = 1_u32.to_be_bytes();
    assert!(disk.corrupt(DATA, &key));
    assert!(!disk.corrupt(DATA, b"nothing"));
    let damaged = store.get(DATA, &key).expect("read").expect("there");
    let outcome = record::decode::<u32>(DATA, 1, &damaged);
    assert!(matches!(outcome, Err(StoreError::Corrupt { family: "data", .. })), "{outcome:?}");
    // Durably, and only once it is written.
    synced(&*store).await.expect("synced");
    disk.crash(0);
    let store = disk.open(&[DATA], &environment(2));
    assert_eq!(store.get(DATA, &key), Ok(Some(damaged)));
}
