//! What a log promises beyond openraft's suite: crashes, holes, damage, bounds, and syncs that groups
//! share.

mod raft_support;
mod store_support;

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, future::join_all};
use openraft::{
    EntryPayload, Membership, RaftLogReader, entry::RaftEntry, storage::RaftLogStorage,
};
use raft_support::{Entry, Log, Types, Vote, append, append_durably, entry, log_id, sized_entry};
use runtime::{
    raft,
    store::{Batch, Scan, Store, contract::Machine, synced},
};
use store_support::{RocksMachine, SimulatedMachine};

const FAMILIES: [runtime::store::Family; 1] = [raft::FAMILY];

fn machines() -> [Box<dyn Machine>; 2] {
    [Box::new(RocksMachine::new(&FAMILIES)), Box::new(SimulatedMachine::new(&FAMILIES))]
}

/// The key of an entry, spelled out: it is on disk, and must never change.
fn entry_key(group: u64, index: u64) -> Vec<u8> {
    [group.to_be_bytes().as_slice(), &[3], &index.to_be_bytes()].concat()
}

async fn indexes(log: &mut Log) -> Vec<u64> {
    let entries = log.try_get_log_entries(..).await.expect("read");
    entries.iter().map(RaftEntry::index).collect()
}

#[tokio::test]
async fn a_crash_keeps_every_entry_whose_callback_came_and_no_hole() {
    for machine in machines() {
        let mut log = Log::new(machine.store(), 7);
        append_durably(&mut log, (0..5).map(|index| entry(1, index)).collect()).await;
        log.save_committed(Some(log_id(1, 3))).await.expect("saved");
        append_durably(&mut log, vec![entry(1, 5)]).await;
        let mut unanswered = Vec::new();
        for index in 6..20 {
            unanswered.push(append(&mut log, vec![entry(1, index)]).await.expect("appended"));
        }
        for seed in 0..10 {
            let survivor = machine.crashed(seed);
            let mut log = Log::new(survivor.store(), 7);
            let found = indexes(&mut log).await;
            assert!((6..=20).contains(&found.len()), "{found:?}");
            assert!(found.iter().copied().eq(0..found.len() as u64), "{found:?}");
            let last = log.get_log_state().await.expect("read").last_log_id;
            assert_eq!(last, Some(log_id(1, found.len() as u64 - 1)));
            // It was written before an entry that was synced.
            assert_eq!(log.read_committed().await.expect("read"), Some(log_id(1, 3)));
        }
    }
}

#[tokio::test]
async fn a_vote_is_durable_when_it_is_saved() {
    for machine in machines() {
        let mut log = Log::new(machine.store(), 7);
        assert_eq!(log.read_vote().await.expect("read"), None);
        for term in 1..4 {
            let vote = Vote::new(term, 2);
            log.save_vote(&vote).await.expect("saved");
            let survivor = machine.crashed(term);
            let mut survivor = Log::new(survivor.store(), 7);
            assert_eq!(survivor.read_vote().await.expect("read"), Some(vote));
        }
    }
}

#[tokio::test]
async fn an_elected_leader_is_noted_without_a_sync_and_durable_with_the_next_entry() {
    let simulated = SimulatedMachine::new(&FAMILIES);
    let mut log = Log::new(simulated.store(), 7);
    log.save_vote(&Vote::new_committed(1, 2)).await.expect("saved");
    assert_eq!(simulated.disk.syncs(), 0);

    for machine in machines() {
        let mut log = Log::new(machine.store(), 7);
        log.save_vote(&Vote::new(1, 1)).await.expect("saved");
        log.save_vote(&Vote::new_committed(2, 3)).await.expect("saved");
        assert_eq!(log.read_vote().await.expect("read"), Some(Vote::new_committed(2, 3)));
        for seed in 0..5 {
            let survivor = machine.crashed(seed);
            let found = Log::new(survivor.store(), 7).read_vote().await.expect("read");
            let either = [Some(Vote::new(1, 1)), Some(Vote::new_committed(2, 3))];
            assert!(either.contains(&found), "{found:?}");
        }
        append_durably(&mut log, vec![entry(2, 0)]).await;
        for seed in 0..5 {
            let survivor = machine.crashed(seed);
            let found = Log::new(survivor.store(), 7).read_vote().await.expect("read");
            assert_eq!(found, Some(Vote::new_committed(2, 3)));
        }
    }
}

#[tokio::test]
async fn truncating_and_purging_survive_with_what_is_synced_after_them() {
    for machine in machines() {
        // Both sides of the bound at which ranges are deleted as such.
        for (group, length) in [(1, 20), (2, 400)] {
            let mut log = Log::new(machine.store(), group);
            append_durably(&mut log, (0..length).map(|index| entry(1, index)).collect()).await;
            let half = length / 2;
            log.truncate_after(Some(log_id(1, half))).await.expect("truncated");
            append(&mut log, vec![entry(2, half + 1)]).await.expect("appended");
            log.purge(log_id(1, half - 2)).await.expect("purged");
            synced(&*machine.store()).await.expect("synced");
            let expected = [half - 1, half, half + 1];
            assert_eq!(indexes(&mut log).await, expected);

            let survivor = machine.crashed(group);
            let mut log = Log::new(survivor.store(), group);
            assert_eq!(indexes(&mut log).await, expected);
            let state = log.get_log_state().await.expect("read");
            assert_eq!(state.last_purged_log_id, Some(log_id(1, half - 2)));
            assert_eq!(state.last_log_id, Some(log_id(2, half + 1)));

            log.purge(log_id(3, 1000)).await.expect("purged beyond the end");
            assert_eq!(indexes(&mut log).await, Vec::<u64>::new());
            let mut log = Log::new(survivor.store(), group);
            let state = log.get_log_state().await.expect("read");
            assert_eq!(state.last_log_id, Some(log_id(3, 1000)));
            append_durably(&mut log, vec![entry(3, 1001)]).await;
            assert_eq!(indexes(&mut log).await, [1001]);
        }
    }
}

#[tokio::test]
async fn a_truncated_log_can_be_written_anew_from_its_beginning() {
    for machine in machines() {
        let mut log = Log::new(machine.store(), 1);
        append_durably(&mut log, (0..5).map(|index| entry(1, index)).collect()).await;
        log.truncate_after(None).await.expect("truncated");
        assert_eq!(log.get_log_state().await.expect("read").last_log_id, None);
        append_durably(&mut log, (0..2).map(|index| entry(2, index)).collect()).await;
        for mut log in [log, Log::new(machine.store(), 1)] {
            assert_eq!(indexes(&mut log).await, [0, 1]);
            assert_eq!(log.get_log_state().await.expect("read").last_log_id, Some(log_id(2, 1)));
        }
    }
}

#[tokio::test]
async fn a_hole_is_refused() {
    for machine in machines() {
        let mut log = Log::new(machine.store(), 1);
        append_durably(&mut log, vec![entry(1, 0), entry(1, 1)]).await;
        for wrong in [vec![entry(1, 3)], vec![entry(1, 1)], vec![entry(1, 2), entry(1, 4)]] {
            let error = append(&mut log, wrong).await.expect_err("must be refused");
            assert!(error.to_string().contains("append to the log"), "{error}");
        }
        assert_eq!(indexes(&mut log).await, [0, 1], "a refused append changes nothing");
        append_durably(&mut log, vec![entry(1, 2)]).await;
    }
}

#[tokio::test]
async fn a_missing_entry_is_an_error() {
    for machine in machines() {
        let mut log = Log::new(machine.store(), 1);
        append_durably(&mut log, (0..6).map(|index| entry(1, index)).collect()).await;
        log.purge(log_id(1, 0)).await.expect("purged");
        for lost in [1, 3] {
            let mut batch = Batch::new();
            batch.delete(raft::FAMILY, entry_key(1, lost));
            machine.store().write(batch).expect("written");
            let mut log = Log::new(machine.store(), 1);
            let error = log.try_get_log_entries(1..6).await.expect_err("must be refused");
            assert!(error.to_string().contains("missing"), "{error}");
            let mut batch = Batch::new();
            batch.put(
                raft::FAMILY,
                entry_key(1, lost),
                runtime::record::encode(1, &entry(1, lost)),
            );
            machine.store().write(batch).expect("written");
        }
        assert_eq!(indexes(&mut Log::new(machine.store(), 1)).await, [1, 2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn a_damaged_entry_is_an_error_that_names_it() {
    let machine = SimulatedMachine::new(&FAMILIES);
    let mut log = Log::new(machine.store(), 1);
    append_durably(&mut log, (0..6).map(|index| entry(1, index)).collect()).await;
    assert!(machine.disk.corrupt(raft::FAMILY, &entry_key(1, 2)));
    let mut log = Log::new(machine.store(), 1);
    let error = log.try_get_log_entries(0..6).await.expect_err("must be refused");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let message = error.to_string();
    assert!(message.contains("entry 2") && message.contains("checksum"), "{message}");
    // What does not touch the damage can be read.
    assert_eq!(log.try_get_log_entries(3..6).await.expect("read").len(), 3);
    // An entry in another's place is damage as well.
    let mut batch = Batch::new();
    batch.put(raft::FAMILY, entry_key(1, 2), runtime::record::encode(1, &entry(1, 3)));
    machine.store().write(batch).expect("written");
    let error = log.try_get_log_entries(0..6).await.expect_err("must be refused");
    assert!(error.to_string().contains("says that it is 3"), "{error}");
}

#[tokio::test]
async fn reads_are_bounded_by_bytes() {
    for machine in machines() {
        let mut log = Log::new(machine.store(), 1);
        let entries: Vec<Entry> = (0..40).map(|index| sized_entry(1, index, 100_000)).collect();
        append_durably(&mut log, entries.clone()).await;
        let portion = log.limited_get_log_entries(0, 40).await.expect("read");
        assert!((10..=12).contains(&portion.len()), "{}", portion.len());
        assert_eq!(portion, entries[..portion.len()]);
        // The stream reads portions, but gives everything.
        let streamed: Vec<Entry> = log.entries_stream(..).await.try_collect().await.expect("read");
        assert_eq!(streamed, entries);
        let some: Vec<_> = log.entries_stream(5..=6).await.collect().await;
        assert_eq!(some.len(), 2);
        // An entry larger than the bound is given by itself.
        append_durably(&mut log, vec![sized_entry(1, 40, 3 << 20), entry(1, 41)]).await;
        assert_eq!(log.limited_get_log_entries(40, 42).await.expect("read").len(), 1);
    }
}

/// Entries come from memory or from the store, depending on their age; nobody must see the difference.
#[tokio::test]
async fn recent_and_old_entries_read_alike() {
    for machine in machines() {
        let mut log = Log::new(machine.store(), 1);
        for index in 0..100 {
            append(&mut log, vec![sized_entry(1, index, 1000)]).await.expect("appended");
        }
        log.purge(log_id(1, 9)).await.expect("purged");
        log.truncate_after(Some(log_id(1, 94))).await.expect("truncated");
        let mut fresh = Log::new(machine.store(), 1);
        for start in (0..100).step_by(7) {
            for end in (start..110).step_by(5) {
                let here = log.try_get_log_entries(start..end).await.expect("read");
                assert_eq!(here, fresh.try_get_log_entries(start..end).await.expect("read"));
                let expected = start.max(10)..end.min(95).max(start.max(10));
                assert!(here.iter().map(RaftEntry::index).eq(expected));
            }
        }
        assert_eq!(
            log.get_log_state().await.expect("read"),
            fresh.get_log_state().await.expect("read")
        );
    }
}

#[tokio::test]
async fn groups_do_not_see_each_other() {
    for machine in machines() {
        let groups = [0, 1, 255, 256, u64::MAX];
        for group in groups {
            let mut log = Log::new(machine.store(), group);
            append_durably(&mut log, (0..3).map(|index| entry(group % 97 + 1, index)).collect())
                .await;
            log.save_vote(&Vote::new(group % 97 + 1, 1)).await.expect("saved");
        }
        let mut batch = Batch::new();
        raft::delete_group(&mut batch, 255);
        machine.store().write(batch).expect("written");
        for group in groups {
            let mut log = Log::new(machine.store(), group);
            let vote = log.read_vote().await.expect("read");
            if group == 255 {
                assert_eq!((vote, indexes(&mut log).await.len()), (None, 0));
            } else {
                assert_eq!(vote, Some(Vote::new(group % 97 + 1, 1)));
                assert_eq!(indexes(&mut log).await, [0, 1, 2]);
            }
        }
        for group in groups {
            let mut batch = Batch::new();
            raft::delete_group(&mut batch, group);
            machine.store().write(batch).expect("written");
        }
        assert_eq!(machine.store().scan(raft::FAMILY, Scan::prefix("")).count(), 0);
    }
}

#[tokio::test]
async fn a_founders_log_begins_with_the_founders() {
    for machine in machines() {
        let founders: Membership<u64, openraft::EmptyNode> =
            Membership::new_with_defaults(vec![[1, 2, 3].into()], []);
        let first = Entry::new_membership(log_id(0, 0), founders.clone());
        let mut batch = Batch::new();
        raft::bootstrap::<Types>(&mut batch, 9, &first);
        machine.store().write(batch).expect("written");
        synced(&*machine.store()).await.expect("synced");
        let survivor = machine.crashed(1);
        let mut log = Log::new(survivor.store(), 9);
        let entries = log.try_get_log_entries(..).await.expect("read");
        let [Entry { log_id: id, payload: EntryPayload::Membership(found) }] = &entries[..] else {
            panic!("{entries:?}");
        };
        assert_eq!((*id, found), (log_id(0, 0), &founders));
        assert_eq!(log.get_log_state().await.expect("read").last_log_id, Some(log_id(0, 0)));
        assert_eq!(log.read_vote().await.expect("read"), None);
    }
}

/// Fifty groups append twenty entries each, waiting for each.
async fn append_concurrently(store: Arc<dyn Store>) {
    let groups = (0..50).map(|group| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut log = Log::new(store, group);
            for index in 0..20 {
                append_durably(&mut log, vec![entry(1, index)]).await;
            }
        })
    });
    for outcome in join_all(groups).await {
        outcome.expect("no panic");
    }
}

#[tokio::test]
async fn groups_that_append_at_once_share_syncs() {
    let machine = RocksMachine::new(&FAMILIES);
    append_concurrently(machine.store()).await;
    let on_rocksdb = machine.store.syncs();
    let machine = SimulatedMachine::new(&FAMILIES);
    append_concurrently(machine.store()).await;
    let simulated = machine.disk.syncs();
    // 1,000 appends. Each group waits for its entry, so that at least 20 syncs are needed.
    assert!((20..500).contains(&on_rocksdb), "{on_rocksdb}");
    assert!((20..60).contains(&simulated), "{simulated}");
}

#[tokio::test]
async fn a_failed_sync_reaches_openraft() {
    let machine = SimulatedMachine::new(&FAMILIES);
    let mut log = Log::new(machine.store(), 1);
    machine.disk.fail_syncs(true);
    let durable = append(&mut log, vec![entry(1, 0)]).await.expect("appended");
    durable.await.expect("answered").expect_err("not durable");
    append(&mut log, vec![entry(1, 1)]).await.expect_err("the store has failed");
    log.save_vote(&Vote::new(1, 1)).await.expect_err("the store has failed");
}
