//! The replicated state machine: the zone's state in memory, and its records in the store.
//!
//! Each entry's changed records, its log id and the membership go into one batch, which shares the
//! write-ahead log with the Raft log: after a crash the records show the state after some entry, never
//! half of one, and never one whose entry is lost. Nothing is synced here; what is missing after a
//! crash is applied again from the log.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{Stream, TryStreamExt};
use model::ZoneState;
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, StoredMembership,
    alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf},
    storage::{EntryResponder, RaftStateMachine},
};
use runtime::{
    record,
    store::{Batch, Reader, Store, StoreError, synced},
};

use super::{
    Answer, TypeConfig,
    records::{AppliedRecord, FORMAT_VERSION, Generation, ZONE},
    snapshot::{Staged, ZoneSnapshot},
    view::Zone,
};

type CurrentSnapshot = SnapshotOf<TypeConfig, ZoneSnapshot>;

/// The state machine of one member.
pub struct ZoneStateMachine {
    store: Arc<dyn Store>,
    zone: Arc<Zone>,
    applied: AppliedRecord,
    current_snapshot: Option<CurrentSnapshot>,
    generations: Arc<GenerationCounter>,
}

/// Why the zone's state cannot be read from the store.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the records of the zone's state cannot be read")]
    Record(#[from] model::state::LoadError),
}

impl From<LoadError> for io::Error {
    fn from(error: LoadError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Hands out generations that no record has ever been written under.
#[derive(Debug)]
pub struct GenerationCounter(AtomicU64);

impl GenerationCounter {
    /// Room for a snapshot that is about to be received.
    pub fn stage(&self, store: &Arc<dyn Store>) -> Staged {
        let generation = Generation(self.0.fetch_add(1, Ordering::SeqCst) + 1);
        Staged::new(Arc::clone(store), generation)
    }
}

/// Reads the state of one generation, record by record.
pub(crate) fn load(reader: &dyn Reader, generation: Generation) -> Result<ZoneState, LoadError> {
    let prefix = generation.key(&[]).len();
    let mut failure = None;
    let records = reader.scan(ZONE, generation.scan()).map_while(|entry| {
        let record = entry.and_then(|(key, value)| {
            let value: Vec<u8> = record::decode(ZONE, FORMAT_VERSION, &value)?;
            Ok((key.slice(prefix..), value))
        });
        record.map_err(|error| failure = Some(error)).ok()
    });
    let state = ZoneState::from_records(records);
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(state?),
    }
}

impl ZoneStateMachine {
    /// The state as the store has it. Deletes what abandoned snapshots left behind.
    ///
    /// # Errors
    /// If the store fails, or holds records that this software cannot read.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, LoadError> {
        let applied = AppliedRecord::read(store.as_ref())?;
        let generation = applied.generation();
        let mut batch = Batch::new();
        generation.delete_others(&mut batch);
        store.write(batch)?;
        let state = load(store.as_ref(), generation)?;
        let zone = Arc::new(Zone::new(state));
        Ok(Self {
            store,
            zone,
            applied,
            current_snapshot: None,
            generations: Arc::new(GenerationCounter(AtomicU64::new(generation.0))),
        })
    }

    /// The applied state, for reading while the state machine belongs to Raft.
    pub fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.zone)
    }

    pub fn generations(&self) -> Arc<GenerationCounter> {
        Arc::clone(&self.generations)
    }

    fn apply_entry(&mut self, entry: EntryOf<TypeConfig>) -> Result<Answer, StoreError> {
        let log_id = entry.log_id;
        self.applied.log_id = Some(log_id);
        let mut batch = Batch::new();
        let answer = match entry.payload {
            EntryPayload::Blank => Answer::Nothing,
            EntryPayload::Membership(membership) => {
                self.applied.membership = StoredMembership::new(Some(log_id), membership);
                Answer::Nothing
            }
            EntryPayload::Normal(command) => {
                let generation = self.applied.generation();
                let (answer, changes) = self.zone.apply(log_id.index, &command);
                for (key, value) in changes.records {
                    let key = generation.key(&key);
                    match value {
                        Some(value) => {
                            batch.put(ZONE, key, record::encode(FORMAT_VERSION, &value));
                        }
                        None => batch.delete(ZONE, key),
                    }
                }
                answer
            }
        };
        self.applied.write(&mut batch);
        self.store.write(batch)?;
        // Only now can anybody be woken by the new state: what they do is based on what is stored.
        self.zone.publish();
        Ok(answer)
    }
}

impl RaftStateMachine<TypeConfig> for ZoneStateMachine {
    type SnapshotData = ZoneSnapshot;
    type SnapshotBuilder = ZoneSnapshotBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<TypeConfig>>, StoredMembershipOf<TypeConfig>), io::Error> {
        Ok((self.applied.log_id, self.applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let answer = self.apply_entry(entry)?;
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> ZoneSnapshotBuilder {
        runtime::mark!("snapshot of the zone built");
        // The store shows exactly the applied entries now: this runs between two of them.
        let snapshot = SnapshotOf::<TypeConfig, ZoneSnapshot> {
            meta: SnapshotMetaOf::<TypeConfig> {
                last_log_id: self.applied.log_id,
                last_membership: self.applied.membership.clone(),
            },
            snapshot: ZoneSnapshot {
                reader: self.store.snapshot(),
                generation: self.applied.generation(),
            },
        };
        self.current_snapshot = Some(snapshot.clone());
        ZoneSnapshotBuilder { snapshot }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: ZoneSnapshot,
    ) -> Result<(), io::Error> {
        // Everything that can be wrong with it shows before anything changes.
        let state = load(snapshot.reader.as_ref(), snapshot.generation)?;
        let replaced = self.applied.generation();
        let applied = AppliedRecord {
            generation: snapshot.generation.0,
            log_id: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        let mut batch = Batch::new();
        applied.write(&mut batch);
        if replaced != snapshot.generation {
            replaced.delete(&mut batch);
        }
        self.store.write(batch)?;
        synced(self.store.as_ref()).await?;
        self.applied = applied;
        self.zone.replace(state);
        runtime::mark!("snapshot of the zone installed");
        self.current_snapshot =
            Some(SnapshotOf::<TypeConfig, ZoneSnapshot> { meta: meta.clone(), snapshot });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<CurrentSnapshot>, io::Error> {
        Ok(self.current_snapshot.clone())
    }
}

/// A snapshot that is ready when it is asked for: the store keeps the records.
pub struct ZoneSnapshotBuilder {
    snapshot: CurrentSnapshot,
}

impl RaftSnapshotBuilder<TypeConfig> for ZoneSnapshotBuilder {
    type SnapshotData = ZoneSnapshot;

    async fn build_snapshot(&mut self) -> Result<CurrentSnapshot, io::Error> {
        Ok(self.snapshot.clone())
    }
}
