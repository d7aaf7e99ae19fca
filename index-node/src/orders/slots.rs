//! Which orders wait for which partition. Pure bookkeeping.

use std::collections::{BTreeMap, btree_map::Entry};

use proto::v1::{Order, order::Kind};

use crate::engine::{
    transport::Fence,
    types::{PartitionId, ReplicaId},
};

/// An order with its fence.
#[derive(Clone, Debug, PartialEq)]
pub struct Fenced {
    pub fence: Fence,
    pub order: Order,
}

/// Which of two orders replaces the other: one for the same replica, of the same kind.
type Subject = (ReplicaId, &'static str);

#[derive(Default)]
struct Slot {
    /// All of one fence: what is older was dropped.
    waiting: BTreeMap<Subject, Fenced>,
    working: bool,
}

/// One slot for each partition that has orders waiting or in work.
///
/// **Invariant**: at most one order of a partition is in work.
#[derive(Default)]
pub struct Slots {
    slots: BTreeMap<PartitionId, Slot>,
}

/// The order's kind, in a word.
pub fn kind(order: &Order) -> &'static str {
    match order.kind {
        Some(Kind::Ensure(_)) => "ensure",
        Some(Kind::AddLearner(_)) => "add-learner",
        Some(Kind::ChangeMembers(_)) => "change-members",
        Some(Kind::TransferLeader(_)) => "transfer-leader",
        Some(Kind::Destroy(_)) => "destroy",
        Some(Kind::Split(_)) => "split",
        None => "none",
    }
}

impl Slots {
    /// Puts an order to the others of its partition. A newer fence drops what waits under an older one;
    /// an older order than what waits is dropped itself.
    pub fn put(&mut self, fenced: Fenced) {
        let partition = PartitionId(fenced.order.partition_id);
        let slot = self.slots.entry(partition).or_default();
        if let Some(present) = slot.waiting.values().next() {
            if fenced.fence < present.fence {
                return;
            }
            if fenced.fence > present.fence {
                slot.waiting.clear();
            }
        }
        let subject = (ReplicaId(fenced.order.replica_id), kind(&fenced.order));
        slot.waiting.insert(subject, fenced);
    }

    /// The partition's next order; none if there is none, or one is in work. Whoever takes it says
    /// [`done`](Self::done) afterwards.
    pub fn take(&mut self, partition: PartitionId) -> Option<Fenced> {
        let slot = self.slots.get_mut(&partition)?;
        if slot.working {
            return None;
        }
        let (_, fenced) = slot.waiting.pop_first()?;
        slot.working = true;
        Some(fenced)
    }

    /// The partition's order in work has ended.
    pub fn done(&mut self, partition: PartitionId) {
        if let Entry::Occupied(mut slot) = self.slots.entry(partition) {
            slot.get_mut().working = false;
            if slot.get().waiting.is_empty() {
                slot.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{DestroyReplica, EnsureReplica};

    use super::*;

    const PARTITION: PartitionId = PartitionId(1);

    fn ensure(revision: u64, replica_id: u64) -> Fenced {
        fenced(revision, replica_id, Kind::Ensure(EnsureReplica::default()))
    }

    fn destroy(revision: u64, replica_id: u64) -> Fenced {
        fenced(revision, replica_id, Kind::Destroy(DestroyReplica {}))
    }

    fn fenced(revision: u64, replica_id: u64, kind: Kind) -> Fenced {
        let fence = Fence { zone_generation: 1, term: 1, revision };
        let order =
            Order { partition_id: PARTITION.0, replica_id, kind: Some(kind), ..Order::default() };
        Fenced { fence, order }
    }

    #[test]
    fn orders_of_a_partition_come_one_after_the_other() {
        let mut slots = Slots::default();
        slots.put(ensure(1, 7));
        slots.put(destroy(1, 6));
        assert_eq!(slots.take(PARTITION), Some(destroy(1, 6)));
        assert_eq!(slots.take(PARTITION), None, "one is in work");
        slots.done(PARTITION);
        assert_eq!(slots.take(PARTITION), Some(ensure(1, 7)));
        slots.done(PARTITION);
        assert_eq!(slots.take(PARTITION), None);
        assert!(slots.slots.is_empty());
    }

    #[test]
    fn the_newest_order_wins() {
        let mut slots = Slots::default();
        slots.put(ensure(1, 7));
        slots.put(ensure(1, 8));
        slots.put(destroy(2, 7));
        slots.put(ensure(1, 7));
        slots.put(destroy(2, 7));
        assert_eq!(slots.take(PARTITION), Some(destroy(2, 7)));
        slots.done(PARTITION);
        assert_eq!(slots.take(PARTITION), None);
    }

    #[test]
    fn an_order_in_work_is_not_lost_sight_of() {
        let mut slots = Slots::default();
        slots.put(ensure(1, 7));
        assert!(slots.take(PARTITION).is_some());
        slots.put(destroy(2, 7));
        assert_eq!(slots.take(PARTITION), None);
        slots.done(PARTITION);
        assert_eq!(slots.take(PARTITION), Some(destroy(2, 7)));
    }
}
