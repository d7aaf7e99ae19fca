//! `RoutingService`: the partition map, from any member.

use proto::v1::{self, GetPartitionMapRequest, WatchPartitionMapRequest};
use tonic::Code;

use crate::support::{
    LIMIT, eventually,
    shared::shared,
    wire::{Wire, node_id, refused},
    zone::TestZone,
};

/// The ranges cover the key space without gap or overlap, and every node has an address.
fn check(map: &v1::PartitionMap) {
    let mut end = bytes::Bytes::new();
    for (number, route) in map.partitions.iter().enumerate() {
        let range = route.range.clone().unwrap();
        assert_eq!(range.start, end, "partition {}", route.partition_id);
        assert!(number == 0 || !range.start.is_empty());
        assert_eq!(route.replicas.len(), 3);
        for replica in &route.replicas {
            assert!(map.nodes.iter().any(|node| node.node_id == replica.node_id));
        }
        end = range.end;
    }
    assert!(end.is_empty());
    assert!(map.nodes.iter().all(|node| !node.address.is_empty()));
    assert!(!map.zone_id.is_empty() && map.revision > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_has_the_map() {
    let zone = shared().await;
    let wire = Wire::new();
    let placements = zone.placements().await;
    for role in zone.processes.layout().member_roles() {
        let mut routing = wire.routing(&zone.address(role));
        eventually("the map of a member", async || {
            let map = routing.get_partition_map(GetPartitionMapRequest {}).await.unwrap();
            let map = map.into_inner();
            check(&map);
            let leaders = map.partitions.iter().map(|route| route.leader_node_id);
            leaders.eq(placements.values().map(|it| it.leader)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_brings_the_map_and_then_its_changes() {
    let zone = shared().await;
    let wire = Wire::new();
    let follower = zone.address(zone.a_follower().await);
    let mut routing = wire.routing(&follower);
    let watch = WatchPartitionMapRequest { after_revision: 0 };
    let mut updates = routing.watch_partition_map(watch).await.unwrap().into_inner();
    let first = updates.message().await.unwrap().expect("the map first");
    assert!(first.full);
    let map = first.map.unwrap();
    check(&map);

    // Who has the map already is told nothing until it changes.
    let revision = map.revision;
    let watch = WatchPartitionMapRequest { after_revision: revision };
    let mut changes = routing.watch_partition_map(watch).await.unwrap().into_inner();
    let (partition_id, _, to) = zone.a_transfer().await;
    let transfer =
        v1::TransferLeaderRequest { partition_id, to: node_id(to), idempotency_key: String::new() };
    zone.admin().transfer_leader(transfer).await.unwrap();
    for stream in [&mut changes, &mut updates] {
        let changed = async {
            loop {
                let update = stream.message().await.unwrap().expect("the stream goes on");
                assert!(!update.full, "{update:?}");
                let map = update.map.unwrap();
                let moved = |it: &v1::PartitionRoute| {
                    it.partition_id == partition_id && it.leader_node_id == to
                };
                if map.partitions.iter().any(moved) {
                    assert!(map.revision > revision);
                    break;
                }
            }
        };
        tokio::time::timeout(LIMIT, changed).await.expect("the change is told");
    }

    // A revision that never was is answered with everything.
    let watch = WatchPartitionMapRequest { after_revision: u64::MAX };
    let mut updates = routing.watch_partition_map(watch).await.unwrap().into_inner();
    assert!(updates.message().await.unwrap().expect("the map").full);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_init_there_is_no_map() {
    let mut zone = TestZone::prepare(1, 1).await;
    zone.processes.start(zonectl::zone_process::Role::Member(0)).unwrap();
    let mut routing = Wire::new().routing(&zone.endpoints()[0]);
    let answer = eventually("an answer", async || {
        let answer = routing.get_partition_map(GetPartitionMapRequest {}).await;
        (!answer.as_ref().is_err_and(|it| it.code() == Code::Unavailable)).then_some(answer)
    });
    refused(answer.await, Code::FailedPrecondition, &["not initialised", "init"]);
    let watch = WatchPartitionMapRequest { after_revision: 0 };
    let answer = routing.watch_partition_map(watch).await;
    let status = answer.err().expect("refused");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
}
