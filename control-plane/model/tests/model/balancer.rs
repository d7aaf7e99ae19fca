//! Load in the toy zone is spread, and then left alone.

use std::collections::BTreeMap;

use model::{
    Action, NodeId, PartitionId,
    operation::{OperationKind, OperationState, Origin},
};
use proptest::prelude::*;

use crate::world::{ToyLoad, World};

const MINUTE: u32 = 600;
const CORES_US: u64 = 2_000_000;

/// A zone at rest whose partitions have all the same load.
fn zone(partitions: u8, domains: &[&str], load: ToyLoad) -> World {
    let mut world = World::new(partitions, 3, domains);
    world.settle(600);
    for id in world.state.partitions().iter().map(|(id, _)| *id).collect::<Vec<_>>() {
        world.loads.insert(id, load);
    }
    world
}

fn request(request_cpu_us: u64) -> ToyLoad {
    ToyLoad { request_cpu_us, apply_cpu_us: 0 }
}

/// The most loaded node's utilisation against the mean, in thousandths. All nodes are of one size.
fn worst_permille(world: &World) -> u64 {
    let spent = world.spent();
    let staying = || spent.iter().filter(|(id, _)| world.is_responsive(**id));
    let (sum, count) = (staying().map(|(_, us)| us).sum::<u64>(), staying().count() as u64);
    let most = staying().map(|(_, us)| *us).max().unwrap_or(0);
    most * count * 1_000 / sum.max(1)
}

/// What load has moved, from where, in the sequence of the beginning.
fn moved(world: &World) -> Vec<(PartitionId, &'static str, NodeId, NodeId)> {
    let operations = world.state.operations().iter();
    let heat = operations.filter(|(_, operation)| operation.origin == Origin::Heat);
    heat.filter_map(|(_, operation)| {
        let partition = operation.partition()?;
        Some((partition, operation.kind.as_str(), operation.from_node()?, operation.to_node()?))
    })
    .collect()
}

/// Nothing goes back to where load has taken it from.
fn check_no_return(world: &World) {
    let mut left: BTreeMap<(PartitionId, &str), Vec<NodeId>> = BTreeMap::new();
    for (partition, kind, from, to) in moved(world) {
        let been = left.entry((partition, kind)).or_default();
        assert!(!been.contains(&to), "partition {partition} goes back to node {to}: {kind}");
        been.push(from);
    }
}

#[test]
fn load_on_one_node_is_spread_and_then_nothing_moves() {
    let mut world = zone(12, &["a", "b", "c"], request(0));
    let hot: Vec<PartitionId> = world.state.partitions_led_by(NodeId(1)).collect();
    assert_eq!(hot.len(), 4);
    for id in hot {
        world.loads.insert(id, request(CORES_US / 10));
    }
    world.run(2 * MINUTE);
    assert!(worst_permille(&world) <= 1_500, "four equal pieces on three nodes: 2, 1, 1");
    let moves = moved(&world);
    assert_eq!(moves.len(), 2, "{moves:?}");
    for (_, kind, from, _) in &moves {
        assert_eq!((*kind, *from), ("transfer-leader", NodeId(1)));
    }
    let operations = world.state.operations().iter();
    let mut heat = operations.filter(|(_, operation)| operation.origin == Origin::Heat);
    assert!(heat.all(|(_, it)| it.state == OperationState::Succeeded && it.reason.contains("‰")));
    world.run(20 * MINUTE);
    assert_eq!(moved(&world), moves);
    world.check_healthy();
}

#[test]
fn a_node_that_joins_takes_replicas_and_their_leaderships() {
    let load = ToyLoad { request_cpu_us: 30_000, apply_cpu_us: 20_000 };
    let mut world = zone(24, &["a", "b", "c"], load);
    world.run(MINUTE);
    assert_eq!(moved(&world), []);
    let joined = world.add_node("d");
    world.run(4 * MINUTE);
    assert!(worst_permille(&world) <= 1_050, "{:?}", world.spent());
    assert!(world.leaders()[&joined] > 0);
    let before = moved(&world);
    world.run(20 * MINUTE);
    assert_eq!(moved(&world), before);
    check_no_return(&world);
    world.check_healthy();
}

#[test]
fn without_load_numbers_of_leaders_are_evened_out_and_with_load_they_are_not() {
    let mut world = zone(12, &["a", "b", "c"], request(0));
    let lead = |world: &World| world.leaders().into_values().collect::<Vec<_>>();
    assert_eq!(lead(&world), [4, 4, 4]);
    // One partition as hot as all others together.
    let hot = world.state.partitions_led_by(NodeId(2)).next().expect("it leads four");
    for (id, load) in &mut world.loads {
        *load = request(if *id == hot { 440_000 } else { 40_000 });
    }
    world.run(3 * MINUTE);
    assert!(worst_permille(&world) <= 1_500, "{:?}", world.spent());
    let by_load = lead(&world);
    assert_eq!(
        by_load.iter().min(),
        Some(&1),
        "the hot one's node leads nothing else: {by_load:?}"
    );
    world.run(10 * MINUTE);
    assert_eq!(lead(&world), by_load);
    // When the load is gone, leaders stay where it wanted them.
    world.loads.clear();
    world.run(30 * MINUTE);
    assert_eq!(lead(&world), by_load);
}

#[test]
fn while_a_node_is_missing_load_is_not_evened_out() {
    let mut world = zone(12, &["a", "b", "c"], request(50_000));
    world.run(MINUTE);
    world.kill(NodeId(3));
    for (id, load) in &mut world.loads {
        *load = request(if id.get() % 2 == 0 { 100_000 } else { 10_000 });
    }
    world.run(MINUTE);
    assert_eq!(moved(&world), []);
    world.restart(NodeId(3));
    world.run(5 * MINUTE);
    assert!(!moved(&world).is_empty());
    assert!(worst_permille(&world) <= 1_050, "{:?}", world.spent());
}

#[test]
fn an_overloaded_node_is_relieved_although_another_is_missing() {
    let mut world = zone(12, &["a", "b", "c", "d"], request(10_000));
    world.run(MINUTE);
    world.kill(NodeId(4));
    world.run(30);
    let led: Vec<PartitionId> = world.state.partitions_led_by(NodeId(1)).collect();
    for id in &led {
        world.loads.insert(*id, request(CORES_US / led.len() as u64 + 100_000));
    }
    world.run(MINUTE);
    let moves = moved(&world);
    assert!(!moves.is_empty());
    assert!(world.spent().values().all(|us| *us < CORES_US), "{:?}", world.spent());
    let reasons = world.state.operations().iter().filter(|(_, it)| it.origin == Origin::Heat);
    for (_, operation) in reasons {
        assert!(operation.reason.contains("overloaded"), "{}", operation.reason);
    }
}

#[test]
fn under_the_brake_nothing_is_moved_for_load() {
    let mut world = zone(12, &["a", "b", "c", "d", "e", "f"], request(0));
    let led: Vec<PartitionId> = world.state.partitions_led_by(NodeId(1)).collect();
    for id in &led {
        world.loads.insert(*id, request(CORES_US));
    }
    for node in [4, 5, 6] {
        world.kill(NodeId(node));
    }
    world.run(50);
    assert!(world.state.brake().is_some());
    world.run(50);
    assert_eq!(moved(&world), []);
}

#[test]
fn a_new_leader_of_the_control_plane_knows_what_has_left_where() {
    let mut world = zone(6, &["a", "b", "c"], request(0));
    let hot: Vec<PartitionId> = world.state.partitions_led_by(NodeId(1)).collect();
    let [first, second] = hot[..] else { panic!("two: {hot:?}") };
    world.loads.insert(first, request(400_000));
    world.loads.insert(second, request(300_000));
    world.run(2 * MINUTE);
    let moves = moved(&world);
    let [(gone, "transfer-leader", NodeId(1), to)] = moves[..] else { panic!("{moves:?}") };
    world.change_control_plane_leader();
    // Now its place is where it was at first, were it not for having left it.
    for id in world.state.partitions_led_by(to).collect::<Vec<_>>() {
        world.loads.insert(id, request(300_000));
    }
    world.loads.insert(if gone == first { second } else { first }, request(10_000));
    world.run(5 * MINUTE);
    check_no_return(&world);
}

/// Zone time stands still while nothing is committed: what is done after that has not been done hours ago.
#[test]
fn after_hours_of_quiet_what_is_changed_rests_and_does_not_go_back_either() {
    let mut world = zone(6, &["a", "b", "c"], request(0));
    let before = (world.now, world.state.zone_time());
    world.run(120 * MINUTE);
    let quiet = world.state.zone_time().since(before.1);
    assert!(quiet * 2 < world.now - before.0, "it was quiet, {quiet:?} went by");
    let hot: Vec<PartitionId> = world.state.partitions_led_by(NodeId(1)).collect();
    let [first, second] = hot[..] else { panic!("two: {hot:?}") };
    world.loads.insert(first, request(400_000));
    world.loads.insert(second, request(300_000));
    world.run(2 * MINUTE);
    let moves = moved(&world);
    let [(gone, "transfer-leader", NodeId(1), to)] = moves[..] else { panic!("{moves:?}") };
    // Of two on that node one has a hot key, and a third node has its hands full: were it not for having left it, the
    // place of what came there would be where it was at first.
    world.loads.values_mut().for_each(|load| *load = request(0));
    let hot = world.state.partitions_led_by(to).find(|id| *id != gone).expect("it led two");
    let third = [2, 3].map(NodeId).into_iter().find(|node| *node != to).expect("one of them");
    let large = world.state.partitions_led_by(third).next().expect("it leads two");
    world.hot_key = Some(hot);
    for (id, load) in [(gone, 200_000), (hot, 200_000), (large, 400_000)] {
        world.loads.insert(id, request(load));
    }
    world.loads.insert(if gone == first { second } else { first }, request(10_000));
    world.run(20 * MINUTE);
    assert_eq!(moved(&world), moves);
}

#[test]
fn where_no_single_transfer_helps_two_leaderships_are_exchanged() {
    let mut world = zone(6, &["a", "b", "c"], request(0));
    let loads = [[300_000, 250_000], [200_000, 150_000], [225_000, 225_000]];
    for (node, loads) in [1, 2, 3].map(NodeId).into_iter().zip(loads) {
        let led: Vec<PartitionId> = world.state.partitions_led_by(node).collect();
        for (id, load) in led.into_iter().zip(loads) {
            world.loads.insert(id, request(load));
        }
    }
    assert_eq!(worst_permille(&world), 1_222);
    world.run(2 * MINUTE);
    assert_eq!(worst_permille(&world), 1_000, "{:?}", world.spent());
    let operations = world.state.operations().iter().map(|(_, operation)| operation);
    let by_load: Vec<_> = operations.filter(|it| it.origin == Origin::Heat).collect();
    let [first, second] = by_load[..] else { panic!("{by_load:?}") };
    for (one, other) in [(first, second), (second, first)] {
        let other = other.partition().expect("a transfer is of one");
        let words = format!(" in exchange for partition {other}");
        assert!(one.reason.contains(&words), "{}", one.reason);
    }
}

#[test]
fn uneven_leaders_of_a_zone_without_load_are_no_reason_to_copy_replicas() {
    // Of eight partitions a node holds four or six replicas: more than a quarter above the mean of 4.8.
    let mut world = zone(8, &["a", "b", "c", "d", "e"], request(0));
    for node in (1..=5).map(NodeId) {
        world.kill(node);
        world.run(50);
        assert!(!world.leaders().contains_key(&node), "{:?}", world.leaders());
        world.restart(node);
        world.run(2 * MINUTE);
    }
    let operations = world.state.operations().iter().map(|(_, operation)| operation);
    let moves = operations.filter(|it| matches!(it.kind, OperationKind::MoveReplica(_)));
    assert_eq!(moves.count(), 0);
    assert!(world.leaders().values().all(|led| (1..=2).contains(led)), "{:?}", world.leaders());
}

#[test]
fn nodes_that_join_a_zone_without_load_take_replicas_too() {
    let mut world = zone(12, &["a", "b", "c"], request(0));
    let joined = ["d", "e"].map(|domain| world.add_node(domain));
    world.run(5 * MINUTE);
    for node in joined {
        assert!(world.state.partitions().iter().any(|(_, it)| it.is_on(node)), "{node}");
    }
}

#[test]
fn one_hot_key_is_named_and_its_partition_stays() {
    let mut world = zone(6, &["a", "b", "c"], request(20_000));
    let hot = world.state.partitions_led_by(NodeId(1)).next().expect("it leads two");
    world.loads.insert(hot, request(600_000));
    world.hot_key = Some(hot);
    world.run(3 * MINUTE);
    assert!(moved(&world).iter().all(|(partition, ..)| *partition != hot), "{:?}", moved(&world));
    let report = world.balancer.report().expect("it has planned");
    let named = report.obstacles.iter().filter(|obstacle| obstacle.partition == Some(hot));
    assert_eq!(
        named.map(|obstacle| obstacle.hindrance).collect::<Vec<_>>(),
        [model::balance::Hindrance::HotKey]
    );
}

#[test]
fn a_partition_that_is_too_large_a_piece_is_split_and_its_halves_are_spread() {
    let mut world = zone(6, &["a", "b", "c"], request(20_000));
    let hot = world.state.partitions_led_by(NodeId(1)).next().expect("it leads two");
    world.loads.insert(hot, request(800_000));
    world.divisible = true;
    for _ in 0..20 * MINUTE {
        world.step();
        // A half has half of the load.
        let known: Vec<PartitionId> = world.state.partitions().iter().map(|(id, _)| *id).collect();
        let new = known.into_iter().filter(|id| !world.loads.contains_key(id));
        for child in new.collect::<Vec<_>>() {
            let mut operations = world.state.operations().iter();
            let split = operations.find_map(|(_, it)| it.split().filter(|it| it.child == child));
            let parent = split.expect("it was split off").partition;
            let half = request(world.loads[&parent].request_cpu_us / 2);
            world.loads.insert(parent, half);
            world.loads.insert(child, half);
        }
    }
    assert!(worst_permille(&world) <= 1_050, "{:?}", world.spent());
    let operations = world.state.operations().iter().map(|(_, operation)| operation);
    let splits: Vec<_> = operations.filter(|operation| operation.split().is_some()).collect();
    assert!((2..=7).contains(&splits.len()), "{}: {splits:?}", splits.len());
    for split in &splits {
        assert_eq!((split.origin, split.state), (Origin::Heat, OperationState::Succeeded));
        assert!(split.reason.contains("is split"), "{}", split.reason);
    }
    let (partitions, moves) = (world.state.partitions().len(), moved(&world));
    world.run(20 * MINUTE);
    assert_eq!((world.state.partitions().len(), moved(&world)), (partitions, moves));
    check_no_return(&world);
    world.check_healthy();
}

#[test]
fn what_was_promised_is_held_against_what_came_of_it() {
    let mut world = zone(12, &["a", "b", "c"], request(0));
    for id in world.state.partitions_led_by(NodeId(1)).collect::<Vec<_>>() {
        world.loads.insert(id, request(CORES_US / 10));
    }
    world.run(3 * MINUTE);
    let report = world.balancer.report().expect("it has planned");
    assert!(report.realised_gain_permille >= 990, "{report:?}");
    // Whatever is moved, the load is where it was before.
    let mut world = zone(12, &["a", "b", "c"], request(0));
    for _ in 0..4 * MINUTE {
        world.step();
        let led: Vec<PartitionId> = world.state.partitions_led_by(NodeId(1)).collect();
        for (id, load) in &mut world.loads {
            let share = CORES_US / 2 / led.len() as u64;
            *load = request(if led.contains(id) { share } else { 0 });
        }
    }
    let report = world.balancer.report().expect("it has planned");
    assert!(report.realised_gain_permille < 950, "{report:?}");
}

#[test]
fn a_move_for_load_keeps_to_the_rules_of_all_moves() {
    use model::{
        Refusal,
        command::{ChangeProposal, ChangePurpose},
        partition::Replica,
    };
    let mut world = zone(2, &["a", "b", "c", "c"], request(0));
    let (id, partition) = world.state.partitions().iter().next().expect("two");
    let (id, targets) = (*id, partition.targets.clone());
    let spare = (1..=4).map(NodeId).find(|node| targets.iter().all(|it| it.node != *node));
    let spare = spare.expect("four nodes, three replicas");
    let in_c = |node: NodeId| node.get() >= 3;
    let (near, far): (Vec<Replica>, Vec<Replica>) =
        targets.into_iter().partition(|it| in_c(it.node));
    let mut refused = |remove, add| {
        let proposal = ChangeProposal {
            partition: id,
            purpose: ChangePurpose::SpreadLoad,
            remove,
            add,
            reason: "load".into(),
        };
        let outcome = world.apply(Action::StartReplicaChanges { changes: vec![proposal] });
        let Ok(model::Applied::Batch { mut refused, .. }) = outcome else { panic!("{outcome:?}") };
        refused.pop().map(|(_, refusal)| refusal)
    };
    assert!(in_c(spare), "two in one fault domain: one of them is spare");
    assert!(matches!(refused(None, Some(spare)), Some(Refusal::PlanStale { .. })));
    assert!(matches!(refused(Some(far[0].id), None), Some(Refusal::PlanStale { .. })));
    assert!(matches!(
        refused(Some(far[0].id), Some(spare)),
        Some(Refusal::FaultDomainTaken { .. })
    ));
    assert_eq!(refused(Some(near[0].id), Some(spare)), None);
    let operation = world.state.running_operations().next().expect("it has begun").1;
    assert!(matches!(operation.kind, OperationKind::MoveReplica(_)));
    assert_eq!(operation.origin, Origin::Heat);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the load, and with reports that are off: it settles, and then nothing moves any more, also under
    /// another leader of the control plane.
    #[test]
    fn a_zone_under_any_load_settles(
        nodes in 3_usize..6,
        loads in proptest::collection::vec((0_u64..300_000, 0_u64..20_000), 4..24),
        noise_percent in 0_u64..4,
        leader_changes in any::<bool>(),
    ) {
        let partitions = u8::try_from(loads.len()).expect("below 24");
        let mut world = zone(partitions, &["a", "b", "c", "d", "e"][..nodes], request(0));
        world.noise_percent = noise_percent;
        for (load, (request_cpu_us, apply_cpu_us)) in world.loads.values_mut().zip(loads) {
            *load = ToyLoad { request_cpu_us, apply_cpu_us };
        }
        world.run(10 * MINUTE);
        let moves = moved(&world);
        check_no_return(&world);
        world.check_healthy();
        if leader_changes {
            world.change_control_plane_leader();
        }
        world.run(10 * MINUTE);
        if noise_percent == 0 {
            prop_assert_eq!(moved(&world), moves);
        }
        check_no_return(&world);
        let before = moved(&world);
        world.run(10 * MINUTE);
        prop_assert_eq!(moved(&world), before);
    }
}
