//! Requests for keys that cannot be, or cannot be any more.

use bytes::Bytes;
use proto::v1::{self, error_detail::Kind};
use tonic::Code;

use crate::support::{
    eventually,
    shared::shared,
    spot::{Spot, metadata},
    wire::{detail_of, refused},
};

#[tokio::test(flavor = "multi_thread")]
async fn stale_range_epochs() {
    let zone = shared().await;
    let key = b"refused\0epoch";
    let spot = Spot::of(&zone, key).await;
    let range = spot.partition.range.clone();
    let right = spot.partition.range_epoch;
    for range_epoch in [0, right - 1, right + 1, u64::MAX] {
        let target = Some(v1::Target { partition_id: spot.partition.id, range_epoch });
        let put = v1::PutRequest { target, ..spot.put(key, "never").await };
        let delete = v1::DeleteRequest { target, ..spot.delete(key).await };
        let get = v1::GetRequest { target, ..spot.get(key) };
        let list = v1::ListRequest { target, ..spot.list(b"") };
        for status in [
            refused(spot.index().put(put).await, Code::FailedPrecondition, &["epoch"]),
            refused(spot.index().delete(delete).await, Code::FailedPrecondition, &["epoch"]),
            refused(spot.index().get(get).await, Code::FailedPrecondition, &["epoch"]),
            refused(spot.index().list(list).await, Code::FailedPrecondition, &["epoch"]),
        ] {
            let Kind::WrongRange(wrong) = detail_of(&status) else { panic!("{status}") };
            assert_eq!((wrong.partition_id, wrong.range_epoch), (spot.partition.id, right));
            assert_eq!(wrong.range, range);
        }
    }
    assert_eq!(spot.item(key).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_partition() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"refused\0here").await;
    let elsewhere = b"\xff\xffelsewhere";
    let put = spot.put(elsewhere, "never").await;
    let delete = spot.delete(elsewhere).await;
    let mut list = spot.list(b"");
    list.start_after = Bytes::from_static(elsewhere);
    for status in [
        refused(spot.index().put(put).await, Code::FailedPrecondition, &["range"]),
        refused(spot.index().delete(delete).await, Code::FailedPrecondition, &["range"]),
        refused(spot.index().get(spot.get(elsewhere)).await, Code::FailedPrecondition, &["range"]),
        refused(spot.index().list(list).await, Code::FailedPrecondition, &["range"]),
    ] {
        let Kind::WrongRange(wrong) = detail_of(&status) else { panic!("{status}") };
        assert_eq!(wrong.range, spot.partition.range);
    }
    assert_eq!(Spot::of(&zone, elsewhere).await.item(elsewhere).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_id_is_applied_once() {
    let zone = shared().await;
    let key = b"refused\0repeated";
    let spot = Spot::of(&zone, key).await;
    let put = spot.put(key, "first").await;
    let first = spot.index().put(put.clone()).await.unwrap().into_inner();
    let again = spot.index().put(put.clone()).await.unwrap().into_inner();
    assert_eq!(again.version, first.version, "the outcome of then");
    let later = spot.put_ok(key, "later").await;
    assert!(later.version > first.version);
    let again = spot.index().put(put.clone()).await.unwrap().into_inner();
    assert_eq!(again.version, first.version);
    let item = spot.item(key).await.unwrap();
    assert_eq!((item.version, item.value), (later.version, Some(metadata("later"))));

    let mut delete = spot.delete(key).await;
    let gone = spot.index().delete(delete.clone()).await.unwrap().into_inner();
    spot.put_ok(key, "back").await;
    let again = spot.index().delete(delete.clone()).await.unwrap().into_inner();
    assert_eq!((again.version, again.existed), (gone.version, true), "the outcome of then");
    assert!(spot.item(key).await.is_some(), "deleted once");

    // A failed condition is an outcome, too: it stays failed, whatever becomes of the key.
    delete = spot.delete(key).await;
    delete.condition = crate::support::spot::version_equals(1);
    refused(spot.index().delete(delete.clone()).await, Code::Aborted, &["condition"]);
    refused(spot.index().delete(delete).await, Code::Aborted, &["condition"]);
    assert!(spot.item(key).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_id_is_known_to_the_next_leader() {
    let zone = shared().await;
    let (partition_id, _, to) = zone.a_transfer().await;
    let partitions = zone.partitions().await;
    let partition = partitions.iter().find(|it| it.id == partition_id).unwrap();
    let key = [&partition.range.as_ref().unwrap().start[..], b"\0once"].concat();
    let spot = Spot::of(&zone, &key).await;
    let put = spot.put(&key, "once").await;
    let first = spot.index().put(put.clone()).await.unwrap().into_inner();
    let operation = zone.transfer_leader(partition_id, to).await.unwrap();
    zone.succeeded(operation).await;
    let next = Spot::of(&zone, &key).await;
    assert_ne!(next.leader, spot.leader);
    let again = next.index().put(put).await.unwrap().into_inner();
    assert_eq!(again.version, first.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn expiries_that_do_not_fit_partition_time() {
    let zone = shared().await;
    let key = b"refused\0expiry";
    let spot = Spot::of(&zone, key).await;
    // Partition time starts at 0: something has to pass before a write can have expired.
    let now = eventually("partition time to pass", async || {
        let now = spot.put_ok(b"refused\0tick", "").await.partition_time_ms;
        (now > 1_000).then_some(now)
    })
    .await;
    for (expires_at_ms, word) in [
        (0, "needs an expiry"),
        (1, "has expired"),
        (now - 500, "has expired"),
        (now + 600_000, "60 s ahead"),
        (u64::MAX, "60 s ahead"),
    ] {
        let write_id = Some(v1::WriteId { id: spot.wire.write_id(), expires_at_ms });
        let mut put = spot.put(key, "never").await;
        put.write_id = write_id.clone();
        let mut delete = spot.delete(key).await;
        delete.write_id = write_id;
        for status in [
            refused(spot.index().put(put).await, Code::FailedPrecondition, &[word]),
            refused(spot.index().delete(delete).await, Code::FailedPrecondition, &[word]),
        ] {
            let Kind::PartitionTime(time) = detail_of(&status) else { panic!("{status}") };
            assert!(time.now_ms >= now, "{time:?} after {now}");
        }
    }
    assert_eq!(spot.item(key).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests() {
    let zone = shared().await;
    let key = b"refused\0malformed";
    let spot = Spot::of(&zone, key).await;
    let long = Bytes::from(vec![b'k'; 4_097]);
    let right = spot.put(key, "never").await;
    let put = |change: &dyn Fn(&mut v1::PutRequest)| {
        let mut request = right.clone();
        change(&mut request);
        request
    };
    let value = |change: &dyn Fn(&mut v1::ObjectMetadata)| {
        let mut value = metadata("");
        change(&mut value);
        Some(value)
    };
    let condition = |kind| Some(v1::Condition { kind });
    use v1::condition::Kind::{Absent, VersionEquals};
    let write_id = |id: &[u8]| {
        let expires_at_ms = right.write_id.as_ref().unwrap().expires_at_ms;
        Some(v1::WriteId { id: Bytes::copy_from_slice(id), expires_at_ms })
    };
    let large = Bytes::from(vec![b'x'; 65_537]);
    let etag = Bytes::from(vec![b'e'; 257]);
    for (words, request) in [
        (&["key is empty", "4096"][..], put(&|it| it.key.clear())),
        (&["key has 4097 bytes", "4096"], put(&|it| it.key = long.clone())),
        (&["value is missing"], put(&|it| it.value = None)),
        (
            &["value has", "65536"],
            put(&|it| it.value = value(&|it| it.user_payload = large.clone())),
        ),
        (&["value has", "65536"], put(&|it| it.value = value(&|it| it.location = large.clone()))),
        (&["etag has 257", "256"], put(&|it| it.value = value(&|it| it.etag = etag.clone()))),
        (&["condition is empty"], put(&|it| it.condition = condition(None))),
        (&["absent"], put(&|it| it.condition = condition(Some(Absent(false))))),
        (&["version_equals is 0"], put(&|it| it.condition = condition(Some(VersionEquals(0))))),
        (&["write_id is missing"], put(&|it| it.write_id = None)),
        (&["0 bytes instead of 16"], put(&|it| it.write_id = write_id(b""))),
        (&["15 bytes instead of 16"], put(&|it| it.write_id = write_id(&[7; 15]))),
        (&["17 bytes instead of 16"], put(&|it| it.write_id = write_id(&[7; 17]))),
        (&["target is missing"], put(&|it| it.target = None)),
        (&["partition_id is missing"], put(&|it| it.target = Some(v1::Target::default()))),
    ] {
        refused(spot.index().put(request).await, Code::InvalidArgument, words);
    }
    let delete = v1::DeleteRequest { key: Bytes::new(), ..spot.delete(key).await };
    refused(spot.index().delete(delete).await, Code::InvalidArgument, &["key is empty"]);
    let delete = v1::DeleteRequest { key: long.clone(), ..spot.delete(key).await };
    refused(spot.index().delete(delete).await, Code::InvalidArgument, &["4097", "4096"]);
    let delete = v1::DeleteRequest { write_id: write_id(&[7; 3]), ..spot.delete(key).await };
    refused(spot.index().delete(delete).await, Code::InvalidArgument, &["3 bytes"]);
    let get = v1::GetRequest { key: Bytes::new(), ..spot.get(key) };
    refused(spot.index().get(get).await, Code::InvalidArgument, &["key is empty"]);
    let get = v1::GetRequest { key: long.clone(), ..spot.get(key) };
    refused(spot.index().get(get).await, Code::InvalidArgument, &["4097", "4096"]);
    for (words, request) in [
        (&["limit is 0", "1 to 1000"][..], v1::ListRequest { limit: 0, ..spot.list(b"") }),
        (&["limit is 1001"], v1::ListRequest { limit: 1_001, ..spot.list(b"") }),
        (&["prefix has 4097"], v1::ListRequest { prefix: long.clone(), ..spot.list(b"") }),
        (&["start_after has 4097"], v1::ListRequest { start_after: long, ..spot.list(b"") }),
    ] {
        refused(spot.index().list(request).await, Code::InvalidArgument, words);
    }
    let unknown = v1::Target { partition_id: 4_711, range_epoch: 1 };
    let get = v1::GetRequest { target: Some(unknown), ..spot.get(key) };
    let status = refused(spot.index().get(get).await, Code::NotFound, &["partition 4711"]);
    assert!(matches!(detail_of(&status), Kind::UnknownReplica(it) if it.partition_id == 4_711));
    assert_eq!(spot.item(key).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_key_and_value_are_taken() {
    let zone = shared().await;
    let key = [&b"refused\0"[..], &[b'k'; 4_088]].concat();
    let spot = Spot::of(&zone, &key).await;
    let mut put = spot.put(&key, "").await;
    // 65,536 bytes encoded: one field of 65,532 bytes, with its tag and a length of three bytes.
    let location = Bytes::from(vec![b'x'; 65_532]);
    put.value = Some(v1::ObjectMetadata { location, ..v1::ObjectMetadata::default() });
    spot.index().put(put.clone()).await.unwrap();
    assert_eq!(spot.item(&key).await.unwrap().value, put.value);
    let delete = spot.delete(&key).await;
    assert!(spot.index().delete(delete).await.unwrap().into_inner().existed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_megabytes() {
    let zone = shared().await;
    let key = b"refused\0huge";
    let spot = Spot::of(&zone, key).await;
    let mut put = spot.put(key, "").await;
    put.value = Some(v1::ObjectMetadata {
        user_payload: Bytes::from(vec![b'x'; 5 << 20]),
        ..v1::ObjectMetadata::default()
    });
    let status = spot.index().put(put).await.unwrap_err();
    let codes = [Code::OutOfRange, Code::ResourceExhausted, Code::InvalidArgument];
    assert!(codes.contains(&status.code()), "{status}");
    assert_eq!(spot.item(key).await, None);
}
