//! One partition becomes two.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use runtime::store::Scan;

use super::harness::{EPOCH, PARTITION, Zone, founder, placement, put, text, utf8};
use crate::engine::{
    command::SplitRefusal,
    error::RequestError,
    host::{EnsureReplica, PlacementError},
    keys,
    options::EngineOptions,
    records::{self, StoredValue},
    replica::Replica,
    requests::{ListQuery, WriteRequest},
    split::{SplitError, SplitOrder, SplitPoint},
    types::{KeyRange, NodeId, PartitionId, Placement, RaftLogId, ReplicaId},
};
use std::sync::Arc;

const CHILD: PartitionId = PartitionId(8);

fn child_placement(node: u64) -> Placement {
    Placement { replica: ReplicaId(10 * node + 1), node: NodeId(node) }
}

fn order(zone: &Zone, leader: u64, point: SplitPoint) -> SplitOrder {
    let membership = zone.replica(leader).membership();
    let mut replicas: Vec<_> =
        zone.replica(leader).voters().iter().map(|voter| child_placement(voter.node.0)).collect();
    replicas.sort_unstable();
    SplitOrder { point, range_epoch: EPOCH, child: CHILD, replicas, based_on: *membership.log_id() }
}

fn at(key: &'static str) -> SplitPoint {
    SplitPoint::Key(Bytes::from_static(key.as_bytes()))
}

/// Three nodes with 40 keys, from k00 to k39, and a fourth node without any.
async fn zone(options: EngineOptions) -> (Zone, u64) {
    let zone = Zone::simulated(4, options).await;
    let leader = zone.found(&[1, 2, 3]).await;
    for number in 0..40 {
        zone.put(leader, &format!("k{number:02}"), "value").await.unwrap();
    }
    (zone, leader)
}

async fn child(zone: &Zone, node: u64) -> Arc<Replica> {
    zone.eventually(|| zone.host(node).replica(CHILD)).await
}

async fn child_leader(zone: &Zone) -> u64 {
    zone.eventually(|| {
        let leads = |node: &u64| {
            let host = zone.running(*node)?;
            host.replica(CHILD).filter(|replica| replica.leads_with_quorum())
        };
        (1..=4).find(|node| leads(node).is_some())
    })
    .await
}

/// What a replica holds, by its range.
fn content(replica: &Replica) -> BTreeMap<String, u64> {
    let (state, reader) = replica.view.snapshot();
    let range = state.range.clone().unwrap();
    let (start, end) = keys::data_range(state.lineage, &range);
    reader
        .scan(keys::DATA, Scan::range(start, end))
        .map(|entry| {
            let (key, value) = entry.unwrap();
            let stored: StoredValue = records::decode(keys::DATA, &value).unwrap();
            (utf8(&keys::without_lineage(&key)), stored.version)
        })
        .collect()
}

/// Whether the counters of the state are what the keys say.
fn check_counters(replica: &Replica) {
    let content = content(replica);
    let state = replica.view.state();
    assert_eq!(state.keys, content.len() as u64);
    let bytes: usize = content.keys().map(|key| key.len() + "value".len()).sum();
    assert_eq!(state.stored_bytes, bytes as u64);
}

async fn same_state(zone: &Zone, nodes: &[u64], partition: PartitionId) {
    zone.eventually(|| {
        let states: Vec<_> = nodes
            .iter()
            .map(|node| zone.host(*node).replica(partition).map(|replica| replica.view.state()))
            .collect::<Option<_>>()?;
        let shown = |index: usize| {
            let state = &states[index];
            (state.applied, state.digest, state.counters(), state.range.clone(), state.time_ms)
        };
        (1..states.len()).all(|index| shown(index) == shown(0)).then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_split_moves_no_data_and_forgets_no_write() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    let parent = zone.replica(leader);
    let (left_write, right_write) = (put(&parent, "k10", "value"), put(&parent, "k30", "value"));
    let left = parent.write(left_write.clone()).await.unwrap();
    let right = parent.write(right_write.clone()).await.unwrap();
    let lineage = parent.view.state().lineage;
    let before = tokio::time::Instant::now();
    let split = order(&zone, leader, at("k20"));
    parent.split(&split).await.unwrap();
    let leading = child_leader(&zone).await;
    assert_eq!(leading, leader, "with the parent's leader");
    assert!(before.elapsed() < Duration::from_millis(100), "{:?}", before.elapsed());

    let child = child(&zone, leader).await;
    assert_eq!(child.view.state().lineage, lineage, "no data moves");
    assert_eq!(content(&parent).len(), 20);
    assert_eq!(content(&child).len(), 20);
    assert_eq!(content(&child)["k30"], right.version);
    for replica in [&parent, &child] {
        check_counters(replica);
    }
    same_state(&zone, &[1, 2, 3], PARTITION).await;
    same_state(&zone, &[1, 2, 3], CHILD).await;

    // What left is refused, with a word on where it went.
    let key = Bytes::from_static(b"k30");
    let Err(RequestError::WrongRange { range, range_epoch, split_off, node, .. }) =
        parent.get(EPOCH, &key).await
    else {
        panic!("it is not the parent's any more");
    };
    assert_eq!(range_epoch, EPOCH + 1);
    assert_eq!(range.unwrap().end, Bytes::from_static(b"k20"));
    let split_off = split_off.unwrap();
    assert_eq!((split_off.partition, split_off.range_epoch), (CHILD, EPOCH + 1));
    assert_eq!(split_off.range.start, Bytes::from_static(b"k20"));
    assert_eq!(node, NodeId(leader));
    let found = child.get(EPOCH + 1, &key).await.unwrap().unwrap();
    assert_eq!((found.version, text(found)), (right.version, "value".to_owned()));

    // Writes from before, asked again: each where its key is now.
    let again = WriteRequest { range_epoch: EPOCH + 1, ..right_write.clone() };
    assert_eq!(child.write(again.clone()).await.unwrap(), right);
    let refused = parent.write(again).await;
    assert!(matches!(refused, Err(RequestError::WrongRange { .. })), "{refused:?}");
    let again = WriteRequest { range_epoch: EPOCH + 1, ..left_write };
    assert_eq!(parent.write(again).await.unwrap(), left);
    // Versions go on rising.
    let next = put(&child, "k30", "value");
    let next = child.write(WriteRequest { range_epoch: EPOCH + 1, ..next }).await.unwrap();
    assert!(next.version > right.version && next.existed);
    check_counters(&child);

    // The same order again.
    parent.split(&split).await.unwrap();
    assert_eq!(parent.view.state().range_epoch, EPOCH + 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_goes_on_in_the_child() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    let parent = zone.replica(leader);
    let query = |range_epoch, start_after: &str, limit| ListQuery {
        range_epoch,
        prefix: Bytes::from_static(b"k"),
        start_after: Bytes::copy_from_slice(start_after.as_bytes()),
        limit,
    };
    let first = parent.list(&query(EPOCH, "", 15)).await.unwrap();
    assert_eq!(first.items.len(), 15);
    parent.split(&order(&zone, leader, at("k20"))).await.unwrap();
    child_leader(&zone).await;
    let second = parent.list(&query(EPOCH + 1, "k14", 15)).await.unwrap();
    assert_eq!((second.items.len(), second.more_here), (5, false));
    assert_eq!(second.covered_to, Bytes::from_static(b"k20"));
    let child = child(&zone, leader).await;
    let third = child.list(&query(EPOCH + 1, "k1\u{7f}", 100)).await.unwrap();
    assert_eq!(third.items.len(), 20);
    assert_eq!(third.items[0].key, Bytes::from_static(b"k20"));
    let behind = parent.list(&query(EPOCH + 1, "k20", 15)).await;
    assert!(matches!(behind, Err(RequestError::WrongRange { .. })), "{behind:?}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    let parent = zone.replica(leader);
    for key in ["a", "0", "z", "zz"] {
        let refused = parent.split(&order(&zone, leader, at(key))).await;
        assert_eq!(refused, Err(SplitRefusal::NotInside.into()), "{key}");
    }
    let other_nodes = SplitOrder {
        replicas: vec![child_placement(1), child_placement(2), child_placement(4)],
        ..order(&zone, leader, at("k20"))
    };
    assert_eq!(parent.split(&other_nodes).await, Err(SplitRefusal::OtherNodes.into()));
    let stale = SplitOrder { based_on: None, ..order(&zone, leader, at("k20")) };
    assert_eq!(parent.split(&stale).await, Err(SplitRefusal::OtherMembers.into()));
    assert_eq!(
        parent.split(&order(&zone, leader, SplitPoint::MiddleOfLoad)).await,
        Err(SplitError::NoLoad)
    );
    let follower = (1..=3).find(|node| *node != leader).unwrap();
    let elsewhere = zone.replica(follower).split(&order(&zone, leader, at("k20"))).await;
    assert_eq!(elsewhere, Err(SplitError::NotLeader));

    // A learner.
    let blank = EnsureReplica { founders: Vec::new(), campaign: false, ..founder(4, &[4]) };
    zone.host(4).ensure(blank).await.unwrap();
    let based_on = *parent.membership().log_id();
    let before = order(&zone, leader, at("k20"));
    parent.add_learner(placement(4), based_on).await.unwrap();
    let refused = parent.split(&order(&zone, leader, at("k20"))).await;
    assert_eq!(refused, Err(SplitRefusal::OtherMembers.into()));
    assert_eq!(parent.split(&before).await, Err(SplitRefusal::OtherMembers.into()));

    assert_eq!(parent.view.state().range_epoch, EPOCH);
    for node in 1..=4 {
        assert!(zone.host(node).replica(CHILD).is_none());
    }
    check_counters(&parent);
}

#[tokio::test(start_paused = true)]
async fn the_middle_by_size_halves_the_bytes() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    let parent = zone.replica(leader);
    parent.split(&order(&zone, leader, SplitPoint::MiddleOfSize)).await.unwrap();
    child_leader(&zone).await;
    assert_eq!(content(&parent).len(), 20);
    assert_eq!(content(&*child(&zone, leader).await).len(), 20);
}

#[tokio::test(start_paused = true)]
async fn the_middle_by_load_halves_the_requests() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    let parent = zone.replica(leader);
    parent.heat.track_keys(true);
    for number in 0..400 {
        zone.get(leader, &format!("k{:02}", number % 10)).await.unwrap();
    }
    parent.split(&order(&zone, leader, SplitPoint::MiddleOfLoad)).await.unwrap();
    let left = content(&parent).len();
    assert!((3..=7).contains(&left), "{left} keys are left of the middle of ten hot ones");
}

#[tokio::test(start_paused = true)]
async fn both_halves_survive_a_crash_of_everybody() {
    let (mut zone, leader) = zone(EngineOptions::default()).await;
    zone.replica(leader).split(&order(&zone, leader, at("k20"))).await.unwrap();
    child_leader(&zone).await;
    same_state(&zone, &[1, 2, 3], CHILD).await;
    for node in 1..=3 {
        zone.crash(node);
    }
    for node in 1..=3 {
        zone.start(node).await;
    }
    // Nothing but its own timers: a child that began is a group like any other.
    for node in 1..=3 {
        let child = child(&zone, node).await;
        tokio::spawn(child.campaign_until_led());
    }
    let leader = child_leader(&zone).await;
    let child = child(&zone, leader).await;
    assert_eq!(content(&child).len(), 20);
    check_counters(&child);
}

/// The child's replica of one node, empty.
fn blank_child(node: u64) -> EnsureReplica {
    EnsureReplica {
        partition: CHILD,
        replica: child_placement(node).replica,
        range: KeyRange { start: Bytes::from_static(b"k20"), end: Bytes::from_static(b"z") },
        range_epoch: EPOCH + 1,
        founders: Vec::new(),
        campaign: false,
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_behind_gets_each_half_by_its_own_snapshot() {
    let options = EngineOptions {
        log_entries_per_snapshot: 20,
        log_entries_kept: 5,
        ..EngineOptions::default()
    };
    let (zone, leader) = zone(options).await;
    let behind = (1..=3).find(|node| *node != leader).unwrap();
    zone.caught_up(behind, leader).await;
    zone.cut(behind);
    let parent = zone.replica(leader);
    parent.split(&order(&zone, leader, at("k20"))).await.unwrap();
    assert_eq!(child_leader(&zone).await, leader);
    let child_here = child(&zone, leader).await;
    for number in 0..300 {
        for (replica, key) in [(&parent, "k01"), (&child_here, "k31")] {
            let write = put(replica, &format!("{key}{number:03}"), "value");
            replica.write(WriteRequest { range_epoch: EPOCH + 1, ..write }).await.unwrap();
        }
    }
    zone.heal(behind);
    let target = parent.view.state().applied;
    zone.eventually(|| (zone.replica(behind).view.state().applied >= target).then_some(())).await;
    assert!(zone.network.snapshots_sent.load(Relaxed) > 0);
    assert!(zone.host(behind).replica(CHILD).is_none(), "nothing makes it but an order");

    zone.host(behind).ensure(blank_child(behind)).await.unwrap();
    same_state(&zone, &[1, 2, 3], CHILD).await;
    same_state(&zone, &[1, 2, 3], PARTITION).await;
    let late = child(&zone, behind).await;
    assert_eq!(content(&late), content(&child_here));
    check_counters(&late);
    assert_eq!(content(&zone.replica(behind)), content(&parent));
}

/// All keys on a node's disk.
fn stored(zone: &Zone, node: u64) -> usize {
    zone.store(node).scan(keys::DATA, Scan::prefix("")).count()
}

#[tokio::test(start_paused = true)]
async fn one_half_is_destroyed_without_the_other() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    zone.replica(leader).split(&order(&zone, leader, at("k20"))).await.unwrap();
    child_leader(&zone).await;
    same_state(&zone, &[1, 2, 3], CHILD).await;
    let later = Some(log(&zone, leader));
    for (node, first, second) in [(1, PARTITION, CHILD), (2, CHILD, PARTITION)] {
        let id =
            |partition| zone.host(node).replica(partition).map(|replica| replica.id()).unwrap();
        let (first_id, second_id) = (id(first), id(second));
        let survivor = zone.host(node).replica(second).unwrap();
        let kept = content(&survivor);
        zone.host(node).destroy(first, first_id, later).await.unwrap();
        assert_eq!(content(&survivor), kept);
        assert_eq!(stored(&zone, node), kept.len());
        zone.host(node).destroy(second, second_id, later).await.unwrap();
        assert_eq!(stored(&zone, node), 0);
        assert_eq!(zone.store(node).scan(keys::OUTCOMES, Scan::prefix("")).count(), 0);
    }
}

/// A membership after all that there were.
fn log(zone: &Zone, leader: u64) -> RaftLogId {
    let applied = zone.replica(leader).view.state().applied.unwrap();
    crate::engine::types::log_id(applied.leader_id.term + 9, 1, applied.index + 100)
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_wins_over_a_birth() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    let late = (1..=3).find(|node| *node != leader).unwrap();
    zone.caught_up(late, leader).await;
    zone.cut(late);
    zone.replica(leader).split(&order(&zone, leader, at("k20"))).await.unwrap();
    child_leader(&zone).await;
    let destroyed = child_placement(late).replica;
    zone.host(late).destroy(CHILD, destroyed, None).await.unwrap();
    zone.heal(late);
    same_state(&zone, &[1, 2, 3], PARTITION).await;
    assert!(zone.host(late).replica(CHILD).is_none());
    assert_eq!(stored(&zone, late), 20, "nobody holds the child's keys there");
    let again = zone.host(late).ensure(blank_child(late)).await;
    assert!(matches!(again, Err(PlacementError::Destroyed(id)) if id == destroyed));
}

#[tokio::test(start_paused = true)]
async fn who_learns_of_a_split_from_the_log_only_has_one_half() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    let parent = zone.replica(leader);
    parent.split(&order(&zone, leader, at("k20"))).await.unwrap();
    child_leader(&zone).await;
    let blank = EnsureReplica { founders: Vec::new(), campaign: false, ..founder(4, &[4]) };
    zone.host(4).ensure(blank).await.unwrap();
    let based_on = *parent.membership().log_id();
    parent.add_learner(placement(4), based_on).await.unwrap();
    same_state(&zone, &[1, 2, 3, 4], PARTITION).await;
    assert_eq!(zone.network.snapshots_sent.load(Relaxed), 0, "from its first entry on");
    assert!(zone.host(4).replica(CHILD).is_none());
    assert_eq!(stored(&zone, 4), 20);
    check_counters(&zone.replica(4));
}

#[tokio::test(start_paused = true)]
async fn a_partition_with_one_key_has_no_middle() {
    let zone = Zone::simulated(3, EngineOptions::default()).await;
    let leader = zone.found(&[1, 2, 3]).await;
    for key in ["k", "l"] {
        let order = order(&zone, leader, SplitPoint::MiddleOfSize);
        assert_eq!(zone.replica(leader).split(&order).await, Err(SplitError::TooFewKeys));
        zone.put(leader, key, "value").await.unwrap();
    }
    let order = order(&zone, leader, SplitPoint::MiddleOfSize);
    zone.replica(leader).split(&order).await.unwrap();
    assert_eq!(content(&zone.replica(leader)).keys().collect::<Vec<_>>(), ["k"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_can_be_split_again() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    zone.replica(leader).split(&order(&zone, leader, at("k20"))).await.unwrap();
    child_leader(&zone).await;
    let child = child(&zone, leader).await;
    let grandchild = PartitionId(9);
    let replicas = child
        .voters()
        .iter()
        .map(|voter| Placement { replica: ReplicaId(voter.replica.0 + 1), node: voter.node })
        .collect();
    let order = SplitOrder {
        point: at("k30"),
        range_epoch: EPOCH + 1,
        child: grandchild,
        replicas,
        based_on: *child.membership().log_id(),
    };
    child.split(&order).await.unwrap();
    let youngest = zone.eventually(|| zone.host(leader).replica(grandchild)).await;
    zone.eventually(|| youngest.leads_with_quorum().then_some(())).await;
    for replica in [&zone.replica(leader), &child, &youngest] {
        check_counters(replica);
    }
    assert_eq!(content(&child).len() + content(&youngest).len(), 20);
    same_state(&zone, &[1, 2, 3], grandchild).await;
}
