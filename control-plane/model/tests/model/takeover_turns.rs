//! Whose turn it is when more groups need a leader than can be helped at a time.

use std::{collections::BTreeMap, time::Duration};

use model::{
    NodeId, PartitionId,
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

#[test]
fn groups_that_cannot_be_helped_are_tried_in_turn() {
    let mut world = World::new(60, 3, &["a", "b", "c"]);
    world.settle(400);
    world.kill(NodeId(1));
    let round = world.detector.gather(world.now, &world.state, &world.view);
    let lost = world.detector.judge(&round).action().expect("it is lost");
    world.apply(lost).expect("a batch");
    let led: Vec<_> = world.state.partitions_led_by(NodeId(1)).collect();
    assert!(led.len() >= 15, "{led:?}");
    let mut takeovers =
        Takeovers::new(TakeoverOptions { groups_max: 1, ..TakeoverOptions::default() });
    // Each look takes one group on, and nobody answers. A pause is over before all others had their turn.
    let mut tries: BTreeMap<PartitionId, usize> = led.iter().map(|id| (*id, 0)).collect();
    let mut now = world.now;
    while tries.values().sum::<usize>() < 3 * led.len() {
        takeovers.begin(&world.state, &world.view, now);
        let calls = takeovers.calls(&world.state, now);
        assert!(!calls.is_empty(), "somebody's turn it always is: {tries:?}");
        for call in calls {
            if let CallKind::Collect { groups } = &call.kind {
                // Both survivors are asked: one of them stands for the try.
                let asked = groups.iter().filter(|_| call.node == NodeId(2));
                for group in asked {
                    *tries.entry(group.partition).or_default() += 1;
                }
            }
            takeovers.call_failed(call.id, "unavailable");
        }
        takeovers.calls(&world.state, now);
        now += Duration::from_millis(40);
    }
    assert!(tries.values().all(|tries| *tries == 3), "{tries:?}");
}
