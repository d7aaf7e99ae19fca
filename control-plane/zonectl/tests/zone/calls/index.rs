//! `IndexService`: Put, Get, Delete, List.

use bytes::Bytes;
use proto::v1::error_detail::Kind;
use tonic::Code;

use crate::support::{
    shared::shared,
    spot::{Spot, absent, metadata, version_equals},
    wire::{detail_of, refused},
};

#[tokio::test(flavor = "multi_thread")]
async fn put_get_and_delete_one_key() {
    let zone = shared().await;
    let key = b"calls\0one";
    let spot = Spot::of(&zone, key).await;
    assert_eq!(spot.item(key).await, None);
    let first = spot.put_ok(key, "first").await;
    let second = spot.put_ok(key, "second").await;
    assert!(second.version > first.version, "{second:?} after {first:?}");
    assert!(second.partition_time_ms >= first.partition_time_ms);
    let item = spot.item(key).await.expect("it was written");
    assert_eq!((item.key.as_ref(), item.version), (&key[..], second.version));
    assert_eq!(item.value, Some(metadata("second")));

    let delete = spot.delete(key).await;
    let gone = spot.index().delete(delete).await.unwrap().into_inner();
    assert!(gone.existed && gone.version > second.version, "{gone:?}");
    assert_eq!(spot.item(key).await, None);
    let delete = spot.delete(key).await;
    let again = spot.index().delete(delete).await.unwrap().into_inner();
    assert!(!again.existed && again.version > gone.version, "{again:?}");
    let third = spot.put_ok(key, "third").await;
    assert!(third.version > again.version, "versions rise across deletes");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_guard_writes() {
    let zone = shared().await;
    let key = b"calls\0conditions";
    let spot = Spot::of(&zone, key).await;
    let mut create = spot.put(key, "made").await;
    create.condition = absent();
    let made = spot.index().put(create).await.unwrap().into_inner();

    let fails = async |condition, expected: u64| {
        let mut put = spot.put(key, "never").await;
        put.condition = condition;
        let status = refused(spot.index().put(put).await, Code::Aborted, &["condition"]);
        let Kind::ConditionFailed(failed) = detail_of(&status) else { panic!("{status}") };
        assert_eq!(failed.current_version, expected);
        let mut delete = spot.delete(key).await;
        delete.condition = condition;
        let status = refused(spot.index().delete(delete).await, Code::Aborted, &["condition"]);
        let Kind::ConditionFailed(failed) = detail_of(&status) else { panic!("{status}") };
        assert_eq!(failed.current_version, expected);
    };
    fails(absent(), made.version).await;
    fails(version_equals(made.version + 1_000), made.version).await;
    let item = spot.item(key).await.unwrap();
    assert_eq!((item.version, item.value), (made.version, Some(metadata("made"))));

    let mut replace = spot.put(key, "replaced").await;
    replace.condition = version_equals(made.version);
    let replaced = spot.index().put(replace).await.unwrap().into_inner();
    fails(version_equals(made.version), replaced.version).await;
    let mut delete = spot.delete(key).await;
    delete.condition = version_equals(replaced.version);
    assert!(spot.index().delete(delete).await.unwrap().into_inner().existed);
    let mut put = spot.put(key, "never").await;
    put.condition = version_equals(replaced.version);
    let status = refused(spot.index().put(put).await, Code::Aborted, &["absent"]);
    let Kind::ConditionFailed(failed) = detail_of(&status) else { panic!("{status}") };
    assert_eq!(failed.current_version, 0);
    assert_eq!(spot.item(key).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_pages_through_a_partition_in_order() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"list\0").await;
    let keys: Vec<String> = (0..25).map(|number| format!("list\0key-{number:02}")).collect();
    for key in &keys {
        spot.put_ok(key.as_bytes(), key).await;
    }
    spot.put_ok(b"list\0other", "").await;

    let mut request = spot.list(b"list\0key-");
    request.limit = 10;
    let (mut listed, mut pages) = (Vec::new(), 0);
    loop {
        let page = spot.index().list(request.clone()).await.unwrap().into_inner();
        pages += 1;
        assert!(page.items.len() <= 10);
        let last = page.items.last().expect("no page is empty").key.clone();
        listed.extend(page.items);
        if !page.more_here {
            assert_eq!(page.covered_to, Bytes::new(), "the end of the prefix was reached");
            break;
        }
        assert!(page.covered_to > last);
        request.start_after = last;
    }
    assert_eq!(pages, 3);
    let found: Vec<&[u8]> = listed.iter().map(|item| item.key.as_ref()).collect();
    let expected: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    assert_eq!(found, expected);
    assert!(listed.iter().all(|item| item.version > 0 && item.value.is_some()));

    let mut after = spot.list(b"list\0");
    after.start_after = Bytes::from_static(b"list\0key-24");
    let rest = spot.index().list(after).await.unwrap().into_inner();
    assert_eq!(rest.items.len(), 1);
    assert_eq!(rest.items[0].key.as_ref(), b"list\0other");
    let nothing = spot.index().list(spot.list(b"list\0zzz")).await.unwrap().into_inner();
    assert!(nothing.items.is_empty() && !nothing.more_here, "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn list_says_where_the_next_partition_goes_on() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"list\0").await;
    let end = spot.partition.range.clone().unwrap().end;
    assert!(!end.is_empty());
    let mut all = spot.list(b"");
    all.start_after = Bytes::from_static(b"list\0zzz");
    let page = spot.index().list(all).await.unwrap().into_inner();
    assert_eq!((page.covered_to, page.more_here), (end, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_end_at_a_mebibyte() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"large\0").await;
    let payload = "x".repeat(60_000);
    for number in 0..20 {
        spot.put_ok(format!("large\0{number:02}").as_bytes(), &payload).await;
    }
    let page = spot.index().list(spot.list(b"large\0")).await.unwrap().into_inner();
    assert!(page.more_here && page.items.len() < 20, "{} items", page.items.len());
    assert!(page.items.len() > 10, "{} items", page.items.len());
    for number in 0..20 {
        let delete = spot.delete(format!("large\0{number:02}").as_bytes()).await;
        spot.index().delete(delete).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_leader_answers() {
    let zone = shared().await;
    let key = b"calls\0leader";
    let spot = Spot::of(&zone, key).await;
    for follower in &spot.followers {
        let index = spot.wire.index(follower);
        let put = spot.put(key, "").await;
        let delete = spot.delete(key).await;
        for status in [
            index.clone().put(put).await.unwrap_err(),
            index.clone().delete(delete).await.unwrap_err(),
            index.clone().get(spot.get(key)).await.unwrap_err(),
            index.clone().list(spot.list(b"")).await.unwrap_err(),
        ] {
            assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
            let hint = crate::support::wire::leader_hint(&status);
            assert_eq!(hint.node_id, spot.partition.leader_node_id);
            assert_eq!(hint.address, spot.leader);
        }
    }
    for stranger in &spot.strangers {
        let answer = spot.wire.index(stranger).get(spot.get(key)).await;
        let status = refused(answer, Code::NotFound, &["not on this node"]);
        let Kind::UnknownReplica(unknown) = detail_of(&status) else { panic!("{status}") };
        assert_eq!(unknown.partition_id, spot.partition.id);
    }
    assert_eq!(spot.item(key).await, None);
}
