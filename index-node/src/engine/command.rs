//! What a partition's log carries, and what applying it answers.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    digest::Checkpoint,
    types::{KeyRange, PartitionId, Placement, RaftLogId},
};

/// The newest format of a command that this program writes and understands.
pub const COMMAND_FORMAT: u8 = 2;

/// One entry of a partition's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCommand {
    /// A replica that does not know the format stops instead of applying something else than its peers.
    pub format: u8,
    /// The proposing leader's partition time.
    pub timestamp_ms: u64,
    /// The proposing leader's newest checkpoint: whoever has another checksum there has diverged.
    pub checkpoint: Option<Checkpoint>,
    pub operation: Operation,
}

impl PartitionCommand {
    pub fn new(timestamp_ms: u64, operation: Operation) -> Self {
        Self { format: operation.format(), timestamp_ms, checkpoint: None, operation }
    }

    /// The same, with the leader's newest checkpoint.
    pub fn with_checkpoint(self, checkpoint: Option<Checkpoint>) -> Self {
        Self { checkpoint, ..self }
    }
}

/// Variants are only ever appended: their numbers are in the logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Gives a new group its range. The first one wins.
    Create {
        range: KeyRange,
        range_epoch: u64,
    },
    Write(Write),
    /// From now on it is counted what changes from this key on, until the split there.
    Measure {
        at: Bytes,
    },
    /// Gives all keys from some key on to another group. Since format 2, as the one before.
    Split(Split),
}

impl Operation {
    /// The oldest format that has it: whoever knows that one can apply it.
    fn format(&self) -> u8 {
        match self {
            Self::Create { .. } | Self::Write(_) => 1,
            Self::Measure { .. } | Self::Split(_) => 2,
        }
    }
}

/// A partition becomes two: it keeps the keys below `at`, and the child has the others. What the entry
/// was decided on is in it, and where that is no longer so it does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub at: Bytes,
    /// The parent's before. Both halves have the next one afterwards.
    pub range_epoch: u64,
    /// The parent's members: neither joint nor with learners.
    pub membership_log: Option<RaftLogId>,
    pub child: PartitionId,
    /// The child's members, one on each node of the parent's.
    pub replicas: Vec<Placement>,
    /// What was there from `at` on when the entry with this index, a `Measure`, was applied.
    pub measured_at: u64,
    pub keys: u64,
    pub stored_bytes: u64,
}

/// A client's write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    pub write_id: WriteId,
    pub expires_at_ms: u64,
    pub range_epoch: u64,
    pub key: Bytes,
    pub mutation: Mutation,
    pub condition: Condition,
}

/// Drawn by the client for each write.
pub type WriteId = [u8; 16];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutation {
    Put { value: Bytes },
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    None,
    Absent,
    VersionEquals(u64),
}

impl Condition {
    /// Whether a key with this version (0: absent) may be written.
    pub fn holds(self, current_version: u64) -> bool {
        match self {
            Self::None => true,
            Self::Absent => current_version == 0,
            Self::VersionEquals(version) => current_version == version,
        }
    }
}

impl fmt::Display for PartitionCommand {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.operation {
            Operation::Create { range_epoch, .. } => {
                write!(formatter, "create at epoch {range_epoch}")
            }
            Operation::Write(write) => {
                let kind = match write.mutation {
                    Mutation::Put { .. } => "put",
                    Mutation::Delete => "delete",
                };
                write!(formatter, "{kind} of a key of {} bytes", write.key.len())
            }
            Operation::Measure { at } => {
                write!(formatter, "measure from a key of {} bytes", at.len())
            }
            Operation::Split(split) => write!(formatter, "split off partition {}", split.child),
        }
    }
}

/// What applying an entry answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartitionOutcome {
    /// Of an entry that is no command: a membership, or a new leader's first.
    Nothing,
    /// Of a `Create`, whether it was the first or not.
    Created,
    Write(WriteOutcome),
    Measured,
    Split(SplitOutcome),
}

/// What a `Split` has done: the same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SplitOutcome {
    Done,
    Refused(SplitRefusal),
}

/// Why a `Split` has done nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SplitRefusal {
    #[error("the partition's range is another one by now")]
    OtherRange,
    #[error("the key does not lie inside the partition's range, behind its first key")]
    NotInside,
    #[error("the group's members are others by now, or are about to change")]
    OtherMembers,
    #[error("the child's replicas are not on the nodes of the partition's")]
    OtherNodes,
    #[error("what belongs to the child was not measured, or was measured anew")]
    NotMeasured,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteOutcome {
    /// It took effect, now or when it was applied first.
    Applied(Applied),
    /// The condition did not hold, now or when it was applied first. `current_version` 0: absent.
    ConditionFailed { current_version: u64 },
    /// The range moved on while the write was under way. It had no effect.
    WrongRange { range: Option<KeyRange>, range_epoch: u64 },
    /// Partition time had passed its expiry. This entry had no effect.
    Expired { now_ms: u64 },
}

/// The effect of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub version: u64,
    /// Whether the key was there before.
    pub existed: bool,
}
