//! Partitions that are split, in a zone of their own: the shared one keeps its partitions.

use std::collections::BTreeSet;

use client::ListOptions;
use futures_util::TryStreamExt;
use proto::v1::{self, split_partition_request::Point};
use serde_json::Value;
use tonic::Code;

use crate::support::{
    program::Zonectl,
    traffic::Traffic,
    wire::{Wire, refused},
    zone::{Shape, TestZone},
};

/// A partition's range and nodes, by its id.
async fn ranges(zone: &TestZone) -> Vec<(u64, v1::KeyRange, BTreeSet<u64>)> {
    let summaries = zone.partitions().await.into_iter();
    summaries
        .map(|it| {
            let nodes = it.replicas.iter().map(|replica| replica.node_id).collect();
            (it.id, it.range.unwrap(), nodes)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_split_under_traffic() {
    let zone = TestZone::start(Shape { partitions: 2, ..Shape::default() }).await;
    let traffic = Traffic::start(&zone).await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let before = ranges(&zone).await;
    let (first, range, nodes) = before[0].clone();
    let partition = first.to_string();

    // By size: the leader finds the key.
    let changes =
        zonectl.json_lines(&["partition", "split", &partition, "--by", "size", "--wait"]).await;
    let ended = changes.last().unwrap();
    assert_eq!((&ended["state"], &ended["kind"]), (&"succeeded".into(), &"split".into()));
    let after = ranges(&zone).await;
    assert_eq!(after.len(), 3);
    assert_eq!((&after[0].1.start, &after[1].1.end), (&range.start, &range.end));
    assert_eq!(after[0].1.end, after[1].1.start);
    assert_eq!((&after[0].2, &after[1].2), (&nodes, &nodes), "no data moves");
    assert_eq!((after[0].0, after[2].0), (first, before[1].0));
    for index in [0, 1] {
        let text = zonectl.text(&["explain", "partition", &after[index].0.to_string()]).await;
        assert!(text.contains("split"), "{text}");
    }
    traffic.flows().await;

    // Each half again, once at a key.
    let (id, range, _) = after[1].clone();
    let at = [&range.start[..], b"\0"].concat();
    let request = v1::SplitPartitionRequest {
        partition_id: id,
        point: Some(Point::At(at.clone().into())),
        idempotency_key: "split-again".into(),
    };
    let started = zone.admin().split_partition(request.clone()).await.unwrap().operation;
    let ended = zone.succeeded(started).await;
    let again = zone.admin().split_partition(request).await.unwrap().operation.unwrap();
    assert_eq!(again.id, ended.id, "the same key starts nothing new");
    assert!(ranges(&zone).await.iter().any(|(_, range, _)| range.start == at));
    let started = zonectl.json(&["partition", "split", &partition, "--by", "size"]).await;
    let text = zonectl.text(&["operation", "watch", &started["id"].to_string()]).await;
    assert!(text.contains("succeeded"), "{text}");

    traffic.flows().await;
    let report = traffic.unharmed().await;
    assert_eq!(report.unknown, 0, "{:?}", report.errors);
    let client = zone.client().await;
    let items: Vec<_> = client.list(ListOptions::default()).try_collect().await.unwrap();
    assert!(items.windows(2).all(|pair| pair[0].key < pair[1].key), "{} items", items.len());
    assert_eq!(ranges(&zone).await.len(), 5);
    zone.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn splits_that_cannot_be_are_refused() {
    let zone = TestZone::start(Shape { partitions: 2, ..Shape::default() }).await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let before = ranges(&zone).await;
    let (first, range, _) = before[0].clone();
    let wire = Wire::new();
    let mut admin = wire.admin(&zone.address(zone.leader().await));
    let request = |partition_id, point| v1::SplitPartitionRequest {
        partition_id,
        point,
        idempotency_key: String::new(),
    };
    let at = |key: &[u8]| Some(Point::At(key.to_vec().into()));
    for (partition, point, code, word) in [
        (0, at(b"k"), Code::InvalidArgument, "partition_id"),
        (first, None, Code::InvalidArgument, "key to split at"),
        (first, at(b""), Code::InvalidArgument, "right half"),
        (first, Some(Point::By(7)), Code::InvalidArgument, "LOAD or SIZE"),
        (first, at(&vec![1; 4_097]), Code::InvalidArgument, "4096"),
        (first, at(&range.end), Code::InvalidArgument, "room"),
        (4_711, at(b"k"), Code::NotFound, "4711"),
    ] {
        let answer = admin.split_partition(request(partition, point)).await;
        refused(answer, code, &[word]);
    }
    // The leader knows of no load, and says what would do.
    let partition = first.to_string();
    let ended = zonectl.run(&["partition", "split", &partition, "--by", "load", "--wait"]).await;
    ended.refused(1, &["split by size, or name a key"]);
    let listed = zonectl.json(&["operation", "list", "--all"]).await;
    let failed = listed.as_array().unwrap().iter().find(|it| it["kind"] == "split").unwrap();
    assert_eq!(failed["state"], Value::from("failed"));
    assert_eq!(ranges(&zone).await, before);
}
