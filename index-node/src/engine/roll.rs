//! Which replicas are on this node, and which of them share a lineage.
//!
//! Replicas appear by an order and by the apply of a split, and go by an order. Whoever writes their
//! records holds the roll meanwhile, so that no two of them decide on the same thing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use runtime::store::{Batch, Reader, StoreError};
use tokio::sync::Notify;

use super::{
    birth::Birth,
    keys, lineages,
    records::{GroupState, ReplicaRecord},
    types::{Lineage, PartitionId, ReplicaId},
};

/// A replica whose records are written, and that does not run yet.
#[derive(Clone, Debug)]
pub(super) struct Born {
    pub(super) record: ReplicaRecord,
    /// The partition that it was split off from.
    pub(super) parent: PartitionId,
}

#[derive(Default)]
pub(super) struct Roll {
    inner: Mutex<Inner>,
    births: Notify,
}

#[derive(Default)]
pub(super) struct Inner {
    here: BTreeMap<PartitionId, ReplicaId>,
    users: BTreeMap<Lineage, BTreeSet<ReplicaId>>,
    born: BTreeMap<PartitionId, Born>,
}

impl Roll {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a replica may have been born since the last call.
    pub(super) async fn births(&self) {
        self.births.notified().await;
    }

    pub(super) fn announce_birth(&self) {
        self.births.notify_one();
    }

    /// The next replica to start.
    pub(super) fn next_born(&self) -> Option<Born> {
        self.lock().born.values().next().cloned()
    }

    /// Whether a replica of the partition is here and about to start.
    pub(super) fn is_born(&self, partition: PartitionId) -> bool {
        self.lock().born.contains_key(&partition)
    }

    pub(super) fn started(&self, partition: PartitionId) {
        self.lock().born.remove(&partition);
    }

    /// Who else uses the lineage.
    pub(super) fn others(&self, lineage: Lineage, replica: ReplicaId) -> Vec<ReplicaId> {
        let inner = self.lock();
        let users = inner.users.get(&lineage).into_iter().flatten();
        users.copied().filter(|user| *user != replica).collect()
    }
}

impl Inner {
    pub(super) fn replica(&self, partition: PartitionId) -> Option<ReplicaId> {
        self.here.get(&partition).copied()
    }

    pub(super) fn add(&mut self, partition: PartitionId, replica: ReplicaId, lineage: Lineage) {
        self.here.insert(partition, replica);
        self.users.entry(lineage).or_default().insert(replica);
    }

    /// The replica of the child that may be made here: it was not destroyed, and none of the child is here.
    pub(super) fn admits(
        &self,
        reader: &dyn Reader,
        birth: &Birth,
    ) -> Result<Option<ReplicaId>, StoreError> {
        let Some(own) = birth.own else { return Ok(None) };
        let tombstone = reader.get(keys::META, &keys::tombstone(own))?;
        let record = reader.get(keys::META, &keys::replica(own))?;
        let is_here = record.is_some() || self.replica(birth.partition).is_some();
        Ok((tombstone.is_none() && !is_here).then_some(own))
    }

    /// The child's records are written.
    pub(super) fn bear(&mut self, birth: &Birth, replica: ReplicaId, parent: PartitionId) {
        self.add(birth.partition, replica, birth.state.lineage);
        self.born.insert(birth.partition, Born { record: birth.record(replica), parent });
    }

    pub(super) fn remove(&mut self, partition: PartitionId, replica: ReplicaId) {
        if self.here.get(&partition) == Some(&replica) {
            self.here.remove(&partition);
        }
    }

    /// The replica leaves its lineage: puts the deletion of what nobody uses then into the batch.
    pub(super) fn leave_lineage(
        &mut self,
        batch: &mut Batch,
        replica: ReplicaId,
        state: &GroupState,
    ) {
        let lineage = state.lineage;
        let Some(users) = self.users.get_mut(&lineage) else {
            lineages::delete(batch, lineage);
            return;
        };
        users.remove(&replica);
        let is_alone = users.is_empty();
        if is_alone {
            self.users.remove(&lineage);
        }
        if is_alone || planted::is_planted(planted::Bug::SharedLineageDeleted) {
            lineages::delete(batch, lineage);
            return;
        }
        runtime::mark!("lineage: one half left it, and the other stayed");
        if let Some(range) = &state.range {
            let (start, end) = keys::data_range(lineage, range);
            batch.delete_range(keys::DATA, start, end);
        }
    }

    /// The replica has another lineage now.
    pub(super) fn enter_lineage(&mut self, replica: ReplicaId, lineage: Lineage) {
        self.users.entry(lineage).or_default().insert(replica);
    }
}
