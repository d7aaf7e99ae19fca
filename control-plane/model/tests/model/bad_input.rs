//! Bad input: each case is refused with a precise reason, in the right category, and changes nothing.

use model::{
    Action, Applied, Category, Command, Incarnation, NodeId, OperationId, Outcome, PartitionId,
    Refusal, Revision, WallTime, ZoneState, ZoneTime,
    command::{BrakeChange, Conclusion, Registration},
    node::NodeState,
};
use uuid::Uuid;

use crate::world::{World, identity, registration, split_keys, zone_id};

fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Err(refusal) => refusal,
        Ok(applied) => panic!("expected a refusal, got {applied:?}"),
    }
}

/// Applies the action; it must be refused with this category and these words, and change nothing.
fn refused(world: &mut World, action: Action, category: Category, words: &str) {
    let before: Vec<_> = world.state.records().filter(|(key, _)| key[0] != 1).collect();
    let refusal = refusal(world.apply(action.clone()));
    assert_eq!(refusal.category(), category, "{action:?}: {refusal}");
    let message = refusal.to_string();
    assert!(message.contains(words), "{action:?}: {message:?} lacks {words:?}");
    let after: Vec<_> = world.state.records().filter(|(key, _)| key[0] != 1).collect();
    assert_eq!(before, after, "{action:?} changed something");
}

fn initialize(split_keys: Vec<Vec<u8>>, replication_factor: u32) -> Action {
    Action::InitializeZone {
        zone_id: zone_id(),
        split_keys,
        replication_factor,
        replace_after_ms: 0,
    }
}

#[test]
fn initialisation() {
    let keys = |keys: &[&str]| keys.iter().map(|key| key.as_bytes().to_vec()).collect::<Vec<_>>();
    let mut world = World::empty();
    use Category::{AlreadyExists, FailedPrecondition, InvalidArgument};
    refused(&mut world, Action::Tick, FailedPrecondition, "init");
    let registering = Action::RegisterNode(registration(1, "a"));
    refused(&mut world, registering, FailedPrecondition, "init");
    for factor in [0, 2, 4, 6] {
        refused(&mut world, initialize(vec![], factor), InvalidArgument, "1, 3 or 5");
    }
    refused(&mut world, initialize(keys(&["a", ""]), 3), InvalidArgument, "split key 2 is empty");
    refused(&mut world, initialize(keys(&["b", "a"]), 3), InvalidArgument, "must rise");
    refused(&mut world, initialize(keys(&["b", "b"]), 3), InvalidArgument, "must rise");
    let many = (0..100_001_u32).map(|key| key.to_be_bytes().to_vec()).collect();
    refused(&mut world, initialize(many, 3), InvalidArgument, "at most 100000");
    assert!(!world.state.is_initialized());
    let outcome = world.apply(initialize(split_keys(4), 3));
    assert_eq!(outcome, Ok(Applied::ZoneInitialized { zone_id: zone_id(), partitions: 4 }));
    refused(&mut world, initialize(split_keys(4), 3), AlreadyExists, "already");
}

#[test]
fn registrations() {
    use Category::{AlreadyExists, FailedPrecondition, InvalidArgument};
    let mut world = World::new(2, 3, &["a", "b", "c", "d"]);
    world.settle(300);
    let known = |number: u64| Registration {
        zone_id: Some(zone_id()),
        node: Some(NodeId(number)),
        ..registration(number, "a")
    };
    let cases = [
        (
            Registration { zone_id: Some(Uuid::from_u128(9)), ..known(1) },
            FailedPrecondition,
            "belongs to zone",
        ),
        (Registration { node: Some(NodeId(99)), ..known(1) }, FailedPrecondition, "node id 99"),
        (Registration { identity: identity(50), ..known(1) }, FailedPrecondition, "has identity"),
        (
            Registration { node: None, identity: identity(50), ..known(1) },
            FailedPrecondition,
            "is not known",
        ),
        (Registration { zone_id: None, ..known(1) }, InvalidArgument, "expected a zone id"),
        (Registration { incarnation: Incarnation(0), ..known(1) }, InvalidArgument, "incarnation"),
        (Registration { name: "Bad Name".into(), ..known(1) }, InvalidArgument, "name"),
        (Registration { name: String::new(), ..known(1) }, InvalidArgument, "name"),
        (Registration { fault_domain: "_".into(), ..known(1) }, InvalidArgument, "fault_domain"),
        (Registration { address: "nowhere".into(), ..known(1) }, InvalidArgument, "host:port"),
        (Registration { identity: Uuid::nil(), ..known(1) }, InvalidArgument, "UUID"),
        (
            Registration { capacity: Default::default(), ..known(1) },
            InvalidArgument,
            "stored_bytes",
        ),
        (
            Registration { software_version: "x".repeat(129), ..known(1) },
            InvalidArgument,
            "software_version",
        ),
        (
            Registration { name: "node-2".into(), ..registration(9, "a") },
            AlreadyExists,
            "belongs to node 2",
        ),
    ];
    for (registration, category, words) in cases {
        refused(&mut world, Action::RegisterNode(registration), category, words);
    }

    // An older incarnation, after a newer one.
    let newer = Registration { incarnation: Incarnation(5), ..known(1) };
    world.apply(Action::RegisterNode(newer)).expect("a restart");
    let older = Registration { incarnation: Incarnation(4), ..known(1) };
    refused(&mut world, Action::RegisterNode(older), FailedPrecondition, "is older than 5");

    // The answer to a first registration was lost: the same identity gets the same id.
    let again = Registration { zone_id: None, node: None, ..known(2) };
    let outcome = world.apply(Action::RegisterNode(again));
    assert!(matches!(outcome, Ok(Applied::NodeRegistered { node: NodeId(2), .. })), "{outcome:?}");

    // A name is free once its node is down and holds nothing.
    let heir = Registration { name: "node-1".into(), ..registration(9, "a") };
    world.conclude(NodeId(1), NodeState::Down);
    let held = world.state.replicas_held(NodeId(1));
    if held > 0 {
        refused(&mut world, Action::RegisterNode(heir), AlreadyExists, "still holds");
    }
}

#[test]
fn a_removed_identity_never_comes_back_and_its_name_is_free() {
    use Category::{FailedPrecondition, NotFound};
    let mut world = World::new(1, 1, &["a", "b"]);
    let empty = Action::RemoveNode { node: NodeId(2) };
    refused(&mut world, empty.clone(), FailedPrecondition, "is up");
    world.conclude(NodeId(2), NodeState::Down);
    let brake = BrakeChange { engaged: true, reason: "the test says so".into() };
    let engage = Action::SetLiveness { conclusions: vec![], brake: Some(brake.clone()) };
    world.apply(engage).expect("a batch");
    refused(&mut world, empty.clone(), FailedPrecondition, "brake");
    let release = BrakeChange { engaged: false, ..brake };
    world
        .apply(Action::SetLiveness { conclusions: vec![], brake: Some(release) })
        .expect("a batch");
    world.apply(empty.clone()).expect("down and empty");
    refused(&mut world, empty, NotFound, "no node 2");
    let removed = registration(2, "b");
    refused(&mut world, Action::RegisterNode(removed), FailedPrecondition, "never accepted again");
    let heir = Registration { name: "node-2".into(), ..registration(3, "b") };
    let outcome = world.apply(Action::RegisterNode(heir));
    assert!(
        matches!(outcome, Ok(Applied::NodeRegistered { node: NodeId(3), .. })),
        "ids are never used again: {outcome:?}"
    );
}

#[test]
fn moves_transfers_and_drains() {
    use Category::{FailedPrecondition, InvalidArgument, NotFound};
    let mut world = World::new(4, 3, &["a", "b", "c", "d", "a"]);
    world.settle(400);
    let id = PartitionId(1);
    let record = world.state.partition(id).expect("there").clone();
    let held: Vec<NodeId> = record.targets.iter().map(|target| target.node).collect();
    let free: Vec<NodeId> =
        world.nodes.keys().copied().filter(|node| !record.is_on(*node)).collect();
    let (from, to) = (held[1], free[0]);
    let moving = |from, to| Action::MoveReplica { partition: id, from, to };
    let none = PartitionId(77);
    let absent = NodeId(77);
    refused(
        &mut world,
        Action::MoveReplica { partition: none, from, to },
        NotFound,
        "no partition 77",
    );
    refused(&mut world, moving(absent, to), NotFound, "no node 77");
    refused(&mut world, moving(from, absent), NotFound, "no node 77");
    refused(&mut world, moving(to, free[1]), InvalidArgument, "holds no replica");
    refused(&mut world, moving(from, held[2]), InvalidArgument, "already");
    refused(&mut world, moving(from, from), InvalidArgument, "already");
    let transfer = |to| Action::TransferLeader { partition: id, to };
    refused(&mut world, transfer(to), InvalidArgument, "holds no voting replica");
    refused(&mut world, transfer(absent), NotFound, "no node 77");
    refused(&mut world, Action::TransferLeader { partition: none, to }, NotFound, "no partition");
    let drain = |node| Action::DrainNode { node, accept_data_loss_risk: false };
    refused(&mut world, drain(absent), NotFound, "no node 77");
    refused(&mut world, Action::UncordonNode { node: absent }, NotFound, "no node 77");
    refused(&mut world, Action::RemoveNode { node: absent }, NotFound, "no node 77");
    refused(&mut world, Action::RemoveNode { node: from }, FailedPrecondition, "is up");

    // A fault domain that holds another replica.
    let domain = |node: NodeId| world.nodes[&node].fault_domain.clone();
    let shared = world.state.partitions().iter().find_map(|(id, partition)| {
        let to = world.nodes.keys().find(|node| {
            !partition.is_on(**node)
                && partition.targets.iter().any(|target| domain(target.node) == domain(**node))
        })?;
        let from = partition.targets.iter().find(|target| domain(target.node) != domain(*to))?;
        Some((*id, from.node, *to))
    });
    let (shared_id, shared_from, shared_to) = shared.expect("nodes 1 and 5 share domain a");
    let crowding = Action::MoveReplica { partition: shared_id, from: shared_from, to: shared_to };
    refused(&mut world, crowding, FailedPrecondition, "fault domain \"a\"");

    // Nodes that are not up.
    world.conclude(to, NodeState::Down);
    refused(&mut world, moving(from, to), FailedPrecondition, "it is down");
    world.conclude(to, NodeState::Up);
    let leader = record.leader.expect("led").node;
    let follower = *held.iter().find(|node| **node != leader).expect("three");
    world.conclude(follower, NodeState::Down);
    refused(&mut world, transfer(follower), FailedPrecondition, "it is down");
    world.conclude(follower, NodeState::Up);

    // In the middle of a change.
    world.apply(transfer(follower)).expect("possible");
    refused(&mut world, transfer(leader), FailedPrecondition, "in the middle of");
    refused(&mut world, moving(from, to), FailedPrecondition, "in the middle of");
    world.settle(200);

    // Draining.
    let target = free.iter().copied().find(|node| domain_of(&world, *node) != "a").unwrap_or(to);
    world.apply(drain(target)).expect("possible");
    refused(&mut world, drain(target), FailedPrecondition, "already");
    refused(&mut world, moving(from, target), FailedPrecondition, "drained");
    let cancel = |operation| Action::CancelOperation { operation: OperationId(operation) };
    refused(&mut world, cancel(9_999), NotFound, "no operation 9999");
    refused(&mut world, cancel(1), FailedPrecondition, "has ended already");
}

fn domain_of(world: &World, node: NodeId) -> String {
    world.nodes[&node].fault_domain.clone()
}

#[test]
fn idempotency_keys() {
    let mut world = World::new(4, 3, &["a", "b", "c", "d"]);
    world.settle(400);
    let id = PartitionId(1);
    let partition = world.state.partition(id).expect("there");
    let leader = partition.leader.expect("led").node;
    let to = partition.targets.iter().map(|target| target.node).find(|node| *node != leader);
    let to = to.expect("three replicas");
    let absent = NodeId(77);
    let mut revision = 1_000_000;
    let mut apply = |state: &mut ZoneState, key: &str, action: Action, time: u64| {
        revision += 1;
        let command = Command::new(ZoneTime(time), WallTime(0), action).of_request(key, 0);
        state.apply(Revision(revision), &command)
    };
    let transfer = Action::TransferLeader { partition: id, to };
    let start = world.state.zone_time().get();
    let first = apply(&mut world.state, "k", transfer.clone(), start);
    assert!(matches!(first, Ok(Applied::Operation(_))), "{first:?}");
    let operations = world.state.operations().len();
    assert_eq!(apply(&mut world.state, "k", transfer.clone(), start), first);
    assert_eq!(world.state.operations().len(), operations, "nothing was done twice");
    assert_eq!(world.state.remembered("k").map(|remembered| &remembered.outcome), Some(&first));

    let other = Action::TransferLeader { partition: id, to: leader };
    let reused = refusal(apply(&mut world.state, "k", other.clone(), start));
    assert_eq!(reused.category(), Category::InvalidArgument);
    let long = refusal(apply(&mut world.state, &"x".repeat(65), other, start));
    assert!(long.to_string().contains("at most 64 bytes"));

    // A refusal is an outcome too.
    let wrong = Action::DrainNode { node: absent, accept_data_loss_risk: false };
    let refused = apply(&mut world.state, "r", wrong.clone(), start);
    assert_eq!(refusal(refused.clone()).category(), Category::NotFound);
    assert_eq!(apply(&mut world.state, "r", wrong.clone(), start), refused);

    // After a day of zone time the keys are forgotten.
    let mut time = start;
    for _ in 0..=(24 * 3_600 + 1) {
        time += 1_000;
        apply(&mut world.state, "", Action::Tick, time).expect("a tick");
    }
    assert_eq!(world.state.remembered("k"), None);
}

#[test]
fn a_stale_judgement_does_not_hit_a_newer_incarnation() {
    let mut world = World::new(1, 1, &["a", "b"]);
    let newer = Registration {
        zone_id: Some(zone_id()),
        node: Some(NodeId(1)),
        incarnation: Incarnation(7),
        ..registration(1, "a")
    };
    world.apply(Action::RegisterNode(newer)).expect("a restart");
    let stale = Conclusion {
        node: NodeId(1),
        incarnation: Incarnation(6),
        state: NodeState::Down,
        evidence: String::new(),
        by_own_account: false,
        forgets: false,
    };
    let action = Action::SetLiveness { conclusions: vec![stale], brake: None };
    let outcome = world.apply(action);
    assert!(matches!(outcome, Ok(Applied::Batch { accepted: 0, .. })), "{outcome:?}");
    assert!(world.state.node(NodeId(1)).expect("there").is_up());
}
