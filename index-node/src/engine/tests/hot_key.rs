//! One key takes more than its share, and the others of its partition do not notice.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use tokio::time::Instant;

use super::harness::{EPOCH, PARTITION, Zone, put};
use crate::engine::{
    error::RequestError,
    options::EngineOptions,
    replica::Replica,
    requests::ListQuery,
    turns::{Turn, TurnLimits, Turned},
};

const LIMITS: TurnLimits = TurnLimits {
    crowd: 8,
    of_one_key: 4,
    alone: 8,
    alone_after: usize::MAX,
    waiting_of_one_key: 4,
};

async fn zone(nodes: u64) -> (Zone, u64, Arc<Replica>) {
    let options = EngineOptions { turns: LIMITS, ..EngineOptions::default() };
    let zone = Zone::simulated(nodes, options).await;
    let leader = zone.found(&(1..=nodes).collect::<Vec<_>>()).await;
    let replica = zone.replica(leader);
    (zone, leader, replica)
}

/// So many writes of this key that do not end.
async fn occupy<'a>(replica: &'a Replica, key: &'a Bytes, count: usize) -> Vec<Turn<'a>> {
    let mut turns = Vec::new();
    for _ in 0..count {
        let places = &replica.shared.turn_waits;
        match replica.write_turns.enter(key, places, Duration::ZERO).await {
            Turned::AtOnce(turn) => turns.push(turn),
            Turned::Waited(_) | Turned::Refused { .. } => panic!("it is crowded already"),
        }
    }
    turns
}

fn throttled(under_way: usize) -> RequestError {
    RequestError::Throttled {
        partition: PARTITION,
        key: Bytes::from_static(b"hot"),
        kind: "writes",
        under_way,
        retry_after: Duration::from_millis(50),
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_its_share_waits_and_is_refused_and_others_are_served_at_once() {
    let (zone, leader, replica) = zone(3).await;
    let hot = Bytes::from_static(b"hot");
    let mut turns = occupy(&replica, &hot, LIMITS.crowd).await;

    let began = Instant::now();
    assert_eq!(zone.put(leader, "hot", "1").await, Err(throttled(LIMITS.crowd)));
    assert!(began.elapsed() >= Duration::from_millis(50), "it waited for a turn");
    let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(zone.put(leader, "hot", "1"))).collect();
    assert!(waiting.iter_mut().all(|put| put.as_mut().now_or_never().is_none()));
    let fifth = zone.put(leader, "hot", "1").now_or_never();
    assert_eq!(fifth, Some(Err(throttled(LIMITS.crowd))), "the queue is full");

    let began = Instant::now();
    for other in 0..5 {
        let key = format!("key-{other}");
        zone.put(leader, &key, "1").await.unwrap();
        assert_eq!(zone.get(leader, &key).await, Ok(Some("1".into())));
    }
    assert_eq!(zone.get(leader, "hot").await, Ok(None), "reads have turns of their own");
    let query = ListQuery {
        range_epoch: EPOCH,
        prefix: Bytes::new(),
        start_after: Bytes::new(),
        limit: 100,
    };
    assert_eq!(replica.list(&query).await.unwrap().items.len(), 5);
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());

    // Less than its share is under way: those that wait are served.
    turns.truncate(LIMITS.of_one_key - 1);
    for put in waiting {
        put.await.unwrap();
    }
    assert_eq!(zone.get(leader, "hot").await, Ok(Some("1".into())));
    drop(turns);
    assert_eq!((replica.write_turns.under_way(), replica.read_turns.under_way()), (0, 0));

    tokio::time::advance(Duration::from_secs(1)).await;
    let (reports, _) = zone.host(leader).heat().unwrap();
    assert_eq!((reports[0].throttled, reports[0].shed), (6, 2), "four waited, two were refused");
}

#[tokio::test(start_paused = true)]
async fn all_at_once_and_everybody_is_served_in_the_end() {
    let (zone, leader, replica) = zone(3).await;
    let (zone, replica) = (&zone, &replica);
    let hot = (0..300_u64).map(|number| async move {
        let write = put(replica, "hot", &number.to_string());
        let mut refused = 0;
        loop {
            match replica.write(write.clone()).await {
                Ok(_) => return refused,
                Err(RequestError::Throttled { retry_after, .. }) => {
                    refused += 1;
                    tokio::time::sleep(retry_after).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    let others = (0..100_u64).map(|number| async move {
        let key = format!("key-{number}");
        replica.write(put(replica, &key, "1")).await.unwrap();
        zone.get(leader, &key).await.unwrap().unwrap();
    });
    let (refused, _) = tokio::join!(join_all(hot), join_all(others));
    assert!(refused.iter().sum::<u32>() > 0, "it was too much for one key");
    assert_eq!(replica.write_turns.under_way(), 0);
    assert_eq!(replica.shared.turn_waits.available_permits(), zone.options.turn_waits_max);
}

/// With room nobody waits, however many requests there are for one key.
#[tokio::test(start_paused = true)]
async fn with_room_nothing_is_throttled() {
    let zone = Zone::simulated(1, EngineOptions::default()).await;
    let leader = zone.found(&[1]).await;
    let gets = (0..TurnLimits::default().crowd).map(|_| zone.get(leader, "hot"));
    for found in join_all(gets).await {
        assert_eq!(found, Ok(None));
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    let (reports, _) = zone.host(leader).heat().unwrap();
    assert_eq!((reports[0].throttled, reports[0].shed), (0, 0));
}

/// A client that stops waiting, wherever its request is.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_gives_its_turn_back() {
    let (zone, leader, replica) = zone(3).await;
    for other in (1..=3).filter(|node| *node != leader) {
        zone.cut(other);
    }
    let mut puts: Vec<_> = (0..12).map(|_| Box::pin(zone.put(leader, "hot", "1"))).collect();
    assert!(puts.iter_mut().all(|put| put.as_mut().now_or_never().is_none()));
    assert_eq!(replica.write_turns.under_way(), LIMITS.crowd);
    drop(puts);
    assert_eq!(replica.write_turns.under_way(), 0);
    for other in (1..=3).filter(|node| *node != leader) {
        zone.heal(other);
    }
    assert!(zone.put(leader, "hot", "2").await.is_ok(), "nothing is in its way");
}

#[test]
fn a_refusal_names_the_key_and_what_to_do() {
    assert_eq!(
        throttled(64).to_string(),
        "key \"hot\" alone has 64 writes under way in partition 7, and others are to be served as well; \
         retry in 50ms"
    );
    let long = RequestError::Throttled {
        partition: PARTITION,
        key: vec![0; 4_096].into(),
        kind: "reads",
        under_way: 64,
        retry_after: Duration::from_millis(50),
    };
    let message = long.to_string();
    assert!(message.len() < 400 && message.contains("\\x00…\" alone"), "{message}");
}
