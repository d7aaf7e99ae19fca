//! Operators' commands that cannot be carried out, now or ever.

use proto::v1::{self, error_detail::Kind};
use tonic::Code;
use zonectl::zone_process::Role;

use crate::support::{
    shared::{NODES, shared},
    wire::{Wire, detail_of, node_id, node_name, refused},
    zone::{Shape, TestZone},
};

#[tokio::test(flavor = "multi_thread")]
async fn moves_and_transfers_that_cannot_be() {
    let zone = shared().await;
    let before = zone.fingerprint().await;
    let placements = zone.placements().await;
    let (partition_id, placement) = placements.iter().next().unwrap();
    let partition_id = *partition_id;
    let holders: Vec<u64> = placement.replicas.values().copied().collect();
    let stranger = (1..=u64::from(NODES)).find(|node| !holders.contains(node)).unwrap();
    let wire = Wire::new();
    let mut admin = wire.admin(&zone.address(zone.leader().await));
    let both = Some(v1::NodeReference { id: holders[0], name: "node-1".into() });

    let transfer = |partition_id, to| v1::TransferLeaderRequest {
        partition_id,
        to,
        idempotency_key: String::new(),
    };
    let to_stranger = format!("node {stranger} holds no voting replica");
    for (code, words, request) in [
        (
            Code::InvalidArgument,
            &[&*to_stranger, "choose one of"][..],
            transfer(partition_id, node_id(stranger)),
        ),
        (Code::InvalidArgument, &["partition_id is 0"], transfer(0, node_id(1))),
        (Code::NotFound, &["no partition 4711"], transfer(4_711, node_id(1))),
        (Code::NotFound, &["no node 4711"], transfer(partition_id, node_id(4_711))),
        (Code::NotFound, &["\"nobody\""], transfer(partition_id, node_name("nobody"))),
        (Code::InvalidArgument, &["to is empty"], transfer(partition_id, None)),
        (Code::InvalidArgument, &["not both"], transfer(partition_id, both.clone())),
    ] {
        refused(admin.transfer_leader(request).await, code, words);
    }

    let movement = |from, to| v1::MoveReplicaRequest {
        partition_id,
        from,
        to,
        idempotency_key: String::new(),
    };
    let (holder, other) = (node_id(holders[0]), node_id(holders[1]));
    let from_stranger = format!("node {stranger} holds no replica");
    let to_holder = format!("node {} holds replica", holders[1]);
    for (code, words, request) in [
        (Code::NotFound, &["no node 4711"][..], movement(holder.clone(), node_id(4_711))),
        (Code::NotFound, &["no node 4711"], movement(node_id(4_711), node_id(stranger))),
        (Code::InvalidArgument, &[&to_holder, "already"], movement(holder.clone(), other)),
        (Code::InvalidArgument, &["already"], movement(holder.clone(), holder.clone())),
        (Code::InvalidArgument, &[&from_stranger], movement(node_id(stranger), holder.clone())),
        (Code::InvalidArgument, &["from is empty"], movement(None, node_id(stranger))),
        (Code::InvalidArgument, &["not both"], movement(holder.clone(), both)),
    ] {
        refused(admin.move_replica(request).await, code, words);
    }
    let unknown =
        v1::MoveReplicaRequest { partition_id: 4_711, ..movement(holder, node_id(stranger)) };
    refused(admin.move_replica(unknown).await, Code::NotFound, &["no partition 4711"]);
    assert_eq!(zone.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_commands_and_questions_that_cannot_be() {
    let zone = shared().await;
    let before = zone.fingerprint().await;
    let wire = Wire::new();
    let mut admin = wire.admin(&zone.address(zone.leader().await));
    let key = "k".repeat(65);
    let drain =
        v1::DrainNodeRequest { node: node_id(1), idempotency_key: key, ..Default::default() };
    refused(admin.drain_node(drain).await, Code::InvalidArgument, &["idempotency", "64 bytes"]);
    let drain = v1::DrainNodeRequest { node: node_id(4_711), ..Default::default() };
    refused(admin.drain_node(drain).await, Code::NotFound, &["no node 4711"]);
    let uncordon = v1::UncordonNodeRequest { node: node_name("nobody"), ..Default::default() };
    refused(admin.uncordon_node(uncordon).await, Code::NotFound, &["nobody"]);
    let remove = v1::RemoveNodeRequest { node: node_id(1), ..Default::default() };
    let words = ["node 1 is up", "stop its process first"];
    refused(admin.remove_node(remove).await, Code::FailedPrecondition, &words);
    let brake = |duration_ms, reason: &str| {
        let (reason, idempotency_key) = (reason.to_owned(), String::new());
        v1::OverrideBrakeRequest { duration_ms, reason, idempotency_key }
    };
    for (code, words, request) in [
        (Code::FailedPrecondition, "the brake is not engaged", brake(1_000, "why")),
        (Code::FailedPrecondition, "the brake is not engaged", brake(0, "")),
        (Code::InvalidArgument, "at most 3600000 ms", brake(3_600_001, "why")),
        (Code::InvalidArgument, "reason \"\"", brake(1_000, "")),
        (Code::InvalidArgument, "control characters", brake(1_000, "a\u{1b}[2J")),
        (Code::InvalidArgument, "256 bytes", brake(1_000, &"x".repeat(257))),
    ] {
        refused(admin.override_brake(request).await, code, &[words]);
    }
    let cancel = v1::CancelOperationRequest { id: 4_711 };
    refused(admin.cancel_operation(cancel).await, Code::NotFound, &["no operation 4711"]);
    let watch = v1::WatchOperationRequest { id: 4_711 };
    let status = admin.watch_operation(watch).await.err().expect("refused");
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let list = v1::ListPartitionsRequest { limit: 10_001, ..Default::default() };
    refused(admin.list_partitions(list).await, Code::InvalidArgument, &["10001", "10000"]);
    let list = v1::ListPartitionsRequest { node: node_id(4_711), ..Default::default() };
    refused(admin.list_partitions(list).await, Code::NotFound, &["no node 4711"]);
    let list = v1::ListOperationsRequest { limit: 1_001, ..Default::default() };
    refused(admin.list_operations(list).await, Code::InvalidArgument, &["1001", "1000"]);
    let get = v1::GetPartitionRequest { partition_id: 4_711 };
    refused(admin.get_partition(get).await, Code::NotFound, &["no partition 4711"]);
    let get = v1::GetNodeRequest { node: None };
    refused(admin.get_node(get).await, Code::InvalidArgument, &["node is empty"]);
    assert_eq!(zone.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_is_no_target() {
    let zone = shared().await;
    let status = zone.status().await;
    // The node with the fewest replicas is drained soonest.
    let drained = status.nodes.iter().min_by_key(|node| node.replicas).unwrap().id;
    let operation = zone.drain(drained).await.unwrap();
    zone.succeeded(operation).await;
    let before = zone.fingerprint().await;
    let wire = Wire::new();
    let mut admin = wire.admin(&zone.address(zone.leader().await));
    let placements = zone.placements().await;
    let (partition_id, placement) = placements.iter().next().unwrap();
    let movement = v1::MoveReplicaRequest {
        partition_id: *partition_id,
        from: node_id(*placement.replicas.values().next().unwrap()),
        to: node_id(drained),
        idempotency_key: String::new(),
    };
    let words = [&*format!("node {drained}"), "drain"];
    refused(admin.move_replica(movement).await, Code::FailedPrecondition, &words);
    let drain = v1::DrainNodeRequest { node: node_id(drained), ..Default::default() };
    refused(admin.drain_node(drain).await, Code::FailedPrecondition, &["drained already"]);
    assert_eq!(zone.fingerprint().await, before);
    zone.uncordon(drained).await;
    zone.even_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_nodes_are_no_targets_and_no_drain_breaks_g7() {
    let shape = Shape { index_nodes: 4, partitions: 4, ..Shape::default() };
    let mut zone = TestZone::start(shape).await;
    let placements = zone.placements().await;
    let (partition_id, placement) = placements.iter().next().unwrap();
    let (partition_id, leader) = (*partition_id, placement.leader);
    let follower = *placement.replicas.values().find(|node| **node != leader).unwrap();
    let held = |node: &u64| placement.replicas.values().any(|it| it == node);
    let spare = (1..=4).find(|node| !held(node)).unwrap();
    let status = zone.status().await;
    let role_of = |zone: &TestZone, id: u64| -> Role {
        zone.role(status.nodes.iter().find(|node| node.id == id).unwrap())
    };

    // With the fourth node dead, the three that are left are all needed.
    zone.processes.kill(role_of(&zone, spare)).unwrap();
    let is_down = |id: u64| {
        move |status: &zonectl::forms::StatusForm| {
            let down = status.nodes.iter().any(|node| node.id == id && node.state == "down");
            down && status.partitions.unavailable == 0 && status.operations.running == 0
        }
    };
    zone.status_when("the spare down", is_down(spare)).await;
    let before = zone.fingerprint().await;
    let wire = Wire::new();
    let mut admin = wire.admin(&zone.address(zone.leader().await));
    let movement = |to| v1::MoveReplicaRequest {
        partition_id,
        from: node_id(follower),
        to: node_id(to),
        idempotency_key: String::new(),
    };
    let words = [&*format!("node {spare}"), "down"];
    refused(admin.move_replica(movement(spare)).await, Code::FailedPrecondition, &words);
    let drain = v1::DrainNodeRequest { node: node_id(leader), ..Default::default() };
    let words = ["cannot be drained safely", "--accept-data-loss-risk"];
    let status = refused(admin.drain_node(drain).await, Code::FailedPrecondition, &words);
    let Kind::GuaranteeAtRisk(risk) = detail_of(&status) else { panic!("{status}") };
    assert_eq!(risk.guarantee, "G7");
    assert!(risk.partition_ids.contains(&partition_id), "{risk:?}");
    assert_eq!(zone.fingerprint().await, before);
    let name = zone.status().await.nodes.into_iter().find(|it| it.id == leader).unwrap().name;
    let zonectl = crate::support::program::Zonectl::new(&zone.endpoints());
    let drain = zonectl.run(&["node", "drain", &name]).await;
    drain.refused(1, &["cannot be drained safely", "--accept-data-loss-risk"]);
    assert!(!drain.stderr.contains("G7"), "a word of ours, not of operators: {drain:?}");

    // An explicit word is obeyed, and even then no majority is given up on the way.
    let accepted = zonectl.json(&["node", "drain", &name, "--accept-data-loss-risk"]).await;
    assert_eq!(accepted["kind"], "drain");
    let others = status_nodes_up(&zone, leader).await;
    assert!(others >= 2, "{others}");
    let spot = crate::support::spot::Spot::of(&zone, b"after\0").await;
    spot.put_ok(b"after\0drain", "served").await;
    zonectl.json(&["node", "uncordon", &name]).await;

    // A leadership is not handed to a node that is dead.
    let partition = zone.placements().await;
    let dead = partition.iter().find(|(_, it)| {
        it.leader != 0 && it.leader != spare && it.replicas.values().any(|node| *node == spare)
    });
    if let Some((partition_id, _)) = dead {
        let transfer = v1::TransferLeaderRequest {
            partition_id: *partition_id,
            to: node_id(spare),
            idempotency_key: String::new(),
        };
        let words = [&*format!("node {spare}"), "down"];
        refused(admin.transfer_leader(transfer).await, Code::FailedPrecondition, &words);
    }
    // The leaderships that were drained may be on their way back.
    zone.status_when("partitions that are all led", |it| it.partitions.unavailable == 0).await;
}

async fn status_nodes_up(zone: &TestZone, but: u64) -> usize {
    let status = zone.status().await;
    status.nodes.iter().filter(|node| node.id != but && node.state == "up").count()
}
