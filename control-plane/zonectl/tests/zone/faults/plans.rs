//! Planned changes under traffic: moves, transfers, drains, rebalancing. Nobody notices.

use std::collections::BTreeSet;

use client::Rebalanced;
use zonectl::zone_process::Role;

use crate::support::{
    shared::{NODES, shared},
    traffic::Traffic,
};

#[tokio::test(flavor = "multi_thread")]
async fn replicas_and_leaderships_move() {
    let zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let placements = zone.placements().await;
    for (partition, placement) in placements.iter().take(3) {
        let held: BTreeSet<u64> = placement.replicas.values().copied().collect();
        let to = (1..=u64::from(NODES)).find(|node| !held.contains(node)).unwrap();
        // The leader's own replica: its leadership goes first.
        let operation = zone.move_replica(*partition, placement.leader, to).await.unwrap();
        zone.succeeded(operation).await;
        let after = zone.placements().await[partition].clone();
        assert!(!after.replicas.values().any(|node| *node == placement.leader));
        let back = zone.move_replica(*partition, to, placement.leader).await.unwrap();
        zone.succeeded(back).await;
    }
    for _ in 0..3 {
        let (partition, _, to) = zone.a_transfer().await;
        let operation = zone.transfer_leader(partition, to).await.unwrap();
        zone.succeeded(operation).await;
    }
    let report = traffic.unharmed().await;
    assert_eq!(report.unknown, 0, "{:?}", report.errors);
    zone.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_uncordoned_and_used_again() {
    let zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let node = zone.busiest().await.id;
    let operation = zone.drain(node).await.unwrap();
    zone.succeeded(operation).await;
    let placements = zone.placements().await;
    assert!(placements.values().all(|it| !it.replicas.values().any(|on| *on == node)));
    assert!(placements.values().all(|it| it.replicas.len() == 3));
    traffic.flows().await;
    zone.uncordon(node).await;
    zone.even_out().await;
    let report = traffic.unharmed().await;
    assert_eq!(report.unknown, 0, "{:?}", report.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaderships_are_made_even_on_command() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let busiest = zone.busiest().await;
    let role: Role = zone.role(&busiest);
    zone.processes.kill(role).unwrap();
    zone.status_when("leaders elsewhere", |status| {
        let node = status.nodes.iter().find(|node| node.id == busiest.id).unwrap();
        node.state == "down" && node.leaders == 0 && status.partitions.available == 8
    })
    .await;
    zone.processes.start(role).unwrap();
    zone.status_when("the node up", |status| {
        status.nodes.iter().all(|node| node.state == "up") && status.partitions.available == 8
    })
    .await;
    // Whoever is quicker, the operator or the zone itself: in the end they are even.
    let admin = zone.admin();
    match admin.rebalance().await {
        Ok(Rebalanced { plan, operation_ids }) => {
            assert_eq!(operation_ids.len(), plan.steps.len());
            assert!(plan.steps.iter().all(|step| !step.reason.is_empty()));
            for id in operation_ids {
                zone.ended(id).await;
            }
        }
        // The zone has begun by itself in this moment.
        Err(error) => assert_eq!(error.code(), Some(tonic::Code::FailedPrecondition), "{error}"),
    }
    let status = zone.settled().await;
    let leaders = status.nodes.iter().map(|node| node.leaders);
    assert!(leaders.clone().max().unwrap() - leaders.min().unwrap() <= 1, "{:?}", status.nodes);
    traffic.unharmed().await;
}
