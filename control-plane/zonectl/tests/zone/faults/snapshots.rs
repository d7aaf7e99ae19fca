//! What is too far behind gets a snapshot, because the log is cut.

use proto::v1;
use zonectl::zone_process::Role;

use crate::support::{
    eventually,
    spot::Spot,
    traffic::Traffic,
    wire::Wire,
    zone::{Shape, TestZone},
};

/// Snapshots that a node has received and installed, by its own account.
async fn received(wire: &Wire, zone: &TestZone, role: Role) -> f64 {
    let page = wire.page(&zone.processes.layout().metrics_address(role), "/metrics").await;
    let counts = page.lines().filter(|line| {
        line.starts_with("isotherm_index_snapshots_received_total") && line.contains("installed")
    });
    counts.filter_map(|line| line.rsplit(' ').next()?.trim().parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_starts_with_a_snapshot() {
    let shape = Shape { members: 1, index_nodes: 4, partitions: 1, ..Shape::default() };
    let cut = "[raft]\nentries_per_snapshot = 50\nentries_kept = 5\n";
    let mut zone = TestZone::prepare_with(shape.members, shape.index_nodes, "", cut).await;
    zone.bring_up(&shape).await;
    let spot = Spot::of(&zone, b"k").await;
    for number in 0..300 {
        spot.put_ok(format!("snapshot\0{number:03}").as_bytes(), "value").await;
    }
    // Known to whoever has the partition, whatever became of the log in which it came.
    let repeated = spot.put(b"snapshot\0repeated", "first").await;
    let first = spot.index().put(repeated.clone()).await.unwrap().into_inner();
    let traffic = Traffic::start(&zone).await;

    let placement = zone.placements().await.pop_first().unwrap().1;
    let to = (1..=4).find(|node| !placement.replicas.values().any(|it| it == node)).unwrap();
    let status = zone.status().await;
    let target = zone.role(status.nodes.iter().find(|node| node.id == to).unwrap());
    assert_eq!(received(&spot.wire, &zone, target).await, 0.0);
    let operation = zone.move_replica(spot.partition.id, placement.leader, to).await.unwrap();
    zone.succeeded(operation).await;
    assert!(received(&spot.wire, &zone, target).await >= 1.0);

    // It leads, and has everything: keys, versions, and the outcomes of writes.
    let operation = zone.transfer_leader(spot.partition.id, to).await.unwrap();
    zone.succeeded(operation).await;
    let moved = Spot::of(&zone, b"k").await;
    assert_eq!(moved.partition.leader_node_id, to);
    let listed = moved.index().list(moved.list(b"snapshot\0")).await.unwrap().into_inner();
    assert_eq!(listed.items.len(), 301);
    let again = moved.index().put(repeated).await.unwrap().into_inner();
    assert_eq!(again.version, first.version, "applied once, before the snapshot");
    traffic.unharmed().await;

    // A replica that was away while the log was cut comes back the same way.
    let follower = zone.placements().await.pop_first().unwrap().1;
    let away = *follower.replicas.values().find(|node| **node != follower.leader).unwrap();
    let role = zone.role(status.nodes.iter().find(|node| node.id == away).unwrap());
    zone.processes.kill(role).unwrap();
    for number in 0..300 {
        moved.put_ok(format!("snapshot\0{number:03}").as_bytes(), "later").await;
    }
    zone.processes.start(role).unwrap();
    zone.settled().await;
    eventually("the snapshot of the replica that was away", async || {
        (received(&spot.wire, &zone, role).await >= 1.0).then_some(())
    })
    .await;
    let operation = zone.transfer_leader(spot.partition.id, away).await.unwrap();
    zone.succeeded(operation).await;
    let back = Spot::of(&zone, b"k").await;
    let item = back.item(b"snapshot\x00123").await.unwrap();
    assert_eq!(item.value.unwrap().user_payload.as_ref(), b"later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_gets_a_snapshot() {
    let shape = Shape { index_nodes: 3, partitions: 4, ..Shape::default() };
    let cut = "log_filter = \"info,openraft=info\"\n\
               [raft]\nsnapshot_after_entries = 20\nentries_kept = 5\n";
    let mut zone = TestZone::prepare_with(3, 3, cut, "").await;
    zone.bring_up(&shape).await;
    let away = zone.a_follower().await;
    zone.processes.kill(away).unwrap();
    // Each is a command in the log, although it changes nothing.
    for _ in 0..100 {
        zone.uncordon(1).await;
    }
    let (partition, _, to) = zone.a_transfer().await;
    let operation = zone.transfer_leader(partition, to).await.unwrap();
    zone.succeeded(operation).await;
    let before = zone.processes.log_tail(away, 100_000).len();
    zone.processes.start(away).unwrap();
    eventually("the snapshot of the member that was away", async || {
        let log = zone.processes.log_tail(away, 100_000);
        log[before..].contains("install_full_snapshot").then_some(())
    })
    .await;
    zone.settled().await;

    // It knows what it missed, and can lead.
    let wire = Wire::new();
    let mut routing = wire.routing(&zone.address(away));
    eventually("the map at the member that was away", async || {
        let map = routing.get_partition_map(v1::GetPartitionMapRequest {}).await.ok()?;
        let routes = map.into_inner().partitions;
        let route = routes.into_iter().find(|route| route.partition_id == partition)?;
        (route.leader_node_id == to).then_some(())
    })
    .await;
    for role in zone.processes.layout().member_roles().filter(|role| *role != away) {
        zone.processes.restart(role, crate::support::LIMIT).await.unwrap();
        zone.status_when("a leader", |_| true).await;
    }
    zone.settled().await;
    let events = zone.events().await;
    assert_eq!(events[0].kind, "zone-initialized");
    assert!(events.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
}
