//! `AdminService`: every command and every question, at the leader and at a follower.

use std::collections::BTreeSet;

use proto::v1::{self, OperationState};
use tonic::Code;

use crate::support::{
    LIMIT, eventually,
    shared::{NODES, shared},
    wire::{Wire, leader_hint, node_id, node_name, refused},
    zone::TestZone,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_member_tells_the_zones_status() {
    let zone = shared().await;
    let wire = Wire::new();
    let leader = zone.leader().await;
    let expected = zone.status().await;
    for role in zone.processes.layout().member_roles() {
        let mut admin = wire.admin(&zone.address(role));
        let status = eventually("the status of a member", async || {
            let request = v1::GetZoneStatusRequest {};
            let status = admin.get_zone_status(request).await.unwrap().into_inner();
            (status.from_leader == (role == leader)).then_some(status)
        })
        .await;
        assert_eq!(Some(status.zone_id), expected.zone_id);
        assert_eq!(status.nodes.len(), NODES as usize);
        assert_eq!(status.replication_factor, 3);
        let control_plane = status.control_plane.unwrap();
        assert_eq!(Some(control_plane.leader), expected.control_plane.leader);
        assert_eq!(control_plane.members.len(), 3);
        assert_eq!(status.partitions.unwrap().total, 8);
        assert_eq!(status.healthy, status.problems.is_empty());
        assert_eq!(status.healthy, role == leader, "{:?}", status.problems);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_says_who_leads() {
    let zone = shared().await;
    let leader = zone.address(zone.leader().await);
    let follower = zone.address(zone.a_follower().await);
    let wire = Wire::new();
    let mut admin = wire.admin(&follower);
    let placements = zone.placements().await;

    macro_rules! hints {
        ($($call:ident($request:expr)),* $(,)?) => {$(
            let status = admin.$call($request).await.err().expect(stringify!($call));
            assert_eq!(status.code(), Code::FailedPrecondition, "{}: {status}", stringify!($call));
            assert_eq!(leader_hint(&status).address, leader, "{}", stringify!($call));
        )*};
    }
    hints!(
        list_nodes(v1::ListNodesRequest {}),
        get_node(v1::GetNodeRequest { node: node_id(1) }),
        list_partitions(v1::ListPartitionsRequest::default()),
        get_partition(v1::GetPartitionRequest { partition_id: 1 }),
        transfer_leader(v1::TransferLeaderRequest {
            partition_id: 1,
            to: node_id(1),
            idempotency_key: String::new()
        }),
        move_replica(v1::MoveReplicaRequest {
            partition_id: 1,
            from: node_id(1),
            to: node_id(2),
            idempotency_key: String::new()
        }),
        split_partition(v1::SplitPartitionRequest { partition_id: 1, ..Default::default() }),
        drain_node(v1::DrainNodeRequest { node: node_id(1), ..Default::default() }),
        uncordon_node(v1::UncordonNodeRequest { node: node_id(1), ..Default::default() }),
        remove_node(v1::RemoveNodeRequest { node: node_id(1), ..Default::default() }),
        plan_balance(v1::PlanBalanceRequest::default()),
        apply_plan(v1::ApplyPlanRequest::default()),
        override_brake(v1::OverrideBrakeRequest::default()),
        get_policy(v1::GetPolicyRequest {}),
        set_policy(v1::SetPolicyRequest::default()),
        get_shadow_policy(v1::GetShadowPolicyRequest {}),
        set_shadow_policy(v1::SetShadowPolicyRequest::default()),
        list_operations(v1::ListOperationsRequest::default()),
        watch_operation(v1::WatchOperationRequest { id: 1 }),
        cancel_operation(v1::CancelOperationRequest { id: 1 }),
        watch_events(v1::WatchEventsRequest::default()),
        get_signal_log(v1::GetSignalLogRequest {}),
        get_heat(v1::GetHeatRequest { top: 1 }),
    );
    assert_eq!(zone.placements().await, placements);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_listed_and_shown_by_id_and_name() {
    let zone = shared().await;
    let admin = zone.admin();
    let nodes = admin.list_nodes(v1::ListNodesRequest {}).await.unwrap().nodes;
    assert_eq!(nodes.len(), NODES as usize);
    let replicas: u32 = nodes.iter().map(|node| node.replicas).sum();
    assert_eq!(replicas, 8 * 3);
    for node in &nodes {
        assert_eq!(node.state(), v1::NodeState::Up);
        assert_eq!(node.administrative_state(), v1::AdministrativeState::Active);
        let by_id = admin.get_node(v1::GetNodeRequest { node: node_id(node.id) }).await.unwrap();
        let request = v1::GetNodeRequest { node: node_name(&node.name) };
        let by_name = admin.get_node(request).await.unwrap();
        assert_eq!(by_id.identity, by_name.identity);
        let detail = by_id.summary.unwrap();
        assert_eq!((detail.id, &detail.name), (node.id, &node.name));
        assert_eq!(by_id.partition_ids.len(), node.replicas as usize);
        assert_eq!(by_id.led_partition_ids.len(), node.leaders as usize);
        assert!(!by_id.evidence.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_listed_in_pages_and_shown() {
    let zone = shared().await;
    let admin = zone.admin();
    let all = zone.partitions().await;
    assert_eq!(all.len(), 8);
    let (mut paged, mut after) = (Vec::new(), 0);
    loop {
        let request =
            v1::ListPartitionsRequest { limit: 3, after_partition_id: after, ..Default::default() };
        let page = admin.list_partitions(request).await.unwrap();
        after = page.partitions.last().unwrap().id;
        paged.extend(page.partitions.into_iter().map(|it| it.id));
        if !page.more {
            break;
        }
    }
    let ids: Vec<u64> = all.iter().map(|partition| partition.id).collect();
    assert_eq!(paged, ids);

    let node = all[0].leader_node_id;
    let request = v1::ListPartitionsRequest { node: node_id(node), ..Default::default() };
    let held = admin.list_partitions(request).await.unwrap().partitions;
    let on_node = |it: &&v1::PartitionSummary| it.replicas.iter().any(|it| it.node_id == node);
    assert_eq!(held.len(), all.iter().filter(on_node).count());
    let request = v1::ListPartitionsRequest { only_problems: true, ..Default::default() };
    assert!(admin.list_partitions(request).await.unwrap().partitions.is_empty());

    for partition in &all {
        assert!(partition.available && !partition.under_replicated, "{partition:?}");
        let request = v1::GetPartitionRequest { partition_id: partition.id };
        let detail = admin.get_partition(request).await.unwrap();
        assert_eq!(detail.summary.unwrap().range, partition.range);
        assert_eq!(detail.replicas.len(), 3);
        let leaders = detail.replicas.iter().filter(|replica| replica.role == "leader");
        let leaders: Vec<u64> = leaders.map(|it| it.placement.unwrap().node_id).collect();
        assert_eq!(leaders, [partition.leader_node_id]);
        let membership = detail.membership.unwrap();
        assert!(membership.committed);
        let voters = &membership.voter_sets[0].voters;
        let voters: BTreeSet<u64> = voters.iter().map(|it| it.replica_id).collect();
        assert_eq!(voters, partition.replicas.iter().map(|it| it.replica_id).collect());
        assert!(detail.retiring.is_empty() && detail.operations.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_transferred_once_for_each_idempotency_key() {
    let zone = shared().await;
    let (partition_id, from, to) = zone.a_transfer().await;
    let wire = Wire::new();
    let mut admin = wire.admin(&zone.address(zone.leader().await));
    let request = v1::TransferLeaderRequest {
        partition_id,
        to: node_id(to),
        idempotency_key: "calls-transfer".into(),
    };
    let started = admin.transfer_leader(request.clone()).await.unwrap().into_inner().operation;
    let started = started.unwrap();
    assert_eq!(started.kind, "transfer-leader");
    assert_eq!(started.origin, "operator");
    assert_eq!((started.partition_id, started.to_node_id), (partition_id, to));
    zone.succeeded(Some(started.clone())).await;
    assert_eq!(zone.placements().await[&partition_id].leader, to);
    let again = admin.transfer_leader(request.clone()).await.unwrap().into_inner();
    assert_eq!(again.operation.unwrap().id, started.id, "the same key starts nothing new");
    let other = v1::TransferLeaderRequest { to: node_id(from), ..request };
    refused(admin.transfer_leader(other).await, Code::InvalidArgument, &["idempotency key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_moves_and_moves_back() {
    let zone = shared().await;
    let admin = zone.admin();
    let before = zone.placements().await;
    let (partition_id, placement) = before.iter().next().unwrap();
    let partition_id = *partition_id;
    let from = *placement.replicas.values().find(|node| **node != placement.leader).unwrap();
    let held: BTreeSet<u64> = placement.replicas.values().copied().collect();
    let to = (1..=u64::from(NODES)).find(|node| !held.contains(node)).unwrap();
    let movement = |from, to| v1::MoveReplicaRequest {
        partition_id,
        from: node_id(from),
        to: node_id(to),
        idempotency_key: String::new(),
    };
    let started = admin.move_replica(movement(from, to)).await.unwrap().operation;
    let ended = zone.succeeded(started).await;
    assert_eq!((ended.kind.as_str(), ended.progress_percent), ("move-replica", 100));
    let after = zone.placements().await[&partition_id].clone();
    assert!(after.replicas.values().any(|node| *node == to), "{after:?}");
    assert!(!after.replicas.values().any(|node| *node == from), "{after:?}");
    let started = admin.move_replica(movement(to, from)).await.unwrap().operation;
    zone.succeeded(started).await;
    // The replica that came back is another one: ids are never used again.
    let returned = zone.placements().await[&partition_id].clone();
    let known: BTreeSet<u64> =
        placement.replicas.keys().chain(after.replicas.keys()).copied().collect();
    let fresh = returned.replicas.iter().find(|(_, node)| **node == from).unwrap();
    assert!(!known.contains(fresh.0), "{returned:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_watched_and_ended_by_uncordon() {
    let zone = shared().await;
    let wire = Wire::new();
    let mut admin = wire.admin(&zone.address(zone.leader().await));
    let node = zone.busiest().await.id;
    let request = v1::DrainNodeRequest { node: node_id(node), ..Default::default() };
    let started = admin.drain_node(request.clone()).await.unwrap().into_inner().operation;
    let started = started.unwrap();
    assert_eq!((started.kind.as_str(), started.node_id), ("drain", node));

    let listing = v1::ListOperationsRequest::default();
    let listed = admin.list_operations(listing).await.unwrap().into_inner().operations;
    assert!(listed.iter().any(|it| it.id == started.id), "{listed:?}");
    let status = refused(admin.drain_node(request).await, Code::FailedPrecondition, &["already"]);
    assert!(status.message().contains(&node.to_string()), "{status}");

    let watch = v1::WatchOperationRequest { id: started.id };
    let mut changes = admin.watch_operation(watch).await.unwrap().into_inner();
    let mut percents = Vec::new();
    let watching = async {
        let mut last = None;
        while let Some(change) = changes.message().await.unwrap() {
            percents.push(change.progress_percent);
            last = Some(change);
        }
        last.expect("the operation now comes first")
    };
    let last = tokio::time::timeout(LIMIT, watching).await.expect("the drain ends");
    assert_eq!(last.state(), OperationState::Succeeded, "{last:?}");
    assert_eq!(last.progress_percent, 100);
    assert!(percents.is_sorted(), "{percents:?}");
    let detail = admin.get_node(v1::GetNodeRequest { node: node_id(node) }).await.unwrap();
    let summary = detail.into_inner().summary.unwrap();
    assert_eq!((summary.replicas, summary.leaders), (0, 0));
    assert_eq!(summary.administrative_state(), v1::AdministrativeState::Drained);

    let request = v1::UncordonNodeRequest { node: node_id(node), ..Default::default() };
    let uncordoned = admin.uncordon_node(request).await.unwrap().into_inner().node.unwrap();
    assert_eq!(uncordoned.administrative_state(), v1::AdministrativeState::Active);
    // It ended, and is remembered.
    let ended = v1::ListOperationsRequest { include_ended: true, limit: 1_000 };
    let ended = admin.list_operations(ended).await.unwrap().into_inner().operations;
    assert!(ended.iter().any(|it| it.id == started.id));
    assert!(ended.windows(2).all(|pair| pair[0].id > pair[1].id), "newest first");
    let parts = ended.iter().filter(|it| it.parent_id == started.id).count();
    assert!(parts > 0, "a drain is made of moves");
    zone.even_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_can_be_cancelled() {
    let zone = shared().await;
    let admin = zone.admin();
    let node = zone.busiest().await.id;
    let request = v1::DrainNodeRequest { node: node_id(node), ..Default::default() };
    let started = admin.drain_node(request).await.unwrap().operation.unwrap();
    let request = v1::CancelOperationRequest { id: started.id };
    let cancelled = admin.cancel_operation(request).await.unwrap();
    assert_eq!(cancelled.id, started.id);
    assert_eq!(zone.ended(started.id).await.state(), OperationState::Cancelled);
    let status = zone.settled().await;
    let summary = status.nodes.iter().find(|it| it.id == node).unwrap();
    assert_eq!(summary.administrative_state, "active");
    let again = admin.cancel_operation(request).await.unwrap_err();
    assert_eq!(again.code(), Some(Code::FailedPrecondition), "{again}");
    assert!(again.to_string().contains("ended already"), "{again}");
    zone.even_out().await;
}

/// A plan for one leadership, as it would be made now.
async fn plan_of_one(zone: &TestZone) -> v1::ApplyPlanRequest {
    let (partition_id, from_node_id, to_node_id) = zone.a_transfer().await;
    let placement = &zone.placements().await[&partition_id];
    let transfer = v1::PlannedTransfer { from_node_id, to_node_id };
    let step = v1::PlanStep {
        partition_id,
        target_replica_ids: placement.replicas.keys().copied().collect(),
        leader_node_id: from_node_id,
        change: Some(v1::plan_step::Change::Transfer(transfer)),
        reason: "for a test".into(),
        ..v1::PlanStep::default()
    };
    let zone_id = zone.status().await.zone_id.unwrap();
    v1::ApplyPlanRequest { zone_id, steps: vec![step], idempotency_key: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_shown_and_changes_nothing() {
    let zone = shared().await;
    let admin = zone.admin();
    let before = zone.placements().await;
    let plan = admin.plan_balance(v1::PlanBalanceRequest::default()).await.unwrap();
    assert_eq!(Some(&plan.zone_id), zone.status().await.zone_id.as_ref());
    assert_eq!(plan.nodes.len(), NODES as usize);
    assert!(plan.revision > 0 && plan.seed > 0 && plan.effort > 0, "{plan:?}");
    for step in &plan.steps {
        assert!(step.change.is_some() && step.effect.is_some(), "{step:?}");
        assert!(!step.reason.is_empty() && step.target_replica_ids.len() == 3, "{step:?}");
    }
    assert_eq!(zone.placements().await, before);
    let greedy = v1::PlanBalanceRequest { effort: 4_000_001, ..Default::default() };
    let refused = admin.plan_balance(greedy).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::InvalidArgument), "{refused}");
    assert!(refused.to_string().contains("at most 4000000"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_applied_once_and_whole_or_not_at_all() {
    let zone = shared().await;
    let admin = zone.admin();
    let plan = plan_of_one(&zone).await;
    let keyed =
        v1::ApplyPlanRequest { idempotency_key: "the plan of a test".into(), ..plan.clone() };
    let applied = admin.apply_plan(keyed.clone()).await.unwrap();
    let [operation] = applied.operation_ids[..] else { panic!("{applied:?}") };
    assert_eq!(zone.ended(operation).await.state(), OperationState::Succeeded);
    // The same again is the same.
    assert_eq!(admin.apply_plan(keyed).await.unwrap(), applied);
    zone.settled().await;

    let fresh = plan_of_one(&zone).await;
    let before = zone.placements().await;
    let with = |change: &dyn Fn(&mut v1::ApplyPlanRequest)| {
        let mut plan = fresh.clone();
        change(&mut plan);
        plan
    };
    for (plan, code, said) in [
        (with(&|it| it.zone_id.clear()), Code::InvalidArgument, "zone_id"),
        (
            with(&|it| it.zone_id = "00000000-0000-0000-0000-000000000007".into()),
            Code::FailedPrecondition,
            "and this is zone",
        ),
        (with(&|it| it.steps[0].change = None), Code::InvalidArgument, "transfer or a move"),
        (with(&|it| it.steps[0].partition_id = 0), Code::InvalidArgument, "partition_id"),
        (with(&|it| it.steps.push(it.steps[0].clone())), Code::InvalidArgument, "is in it twice"),
        (
            with(&|it| it.steps = vec![it.steps[0].clone(); 1_001]),
            Code::InvalidArgument,
            "at most 1000",
        ),
        (with(&|it| it.steps[0].reason = "x".repeat(1_025)), Code::InvalidArgument, "at most 1024"),
        // Somebody else leads.
        (
            with(&|it| {
                let step = &mut it.steps[0];
                let Some(v1::plan_step::Change::Transfer(transfer)) = &mut step.change else {
                    panic!("it is one")
                };
                std::mem::swap(&mut transfer.from_node_id, &mut transfer.to_node_id);
                step.leader_node_id = transfer.from_node_id;
            }),
            Code::FailedPrecondition,
            "leads it by now",
        ),
        (
            with(&|it| it.steps[0].target_replica_ids = vec![1_001, 1_002, 1_003]),
            Code::FailedPrecondition,
            "and were 1001, 1002, 1003: plan again",
        ),
        // One that fits and one that does not: nothing is begun.
        (
            with(&|it| {
                let other = v1::PlanStep { partition_id: 77, ..it.steps[0].clone() };
                it.steps.push(other);
            }),
            Code::FailedPrecondition,
            "partition 77: it does not exist",
        ),
    ] {
        let refused = admin.apply_plan(plan).await.unwrap_err();
        assert_eq!(refused.code(), Some(code), "{refused}");
        assert!(refused.to_string().contains(said), "{said}: {refused}");
    }
    assert_eq!(zone.placements().await, before);
    zone.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_kept_in_order_and_followed() {
    let zone = shared().await;
    let events = zone.events().await;
    assert_eq!(events[0].sequence, 1);
    assert_eq!(events[0].kind, "zone-initialized");
    assert!(events.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
    assert!(events.windows(2).all(|pair| pair[1].zone_time_ms >= pair[0].zone_time_ms));
    let registered = events.iter().filter(|event| event.kind == "node-registered").count();
    assert!(registered >= NODES as usize);

    let last = events.last().unwrap().sequence;
    let wire = Wire::new();
    let mut admin = wire.admin(&zone.address(zone.leader().await));
    let follow = v1::WatchEventsRequest { after_sequence: last, follow: true };
    let mut followed = admin.watch_events(follow).await.unwrap().into_inner();
    let (partition_id, _, to) = zone.a_transfer().await;
    let transfer =
        v1::TransferLeaderRequest { partition_id, to: node_id(to), idempotency_key: String::new() };
    let operation = admin.transfer_leader(transfer).await.unwrap().into_inner().operation.unwrap();
    let following = async {
        let mut expected = last;
        let mut kinds = BTreeSet::new();
        while !(kinds.contains("operation-started") && kinds.contains("operation-ended")) {
            let event = followed.message().await.unwrap().expect("the stream goes on");
            expected += 1;
            assert_eq!(event.sequence, expected);
            if event.operation_id == operation.id {
                assert!(event.kind == "operation-ended" || !event.reason.is_empty(), "{event:?}");
                kinds.insert(event.kind);
            }
        }
    };
    tokio::time::timeout(LIMIT, following).await.expect("the transfer is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_init_is_refused_by_every_member() {
    let zone = shared().await;
    let wire = Wire::new();
    let before = zone.status().await;
    for address in zone.endpoints() {
        let request = v1::InitRequest {
            member_addresses: zone.endpoints(),
            split_keys: vec!["m".into()],
            replication_factor: 1,
            replace_after_ms: 1,
        };
        let zone_id = before.zone_id.clone().unwrap();
        let answer = wire.admin(&address).init(request).await;
        refused(answer, Code::AlreadyExists, &["already", &zone_id]);
    }
    let after = zone.status().await;
    assert_eq!(after.zone_id, before.zone_id);
    assert_eq!((after.partitions.total, after.replication_factor), (8, 3));
}
