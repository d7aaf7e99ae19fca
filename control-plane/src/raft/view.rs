//! The applied state of the zone, for reading by everybody in this process.
//!
//! It is written by the state machine alone. Readers hold the lock for moments only, and never across
//! an await. Watchers are woken after the state's records were written.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use model::{Changes, NodeId, PartitionId, Revision, ZoneState};
use tokio::sync::watch;

use super::{Answer, Proposal};

/// How many changes of the partition map are remembered for watchers that were away.
const HISTORY_MAX: usize = 16_384;

/// The applied state and its recent changes.
pub struct Zone {
    applied: RwLock<Applied>,
    published: watch::Sender<u64>,
}

struct Applied {
    state: ZoneState,
    history: History,
}

/// What of the partition map has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapChange {
    pub partitions: BTreeSet<PartitionId>,
    pub nodes: BTreeSet<NodeId>,
}

impl MapChange {
    fn of(changes: &Changes) -> Self {
        Self {
            partitions: changes.partitions.iter().copied().collect(),
            nodes: changes.nodes.iter().copied().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.nodes.is_empty()
    }

    fn merge(&mut self, other: &MapChange) {
        self.partitions.extend(&other.partitions);
        self.nodes.extend(&other.nodes);
    }
}

/// The latest changes of the partition map, by revision.
struct History {
    changes: VecDeque<(Revision, MapChange)>,
    /// Changes up to this revision are not known any more.
    forgotten: Revision,
}

impl History {
    fn starting_at(revision: Revision) -> Self {
        Self { changes: VecDeque::new(), forgotten: revision }
    }

    fn add(&mut self, revision: Revision, change: MapChange) {
        if change.is_empty() {
            return;
        }
        self.changes.push_back((revision, change));
        if self.changes.len() > HISTORY_MAX
            && let Some((forgotten, _)) = self.changes.pop_front()
        {
            self.forgotten = forgotten;
        }
    }

    fn after(&self, revision: Revision) -> Option<MapChange> {
        if revision < self.forgotten {
            return None;
        }
        let first = self.changes.partition_point(|(changed, _)| *changed <= revision);
        let mut merged = MapChange::default();
        for (_, change) in self.changes.range(first..) {
            merged.merge(change);
        }
        Some(merged)
    }
}

impl Zone {
    pub(super) fn new(state: ZoneState) -> Self {
        let history = History::starting_at(state.revision());
        let applied = RwLock::new(Applied { state, history });
        Self { applied, published: watch::Sender::new(0) }
    }

    fn lock(&self) -> RwLockReadGuard<'_, Applied> {
        self.applied.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_mut(&self) -> RwLockWriteGuard<'_, Applied> {
        // A panic while applying stops the group's core; what it left is not looked at for decisions.
        self.applied.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the applied state. The look must be short: applying waits for it.
    pub fn read<T>(&self, look: impl FnOnce(&ZoneState) -> T) -> T {
        look(&self.lock().state)
    }

    /// Looks at the state together with what of the partition map has changed after `revision`; none
    /// if that is not remembered.
    pub fn changes_after<T>(
        &self,
        revision: Revision,
        look: impl FnOnce(&ZoneState, Option<MapChange>) -> T,
    ) -> T {
        let applied = self.lock();
        let change = applied.history.after(revision);
        look(&applied.state, change)
    }

    /// Is woken after each entry that was applied.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Applies the command at position `index` of the log; gives its answer and what it changed.
    pub(super) fn apply(&self, index: u64, proposal: &Proposal) -> (Answer, Changes) {
        let mut applied = self.lock_mut();
        let outcome = applied.state.apply(Revision(index), &proposal.0);
        let changes = applied.state.take_changes();
        applied.history.add(Revision(index), MapChange::of(&changes));
        (Answer::Outcome(outcome), changes)
    }

    /// Wakes those who watch.
    pub(super) fn publish(&self) {
        self.published.send_modify(|published| *published += 1);
    }

    /// Another state takes this one's place: a snapshot was installed.
    pub(super) fn replace(&self, state: ZoneState) {
        let history = History::starting_at(state.revision());
        *self.lock_mut() = Applied { state, history };
        self.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(id: u64) -> MapChange {
        MapChange { partitions: BTreeSet::from([PartitionId(id)]), ..MapChange::default() }
    }

    #[test]
    fn a_watcher_gets_what_it_missed_or_hears_that_it_is_forgotten() {
        let mut history = History::starting_at(Revision(10));
        history.add(Revision(11), partition(1));
        history.add(Revision(12), MapChange::default());
        history.add(Revision(13), partition(2));
        assert_eq!(history.after(Revision(9)), None);
        let both = history.after(Revision(10)).unwrap();
        assert_eq!(both.partitions, BTreeSet::from([PartitionId(1), PartitionId(2)]));
        assert_eq!(history.after(Revision(11)), Some(partition(2)));
        assert_eq!(history.after(Revision(13)), Some(MapChange::default()));
        for revision in 14..14 + HISTORY_MAX as u64 {
            history.add(Revision(revision), partition(3));
        }
        assert_eq!(history.after(Revision(12)), None, "the oldest change is forgotten");
        assert_eq!(history.after(Revision(13)), Some(partition(3)));
    }
}
