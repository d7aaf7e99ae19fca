//! What clients ask.

use bytes::Bytes;

use super::harness::{EPOCH, PARTITION, Zone, put, text, whole_range};
use crate::engine::{
    command::{Applied, Condition, Mutation},
    error::RequestError,
    options::EngineOptions,
    requests::{ListPage, ListQuery, WriteRequest},
    types::NodeId,
};

async fn zone() -> (Zone, u64) {
    let zone = Zone::simulated(3, EngineOptions::default()).await;
    let leader = zone.found(&[1, 2, 3]).await;
    (zone, leader)
}

fn list(prefix: &'static str, start_after: &'static str, limit: usize) -> ListQuery {
    ListQuery {
        range_epoch: EPOCH,
        prefix: Bytes::from_static(prefix.as_bytes()),
        start_after: Bytes::from_static(start_after.as_bytes()),
        limit,
    }
}

fn keys(page: &ListPage) -> Vec<&str> {
    page.items.iter().map(|item| std::str::from_utf8(&item.key).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_written_is_read_until_it_is_deleted() {
    let (zone, leader) = zone().await;
    assert_eq!(zone.get(leader, "b").await, Ok(None));
    let first = zone.put(leader, "b", "one").await.unwrap();
    assert!(!first.existed);
    let second = zone.put(leader, "b", "two").await.unwrap();
    assert!(second.existed && second.version > first.version);
    assert_eq!(zone.get(leader, "b").await, Ok(Some("two".into())));

    let replica = zone.replica(leader);
    let delete = WriteRequest { mutation: Mutation::Delete, ..put(&replica, "b", "") };
    let deleted = replica.write(delete).await.unwrap();
    assert!(deleted.existed && deleted.version > second.version);
    assert_eq!(zone.get(leader, "b").await, Ok(None));
    let again = WriteRequest { mutation: Mutation::Delete, ..put(&replica, "b", "") };
    assert!(!replica.write(again).await.unwrap().existed);
    let third = zone.put(leader, "b", "three").await.unwrap();
    assert!(!third.existed && third.version > deleted.version);
    assert_eq!(replica.report().keys, 1);
    assert_eq!(replica.report().stored_bytes, 6);
}

#[tokio::test(start_paused = true)]
async fn conditions_hold_or_nothing_happens() {
    let (zone, leader) = zone().await;
    let replica = zone.replica(leader);
    let absent = WriteRequest { condition: Condition::Absent, ..put(&replica, "b", "one") };
    let version = replica.write(absent.clone()).await.unwrap().version;
    let again = WriteRequest { condition: Condition::Absent, ..put(&replica, "b", "two") };
    assert_eq!(
        replica.write(again).await,
        Err(RequestError::ConditionFailed { current_version: version })
    );
    let wrong = WriteRequest {
        condition: Condition::VersionEquals(version + 9),
        ..put(&replica, "b", "x")
    };
    assert_eq!(
        replica.write(wrong).await,
        Err(RequestError::ConditionFailed { current_version: version })
    );
    let right = WriteRequest {
        condition: Condition::VersionEquals(version),
        ..put(&replica, "b", "three")
    };
    assert!(replica.write(right).await.unwrap().version > version);
    let missing =
        WriteRequest { condition: Condition::VersionEquals(version), ..put(&replica, "c", "x") };
    assert_eq!(
        replica.write(missing).await,
        Err(RequestError::ConditionFailed { current_version: 0 })
    );
    // The first write again: it answers as it did then, though its condition fails by now.
    assert_eq!(replica.write(absent).await.unwrap(), Applied { version, existed: false });
    assert_eq!(zone.get(leader, "b").await, Ok(Some("three".into())));
}

#[tokio::test(start_paused = true)]
async fn a_retried_write_takes_effect_once() {
    let (zone, leader) = zone().await;
    let replica = zone.replica(leader);
    let write = put(&replica, "b", "one");
    let first = replica.write(write.clone()).await.unwrap();
    zone.put(leader, "b", "two").await.unwrap();
    assert_eq!(replica.write(write.clone()).await.unwrap(), first);
    assert_eq!(zone.get(leader, "b").await, Ok(Some("two".into())));

    // The next leader remembers it as well.
    let next = (1..=3).find(|node| *node != leader).unwrap();
    zone.cut(leader);
    let result = zone.appoint(next, leader, false).await;
    assert_eq!(zone.leader().await, next, "{result:?}");
    assert_eq!(zone.replica(next).write(write).await.unwrap(), first);
    assert_eq!(zone.get(next, "b").await, Ok(Some("two".into())));
}

#[tokio::test(start_paused = true)]
async fn expiries_are_checked_against_partition_time() {
    let (zone, leader) = zone().await;
    let replica = zone.replica(leader);
    let with_expiry = |expires_at_ms| WriteRequest { expires_at_ms, ..put(&replica, "b", "one") };
    let now = replica.now_ms();
    for expires_at_ms in [0, now + 61_000] {
        let refusal = replica.write(with_expiry(expires_at_ms)).await;
        assert!(matches!(refusal, Err(RequestError::Expiry { .. })), "{refusal:?}");
    }
    let late = with_expiry(now + 500);
    replica.write(late.clone()).await.unwrap();
    // Partition time goes on, by this node's clock.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let refusal = replica.write(late).await;
    assert!(
        matches!(refusal, Err(RequestError::Expiry { now_ms, .. }) if now_ms > now + 500),
        "{refusal:?}"
    );
    assert_eq!(replica.report().keys, 1);
}

#[tokio::test(start_paused = true)]
async fn old_outcomes_are_cleared() {
    let (zone, leader) = zone().await;
    let count = || {
        let all = runtime::store::Scan::prefix("");
        zone.store(leader).scan(crate::engine::keys::OUTCOMES, all).count()
    };
    for round in 0..5 {
        zone.put(leader, "b", &round.to_string()).await.unwrap();
    }
    assert_eq!(count(), 5);
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    zone.put(leader, "b", "last").await.unwrap();
    assert_eq!(count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_the_range_is_refused() {
    let (zone, leader) = zone().await;
    let replica = zone.replica(leader);
    let wrong_range = RequestError::WrongRange {
        partition: PARTITION,
        range: Some(whole_range()),
        range_epoch: EPOCH,
        split_off: None,
        node: NodeId(leader),
    };
    for key in ["A", "z", "zebra"] {
        assert_eq!(zone.put(leader, key, "x").await, Err(wrong_range.clone()));
        assert_eq!(zone.get(leader, key).await, Err(wrong_range.clone()));
    }
    for range_epoch in [EPOCH - 1, EPOCH + 1] {
        let write = WriteRequest { range_epoch, ..put(&replica, "b", "x") };
        assert_eq!(replica.write(write).await, Err(wrong_range.clone()));
        let get = replica.get(range_epoch, &Bytes::from_static(b"b")).await;
        assert_eq!(get, Err(wrong_range.clone()));
        let query = ListQuery { range_epoch, ..list("", "", 10) };
        assert_eq!(replica.list(&query).await, Err(wrong_range.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_answers_and_others_say_who_it_is() {
    let (zone, leader) = zone().await;
    let other = (1..=3).find(|node| *node != leader).unwrap();
    let wrong_leader = RequestError::WrongLeader {
        partition: PARTITION,
        leader: Some(super::harness::placement(leader)),
    };
    zone.eventually(|| zone.replica(other).leader()).await;
    assert_eq!(zone.put(other, "b", "x").await, Err(wrong_leader.clone()));
    assert_eq!(zone.get(other, "b").await, Err(wrong_leader));
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_quorum_confirms_nothing() {
    let (zone, leader) = zone().await;
    zone.put(leader, "b", "one").await.unwrap();
    for other in (1..=3).filter(|node| *node != leader) {
        zone.cut(other);
    }
    let get = zone.get(leader, "b").await;
    assert!(matches!(get, Err(RequestError::Unavailable { .. })), "{get:?}");
    let put = zone.put(leader, "b", "two").await;
    assert!(matches!(put, Err(RequestError::OutcomeUnknown { .. })), "{put:?}");
    assert!(!zone.replica(leader).leads_with_quorum(), "the doubt is reported");
}

#[tokio::test(start_paused = true)]
async fn lists_say_how_far_they_covered() {
    let (zone, leader) = zone().await;
    for key in ["apple", "bean", "beet", "berry", "corn"] {
        zone.put(leader, key, key).await.unwrap();
    }
    let replica = zone.replica(leader);
    let ask = |query| {
        let replica = zone.replica(leader);
        async move { replica.list(&query).await.unwrap() }
    };

    let all = ask(list("", "", 100)).await;
    assert_eq!(keys(&all), ["apple", "bean", "beet", "berry", "corn"]);
    assert_eq!((all.covered_to.as_ref(), all.more_here), (b"z".as_ref(), false));

    let page = ask(list("", "", 2)).await;
    assert_eq!(keys(&page), ["apple", "bean"]);
    assert_eq!((page.covered_to.as_ref(), page.more_here), (b"beet".as_ref(), true));
    let page = ask(list("", "bean", 3)).await;
    assert_eq!(keys(&page), ["beet", "berry", "corn"]);
    assert_eq!((page.covered_to.as_ref(), page.more_here), (b"z".as_ref(), false));

    let page = ask(list("be", "", 10)).await;
    assert_eq!(keys(&page), ["bean", "beet", "berry"]);
    assert_eq!((page.covered_to.as_ref(), page.more_here), (b"".as_ref(), false));
    let page = ask(list("be", "bean", 1)).await;
    assert_eq!(keys(&page), ["beet"]);
    assert_eq!((page.covered_to.as_ref(), page.more_here), (b"berry".as_ref(), true));
    // Behind the end of the prefix.
    assert_eq!(keys(&ask(list("be", "c", 10)).await), Vec::<&str>::new());
    // A question that starts before the range goes on in it.
    assert_eq!(keys(&ask(list("", "A", 1)).await), ["apple"]);
    let behind = replica.list(&list("", "zz", 10)).await;
    assert!(matches!(behind, Err(RequestError::WrongRange { .. })), "{behind:?}");
    assert_eq!(text(all.items[1].clone()), "bean");
}

#[tokio::test(start_paused = true)]
async fn a_page_ends_before_it_has_too_many_bytes() {
    let (zone, leader) = zone().await;
    let value = "x".repeat(60_000);
    for number in 0..20 {
        zone.put(leader, &format!("k{number:02}"), &value).await.unwrap();
    }
    let page = zone.replica(leader).list(&list("k", "", 1_000)).await.unwrap();
    assert_eq!(page.items.len(), 17);
    assert_eq!((page.covered_to.as_ref(), page.more_here), (b"k17".as_ref(), true));
}

#[tokio::test(start_paused = true)]
async fn below_the_reserve_reads_go_on() {
    let (zone, leader) = zone().await;
    zone.put(leader, "b", "one").await.unwrap();
    zone.host(leader).set_disk_below_reserve(true);
    let refusal = zone.put(leader, "b", "two").await;
    assert!(matches!(refusal, Err(RequestError::Exhausted { .. })), "{refusal:?}");
    assert_eq!(zone.get(leader, "b").await, Ok(Some("one".into())));
    zone.host(leader).set_disk_below_reserve(false);
    zone.put(leader, "b", "two").await.unwrap();
}
