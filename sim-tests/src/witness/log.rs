//! Carries changes of the log family over to a [`Group`].

use std::ops::Range;

use runtime::raft::inspect::{self, GroupRecord, Position};

use super::group::Group;
use crate::checks::Problem;

/// What one batch did to one replica's log.
#[derive(Default)]
pub(super) struct LogEffect {
    pub(super) removed: Vec<Position>,
    /// It wrote a vote of its own or an entry. Who was elected by others may be noted in passing.
    pub(super) must_be_synced: bool,
}

/// A record was written.
pub(super) fn put(
    group: &mut Group,
    replica: u64,
    record: GroupRecord,
    effect: &mut LogEffect,
) -> Result<(), Problem> {
    match record {
        GroupRecord::Vote(vote) => {
            effect.must_be_synced |= !vote.committed;
            group.votes(replica, vote)
        }
        GroupRecord::Committed(_) => Ok(()),
        GroupRecord::Purged(position) => {
            group.replica(replica).purged = Some(position);
            Ok(())
        }
        GroupRecord::Entry { position, checksum, voters } => {
            effect.must_be_synced = true;
            let overwritten = group.replica(replica).log.get(&position.index).copied();
            effect.removed.extend(overwritten.filter(|before| *before != position));
            group.appends(replica, position, checksum, voters)
        }
    }
}

/// Entries were deleted.
pub(super) fn delete(group: &mut Group, replica: u64, indexes: Range<u64>, effect: &mut LogEffect) {
    let log = &mut group.replica(replica).log;
    let gone: Vec<u64> = log.range(indexes).map(|(index, _)| *index).collect();
    effect.removed.extend(gone.iter().filter_map(|index| log.remove(index)));
}

/// Which entries lie between two keys of one group's records.
pub(super) fn indexes(start: &[u8], end: &[u8]) -> Range<u64> {
    let from = inspect::entry_index(start).unwrap_or(0);
    from..inspect::entry_index(end).unwrap_or(u64::MAX)
}

/// What one batch did is checked when all of it is known.
pub(super) fn finish(group: &mut Group, replica: u64, effect: &LogEffect) -> Result<(), Problem> {
    group.removed(replica, &effect.removed)?;
    group.has_applied_what_it_purged(replica)
}
