//! Which partitions are looked at next: a few at a time, however many wait.
//!
//! Three sources: partitions that something has happened to, now and then all that are not settled, and, at the
//! start, all there are. The last two are walked over in the order of ids and never copied, so that a batch costs
//! what it holds, and not what is left. Each source has its turn in each batch: news never starve the walks, nor
//! the walks the news.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
};

use crate::{ids::PartitionId, partition_set::PartitionSet, state::ZoneState};

/// Partitions that wait to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    waiting: PartitionSet,
    /// The latest of the waiting ones that was handed out: the next come after it, in a circle.
    handed_out: PartitionId,
    unsettled: Walk,
    all: Walk,
}

/// Over ids in their order. Ids start at 1.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    /// The latest that was handed out; none: it is over.
    after: Option<PartitionId>,
}

impl Walk {
    /// Those that come next of `rest`, which begins after the latest.
    fn take(
        &mut self,
        batch: &mut BTreeSet<PartitionId>,
        room: usize,
        rest: impl Iterator<Item = PartitionId>,
    ) {
        let (mut taken, mut rest) = (0, rest.peekable());
        while taken < room
            && let Some(id) = rest.next()
        {
            self.after = Some(id);
            taken += usize::from(batch.insert(id));
        }
        if rest.peek().is_none() {
            self.after = None;
        }
    }
}

impl Agenda {
    /// Something has happened to these.
    pub fn add(&mut self, partitions: impl IntoIterator<Item = PartitionId>) {
        self.waiting.extend(partitions);
    }

    /// All that are not settled shall be looked at. A walk that is under way goes on.
    pub fn add_unsettled(&mut self) {
        self.unsettled.after.get_or_insert_default();
    }

    /// All shall be looked at, from now on.
    pub fn add_all(&mut self) {
        self.all.after = Some(PartitionId::default());
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.unsettled.after.is_none() && self.all.after.is_none()
    }

    /// At most so many of those that wait; they do not any more.
    pub fn take(&mut self, state: &ZoneState, partitions_max: usize) -> BTreeSet<PartitionId> {
        let mut batch = BTreeSet::new();
        let share = partitions_max.div_ceil(4);
        self.walk_unsettled(state, &mut batch, share);
        let share = share.min(partitions_max - batch.len());
        self.walk_all(state, &mut batch, share);
        while batch.len() < partitions_max
            && let Some(id) = self.next_waiting()
        {
            self.waiting.remove(id);
            self.handed_out = id;
            batch.insert(id);
        }
        let room = partitions_max - batch.len();
        self.walk_unsettled(state, &mut batch, room);
        let room = partitions_max - batch.len();
        self.walk_all(state, &mut batch, room);
        batch
    }

    fn next_waiting(&self) -> Option<PartitionId> {
        self.waiting.after(self.handed_out).next().or_else(|| self.waiting.first())
    }

    fn walk_unsettled(
        &mut self,
        state: &ZoneState,
        batch: &mut BTreeSet<PartitionId>,
        room: usize,
    ) {
        if let Some(after) = self.unsettled.after {
            let rest = state.unsettled().range((Excluded(after), Unbounded)).copied();
            self.unsettled.take(batch, room, rest);
        }
    }

    fn walk_all(&mut self, state: &ZoneState, batch: &mut BTreeSet<PartitionId>, room: usize) {
        if let Some(after) = self.all.after {
            let rest = state.partitions().range((Excluded(after), Unbounded)).map(|(id, _)| *id);
            self.all.take(batch, room, rest);
        }
    }
}
