//! Members that come and go.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::harness::{EPOCH, PARTITION, Zone, founder, placement, whole_range};
use crate::engine::{
    host::{EnsureReplica, PlacementError},
    membership::ChangeError,
    options::EngineOptions,
    types::{PartitionId, RaftLogId},
};

fn blank(node: u64) -> EnsureReplica {
    EnsureReplica { founders: Vec::new(), campaign: false, ..founder(node, &[node]) }
}

fn membership_log(zone: &Zone, node: u64) -> Option<RaftLogId> {
    *zone.replica(node).membership().log_id()
}

/// Three founders, and a fourth node.
async fn zone(options: EngineOptions) -> (Zone, u64) {
    let zone = Zone::simulated(4, options).await;
    let leader = zone.found(&[1, 2, 3]).await;
    for number in 0..50 {
        zone.put(leader, &format!("key{number}"), "value").await.unwrap();
    }
    (zone, leader)
}

async fn replace(zone: &Zone, leader: u64, leaving: u64) -> Option<RaftLogId> {
    zone.host(4).ensure(blank(4)).await.unwrap();
    let replica = zone.replica(leader);
    let based_on = membership_log(zone, leader);
    replica.add_learner(placement(4), based_on).await.unwrap();
    // Again: nothing to do, whatever it is based on.
    replica.add_learner(placement(4), based_on).await.unwrap();
    zone.caught_up(4, leader).await;
    let targets: Vec<_> = (1..=4).filter(|node| *node != leaving).map(placement).collect();
    let stale = replica.change_members(&targets, based_on).await;
    assert_eq!(stale, Err(ChangeError::MovedOn));
    let based_on = membership_log(zone, leader);
    zone.eventually(|| {
        let progress = replica.report().progress;
        progress
            .iter()
            .any(|progress| progress.replica_id == 40 && progress.lag_entries < 10)
            .then_some(())
    })
    .await;
    replica.change_members(&targets, based_on).await.unwrap();
    replica.change_members(&targets, based_on).await.unwrap();
    let report = replica.report().membership.unwrap();
    assert_eq!(report.voter_sets.len(), 1, "{report:?}");
    assert_eq!(report.voter_sets[0].voters.len(), 3);
    assert_eq!(report.learners, []);
    membership_log(zone, leader)
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_replaced_and_destroyed() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    let leaving = (1..=3).find(|node| *node != leader).unwrap();
    let order_before = membership_log(&zone, leader);
    let host = zone.host(leaving);
    let replica = placement(leaving).replica;
    let refused = host.destroy(PARTITION, replica, order_before).await;
    assert!(matches!(refused, Err(PlacementError::StillVotes)));

    let superseded_by = replace(&zone, leader, leaving).await;
    assert_eq!(zone.content(4), zone.content(leader));
    assert_eq!(zone.network.snapshots_sent.load(Relaxed), 0, "the log was enough");

    host.destroy(PARTITION, replica, superseded_by).await.unwrap();
    host.destroy(PARTITION, replica, superseded_by).await.unwrap();
    assert!(host.replica(PARTITION).is_none());
    assert_eq!(host.report(replica).unwrap().phase(), proto::v1::ReplicaPhase::Destroyed);
    let store = zone.store(leaving);
    for family in [crate::engine::keys::DATA, crate::engine::keys::STATE, runtime::raft::FAMILY] {
        let all = runtime::store::Scan::prefix("");
        assert_eq!(store.scan(family, all).count(), 0, "{family:?}");
    }
    let again = host.ensure(blank(leaving)).await;
    assert!(matches!(again, Err(PlacementError::Destroyed(_))), "{again:?}");
    zone.put(leader, "b", "still writable").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn tombstones_outlive_the_process_and_precede_the_replica() {
    let mut zone = Zone::simulated(1, EngineOptions::default()).await;
    let replica = placement(1).replica;
    zone.host(1).destroy(PARTITION, replica, None).await.unwrap();
    zone.crash(1);
    zone.start(1).await;
    let refused = zone.host(1).ensure(founder(1, &[1])).await;
    assert!(matches!(refused, Err(PlacementError::Destroyed(_))), "{refused:?}");
    assert_eq!(zone.host(1).reports().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_learner_behind_the_log_gets_a_snapshot() {
    let options = EngineOptions {
        log_entries_per_snapshot: 20,
        log_entries_kept: 5,
        ..EngineOptions::default()
    };
    let (zone, leader) = zone(options).await;
    let leaving = (1..=3).find(|node| *node != leader).unwrap();
    let write = super::harness::put(&zone.replica(leader), "once", "applied");
    let first = zone.replica(leader).write(write.clone()).await.unwrap();
    replace(&zone, leader, leaving).await;
    assert!(zone.network.snapshots_sent.load(Relaxed) > 0);
    assert_eq!(zone.content(4), zone.content(leader));
    let (new, old) = (zone.replica(4).report(), zone.replica(leader).report());
    assert_eq!((new.keys, new.stored_bytes), (old.keys, old.stored_bytes));
    assert_eq!(new.range, old.range);

    // It knows the outcomes of writes from before it was there.
    zone.replica(leader).transfer_leader(placement(4).replica).await.unwrap();
    assert_eq!(zone.leader().await, 4);
    assert_eq!(zone.replica(4).write(write).await.unwrap(), first);
}

/// What was written meanwhile comes with the log; if that were cut, a copy of a busy partition would never end.
#[tokio::test(start_paused = true)]
async fn the_log_is_kept_while_a_snapshot_is_on_its_way_and_cut_again_afterwards() {
    let options = EngineOptions {
        log_entries_per_snapshot: 20,
        log_entries_kept: 5,
        ..EngineOptions::default()
    };
    let (zone, leader) = zone(options).await;
    let in_log = || {
        let all = runtime::store::Scan::prefix("");
        zone.store(leader).scan(runtime::raft::FAMILY, all).count()
    };
    zone.network.snapshot_chunk_ms.store(1_000, Relaxed);
    zone.host(4).ensure(blank(4)).await.unwrap();
    zone.replica(leader).add_learner(placement(4), membership_log(&zone, leader)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for number in 0..100 {
        zone.put(leader, &format!("later{number}"), "value").await.unwrap();
    }
    assert!(in_log() > 100, "{}", in_log());
    zone.caught_up(4, leader).await;
    assert_eq!(zone.network.snapshots_sent.load(Relaxed), 1);
    assert_eq!(zone.content(4), zone.content(leader));
    for number in 0..50 {
        zone.put(leader, &format!("last{number}"), "value").await.unwrap();
    }
    zone.eventually(|| (in_log() < 50).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn the_leader_is_not_removed_and_strangers_do_not_vote() {
    let (zone, leader) = zone(EngineOptions::default()).await;
    let replica = zone.replica(leader);
    let based_on = membership_log(&zone, leader);
    let without: Vec<_> = (1..=3).filter(|node| *node != leader).map(placement).collect();
    assert_eq!(replica.change_members(&without, based_on).await, Err(ChangeError::RemovesLeader));
    let with_stranger: Vec<_> = [leader, 4].map(placement).to_vec();
    assert_eq!(
        replica.change_members(&with_stranger, based_on).await,
        Err(ChangeError::NotMember(placement(4).replica))
    );
    let follower = (1..=3).find(|node| *node != leader).unwrap();
    let refused = zone.replica(follower).add_learner(placement(4), based_on).await;
    assert_eq!(refused, Err(ChangeError::NotLeader));
}

#[tokio::test(start_paused = true)]
async fn ensure_is_idempotent_and_refuses_what_cannot_be() {
    let zone = Zone::simulated(1, EngineOptions::default()).await;
    let host = zone.host(1);
    let order = founder(1, &[1]);
    host.ensure(order.clone()).await.unwrap();
    host.ensure(order.clone()).await.unwrap();
    let other = EnsureReplica { replica: placement(9).replica, ..order.clone() };
    let refused = host.ensure(other).await;
    assert!(matches!(refused, Err(PlacementError::AnotherReplica { .. })), "{refused:?}");
    let moved = EnsureReplica { partition: PartitionId(8), ..order.clone() };
    let refused = host.ensure(moved.clone()).await;
    assert!(matches!(refused, Err(PlacementError::OtherPartition { .. })), "{refused:?}");
    let stranger = EnsureReplica { replica: placement(2).replica, ..moved };
    let refused = host.ensure(stranger.clone()).await;
    assert!(matches!(refused, Err(PlacementError::NotFounder)), "{refused:?}");
    host.set_disk_below_reserve(true);
    let refused = host.ensure(EnsureReplica { founders: Vec::new(), ..stranger }).await;
    assert!(matches!(refused, Err(PlacementError::DiskBelowReserve)), "{refused:?}");
    assert_eq!(zone.leader().await, 1);
    assert_eq!(zone.replica(1).report().range_epoch, EPOCH);
    assert_eq!(zone.replica(1).report().range, Some(whole_range().into()));
}
