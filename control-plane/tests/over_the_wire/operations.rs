//! What the control plane does with a zone: placement, takeover, repair, moves, drains, balance.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{eventually, zone::TestZone};
use proto::v1::{self, order::Kind};
use tonic::Code;

fn reference(id: u64) -> Option<v1::NodeReference> {
    Some(v1::NodeReference { id, name: String::new() })
}

fn even_leaders(status: &v1::ZoneStatus) -> bool {
    let leaders = || status.nodes.iter().map(|node| node.leaders);
    leaders().max().unwrap() - leaders().min().unwrap() <= 1
}

fn summary(status: &v1::ZoneStatus, node: u64) -> v1::NodeSummary {
    status.nodes.iter().find(|summary| summary.id == node).expect("a node").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_placed_led_and_spread() {
    let zone = TestZone::start(3, 5, 16, 3).await;
    let status = zone.healthy().await;
    assert_eq!(status.partitions.unwrap().total, 16);
    // Before that leaderships are handed over, and a partition may be without a leader for a moment.
    let balanced = zone.status_when("even leader counts", even_leaders).await;
    for partition in zone.partitions().await {
        let nodes: BTreeSet<u64> = partition.replicas.iter().map(|it| it.node_id).collect();
        assert_eq!(nodes.len(), 3, "distinct nodes, here each in a rack of its own");
        assert!(nodes.contains(&partition.leader_node_id));
    }
    let replicas: u32 = balanced.nodes.iter().map(|node| node.replicas).sum();
    assert_eq!(replicas, 48);
    // All founders of a group were told of the same founders.
    let world = zone.groups.lock();
    let mut founders: BTreeMap<u64, Vec<v1::ReplicaPlacement>> = BTreeMap::new();
    for (_, order) in &world.orders {
        if let Some(Kind::Ensure(ensure)) = &order.kind {
            // Whoever comes when the group has begun without it starts blank.
            if !ensure.founders.is_empty() {
                let first = founders.entry(order.partition_id).or_insert(ensure.founders.clone());
                assert_eq!(first, &ensure.founders);
            }
        }
    }
    assert_eq!(founders.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_replaced_and_its_node_taken_back_without_a_copy() {
    let mut zone = TestZone::start(3, 3, 9, 3).await;
    zone.healthy().await;
    let replicas_before: BTreeSet<u64> = zone
        .partitions()
        .await
        .iter()
        .flat_map(|it| it.replicas.iter().map(|it| it.replica_id))
        .collect();
    zone.status_when("even leader counts", even_leaders).await;
    let victim = zone.nodes[0].id();
    let led = zone.groups.lock().leaders().get(&victim).copied().unwrap_or(0);
    assert_eq!(led, 3);
    zone.nodes[0].kill();
    zone.status_when("all partitions available without it", |status| {
        summary(status, victim).state() == v1::NodeState::Down
            && status.partitions.unwrap().available == 9
    })
    .await;
    assert_eq!(zone.groups.lock().leaders().get(&victim), None);
    let recorded = eventually("the record", || async {
        let events = zone.events().await;
        let takeovers = events.iter().filter(|event| event.kind == "takeover").count();
        (takeovers >= led).then_some(events)
    })
    .await;
    let takeover = recorded.iter().find(|event| event.kind == "takeover").unwrap();
    assert_eq!(takeover.node_id, victim);
    assert!(takeover.reason.contains("candidates"), "{takeover:?}");
    // However many answers and reports there were: no operation names a partition twice.
    let outcomes = recorded.iter().filter(|event| event.kind.starts_with("takeover"));
    let outcomes: Vec<_> = outcomes.map(|it| (it.operation_id, it.partition_id)).collect();
    let distinct: BTreeSet<_> = outcomes.iter().collect();
    assert_eq!(distinct.len(), outcomes.len(), "{outcomes:?}");
    zone.nodes[0].restart();
    zone.status_when("health and even leader counts", |status| {
        let leaders: Vec<u32> = status.nodes.iter().map(|node| node.leaders).collect();
        status.healthy && leaders == [3, 3, 3]
    })
    .await;
    let replicas_after: BTreeSet<u64> = zone
        .partitions()
        .await
        .iter()
        .flat_map(|it| it.replicas.iter().map(|it| it.replica_id))
        .collect();
    assert_eq!(replicas_after, replicas_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stays_away_is_replaced() {
    let mut zone = TestZone::members(1);
    zone.init(4, 3, 1_000).await.unwrap();
    zone = zone.with_nodes(4).await;
    zone.healthy().await;
    let victim = zone.nodes[3].id();
    zone.nodes[3].kill();
    zone.status_when("its replicas made again elsewhere", |status| {
        let counts = status.partitions.unwrap();
        counts.under_replicated == 0
            && counts.available == 4
            && summary(status, victim).replicas == 0
    })
    .await;
    // Its name is free again once it was removed; its identity never comes back.
    let mut admin = zone.admin().await;
    let request = v1::RemoveNodeRequest { node: reference(victim), idempotency_key: "gone".into() };
    let name = zone.nodes[3].identity.name.clone();
    let uncordon = v1::UncordonNodeRequest {
        node: Some(v1::NodeReference { id: 0, name }),
        idempotency_key: "back".into(),
    };
    admin.uncordon_node(uncordon.clone()).await.expect("it is there");
    admin.remove_node(request.clone()).await.expect("it is down and empty");
    admin.remove_node(request.clone()).await.expect("the same command again");
    // What was done stays done, although nothing has the name any more; and a key stands for one command.
    admin.uncordon_node(uncordon).await.expect("the same command again");
    let other = v1::RemoveNodeRequest { node: reference(1), ..request };
    let reused = admin.remove_node(other).await.unwrap_err();
    assert!(reused.message().contains("was used for another command"), "{reused:?}");
    let returned = zone.members[0].nodes().register(zone.nodes[3].identity.registration()).await;
    let refused = returned.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    zone.healthy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_on_command() {
    let zone = TestZone::start(1, 3, 3, 3).await;
    zone.healthy().await;
    let partition = zone.partitions().await.remove(0);
    let to = partition.replicas.iter().find(|it| it.node_id != partition.leader_node_id).unwrap();
    let request = v1::TransferLeaderRequest {
        partition_id: partition.id,
        to: reference(to.node_id),
        idempotency_key: "once".into(),
    };
    let mut admin = zone.admin().await;
    let started =
        admin.transfer_leader(request.clone()).await.unwrap().into_inner().operation.unwrap();
    assert_eq!((started.kind.as_str(), started.origin.as_str()), ("transfer-leader", "operator"));
    let again =
        admin.transfer_leader(request.clone()).await.unwrap().into_inner().operation.unwrap();
    assert_eq!(again.id, started.id, "the same key starts nothing new");
    let mut other = request.clone();
    other.to = reference(partition.leader_node_id);
    assert_eq!(admin.transfer_leader(other).await.unwrap_err().code(), Code::InvalidArgument);

    let watched = admin.watch_operation(v1::WatchOperationRequest { id: started.id }).await;
    let mut watched = watched.unwrap().into_inner();
    let mut last = None;
    while let Some(operation) = watched.message().await.unwrap() {
        last = Some(operation);
    }
    assert_eq!(last.unwrap().state(), v1::OperationState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_cannot_be_are_refused() {
    let mut zone = TestZone::start(1, 4, 2, 3).await;
    zone.healthy().await;
    let partition = zone.partitions().await.remove(0);
    let holders: Vec<u64> = partition.replicas.iter().map(|it| it.node_id).collect();
    let spare = (1..=4).find(|node| !holders.contains(node)).unwrap();
    let mut admin = zone.admin().await;

    let transfer = |partition_id, to| v1::TransferLeaderRequest {
        partition_id,
        to,
        idempotency_key: String::new(),
    };
    let named = |name: &str| Some(v1::NodeReference { id: 0, name: name.into() });
    let both = Some(v1::NodeReference { id: 1, name: "node-1".into() });
    for (code, request) in [
        (Code::InvalidArgument, transfer(0, reference(1))),
        (Code::InvalidArgument, transfer(partition.id, None)),
        (Code::InvalidArgument, transfer(partition.id, both)),
        (Code::NotFound, transfer(99, reference(1))),
        (Code::NotFound, transfer(partition.id, reference(99))),
        (Code::NotFound, transfer(partition.id, named("nobody"))),
        (Code::InvalidArgument, transfer(partition.id, reference(spare))),
    ] {
        let refused = admin.transfer_leader(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{request:?}: {refused:?}");
    }

    let movement = |from: u64, to: u64| v1::MoveReplicaRequest {
        partition_id: partition.id,
        from: reference(from),
        to: reference(to),
        idempotency_key: String::new(),
    };
    for (code, request) in [
        (Code::InvalidArgument, movement(spare, holders[0])),
        (Code::InvalidArgument, movement(holders[0], holders[1])),
        (Code::NotFound, movement(holders[0], 99)),
    ] {
        let refused = admin.move_replica(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{request:?}: {refused:?}");
    }
    let long = v1::DrainNodeRequest {
        node: reference(1),
        idempotency_key: "k".repeat(65),
        ..Default::default()
    };
    assert_eq!(admin.drain_node(long).await.unwrap_err().code(), Code::InvalidArgument);
    let remove = v1::RemoveNodeRequest { node: reference(1), ..Default::default() };
    assert_eq!(admin.remove_node(remove).await.unwrap_err().code(), Code::FailedPrecondition);
    let cancel = v1::CancelOperationRequest { id: 9_999 };
    assert_eq!(admin.cancel_operation(cancel).await.unwrap_err().code(), Code::NotFound);
    let watch = v1::WatchOperationRequest { id: 9_999 };
    assert_eq!(admin.watch_operation(watch).await.unwrap_err().code(), Code::NotFound);
    let list = v1::ListPartitionsRequest { limit: 10_001, ..Default::default() };
    assert_eq!(admin.list_partitions(list).await.unwrap_err().code(), Code::InvalidArgument);
    let get = v1::GetPartitionRequest { partition_id: 99 };
    assert_eq!(admin.get_partition(get).await.unwrap_err().code(), Code::NotFound);

    // With one node down, three are left, and all three are needed.
    let spare_index = zone.nodes.iter().position(|node| node.id() == spare).unwrap();
    zone.nodes[spare_index].kill();
    zone.status_when("the spare down", |status| {
        summary(status, spare).state() == v1::NodeState::Down
    })
    .await;
    let refused = admin.move_replica(movement(holders[0], spare)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let drain = v1::DrainNodeRequest { node: reference(holders[0]), ..Default::default() };
    let refused = admin.drain_node(drain).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let detail = runtime::grpc::detail::kind_of(&refused);
    let Some(v1::error_detail::Kind::GuaranteeAtRisk(at_risk)) = detail else {
        panic!("{refused:?}");
    };
    assert_eq!(at_risk.guarantee, "G7");
    assert!(!at_risk.partition_ids.is_empty());
    for words in ["only 2 other nodes are up", "3 are needed", "`--accept-data-loss-risk`"] {
        assert!(refused.message().contains(words), "{words}: {refused:?}");
    }
    assert!(!refused.message().contains("G7"), "people know no such number: {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_moves_on_command() {
    let zone = TestZone::start(1, 4, 2, 3).await;
    zone.healthy().await;
    let partition = zone.partitions().await.remove(0);
    let holders: BTreeSet<u64> = partition.replicas.iter().map(|it| it.node_id).collect();
    let to = (1..=4).find(|node| !holders.contains(node)).unwrap();
    let from = partition.leader_node_id;
    let request = v1::MoveReplicaRequest {
        partition_id: partition.id,
        from: reference(from),
        to: reference(to),
        idempotency_key: String::new(),
    };
    let mut admin = zone.admin().await;
    let operation = admin.move_replica(request).await.unwrap().into_inner().operation.unwrap();
    let ended = zone.ended(operation.id).await;
    assert_eq!(ended.state(), v1::OperationState::Succeeded, "{ended:?}");
    let detail = admin.get_partition(v1::GetPartitionRequest { partition_id: partition.id }).await;
    let detail = detail.unwrap().into_inner();
    let now: BTreeSet<u64> = detail.summary.unwrap().replicas.iter().map(|it| it.node_id).collect();
    assert!(now.contains(&to) && !now.contains(&from), "{now:?}");
    let world = zone.groups.lock();
    let group = &world.groups[&partition.id];
    assert_eq!(group.destroyed.values().copied().collect::<Vec<_>>(), [from]);
    assert_eq!(group.voters.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_split_on_command() {
    let zone = TestZone::start(3, 4, 2, 3).await;
    zone.healthy().await;
    let partition = zone.partitions().await.remove(0);
    let range = partition.range.clone().unwrap();
    let at = bytes::Bytes::from([&range.start[..], b"\x01"].concat());
    let request = |at: &[u8]| v1::SplitPartitionRequest {
        partition_id: partition.id,
        point: Some(v1::split_partition_request::Point::At(at.to_vec().into())),
        idempotency_key: "split".into(),
    };
    let mut admin = zone.admin().await;
    let started = admin.split_partition(request(&at)).await.unwrap().into_inner();
    let started = started.operation.unwrap();
    assert_eq!((started.kind.as_str(), started.partition_id), ("split", partition.id));
    let ended = zone.ended(started.id).await;
    assert_eq!(ended.state(), v1::OperationState::Succeeded, "{ended:?}");
    let again = admin.split_partition(request(&at)).await.unwrap().into_inner();
    assert_eq!(again.operation.unwrap().id, started.id);
    let other = admin.split_partition(request(b"\x7f")).await.unwrap_err();
    assert_eq!(other.code(), Code::InvalidArgument, "the key was used: {other:?}");
    let halves = zone.partitions().await;
    assert_eq!(halves.len(), 3);
    let bounds = |index: usize| halves[index].range.clone().unwrap();
    assert_eq!((bounds(0).start, bounds(0).end), (range.start, at.clone()));
    assert_eq!((bounds(1).start, bounds(1).end), (at, range.end));
    assert_eq!(halves[0].range_epoch, halves[1].range_epoch);
    let nodes = |index: usize| -> BTreeSet<u64> {
        halves[index].replicas.iter().map(|replica| replica.node_id).collect()
    };
    assert_eq!(nodes(0), nodes(1));
    zone.healthy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_and_takes_part_again() {
    let zone = TestZone::start(3, 4, 8, 3).await;
    zone.healthy().await;
    let mut admin = zone.admin().await;
    let drain = v1::DrainNodeRequest { node: reference(2), ..Default::default() };
    let operation = admin.drain_node(drain).await.unwrap().into_inner().operation.unwrap();
    let ended = zone.ended(operation.id).await;
    assert_eq!(ended.state(), v1::OperationState::Succeeded, "{ended:?}");
    let drained = zone.healthy().await;
    let node = summary(&drained, 2);
    assert_eq!((node.replicas, node.leaders), (0, 0));
    assert_eq!(node.administrative_state(), v1::AdministrativeState::Drained);
    let uncordon = v1::UncordonNodeRequest {
        node: Some(v1::NodeReference { id: 0, name: "node-2".into() }),
        ..Default::default()
    };
    let node = admin.uncordon_node(uncordon).await.unwrap().into_inner().node.unwrap();
    assert_eq!(node.administrative_state(), v1::AdministrativeState::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_checked_against_what_the_sessions_say() {
    let zone = TestZone::start(1, 4, 2, 3).await;
    zone.healthy().await;
    let partition = zone.partitions().await.remove(0);
    let holders: Vec<u64> = partition.replicas.iter().map(|it| it.node_id).collect();
    let spare = (1..=4).find(|node| !holders.contains(node)).unwrap();
    // It is up, and nothing that is committed speaks against it.
    zone.groups.lock().low_on_disk.insert(spare);
    zone.status_when("the spare low on disk", |status| summary(status, spare).disk_below_reserve)
        .await;
    let mut admin = zone.admin().await;
    let drain = v1::DrainNodeRequest { node: reference(holders[0]), ..Default::default() };
    let refused = admin.drain_node(drain.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("only 2 other nodes are up"), "{refused:?}");
    zone.groups.lock().low_on_disk.clear();
    zone.status_when("room again", |status| !summary(status, spare).disk_below_reserve).await;
    let drain = v1::DrainNodeRequest { idempotency_key: "once".into(), ..drain };
    let started = admin.drain_node(drain.clone()).await.unwrap().into_inner().operation.unwrap();
    // The same request again is answered with what it has started, whatever has become of the room.
    zone.groups.lock().low_on_disk.insert(spare);
    zone.status_when("no room", |status| summary(status, spare).disk_below_reserve).await;
    let again = admin.drain_node(drain).await.unwrap().into_inner().operation.unwrap();
    assert_eq!(again.id, started.id);
}

/// Nothing else happens to the half that is missing there: no report, and no change.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_refused_is_repeated_until_it_can_be_carried_out() {
    let zone = TestZone::start(1, 3, 1, 3).await;
    zone.healthy().await;
    let partition = zone.partitions().await.remove(0);
    let node =
        partition.replicas.iter().map(|it| it.node_id).find(|it| *it != partition.leader_node_id);
    let node = node.expect("one that follows");
    zone.groups.lock().without_room.insert(node);
    let mut admin = zone.admin().await;
    let request = v1::SplitPartitionRequest {
        partition_id: partition.id,
        point: Some(v1::split_partition_request::Point::At(b"m".to_vec().into())),
        ..Default::default()
    };
    let split = admin.split_partition(request).await.unwrap().into_inner().operation.unwrap();
    zone.ended(split.id).await;
    let child = eventually("two halves", || async {
        zone.partitions().await.into_iter().find(|it| it.id != partition.id)
    })
    .await;
    let orders = || {
        let world = zone.groups.lock();
        let to_node = world.orders.iter().filter(|(to, order)| {
            *to == node
                && order.partition_id == child.id
                && matches!(order.kind, Some(Kind::Ensure(_)))
        });
        to_node.count()
    };
    eventually("the order, three times", || async { (orders() >= 3).then_some(()) }).await;
    zone.groups.lock().without_room.clear();
    eventually("the missing replica", || async {
        let world = zone.groups.lock();
        world.groups[&child.id].replicas.values().any(|on| *on == node).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_rebalanced_and_then_nothing_moves() {
    let zone = TestZone::start(1, 3, 9, 3).await;
    zone.healthy().await;
    {
        let mut world = zone.groups.lock();
        for group in world.groups.values_mut() {
            let first = group.voters.iter().find(|(_, node)| **node == 1).map(|(id, _)| *id);
            group.leader = first;
            group.term += 1;
        }
    }
    zone.status_when("all leaders on one node", |status| summary(status, 1).leaders == 9).await;
    // It evens them out by itself in the end; what is left to do is what the plan shows.
    eventually("a plan that evens the counts out", || async {
        let mut admin = zone.admin().await;
        let plan = admin.plan_balance(v1::PlanBalanceRequest::default()).await.ok()?.into_inner();
        let after: Vec<u32> = plan.nodes.iter().map(|node| node.leaders_after).collect();
        (after == [3, 3, 3]).then_some(())
    })
    .await;
    zone.status_when("even leader counts", |status| {
        status.nodes.iter().all(|node| node.leaders == 3) && status.operations_running == 0
    })
    .await;
    eventually("nothing to be committed any more", || async {
        let revision = zone.healthy().await.revision;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        (zone.healthy().await.revision == revision).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_candidate_is_followed_by_the_next() {
    let mut zone = TestZone::start(1, 3, 1, 3).await;
    zone.healthy().await;
    let leader = zone.partitions().await.remove(0).leader_node_id;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    // The survivor with the longer log refuses to lead.
    zone.groups.lock().refusing.insert(others[0]);
    let victim = zone.nodes.iter().position(|node| node.id() == leader).unwrap();
    zone.nodes[victim].kill();
    zone.status_when("the other one to lead", |status| summary(status, others[1]).leaders == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_streamed_as_they_happen() {
    let zone = TestZone::start(1, 1, 1, 1).await;
    zone.healthy().await;
    let mut admin = zone.admin().await;
    let request = v1::WatchEventsRequest { after_sequence: 0, follow: true };
    let mut events = admin.watch_events(request).await.unwrap().into_inner();
    let first = events.message().await.unwrap().unwrap();
    assert_eq!((first.sequence, first.kind.as_str()), (1, "zone-initialized"));
    let newcomer = zone.node("newcomer", "rack-9").await;
    let mut last = first.sequence;
    loop {
        let event = events.message().await.unwrap().unwrap();
        assert_eq!(event.sequence, last + 1);
        last = event.sequence;
        if event.kind == "node-registered" && event.node_id == newcomer.id() {
            break;
        }
    }
}
