//! Replicas that have come apart.

use bytes::Bytes;
use proto::v1::take_over_result::Outcome;
use runtime::store::Batch;

use super::harness::Zone;
use crate::engine::{digest::INTERVAL_ENTRIES, keys, options::EngineOptions};

/// Enough for a checkpoint, and for a command that carries it.
async fn write_past_a_checkpoint(zone: &Zone, leader: u64) {
    for number in 0..INTERVAL_ENTRIES + 8 {
        zone.put(leader, &format!("k{number}"), "value").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_lost_a_key_under_its_store_stops_and_the_others_go_on() {
    let zone = Zone::simulated(3, EngineOptions::default()).await;
    let leader = zone.found(&[1, 2, 3]).await;
    let damaged = (1..=3).find(|node| *node != leader).unwrap();
    zone.put(leader, "b", "one").await.unwrap();
    zone.caught_up(damaged, leader).await;

    let lineage = zone.replica(damaged).view.state().lineage;
    let mut batch = Batch::new();
    batch.delete(keys::DATA, keys::data(lineage, &Bytes::from_static(b"b")));
    zone.store(damaged).write(batch).unwrap();
    // Here it makes a difference for the first time: there was such a key, or there was not.
    zone.put(leader, "b", "two").await.unwrap();
    write_past_a_checkpoint(&zone, leader).await;

    let failure = zone.eventually(|| zone.replica(damaged).failure()).await;
    assert!(failure.contains("different states"), "{failure}");
    let report = zone.replica(damaged).report();
    assert_eq!(report.phase(), proto::v1::ReplicaPhase::Failed);
    assert!(report.message.contains("replace the one"), "{}", report.message);
    assert_eq!(zone.get(leader, "b").await, Ok(Some("two".into())));
    zone.put(leader, "b", "three").await.unwrap();
    assert!(!zone.host(damaged).failed().is_cancelled(), "its other replicas go on");
}

#[tokio::test(start_paused = true)]
async fn restarts_takeovers_and_copies_keep_the_checksums_equal() {
    let options = EngineOptions {
        log_entries_per_snapshot: 100,
        log_entries_kept: 10,
        ..EngineOptions::default()
    };
    let mut zone = Zone::simulated(3, options).await;
    let leader = zone.found(&[1, 2, 3]).await;
    let away = (1..=3).find(|node| *node != leader).unwrap();
    zone.crash(away);
    write_past_a_checkpoint(&zone, leader).await;
    // It comes back after the log was cut: by a copy.
    zone.start(away).await;
    zone.caught_up(away, leader).await;
    write_past_a_checkpoint(&zone, leader).await;
    zone.caught_up(away, leader).await;
    // Under another leader, whose checkpoints now count.
    zone.crash(leader);
    let next = (1..=3).find(|node| *node != leader && *node != away).unwrap();
    let result = zone.appoint(next, leader, false).await;
    assert_eq!(result.outcome(), Outcome::Leading, "{result:?}");
    let next = zone.leader().await;
    write_past_a_checkpoint(&zone, next).await;
    zone.start(leader).await;
    zone.caught_up(leader, next).await;
    zone.caught_up(away, next).await;
    let digests: Vec<_> =
        (1..=3).map(|node| zone.replica(node).view.state().digest.newest()).collect();
    assert!(digests[0].is_some_and(|newest| newest.index >= 3 * INTERVAL_ENTRIES));
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    assert!((1..=3).all(|node| zone.replica(node).failure().is_none()));
}
