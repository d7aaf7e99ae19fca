//! An operator overrides the brake.

use std::collections::BTreeSet;

use model::{
    Action, Applied, Category, Command, NodeId, Outcome, PartitionId, Refusal, Revision, WallTime,
    ZoneState,
    brake::{self, HeldBack, OVERRIDE_MS_MAX},
    command::BrakeChange,
    status,
};

use crate::world::World;

const LOST: [NodeId; 2] = [NodeId(1), NodeId(2)];

/// A zone of five nodes, two of which have been lost for longer than `replace_after`.
fn braked() -> World {
    let mut world = World::new(8, 3, &["a", "b", "c", "d", "e"]);
    world.settle(400);
    for node in LOST {
        world.kill(node);
    }
    world.run(300);
    assert!(world.state.brake().is_some());
    world
}

fn override_for(world: &mut World, for_ms: u64) -> Outcome {
    let reason = "both machines were scrapped".to_owned();
    world.apply(Action::OverrideBrake { for_ms, reason })
}

/// Partitions with a replica on a lost node, and whether a majority of each is left.
fn degraded(world: &World) -> (BTreeSet<PartitionId>, BTreeSet<PartitionId>) {
    let lost = |id: &PartitionId| {
        let partition = world.state.partition(*id).expect("there");
        partition.targets.iter().filter(|target| LOST.contains(&target.node)).count()
    };
    let ids = world.state.partitions().iter().map(|(id, _)| *id).filter(|id| lost(id) > 0);
    ids.partition(|id| lost(id) == 1)
}

fn happened(state: &ZoneState, kind: &str) -> Vec<(String, String)> {
    let events = state.events().iter().filter(|(_, event)| event.kind.as_str() == kind);
    events.map(|(_, event)| (event.message.clone(), event.reason.clone())).collect()
}

fn said(world: &World) -> String {
    let figures = status::figures(&world.state, Some(&world.view), world.now);
    let problem = figures.problems.into_iter().find(|it| it.starts_with("the brake is engaged"));
    problem.expect("it is engaged")
}

fn held_back(world: &World) -> HeldBack {
    brake::held_back(&world.state, Some(&world.view))
}

#[test]
fn repairs_go_on_where_a_majority_is_left() {
    let mut world = braked();
    let (mended, stuck) = degraded(&world);
    assert!(!mended.is_empty() && !stuck.is_empty(), "{mended:?} {stuck:?}");
    let repairs = u32::try_from(mended.len()).expect("few");
    assert_eq!(held_back(&world), HeldBack { repairs, moves: 0, transfers: 0 });
    let words = format!("so {repairs} repairs wait (leaders are still taken over): nodes 1, 2");
    assert!(said(&world).contains(&words), "{}", said(&world));
    assert!(said(&world).contains("zonectl brake override"), "{}", said(&world));

    override_for(&mut world, 10 * 60_000).expect("it is engaged");
    assert!(world.state.brake().is_none() && world.state.engaged_brake().is_some());
    assert!(world.state.wants_ticks());
    assert_eq!(held_back(&world), HeldBack::default());
    assert!(said(&world).contains("overrides it for another 10 min: nodes 1, 2"));
    world.run(60);
    // The next leader of the control plane knows of it.
    world.change_control_plane_leader();
    world.run(300);
    assert_eq!(degraded(&world), (BTreeSet::new(), stuck), "no majority, no change");
    assert!(world.state.engaged_brake().is_some(), "its cause is there still");
    let told = happened(&world.state, "brake-overridden");
    let message = "the brake is overridden for 10 min: repairs and moves go on".to_owned();
    assert_eq!(told, [(message, "both machines were scrapped".to_owned())]);
    assert_eq!(happened(&world.state, "brake-engaged").len(), 1, "the detector kept it engaged");
    assert!(happened(&world.state, "brake-released").is_empty());
}

#[test]
fn moves_of_drains_go_on() {
    let mut world = World::new(8, 3, &["a", "b", "c", "d", "e", "f", "g"]);
    world.settle(400);
    for node in [1, 2, 3] {
        world.kill(NodeId(node));
    }
    world.run(20);
    let drain = Action::DrainNode { node: NodeId(4), accept_data_loss_risk: true };
    world.apply(drain).expect("the risk is accepted");
    world.run(20);
    let waiting = held_back(&world);
    assert!(waiting.moves > 0 && waiting.repairs == 0, "{waiting:?}");
    assert!(waiting.transfers <= waiting.moves, "{waiting:?}");
    assert!(said(&world).contains("of drains"), "{}", said(&world));
    let before = world.state.target_count(NodeId(4));
    override_for(&mut world, 60_000).expect("it is engaged");
    world.run(150);
    let after = world.state.target_count(NodeId(4));
    assert_eq!(after, before - waiting.moves, "{waiting:?}");
}

#[test]
fn an_override_ends_in_time() {
    let mut world = braked();
    override_for(&mut world, 5_000).expect("it is engaged");
    world.run(49);
    assert!(world.state.brake().is_none());
    assert!(world.state.wants_ticks());
    world.run(2);
    assert!(world.state.brake().is_some());
    assert_eq!(world.state.engaged_brake().expect("engaged").overridden_until, None);
    let told = happened(&world.state, "brake-restored");
    assert_eq!(told.len(), 1);
    assert!(told[0].1.contains("time"), "{told:?}");
    // What has begun meanwhile goes on, and nothing begins any more.
    world.run(100);
    let operations = world.state.operations().len();
    let another = *world.state.nodes().last().expect("five").0;
    world.apply(Action::DrainNode { node: another, accept_data_loss_risk: true }).expect("asked");
    world.run(100);
    assert_eq!(world.state.operations().len(), operations + 1, "the drain, and no part of it");
}

#[test]
fn an_operator_restores_it() {
    let mut world = braked();
    let restore = |reason: &str| Action::OverrideBrake { for_ms: 0, reason: reason.into() };
    assert_eq!(world.apply(restore("")), Ok(Applied::Done), "it holds, as was asked");
    override_for(&mut world, 60_000).expect("it is engaged");
    override_for(&mut world, 2_000).expect("the last word counts");
    assert!(said(&world).contains("for another 2 s"), "{}", said(&world));
    world.apply(restore("")).expect("it is overridden");
    assert!(world.state.brake().is_some());
    world.apply(restore("again")).expect("no harm in it");
    let told = happened(&world.state, "brake-restored");
    let message = "the brake holds again: repairs and moves wait".to_owned();
    assert_eq!(told, [(message, "an operator asked for it".to_owned())]);
}

#[test]
fn a_brake_that_is_engaged_later_holds() {
    let mut world = braked();
    override_for(&mut world, OVERRIDE_MS_MAX).expect("it is engaged");
    for node in LOST {
        world.restart(node);
    }
    world.run(100);
    assert!(world.state.engaged_brake().is_none(), "its cause is gone");
    assert!(!world.state.is_brake_overridden());
    assert!(matches!(override_for(&mut world, 1_000), Err(Refusal::BrakeNotEngaged)));
    for node in LOST {
        world.kill(node);
    }
    world.run(5);
    assert!(world.state.brake().is_some());
}

#[test]
fn another_reason_leaves_it_overridden() {
    let mut world = braked();
    override_for(&mut world, 60_000).expect("it is engaged");
    let since = world.state.engaged_brake().expect("engaged").since;
    let brake = Some(BrakeChange { engaged: true, reason: "one more is lost".into() });
    world.apply(Action::SetLiveness { conclusions: vec![], brake }).expect("a batch");
    let brake = world.state.engaged_brake().expect("engaged").clone();
    assert_eq!((brake.reason.as_str(), brake.since), ("one more is lost", since));
    assert!(world.state.is_brake_overridden());
}

#[test]
fn the_same_key_overrides_once() {
    let mut world = braked();
    let mut revision = 1_000_000;
    let mut give = |state: &mut ZoneState, after_ms: u64| {
        revision += 1;
        let time = model::ZoneTime(state.zone_time().get() + after_ms);
        let action = Action::OverrideBrake { for_ms: 60_000, reason: "why not".into() };
        let command = Command::new(time, WallTime(0), action).of_request("k", 7);
        state.apply(Revision(revision), &command).expect("it is engaged")
    };
    give(&mut world.state, 0);
    let until = world.state.engaged_brake().expect("engaged").overridden_until;
    give(&mut world.state, 500);
    assert_eq!(world.state.engaged_brake().expect("engaged").overridden_until, until);
    assert_eq!(happened(&world.state, "brake-overridden").len(), 1);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut world = World::new(1, 1, &["a", "b"]);
    let outcome = override_for(&mut world, 1_000);
    let refusal = outcome.expect_err("it is not engaged");
    assert_eq!(refusal.category(), Category::FailedPrecondition);
    assert_eq!(refusal.to_string(), "the brake is not engaged: there is nothing to override");
    assert!(override_for(&mut world, 0).is_err());
    let mut world = braked();
    override_for(&mut world, OVERRIDE_MS_MAX + 1).expect_err("too long");
    for reason in ["", "a\tb"] {
        let action = Action::OverrideBrake { for_ms: 1_000, reason: reason.into() };
        let refusal = world.apply(action).expect_err("no reason");
        assert_eq!(refusal.category(), Category::InvalidArgument);
    }
    assert!(world.state.brake().is_some());
}
