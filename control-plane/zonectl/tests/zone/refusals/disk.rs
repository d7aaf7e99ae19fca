//! A disk below its reserve: client writes are refused, reads are served.

use bytes::Bytes;
use client::ObjectMetadata;
use proto::v1::error_detail::Kind;
use tonic::Code;

use crate::support::{
    spot::Spot,
    wire::{detail_of, refused},
    zone::{Shape, TestZone},
};

#[tokio::test(flavor = "multi_thread")]
async fn below_its_reserve() {
    let shape = Shape { members: 1, index_nodes: 3, partitions: 2, ..Shape::default() };
    let zone = TestZone::start(shape.clone()).await;
    let key = &b"disk\0kept"[..];
    let value = ObjectMetadata { size_bytes: 5, ..ObjectMetadata::default() };
    let version = zone.client().await.put(key, value.clone(), None).await.unwrap();

    // More than any disk has.
    let reserve = (1_u64 << 60).to_string();
    let mut zone = zone.with_index_node_arguments(&["--disk-reserve-bytes", &reserve]).await;
    zone.processes.start_all().unwrap();
    let status = zone
        .status_when("full disks", |status| {
            status.nodes.len() == 3
                && status.nodes.iter().all(|node| node.disk_below_reserve && node.state == "up")
                && status.partitions.available == 2
        })
        .await;
    assert!(!status.healthy);
    assert!(status.problems.iter().any(|it| it.contains("disk")), "{:?}", status.problems);

    let spot = Spot::of(&zone, key).await;
    let put = spot.put(b"disk\0refused", "never").await;
    let words = ["disk", "below its reserve"];
    let status = refused(spot.index().put(put).await, Code::ResourceExhausted, &words);
    assert!(matches!(detail_of(&status), Kind::RetryAfter(after) if after.retry_after_ms > 0));
    let delete = spot.delete(key).await;
    let status = refused(spot.index().delete(delete).await, Code::ResourceExhausted, &words);
    assert!(matches!(detail_of(&status), Kind::RetryAfter(_)), "{status}");
    let client = zone.client().await;
    let item = client.get(key).await.unwrap().expect("reads are served");
    assert_eq!((item.version, item.value), (version, value.clone()));
    assert_eq!(client.get(&b"disk\0refused"[..]).await.unwrap(), None);
    let zonectl = crate::support::program::Zonectl::new(&zone.endpoints());
    let refused = zonectl.run(&["put", "k", "--deadline", "5s"]).await;
    refused.refused(1, &["below its reserve"]);

    // With room again, writes go on.
    let mut zone = zone.with_index_node_arguments(&[]).await;
    zone.bring_up(&shape).await;
    let client = zone.client().await;
    client.put(Bytes::from_static(b"disk\0after"), value, None).await.unwrap();
    assert!(client.get(key).await.unwrap().is_some());
}
