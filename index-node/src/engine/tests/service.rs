//! `IndexService` as clients see it.

use bytes::Bytes;
use proto::v1::{self, condition, error_detail::Kind, index_service_server::IndexService};
use runtime::grpc::detail::kind_of;
use tonic::{Code, Request, Status};

use super::harness::{EPOCH, PARTITION, Zone};
use crate::engine::{options::EngineOptions, service::IndexApi, types::NodeId};

fn target() -> Option<v1::Target> {
    Some(v1::Target { partition_id: PARTITION.0, range_epoch: EPOCH })
}

fn value(payload: usize) -> v1::ObjectMetadata {
    v1::ObjectMetadata {
        etag: Bytes::from_static(b"etag"),
        size_bytes: 5,
        location: Bytes::from_static(b"here"),
        user_payload: vec![7; payload].into(),
    }
}

fn put(number: u8, expires_at_ms: u64) -> v1::PutRequest {
    v1::PutRequest {
        target: target(),
        key: Bytes::from_static(b"key"),
        value: Some(value(1)),
        condition: None,
        write_id: Some(v1::WriteId { id: vec![number; 16].into(), expires_at_ms }),
    }
}

async fn zone() -> (Zone, u64, IndexApi) {
    let zone = Zone::simulated(3, EngineOptions::default()).await;
    let leader = zone.found(&[1, 2, 3]).await;
    let api = IndexApi::new(zone.host(leader));
    (zone, leader, api)
}

fn is_invalid(answer: Result<impl Sized, Status>, part: &str) {
    let Err(status) = answer else { panic!("{part}: accepted") };
    assert_eq!(status.code(), Code::InvalidArgument, "{part}: {status:?}");
    assert!(status.message().contains(part), "{part}: {status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_goes_in_and_out() {
    let (zone, leader, api) = zone().await;
    let expiry = zone.replica(leader).now_ms() + 9_000;
    let written = api.put(Request::new(put(1, expiry))).await.unwrap().into_inner();
    assert!(written.version > 0);
    assert!(written.partition_time_ms >= zone.replica(leader).view.state().time_ms);
    let get = v1::GetRequest { target: target(), key: Bytes::from_static(b"key") };
    let found = api.get(Request::new(get.clone())).await.unwrap().into_inner().item.unwrap();
    assert_eq!(found.value, Some(value(1)));
    assert_eq!(found.version, written.version);
    let list = v1::ListRequest { target: target(), limit: 10, ..Default::default() };
    let listed = api.list(Request::new(list)).await.unwrap().into_inner();
    assert_eq!(listed.items, [found]);
    let delete = v1::DeleteRequest {
        target: target(),
        key: Bytes::from_static(b"key"),
        condition: None,
        write_id: Some(v1::WriteId { id: vec![2; 16].into(), expires_at_ms: expiry }),
    };
    assert!(api.delete(Request::new(delete)).await.unwrap().into_inner().existed);
    assert_eq!(api.get(Request::new(get)).await.unwrap().into_inner().item, None);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_right_is_named() {
    let (zone, leader, api) = zone().await;
    let good = put(1, zone.replica(leader).now_ms() + 9_000);
    let try_put = |request| api.put(Request::new(request));

    let key = |length: usize| v1::PutRequest { key: vec![b'k'; length].into(), ..good.clone() };
    is_invalid(try_put(key(0)).await, "key is empty");
    is_invalid(try_put(key(4_097)).await, "4097 bytes");
    try_put(key(4_096)).await.unwrap();

    let with = |value| v1::PutRequest {
        value,
        write_id: Some(v1::WriteId { id: vec![9; 16].into(), ..good.write_id.clone().unwrap() }),
        ..good.clone()
    };
    is_invalid(try_put(with(None)).await, "value is missing");
    is_invalid(try_put(with(Some(value(65_536)))).await, "at most 65536");
    let long_etag = v1::ObjectMetadata { etag: vec![1; 257].into(), ..value(1) };
    is_invalid(try_put(with(Some(long_etag))).await, "etag");
    try_put(with(Some(value(65_000)))).await.unwrap();

    let no_write_id = v1::PutRequest { write_id: None, ..good.clone() };
    is_invalid(try_put(no_write_id).await, "write_id is missing");
    let short = Some(v1::WriteId { id: vec![1; 15].into(), expires_at_ms: 1 });
    is_invalid(try_put(v1::PutRequest { write_id: short, ..good.clone() }).await, "15 bytes");

    for (kind, part) in [
        (None, "condition is empty"),
        (Some(condition::Kind::Absent(false)), "absent"),
        (Some(condition::Kind::VersionEquals(0)), "version_equals"),
    ] {
        let condition = Some(v1::Condition { kind });
        is_invalid(try_put(v1::PutRequest { condition, ..good.clone() }).await, part);
    }
    is_invalid(try_put(v1::PutRequest { target: None, ..good.clone() }).await, "target");

    for limit in [0, 1_001] {
        let list = v1::ListRequest { target: target(), limit, ..Default::default() };
        is_invalid(api.list(Request::new(list)).await, "limit");
    }
    let prefix = Bytes::from(vec![1; 4_097]);
    let list = v1::ListRequest { target: target(), limit: 1, prefix, ..Default::default() };
    is_invalid(api.list(Request::new(list)).await, "prefix");
}

#[tokio::test(start_paused = true)]
async fn refusals_say_what_to_do_next() {
    let (zone, leader, api) = zone().await;
    let other = (1..=3).find(|node| *node != leader).unwrap();
    let now = zone.replica(leader).now_ms();
    let refusal = |request| {
        let api = api.clone();
        async move { api.put(Request::new(request)).await.unwrap_err() }
    };

    let elsewhere = Some(v1::Target { partition_id: 99, range_epoch: EPOCH });
    let status = refusal(v1::PutRequest { target: elsewhere, ..put(1, now + 1_000) }).await;
    assert_eq!(status.code(), Code::NotFound);
    assert!(matches!(kind_of(&status), Some(Kind::UnknownReplica(_))));

    let old = Some(v1::Target { partition_id: PARTITION.0, range_epoch: EPOCH - 1 });
    let status = refusal(v1::PutRequest { target: old, ..put(1, now + 1_000) }).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    let Some(Kind::WrongRange(wrong)) = kind_of(&status) else { panic!("{status:?}") };
    assert_eq!(wrong.range_epoch, EPOCH);

    let status = refusal(put(1, 0)).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(matches!(kind_of(&status), Some(Kind::PartitionTime(_))));

    let condition = Some(v1::Condition { kind: Some(condition::Kind::VersionEquals(77)) });
    let status = refusal(v1::PutRequest { condition, ..put(1, now + 1_000) }).await;
    assert_eq!(status.code(), Code::Aborted);
    let Some(Kind::ConditionFailed(failed)) = kind_of(&status) else { panic!("{status:?}") };
    assert_eq!(failed.current_version, 0);

    let follower = IndexApi::new(zone.host(other));
    let directory = zone.host(other);
    directory.directory().set(&[(NodeId(leader), "leader:7500".into())]).await.unwrap();
    zone.eventually(|| zone.replica(other).leader()).await;
    let status = follower.put(Request::new(put(1, now + 1_000))).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let Some(Kind::WrongLeader(hint)) = kind_of(&status) else { panic!("{status:?}") };
    assert_eq!(hint.leader.unwrap().address, "leader:7500");

    zone.host(leader).set_disk_below_reserve(true);
    let status = refusal(put(1, now + 1_000)).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(matches!(kind_of(&status), Some(Kind::RetryAfter(_))));
}
