//! Emptying nodes: what it takes, what it refuses, and who asked for its parts.

use model::{
    Action, NodeId, Refusal,
    node::Administrative,
    observation::Heartbeat,
    operation::{OperationState, Origin},
    repair,
};

use crate::{
    reconcile::{leaders_are_even, operation_of, zone},
    world::World,
};

#[test]
fn a_drain_empties_the_node_and_keeps_it_empty() {
    let mut world = zone(16, 5);
    let node = NodeId(3);
    let drain = Action::DrainNode { node, accept_data_loss_risk: false };
    let operation = operation_of(world.apply(drain));
    world.settle(1_500);
    world.check_healthy();
    assert_eq!(world.state.node(node).expect("known").administrative, Administrative::Drained);
    assert_eq!(
        world.state.operation(operation).expect("remembered").state,
        OperationState::Succeeded
    );
    assert_eq!(world.state.partitions_on(node).count(), 0);
    leaders_are_even(&world, 4);
    world.apply(Action::UncordonNode { node }).expect("drained");
    world.settle(300);
    world.check_healthy();
}

#[test]
fn a_drain_that_leaves_too_few_nodes_is_refused_unless_the_risk_is_accepted() {
    let mut world = zone(4, 3);
    let node = NodeId(1);
    let refused = world.apply(Action::DrainNode { node, accept_data_loss_risk: false });
    let Err(refusal @ Refusal::DrainAtRisk { .. }) = refused else { panic!("{refused:?}") };
    let message = refusal.to_string();
    for words in
        ["only 2 other nodes are up", "3 are needed", "partitions 1, 2, 3, 4 would have nowhere"]
    {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert!(message.contains("`--accept-data-loss-risk`") && !message.contains("G7"), "{message}");
    let (guarantee, partitions) = refusal.guarantee_at_risk().expect("it says which");
    assert_eq!((guarantee, partitions.len()), ("G7", 4));
    world.apply(Action::DrainNode { node, accept_data_loss_risk: true }).expect("accepted");
    world.settle(600);
    assert_eq!(world.state.node(node).expect("known").administrative, Administrative::Drained);
    world.apply(Action::UncordonNode { node }).expect("drained");
    world.settle(600);
    world.check_healthy();
    assert!(world.state.partitions().iter().all(|(_, partition)| partition.targets.len() == 3));
    leaders_are_even(&world, 3);
}

#[test]
fn a_drain_counts_on_nodes_that_are_there_and_no_others() {
    let mut world = zone(4, 4);
    let node = NodeId(1);
    let check = |world: &World| repair::check_drain_room(&world.state, &world.view, node);
    assert_eq!(check(&world), Ok(()));
    // Its session has just gone: nothing is concluded yet, but nothing can be moved there either.
    world.view.session_closed(NodeId(4), world.now);
    assert!(world.state.node(NodeId(4)).expect("known").is_eligible());
    let refused = check(&world).expect_err("two are left for three replicas").to_string();
    assert!(refused.contains("only 2 other nodes are up and can take replicas"), "{refused}");
    world.view.session_opened(NodeId(4), model::Incarnation(1), world.now);
    assert_eq!(check(&world), Ok(()));
    let low = Heartbeat { disk_below_reserve: true, ..Heartbeat::default() };
    world.view.heartbeat(NodeId(4), low, world.now);
    assert!(check(&world).is_err(), "a full disk is no room");
    // What is drained already is for the command itself to refuse.
    let drain = Action::DrainNode { node, accept_data_loss_risk: true };
    world.apply(drain).expect("the risk is accepted");
    assert_eq!(check(&world), Ok(()));
}

#[test]
fn a_replica_that_is_lost_elsewhere_needs_a_node_too() {
    let mut world = zone(4, 4);
    let (_, partition) = world.state.partitions().first().expect("some");
    let (drained, lost) = (partition.targets[0].node, partition.targets[1].node);
    world.kill(lost);
    world.run(3);
    // The fourth node could take the one or the other, not both: the drain would take away the repair.
    let drain = Action::DrainNode { node: drained, accept_data_loss_risk: false };
    let refused = world.apply(drain).expect_err("two nodes are left for three replicas");
    assert!(matches!(refused, Refusal::DrainAtRisk { .. }), "{refused}");
}

#[test]
fn what_an_operators_drain_starts_is_the_operators() {
    let mut world = zone(16, 5);
    let node = NodeId(2);
    assert!(world.leaders()[&node] > 0);
    let drain = Action::DrainNode { node, accept_data_loss_risk: false };
    let drain = operation_of(world.apply(drain));
    world.settle(1_500);
    let parts: Vec<_> =
        world.state.operations().iter().filter(|(_, part)| part.parent == Some(drain)).collect();
    let transfers = parts.iter().filter(|(_, part)| part.kind.as_str() == "transfer-leader");
    assert!(transfers.count() > 0, "{parts:?}");
    assert!(parts.iter().all(|(_, part)| part.origin == Origin::Operator), "{parts:?}");
    let balance = world.state.operations().iter().filter(|(_, it)| it.origin == Origin::Balance);
    assert!(balance.into_iter().all(|(_, it)| it.parent.is_none()));
}

#[test]
fn an_uncordoned_node_takes_part_again_and_its_moves_are_taken_back_or_ended() {
    let mut world = zone(16, 5);
    let node = NodeId(4);
    world.apply(Action::DrainNode { node, accept_data_loss_risk: false }).expect("possible");
    world.run(8);
    world.apply(Action::UncordonNode { node }).expect("draining");
    world.settle(600);
    world.check_healthy();
    leaders_are_even(&world, 5);
}
