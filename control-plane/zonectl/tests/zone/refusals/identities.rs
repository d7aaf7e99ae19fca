//! A wiped disk is somebody else.

use zonectl::zone_process::Role;

use crate::support::{LIMIT, eventually, shared::shared, spot::Spot, wire::Wire};

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_index_node_is_not_taken_for_the_one_of_before() {
    let mut zone = shared().await;
    let status = zone.status().await;
    let node = status.nodes.iter().find(|node| node.name == "node-3").unwrap().clone();
    let role = zone.role(&node);
    let data = zone.processes.layout().data_directory(role);
    let kept = zone.directory().join("kept");
    zone.processes.terminate(role, LIMIT).await.unwrap();
    std::fs::rename(&data, &kept).unwrap();
    zone.processes.start(role).unwrap();
    eventually("the refusal of the wiped node", async || {
        let log = zone.processes.log_tail(role, 50);
        let words = ["refuses this node", "node-3", "belongs to node", "remove that node first"];
        words.iter().all(|word| log.contains(word)).then_some(())
    })
    .await;
    assert!(zone.processes.is_running(role), "it tries until somebody has decided");
    let status = zone.status().await;
    let known = status.nodes.iter().find(|it| it.name == "node-3").unwrap();
    assert_eq!((known.id, known.incarnation), (node.id, node.incarnation));
    assert_ne!(known.state, "up");
    assert_eq!(known.replicas, node.replicas, "its replicas are still its own");
    let spot = Spot::of(&zone, b"identities\0").await;
    spot.put_ok(b"identities\0meanwhile", "served").await;

    zone.processes.kill(role).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&kept, &data).unwrap();
    zone.processes.start(role).unwrap();
    let status = zone.settled().await;
    let back = status.nodes.iter().find(|it| it.name == "node-3").unwrap();
    assert_eq!((back.id, back.incarnation), (node.id, node.incarnation + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_has_no_vote() {
    let mut zone = shared().await;
    let role = zone.a_follower().await;
    let wire = Wire::new();
    let identify = async |address: &str| {
        let mut member = wire.member(address);
        eventually("the member", async || {
            let answer = member.identify(proto::v1::IdentifyRequest {}).await.ok()?;
            Some(answer.into_inner())
        })
        .await
    };
    let address = zone.address(role);
    let before = identify(&address).await;
    let data = zone.processes.layout().data_directory(role);
    let kept = zone.directory().join("kept");
    zone.processes.terminate(role, LIMIT).await.unwrap();
    std::fs::rename(&data, &kept).unwrap();
    zone.processes.start(role).unwrap();
    let wiped = identify(&address).await;
    assert_ne!(wiped.member_id, before.member_id);
    assert!(!wiped.initialized && wiped.zone_id.is_empty(), "{wiped:?}");
    // The leader finds nobody under the old id, and says so.
    let status = zone
        .status_when("the missing member", |status| {
            let members = &status.control_plane.members;
            members.iter().any(|it| it.id == before.member_id && it.state == "unreachable")
        })
        .await;
    assert!(!status.healthy);
    assert_eq!(status.control_plane.members.len(), 3);
    assert!(status.control_plane.members.iter().all(|it| it.id != wiped.member_id));

    // The other two are the majority; a wiped one does not make it up when another one goes.
    let other = zone
        .processes
        .layout()
        .member_roles()
        .find(|it| *it != role && zone.address(*it) != leader_address(&status))
        .unwrap();
    zone.processes.kill(other).unwrap();
    let mut admin = wire.admin(&leader_address(&status));
    eventually("the lone member to give up", async || {
        let request = proto::v1::GetZoneStatusRequest {};
        let status = admin.get_zone_status(request).await.ok()?.into_inner();
        (!status.from_leader).then_some(())
    })
    .await;
    let still = identify(&address).await;
    assert!(!still.initialized, "nobody has made it a member");
    let spot_key = b"identities\0without";
    let client = zone.processes.start(other);
    client.unwrap();
    zone.status_when("a leader again", |_| true).await;

    zone.processes.kill(role).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&kept, &data).unwrap();
    zone.processes.start(role).unwrap();
    zone.settled().await;
    assert_eq!(identify(&address).await.member_id, before.member_id);
    let spot = Spot::of(&zone, spot_key).await;
    spot.put_ok(spot_key, "served").await;
}

fn leader_address(status: &zonectl::forms::StatusForm) -> String {
    let control_plane = &status.control_plane;
    let leader = control_plane.members.iter().find(|it| Some(it.id) == control_plane.leader);
    leader.unwrap().address.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_cannot_share_a_data_directory() {
    let mut zone = shared().await;
    for role in [Role::Member(0), Role::IndexNode(0)] {
        let arguments = zone.processes.layout().arguments(role);
        let binaries = crate::support::program::servers();
        let program = match role {
            Role::Member(_) => binaries.control_plane,
            Role::IndexNode(_) => binaries.index_node,
        };
        let mut second = crate::support::program::command(&program);
        let ended = crate::support::program::run(second.args(arguments)).await;
        ended.refused(3, &["in use by another process", "stop that process first"]);
        assert!(zone.processes.is_running(role));
    }
}
