//! Whether all replicas of a group have come to the same state.
//!
//! Every replica chains a checksum over what the entries of its log did. At each index that is a
//! multiple of [`INTERVAL_ENTRIES`] it keeps that checksum, together with its counters, as a *checkpoint*.
//! The commands of a leader carry its newest one. Whoever applies such a command and has another checksum
//! for the same index stops: one of the two has diverged, and to serve either as if nothing had happened
//! would be worse than not to serve.
//!
//! This finds entries that did different things on different replicas, and keys that were lost or
//! changed under the store's own checksums, as soon as they make a difference to a write.

use serde::{Deserialize, Serialize};

use super::command::{PartitionOutcome, SplitOutcome, SplitRefusal, WriteOutcome};

/// From one checkpoint to the next.
pub const INTERVAL_ENTRIES: u64 = 256;

/// Checkpoints that are kept: so far may commands be behind the checkpoint that they carry.
const KEPT: usize = 4;

/// The checksum of a group's state after the entry at `index` was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// 0: there is none yet. (The entry at 0 is the group's first membership.)
    pub index: u64,
    pub checksum: u32,
}

/// What a replica knows of its own past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    chain: u32,
    /// The newest first.
    checkpoints: [Checkpoint; KEPT],
}

impl Digest {
    /// The newest checkpoint, if there is any.
    pub fn newest(&self) -> Option<Checkpoint> {
        Some(self.checkpoints[0]).filter(|checkpoint| checkpoint.index != 0)
    }

    /// The replica's own checksum at that index, if it is still known.
    pub fn at(&self, index: u64) -> Option<u32> {
        let found = self.checkpoints.iter().find(|checkpoint| checkpoint.index == index);
        found.filter(|_| index != 0).map(|checkpoint| checkpoint.checksum)
    }

    /// The entry at `index` was applied with this outcome, and the state's counters are these now.
    pub fn applied(&mut self, index: u64, outcome: &PartitionOutcome, counters: [u64; 4]) {
        let (kind, detail, flag) = match outcome {
            PartitionOutcome::Nothing => (0, 0, false),
            PartitionOutcome::Created => (1, 0, false),
            PartitionOutcome::Write(outcome) => match outcome {
                WriteOutcome::Applied(applied) => (2, applied.version, applied.existed),
                WriteOutcome::ConditionFailed { current_version } => (3, *current_version, false),
                WriteOutcome::WrongRange { range_epoch, .. } => (4, *range_epoch, false),
                WriteOutcome::Expired { now_ms } => (5, *now_ms, false),
            },
            PartitionOutcome::Measured => (6, 0, false),
            PartitionOutcome::Split(SplitOutcome::Done) => (7, 0, true),
            PartitionOutcome::Split(SplitOutcome::Refused(refusal)) => {
                let why = match refusal {
                    SplitRefusal::OtherRange => 1,
                    SplitRefusal::NotInside => 2,
                    SplitRefusal::OtherMembers => 3,
                    SplitRefusal::OtherNodes => 4,
                    SplitRefusal::NotMeasured => 5,
                };
                (7, why, false)
            }
        };
        let mut chain = crc32fast::Hasher::new_with_initial(self.chain);
        chain.update(&[kind, u8::from(flag)]);
        chain.update(&index.to_le_bytes());
        chain.update(&detail.to_le_bytes());
        if index != 0 && index.is_multiple_of(INTERVAL_ENTRIES) {
            for counter in counters {
                chain.update(&counter.to_le_bytes());
            }
        }
        self.chain = chain.finalize();
        if index != 0 && index.is_multiple_of(INTERVAL_ENTRIES) {
            self.checkpoints.rotate_right(1);
            self.checkpoints[0] = Checkpoint { index, checksum: self.chain };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::Applied;

    fn run(outcomes: impl Fn(u64) -> PartitionOutcome, entries: u64, keys: u64) -> Digest {
        let mut digest = Digest::default();
        for index in 0..entries {
            digest.applied(index, &outcomes(index), [keys, 0, 1, index]);
        }
        digest
    }

    fn applied(version: u64, existed: bool) -> PartitionOutcome {
        PartitionOutcome::Write(WriteOutcome::Applied(Applied { version, existed }))
    }

    #[test]
    fn the_last_checkpoints_are_known() {
        let digest = run(|index| applied(index, false), 6 * INTERVAL_ENTRIES, 1);
        let newest = digest.newest().unwrap();
        assert_eq!(newest.index, 5 * INTERVAL_ENTRIES);
        assert_eq!(digest.at(newest.index), Some(newest.checksum));
        let known: Vec<u64> =
            (0..6).filter(|n| digest.at(n * INTERVAL_ENTRIES).is_some()).collect();
        assert_eq!(known, [2, 3, 4, 5]);
        assert_eq!(run(|_| PartitionOutcome::Nothing, INTERVAL_ENTRIES, 1).newest(), None);
    }

    #[test]
    fn whatever_differs_shows_at_the_next_checkpoint() {
        let same = run(|index| applied(index, false), 300, 1).newest();
        assert_eq!(run(|index| applied(index, false), 300, 1).newest(), same);
        let others = [
            run(|index| applied(index, index == 7), 300, 1),
            run(|index| applied(index + u64::from(index == 9), false), 300, 1),
            run(|_| PartitionOutcome::Nothing, 300, 1),
            run(|index| applied(index, false), 300, 2),
        ];
        for other in others {
            assert_ne!(other.newest(), same);
        }
    }
}
