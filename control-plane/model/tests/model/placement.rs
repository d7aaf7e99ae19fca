//! Where replicas go.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Action, NodeId,
    observation::Heartbeat,
    placement::{Loads, NoChoice, choose, place},
};
use proptest::prelude::*;

use crate::world::World;

/// A zone whose nodes have come, but nothing is placed yet.
fn unplaced(partitions: u8, replication_factor: u32, domains: &[&str]) -> World {
    let mut world = World::new(partitions, replication_factor, domains);
    let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
    for id in ids {
        world.view.session_opened(id, model::Incarnation(1), world.now);
        world.view.heartbeat(id, Heartbeat::default(), world.now);
    }
    for _ in 0..30 {
        world.now += crate::world::STEP;
        world.apply(Action::Tick).expect("initialised");
    }
    world
}

proptest! {
    #[test]
    fn placements_are_spread_and_even(
        domains in proptest::collection::vec(prop_oneof!["a", "b", "c", "d", "e"], 3..10),
        partitions in 1_u8..60,
        factor in prop_oneof![Just(1_u32), Just(3)],
    ) {
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        let world = unplaced(partitions, factor, &domains);
        let placements = place(&world.state, &world.view);
        prop_assert_eq!(placements.len(), usize::from(partitions));
        let distinct: BTreeSet<_> = domains.iter().collect();
        let factor = usize::try_from(factor).expect("small");
        let mut preferred: BTreeMap<NodeId, usize> = BTreeMap::new();
        for placement in &placements {
            let nodes: BTreeSet<_> = placement.nodes.iter().collect();
            prop_assert_eq!(nodes.len(), factor);
            let used: BTreeSet<_> = placement
                .nodes
                .iter()
                .map(|node| &world.state.node(*node).expect("known").fault_domain)
                .collect();
            prop_assert_eq!(used.len(), factor.min(distinct.len()));
            prop_assert!(placement.nodes.contains(&placement.preferred_leader));
            prop_assert!(!placement.reason.is_empty());
            *preferred.entry(placement.preferred_leader).or_default() += 1;
        }
        // The state accepts the plan as it is.
        let mut world = world;
        let count = u32::from(partitions);
        let outcome = world.apply(Action::CommitPlacements { placements });
        prop_assert!(
            matches!(outcome, Ok(model::Applied::Batch { accepted, .. }) if accepted == count),
            "{:?}", outcome
        );
        // Even where nothing forbids it: as many domains as nodes.
        if distinct.len() == domains.len() {
            let counts: Vec<_> = world.state.target_counts().into_values().collect();
            let (most, least) = (counts.iter().max(), counts.iter().min());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{:?}", counts);
            let most = preferred.values().max().copied().unwrap_or(0);
            let least = domains.len() - preferred.len();
            let least = if least > 0 { 0 } else { preferred.values().min().copied().unwrap_or(0) };
            prop_assert!(most - least <= 1, "{:?}", preferred);
        }
    }
}

#[test]
fn nothing_is_placed_before_the_nodes_have_had_time_to_come() {
    let mut world = World::new(4, 3, &["a", "b", "c"]);
    for id in 1..=3 {
        world.view.session_opened(NodeId(id), model::Incarnation(1), world.now);
    }
    assert_eq!(place(&world.state, &world.view), Vec::new());
    assert!(world.state.wants_ticks());
    for _ in 0..30 {
        world.now += crate::world::STEP;
        world.apply(Action::Tick).expect("initialised");
    }
    assert_eq!(place(&world.state, &world.view).len(), 4);
    // A node without session is not counted.
    world.view.session_closed(NodeId(1), world.now);
    assert_eq!(place(&world.state, &world.view), Vec::new());
}

#[test]
fn a_replacement_goes_where_it_can_and_says_why() {
    let mut world = World::new(4, 3, &["a", "b", "c", "c", "d"]);
    world.settle(400);
    let (id, partition) = world.state.partitions().first().expect("some");
    let (id, partition) = (*id, partition.clone());
    let replaced = partition.targets[0];
    let loads = Loads::of(&world.state);
    let choice = choose(&world.state, &world.view, &loads, id, &partition, Some(replaced.id))
        .expect("five nodes");
    assert!(!partition.is_on(choice.node));
    assert!(choice.reason.contains("node"), "{}", choice.reason);

    // With the disks of all others full there is nowhere to go, and each is named.
    for node in world.nodes.keys().filter(|node| !partition.is_on(**node)) {
        let heartbeat = Heartbeat { disk_below_reserve: true, ..Heartbeat::default() };
        world.view.heartbeat(*node, heartbeat, world.now);
    }
    let nowhere = choose(&world.state, &world.view, &loads, id, &partition, Some(replaced.id));
    let Err(NoChoice::Nobody { why, .. }) = nowhere else { panic!("{nowhere:?}") };
    assert_eq!(why.len(), 5, "{why:?}");
    let refusal =
        model::repair::check_room(&world.state, &world.view, id, choice.node).expect_err("no room");
    assert!(refusal.to_string().contains("reserve"), "{refusal}");
}
