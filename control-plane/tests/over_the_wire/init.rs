//! How a zone is made: once, and only if it can be.

use crate::support::{eventually, zone::TestZone};
use proto::v1;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_made_once() {
    let zone = TestZone::members(3);
    let made = zone.init(4, 3, 0).await.expect("the first init");
    assert_eq!(made.partitions, 4);
    assert!(!made.zone_id.is_empty());
    for member in &zone.members {
        // Followers may still be applying it; the leader refuses it whoever is asked.
        let again = member.admin().init(zone.init_request(4, 3, 0)).await.unwrap_err();
        assert_eq!(again.code(), Code::AlreadyExists, "{again:?}");
        assert!(again.message().contains(&made.zone_id), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_is_a_zone_too() {
    let zone = TestZone::members(1);
    zone.init(1, 1, 0).await.expect("init");
    let status = zone.status_when("a leader", |status| status.from_leader).await;
    assert_eq!(status.control_plane.unwrap().members.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_right_is_refused_and_changes_nothing() {
    let zone = TestZone::members(3);
    let good = zone.init_request(3, 3, 0);
    let cases: Vec<(&str, Box<dyn Fn(&mut v1::InitRequest)>)> = vec![
        ("1, 3 or 5", Box::new(|it| it.member_addresses.truncate(2))),
        ("1, 3 or 5", Box::new(|it| it.member_addresses.clear())),
        ("host:port", Box::new(|it| it.member_addresses[1] = "nowhere".into())),
        ("the same", Box::new(|it| it.member_addresses[1] = it.member_addresses[0].clone())),
        ("1, 3 or 5", Box::new(|it| it.replication_factor = 2)),
        ("1, 3 or 5", Box::new(|it| it.replication_factor = 0)),
        ("empty", Box::new(|it| it.split_keys[0] = Default::default())),
        ("rise", Box::new(|it| it.split_keys.reverse())),
        ("rise", Box::new(|it| it.split_keys[1] = it.split_keys[0].clone())),
        ("4096", Box::new(|it| it.split_keys[0] = vec![b'a'; 5_000].into())),
    ];
    let admin = zone.members[0].admin();
    eventually("the member to listen", || {
        let mut admin = admin.clone();
        async move { admin.get_zone_status(v1::GetZoneStatusRequest {}).await.ok() }
    })
    .await;
    for (expected, spoil) in cases {
        let mut request = good.clone();
        spoil(&mut request);
        let refused = admin.clone().init(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(expected), "{expected}: {refused:?}");
    }
    let nobody = admin.clone().list_nodes(v1::ListNodesRequest {}).await.unwrap_err();
    assert_eq!(nobody.code(), Code::FailedPrecondition, "there is still no group: {nobody:?}");
    zone.init(3, 3, 0).await.expect("the good one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_cannot_be_reached_is_named() {
    let zone = TestZone::members(1);
    let missing = crate::support::free_address();
    let mut request = zone.init_request(1, 1, 0);
    request.member_addresses.extend([missing.clone(), crate::support::free_address()]);
    let admin = zone.members[0].admin();
    let refused = eventually("the refusal", || {
        let (mut admin, request) = (admin.clone(), request.clone());
        async move { admin.init(request).await.err().filter(|it| it.message().contains("reached")) }
    })
    .await;
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains(&missing), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_zone_is_refused() {
    let first = TestZone::members(1);
    first.init(1, 1, 0).await.expect("init");
    let second = TestZone::members(2);
    let mut request = second.init_request(1, 1, 0);
    request.member_addresses.push(first.members[0].address.clone());
    let admin = second.members[0].admin();
    let refused = eventually("the refusal", || {
        let (mut admin, request) = (admin.clone(), request.clone());
        async move {
            let refused = admin.init(request).await.unwrap_err();
            (refused.code() != Code::Unavailable).then_some(refused)
        }
    })
    .await;
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("belongs to zone"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_init_everything_else_says_so() {
    let zone = TestZone::members(1);
    let member = &zone.members[0];
    let status = eventually("the member to listen", || {
        let mut admin = member.admin();
        async move { admin.get_zone_status(v1::GetZoneStatusRequest {}).await.ok() }
    })
    .await
    .into_inner();
    assert!(!status.healthy);
    assert_eq!(status.zone_id, "");
    let refused = member.routing().get_partition_map(v1::GetPartitionMapRequest {}).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    let identity = crate::support::node::Identity::new("early", "rack");
    let refused = member.nodes().register(identity.registration()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("init"), "{refused:?}");
}
