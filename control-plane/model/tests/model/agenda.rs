//! Which partitions are looked at next.

use std::collections::BTreeSet;

use model::{PartitionId, agenda::Agenda};
use proptest::prelude::*;

use crate::world::World;

fn ids(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<PartitionId> {
    numbers.into_iter().map(PartitionId).collect()
}

proptest! {
    #[test]
    fn whatever_waits_is_handed_out_once_and_in_batches(
        partitions in 1_u8..60,
        news in proptest::collection::btree_set(1_u64..60, 0..40),
        with_all in any::<bool>(),
        with_unsettled in any::<bool>(),
        partitions_max in 1_usize..20,
    ) {
        // Without nodes nothing can be placed: nothing counts as unsettled.
        let state = World::new(partitions, 1, &[]).state;
        let mut agenda = Agenda::default();
        agenda.add(ids(news.iter().copied()));
        let mut expected = ids(news);
        if with_all {
            agenda.add_all();
            expected.extend(state.partitions().iter().map(|(id, _)| *id));
        }
        if with_unsettled {
            agenda.add_unsettled();
        }
        let mut seen = BTreeSet::new();
        let (mut rounds, mut handed_out) = (0, 0);
        while !agenda.is_empty() {
            let batch = agenda.take(&state, partitions_max);
            prop_assert!(batch.len() <= partitions_max);
            handed_out += batch.len();
            seen.extend(batch);
            rounds += 1;
            prop_assert!(rounds <= 2 * (expected.len() / partitions_max + 2));
        }
        prop_assert_eq!(&seen, &expected);
        // What is news and comes up in the walk as well is handed out twice at most.
        prop_assert!(handed_out <= 2 * expected.len());
        prop_assert!(agenda.take(&state, partitions_max).is_empty());
    }
}

#[test]
fn nobody_waits_for_ever_while_others_are_added_again_and_again() {
    let state = World::new(100, 1, &[]).state;
    let seen_of = |mut agenda: Agenda| {
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            agenda.add(ids(1..=50));
            seen.extend(agenda.take(&state, 8));
        }
        seen
    };
    let mut waiting = Agenda::default();
    waiting.add(ids(1..=100));
    assert_eq!(seen_of(waiting), ids(1..=100));
    let mut walking = Agenda::default();
    walking.add_all();
    assert_eq!(seen_of(walking), ids(1..=100));
}

#[test]
fn partitions_that_are_not_settled_are_looked_at_until_they_are() {
    let mut world = World::new(20, 3, &["a", "b", "c"]);
    // Placement waits a moment for more nodes.
    let placed = (0..400).find(|_| {
        world.step();
        world.state.unsettled().len() == 20
    });
    assert!(placed.is_some());
    let unsettled = world.state.unsettled().clone();
    let mut agenda = Agenda::default();
    agenda.add_unsettled();
    let first = agenda.take(&world.state, 8);
    assert_eq!(first.len(), 8);
    // A walk that is under way does not begin again.
    agenda.add_unsettled();
    let mut seen = agenda.take(&world.state, 8);
    assert!(first.is_disjoint(&seen));
    seen.extend(first);
    seen.extend(agenda.take(&world.state, 8));
    assert_eq!(seen, unsettled);
    assert!(agenda.is_empty());
    world.settle(400);
    agenda.add_unsettled();
    assert!(agenda.take(&world.state, 8).is_empty() && agenda.is_empty());
}
