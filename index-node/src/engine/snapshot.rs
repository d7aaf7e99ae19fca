//! What a snapshot of a partition is on either side.
//!
//! Building one copies nothing: it is the store's own snapshot, taken when a peer needs it and let go of
//! when it was sent. On the receiving side it is a fresh lineage that nothing points at yet.

use std::sync::Arc;

use runtime::store::{Batch, Reader, Store};

use super::{
    lineages,
    log_hold::HeldLog,
    records::GroupState,
    types::{Lineage, SnapshotMeta, TypeConfig},
};

/// A snapshot as openraft passes it around.
pub type PartitionSnapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

pub enum SnapshotData {
    /// Of this node, to be sent.
    Local(LocalSnapshot),
    /// Of another node, verified, to be installed.
    Received(ReceivedSnapshot),
}

pub struct LocalSnapshot {
    pub(super) reader: Arc<dyn Reader>,
    pub(super) state: Arc<GroupState>,
    /// An estimate.
    pub(super) total_bytes: u64,
    /// While it is on its way the log behind it is kept; none for one that is not sent.
    pub(super) held_log: Option<HeldLog>,
}

pub struct ReceivedSnapshot {
    pub(super) lineage: UnusedLineage,
    pub(super) state: GroupState,
}

/// A lineage that no replica points at yet. It is deleted unless somebody adopts it.
pub(super) struct UnusedLineage {
    store: Arc<dyn Store>,
    lineage: Option<Lineage>,
}

impl UnusedLineage {
    pub(super) fn new(store: Arc<dyn Store>, lineage: Lineage) -> Self {
        Self { store, lineage: Some(lineage) }
    }

    pub(super) fn lineage(&self) -> Lineage {
        self.lineage.expect("the lineage is taken out only by adopt, which consumes this")
    }

    /// A replica points at it now.
    pub(super) fn adopt(mut self) -> Lineage {
        self.lineage.take().expect("adopt consumes this, so it comes here once")
    }
}

impl Drop for UnusedLineage {
    fn drop(&mut self) {
        let Some(lineage) = self.lineage else { return };
        let mut batch = Batch::new();
        lineages::delete(&mut batch, lineage);
        if let Err(error) = self.store.write(batch) {
            // The next start deletes it.
            tracing::warn!(%lineage, %error, "an aborted snapshot could not be deleted");
        }
    }
}

/// A snapshot of the state as it is now.
pub(super) fn local(
    state: Arc<GroupState>,
    reader: Arc<dyn Reader>,
    held_log: Option<HeldLog>,
) -> PartitionSnapshot {
    PartitionSnapshot {
        meta: SnapshotMeta {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
        },
        snapshot: SnapshotData::Local(LocalSnapshot {
            reader,
            total_bytes: state.stored_bytes,
            state,
            held_log,
        }),
    }
}
