//! `MemberService`: what members ask each other.

use std::collections::BTreeSet;

use proto::v1::{
    self, MemberRaftRequest, MemberSnapshotChunk, member_raft_request::Kind,
    member_snapshot_chunk::Body,
};
use tonic::Code;
use zonectl::zone_process::Role;

use crate::support::{
    eventually,
    shared::shared,
    wire::{Wire, refused},
    zone::TestZone,
};

#[tokio::test(flavor = "multi_thread")]
async fn members_say_who_they_are() {
    let zone = shared().await;
    let wire = Wire::new();
    let status = zone.status().await;
    let mut ids = BTreeSet::new();
    for address in zone.endpoints() {
        let answer = wire.member(&address).identify(v1::IdentifyRequest {}).await.unwrap();
        let identity = answer.into_inner();
        assert!(identity.initialized);
        assert_eq!(Some(identity.zone_id), status.zone_id);
        assert_eq!(identity.address, address);
        ids.insert(identity.member_id);
    }
    let known: BTreeSet<u64> = status.control_plane.members.iter().map(|it| it.id).collect();
    assert_eq!(ids, known);
    assert!(ids.iter().all(|id| (1..1 << 53).contains(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_zone_says_so() {
    let mut zone = TestZone::prepare(1, 1).await;
    zone.processes.start(Role::Member(0)).unwrap();
    let mut member = Wire::new().member(&zone.endpoints()[0]);
    let identity = eventually("an answer", async || {
        Some(member.identify(v1::IdentifyRequest {}).await.ok()?.into_inner())
    })
    .await;
    assert!(!identity.initialized && identity.zone_id.is_empty(), "{identity:?}");
    assert_ne!(identity.member_id, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn raft_messages_for_somebody_else_or_of_no_kind_are_refused() {
    let zone = shared().await;
    let before = zone.status().await.control_plane;
    let mut member = Wire::new().member(&zone.address(Role::Member(0)));
    let identity = member.identify(v1::IdentifyRequest {}).await.unwrap().into_inner();
    let request = |to_member_id, kind: Kind| MemberRaftRequest {
        from_member_id: 4_711,
        to_member_id,
        kind: kind.into(),
        format_version: 1,
        data: vec![0xff; 20].into(),
    };
    for kind in [Kind::AppendEntries, Kind::Vote, Kind::PreVote, Kind::TransferLeader] {
        let misdirected = request(identity.member_id + 1, kind);
        let words = [&*identity.member_id.to_string(), "the message is for member"];
        refused(member.raft(misdirected).await, Code::FailedPrecondition, &words);
        let garbage = request(identity.member_id, kind);
        refused(member.raft(garbage).await, Code::InvalidArgument, &[]);
        let newer = MemberRaftRequest { format_version: 99, ..request(identity.member_id, kind) };
        refused(member.raft(newer).await, Code::InvalidArgument, &["99"]);
    }
    let no_kind = request(identity.member_id, Kind::Unspecified);
    refused(member.raft(no_kind).await, Code::InvalidArgument, &["kind"]);
    let after = zone.status().await.control_plane;
    assert_eq!((after.leader, after.term), (before.leader, before.term));
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_for_somebody_else_or_without_a_header_are_refused() {
    let zone = shared().await;
    let before = zone.status().await;
    let mut member = Wire::new().member(&zone.address(Role::Member(0)));
    let identity = member.identify(v1::IdentifyRequest {}).await.unwrap().into_inner();
    let header = |to_member_id| MemberSnapshotChunk {
        body: Some(Body::Header(v1::MemberSnapshotHeader {
            from_member_id: 4_711,
            to_member_id,
            format_version: 1,
            vote: vec![0xff; 9].into(),
            meta: vec![0xff; 9].into(),
        })),
    };
    let trailer =
        MemberSnapshotChunk { body: Some(Body::Trailer(v1::MemberSnapshotTrailer::default())) };
    for (code, chunks) in [
        (Code::InvalidArgument, vec![]),
        (Code::InvalidArgument, vec![trailer.clone()]),
        (Code::FailedPrecondition, vec![header(identity.member_id + 1), trailer.clone()]),
        (Code::InvalidArgument, vec![header(identity.member_id), trailer]),
    ] {
        let shown = format!("{chunks:?}");
        let answer = member.install_snapshot(futures_util::stream::iter(chunks)).await;
        let status = answer.err().expect(&shown);
        assert_eq!(status.code(), code, "{status} to {shown}");
    }
    let after = zone.status().await;
    assert_eq!(after.control_plane.term, before.control_plane.term);
    assert_eq!(after.partitions.total, before.partitions.total);
}
