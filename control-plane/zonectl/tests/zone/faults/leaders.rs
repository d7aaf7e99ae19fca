//! The control plane's leader dies, or is stopped, and what was under way goes on.

use proto::v1::{self, OperationState};
use zonectl::zone_process::Exit;

use crate::support::{LIMIT, shared::shared, traffic::Traffic, wire::node_id};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_killed() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let before = zone.placements().await;
    let former = zone.status().await.control_plane.leader;
    let role = zone.leader().await;
    zone.processes.kill(role).unwrap();
    zone.status_when("another leader", |status| {
        status.control_plane.leader.is_some() && status.control_plane.leader != former
    })
    .await;
    traffic.flows().await;
    zone.processes.start(role).unwrap();
    zone.settled().await;
    traffic.flows().await;
    traffic.unharmed().await;
    assert_eq!(zone.placements().await, before, "nothing has moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_end_hands_over() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let before = zone.placements().await;
    let former = zone.status().await.control_plane.leader;
    let role = zone.leader().await;
    let exit = zone.processes.terminate(role, LIMIT).await.unwrap();
    assert!(exit.is_some_and(Exit::success), "{exit:?}");
    zone.status_when("another leader", |status| {
        status.control_plane.leader.is_some() && status.control_plane.leader != former
    })
    .await;
    traffic.flows().await;
    zone.processes.start(role).unwrap();
    zone.settled().await;
    traffic.unharmed().await;
    assert_eq!(zone.placements().await, before, "nothing has moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_goes_on_under_the_next_leader_and_is_done_once() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let node = zone.busiest().await.id;
    let request = v1::DrainNodeRequest {
        node: node_id(node),
        accept_data_loss_risk: false,
        idempotency_key: "drain across leaders".into(),
    };
    let started = zone.admin().drain_node(request.clone()).await.unwrap().operation.unwrap();
    // Right away, in the middle of it.
    let role = zone.leader().await;
    zone.processes.kill(role).unwrap();
    // Who got no answer asks again, with the same key, and it is the same drain.
    let again = zone.admin().drain_node(request).await.unwrap().operation.unwrap();
    assert_eq!(again.id, started.id);
    let ended = zone.ended(started.id).await;
    assert_eq!(ended.state(), OperationState::Succeeded, "{ended:?}");
    let status = zone.status().await;
    let drained = status.nodes.iter().find(|it| it.id == node).unwrap();
    assert_eq!((drained.administrative_state, drained.replicas), ("drained", 0));
    zone.processes.start(role).unwrap();
    traffic.unharmed().await;
    let events = zone.events().await;
    let count = |kind: &str| {
        events.iter().filter(|it| it.kind == kind && it.operation_id == started.id).count()
    };
    assert_eq!((count("operation-started"), count("operation-ended")), (1, 1));
    zone.uncordon(node).await;
    zone.even_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_killed_one_after_the_other() {
    let mut zone = shared().await;
    let traffic = Traffic::start(&zone).await;
    let mut terms = vec![zone.status().await.control_plane.term];
    for _ in 0..3 {
        let role = zone.leader().await;
        zone.processes.kill(role).unwrap();
        let before = *terms.last().unwrap();
        let status =
            zone.status_when("the next leader", |status| status.control_plane.term > before).await;
        terms.push(status.control_plane.term);
        zone.processes.start(role).unwrap();
    }
    zone.settled().await;
    traffic.unharmed().await;
    let events = zone.events().await;
    assert!(events.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
}
