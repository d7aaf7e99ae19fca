//! A group's beginning and end, as parts of a larger batch: the record of a replica, its log and its
//! data come and go together.

use openraft::{
    RaftTypeConfig,
    alias::{LogIdOf, VoteOf},
    entry::RaftEntry,
};

use super::keys;
use crate::{record, store::Batch};

/// Writes the first entry of a founder's log into `batch`: what `Raft::initialize` would do.
///
/// The batch must be synced before `Raft::new` is called for the group.
///
/// # Panics
/// If the entry is not a membership at index 0.
pub fn bootstrap<C: RaftTypeConfig>(batch: &mut Batch, group: u64, first_entry: &C::Entry) {
    let index = first_entry.log_id_parts().1;
    assert!(
        index == 0 && first_entry.get_membership().is_some(),
        "a log begins with the founders at index 0"
    );
    batch.put(keys::FAMILY, keys::entry(group, index), record::encode(keys::FORMAT, first_entry));
}

/// Writes the beginning of a group into `batch` that goes on where another one is: its log is empty and
/// begins behind `base`, which that one has committed. The state machine must have applied `base`.
///
/// The vote says that nobody of an older term leads: without it the first election would begin below the
/// log's last term.
pub fn begin_after<C: RaftTypeConfig>(
    batch: &mut Batch,
    group: u64,
    base: &LogIdOf<C>,
    vote: &VoteOf<C>,
) {
    let key = |kind| keys::single(group, kind);
    batch.put(keys::FAMILY, key(keys::Kind::Vote), record::encode(keys::FORMAT, vote));
    batch.put(keys::FAMILY, key(keys::Kind::Purged), record::encode(keys::FORMAT, base));
}

/// Deletes everything of a group. No [`LogStore`](super::LogStore) of it may be in use.
pub fn delete_group(batch: &mut Batch, group: u64) {
    let (start, end) = keys::group_range(group);
    batch.delete_range(keys::FAMILY, start, end);
}
