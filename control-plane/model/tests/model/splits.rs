//! Partitions that become two, in whole zones of toy groups.

use model::{
    Action, NodeId, OperationId, PartitionId, Refusal,
    command::GroupObservation,
    operation::{OperationKind, OperationState, Origin, SplitPoint},
};
use proptest::prelude::*;

use crate::{
    reconcile::{operation_of, zone},
    world::World,
};

fn split(world: &mut World, partition: u64, at: SplitPoint) -> model::Outcome {
    world.apply(Action::SplitPartition {
        partition: PartitionId(partition),
        at,
        origin: Origin::Operator,
        reason: "a test wants it".to_owned(),
    })
}

fn key(byte: u8) -> SplitPoint {
    SplitPoint::Key([byte].into())
}

fn state_of(world: &World, operation: OperationId) -> OperationState {
    world.state.operation(operation).expect("remembered").state
}

fn child_of(world: &World, operation: OperationId) -> PartitionId {
    match &world.state.operation(operation).expect("remembered").kind {
        OperationKind::Split(split) => split.child,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_partition_becomes_two_on_the_same_nodes() {
    // Partitions end at the keys 1, 2, 3; the last one has no end.
    let mut world = zone(4, 5);
    let before = world.state.partition(PartitionId(4)).expect("there").clone();
    let operation = operation_of(split(&mut world, 4, key(100)));
    let child = child_of(&world, operation);
    assert!(world.state.partition(child).is_none(), "nothing changes before the group has");
    world.run(5);
    assert_eq!(state_of(&world, operation), OperationState::Succeeded);
    let (left, right) = (
        world.state.partition(PartitionId(4)).expect("there"),
        world.state.partition(child).expect("there"),
    );
    assert_eq!((left.range.start(), left.range.end()), (&[3][..], &[100][..]));
    assert_eq!((right.range.start(), right.range.end()), (&[100][..], &[][..]));
    assert_eq!(left.range_epoch, right.range_epoch);
    assert_eq!(left.range_epoch.get(), before.range_epoch.get() + 1);
    assert_eq!(left.targets, before.targets);
    let nodes = |targets: &[model::partition::Replica]| -> Vec<NodeId> {
        targets.iter().map(|target| target.node).collect()
    };
    assert_eq!(nodes(&right.targets), nodes(&left.targets));
    assert!(right.is_settled() && right.leader.is_some());
    world.settle(400);
    world.check_healthy();
    assert!(world.state.is_consistent());
}

#[test]
fn what_cannot_be_split_is_refused_with_what_would_be_right() {
    let mut world = zone(4, 5);
    for (partition, byte) in [(4, 3), (4, 2), (2, 2), (2, 1)] {
        let refused = split(&mut world, partition, key(byte)).unwrap_err();
        assert!(matches!(refused, Refusal::NotInside { .. }), "{refused:?}");
        let words = refused.to_string();
        assert!(words.contains(&format!("partition {partition}")), "{words}");
    }
    let refused = split(&mut world, 4, SplitPoint::Key(vec![5; 4_097].into())).unwrap_err();
    assert_eq!(refused, Refusal::SplitKeyTooLong { bytes: 4_097, max: 4_096 });
    let refused = split(&mut world, 77, key(5)).unwrap_err();
    assert_eq!(refused, Refusal::NoSuchPartition { partition: PartitionId(77) });
    let operation = operation_of(split(&mut world, 4, key(100)));
    let refused = split(&mut world, 4, key(50)).unwrap_err();
    let partition = PartitionId(4);
    assert_eq!(refused, Refusal::ChangeUnderWay { partition, operation });
}

#[test]
fn a_split_that_is_cancelled_in_time_leaves_nothing_behind() {
    let mut world = zone(4, 5);
    let operation = operation_of(split(&mut world, 4, key(100)));
    let child = child_of(&world, operation);
    world.apply(Action::CancelOperation { operation }).expect("nothing has happened");
    world.settle(400);
    world.check_healthy();
    assert_eq!(state_of(&world, operation), OperationState::Cancelled);
    assert!(world.state.partition(child).is_none());
    let again = operation_of(split(&mut world, 4, key(100)));
    assert_ne!(child_of(&world, again), child, "an id is never given out again");
    world.settle(400);
    assert_eq!(state_of(&world, again), OperationState::Succeeded);
}

#[test]
fn a_split_that_was_cancelled_too_late_is_one() {
    let mut world = zone(4, 5);
    let operation = operation_of(split(&mut world, 4, key(100)));
    let child = child_of(&world, operation);
    // One step: the group has split, and nobody has seen it yet.
    world.step();
    assert!(world.groups.contains_key(&child) && world.state.partition(child).is_none());
    world.apply(Action::CancelOperation { operation }).expect("nobody has seen it");
    world.settle(400);
    world.check_healthy();
    assert_eq!(state_of(&world, operation), OperationState::Cancelled);
    assert!(world.state.partition(child).is_some_and(|child| child.leader.is_some()));
    let refused = world.apply(Action::CancelOperation { operation });
    assert!(matches!(refused, Err(Refusal::OperationEnded { .. })), "{refused:?}");
}

#[test]
fn a_node_that_was_away_gets_the_child_with_the_parents_log() {
    let mut world = zone(2, 5);
    let targets = world.state.partition(PartitionId(2)).expect("there").targets.clone();
    let leader = world.state.partition(PartitionId(2)).expect("there").leader.expect("led");
    let away = targets.iter().find(|target| target.id != leader.replica).expect("three").node;
    world.kill(away);
    world.run(3);
    let operation = operation_of(split(&mut world, 2, key(100)));
    let child = child_of(&world, operation);
    world.run(10);
    assert_eq!(state_of(&world, operation), OperationState::Succeeded);
    world.restart(away);
    for _ in 0..50 {
        world.step();
        let ordered = world.activity.iter().any(|line| line.contains("Ensure"));
        assert!(!ordered, "what comes by itself is not ordered: {:?}", world.activity);
    }
    world.settle(400);
    world.check_healthy();
    let own = world.state.partition(child).expect("there").target_on(away).expect("a target");
    assert!(world.groups[&child].replicas.contains_key(&own.id));
}

#[test]
fn a_split_gives_way_to_a_repair() {
    let mut world = zone(2, 5);
    let partition = world.state.partition(PartitionId(2)).expect("there");
    let leader = partition.leader.expect("led");
    let lost = partition.targets.iter().find(|target| target.id != leader.replica).expect("three");
    let lost = lost.node;
    world.kill(lost);
    // Long enough for its replicas to be made again, if nothing stood in the way.
    world.run(150);
    // Refused by the group again and again.
    let operation = operation_of(split(&mut world, 2, SplitPoint::MiddleOfLoad));
    let outcome =
        world.apply(Action::NoteOperationError { operation, error: "too few requests".into() });
    outcome.expect("it runs");
    world.loss = 0;
    world.settle(1_500);
    assert_ne!(state_of(&world, operation), OperationState::Running);
    world.check_healthy();
}

#[test]
fn what_nobody_gave_out_is_not_adopted() {
    let mut world = zone(2, 5);
    let observed = world.state.partition(PartitionId(2)).expect("there").observed.clone();
    let epoch = model::RangeEpoch(2);
    let of = |partition, start: u8, range_epoch| GroupObservation {
        partition: PartitionId(partition),
        membership: observed.clone(),
        leader: None,
        split_off: Some(model::command::SplitOff {
            range: model::key_range::KeyRange::new([start], []).expect("a range"),
            range_epoch,
        }),
    };
    let before = world.state.partitions().len();
    // An id of nobody; the start of a partition; an epoch that is not newer.
    let operation = operation_of(split(&mut world, 2, key(100)));
    let child = child_of(&world, operation).get();
    let old = model::RangeEpoch(1);
    let groups = vec![of(child + 1, 100, epoch), of(child, 1, epoch), of(child, 100, old)];
    world.apply(Action::ObserveGroups { groups }).expect("a batch");
    assert_eq!(world.state.partitions().len(), before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Splits, deaths, and lost messages in any sequence: the ranges always cover the key space (each command
    /// checks that), and in the end everything is as it should be.
    #[test]
    fn splits_settle_whatever_happens(
        events in prop::collection::vec((0_u8..6, any::<u8>(), 1_u32..12), 1..25),
    ) {
        let mut world = zone(3, 5);
        world.loss = 5;
        for (kind, number, steps) in events {
            let ids: Vec<PartitionId> = world.state.partitions().iter().map(|(id, _)| *id).collect();
            let partition = ids[usize::from(number) % ids.len()];
            let node = NodeId(u64::from(number) % 5 + 1);
            match kind {
                0 | 1 => drop(split(&mut world, partition.get(), key(number))),
                2 => drop(split(&mut world, partition.get(), SplitPoint::MiddleOfSize)),
                3 if world.nodes.values().all(|node| node.alive) => world.kill(node),
                3 => {}
                4 => world.restart(node),
                _ => world.change_control_plane_leader(),
            }
            world.run(steps);
        }
        world.loss = 0;
        for node in 1..=5 {
            world.restart(NodeId(node));
        }
        world.settle(3_000);
        world.check_healthy();
        prop_assert!(world.state.is_consistent());
    }
}
