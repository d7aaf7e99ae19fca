//! A read-only view of what groups persist, for those who watch a store from outside: the simulation's
//! checks, and tools that look into a data directory.

use std::{collections::BTreeSet, fmt};

use openraft::{
    RaftTypeConfig,
    alias::{EntryOf, LogIdOf, VoteOf},
    entry::RaftEntry,
    impls::leader_id_adv::LeaderId,
};

use super::{
    cache::{corrupt, decode_entry},
    keys::{self, FAMILY, FORMAT, Kind},
};
use crate::{record, store::StoreError};

/// Who leads, or wants to: openraft orders leaders by term and then by id, so that one term may have
/// several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leader {
    pub term: u64,
    /// openraft's node id.
    pub id: u64,
}

/// A position in a group's log. Of two, the greater one belongs to the newer leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub leader: Leader,
    pub index: u64,
}

/// A vote: for whom, and whether a quorum has granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote {
    pub leader: Leader,
    pub committed: bool,
}

/// One record of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    Vote(Vote),
    Committed(Option<Position>),
    Purged(Position),
    Entry {
        position: Position,
        /// Of the entry as it is stored: equal entries have equal checksums.
        checksum: u32,
        /// Of a membership: the voters, as one set, or two while they change.
        voters: Option<Vec<BTreeSet<u64>>>,
    },
}

/// The type configurations that this view understands: ours.
pub trait Inspected:
    RaftTypeConfig<
        Term = u64,
        NodeId = u64,
        LeaderId = LeaderId<u64, u64>,
        Vote = openraft::Vote<LeaderId<u64, u64>>,
    >
{
}

impl<C> Inspected for C where
    C: RaftTypeConfig<
            Term = u64,
            NodeId = u64,
            LeaderId = LeaderId<u64, u64>,
            Vote = openraft::Vote<LeaderId<u64, u64>>,
        >
{
}

impl From<&LeaderId<u64, u64>> for Leader {
    fn from(leader: &LeaderId<u64, u64>) -> Self {
        Self { term: leader.term, id: leader.node_id }
    }
}

impl Position {
    /// The position of a log id.
    pub fn of<C: Inspected>(log_id: &LogIdOf<C>) -> Self {
        Self { leader: Leader::from(&log_id.leader_id), index: log_id.index }
    }
}

/// The group that a key of [`FAMILY`] belongs to; none if it is not one of ours.
pub fn group_of(key: &[u8]) -> Option<u64> {
    key.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The index in the key of an entry; none if it is the key of something else.
pub fn entry_index(key: &[u8]) -> Option<u64> {
    keys::entry_index(key).filter(|_| key.get(8) == Some(&(Kind::Entry as u8)))
}

/// Decodes one record of [`FAMILY`].
///
/// # Errors
/// [`StoreError::Corrupt`] if it is none, or damaged.
pub fn decode<C: Inspected>(key: &[u8], value: &[u8]) -> Result<(u64, GroupRecord), StoreError> {
    let group = group_of(key).ok_or_else(|| corrupt("a key is too short for its group".into()))?;
    let is = |kind: Kind| key.get(8) == Some(&(kind as u8));
    let record = if is(Kind::Vote) {
        let vote: VoteOf<C> = record::decode(FAMILY, FORMAT, value)?;
        GroupRecord::Vote(Vote {
            leader: Leader::from(vote.leader_id()),
            committed: vote.is_committed(),
        })
    } else if is(Kind::Committed) {
        let committed: Option<LogIdOf<C>> = record::decode(FAMILY, FORMAT, value)?;
        GroupRecord::Committed(committed.as_ref().map(Position::of::<C>))
    } else if is(Kind::Purged) {
        let purged: LogIdOf<C> = record::decode(FAMILY, FORMAT, value)?;
        GroupRecord::Purged(Position::of::<C>(&purged))
    } else if is(Kind::Entry) {
        let entry = entry::<C>(key, value)?;
        let (leader, index) = entry.log_id_parts();
        let position = Position { leader: Leader::from(leader), index };
        let voters = entry.get_membership().map(|members| members.get_joint_config().clone());
        GroupRecord::Entry { position, checksum: crc32fast::hash(value), voters }
    } else {
        return Err(corrupt(format!("a key of group {group} has an unknown kind")));
    };
    Ok((group, record))
}

/// Decodes an entry, with what it carries.
///
/// # Errors
/// [`StoreError::Corrupt`] if it is none, or damaged.
pub fn entry<C: RaftTypeConfig>(key: &[u8], value: &[u8]) -> Result<EntryOf<C>, StoreError> {
    decode_entry::<C>(key, value)
}

impl fmt::Display for Leader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of term {}", self.id, self.term)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "entry {} by {}", self.index, self.leader)
    }
}
