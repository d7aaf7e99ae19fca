//! Requests that come in while a group changes its leader.

use std::time::Duration;

use super::harness::{PARTITION, Zone, placement};
use crate::engine::{error::RequestError, options::EngineOptions};

/// A group whose leader is cut off, and known to be lost by the two others.
async fn leaderless() -> (Zone, u64, u64, u64) {
    let zone = Zone::simulated(3, EngineOptions::default()).await;
    let leader = zone.found(&[1, 2, 3]).await;
    zone.put(leader, "b", "one").await.unwrap();
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    for other in &others {
        zone.caught_up(*other, leader).await;
    }
    zone.cut(leader);
    for other in &others {
        zone.host(*other).confirm_led_with(placement(leader).node).await;
    }
    (zone, leader, others[0], others[1])
}

fn led_by(node: u64) -> RequestError {
    RequestError::WrongLeader { partition: PARTITION, leader: Some(placement(node)) }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_next_leader_where_they_came_in() {
    let (zone, lost, next, third) = leaderless().await;
    let appointing = async {
        // Long enough for both to wait; the clock stands still while anything can go on.
        tokio::time::sleep(Duration::from_millis(20)).await;
        zone.appoint(next, lost, false).await
    };
    let (_, written, read, elsewhere) = tokio::join!(
        appointing,
        zone.put(next, "b", "two"),
        zone.get(next, "a"),
        zone.put(third, "b", "three"),
    );
    written.unwrap();
    assert_eq!(read, Ok(None));
    assert_eq!(elsewhere, Err(led_by(next)), "a hint that is right, after a moment");
    assert_eq!(zone.get(next, "b").await, Ok(Some("two".into())));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_leader_that_does_not_come() {
    let (zone, ..) = leaderless().await;
    let node = (1..=3).find(|node| zone.replica(*node).leader().is_none()).unwrap();
    let began = tokio::time::Instant::now();
    let refused = zone.put(node, "b", "two").await;
    let limit = EngineOptions::default().leader_wait_max;
    assert_eq!(refused, Err(RequestError::WrongLeader { partition: PARTITION, leader: None }));
    assert!(began.elapsed() >= limit && began.elapsed() < limit * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait() {
    let options = EngineOptions { leader_waits_max: 0, ..EngineOptions::default() };
    let zone = Zone::simulated(3, options).await;
    let leader = zone.found(&[1, 2, 3]).await;
    let next = (1..=3).find(|node| *node != leader).unwrap();
    zone.cut(leader);
    zone.host(next).confirm_led_with(placement(leader).node).await;
    let began = tokio::time::Instant::now();
    let refused = zone.put(next, "b", "two").await;
    assert_eq!(refused, Err(RequestError::WrongLeader { partition: PARTITION, leader: None }));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hands_over_answers_when_it_knows_who_leads() {
    let zone = Zone::simulated(3, EngineOptions::default()).await;
    let leader = zone.found(&[1, 2, 3]).await;
    zone.put(leader, "b", "one").await.unwrap();
    let next = (1..=3).find(|node| *node != leader).unwrap();
    zone.caught_up(next, leader).await;
    let replica = zone.replica(leader);
    // The hand-over is in the core's queue before the write is.
    replica.raft.trigger().transfer_leader(placement(next).replica.0).await.unwrap();
    assert_eq!(zone.put(leader, "b", "two").await, Err(led_by(next)));
    // Whoever is sent there is not sent back.
    zone.put(next, "b", "two").await.unwrap();
    assert_eq!(zone.get(next, "b").await, Ok(Some("two".into())));
}

#[tokio::test(start_paused = true)]
async fn who_handed_over_names_its_successor_before_its_own_disk_has_noted_it() {
    let zone = Zone::simulated(3, EngineOptions::default()).await;
    let leader = zone.found(&[1, 2, 3]).await;
    zone.put(leader, "b", "one").await.unwrap();
    let next = (1..=3).find(|node| *node != leader).unwrap();
    zone.caught_up(next, leader).await;
    let sync = Duration::from_millis(60);
    zone.disk(leader).set_sync_delay(sync, sync);
    let replica = zone.replica(leader);
    replica.raft.trigger().transfer_leader(placement(next).replica.0).await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(zone.put(leader, "b", "two").await, Err(led_by(next)));
    assert!(began.elapsed() < sync / 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_write_under_way_is_waited_for() {
    let zone = Zone::simulated(3, EngineOptions::default()).await;
    let leader = zone.found(&[1, 2, 3]).await;
    zone.host(leader).requests_settled().await;
    for node in 1..=3 {
        zone.disk(node).stall_syncs(true);
    }
    let limit = Duration::from_millis(100);
    let host = zone.host(leader);
    let (written, ()) = tokio::join!(zone.put(leader, "b", "one"), async {
        let early = tokio::time::timeout(limit, host.requests_settled()).await;
        assert!(early.is_err(), "the write is not committed");
        for node in 1..=3 {
            zone.disk(node).stall_syncs(false);
        }
        host.requests_settled().await;
    });
    written.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_quorum_has_not_confirmed_it_for_long_asks_before_it_refuses() {
    let options = EngineOptions {
        heartbeat_interval: Duration::from_secs(3_600),
        election_timeout_min: Duration::from_secs(7_200),
        election_timeout_max: Duration::from_secs(7_300),
        ..EngineOptions::default()
    };
    let zone = Zone::simulated(3, options).await;
    let leader = zone.found(&[1, 2, 3]).await;
    zone.put(leader, "b", "one").await.unwrap();
    // Longer than any lease lasts.
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    let leader = zone.leader().await;
    zone.put(leader, "b", "two").await.unwrap();
    zone.cut(leader);
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    let refused = zone.put(leader, "b", "three").await.unwrap_err();
    assert!(
        matches!(refused, RequestError::Unavailable { .. } | RequestError::WrongLeader { .. }),
        "nothing was proposed: {refused:?}"
    );
}
