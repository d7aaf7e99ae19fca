use std::collections::BTreeSet;

use runtime::{
    raft::inspect::{Leader, Position, Vote},
    seams::Environment,
    store::{Batch, simulated::SimulatedDisk},
};

use super::{
    Witness,
    group::{Group, Replica},
};

fn at(term: u64, id: u64, index: u64) -> Position {
    Position { leader: Leader { term, id }, index }
}

/// Three founders, of which 1 leads in term 1 and has one entry of its own, at index 1.
fn group() -> Group {
    let mut group = Group::new("g".into());
    for id in 1..=3 {
        group.appends(id, at(0, 0, 0), 7, Some(vec![BTreeSet::from([1, 2, 3])])).unwrap();
        group.synced(id, at(0, 0, 0));
    }
    group.appends(1, at(1, 1, 1), 8, None).unwrap();
    group.synced(1, at(1, 1, 1));
    group
}

fn replicate(group: &mut Group, to: u64, position: Position, checksum: u32) {
    group.appends(to, position, checksum, None).unwrap();
    group.synced(to, position);
}

#[test]
fn a_group_that_works_is_never_objected_to() {
    let mut group = group();
    replicate(&mut group, 2, at(1, 1, 1), 8);
    for id in [1, 2] {
        group.applies(id, at(1, 1, 1)).unwrap();
    }
    // 3 takes over after it has caught up, and appends behind what is committed.
    replicate(&mut group, 3, at(1, 1, 1), 8);
    let vote = |committed| Vote { leader: Leader { term: 2, id: 3 }, committed };
    group.votes(3, vote(false)).unwrap();
    group.votes(3, vote(true)).unwrap();
    replicate(&mut group, 3, at(2, 3, 2), 9);
    replicate(&mut group, 2, at(2, 3, 2), 9);
    group.applies(3, at(2, 3, 2)).unwrap();
    group.replica(3).purged = Some(at(2, 3, 2));
    group.has_applied_what_it_purged(3).unwrap();
}

#[test]
fn what_is_applied_was_synced_by_a_majority() {
    let mut group = group();
    group.appends(2, at(1, 1, 1), 8, None).unwrap();
    let problem = group.applies(1, at(1, 1, 1)).unwrap_err();
    assert_eq!(problem.guarantee, "G2");
    assert!(problem.sentence.contains("synced only by {1}"), "{problem}");
}

#[test]
fn while_voters_change_both_majorities_count() {
    let mut group = group();
    let joint = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 4, 5])];
    group.appends(1, at(1, 1, 2), 9, Some(joint.clone())).unwrap();
    group.synced(1, at(1, 1, 2));
    replicate(&mut group, 2, at(1, 1, 1), 8);
    group.appends(2, at(1, 1, 2), 9, Some(joint)).unwrap();
    group.synced(2, at(1, 1, 2));
    group.applies(1, at(1, 1, 1)).unwrap();
    group.applies(1, at(1, 1, 2)).unwrap_err();
}

#[test]
fn a_leader_has_everything_that_is_committed() {
    let mut group = group();
    replicate(&mut group, 2, at(1, 1, 1), 8);
    group.applies(1, at(1, 1, 1)).unwrap();
    let problem = group.appends(3, at(2, 3, 1), 9, None).unwrap_err();
    assert_eq!(problem.guarantee, "G2");
    assert!(problem.sentence.contains("misses entry 1 by 1 of term 1"), "{problem}");
}

#[test]
fn a_deposed_leader_commits_nothing() {
    let mut group = group();
    group.appends(3, at(2, 3, 1), 9, None).unwrap();
    replicate(&mut group, 2, at(1, 1, 1), 8);
    assert_eq!(group.applies(1, at(1, 1, 1)).unwrap_err().guarantee, "G1");
}

#[test]
fn an_entry_that_a_later_leader_has_may_be_committed_after_one_that_had_it_not() {
    let mut group = group();
    // 3 leads in term 2 without the entry, and reaches nobody; in term 3 it is 1 again, which has it.
    group.appends(3, at(2, 3, 1), 9, None).unwrap();
    group.appends(1, at(3, 1, 2), 10, None).unwrap();
    group.synced(1, at(3, 1, 2));
    replicate(&mut group, 2, at(1, 1, 1), 8);
    group.applies(1, at(1, 1, 1)).unwrap();
    replicate(&mut group, 2, at(3, 1, 2), 10);
    group.applies(1, at(3, 1, 2)).unwrap();
    // Whoever leads after that has to have it.
    let problem = group.appends(3, at(4, 3, 2), 11, None).unwrap_err();
    assert_eq!(problem.guarantee, "G2");
}

#[test]
fn what_a_disk_that_is_not_watched_holds_is_not_judged() {
    let mut group = group();
    group.unwatch(2);
    group.applies(1, at(1, 1, 1)).unwrap();
    // 2 leads and nobody has seen its log: 3 hears of it first.
    group.appends(3, at(2, 2, 2), 9, None).unwrap();
    group.boots(2, Replica::default()).unwrap_err();
    // 9 was made on a disk that nobody could read.
    group.appends(1, at(1, 1, 2), 9, Some(vec![BTreeSet::from([1, 9])])).unwrap();
    group.synced(1, at(1, 1, 2));
    group.expect_unseen(true);
    group.applies(1, at(1, 1, 2)).unwrap();
}

#[test]
fn replicas_apply_the_same_and_never_go_back() {
    let mut group = group();
    replicate(&mut group, 2, at(1, 1, 1), 8);
    group.applies(1, at(1, 1, 1)).unwrap();
    group.appends(2, at(1, 2, 1), 9, None).unwrap();
    assert_eq!(group.applies(2, at(1, 2, 1)).unwrap_err().guarantee, "G3");
    group.applies(1, at(0, 0, 0)).unwrap_err();
}

#[test]
fn one_position_is_one_entry() {
    let mut group = group();
    assert_eq!(group.appends(2, at(1, 1, 1), 99, None).unwrap_err().guarantee, "G1");
}

#[test]
fn a_vote_never_goes_back() {
    let mut group = group();
    let vote = |term, id, committed| Vote { leader: Leader { term, id }, committed };
    group.votes(2, vote(3, 1, true)).unwrap();
    group.votes(2, vote(3, 1, false)).unwrap_err();
    group.votes(2, vote(2, 3, false)).unwrap_err();
}

#[test]
fn a_committed_entry_is_removed_only_when_it_is_applied() {
    let mut group = group();
    replicate(&mut group, 2, at(1, 1, 1), 8);
    group.applies(1, at(1, 1, 1)).unwrap();
    group.replica(2).log.remove(&1);
    assert_eq!(group.removed(2, &[at(1, 1, 1)]).unwrap_err().guarantee, "G2");
    group.replica(1).log.remove(&1);
    group.removed(1, &[at(1, 1, 1)]).unwrap();
    group.replica(3).purged = Some(at(1, 1, 1));
    group.has_applied_what_it_purged(3).unwrap_err();
}

#[test]
fn a_disk_keeps_what_was_synced() {
    let mut group = group();
    group.boots(1, Replica::default()).unwrap_err();
}

#[test]
fn what_was_synced_and_then_removed_for_a_new_leader_may_be_there_after_a_crash_or_not() {
    let mut gone = Replica::default();
    gone.log.insert(0, at(0, 0, 0));
    let mut group = group();
    group.boots(1, gone.clone()).unwrap_err();
    group.replica(1).log.remove(&1);
    group.removed(1, &[at(1, 1, 1)]).unwrap();
    // The sync that was asked for when it was written ends only now.
    group.synced(1, at(1, 1, 1));
    group.boots(1, gone).unwrap();
    // The founders' entry was not removed.
    group.boots(1, Replica::default()).unwrap_err();
}

#[test]
fn a_late_sync_covers_nothing_that_a_newer_leader_wrote_after_it_was_asked_for() {
    let mut group = group();
    group.appends(1, at(1, 1, 2), 9, None).unwrap();
    for index in [1, 2] {
        group.replica(1).log.remove(&index);
    }
    group.removed(1, &[at(1, 1, 1), at(1, 1, 2)]).unwrap();
    group.appends(1, at(2, 2, 1), 10, None).unwrap();
    group.synced(1, at(1, 1, 2));
    let mut found = Replica::default();
    found.log.insert(0, at(0, 0, 0));
    group.boots(1, found).unwrap();
}

#[test]
fn what_cannot_be_understood_is_reported() {
    let witness = Witness::default();
    let store = SimulatedDisk::new().open(&control_plane::families(), &Environment::production());
    let store = witness.watch_member("member-1", store);
    let mut batch = Batch::new();
    batch.put(runtime::raft::FAMILY, vec![0, 0, 0, 0, 0, 0, 0, 0, 9], "nothing");
    store.write(batch).unwrap();
    let problem = witness.problem().unwrap();
    assert!(problem.sentence.contains("unknown kind"), "{problem}");
    assert_eq!(witness.batches(), 1);
}
