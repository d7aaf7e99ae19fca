//! How index nodes join the zone, and how they are judged.

use crate::support::{
    eventually,
    node::{Identity, leader_hint, register},
    zone::TestZone,
};
use proto::v1;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_registers_once_and_is_known_again() {
    let zone = TestZone::members(1);
    zone.init(1, 1, 0).await.unwrap();
    let mut identity = Identity::new("alpha", "rack-1");
    let (first, _) = register(&zone.addresses(), &identity).await;
    assert_eq!(first.node_id, 1);
    assert!(first.heartbeat_interval_ms > 0 && first.session_timeout_ms > 0);
    // Its answer was lost: it asks again as if for the first time.
    let (again, _) = register(&zone.addresses(), &identity).await;
    assert_eq!(again, first);
    identity.zone_id = first.zone_id.clone();
    identity.node_id = first.node_id;
    identity.incarnation = 2;
    identity.address = crate::support::free_address();
    let (restarted, _) = register(&zone.addresses(), &identity).await;
    assert_eq!(restarted, first);
    let nodes = zone.admin().await.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner();
    assert_eq!(nodes.nodes.len(), 1);
    assert_eq!(nodes.nodes[0].address, identity.address);
    assert_eq!(nodes.nodes[0].incarnation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_that_cannot_be_are_refused() {
    let zone = TestZone::members(1);
    zone.init(1, 1, 0).await.unwrap();
    let mut alpha = Identity::new("alpha", "rack-1");
    let (known, _) = register(&zone.addresses(), &alpha).await;
    (alpha.zone_id, alpha.node_id, alpha.incarnation) = (known.zone_id, known.node_id, 7);
    register(&zone.addresses(), &alpha).await;

    let another_zone = uuid::Uuid::from_u128(7).to_string();
    type Spoil = Box<dyn Fn(&mut v1::RegisterRequest)>;
    let cases: Vec<(Code, &str, Spoil)> = vec![
        (
            Code::FailedPrecondition,
            "belongs to zone",
            Box::new(move |it| {
                it.zone_id = another_zone.clone();
            }),
        ),
        (
            Code::FailedPrecondition,
            "identity",
            Box::new(|it| {
                it.identity = uuid::Uuid::from_u128(9).to_string();
            }),
        ),
        (Code::FailedPrecondition, "node id 99", Box::new(|it| it.node_id = 99)),
        (Code::FailedPrecondition, "incarnation 6", Box::new(|it| it.incarnation = 6)),
        (Code::FailedPrecondition, "protocol version", Box::new(|it| it.protocol_version = 2)),
        (Code::InvalidArgument, "incarnation", Box::new(|it| it.incarnation = 0)),
        (Code::InvalidArgument, "UUID", Box::new(|it| it.identity = "me".into())),
        (Code::InvalidArgument, "UUID", Box::new(|it| it.zone_id = "here".into())),
        (Code::InvalidArgument, "name", Box::new(|it| it.name = "Alpha!".into())),
        (Code::InvalidArgument, "fault_domain", Box::new(|it| it.fault_domain = String::new())),
        (Code::InvalidArgument, "address", Box::new(|it| it.address = "here".into())),
        (Code::InvalidArgument, "stored_bytes", Box::new(|it| it.capacity = None)),
    ];
    let client = zone.members[0].nodes();
    for (code, expected, spoil) in cases {
        let mut request = alpha.registration();
        spoil(&mut request);
        let refused = client.clone().register(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{expected}: {refused:?}");
        assert!(refused.message().contains(expected), "{expected}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_one_identity() {
    let zone = TestZone::start(1, 1, 1, 1).await;
    zone.healthy().await;
    let thief = Identity { name: "node-1".into(), ..Identity::new("thief", "rack-9") };
    let refused = zone.members[0].nodes().register(thief.registration()).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_needs_a_registration_and_one_hello() {
    let zone = TestZone::members(1);
    zone.init(1, 1, 0).await.unwrap();
    let mut identity = Identity::new("alpha", "rack-1");
    let (known, _) = register(&zone.addresses(), &identity).await;
    identity.node_id = known.node_id;
    let hello = |node_id, incarnation| v1::SessionReport {
        hello: Some(v1::SessionHello { node_id, incarnation, highest_fence: None }),
        full_report_end: true,
        ..Default::default()
    };
    let open = |reports: Vec<v1::SessionReport>| {
        let mut client = zone.members[0].nodes();
        async move {
            let (sender, receiver) = tokio::sync::mpsc::channel(8);
            for report in reports {
                sender.send(report).await.unwrap();
            }
            let orders = client.session(ReceiverStream::new(receiver)).await?;
            Ok::<_, tonic::Status>((sender, orders.into_inner()))
        }
    };
    for (code, reports) in [
        (Code::FailedPrecondition, vec![hello(known.node_id, 2)]),
        (Code::FailedPrecondition, vec![hello(99, 1)]),
        (Code::InvalidArgument, vec![v1::SessionReport::default()]),
    ] {
        let refused = open(reports).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }

    let (sender, mut orders) = open(vec![hello(known.node_id, 1)]).await.unwrap();
    let welcome = orders.message().await.unwrap().unwrap().welcome.expect("a welcome first");
    assert!(welcome.fence.unwrap().term > 0);
    let heartbeat = v1::Heartbeat { sequence: 41, ..Default::default() };
    sender
        .send(v1::SessionReport { heartbeat: Some(heartbeat), ..Default::default() })
        .await
        .unwrap();
    loop {
        let message = orders.message().await.unwrap().unwrap();
        if let Some(acknowledgement) = message.acknowledgement {
            assert_eq!(acknowledgement.sequence, 41);
            break;
        }
    }

    // A newer session of the same node closes the older one.
    let (newer, mut newer_orders) = open(vec![hello(known.node_id, 1)]).await.unwrap();
    newer_orders.message().await.unwrap().unwrap();
    let closed = loop {
        if let Err(closed) = orders.message().await {
            break closed;
        }
    };
    assert_eq!(closed.code(), Code::Aborted, "{closed:?}");

    // Garbage ends a session with a word.
    let garbage = v1::ReplicaReport { partition_id: 0, ..Default::default() };
    newer.send(v1::SessionReport { replicas: vec![garbage], ..Default::default() }).await.unwrap();
    let closed = loop {
        if let Err(closed) = newer_orders.message().await {
            break closed;
        }
    };
    assert_eq!(closed.code(), Code::InvalidArgument, "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_says_who_leads() {
    let zone = TestZone::members(3);
    zone.init(1, 1, 0).await.unwrap();
    let leader = zone.leader().await;
    let follower = (leader + 1) % 3;
    let identity = Identity::new("alpha", "rack-1");
    let hint = eventually("a hint", || {
        let mut client = zone.members[follower].nodes();
        let registration = identity.registration();
        async move { leader_hint(&client.register(registration).await.unwrap_err()) }
    })
    .await;
    assert_eq!(hint.address, zone.members[leader].address);
    let refused = zone.members[follower].admin().list_nodes(v1::ListNodesRequest {}).await;
    assert_eq!(leader_hint(&refused.unwrap_err()).unwrap().address, hint.address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_down_at_once_and_up_again_when_it_returns() {
    let mut zone = TestZone::start(1, 3, 1, 3).await;
    zone.healthy().await;
    let victim = zone.nodes[1].id();
    let killed = std::time::Instant::now();
    zone.nodes[1].kill();
    let state = |status: &v1::ZoneStatus| {
        status.nodes.iter().find(|node| node.id == victim).map(|node| node.state())
    };
    zone.status_when("the node down", |status| state(status) == Some(v1::NodeState::Down)).await;
    // A refused dial is evidence; the patience for mere silence is ten seconds.
    assert!(killed.elapsed() < std::time::Duration::from_secs(5), "{:?}", killed.elapsed());
    zone.nodes[1].restart();
    zone.healthy().await;
}
