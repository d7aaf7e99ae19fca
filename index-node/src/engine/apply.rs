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
    command::{
        Applied, COMMAND_FORMAT, Mutation, Operation, PartitionCommand, PartitionOutcome, Write,
        WriteOutcome,
    },
    digest::Checkpoint,
    keys,
    records::{self, GroupState, StoredOutcome, StoredValue},
    types::{RaftEntry, ReplicaId, StoredMembership},
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
        }
    }

    /// Roughly the bytes that the run will write.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Applies the next entry of the log.
    pub fn apply(&mut self, entry: RaftEntry) -> Result<PartitionOutcome, ApplyError> {
        debug_assert!(self.state.applied < Some(entry.log_id), "entries are applied in sequence");
        let index = entry.log_id.index;
        self.state.applied = Some(entry.log_id);
        let outcome = match entry.payload {
            EntryPayload::Blank => PartitionOutcome::Nothing,
            EntryPayload::Membership(membership) => {
                self.state.membership = StoredMembership::new(Some(entry.log_id), membership);
                PartitionOutcome::Nothing
            }
            EntryPayload::Normal(command) => self.command(index, command)?,
        };
        let GroupState { keys, stored_bytes, range_epoch, time_ms, .. } = self.state;
        self.state.digest.applied(index, &outcome, [keys, stored_bytes, range_epoch, time_ms]);
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
        index: u64,
        command: PartitionCommand,
    ) -> Result<PartitionOutcome, ApplyError> {
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
        let outcome_key = keys::outcome(self.state.lineage, write.expires_at_ms, &write.write_id);
        if let Some(outcome) = self.outcome(&outcome_key)?
            && !planted::is_planted(Bug::RetryAppliedTwice)
        {
            runtime::mark!("apply: a repeated write was answered from its outcome");
            return Ok(outcome);
        }
        let fits = write.range_epoch == self.state.range_epoch
            && self.state.range.as_ref().is_some_and(|range| range.contains(&write.key));
        if !fits && !planted::is_planted(Bug::RangeCheckMissing) {
            runtime::mark!("apply: a write did not fit the range");
            return Ok(WriteOutcome::WrongRange {
                range: self.state.range.clone(),
                range_epoch: self.state.range_epoch,
            });
        }

        let key_bytes = write.key.len() as u64;
        let full_key = keys::data(self.state.lineage, &write.key);
        let present = self.present(&full_key)?;
        let current_version = present.map_or(0, |present| present.version);
        let holds = write.condition.holds(current_version);
        let outcome = if holds || planted::is_planted(Bug::ConditionIgnored) {
            if let Some(present) = present {
                self.state.keys -= 1;
                self.state.stored_bytes -= key_bytes + present.value_bytes;
            }
            match write.mutation {
                Mutation::Put { value } => {
                    let value_bytes = value.len() as u64;
                    self.state.keys += 1;
                    self.state.stored_bytes += key_bytes + value_bytes;
                    let record = records::encode(&StoredValue { version: index, value });
                    self.bytes += full_key.len() + record.len();
                    self.batch.put(keys::DATA, full_key.clone(), record);
                    self.data.insert(full_key, Some(Present { version: index, value_bytes }));
                }
                Mutation::Delete => {
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

    /// The batch of the run, and the state after it, which the batch holds.
    pub fn finish(mut self) -> (Batch, GroupState) {
        let state = &mut self.state;
        if state.time_ms >= state.outcomes_cleared_to_ms + CLEAR_OUTCOMES_AFTER_MS {
            self.batch.delete_range(
                keys::OUTCOMES,
                keys::outcomes_from(state.lineage, 0),
                keys::outcomes_from(state.lineage, state.time_ms),
            );
            state.outcomes_cleared_to_ms = state.time_ms;
            runtime::mark!("apply: old outcomes were cleared");
        }
        self.batch.put(keys::STATE, keys::state(self.replica), records::encode(&self.state));
        (self.batch, self.state)
    }
}
