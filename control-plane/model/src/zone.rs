//! What the zone is as a whole: one small record, written with every command.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ids::{Generation, Revision, ZoneTime},
    outcome::Outcome,
    policy::Policy,
    table::{Record, single_record},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    pub zone_id: Uuid,
    pub generation: Generation,
    pub policy: Policy,
    /// Position of the last command that was applied.
    pub revision: Revision,
    pub zone_time: ZoneTime,
    pub brake: Brake,
    pub counters: Counters,
}

/// The last number of each kind that was given out; none is ever given out again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub node: u64,
    pub partition: u64,
    pub replica: u64,
    pub operation: u64,
    pub event: u64,
}

/// Whether discretionary changes are held back (G7): see [`crate::brake`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    pub engaged: bool,
    /// Why, or why it was released.
    pub reason: String,
    pub since: ZoneTime,
    /// Until when it holds nothing back although it is engaged, by an operator's word.
    pub overridden_until: Option<ZoneTime>,
}

single_record!(Zone, 1);

/// The outcome of a command that carried an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Of what was asked for: the same key for something else is refused.
    pub fingerprint: u64,
    pub outcome: Outcome,
    pub at: ZoneTime,
}

impl Record for Remembered {
    const TAG: u8 = 7;
    type Key = String;
    fn encode_key(key: &String) -> Vec<u8> {
        key.as_bytes().to_vec()
    }
    fn decode_key(bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}
