//! What a partition's log carries, and what applying it answers.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{digest::Checkpoint, types::KeyRange};

/// The newest format of a command that this program writes and understands.
pub const COMMAND_FORMAT: u8 = 1;

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
        Self { format: COMMAND_FORMAT, timestamp_ms, checkpoint: None, operation }
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
