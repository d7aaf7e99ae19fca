//! One process's use of a simulated disk.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;

use super::{SimulatedDisk, State, Synced};
use crate::{
    seams::Environment,
    store::{Batch, Entries, Family, Reader, Scan, Store, StoreError, SyncDone, instruments},
};

pub(super) struct SimulatedStore {
    session: Arc<Session>,
}

/// What the store shares with its syncing task.
struct Session {
    disk: SimulatedDisk,
    generation: u64,
    environment: Environment,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<SyncDone>,
    /// Whether a task is there that will look at `waiting` again.
    running: bool,
    /// Set by the first failure and never changed.
    failure: Option<StoreError>,
}

impl SimulatedStore {
    pub(super) fn new(disk: SimulatedDisk, generation: u64, environment: Environment) -> Self {
        let queue = Mutex::new(Queue::default());
        Self { session: Arc::new(Session { disk, generation, environment, queue }) }
    }
}

impl Session {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no code panics while it holds the queue")
    }

    /// Does something with the disk, if this store has not failed and still has the disk.
    fn with_disk<T>(
        &self,
        action: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(failure) = &self.queue().failure {
            return Err(failure.clone());
        }
        let mut state = self.disk.lock();
        if state.generation != self.generation {
            return Err(StoreError::Failed {
                action: "reach the disk",
                message: "the disk has crashed or was opened again".to_owned(),
            });
        }
        action(&mut state)
    }

    /// Stops the store with `error`, unless it is stopped already. Returns what it is stopped by.
    fn fail(&self, error: StoreError) -> StoreError {
        let mut queue = self.queue();
        if queue.failure.is_none() {
            instruments::failed();
        }
        queue.failure.get_or_insert(error).clone()
    }

    /// Takes those who wait, or notes that nobody does.
    fn next_group(&self) -> Option<Vec<SyncDone>> {
        let mut queue = self.queue();
        if queue.waiting.is_empty() {
            queue.running = false;
            return None;
        }
        Some(std::mem::take(&mut queue.waiting))
    }

    fn sync_delay(&self) -> Duration {
        let (min, max) = {
            let state = self.disk.lock();
            (state.faults.sync_delay_min, state.faults.sync_delay_max)
        };
        let span = u64::try_from((max - min).as_nanos()).unwrap_or(u64::MAX - 1);
        min + Duration::from_nanos(self.environment.random_below(span + 1))
    }

    /// Syncs until nobody waits. One sync covers what was written before it began.
    async fn run(self: Arc<Self>) {
        let mut stalled = self.disk.stalled.subscribe();
        let mut answers_held = self.disk.answers_held.subscribe();
        while let Some(group) = self.next_group() {
            let began = self.environment.now();
            let through = self.with_disk(|state| Ok(state.written_through()));
            tokio::time::sleep(self.sync_delay()).await;
            // Cannot fail: this session holds the sender.
            let _ = stalled.wait_for(|stalled| !stalled).await;
            let synced =
                through.and_then(|through| self.with_disk(|state| state.complete_sync(through)));
            let outcome = match synced {
                Ok(Synced::Now) => Ok(()),
                Ok(Synced::Never(act)) => {
                    if let Some(act) = act {
                        act();
                    }
                    // Those who wait are neither answered nor let go: their process has ended.
                    return std::future::pending().await;
                }
                Err(error) => Err(self.fail(error)),
            };
            let _ = answers_held.wait_for(|held| !held).await;
            instruments::synced(self.environment.now().since(began), group.len());
            for done in group {
                done(outcome.clone());
            }
        }
    }
}

impl Reader for SimulatedStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.session.with_disk(|state| state.view().get(family, key))
    }

    fn scan(&self, family: Family, scan: Scan) -> Entries<'_> {
        match self.session.with_disk(|state| Ok(state.view().clone())) {
            Ok(image) => image.into_scan(family, scan),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

impl Store for SimulatedStore {
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return self.session.with_disk(|_| Ok(())).map_err(|error| self.session.fail(error));
        }
        let ends = self
            .session
            .with_disk(|state| state.write(&batch))
            .map_err(|error| self.session.fail(error))?;
        if let Some(act) = ends {
            act();
        }
        Ok(())
    }

    fn sync(&self, done: SyncDone) {
        let mut queue = self.session.queue();
        queue.waiting.push(done);
        if !queue.running {
            queue.running = true;
            tokio::spawn(Arc::clone(&self.session).run());
        }
    }

    fn snapshot(&self) -> Arc<dyn Reader> {
        match self.session.with_disk(|state| Ok(state.view().clone())) {
            Ok(image) => Arc::new(image),
            Err(error) => Arc::new(Failed(error)),
        }
    }

    fn approximate_bytes(&self, family: Family, start: &[u8], end: &[u8]) -> u64 {
        self.session
            .with_disk(|state| Ok(state.view().bytes_between(family, start, end)))
            .unwrap_or_default()
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        self.session
            .with_disk(|state| Ok(if state.faults.full { 0 } else { state.faults.free_bytes }))
    }
}

/// The snapshot of a store that has failed.
struct Failed(StoreError);

impl Reader for Failed {
    fn get(&self, _: Family, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Err(self.0.clone())
    }

    fn scan(&self, _: Family, _: Scan) -> Entries<'_> {
        Box::new(std::iter::once(Err(self.0.clone())))
    }
}
