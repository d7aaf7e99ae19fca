//! What reads of one replica see: the applied state and the store, never apart.

use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use runtime::store::{Batch, Reader, Store, StoreError};

use super::{
    birth::Birth,
    records::GroupState,
    types::{KeyRange, PartitionId, Placement},
};

/// The child that was split off last: for those who come for its keys, until they know better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitOff {
    pub partition: PartitionId,
    pub range: KeyRange,
    pub range_epoch: u64,
    pub replicas: Vec<Placement>,
}

impl SplitOff {
    pub(super) fn of(birth: &Birth) -> Self {
        Self {
            partition: birth.partition,
            range: birth.range.clone(),
            range_epoch: birth.state.range_epoch,
            replicas: birth.replicas.clone(),
        }
    }
}

/// The applied state of one replica. Only its state machine writes to it.
pub struct GroupView {
    store: Arc<dyn Store>,
    state: RwLock<Arc<GroupState>>,
    split_off: RwLock<Option<Arc<SplitOff>>>,
    closed: AtomicBool,
}

impl GroupView {
    pub fn new(store: Arc<dyn Store>, state: GroupState) -> Self {
        Self {
            store,
            state: RwLock::new(Arc::new(state)),
            split_off: RwLock::default(),
            closed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> RwLockReadGuard<'_, Arc<GroupState>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn state(&self) -> Arc<GroupState> {
        Arc::clone(&self.lock())
    }

    pub fn note_split(&self, split_off: SplitOff) {
        let mut last = self.split_off.write().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Arc::new(split_off));
    }

    /// The child that this process has seen split off last.
    pub fn split_off(&self) -> Option<Arc<SplitOff>> {
        self.split_off.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs a short read, during which nothing is applied.
    pub fn read<T>(&self, read: impl FnOnce(&GroupState, &dyn Reader) -> T) -> T {
        let state = self.lock();
        read(&state, self.store.as_ref())
    }

    /// State and store of one moment, for a read that takes longer.
    pub fn snapshot(&self) -> (Arc<GroupState>, Arc<dyn Reader>) {
        let state = self.lock();
        (Arc::clone(&state), self.store.snapshot())
    }

    /// Writes the batch, which has to hold `state`, and shows both at once.
    pub fn write(&self, batch: Batch, state: GroupState) -> Result<(), StoreError> {
        let mut current = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Relaxed) {
            let message = "the replica was stopped".to_owned();
            return Err(StoreError::Failed { action: "apply", message });
        }
        self.store.write(batch)?;
        *current = Arc::new(state);
        Ok(())
    }

    /// When this returns nothing is being written, and nothing will be: what the state machine still had
    /// to do when its core ended is dropped.
    pub fn close(&self) {
        let _current = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Relaxed);
    }
}
