//! A read-only view of what a member persists, for those who watch its store from outside.

use model::ZoneState;
use openraft::alias::LogIdOf;
use runtime::{
    raft::inspect::{self, GroupRecord, Position},
    store::{Family, Reader, StoreError},
};

use crate::{
    identity,
    raft::{
        TypeConfig,
        records::{AppliedRecord, MEMBER},
        state_machine,
    },
};

/// One record of a member, as far as it is of use outside.
#[derive(Clone, Debug)]
pub enum MemberRecord {
    /// The id that the member has in its group.
    Identity(u64),
    /// How far the zone's state is applied.
    Applied(Option<Position>),
    /// Of the group's log.
    Log(GroupRecord),
}

/// Decodes a record; none if it is of no use outside.
///
/// # Errors
/// If it is damaged.
pub fn decode(
    family: Family,
    key: &[u8],
    value: &[u8],
) -> Result<Option<MemberRecord>, StoreError> {
    if family == runtime::raft::FAMILY {
        let (_, record) = inspect::decode::<TypeConfig>(key, value)?;
        return Ok(Some(MemberRecord::Log(record)));
    }
    if family != MEMBER {
        return Ok(None);
    }
    if let Some(member) = identity::decode(key, value)? {
        return Ok(Some(MemberRecord::Identity(member.0)));
    }
    let applied = AppliedRecord::decode(key, value)?;
    let position = |log_id: &LogIdOf<TypeConfig>| Position::of::<TypeConfig>(log_id);
    Ok(applied.map(|applied| MemberRecord::Applied(applied.log_id.as_ref().map(position))))
}

/// The zone's state as far as the member has applied it; empty before there is a zone.
///
/// # Errors
/// If records cannot be read, or do not fit together.
pub fn zone_state(store: &dyn Reader) -> Result<ZoneState, String> {
    let applied = AppliedRecord::read(store).map_err(|error| error.to_string())?;
    state_machine::load(store, applied.generation()).map_err(|error| format!("{error:?}"))
}
