//! Whole zones of toy groups: whatever happens, they come to rest as they should be, and then nothing
//! moves any more (G9).

use model::{
    Action, Applied, NodeId, OperationId, Refusal, ZoneView,
    node::NodeState,
    operation::{OperationKind, OperationState},
    status,
};
use proptest::prelude::*;

use crate::world::World;

pub fn zone(partitions: u8, nodes: usize) -> World {
    let domains: Vec<String> = (1..=nodes).map(|rack| format!("rack-{rack}")).collect();
    let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
    let mut world = World::new(partitions, 3, &domains);
    world.settle(400);
    world.check_healthy();
    world
}

pub fn leaders_are_even(world: &World, nodes: usize) {
    let counts = world.leaders();
    let most = counts.values().max().copied().unwrap_or(0);
    let least = if counts.len() < nodes { 0 } else { counts.values().min().copied().unwrap_or(0) };
    assert!(most - least <= 1, "{counts:?}");
}

fn problems(world: &World) -> Vec<String> {
    status::figures(&world.state, Some(&world.view), world.now).problems
}

pub fn operation_of(outcome: model::Outcome) -> OperationId {
    match outcome {
        Ok(Applied::Operation(operation)) => operation,
        other => panic!("expected an operation, got {other:?}"),
    }
}

#[test]
fn a_new_zone_is_founded_with_even_leaders() {
    let world = zone(16, 5);
    leaders_are_even(&world, 5);
    assert_eq!(problems(&world), Vec::<String>::new());
    let elections: u32 = world.groups.values().map(|group| group.elections).sum();
    assert_eq!(elections, 16, "each group elects once, and nothing is transferred");
    let counts: Vec<_> = world.state.target_counts().into_values().collect();
    assert!(counts.iter().all(|count| (9..=10).contains(count)), "{counts:?}");
}

#[test]
fn a_killed_node_loses_its_leaderships_at_once_and_keeps_its_replicas() {
    let mut world = zone(16, 5);
    let victim = NodeId(2);
    world.kill(victim);
    world.step();
    assert_eq!(world.state.node(victim).expect("known").liveness.state, NodeState::Down);
    assert_eq!(world.groups.values().filter(|group| group.leader.is_none()).count(), 0);
    world.run(50);
    assert!(!problems(&world).is_empty());
    world.restart(victim);
    world.settle(400);
    world.check_healthy();
    leaders_are_even(&world, 5);
    let copies: usize = world.groups.values().map(|group| group.replicas.len()).sum();
    assert_eq!(copies, 48, "it was taken back without a copy");
    assert_eq!(problems(&world), Vec::<String>::new());
}

#[test]
fn a_lost_node_is_replaced_after_the_time_that_was_set() {
    let mut world = zone(8, 5);
    let victim = NodeId(1);
    world.kill(victim);
    world.run(150);
    assert!(world.state.target_count(victim) > 0, "15 s are not enough");
    world.run(400);
    assert_eq!(world.state.target_count(victim), 0);
    world.settle(400);
    world.check_healthy();
    // When it comes back after all, what it has is destroyed.
    world.restart(victim);
    world.settle(400);
    world.check_healthy();
    assert!(world.state.partitions().iter().all(|(_, partition)| partition.retiring.is_empty()));
}

#[test]
fn a_frozen_node_is_taken_over_on_suspicion_when_its_peers_agree() {
    let mut world = zone(8, 4);
    world.freeze(NodeId(1));
    world.run(9);
    assert_eq!(world.state.node(NodeId(1)).expect("known").liveness.state, NodeState::Up);
    // Its peers lose it after a second and say so: that is sooner than its silence alone would tell.
    world.run(2);
    assert_eq!(world.state.node(NodeId(1)).expect("known").liveness.state, NodeState::Suspect);
    assert!(world.groups.values().all(|group| group.leader.is_some()));
    world.thaw(NodeId(1));
    world.settle(400);
    world.check_healthy();
    leaders_are_even(&world, 4);
}

#[test]
fn a_late_node_that_its_peers_still_see_keeps_its_leaderships() {
    let mut world = zone(4, 4);
    let led_before: Vec<_> = world.groups.values().map(|group| group.leader).collect();
    // Its session breaks, and nothing else: the groups go on.
    world.view.session_closed(NodeId(1), world.now);
    world.nodes.get_mut(&NodeId(1)).expect("there").connected = true;
    for _ in 0..10 {
        world.step();
        world.view.session_closed(NodeId(1), world.now);
    }
    let led_after: Vec<_> = world.groups.values().map(|group| group.leader).collect();
    assert_eq!(led_before, led_after);
}

#[test]
fn an_operators_move_ends_and_is_explained() {
    let mut world = zone(4, 5);
    let (id, from, to) = {
        let (id, partition) = world.state.partitions().first().expect("some");
        let from = partition.leader.expect("led").node;
        let to = world.nodes.keys().find(|node| !partition.is_on(**node)).expect("five nodes");
        (*id, from, *to)
    };
    let operation = operation_of(world.apply(Action::MoveReplica { partition: id, from, to }));
    world.settle(300);
    world.check_healthy();
    let record = world.state.operation(operation).expect("remembered");
    assert_eq!(record.state, OperationState::Succeeded);
    assert!(world.state.partition(id).expect("there").target_on(to).is_some());
    let explained = world
        .state
        .events()
        .iter()
        .filter(|(_, event)| event.operation == Some(operation))
        .map(|(_, event)| event.kind.as_str())
        .collect::<Vec<_>>();
    assert!(explained.contains(&"operation-started") && explained.contains(&"operation-ended"));
}

#[test]
fn a_move_goes_on_although_another_voter_is_lost_and_then_the_lost_one_is_replaced() {
    let mut world = zone(1, 5);
    let (id, partition) = world.state.partitions().first().expect("some");
    let leader = partition.leader.expect("led").replica;
    let followers = partition.targets.iter().filter(|target| target.id != leader);
    let followers: Vec<NodeId> = followers.map(|target| target.node).collect();
    let (id, from, lost) = (*id, followers[0], followers[1]);
    let to = *world.nodes.keys().find(|node| !partition.is_on(**node)).expect("five nodes");
    world.kill(lost);
    world.step();
    // More than a voter may be behind and still be said to keep up.
    let alive = world.nodes.keys().copied().filter(|node| *node != lost).collect();
    world.groups.get_mut(&id).expect("there").append(10_000, &alive);
    let operation = operation_of(world.apply(Action::MoveReplica { partition: id, from, to }));
    world.run(700);
    let record = world.state.operation(operation).expect("remembered");
    assert_eq!(record.state, OperationState::Succeeded);
    assert!(world.state.partition(id).expect("there").target_on(to).is_some());
    assert_eq!(world.state.target_count(lost), 0, "the move must not hold up the repair");
}

#[test]
fn a_repair_that_was_cancelled_when_the_group_had_committed_it_already_is_taken_up_again() {
    // Four nodes: with one lost, nobody but the node of that repair could take the replica.
    let mut world = zone(1, 4);
    let (id, partition) = world.state.partitions().first().expect("some");
    let leader = partition.leader.expect("led").replica;
    let follower = partition.targets.iter().find(|target| target.id != leader);
    let (id, lost) = (*id, follower.expect("three").node);
    world.kill(lost);
    let repair = |world: &World| {
        let operation = world.state.partition(id)?.change?;
        match &world.state.operation(operation)?.kind {
            OperationKind::Repair(change) => Some((operation, change.add?)),
            _ => None,
        }
    };
    let (operation, added) = (0..700)
        .find_map(|_| {
            world.step();
            let (operation, added) = repair(&world)?;
            let membership = world.groups[&id].membership.as_ref()?;
            membership.is_voter(added.id).then_some((operation, added))
        })
        .expect("a repair");
    // It commits the joint state, and at once what comes after it.
    let membership = world.groups.get_mut(&id).and_then(|group| group.membership.as_mut());
    membership.expect("just seen").voter_sets.remove(0);
    world.apply(Action::CancelOperation { operation }).expect("the leader does not know it yet");
    assert!(world.state.partition(id).expect("there").target_on(lost).is_some());
    world.settle(300);
    let partition = world.state.partition(id).expect("there");
    assert_eq!(partition.target(added.id), Some(added), "no data are moved again");
    assert!(partition.is_settled() && world.state.target_count(lost) == 0);
}

#[test]
fn a_move_can_be_cancelled_before_the_group_votes_with_the_new_replica() {
    let mut world = zone(4, 5);
    let (id, partition) = world.state.partitions().first().expect("some");
    let (id, from) = (*id, partition.targets[0].node);
    let to = *world.nodes.keys().find(|node| !partition.is_on(**node)).expect("five nodes");
    let operation = operation_of(world.apply(Action::MoveReplica { partition: id, from, to }));
    world.run(2);
    world.apply(Action::CancelOperation { operation }).expect("not too late");
    world.settle(300);
    world.check_healthy();
    assert!(world.state.partition(id).expect("there").target_on(from).is_some());

    let operation = operation_of(world.apply(Action::MoveReplica { partition: id, from, to }));
    while !world.state.partition(id).expect("there").observed.as_ref().expect("founded").is_joint()
    {
        world.step();
    }
    let outcome = world.apply(Action::CancelOperation { operation });
    assert!(matches!(outcome, Err(Refusal::PastNoReturn { .. })), "{outcome:?}");
    world.settle(300);
    world.check_healthy();
}

#[test]
fn two_lost_nodes_of_five_engage_the_brake_until_an_operator_speaks() {
    let mut world = zone(8, 5);
    world.kill(NodeId(1));
    world.kill(NodeId(2));
    world.run(400);
    let brake = world.state.brake().expect("engaged");
    assert!(brake.reason.contains("2 of 5"), "{}", brake.reason);
    assert!(world.state.target_count(NodeId(1)) > 0, "nothing is repaired");
    let outcome = world.apply(Action::RemoveNode { node: NodeId(1) });
    assert!(matches!(outcome, Err(Refusal::NodeHoldsReplicas { .. })));
    // The operator gives one of them up: the other no longer brakes.
    let drain = Action::DrainNode { node: NodeId(1), accept_data_loss_risk: true };
    world.apply(drain).expect("accepted");
    world.run(200);
    assert!(world.state.brake().is_none());
    // What had lost its majority comes back with the other node; the rest did not wait for it.
    world.restart(NodeId(2));
    world.settle(1_500);
    world.check_healthy();
    world.apply(Action::RemoveNode { node: NodeId(1) }).expect("empty and down");
}

#[test]
fn a_new_control_plane_leader_disturbs_nothing() {
    let mut world = zone(16, 5);
    let elections =
        |world: &World| -> u32 { world.groups.values().map(|group| group.elections).sum() };
    let before = elections(&world);
    world.change_control_plane_leader();
    world.settle(200);
    world.check_healthy();
    assert_eq!(elections(&world), before);
    assert!(world.state.brake().is_none());
    // And it takes over what its predecessor began.
    world.apply(Action::DrainNode { node: NodeId(1), accept_data_loss_risk: false }).expect("fine");
    for _ in 0..6 {
        world.run(3);
        world.change_control_plane_leader();
    }
    world.settle(1_500);
    world.check_healthy();
    assert_eq!(world.state.partitions_on(NodeId(1)).count(), 0);
}

#[test]
fn founders_stay_the_same_when_one_is_lost_before_the_group_is() {
    let mut world = World::new(4, 3, &["a", "b", "c", "d"]);
    // Placed, but not yet founded.
    while !world.state.unplaced().is_empty() {
        world.step();
    }
    world.groups.clear();
    world.kill(NodeId(1));
    world.run(400);
    world.settle(1_500);
    world.check_healthy();
}

#[test]
fn replicas_are_spread_again_when_a_fault_domain_returns() {
    let mut world = World::new(8, 3, &["a", "a", "b", "b"]);
    world.settle(400);
    world.check_healthy();
    assert_eq!(world.state.crowded().len(), 8);
    let crowded = problems(&world);
    assert!(crowded.is_empty(), "two domains are all there are: {crowded:?}");
    world.add_node("c");
    world.settle(1_500);
    world.check_healthy();
    assert_eq!(world.state.crowded().len(), 0);
}

#[test]
fn a_replica_that_has_failed_on_a_living_node_is_replaced() {
    let mut world = zone(4, 5);
    let (id, partition) = world.state.partitions().first().expect("some");
    let (id, victim) = (*id, partition.targets[2]);
    world.groups.get_mut(&id).expect("founded").fail(victim.id);
    world.run(3);
    assert!(world.state.partition(id).expect("there").target(victim.id).is_none());
    world.settle(400);
    world.check_healthy();
}

#[test]
fn a_founder_that_comes_late_gets_its_replica() {
    let mut world = World::new(4, 3, &["a", "b", "c"]);
    while !world.state.unplaced().is_empty() {
        world.step();
    }
    // Nothing of what was ordered has arrived at node 3 when it goes.
    for group in world.groups.values_mut() {
        group.replicas.retain(|_, replica| replica.node != NodeId(3));
    }
    world.kill(NodeId(3));
    world.run(20);
    assert!(world.groups.values().all(|group| group.leader.is_some()));
    world.view.take_touched(&world.state);
    world.restart(NodeId(3));
    world.step();
    let touched = world.view.take_touched(&world.state);
    assert_eq!(touched.len(), 4, "what a complete report lacks is news");
    world.settle(400);
    world.check_healthy();
}

#[test]
fn a_view_without_reports_orders_nothing() {
    let world = zone(4, 3);
    let blank = ZoneView::new(world.now);
    for (id, _) in world.state.partitions().iter() {
        assert_eq!(model::reconcile::reconcile(&world.state, &blank, *id), Default::default());
    }
}

#[derive(Clone, Debug)]
enum Fault {
    Kill(u64),
    Restart(u64),
    Freeze(u64),
    Thaw(u64),
    NewLeader,
    Drain(u64),
    Uncordon(u64),
    Move { partition: u64, to: u64 },
    Transfer { partition: u64, to: u64 },
    Cancel(u64),
    FailElections { partition: u64, count: u32 },
    Run(u32),
}

fn fault() -> impl Strategy<Value = Fault> {
    let node = 1_u64..=5;
    let partition = 1_u64..=6;
    prop_oneof![
        2 => node.clone().prop_map(Fault::Kill),
        3 => node.clone().prop_map(Fault::Restart),
        1 => node.clone().prop_map(Fault::Freeze),
        2 => node.clone().prop_map(Fault::Thaw),
        1 => Just(Fault::NewLeader),
        1 => node.clone().prop_map(Fault::Drain),
        1 => node.clone().prop_map(Fault::Uncordon),
        2 => (partition.clone(), node.clone())
            .prop_map(|(partition, to)| Fault::Move { partition, to }),
        1 => (partition.clone(), node).prop_map(|(partition, to)| Fault::Transfer { partition, to }),
        1 => (1_u64..40).prop_map(Fault::Cancel),
        1 => (partition, 1_u32..6)
            .prop_map(|(partition, count)| Fault::FailElections { partition, count }),
        6 => (1_u32..80).prop_map(Fault::Run),
    ]
}

fn inflict(world: &mut World, fault: &Fault) {
    match fault {
        Fault::Kill(node) => world.kill(NodeId(*node)),
        Fault::Restart(node) => world.restart(NodeId(*node)),
        Fault::Freeze(node) => {
            if world.nodes[&NodeId(*node)].alive {
                world.freeze(NodeId(*node));
            }
        }
        Fault::Thaw(node) => world.thaw(NodeId(*node)),
        Fault::NewLeader => world.change_control_plane_leader(),
        Fault::Drain(node) => {
            let _ = world
                .apply(Action::DrainNode { node: NodeId(*node), accept_data_loss_risk: false });
        }
        Fault::Uncordon(node) => {
            let _ = world.apply(Action::UncordonNode { node: NodeId(*node) });
        }
        Fault::Move { partition, to } => {
            let id = (*partition).into();
            let targets = &world.state.partition(id).expect("there").targets;
            if let Some(from) = targets.first().map(|target| target.node) {
                let to = NodeId(*to);
                let _ = world.apply(Action::MoveReplica { partition: id, from, to });
            }
        }
        Fault::Transfer { partition, to } => {
            let (partition, to) = ((*partition).into(), NodeId(*to));
            let _ = world.apply(Action::TransferLeader { partition, to });
        }
        Fault::Cancel(operation) => {
            let _ = world.apply(Action::CancelOperation { operation: (*operation).into() });
        }
        Fault::FailElections { partition, count } => {
            if let Some(group) = world.groups.get_mut(&(*partition).into()) {
                group.failing_elections = *count;
            }
        }
        Fault::Run(steps) => world.run(*steps),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever happens, in whatever order, with orders and commands lost on the way: when it stops and
    /// everybody is back, the zone is whole again, and then at rest.
    #[test]
    fn a_zone_recovers_from_anything_and_then_rests(
        faults in proptest::collection::vec(fault(), 1..25),
        loss in prop_oneof![Just(0_u64), 2_u64..10],
    ) {
        recovers(&faults, loss);
    }
}

/// Inflicts the faults, ends them all, and checks that the zone becomes whole and then rests.
fn recovers(faults: &[Fault], loss: u64) {
    let mut world = World::new(6, 3, &["a", "b", "c", "d", "e"]);
    world.loss = loss;
    world.run(40);
    for fault in faults {
        inflict(&mut world, fault);
        world.step();
    }
    world.loss = 0;
    for node in 1..=5 {
        world.thaw(NodeId(node));
        world.restart(NodeId(node));
        let _ = world.apply(Action::UncordonNode { node: NodeId(node) });
    }
    world.settle(3_000);
    world.check_healthy();
    let plan = model::leaders::plan(&world.state, &world.view, world.now);
    assert_eq!(plan.transfers, Vec::new(), "leaders are as even as replicas allow");
    assert_eq!(problems(&world), Vec::<String>::new());
    world.run(100);
    assert!(world.activity.is_empty(), "{:?}", world.activity);
}

/// Found by the property above.
#[test]
fn known_histories() {
    use Fault::{Drain, Freeze, Kill, Move, Restart, Run, Uncordon};
    recovers(
        &[
            Kill(4),
            Move { partition: 1, to: 5 },
            Run(7),
            Move { partition: 6, to: 2 },
            Freeze(3),
            Drain(2),
            Restart(1),
            Uncordon(1),
            Run(35),
            Run(16),
            Kill(4),
            Run(41),
            Freeze(3),
            Restart(4),
            Run(3),
        ],
        2,
    );
}
