//! What every store must do, as tests that run against any of them.
//!
//! A test is given a [`Machine`] and may crash it. The suite is part of the library, not of its tests,
//! so that a store written elsewhere can be held to it. Every function panics where the store breaks its
//! word.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use super::{Batch, Entries, Family, Reader, Scan, Store, StoreError, synced};

/// The families that the suite's stores must have.
pub const FAMILIES: [Family; 2] = [Family("first"), Family("second")];
const FIRST: Family = FAMILIES[0];
const SECOND: Family = FAMILIES[1];

/// A store, and what a crash would leave of it.
pub trait Machine {
    fn store(&self) -> Arc<dyn Store>;

    /// Another machine, with what the store's next process would find if this one were killed now. The
    /// seed chooses where chance has a say.
    fn crashed(&self, seed: u64) -> Box<dyn Machine>;
}

/// Runs all tests, each on a machine of its own.
pub async fn check_all(make: impl Fn() -> Box<dyn Machine>) {
    a_batch_takes_effect_in_sequence(&*make());
    a_scan_has_order_and_bounds(&*make());
    impossible_scans_are_empty(&*make());
    a_prefix_scan_has_the_prefix_only(&*make());
    a_range_is_deleted_and_nothing_else(&*make());
    a_family_is_a_keyspace_of_its_own(&*make());
    a_scan_does_not_see_later_writes(&*make());
    a_snapshot_does_not_see_later_writes(&*make());
    a_snapshot_outlives_its_store(&*make());
    sizes_are_told(&*make());
    a_sync_is_answered_once(&*make()).await;
    a_sync_is_answered_when_there_is_nothing_to_sync(&*make()).await;
    what_was_synced_survives(&*make()).await;
    a_crash_leaves_a_prefix(&*make()).await;
    deletions_survive_like_writes(&*make()).await;
    what_survived_one_crash_survives_the_next(&*make()).await;
    an_unknown_family_is_an_error(&*make());
}

/// Puts and deletes of one batch act one after the other, and show together when `write` has returned.
pub fn a_batch_takes_effect_in_sequence(machine: &dyn Machine) {
    let store = machine.store();
    assert_eq!(store.get(FIRST, b"a"), Ok(None));
    let mut batch = Batch::new();
    batch.put(FIRST, "a", "1");
    batch.put(FIRST, "a", "2");
    batch.put(FIRST, "b", "1");
    batch.delete(FIRST, "b");
    batch.delete(FIRST, "c");
    batch.put(FIRST, "c", "");
    batch.put(FIRST, "d", "1");
    batch.delete_range(FIRST, "d", "f");
    batch.put(FIRST, "e", "2");
    store.write(batch).expect("written");
    assert_eq!(contents(&*store, FIRST), pairs(&[("a", "2"), ("c", ""), ("e", "2")]));
    assert_eq!(store.get(FIRST, b"c"), Ok(Some(Bytes::new())), "an empty value is a value");
    assert_eq!(store.get(FIRST, b"b"), Ok(None));
    store.write(Batch::new()).expect("an empty batch is no mistake");
}

/// Keys come in the order of their bytes, within the bounds, in the direction asked for.
pub fn a_scan_has_order_and_bounds(machine: &dyn Machine) {
    let store = machine.store();
    let keys: [&[u8]; 7] = [b"", b"\x00", b"a", b"a\x00", b"ab", b"b", b"\xff\xff"];
    // Written in another order than the keys'.
    for key in keys.iter().rev() {
        put(&*store, FIRST, key, "v");
    }
    let key = Bytes::from_static;
    let bounds = |bytes: &'static [u8]| [Bound::Included(key(bytes)), Bound::Excluded(key(bytes))];
    let mut edges = vec![Bound::Unbounded];
    for edge in keys.iter().copied().chain([b"aa".as_slice(), b"zz"]) {
        edges.extend(bounds(edge));
    }
    for start in &edges {
        for end in &edges {
            let expected: Vec<Bytes> =
                keys.iter().map(|bytes| key(bytes)).filter(|key| within(key, start, end)).collect();
            let scan = Scan { start: start.clone(), end: end.clone(), reverse: false };
            let found = keys_of(store.scan(FIRST, scan.clone()));
            assert_eq!(found, expected, "{scan:?}");
            let mut backwards = keys_of(store.scan(FIRST, scan.clone().reversed()));
            backwards.reverse();
            assert_eq!(backwards, expected, "{scan:?}, reversed");
        }
    }
}

fn within(key: &Bytes, start: &Bound<Bytes>, end: &Bound<Bytes>) -> bool {
    let behind_start = match start {
        Bound::Included(start) => key >= start,
        Bound::Excluded(start) => key > start,
        Bound::Unbounded => true,
    };
    let before_end = match end {
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
        Bound::Unbounded => true,
    };
    behind_start && before_end
}

/// Bounds between which no key can lie give an empty scan, not an error.
pub fn impossible_scans_are_empty(machine: &dyn Machine) {
    let store = machine.store();
    put(&*store, FIRST, b"b", "v");
    for (start, end) in [("c", "a"), ("b", "b"), ("", "")] {
        assert_eq!(keys_of(store.scan(FIRST, Scan::range(start, end))), Vec::<Bytes>::new());
        let reversed = Scan::range(start, end).reversed();
        assert_eq!(keys_of(store.scan(FIRST, reversed)), Vec::<Bytes>::new());
    }
    let exclusive = Scan {
        start: Bound::Excluded("b".into()),
        end: Bound::Excluded("b".into()),
        reverse: false,
    };
    assert_eq!(keys_of(store.scan(FIRST, exclusive)), Vec::<Bytes>::new());
}

/// A prefix scan gives all keys with the prefix and no other, also where the prefix ends in 0xff.
pub fn a_prefix_scan_has_the_prefix_only(machine: &dyn Machine) {
    let store = machine.store();
    let keys: [&'static [u8]; 7] =
        [b"a", b"a\xff", b"a\xff\x01", b"a\xff\xff", b"b", b"\xff", b"\xff\xff"];
    for key in keys {
        put(&*store, FIRST, key, "v");
    }
    for prefix in keys.into_iter().chain([b"".as_slice(), b"c"]) {
        let expected: Vec<Bytes> = keys
            .into_iter()
            .filter(|key| key.starts_with(prefix))
            .map(Bytes::from_static)
            .collect();
        assert_eq!(keys_of(store.scan(FIRST, Scan::prefix(prefix))), expected, "{prefix:?}");
    }
}

/// A deleted range has lost its keys; its end, what lies outside and what is written later have not.
pub fn a_range_is_deleted_and_nothing_else(machine: &dyn Machine) {
    let store = machine.store();
    for key in ["a", "b", "b1", "c", "d"] {
        put(&*store, FIRST, key.as_bytes(), "v");
        put(&*store, SECOND, key.as_bytes(), "v");
    }
    let mut batch = Batch::new();
    batch.delete_range(FIRST, "b", "c");
    batch.delete_range(FIRST, "d", "a");
    batch.delete_range(FIRST, "a", "a");
    store.write(batch).expect("written");
    assert_eq!(contents(&*store, FIRST), pairs(&[("a", "v"), ("c", "v"), ("d", "v")]));
    assert_eq!(contents(&*store, SECOND).len(), 5);
    put(&*store, FIRST, b"b1", "w");
    assert_eq!(store.get(FIRST, b"b1"), Ok(Some("w".into())));
}

/// The same key in two families is two keys.
pub fn a_family_is_a_keyspace_of_its_own(machine: &dyn Machine) {
    let store = machine.store();
    let mut batch = Batch::new();
    batch.put(FIRST, "k", "1");
    batch.put(SECOND, "k", "2");
    store.write(batch).expect("written");
    let mut batch = Batch::new();
    batch.delete(FIRST, "k");
    store.write(batch).expect("written");
    assert_eq!(store.get(FIRST, b"k"), Ok(None));
    assert_eq!(store.get(SECOND, b"k"), Ok(Some("2".into())));
}

/// A scan shows the store as it was when the scan was asked for, however slowly it is read.
pub fn a_scan_does_not_see_later_writes(machine: &dyn Machine) {
    let store = machine.store();
    for key in ["a", "b", "c"] {
        put(&*store, FIRST, key.as_bytes(), "old");
    }
    let unread = store.scan(FIRST, Scan::prefix(""));
    let mut begun = store.scan(FIRST, Scan::prefix("").reversed());
    assert_eq!(begun.next(), Some(Ok(("c".into(), "old".into()))));
    let mut batch = Batch::new();
    batch.put(FIRST, "a", "new");
    batch.delete(FIRST, "b");
    batch.put(FIRST, "aa", "new");
    store.write(batch).expect("written");
    let old = pairs(&[("a", "old"), ("b", "old"), ("c", "old")]);
    assert_eq!(collect(unread), old);
    assert_eq!(collect(begun).into_iter().collect::<Vec<_>>().len(), 2);
}

/// A snapshot shows the store as it was, by `get` and by `scan`.
pub fn a_snapshot_does_not_see_later_writes(machine: &dyn Machine) {
    let store = machine.store();
    put(&*store, FIRST, b"a", "old");
    put(&*store, FIRST, b"b", "old");
    let snapshot = store.snapshot();
    let mut batch = Batch::new();
    batch.put(FIRST, "a", "new");
    batch.delete_range(FIRST, "b", "c");
    batch.put(SECOND, "s", "new");
    store.write(batch).expect("written");
    assert_eq!(snapshot.get(FIRST, b"a"), Ok(Some("old".into())));
    assert_eq!(snapshot.get(FIRST, b"b"), Ok(Some("old".into())));
    assert_eq!(snapshot.get(SECOND, b"s"), Ok(None));
    assert_eq!(contents(&*snapshot, FIRST), pairs(&[("a", "old"), ("b", "old")]));
    assert_eq!(contents(&*store.snapshot(), FIRST), pairs(&[("a", "new")]));
    let reversed = snapshot.scan(FIRST, Scan::prefix("").reversed());
    assert_eq!(keys_of(reversed), ["b", "a"].map(Bytes::from));
}

/// A snapshot can still be read when nobody holds the store any more.
pub fn a_snapshot_outlives_its_store(machine: &dyn Machine) {
    let store = machine.store();
    put(&*store, FIRST, b"a", "old");
    let snapshot = store.snapshot();
    drop(store);
    assert_eq!(contents(&*snapshot, FIRST), pairs(&[("a", "old")]));
}

/// There is an answer to how much is used and how much is free.
pub fn sizes_are_told(machine: &dyn Machine) {
    let store = machine.store();
    put(&*store, FIRST, b"a", "v");
    assert!(store.approximate_bytes(FIRST, b"", b"z") < 1 << 20);
    assert_eq!(store.approximate_bytes(FIRST, b"z", b"a"), 0, "an inverted range holds nothing");
    assert!(store.free_bytes().expect("asked") > 0);
}

/// Every request for a sync is answered, and once.
pub async fn a_sync_is_answered_once(machine: &dyn Machine) {
    let store = machine.store();
    let answers: Vec<Arc<AtomicUsize>> = (0..100).map(|_| Arc::default()).collect();
    for (number, answer) in answers.iter().enumerate() {
        put(&*store, FIRST, &number.to_be_bytes(), "v");
        let answer = Arc::clone(answer);
        store.sync(Box::new(move |outcome| {
            assert_eq!(outcome, Ok(()));
            answer.fetch_add(1, Ordering::SeqCst);
        }));
        if number % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    synced(&*store).await.expect("synced");
    assert!(answers.iter().all(|answer| answer.load(Ordering::SeqCst) == 1));
}

/// A sync after nothing was written succeeds.
pub async fn a_sync_is_answered_when_there_is_nothing_to_sync(machine: &dyn Machine) {
    let store = machine.store();
    synced(&*store).await.expect("synced");
    synced(&*store).await.expect("synced");
}

/// What was written before a sync that has ended is there after a crash, in every family.
pub async fn what_was_synced_survives(machine: &dyn Machine) {
    let store = machine.store();
    let mut batch = Batch::new();
    batch.put(FIRST, "a", "1");
    batch.put(SECOND, "b", "2");
    store.write(batch).expect("written");
    synced(&*store).await.expect("synced");
    for seed in 0..5 {
        let survivor = machine.crashed(seed);
        assert_eq!(survivor.store().get(FIRST, b"a"), Ok(Some("1".into())));
        assert_eq!(survivor.store().get(SECOND, b"b"), Ok(Some("2".into())));
    }
}

/// After a crash the store holds all batches up to one of them, over all families, whole, and at least
/// those that were synced.
pub async fn a_crash_leaves_a_prefix(machine: &dyn Machine) {
    const SYNCED: u32 = 7;
    const WRITTEN: u32 = 20;
    let store = machine.store();
    for number in 1..=WRITTEN {
        let mut batch = Batch::new();
        batch.put(FIRST, "latest", number.to_be_bytes().to_vec());
        batch.put(SECOND, number.to_be_bytes().to_vec(), "v");
        batch.put(FIRST, [b"n".as_slice(), &number.to_be_bytes()].concat(), "v");
        store.write(batch).expect("written");
        if number == SYNCED {
            synced(&*store).await.expect("synced");
        }
    }
    for seed in 0..20 {
        let survivor = machine.crashed(seed).store();
        let latest =
            survivor.get(FIRST, b"latest").expect("read").expect("synced batches wrote it");
        let latest = u32::from_be_bytes(latest.as_ref().try_into().expect("four bytes"));
        assert!((SYNCED..=WRITTEN).contains(&latest), "{latest}");
        let expected: Vec<Bytes> =
            (1..=latest).map(|number| number.to_be_bytes().to_vec().into()).collect();
        assert_eq!(keys_of(survivor.scan(SECOND, Scan::prefix(""))), expected);
        assert_eq!(survivor.scan(FIRST, Scan::prefix("n")).count(), expected.len());
    }
}

/// A deletion that was synced stays done.
pub async fn deletions_survive_like_writes(machine: &dyn Machine) {
    let store = machine.store();
    for key in ["a", "b", "c", "d"] {
        put(&*store, FIRST, key.as_bytes(), "v");
    }
    synced(&*store).await.expect("synced");
    let mut batch = Batch::new();
    batch.delete(FIRST, "a");
    batch.delete_range(FIRST, "b", "d");
    store.write(batch).expect("written");
    synced(&*store).await.expect("synced");
    assert_eq!(contents(&*machine.crashed(3).store(), FIRST), pairs(&[("d", "v")]));
}

/// What a process finds after a crash is durable, though this process has synced nothing yet.
pub async fn what_survived_one_crash_survives_the_next(machine: &dyn Machine) {
    let store = machine.store();
    put(&*store, FIRST, b"synced", "v");
    synced(&*store).await.expect("synced");
    put(&*store, FIRST, b"unsynced", "v");
    for seed in 0..5 {
        let second = machine.crashed(seed);
        let found = contents(&*second.store(), FIRST);
        put(&*second.store(), SECOND, b"new", "v");
        let third = second.crashed(seed + 1);
        assert_eq!(contents(&*third.store(), FIRST), found);
    }
}

/// A family that was not named at opening is an error, not a panic.
pub fn an_unknown_family_is_an_error(machine: &dyn Machine) {
    let store = machine.store();
    let unknown = Family("unknown");
    let refused = |outcome: Option<StoreError>| {
        assert!(matches!(outcome, Some(StoreError::Failed { .. })), "{outcome:?}");
    };
    refused(store.get(unknown, b"a").err());
    refused(store.scan(unknown, Scan::prefix("")).next().and_then(Result::err));
    let mut batch = Batch::new();
    batch.put(FIRST, "a", "v");
    batch.put(unknown, "a", "v");
    refused(store.write(batch).err());
}

fn put(store: &dyn Store, family: Family, key: &[u8], value: &'static str) {
    let mut batch = Batch::new();
    batch.put(family, Bytes::copy_from_slice(key), value);
    store.write(batch).expect("written");
}

fn collect(entries: Entries<'_>) -> BTreeMap<Bytes, Bytes> {
    entries.collect::<Result<_, _>>().expect("read")
}

fn contents(reader: &dyn Reader, family: Family) -> BTreeMap<Bytes, Bytes> {
    collect(reader.scan(family, Scan::prefix("")))
}

fn keys_of(entries: Entries<'_>) -> Vec<Bytes> {
    entries.map(|entry| entry.expect("read").0).collect()
}

fn pairs(pairs: &[(&'static str, &'static str)]) -> BTreeMap<Bytes, Bytes> {
    pairs.iter().map(|(key, value)| (Bytes::from(*key), Bytes::from(*value))).collect()
}
