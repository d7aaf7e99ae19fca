//! `PeerService`: what nodes, and the control plane, ask of a node.

use futures_util::{StreamExt, stream};
use proto::v1::{
    self, CollectLogPositionsRequest, GetSnapshotProgressRequest, GetSnapshotProgressResponse,
    GroupReplica, PeerFrame, PeerFrames, PeerHello, ProtocolVersion, RaftPayload, SnapshotChunk,
    SnapshotHeader, SnapshotTrailer, TakeOverGroup, TakeOverRequest, VoteAuthority,
    error_detail::Kind, frame_error, peer_frame::Body, snapshot_chunk, take_over_result::Outcome,
};
use tonic::Code;

use crate::support::{
    LIMIT,
    shared::shared,
    spot::Spot,
    wire::{detail_of, refused},
    zone::TestZone,
};

/// The replica of the partition that leads.
fn leading(spot: &Spot) -> GroupReplica {
    let node = spot.partition.leader_node_id;
    let replica = spot.partition.replicas.iter().find(|it| it.node_id == node).unwrap();
    GroupReplica { partition_id: spot.partition.id, replica_id: replica.replica_id }
}

async fn hello(zone: &TestZone, spot: &Spot) -> PeerHello {
    PeerHello {
        zone_id: zone.status().await.zone_id.unwrap(),
        node_id: 4_711,
        address: String::new(),
        incarnation: 1,
        to_node_id: spot.partition.leader_node_id,
        protocol_version: ProtocolVersion::ProtocolVersion1.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_positions_are_collected() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"peer\0").await;
    let group = leading(&spot);
    let absent = GroupReplica { partition_id: group.partition_id, replica_id: 999_999 };
    let request = CollectLogPositionsRequest { groups: vec![group, absent] };
    let mut peer = spot.wire.peer(&spot.leader);
    let answer = peer.collect_log_positions(request).await.unwrap().into_inner();
    let [position, missing] = &answer.positions[..] else { panic!("{answer:?}") };
    assert_eq!((position.group, &*position.error), (Some(group), ""));
    assert_eq!(position.leader_replica_id, group.replica_id);
    assert!(position.vote_committed && position.last_log.is_some(), "{position:?}");
    assert_eq!(position.voter_replica_ids.len(), 3);
    assert!(!position.leader_lost);
    assert_eq!(missing.group, Some(absent));
    assert!(missing.error.contains("999999"), "{missing:?}");

    let many = CollectLogPositionsRequest { groups: vec![group; 10_001] };
    refused(peer.collect_log_positions(many).await, Code::InvalidArgument, &["10001", "10000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_of_a_led_group_changes_nothing() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"peer\0").await;
    let before = zone.placements().await;
    let term = zone.status().await.control_plane.term;
    let order = |group: GroupReplica, candidate_replica_id| TakeOverRequest {
        fence: Some(v1::Fence { zone_generation: 1, term, revision: 1 }),
        authority: VoteAuthority::Conclusion.into(),
        // A node that does not lead: whoever leads is alive.
        lost_node_id: 4_711,
        groups: vec![TakeOverGroup {
            group: Some(group),
            candidate_replica_id,
            membership_log: None,
            elect: false,
        }],
        timeout_ms: 2_000,
    };
    let outcome = async |address: &str, request| {
        let answer = spot.wire.peer(address).take_over(request).await.unwrap().into_inner();
        assert_eq!(answer.results.len(), 1);
        answer.results[0].clone()
    };
    let group = leading(&spot);
    let led = outcome(&spot.leader, order(group, group.replica_id)).await;
    // Without the membership that it is based on, the order is older than the group.
    assert_eq!(led.outcome(), Outcome::Refused, "{led:?}");
    assert!(led.message.contains("membership"), "{led:?}");

    let collect = CollectLogPositionsRequest { groups: vec![group] };
    let answer = spot.wire.peer(&spot.leader).collect_log_positions(collect).await.unwrap();
    let membership_log = answer.into_inner().positions[0].membership_log;
    let based = |mut request: TakeOverRequest| {
        request.groups[0].membership_log = membership_log;
        request
    };
    let led = outcome(&spot.leader, based(order(group, group.replica_id))).await;
    assert_eq!(led.outcome(), Outcome::Leading, "{led:?}");

    let node = zone.status().await.nodes.into_iter().find(|it| it.address == spot.followers[0]);
    let node = node.unwrap().id;
    let other = spot.partition.replicas.iter().find(|it| it.node_id == node).unwrap();
    let other = GroupReplica { replica_id: other.replica_id, ..group };
    let elsewhere = outcome(&spot.followers[0], based(order(other, other.replica_id))).await;
    assert_eq!(elsewhere.outcome(), Outcome::LedElsewhere, "{elsewhere:?}");
    assert_eq!(elsewhere.leader_replica_id, group.replica_id);
    let kept = outcome(&spot.leader, based(order(group, other.replica_id))).await;
    assert_eq!(kept.outcome(), Outcome::LedElsewhere, "a leader with a quorum stays: {kept:?}");
    let unknown = GroupReplica { replica_id: 999_999, ..group };
    let missing = outcome(&spot.leader, order(unknown, 999_999)).await;
    assert_eq!(missing.outcome(), Outcome::Refused, "{missing:?}");
    assert_eq!(zone.placements().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peers_stream_answers_pings_and_frames() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"peer\0").await;
    let group = leading(&spot);
    let hello = hello(&zone, &spot).await;
    let garbage = RaftPayload { format_version: 1, data: vec![0xff; 40].into() };
    let frame = |request_id, to_replica_id| PeerFrame {
        request_id,
        partition_id: group.partition_id,
        from_replica_id: 888_888,
        to_replica_id,
        body: Some(Body::AppendEntries(garbage.clone())),
    };
    let first = PeerFrames {
        hello: Some(hello),
        frames: vec![frame(1, group.replica_id), frame(2, 999_999)],
        ping: 7,
        pong: 0,
    };
    let requests = stream::iter([first]).chain(stream::pending());
    let mut answers = spot.wire.peer(&spot.leader).raft(requests).await.unwrap().into_inner();
    let reading = async {
        let (mut pong, mut errors) = (0, std::collections::BTreeMap::new());
        while pong == 0 || errors.len() < 2 {
            let message = answers.message().await.unwrap().expect("the stream goes on");
            pong = pong.max(message.pong);
            for frame in message.frames {
                let Some(Body::Error(error)) = frame.body else { panic!("{frame:?}") };
                errors.insert(frame.request_id, error);
            }
        }
        (pong, errors)
    };
    let (pong, errors) = tokio::time::timeout(LIMIT, reading).await.expect("answers");
    assert_eq!(pong, 7);
    assert_eq!(errors[&1].code(), frame_error::Code::Malformed, "{errors:?}");
    assert!(!errors[&2].message.is_empty(), "{errors:?}");
    spot.put_ok(b"peer\0after", "unharmed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_for_somebody_else_is_refused() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"peer\0").await;
    let hello = hello(&zone, &spot).await;
    let own = hello.to_node_id;
    for (code, word, hello) in [
        (
            Code::FailedPrecondition,
            "zone",
            PeerHello { zone_id: "elsewhere".into(), ..hello.clone() },
        ),
        (
            Code::FailedPrecondition,
            "this is node",
            PeerHello { to_node_id: own + 1, ..hello.clone() },
        ),
        (
            Code::FailedPrecondition,
            "protocol version 7",
            PeerHello { protocol_version: 7, ..hello.clone() },
        ),
        (Code::InvalidArgument, "another node", PeerHello { node_id: own, ..hello }),
    ] {
        let first = PeerFrames { hello: Some(hello), ..PeerFrames::default() };
        let answer = spot.wire.peer(&spot.leader).raft(stream::iter([first])).await;
        let status = answer.err().expect(word);
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(word), "{status}");
    }
    let silent = stream::iter([PeerFrames::default()]);
    let status = spot.wire.peer(&spot.leader).raft(silent).await.err().expect("no greeting");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_do_not_belong_here_are_refused() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"peer\0").await;
    let before = zone.placements().await;
    spot.put_ok(b"peer\0kept", "kept").await;
    let group = leading(&spot);
    let header = SnapshotHeader {
        zone_id: zone.status().await.zone_id.unwrap(),
        partition_id: group.partition_id,
        from_replica_id: 888_888,
        to_replica_id: group.replica_id,
        format_version: 1,
        vote: vec![0xff; 9].into(),
        meta: vec![0xff; 9].into(),
        group_state: vec![0xff; 9].into(),
        total_bytes: 0,
        transfer_id: 7,
        items_before: 0,
    };
    let chunk = |body| SnapshotChunk { body: Some(body) };
    let head = |header| chunk(snapshot_chunk::Body::Header(header));
    let trailer = chunk(snapshot_chunk::Body::Trailer(SnapshotTrailer::default()));
    let foreign = SnapshotHeader { zone_id: "elsewhere".into(), ..header.clone() };
    let unknown = SnapshotHeader { to_replica_id: 999_999, ..header.clone() };
    let newer = SnapshotHeader { format_version: 99, ..header.clone() };
    let rest = SnapshotHeader { items_before: 3, ..header.clone() };
    let mut peer = spot.wire.peer(&spot.leader);
    for (code, word, chunks) in [
        (Code::Aborted, "ended before", vec![]),
        (Code::InvalidArgument, "header", vec![trailer.clone()]),
        (Code::FailedPrecondition, "elsewhere", vec![head(foreign), trailer.clone()]),
        (Code::InvalidArgument, "99", vec![head(newer), trailer.clone()]),
        (Code::FailedPrecondition, "not here", vec![head(rest), trailer.clone()]),
        (Code::InvalidArgument, "", vec![head(header), trailer.clone()]),
    ] {
        let answer = peer.install_snapshot(stream::iter(chunks)).await;
        refused(answer, code, &[word]);
    }
    let answer = peer.install_snapshot(stream::iter([head(unknown), trailer])).await;
    let status = refused(answer, Code::NotFound, &["999999"]);
    let Kind::UnknownReplica(replica) = detail_of(&status) else { panic!("{status}") };
    assert_eq!((replica.replica_id, replica.destroyed), (999_999, false));
    let asked = GetSnapshotProgressRequest {
        zone_id: zone.status().await.zone_id.unwrap(),
        partition_id: group.partition_id,
        from_replica_id: 888_888,
        to_replica_id: group.replica_id,
        transfer_id: 7,
    };
    let nothing = peer.get_snapshot_progress(asked.clone()).await.expect("it says so");
    assert_eq!(nothing.into_inner(), GetSnapshotProgressResponse::default());
    let foreign = GetSnapshotProgressRequest { zone_id: "elsewhere".into(), ..asked.clone() };
    let answer = peer.get_snapshot_progress(foreign).await;
    refused(answer, Code::FailedPrecondition, &["elsewhere"]);
    let unknown = GetSnapshotProgressRequest { to_replica_id: 999_999, ..asked };
    refused(peer.get_snapshot_progress(unknown).await, Code::NotFound, &["999999"]);
    assert_eq!(zone.placements().await, before);
    assert!(spot.item(b"peer\0kept").await.is_some());
}
