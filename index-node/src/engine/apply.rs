//! What the entries of a partition's log do: the same on every replica, from nothing but the entries and
//! the state before them.
//!
//! A run of entries becomes one batch. Writes of the run are not yet in the store while later entries of
//! it are applied, so what they changed is kept in an overlay.

use std::collections::BTreeMap;

use bytes::Bytes;
use openraft::EntryPayload;
use planted::Bug;
use runtime::store::{Batch, Reader, StoreError};

use super::{
    birth::{self, Birth},
    command::{
        Applied, COMMAND_FORMAT, Mutation, Operation, PartitionCommand, PartitionOutcome, Split,
        SplitOutcome, Write, WriteOutcome,
    },
    digest::Checkpoint,
    keys,
    records::{self, GroupState, Measuring, StoredOutcome, StoredValue},
    types::{Lineage, RaftEntry, RaftLogId, ReplicaId, StoredMembership},
};

/// Outcomes are cleared when partition time has advanced by so much: rarely, since each time leaves a
/// range deletion in the store.
const CLEAR_OUTCOMES_AFTER_MS: u64 = 10_000;

/// Why an entry cannot be applied. The replica stops: its peers may have applied it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the log has a command of format {found}, but this program knows formats up to {COMMAND_FORMAT}"
    )]
    UnknownFormat { found: u8 },
    #[error(
        "this replica and the leader that wrote entry {index} have come to different states: at index \
         {checkpoint} the checksum here is {own:08x}, there {leaders:08x}. One of the two is damaged; \
         compare with the other replicas, and replace the one that stands alone"
    )]
    Diverged { index: u64, checkpoint: u64, own: u32, leaders: u32 },
}

/// What is known of a key without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Present {
    version: u64,
    value_bytes: u64,
}

/// A run of entries on its way to become one batch.
pub struct ApplyRun<'a> {
    reader: &'a dyn Reader,
    replica: ReplicaId,
    state: GroupState,
    batch: Batch,
    /// By full key: what the run has left there.
    data: BTreeMap<Bytes, Option<Present>>,
    outcomes: BTreeMap<Bytes, WriteOutcome>,
    bytes: usize,
    birth: Option<Birth>,
}

/// What a run has come to.
pub struct Finished {
    /// Holds the state, too.
    pub batch: Batch,
    pub state: GroupState,
    /// The child that the run has split off.
    pub birth: Option<Birth>,
}

impl<'a> ApplyRun<'a> {
    pub fn new(reader: &'a dyn Reader, replica: ReplicaId, state: GroupState) -> Self {
        Self {
            reader,
            replica,
            state,
            batch: Batch::new(),
            data: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            bytes: 0,
            birth: None,
        }
    }

    /// Whether a child was split off: then the run has to end here.
    pub fn has_split(&self) -> bool {
        self.birth.is_some()
    }

    pub fn lineage(&self) -> Lineage {
        self.state.lineage
    }

    /// Roughly the bytes that the run will write.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Applies the next entry of the log.
    pub fn apply(&mut self, entry: RaftEntry) -> Result<PartitionOutcome, ApplyError> {
        debug_assert!(self.state.applied < Some(entry.log_id), "entries are applied in sequence");
        let index = entry.log_id.index;
        let digest = self.state.digest;
        self.state.applied = Some(entry.log_id);
        let outcome = match entry.payload {
            EntryPayload::Blank => PartitionOutcome::Nothing,
            EntryPayload::Membership(membership) => {
                self.state.membership = StoredMembership::new(Some(entry.log_id), membership);
                PartitionOutcome::Nothing
            }
            EntryPayload::Normal(command) => self.command(entry.log_id, command)?,
        };
        self.state.digest.applied(index, &outcome, self.state.counters());
        if let Some(birth) = &mut self.birth {
            birth.state.digest = digest;
            birth.state.digest.applied(index, &outcome, birth.state.counters());
        }
        Ok(outcome)
    }

    fn check(&self, index: u64, leaders: Checkpoint) -> Result<(), ApplyError> {
        match self.state.digest.at(leaders.index) {
            Some(own) if own != leaders.checksum => Err(ApplyError::Diverged {
                index,
                checkpoint: leaders.index,
                own,
                leaders: leaders.checksum,
            }),
            Some(_) => {
                runtime::mark!("apply: the leader's checksum was compared");
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn command(
        &mut self,
        log_id: RaftLogId,
        command: PartitionCommand,
    ) -> Result<PartitionOutcome, ApplyError> {
        let index = log_id.index;
        if command.format > COMMAND_FORMAT {
            return Err(ApplyError::UnknownFormat { found: command.format });
        }
        if let Some(checkpoint) = command.checkpoint {
            self.check(index, checkpoint)?;
        }
        self.state.time_ms = self.state.time_ms.max(command.timestamp_ms);
        match command.operation {
            Operation::Create { range, range_epoch } => {
                if self.state.range.is_none() {
                    self.state.range = Some(range);
                    self.state.range_epoch = range_epoch;
                } else {
                    runtime::mark!("apply: a range was created a second time");
                }
                Ok(PartitionOutcome::Created)
            }
            Operation::Write(write) => Ok(PartitionOutcome::Write(self.write(index, write)?)),
            Operation::Measure { at } => {
                self.state.measuring =
                    Some(Measuring { at, since: index, keys: 0, stored_bytes: 0 });
                Ok(PartitionOutcome::Measured)
            }
            Operation::Split(split) => Ok(PartitionOutcome::Split(self.split(log_id, &split))),
        }
    }

    fn split(&mut self, log_id: RaftLogId, split: &Split) -> SplitOutcome {
        match birth::halves(&self.state, self.replica, log_id, split) {
            Ok(halves) => {
                runtime::mark!("apply: a child was split off");
                self.state = halves.parent;
                self.birth = Some(halves.child);
                SplitOutcome::Done
            }
            Err(refusal) => {
                runtime::mark!("apply: a split was refused", refusal);
                SplitOutcome::Refused(refusal)
            }
        }
    }

    fn write(&mut self, index: u64, write: Write) -> Result<WriteOutcome, StoreError> {
        // First, so that an outcome whose time has passed need not be there any more.
        if self.state.time_ms > write.expires_at_ms
            && !planted::is_planted(Bug::ExpiredWriteApplied)
        {
            runtime::mark!("apply: a write had expired");
            return Ok(WriteOutcome::Expired { now_ms: self.state.time_ms });
        }
        // Before the outcomes: of the keys of another partition this lineage may have some, too, but not on
        // every replica.
        let is_inside = self.state.range.as_ref().is_some_and(|range| range.contains(&write.key));
        if !is_inside && !planted::is_planted(Bug::RangeCheckMissing) {
            runtime::mark!("apply: a write did not fit the range");
            return Ok(self.wrong_range());
        }
        let outcome_key =
            keys::outcome(self.state.lineage, write.expires_at_ms, &write.write_id, &write.key);
        if let Some(outcome) = self.outcome(&outcome_key)?
            && !planted::is_planted(Bug::RetryAppliedTwice)
        {
            runtime::mark!("apply: a repeated write was answered from its outcome");
            return Ok(outcome);
        }
        let is_current = write.range_epoch == self.state.range_epoch;
        if !is_current && !planted::is_planted(Bug::RangeCheckMissing) {
            runtime::mark!("apply: a write was of another range epoch");
            return Ok(self.wrong_range());
        }

        let full_key = keys::data(self.state.lineage, &write.key);
        let present = self.present(&full_key)?;
        let current_version = present.map_or(0, |present| present.version);
        let holds = write.condition.holds(current_version);
        let outcome = if holds || planted::is_planted(Bug::ConditionIgnored) {
            let before = present.map(|present| present.value_bytes);
            match write.mutation {
                Mutation::Put { value } => {
                    let value_bytes = value.len() as u64;
                    self.state.count(&write.key, before, Some(value_bytes));
                    let record = records::encode(&StoredValue { version: index, value });
                    self.bytes += full_key.len() + record.len();
                    self.batch.put(keys::DATA, full_key.clone(), record);
                    self.data.insert(full_key, Some(Present { version: index, value_bytes }));
                }
                Mutation::Delete => {
                    self.state.count(&write.key, before, None);
                    if present.is_some() {
                        self.bytes += full_key.len();
                        self.batch.delete(keys::DATA, full_key.clone());
                    }
                    self.data.insert(full_key, None);
                }
            }
            let overlooks =
                planted::is_planted(Bug::ApplyDiffers) && !self.replica.0.is_multiple_of(2);
            let existed = present.is_some() && !overlooks;
            WriteOutcome::Applied(Applied { version: index, existed })
        } else {
            WriteOutcome::ConditionFailed { current_version }
        };

        let record = records::encode(&StoredOutcome { outcome: outcome.clone() });
        self.bytes += outcome_key.len() + record.len();
        self.batch.put(keys::OUTCOMES, outcome_key.clone(), record);
        self.outcomes.insert(outcome_key, outcome.clone());
        Ok(outcome)
    }

    fn wrong_range(&self) -> WriteOutcome {
        WriteOutcome::WrongRange {
            range: self.state.range.clone(),
            range_epoch: self.state.range_epoch,
        }
    }

    fn outcome(&self, outcome_key: &Bytes) -> Result<Option<WriteOutcome>, StoreError> {
        if let Some(outcome) = self.outcomes.get(outcome_key) {
            return Ok(Some(outcome.clone()));
        }
        let stored: Option<StoredOutcome> =
            records::read(self.reader, keys::OUTCOMES, outcome_key)?;
        Ok(stored.map(|stored| stored.outcome))
    }

    fn present(&self, full_key: &Bytes) -> Result<Option<Present>, StoreError> {
        if let Some(present) = self.data.get(full_key) {
            return Ok(*present);
        }
        let stored: Option<StoredValue> = records::read(self.reader, keys::DATA, full_key)?;
        Ok(stored.map(|stored| Present {
            version: stored.version,
            value_bytes: stored.value.len() as u64,
        }))
    }

    /// Whether outcomes are to be cleared with this run.
    pub fn is_to_clear(&self) -> bool {
        self.state.time_ms >= self.state.outcomes_cleared_to_ms + CLEAR_OUTCOMES_AFTER_MS
    }

    /// What the run has come to. `others` share the lineage; outcomes stay for as long as one of them may
    /// need them. (That is asked for only if the run [is to clear](Self::is_to_clear) some.)
    pub fn finish(mut self, others: &[ReplicaId]) -> Result<Finished, StoreError> {
        if self.is_to_clear() {
            let mut through_ms = self.state.time_ms;
            for other in others {
                let state = GroupState::load(self.reader, *other)?;
                through_ms = through_ms.min(state.map_or(0, |state| state.time_ms));
            }
            let lineage = self.state.lineage;
            self.batch.delete_range(
                keys::OUTCOMES,
                keys::outcomes_from(lineage, 0),
                keys::outcomes_from(lineage, through_ms),
            );
            self.state.outcomes_cleared_to_ms = self.state.time_ms;
            runtime::mark!("apply: old outcomes were cleared");
        }
        self.batch.put(keys::STATE, keys::state(self.replica), self.state.encode());
        Ok(Finished { batch: self.batch, state: self.state, birth: self.birth })
    }
}
