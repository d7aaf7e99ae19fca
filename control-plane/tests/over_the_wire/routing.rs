//! The partition map: from any member, whole and by changes.

use std::time::Duration;

use crate::support::{eventually, zone::TestZone};
use proto::v1;
use tonic::Code;

fn check_cover(map: &v1::PartitionMap) {
    let mut end = bytes::Bytes::new();
    for (index, route) in map.partitions.iter().enumerate() {
        let range = route.range.as_ref().unwrap();
        assert!(index == 0 || !end.is_empty());
        assert_eq!(range.start, end);
        end = range.end.clone();
    }
    assert!(end.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_serves_the_whole_map() {
    let zone = TestZone::start(3, 3, 5, 3).await;
    zone.healthy().await;
    for member in &zone.members {
        let map = eventually("leaders for all", || {
            let mut client = member.routing();
            async move {
                let map = client.get_partition_map(v1::GetPartitionMapRequest {}).await.ok()?;
                let map = map.into_inner();
                map.partitions.iter().all(|route| route.leader_node_id != 0).then_some(map)
            }
        })
        .await;
        check_cover(&map);
        assert_eq!(map.partitions.len(), 5);
        assert_eq!(map.nodes.len(), 3);
        for route in &map.partitions {
            assert_eq!(route.replicas.len(), 3);
            assert_eq!(route.range_epoch, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_gets_the_map_and_then_its_changes() {
    let mut zone = TestZone::start(3, 3, 3, 3).await;
    zone.healthy().await;
    let follower = (zone.leader().await + 1) % 3;
    let mut client = zone.members[follower].routing();
    let watch = |after_revision| v1::WatchPartitionMapRequest { after_revision };
    let mut updates = client.watch_partition_map(watch(0)).await.unwrap().into_inner();
    let first = updates.message().await.unwrap().unwrap();
    assert!(first.full);
    let map = first.map.unwrap();
    check_cover(&map);

    let partition = zone.partitions().await.remove(0);
    let to = partition.replicas.iter().find(|it| it.node_id != partition.leader_node_id).unwrap();
    let request = v1::TransferLeaderRequest {
        partition_id: partition.id,
        to: Some(v1::NodeReference { id: to.node_id, name: String::new() }),
        idempotency_key: String::new(),
    };
    zone.admin().await.transfer_leader(request).await.unwrap();
    let mut last = map.revision;
    loop {
        let update = updates.message().await.unwrap().unwrap();
        assert!(!update.full);
        let map = update.map.unwrap();
        assert!(map.revision > last);
        last = map.revision;
        let moved = map.partitions.iter().find(|route| route.partition_id == partition.id);
        if moved.is_some_and(|route| route.leader_node_id == to.node_id) {
            break;
        }
    }

    // Whoever comes back with what is current gets nothing; with a revision from nowhere, everything.
    let mut current = client.watch_partition_map(watch(last)).await.unwrap().into_inner();
    let silence = tokio::time::timeout(Duration::from_millis(200), current.message()).await;
    assert!(silence.is_err(), "{silence:?}");
    let mut ahead = client.watch_partition_map(watch(last + 1_000_000)).await.unwrap().into_inner();
    assert!(ahead.message().await.unwrap().unwrap().full);

    zone.members[follower].stop().await;
    let ended = loop {
        match updates.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_for_long_catches_up_by_a_snapshot() {
    let mut zone = TestZone::members_with(3, &|configuration| {
        configuration.raft.snapshot_after_entries = 20;
        configuration.raft.entries_kept = 5;
    });
    zone.init(3, 1, 0).await.unwrap();
    zone = zone.with_nodes(1).await;
    zone.healthy().await;
    let away = (zone.leader().await + 1) % 3;
    zone.members[away].kill();
    for number in 0..60 {
        let identity = crate::support::node::Identity::new(&format!("extra-{number:02}"), "rack");
        crate::support::node::register(&zone.addresses(), &identity).await;
    }
    let leader = zone.leader().await;
    let mut client = zone.members[leader].routing();
    let map = client.get_partition_map(v1::GetPartitionMapRequest {}).await.unwrap();
    let wanted = map.into_inner().revision;
    zone.members[away].start();
    let caught_up = |zone: &TestZone| {
        let mut client = zone.members[away].routing();
        async move {
            let map = client.get_partition_map(v1::GetPartitionMapRequest {}).await.ok()?;
            Some(map.into_inner()).filter(|map| map.revision >= wanted)
        }
    };
    let map = eventually("the snapshot", || caught_up(&zone)).await;
    check_cover(&map);
    // What was installed is there after a restart too.
    zone.members[away].stop().await;
    zone.members[away].start();
    let map = eventually("its own state", || caught_up(&zone)).await;
    check_cover(&map);
}
