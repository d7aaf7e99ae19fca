//! Whose turn it is when more groups need a leader than can be helped at a time.

use std::{collections::BTreeMap, time::Duration};

use model::{
    NodeId, PartitionId,
    observation::HeatReport,
    takeover::{CallKind, TakeoverOptions, Takeovers},
};

use crate::world::World;

#[test]
fn groups_that_cannot_be_helped_do_not_keep_a_short_look_from_the_others() {
    let mut world = World::new(40, 3, &["a", "b", "c", "d", "e"]);
    world.settle(400);
    world.takeovers =
        Takeovers::new(TakeoverOptions { looks_max: 2, ..TakeoverOptions::default() });
    world.kill(NodeId(1));
    world.kill(NodeId(2));
    world.run(60);
    let is_alive = |node| world.is_responsive(node);
    let (helped, lost): (Vec<_>, Vec<_>) = world
        .state
        .partitions()
        .iter()
        .map(|(id, partition)| (*id, partition.has_majority(|voter| is_alive(voter.node))))
        .partition(|(_, has_majority)| *has_majority);
    assert!(lost.len() > 2 && lost[0].0 < helped[helped.len() - 1].0);
    for (id, _) in helped {
        assert!(world.view.leader(id).is_some(), "partition {id} has no leader");
    }
}

/// A world in which node 1 is concluded to be lost, and what it led.
fn after_a_loss() -> (World, Vec<PartitionId>) {
    let mut world = World::new(60, 3, &["a", "b", "c"]);
    world.settle(400);
    world.kill(NodeId(1));
    let round = world.detector.gather(world.now, &world.state, &world.view);
    let lost = world.detector.judge(&round).action().expect("it is lost");
    world.apply(lost).expect("a batch");
    let led: Vec<_> = world.state.partitions_led_by(NodeId(1)).collect();
    assert!(led.len() >= 15, "{led:?}");
    (world, led)
}

/// Whom one round takes on, of whom nobody answers.
fn tried(takeovers: &mut Takeovers, world: &World, now: Duration) -> Vec<PartitionId> {
    takeovers.begin(&world.state, &world.view, now);
    let mut tried = Vec::new();
    for call in takeovers.calls(&world.state, now) {
        if let CallKind::Collect { groups } = &call.kind {
            // Both survivors are asked: one of them stands for the try.
            let asked = groups.iter().filter(|_| call.node == NodeId(2));
            tried.extend(asked.map(|group| group.partition));
        }
        takeovers.call_failed(call.id, "unavailable");
    }
    takeovers.calls(&world.state, now);
    tried
}

#[test]
fn who_had_to_wait_begins_in_the_turn_that_the_last_look_found_as_long_as_that_is_new() {
    let (mut world, led) = after_a_loss();
    let mut takeovers =
        Takeovers::new(TakeoverOptions { groups_max: 1, ..TakeoverOptions::default() });
    let now = world.now;
    let at = |ms| now + Duration::from_millis(ms);
    assert_eq!(tried(&mut takeovers, &world, at(0)), [led[0]]);
    assert_eq!(tried(&mut takeovers, &world, at(5)), [led[1]]);
    // The last one was the hottest, as whoever is lost has said: that is seen at the next look.
    let hot = *led.last().expect("not empty");
    let heat = HeatReport { interval_ms: 1_000, reads: 1_000, ..HeatReport::default() };
    world.view.heat(NodeId(1), hot, &heat);
    assert_eq!(tried(&mut takeovers, &world, at(10)), [led[2]]);
    assert_eq!(tried(&mut takeovers, &world, at(60)), [hot]);
}

#[test]
fn groups_that_cannot_be_helped_are_tried_in_turn() {
    let (world, led) = after_a_loss();
    let mut takeovers =
        Takeovers::new(TakeoverOptions { groups_max: 1, ..TakeoverOptions::default() });
    // Each look takes one group on, and nobody answers. A pause is over before all others had their turn.
    let mut tries: BTreeMap<PartitionId, usize> = led.iter().map(|id| (*id, 0)).collect();
    let mut now = world.now;
    while tries.values().sum::<usize>() < 3 * led.len() {
        let turn = tried(&mut takeovers, &world, now);
        assert!(!turn.is_empty(), "somebody's turn it always is: {tries:?}");
        for partition in turn {
            *tries.entry(partition).or_default() += 1;
        }
        now += Duration::from_millis(40);
    }
    assert!(tries.values().all(|tries| *tries == 3), "{tries:?}");
}
