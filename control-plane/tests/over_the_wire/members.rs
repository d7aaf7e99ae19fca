//! The members of the control plane: who leads, who is who, what survives.

use std::collections::BTreeMap;

use crate::support::{eventually, zone::TestZone};
use proto::v1;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn state_survives_a_restart_of_everything() {
    let mut zone = TestZone::start(3, 3, 4, 3).await;
    let before = zone.healthy().await;
    for member in &mut zone.members {
        member.kill();
    }
    for member in &mut zone.members {
        member.start();
    }
    let after = zone.healthy().await;
    assert_eq!(after.zone_id, before.zone_id);
    assert!(after.revision >= before.revision);
    let names = |status: &v1::ZoneStatus| -> BTreeMap<u64, String> {
        status.nodes.iter().map(|node| (node.id, node.name.clone())).collect()
    };
    assert_eq!(names(&after), names(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_follow_a_new_leader() {
    let mut zone = TestZone::start(3, 3, 4, 3).await;
    let before = zone.healthy().await;
    let old = zone.leader().await;
    zone.members[old].kill();
    let after = zone
        .status_when("all partitions available", |status| {
            status.partitions.unwrap().available == 4 && status.problems.len() == 1
        })
        .await;
    assert!(after.problems[0].contains("unreachable"), "{:?}", after.problems);
    let (before, after) = (before.control_plane.unwrap(), after.control_plane.unwrap());
    assert!(after.term > before.term);
    assert_ne!(after.leader, before.leader);
    // Nothing was taken over, and nobody was called down, for the sake of a new leader.
    let kinds: Vec<String> = zone.events().await.into_iter().map(|event| event.kind).collect();
    assert!(!kinds.contains(&"takeover".to_owned()), "{kinds:?}");
    assert!(!kinds.contains(&"node-down".to_owned()), "{kinds:?}");
    // The ledger says who leads, and who led before; once for each term.
    let reigns = zone.events().await;
    let reigns: Vec<_> = reigns.iter().filter(|it| it.kind == "control-plane-leader").collect();
    let messages: std::collections::BTreeSet<_> = reigns.iter().map(|it| &it.message).collect();
    assert!(reigns.len() >= 2 && messages.len() == reigns.len(), "{reigns:?}");
    let last = &reigns[reigns.len() - 1].message;
    assert!(last.contains(&format!("member {} at ", after.leader)), "{last}");
    zone.members[old].start();
    zone.healthy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_over_first() {
    let mut zone = TestZone::start(3, 1, 1, 1).await;
    zone.healthy().await;
    let old = zone.leader().await;
    let stopping = std::time::Instant::now();
    zone.members[old].stop().await;
    let new = zone.leader().await;
    assert_ne!(new, old);
    assert!(stopping.elapsed() < std::time::Duration::from_secs(5), "{:?}", stopping.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_is_somebody_else() {
    let mut zone = TestZone::members(3);
    zone.init(2, 1, 0).await.unwrap();
    let leader = zone.leader().await;
    let victim = (leader + 1) % 3;
    let identify = async |zone: &TestZone| {
        eventually("its identity", || {
            let mut client = zone.members[victim].members();
            async move { client.identify(v1::IdentifyRequest {}).await.ok() }
        })
        .await
        .into_inner()
    };
    let before = identify(&zone).await;
    assert!(before.initialized);
    zone.members[victim].kill();
    zone.members[victim].wipe();
    zone.members[victim].start();
    let after = identify(&zone).await;
    assert_ne!(after.member_id, before.member_id);
    assert!(!after.initialized, "it votes for nobody");
    // What is meant for its former self it refuses.
    let message = v1::MemberRaftRequest {
        to_member_id: before.member_id,
        kind: v1::member_raft_request::Kind::Vote.into(),
        format_version: 1,
        ..Default::default()
    };
    let refused = zone.members[victim].members().raft(message).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    // And it stays out, while the others go on.
    zone.status_when("the wiped member unreachable", |status| {
        status.problems.iter().any(|problem| problem.contains(&before.member_id.to_string()))
    })
    .await;
    assert!(!identify(&zone).await.initialized);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_between_members_is_refused() {
    let zone = TestZone::members(1);
    zone.init(1, 1, 0).await.unwrap();
    let mut client = zone.members[0].members();
    let id = client.identify(v1::IdentifyRequest {}).await.unwrap().into_inner().member_id;
    let vote = v1::MemberRaftRequest {
        to_member_id: id,
        kind: v1::member_raft_request::Kind::Vote.into(),
        format_version: 1,
        ..Default::default()
    };
    let newer = v1::MemberRaftRequest { format_version: 9, ..vote.clone() };
    let unknown = v1::MemberRaftRequest { kind: 77, ..vote.clone() };
    for (expected, request) in [("malformed", vote), ("version 9", newer), ("kind", unknown)] {
        let refused = client.raft(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(expected), "{refused:?}");
    }
    zone.leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_quorum_closes_its_sessions() {
    let mut zone = TestZone::start(3, 1, 1, 1).await;
    zone.healthy().await;
    let leader = zone.leader().await;
    for member in 0..3 {
        if member != leader {
            zone.members[member].kill();
        }
    }
    eventually("the leader to step back", || async {
        let status = crate::support::zone::status(&zone.members[leader].address).await?;
        (!status.from_leader).then_some(())
    })
    .await;
    let refused = zone.members[leader].admin().list_nodes(v1::ListNodesRequest {}).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    for member in 0..3 {
        if member != leader {
            zone.members[member].start();
        }
    }
    zone.healthy().await;
}
