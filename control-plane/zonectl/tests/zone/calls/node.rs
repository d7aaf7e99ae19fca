//! `NodeService`: an index node's part, played by hand.

use proto::v1::{
    self, Heartbeat, NodeCapacity, ProtocolVersion, RegisterRequest, RegisterResponse,
    SessionHello, SessionOrder, SessionReport,
};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming, transport::Channel};

use crate::support::{
    LIMIT,
    shared::shared,
    wire::{Wire, leader_hint, node_id, refused},
};

type Node = v1::node_service_client::NodeServiceClient<Channel>;

fn visitor(identity: &str) -> RegisterRequest {
    RegisterRequest {
        protocol_version: ProtocolVersion::ProtocolVersion1.into(),
        zone_id: String::new(),
        identity: identity.to_owned(),
        node_id: 0,
        incarnation: 1,
        name: "visitor".into(),
        // Nobody listens there.
        address: "127.0.0.1:1".into(),
        fault_domain: "rack-z".into(),
        capacity: Some(NodeCapacity { stored_bytes: 1 << 30, cores: 1 }),
        software_version: "0.0.0".into(),
    }
}

fn hello(known: &RegisterResponse, incarnation: u64) -> SessionReport {
    let hello = SessionHello { node_id: known.node_id, incarnation, highest_fence: None };
    SessionReport { hello: Some(hello), full_report_end: true, ..SessionReport::default() }
}

fn heartbeat(sequence: u64) -> SessionReport {
    let heartbeat = Heartbeat { sequence, disk_free_bytes: 1 << 30, ..Heartbeat::default() };
    SessionReport { heartbeat: Some(heartbeat), ..SessionReport::default() }
}

async fn session(
    node: &mut Node,
    first: SessionReport,
) -> Result<(Sender<SessionReport>, Streaming<SessionOrder>), Status> {
    let (reports, outgoing) = mpsc::channel(16);
    reports.send(first).await.unwrap();
    let orders = node.session(ReceiverStream::new(outgoing)).await.map(Response::into_inner)?;
    Ok((reports, orders))
}

/// Reads until the session ends, and says with which status.
async fn end_of(mut orders: Streaming<SessionOrder>) -> Status {
    let reading = async {
        loop {
            match orders.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the session ended without a word"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("the session ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_registers_holds_a_session_and_is_removed() {
    let zone = shared().await;
    let wire = Wire::new();
    let identity = wire.environment.random_uuid().to_string();
    let leader = zone.address(zone.leader().await);
    let follower = zone.address(zone.a_follower().await);
    let answer = wire.node(&follower).register(visitor(&identity)).await;
    let status = refused(answer, Code::FailedPrecondition, &["does not lead"]);
    assert_eq!(leader_hint(&status).address, leader);
    let status = session(&mut wire.node(&follower), SessionReport::default()).await.unwrap_err();
    assert_eq!(leader_hint(&status).address, leader);

    let mut node = wire.node(&leader);
    let known = node.register(visitor(&identity)).await.unwrap().into_inner();
    assert_eq!(Some(known.zone_id.clone()), zone.status().await.zone_id);
    assert!(known.node_id > 0 && known.heartbeat_interval_ms > 0 && known.session_timeout_ms > 0);
    let again = node.register(visitor(&identity)).await.unwrap().into_inner();
    assert_eq!(again, known, "to register is idempotent");

    // A session needs a hello, of the incarnation that registered.
    let status = session(&mut node, heartbeat(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = session(&mut node, hello(&known, 2)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("register first"), "{status}");
    let stranger = RegisterResponse { node_id: 4_711, ..known.clone() };
    let status = session(&mut node, hello(&stranger, 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");

    let (reports, mut orders) = session(&mut node, hello(&known, 1)).await.unwrap();
    let first = orders.message().await.unwrap().expect("a welcome first");
    let fence = first.welcome.expect("a welcome first").fence.unwrap();
    assert_eq!(fence.term, zone.status().await.control_plane.term);
    reports.send(heartbeat(41)).await.unwrap();
    let acknowledged = async {
        loop {
            let message = orders.message().await.unwrap().expect("the session goes on");
            if let Some(acknowledgement) = message.acknowledgement {
                return acknowledgement.sequence;
            }
        }
    };
    assert_eq!(tokio::time::timeout(LIMIT, acknowledged).await.expect("an answer"), 41);
    zone.status_when("the visitor up", |status| {
        status.nodes.iter().any(|it| it.id == known.node_id && it.state == "up")
    })
    .await;

    // A newer session closes the older one, a second hello or nonsense its own.
    let (newer, newer_orders) = session(&mut node, hello(&known, 1)).await.unwrap();
    assert_eq!(end_of(orders).await.code(), Code::Aborted);
    newer.send(hello(&known, 1)).await.unwrap();
    let status = end_of(newer_orders).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let (nonsense, nonsense_orders) = session(&mut node, hello(&known, 1)).await.unwrap();
    let report = v1::ReplicaReport { partition_id: 1, ..v1::ReplicaReport::default() };
    let report = SessionReport { replicas: vec![report], ..SessionReport::default() };
    nonsense.send(report).await.unwrap();
    let status = end_of(nonsense_orders).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    // Its session has broken and nobody answers at its address: it is down, and can be forgotten.
    zone.status_when("the visitor down", |status| {
        status.nodes.iter().any(|it| it.id == known.node_id && it.state == "down")
    })
    .await;
    let removal = v1::RemoveNodeRequest { node: node_id(known.node_id), ..Default::default() };
    zone.admin().remove_node(removal).await.unwrap();
    let status = zone.settled().await;
    assert!(status.nodes.iter().all(|it| it.id != known.node_id));
    let answer = node.register(visitor(&identity)).await;
    refused(answer, Code::FailedPrecondition, &["removed", "never accepted again"]);
}
