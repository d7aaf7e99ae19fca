//! Sets of partitions against the library's ordered sets.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
};

use model::{PartitionId, partition_set::PartitionSet};
use proptest::prelude::*;

fn id() -> impl Strategy<Value = PartitionId> {
    // Neighbours, so that words fill and empty; and the ends of what can be counted.
    let id = prop_oneof![8 => 0_u64..200, 1 => Just(u64::MAX), 1 => u64::MAX - 70..u64::MAX];
    id.prop_map(PartitionId)
}

proptest! {
    #[test]
    fn a_set_of_partitions_is_what_any_ordered_set_would_be(
        steps in proptest::collection::vec((any::<bool>(), id()), 1..300),
        from in id(),
        limit in id(),
    ) {
        let (mut set, mut naive) = (PartitionSet::default(), BTreeSet::new());
        for (is_added, id) in steps {
            if is_added {
                prop_assert_eq!(set.insert(id), naive.insert(id));
            } else {
                prop_assert_eq!(set.remove(id), naive.remove(&id));
            }
            prop_assert_eq!(set.len(), naive.len());
            prop_assert_eq!(set.contains(id), is_added);
        }
        prop_assert!(set.iter().eq(naive.iter().copied()));
        prop_assert_eq!(set.first(), naive.first().copied());
        prop_assert_eq!(set.is_empty(), naive.is_empty());
        prop_assert!(set.after(from).eq(naive.range((Excluded(from), Unbounded)).copied()));
        prop_assert_eq!(&naive.iter().copied().collect::<PartitionSet>(), &set);
        set.retain(|id| id < limit);
        naive.retain(|id| *id < limit);
        prop_assert!(set.iter().eq(naive.iter().copied()));
        prop_assert_eq!(set.len(), naive.len());
    }
}
