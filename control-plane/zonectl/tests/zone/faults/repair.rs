//! A node that stays away is replaced.

use std::{collections::BTreeSet, time::Duration};

use proto::v1;
use tonic::Code;

use crate::support::{
    traffic::Traffic,
    wire::{node_id, node_name},
    zone::{Shape, TestZone},
};

#[tokio::test(flavor = "multi_thread")]
async fn its_replicas_are_made_again_elsewhere_and_it_can_be_forgotten() {
    let replace_after = Duration::from_secs(1);
    let shape = Shape { index_nodes: 4, partitions: 4, replace_after, ..Shape::default() };
    let mut zone = TestZone::start(shape).await;
    let traffic = Traffic::start(&zone).await;
    let lost = zone.busiest().await;
    let role = zone.role(&lost);
    let before = zone.placements().await;
    zone.processes.kill(role).unwrap();
    zone.status_when("full replication without the lost node", |status| {
        let node = status.nodes.iter().find(|node| node.id == lost.id).unwrap();
        node.replicas == 0
            && status.partitions.under_replicated == 0
            && status.partitions.available == 4
            && status.operations.running == 0
    })
    .await;
    let after = zone.placements().await;
    let known: BTreeSet<u64> = before.values().flat_map(|it| it.replicas.keys().copied()).collect();
    for (partition, placement) in &after {
        assert_eq!(placement.replicas.len(), 3, "{placement:?}");
        assert!(!placement.replicas.values().any(|node| *node == lost.id));
        let nodes: BTreeSet<u64> = placement.replicas.values().copied().collect();
        assert_eq!(nodes.len(), 3, "distinct nodes");
        let kept =
            placement.replicas.keys().filter(|it| before[partition].replicas.contains_key(it));
        // Only what was lost was made again, under an id that was never used.
        let lost_here = before[partition].replicas.values().filter(|node| **node == lost.id);
        assert_eq!(kept.count() + lost_here.count(), 3);
        let fresh =
            placement.replicas.keys().filter(|it| !before[partition].replicas.contains_key(it));
        assert!(fresh.into_iter().all(|it| !known.contains(it)));
    }
    let operations = v1::ListOperationsRequest { include_ended: true, limit: 1_000 };
    let operations = zone.admin().list_operations(operations).await.unwrap().operations;
    let repairs: Vec<_> = operations.iter().filter(|it| it.kind == "repair").collect();
    assert!(!repairs.is_empty());
    for repair in repairs {
        assert_eq!(
            (repair.origin.as_str(), repair.state()),
            ("repair", v1::OperationState::Succeeded)
        );
        assert!(!repair.reason.is_empty(), "{repair:?}");
    }
    traffic.flows().await;

    // It comes back: what it holds is of no use any more, and is destroyed. It is not given work that
    // others do already.
    zone.processes.start(role).unwrap();
    zone.settled().await;
    assert_eq!(
        replicas_only(&zone.placements().await),
        replicas_only(&after),
        "nothing moves back"
    );
    zone.processes.kill(role).unwrap();
    zone.status_when("the node down again", |status| {
        status.nodes.iter().any(|node| node.id == lost.id && node.state == "down")
    })
    .await;
    let identity = v1::GetNodeRequest { node: node_id(lost.id) };
    let identity = zone.admin().get_node(identity).await.unwrap().identity;
    let zonectl = crate::support::program::Zonectl::new(&zone.endpoints());
    let text = zonectl.text(&["node", "remove", &lost.name]).await;
    assert!(text.contains("forgotten for good"), "{text}");
    let gone = v1::GetNodeRequest { node: node_name(&lost.name) };
    assert_eq!(zone.admin().get_node(gone).await.unwrap_err().code(), Some(Code::NotFound));

    // Its identity never comes back; an empty disk is another node, and the name is free.
    zone.processes.start(role).unwrap();
    crate::support::eventually("the refusal of the removed identity", async || {
        let log = zone.processes.log_tail(role, 50);
        (log.contains(&identity) && log.contains("removed from the zone")).then_some(())
    })
    .await;
    zone.processes.kill(role).unwrap();
    std::fs::remove_dir_all(zone.processes.layout().data_directory(role)).unwrap();
    zone.processes.start(role).unwrap();
    let status = zone.settled().await;
    let returned = status.nodes.iter().find(|node| node.name == lost.name).unwrap();
    assert!(returned.id > lost.id, "ids are never used again");
    traffic.unharmed().await;
}

fn replicas_only(
    placements: &crate::support::zone::Placements,
) -> Vec<std::collections::BTreeMap<u64, u64>> {
    placements.values().map(|placement| placement.replicas.clone()).collect()
}
