//! Orders of a control plane's leader that was deposed, and orders that cannot be.

use proto::v1::{
    self, EnsureReplica, Fence, GroupReplica, KeyRange, Order, ReplicaPlacement, TakeOverGroup,
    TakeOverRequest, VoteAuthority, error_detail::Kind as DetailKind, order::Kind,
};
use tonic::Code;
use zonectl::zone_process::Role;

use crate::support::{
    scripted::{NODE, ScriptedControlPlane},
    shared::shared,
    spot::Spot,
    wire::{Wire, detail_of, refused},
    zone::TestZone,
};

const ZONE: &str = "0b9f2c44-41a5-4e2b-9c39-5d1f6a7b8c9d";
const PROCESS: Role = Role::IndexNode(0);

fn fence(term: u64, revision: u64) -> Fence {
    Fence { zone_generation: 1, term, revision }
}

fn range(start: &'static str, end: &'static str) -> Option<KeyRange> {
    Some(KeyRange { start: start.into(), end: end.into() })
}

/// A replica that is a group of its own.
fn ensure(partition_id: u64, replica_id: u64) -> Order {
    let founder = ReplicaPlacement { replica_id, node_id: NODE };
    let kind = Kind::Ensure(EnsureReplica {
        range: range("", ""),
        range_epoch: 1,
        founders: vec![founder],
        campaign: true,
    });
    Order { partition_id, replica_id, membership_log: None, kind: Some(kind) }
}

fn order(partition_id: u64, replica_id: u64, kind: Kind) -> Order {
    Order { partition_id, replica_id, membership_log: None, kind: Some(kind) }
}

/// A node's process with a control plane that a test speaks for.
async fn node(term: u64) -> (TestZone, ScriptedControlPlane) {
    let mut zone = TestZone::prepare(1, 1).await;
    let control_plane = ScriptedControlPlane::start(&zone.endpoints()[0], ZONE, term).await;
    zone.processes.start(PROCESS).unwrap();
    control_plane.in_session().await;
    (zone, control_plane)
}

async fn takeover(address: &str, fence: Fence) -> Result<v1::TakeOverResponse, tonic::Status> {
    let request = TakeOverRequest {
        fence: Some(fence),
        authority: VoteAuthority::Conclusion.into(),
        lost_node_id: 4_711,
        groups: vec![TakeOverGroup {
            group: Some(GroupReplica { partition_id: 4_711, replica_id: 4_711 }),
            candidate_replica_id: 4_711,
            ..TakeOverGroup::default()
        }],
        timeout_ms: 500,
    };
    Wire::new().peer(address).take_over(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_of_a_deposed_leader() {
    let zone = shared().await;
    let spot = Spot::of(&zone, b"orders\0").await;
    let before = zone.fingerprint().await;
    let term = zone.status().await.control_plane.term;
    let older = Fence { zone_generation: 0, term: term + 100, revision: u64::MAX };
    for stale in [fence(term - 1, u64::MAX), older] {
        let answer = takeover(&spot.leader, stale).await.map(tonic::Response::new);
        let words = ["the order is of generation", &format!("term {}", stale.term)];
        let status = refused(answer, Code::FailedPrecondition, &words);
        let DetailKind::StaleFence(detail) = detail_of(&status) else { panic!("{status}") };
        let highest = detail.highest.unwrap();
        assert_eq!((highest.zone_generation, highest.term), (1, term));
    }
    // Without authority, or without a fence, nobody is anybody's leader.
    let request = TakeOverRequest { timeout_ms: 500, ..TakeOverRequest::default() };
    let answer = spot.wire.peer(&spot.leader).take_over(request.clone()).await;
    refused(answer, Code::InvalidArgument, &["authority", "CONCLUSION, PEERS or HANDOVER"]);
    let bare = TakeOverRequest { authority: VoteAuthority::Conclusion.into(), ..request.clone() };
    let answer = spot.wire.peer(&spot.leader).take_over(bare).await;
    refused(answer, Code::InvalidArgument, &["fence"]);
    let groups = vec![TakeOverGroup::default(); 10_001];
    let many = TakeOverRequest { authority: VoteAuthority::Peers.into(), groups, ..request };
    let answer = spot.wire.peer(&spot.leader).take_over(many).await;
    refused(answer, Code::InvalidArgument, &["10001", "10000"]);
    assert_eq!(zone.fingerprint().await, before);
    spot.put_ok(b"orders\0after", "served").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leaders_session_and_orders_also_after_a_kill() {
    let (mut zone, mut control_plane) = node(5).await;
    let registered = control_plane.registrations();
    assert_eq!((registered[0].node_id, &*registered[0].zone_id), (0, ""));
    control_plane.order(fence(5, 10), ensure(1, 11)).await;
    control_plane.reported(11, |report| report.leading).await;

    let refuses =
        async |control_plane: &ScriptedControlPlane, fence: Fence, order: Order, word: &str| {
            let partition_id = order.partition_id;
            control_plane.order(fence, order).await;
            let refusal = control_plane.refusal(fence).await;
            assert_eq!(refusal.partition_id, partition_id);
            assert!(refusal.message.contains(word), "{word} is not in: {}", refusal.message);
        };
    // An older term, an older generation, and an older revision for this partition.
    refuses(&control_plane, fence(4, 99), ensure(2, 21), "term 4").await;
    let older = Fence { zone_generation: 0, term: 9, revision: 99 };
    refuses(&control_plane, older, ensure(2, 21), "generation 0").await;
    refuses(
        &control_plane,
        fence(5, 9),
        order(1, 11, Kind::Destroy(v1::DestroyReplica {})),
        "revision 9",
    )
    .await;
    // Another partition may be ordered on an older revision; the terms are what the node remembers.
    control_plane.order(fence(5, 9), ensure(3, 31)).await;
    control_plane.reported(31, |report| report.leading).await;

    zone.processes.kill(PROCESS).unwrap();
    control_plane = control_plane.succeeded_by(5).await;
    zone.processes.start(PROCESS).unwrap();
    control_plane.in_session().await;
    control_plane.reported(11, |report| report.leading).await;
    refuses(&control_plane, fence(4, 99), ensure(2, 22), "term 4").await;
    refuses(
        &control_plane,
        fence(5, 8),
        order(1, 11, Kind::Destroy(v1::DestroyReplica {})),
        "revision 8",
    )
    .await;
    assert!(control_plane.report(21).is_none() && control_plane.report(22).is_none());

    // A member of an older term gets no session that lasts, and none of its orders is carried out.
    let before = control_plane.sessions();
    control_plane = control_plane.succeeded_by(4).await;
    crate::support::eventually("the node to try", async || {
        (control_plane.sessions() > before + 1).then_some(())
    })
    .await;
    control_plane.order(fence(4, 100), order(1, 11, Kind::Destroy(v1::DestroyReplica {}))).await;
    control_plane = control_plane.succeeded_by(6).await;
    control_plane.in_session().await;
    control_plane.reported(11, |report| report.leading).await;
    control_plane.order(fence(6, 101), ensure(4, 41)).await;
    control_plane.reported(41, |report| report.leading).await;
    let stale = takeover(&zone.address(PROCESS), fence(5, 1_000)).await.unwrap_err();
    assert_eq!(stale.code(), Code::FailedPrecondition, "{stale}");
    assert_eq!(control_plane.registrations().last().unwrap().incarnation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_cannot_be() {
    let (zone, control_plane) = node(5).await;
    control_plane.order(fence(5, 1), ensure(1, 11)).await;
    let report = control_plane.reported(11, |report| report.leading).await;
    let founded = report.membership.unwrap().log_position;
    let mut revision = 1;
    let mut refuses = async |order: Order, word: &str| {
        revision += 1;
        control_plane.order(fence(5, revision), order).await;
        let refusal = control_plane.refusal(fence(5, revision)).await;
        assert!(refusal.message.contains(word), "{word} is not in: {}", refusal.message);
    };
    let ensured = |partition_id, replica_id, change: &dyn Fn(&mut EnsureReplica)| {
        let mut order = ensure(partition_id, replica_id);
        let Some(Kind::Ensure(ensure)) = &mut order.kind else { unreachable!() };
        change(ensure);
        order
    };
    refuses(ensured(2, 21, &|it| it.range = range("m", "b")), "range").await;
    refuses(ensured(2, 21, &|it| it.range = range("m", "m")), "range").await;
    refuses(ensured(2, 21, &|it| it.founders[0].replica_id = 22), "founders").await;
    refuses(ensure(1, 12), "replica 11").await;
    refuses(ensure(2, 11), "partition 1").await;
    refuses(ensure(0, 21), "no partition").await;
    refuses(ensure(2, 0), "no replica").await;
    refuses(Order { kind: None, ..ensure(2, 21) }, "no kind").await;
    let destroy = Kind::Destroy(v1::DestroyReplica {});
    refuses(order(1, 11, destroy.clone()), "votes").await;
    let change = v1::ChangeMembers { voters: vec![] };
    refuses(order(1, 11, Kind::ChangeMembers(change)), "").await;
    let stranger = ReplicaPlacement { replica_id: 99, node_id: 99 };
    let change = v1::ChangeMembers { voters: vec![stranger] };
    let based = Order { membership_log: founded, ..order(1, 11, Kind::ChangeMembers(change)) };
    refuses(based, "").await;
    let transfer = Kind::TransferLeader(v1::TransferLeader { to_replica_id: 99 });
    refuses(order(1, 11, transfer), "").await;
    let learner = Kind::AddLearner(v1::AddLearner { learner: None });
    refuses(order(1, 11, learner), "no learner").await;
    let learner = Kind::AddLearner(v1::AddLearner { learner: Some(stranger) });
    refuses(order(7, 77, learner), "not on this node").await;

    // What was there is there, unchanged, and what could not be is not.
    let report = control_plane.reported(11, |report| report.leading).await;
    assert_eq!(report.membership.unwrap().log_position, founded);
    for replica in [12, 21, 22, 99] {
        assert!(control_plane.report(replica).is_none(), "replica {replica}");
    }
    let wire = Wire::new();
    let target = Some(v1::Target { partition_id: 1, range_epoch: 1 });
    let get = v1::GetRequest { target, key: "k".into() };
    wire.index(&zone.address(PROCESS)).get(get).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_replica_never_comes_back() {
    let (mut zone, control_plane) = node(5).await;
    // One that waits to be added, and so votes nowhere.
    let blank =
        Kind::Ensure(EnsureReplica { range: range("", ""), range_epoch: 1, ..Default::default() });
    control_plane.order(fence(5, 1), order(1, 11, blank.clone())).await;
    control_plane.reported(11, |report| report.phase() == v1::ReplicaPhase::Live).await;
    let destroy = Kind::Destroy(v1::DestroyReplica {});
    control_plane.order(fence(5, 2), order(1, 11, destroy)).await;
    control_plane.reported(11, |it| it.phase() == v1::ReplicaPhase::Destroyed).await;
    for (revision, kill) in [(3, true), (4, false)] {
        control_plane.order(fence(5, revision), order(1, 11, blank.clone())).await;
        let refusal = control_plane.refusal(fence(5, revision)).await;
        assert!(refusal.message.contains("never comes back"), "{}", refusal.message);
        if kill {
            let sessions = control_plane.sessions();
            zone.processes.kill(PROCESS).unwrap();
            zone.processes.start(PROCESS).unwrap();
            crate::support::eventually("another session", async || {
                (control_plane.sessions() > sessions).then_some(())
            })
            .await;
        }
    }
    control_plane.reported(11, |it| it.phase() == v1::ReplicaPhase::Destroyed).await;
}
