//! Processes that end and begin again.

use std::collections::BTreeMap;

use proto::v1::VoteAuthority;

use super::harness::{FENCE, PARTITION, Zone, environment, placement};
use crate::engine::{
    node_records::{NodeRecords, RecordsError, Registration},
    options::EngineOptions,
    transport::Fence,
    types::NodeId,
};

/// A leader for a group whose processes have all been started anew.
async fn lead_again(zone: &Zone, candidate: u64, others: &[u64]) {
    zone.eventually(|| zone.host(candidate).replica(PARTITION)).await;
    for _ in 0..20 {
        for other in others {
            zone.ask(*other, candidate, 0, VoteAuthority::Conclusion, false).await;
        }
        let result = zone.appoint(candidate, 0, true).await;
        if result.outcome() == proto::v1::take_over_result::Outcome::Leading {
            return;
        }
    }
    panic!("nobody leads");
}

async fn most_advanced(zone: &Zone) -> u64 {
    let mut best = (None, 0);
    for node in 1..=3 {
        let last = zone.replica(node).log_position().await.last_log;
        let last = last.map(|last| (last.term, last.leader_id, last.index));
        best = best.max((last, node));
    }
    best.1
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_a_crash_of_everybody() {
    let mut zone = Zone::simulated(3, EngineOptions::default()).await;
    let mut leader = zone.found(&[1, 2, 3]).await;
    let mut expected = BTreeMap::new();
    for round in 0..6 {
        for number in 0..10 {
            let (key, value) = (format!("k{number}"), format!("{round}-{number}"));
            let applied = zone.put(leader, &key, &value).await.unwrap();
            expected.insert(key, (value, applied.version));
        }
        for node in 1..=3 {
            zone.crash(node);
        }
        for node in 1..=3 {
            zone.start(node).await;
        }
        leader = most_advanced(&zone).await;
        let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
        lead_again(&zone, leader, &others).await;
        assert_eq!(zone.content(leader), expected, "round {round}");
        assert_eq!(zone.replica(leader).report().keys, 10);
        let bytes: usize = expected.iter().map(|(key, (value, _))| key.len() + value.len()).sum();
        assert_eq!(zone.replica(leader).report().stored_bytes, bytes as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_on_rocksdb_keeps_its_data() {
    let options = EngineOptions {
        log_entries_per_snapshot: 50,
        log_entries_kept: 10,
        ..EngineOptions::default()
    };
    let mut zone = Zone::rocks(3, options).await;
    let leader = zone.found(&[1, 2, 3]).await;
    for number in 0..200 {
        zone.put(leader, &format!("k{number}"), "value").await.unwrap();
    }
    for node in 1..=3 {
        zone.stop(node).await;
    }
    for node in 1..=3 {
        zone.start(node).await;
    }
    let leader = most_advanced(&zone).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    lead_again(&zone, leader, &others).await;
    assert_eq!(zone.content(leader).len(), 200);
    zone.put(leader, "b", "more").await.unwrap();
    for other in others {
        zone.caught_up(other, leader).await;
        assert_eq!(zone.content(other), zone.content(leader));
    }
}

#[tokio::test(start_paused = true)]
async fn fences_are_remembered_and_older_orders_refused() {
    let mut zone = Zone::simulated(1, EngineOptions::default()).await;
    let other = crate::engine::types::PartitionId(8);
    zone.host(1).accept_order(FENCE, PARTITION).await.unwrap();
    zone.host(1).accept_order(FENCE, PARTITION).await.unwrap();
    zone.crash(1);
    zone.start(1).await;
    let host = zone.host(1);
    assert_eq!(host.highest_fence().term, FENCE.term);
    let older_revision = Fence { revision: FENCE.revision - 1, ..FENCE };
    let answers = host.accept_orders(older_revision, &[PARTITION, other]).await;
    assert!(answers[0].is_err() && answers[1].is_ok(), "the revision counts for each partition");
    let older_term = Fence { term: FENCE.term - 1, revision: 999, ..FENCE };
    assert!(host.accept_order(older_term, other).await.is_err());
    assert!(host.accept_term(older_term).await.is_err());
    // A newer term of the same zone does not make an older revision new.
    let newer_term = Fence { term: FENCE.term + 1, revision: FENCE.revision - 1, ..FENCE };
    assert!(host.accept_order(newer_term, PARTITION).await.is_err());
    // A newer generation does.
    let generation = Fence { zone_generation: 2, term: 1, revision: 1 };
    host.accept_order(generation, PARTITION).await.unwrap();
    assert!(host.accept_order(FENCE, other).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_node_remembers_itself() {
    let disk = runtime::store::simulated::SimulatedDisk::new();
    let environment = environment(1);
    let open = || disk.open(&crate::engine::FAMILIES, &environment);
    let records = NodeRecords::open(open(), &environment).await.unwrap();
    let identity = records.identity();
    assert_eq!(records.registration(), None);
    assert_eq!(records.begin_incarnation().await, Ok(1));
    let registration = Registration { zone_id: "zone".into(), node_id: NodeId(4) };
    records.set_registration(registration.clone()).await.unwrap();
    disk.crash(3);
    let records = NodeRecords::open(open(), &environment).await.unwrap();
    assert_eq!(records.identity(), identity);
    assert_eq!(records.registration(), Some(registration));
    assert_eq!(records.begin_incarnation().await, Ok(2));

    let foreign = runtime::store::simulated::SimulatedDisk::new();
    let store = foreign.open(&crate::engine::FAMILIES, &environment);
    let mut batch = runtime::store::Batch::new();
    batch.put(crate::engine::keys::META, "something", "else");
    store.write(batch).unwrap();
    let refused = NodeRecords::open(store, &environment).await.err();
    assert_eq!(refused, Some(RecordsError::NoLayout));
    let _ = placement(1);
}
