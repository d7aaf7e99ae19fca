//! The members' own Raft group: one openraft group whose state machine is the zone's state.
//!
//! - [`group`]: one member's part in it: proposing, knowing who leads, handing over.
//! - [`state_machine`], [`records`], [`view`]: the state in memory and in the store.
//! - [`network`], [`encoding`]: the members' messages over `MemberService`.
//! - [`snapshot`]: sending and receiving the whole state.
//!
//! **Architecture invariant**: heartbeats and reports of index nodes never pass through here; only
//! conclusions and intent do.

mod checksum;
pub mod encoding;
pub mod group;
pub mod network;
pub mod records;
pub mod snapshot;
pub mod state_machine;
pub mod view;

use std::fmt;

use serde::{Deserialize, Serialize};

/// The id of the members' group in the log store, where it is the only one.
const GROUP: u64 = 0;

/// The largest message between members: an `init` with its 100,000 split keys must fit.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

openraft::declare_raft_types!(
    /// The types of the members' group.
    pub TypeConfig:
        D = Proposal,
        R = Answer,
        Node = openraft::BasicNode,
        AsyncRuntime = runtime::raft::RaftRuntime,
);

/// One member's handle to the group.
pub type Raft = openraft::Raft<TypeConfig, state_machine::ZoneStateMachine>;

/// A command of the model on its way through the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal(pub model::Command);

impl fmt::Display for Proposal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

/// What applying an entry gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// An entry of Raft's own.
    Nothing,
    Outcome(model::Outcome),
}
