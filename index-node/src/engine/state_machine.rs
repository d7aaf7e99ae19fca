//! The state machine of one replica, as openraft drives it.
//!
//! Applied entries, the applied log id and the membership are one batch each time. It is not synced: the
//! log is the durable truth, and since log and state share one write-ahead log, what a crash keeps is
//! never a state without the log before it, nor a purged log without the state that replaces it.

use std::{io, sync::Arc};

use futures_util::{Stream, TryStreamExt};
use openraft::{
    OptionalSend, RaftSnapshotBuilder,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use planted::Bug;
use runtime::{
    seams::ProcessorTime,
    store::{Batch, StoreError, synced},
};

use super::{
    apply::{ApplyError, ApplyRun, Finished},
    birth::Birth,
    clock::PartitionClock,
    command::PartitionOutcome,
    heat::Heat,
    keys,
    log_hold::LogHold,
    records::GroupState,
    roll::Roll,
    snapshot::{self, PartitionSnapshot, SnapshotData},
    types::{PartitionId, RaftLogId, ReplicaId, SnapshotMeta, StoredMembership, TypeConfig},
    view::{GroupView, SplitOff},
};

/// A run of entries ends here, so that a batch stays small.
const RUN_ENTRIES_MAX: usize = 1_024;
const RUN_BYTES_MAX: usize = 1024 * 1024;

impl From<ApplyError> for io::Error {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Store(error) => error.into(),
            ApplyError::UnknownFormat { .. } => io::Error::new(io::ErrorKind::Unsupported, error),
            ApplyError::Diverged { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

#[derive(Clone)]
pub struct StateMachine {
    pub(super) partition: PartitionId,
    pub(super) replica: ReplicaId,
    pub(super) roll: Arc<Roll>,
    pub(super) view: Arc<GroupView>,
    pub(super) clock: Arc<PartitionClock>,
    pub(super) heat: Arc<Heat>,
    pub(super) processor_time: Arc<dyn ProcessorTime>,
    pub(super) log_hold: LogHold,
    /// See [`EngineOptions`](super::options::EngineOptions).
    pub(super) log_entries_held_max: u64,
}

impl StateMachine {
    async fn apply_entries<S>(&self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut next = entries.try_next().await?;
        let mut responses = Vec::new();
        while next.is_some() {
            let state = GroupState::clone(&self.view.state());
            let mut run = ApplyRun::new(self.view.store().as_ref(), self.replica, state);
            let mut count = 0;
            while let Some((entry, responder)) = next {
                let outcome = run.apply(entry)?;
                if let Some(responder) = responder {
                    responses.push((responder, outcome));
                }
                count += 1;
                next = entries.try_next().await?;
                if count >= RUN_ENTRIES_MAX || run.bytes() >= RUN_BYTES_MAX || run.has_split() {
                    break;
                }
            }
            if self.finish(run, &mut responses)? {
                // Whoever bears a child has given its first vote and written its log.
                synced(self.view.store().as_ref()).await?;
            }
        }
        Ok(())
    }

    /// Writes a run; whether a child was born in it.
    fn finish(
        &self,
        run: ApplyRun<'_>,
        responses: &mut Vec<(ApplyResponder<TypeConfig>, PartitionOutcome)>,
    ) -> io::Result<bool> {
        let others = if run.is_to_clear() {
            self.roll.others(run.lineage(), self.replica)
        } else {
            Vec::new()
        };
        let Finished { batch, state, birth } = run.finish(&others)?;
        self.clock.observe(state.time_ms);
        let is_born = match birth {
            None => self.view.write(batch, state).map(|()| false)?,
            Some(birth) => self.bear(batch, state, &birth)?,
        };
        for (responder, outcome) in responses.drain(..) {
            responder.send(outcome);
        }
        Ok(is_born)
    }

    /// Writes the parent's half and, unless it may not be here, the child: in one batch. Whether it may.
    fn bear(&self, mut batch: Batch, state: GroupState, birth: &Birth) -> Result<bool, StoreError> {
        // Held until it is written: an order that makes or destroys the same replica waits, or is seen here.
        let mut roll = self.roll.lock();
        let admitted = roll.admits(self.view.store().as_ref(), birth)?;
        self.view.note_split(SplitOff::of(birth));
        let Some(replica) = admitted else {
            runtime::mark!("apply: a child was not admitted here");
            birth.decline(&mut batch);
            return self.view.write(batch, state).map(|()| false);
        };
        let mut late = Batch::new();
        let is_apart = planted::is_planted(Bug::ChildWrittenApart);
        birth.write(if is_apart { &mut late } else { &mut batch }, replica);
        self.view.write(batch, state)?;
        if is_apart {
            self.view.store().write(late)?;
        }
        roll.bear(birth, replica, self.partition);
        self.roll.announce_birth();
        Ok(true)
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, StoredMembership), io::Error> {
        let state = self.view.state();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        self.heat.apply(self.processor_time.as_ref(), self.apply_entries(entries)).await
    }

    /// A snapshot is the reason to cut the log, so there is none while the log is held.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Self::SnapshotBuilder> {
        let applied = self.view.state().applied.map_or(0, |applied| applied.index);
        if !force && self.log_hold.is_held(applied, self.log_entries_held_max) {
            runtime::mark!("log of a partition kept for a snapshot on its way");
            return None;
        }
        Some(self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> Result<(), io::Error> {
        let SnapshotData::Received(received) = data else {
            return Err(io::Error::other("only a received snapshot can be installed"));
        };
        runtime::mark!("snapshot of a partition installed");
        let old = self.view.state();
        let state = GroupState {
            lineage: received.lineage.lineage(),
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
            ..received.state
        };
        let mut batch = Batch::new();
        batch.put(keys::STATE, keys::state(self.replica), state.encode());
        self.clock.observe(state.time_ms);
        self.view.write(batch, state)?;
        self.roll.lock().enter_lineage(self.replica, received.lineage.adopt());
        // The leader hears that the snapshot is here: it must not be lost after that.
        synced(self.view.store().as_ref()).await?;
        if planted::is_planted(Bug::SnapshotOverLiveLineage) {
            return Ok(());
        }
        let mut batch = Batch::new();
        let mut roll = self.roll.lock();
        roll.leave_lineage(&mut batch, self.replica, &old);
        self.view.store().write(batch)?;
        Ok(())
    }

    /// Always of the state as it is now: so it is never behind what was purged from the log, also after
    /// a restart.
    async fn get_current_snapshot(&mut self) -> Result<Option<PartitionSnapshot>, io::Error> {
        let (state, reader) = self.view.snapshot();
        Ok(state.applied.map(|applied| {
            let held_log = self.log_hold.hold(applied.index);
            snapshot::local(state, reader, Some(held_log))
        }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<PartitionSnapshot, io::Error> {
        runtime::mark!("snapshot of a partition built");
        let (state, reader) = self.view.snapshot();
        Ok(snapshot::local(state, reader, None))
    }
}
