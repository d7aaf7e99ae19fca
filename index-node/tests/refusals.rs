//! What a node refuses: orders of the past, greetings for somebody else, garbage.

mod zone;

use futures_util::stream;
use proto::v1::{
    CollectLogPositionsRequest, EnsureReplica, Fence, GroupReplica, Order, PeerFrame, PeerFrames,
    PeerHello, ProtocolVersion, RaftPayload, ReplicaPlacement, TakeOverGroup, TakeOverRequest,
    VoteAuthority, error_detail::Kind as DetailKind, frame_error, order::Kind, peer_frame::Body,
};
use runtime::{grpc::detail, seams::Environment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use zone::{
    clients::Clients,
    control_plane::{ControlPlane, ZONE},
    eventually,
    node::TestNode,
};

fn ensure(partition_id: u64, replica_id: u64) -> Order {
    let kind = Kind::Ensure(EnsureReplica { range_epoch: 1, ..EnsureReplica::default() });
    Order { partition_id, replica_id, membership_log: None, kind: Some(kind) }
}

async fn one_node(term: u64) -> (ControlPlane, TestNode) {
    let control_plane = ControlPlane::start(term).await;
    let node = TestNode::start("node-1", &control_plane.address).await;
    eventually("the node is in session", async || control_plane.is_in_session(1).then_some(()))
        .await;
    (control_plane, node)
}

fn hello() -> PeerHello {
    PeerHello {
        zone_id: ZONE.to_owned(),
        node_id: 9,
        address: "127.0.0.1:1".to_owned(),
        incarnation: 1,
        to_node_id: 1,
        protocol_version: ProtocolVersion::ProtocolVersion1.into(),
    }
}

fn greeting(hello: PeerHello) -> PeerFrames {
    PeerFrames { hello: Some(hello), ..PeerFrames::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_the_past_are_refused_also_after_a_restart() {
    let (control_plane, mut node) = one_node(5).await;
    let fence = |term, revision| Fence { zone_generation: 1, term, revision };
    control_plane.order(1, fence(5, 10), vec![ensure(1, 11)]).await;
    eventually("the replica is there", async || control_plane.report(1, 11)).await;

    let refused = async |control_plane: &ControlPlane, fence: Fence, order: Order| {
        control_plane.take_refusals();
        let partition = order.partition_id;
        control_plane.order(1, fence, vec![order]).await;
        let (_, refusal) =
            eventually("the order is refused", async || control_plane.take_refusals().pop()).await;
        assert_eq!((refusal.partition_id, refusal.fence), (partition, Some(fence)));
        refusal.message
    };
    refused(&control_plane, fence(4, 99), ensure(2, 21)).await;
    // An older revision for this partition, by the same leader; another partition does not mind.
    refused(&control_plane, fence(5, 9), ensure(1, 12)).await;
    control_plane.order(1, fence(5, 9), vec![ensure(3, 31)]).await;
    eventually("the other replica is there", async || control_plane.report(1, 31)).await;
    // One partition has one replica here, and a replica belongs to one partition.
    refused(&control_plane, fence(5, 10), ensure(1, 12)).await;
    refused(&control_plane, fence(5, 10), ensure(4, 11)).await;
    refused(&control_plane, fence(5, 10), ensure(0, 0)).await;

    node.kill().await;
    control_plane.forget_reports();
    node.start_again();
    eventually("the replica is reported again", async || control_plane.report(1, 11)).await;
    refused(&control_plane, fence(4, 99), ensure(2, 21)).await;
    refused(&control_plane, fence(5, 9), ensure(1, 12)).await;
    assert!(control_plane.report(1, 21).is_none() && control_plane.report(1, 12).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_gets_no_session() {
    let (control_plane, _node) = one_node(5).await;
    control_plane.stop();
    let deposed = control_plane.restart(4).await;
    // The node registers and greets, but no order of this member is ever taken.
    eventually("the node has tried", async || {
        deposed.remembered_fence(1).filter(|fence| fence.term == 5)
    })
    .await;
    deposed.offer(1, deposed.fence(1_000), vec![ensure(1, 11)]).await;
    let next = {
        deposed.stop();
        deposed.restart(6).await
    };
    eventually("the node is in session", async || next.is_in_session(1).then_some(())).await;
    next.order(1, next.fence(1_001), vec![ensure(2, 21)]).await;
    eventually("the newer order is carried out", async || next.report(1, 21)).await;
    assert!(next.report(1, 11).is_none(), "the deposed leader's order was carried out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_for_somebody_else_is_refused() {
    let (_control_plane, node) = one_node(5).await;
    let clients = Clients::new();
    let cases = [
        ("zone", Code::FailedPrecondition, PeerHello { zone_id: "other".into(), ..hello() }),
        ("node 2", Code::FailedPrecondition, PeerHello { to_node_id: 2, ..hello() }),
        ("protocol", Code::FailedPrecondition, PeerHello { protocol_version: 7, ..hello() }),
        ("id", Code::InvalidArgument, PeerHello { node_id: 1, ..hello() }),
        ("id", Code::InvalidArgument, PeerHello { node_id: 0, ..hello() }),
    ];
    for (word, code, hello) in cases {
        let frames = stream::iter([greeting(hello)]);
        let status = clients.peer(node.address()).raft(frames).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(word), "{status}");
    }
    let frames = stream::iter([PeerFrames::default()]);
    let status = clients.peer(node.address()).raft(frames).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_make_no_sense_are_answered_with_an_error() {
    let (control_plane, node) = one_node(5).await;
    control_plane.order(1, control_plane.fence(1), vec![ensure(1, 11)]).await;
    eventually("the replica is there", async || control_plane.report(1, 11)).await;
    let garbage = |format_version| RaftPayload { format_version, data: vec![0xff; 40].into() };
    let frame = |request_id, to_replica_id, body| PeerFrame {
        request_id,
        partition_id: 1,
        from_replica_id: 99,
        to_replica_id,
        body,
    };
    let frames = vec![
        frame(1, 11, Some(Body::AppendEntries(garbage(1)))),
        frame(2, 11, Some(Body::PreVote(garbage(9)))),
        frame(3, 11, None),
        frame(4, 11, Some(Body::VoteResponse(garbage(1)))),
        frame(5, 12, Some(Body::AppendEntries(garbage(1)))),
    ];
    let sent = frames.len();
    let first = PeerFrames { ping: 3, frames, ..greeting(hello()) };
    let clients = Clients::new();
    let requests = futures_util::StreamExt::chain(stream::iter([first]), stream::pending());
    let mut answers = clients.peer(node.address()).raft(requests).await.unwrap().into_inner();
    let mut errors = std::collections::BTreeMap::new();
    let mut pong = 0;
    while errors.len() < sent || pong == 0 {
        let message = answers.message().await.unwrap().expect("the stream goes on");
        pong = pong.max(message.pong);
        for frame in message.frames {
            let Some(Body::Error(error)) = frame.body else { panic!("an answer to {frame:?}") };
            errors.insert(frame.request_id, error.code());
        }
    }
    assert_eq!(pong, 3);
    for id in 1..=4 {
        assert_eq!(errors[&id], frame_error::Code::Malformed, "frame {id}");
    }

    // Questions about groups that are not here are answered, one by one.
    let groups = vec![
        GroupReplica { partition_id: 1, replica_id: 11 },
        GroupReplica { partition_id: 7, replica_id: 71 },
    ];
    let request = CollectLogPositionsRequest { groups };
    let positions =
        clients.peer(node.address()).collect_log_positions(request).await.unwrap().into_inner();
    assert_eq!(positions.positions.len(), 2);
    assert!(positions.positions[0].error.is_empty());
    assert!(!positions.positions[1].error.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn takeovers_of_the_past_or_without_authority_are_refused() {
    let (control_plane, node) = one_node(5).await;
    control_plane.order(1, control_plane.fence(1), vec![ensure(1, 11)]).await;
    eventually("the replica is there", async || control_plane.report(1, 11)).await;
    let group = TakeOverGroup {
        group: Some(GroupReplica { partition_id: 1, replica_id: 11 }),
        candidate_replica_id: 11,
        ..TakeOverGroup::default()
    };
    let request = TakeOverRequest {
        fence: Some(Fence { zone_generation: 1, term: 4, revision: 99 }),
        authority: VoteAuthority::Conclusion.into(),
        lost_node_id: 2,
        groups: vec![group],
        timeout_ms: 200,
    };
    let clients = Clients::new();
    let status = clients.peer(node.address()).take_over(request.clone()).await.unwrap_err();
    let Some(DetailKind::StaleFence(stale)) = detail::kind_of(&status) else {
        panic!("no detail: {status}");
    };
    assert_eq!(stale.highest.unwrap().term, 5);

    let bare = TakeOverRequest { authority: VoteAuthority::Unspecified.into(), ..request.clone() };
    let status = clients.peer(node.address()).take_over(bare).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    let many = TakeOverRequest { groups: vec![TakeOverGroup::default(); 10_001], ..request };
    let status = clients.peer(node.address()).take_over(many).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_does_no_harm() {
    let (control_plane, node) = one_node(5).await;
    let network = Environment::production().network;
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0xff; 4_096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\x04\x00\x00\x00\x00\x00garbage",
        b"",
    ];
    for bytes in garbage {
        let mut connection = network.connect(node.address()).await.unwrap();
        // The node may close before everything was written.
        let _ = connection.write_all(bytes).await;
        let _ = connection.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(zone::LIMIT, connection.read_to_end(&mut answer))
            .await
            .expect("the node closes the connection");
    }
    control_plane.order(1, control_plane.fence(1), vec![ensure(1, 11)]).await;
    eventually("the node works as before", async || control_plane.report(1, 11)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_its_disk_reserve_a_node_serves_reads_and_nothing_more() {
    let (control_plane, mut node) = one_node(5).await;
    let founder = ReplicaPlacement { replica_id: 11, node_id: 1 };
    let founded = EnsureReplica {
        range_epoch: 1,
        founders: vec![founder],
        campaign: true,
        ..EnsureReplica::default()
    };
    let order = Order { kind: Some(Kind::Ensure(founded)), ..ensure(1, 11) };
    control_plane.order(1, control_plane.fence(1), vec![order]).await;
    let mut clients = Clients::new();
    clients.put(&[node.address()], 1, "a", "one").await;

    node.stop().await;
    node.configuration.disk_reserve_bytes = u64::MAX;
    node.start_again();
    let address = node.address().to_owned();
    assert_eq!(clients.get(&[&address], 1, "a").await, Some("one".into()));
    let status = clients.put_once(&address, 1, "b").await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("reserve"), "{status}");
    assert!(matches!(detail::kind_of(&status), Some(DetailKind::RetryAfter(_))), "{status}");

    control_plane.take_refusals();
    eventually("a new replica is refused", async || {
        control_plane.offer(1, control_plane.fence(2), vec![ensure(2, 21)]).await;
        control_plane
            .take_refusals()
            .pop()
            .filter(|(_, refusal)| refusal.message.contains("reserve"))
    })
    .await;
    assert!(control_plane.report(1, 21).is_none());

    // With enough space again it takes both.
    node.stop().await;
    node.configuration.disk_reserve_bytes = 0;
    node.start_again();
    clients.put(&[&address], 1, "b", "two").await;
}
