//! What a node tells of its replicas' load.

use std::time::Duration;

use super::harness::{PARTITION, Zone, placement};
use crate::engine::options::EngineOptions;

#[tokio::test(start_paused = true)]
async fn whoever_leads_tells_what_was_asked_of_it() {
    let zone = Zone::simulated(3, EngineOptions::default()).await;
    let leader = zone.found(&[1, 2, 3]).await;
    zone.put(leader, "key", "value").await.unwrap();
    zone.get(leader, "key").await.unwrap();
    zone.get(leader, "none").await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;

    let (reports, follower_load) = zone.host(leader).heat().unwrap();
    assert!(follower_load.interval_ms >= 1_000);
    assert_eq!(reports.len(), 1);
    let report = &reports[0];
    assert_eq!(
        (report.partition_id, report.replica_id),
        (PARTITION.0, placement(leader).replica.0)
    );
    assert_eq!((report.reads, report.writes), (2, 1));
    assert_eq!((report.bytes_read, report.bytes_written), (8 + 4, 8));
    assert!(report.term > 0 && report.interval_ms >= 1_000);
    assert!(report.stored_bytes >= 8, "{report:?}");
    assert!(report.hottest_keys.is_empty(), "nobody watches the keys of three requests");
    assert_eq!(zone.host(leader).heat(), None, "in no time nothing can be said");

    for follower in (1..=3).filter(|node| *node != leader) {
        let (reports, follower_load) = zone.host(follower).heat().unwrap();
        assert!(reports.is_empty(), "{reports:?}");
        assert!(follower_load.interval_ms >= 1_000);
    }
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_busy_partition_are_watched() {
    let zone = Zone::simulated(1, EngineOptions::default()).await;
    let leader = zone.found(&[1]).await;
    let host = zone.host(leader);
    let busy = async || {
        for request in 0..400 {
            let key = if request % 4 == 0 { "often" } else { "seldom" };
            let key = if request % 2 == 0 { key.to_owned() } else { format!("key-{request}") };
            zone.get(leader, &key).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        host.heat().unwrap().0
    };
    assert!(busy().await.iter().all(|report| report.hottest_keys.is_empty()), "it begins");
    let mut told = Vec::new();
    for _ in 0..6 {
        told.extend(busy().await.into_iter().flat_map(|report| report.hottest_keys));
    }
    let shares = |word: &str| -> Vec<f64> {
        let keys = told.iter().filter(|key| key.key_prefix == word.as_bytes());
        keys.map(|key| (key.share * 100.0).round() / 100.0).collect()
    };
    for shares in [shares("often"), shares("seldom")] {
        assert!(!shares.is_empty() && shares.iter().all(|share| *share == 0.25), "{told:?}");
    }
    assert_eq!(told.len() % 4, 0, "four with each report: {told:?}");

    host.restart_heat();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(host.heat().is_some());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(
        host.heat().unwrap().0.iter().all(|report| report.hottest_keys.is_empty()),
        "it is calm"
    );
}
