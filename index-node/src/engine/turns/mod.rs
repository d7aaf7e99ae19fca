//! Turns by key: one hot key does not make the other keys of its partition wait.
//!
//! Requests of one partition share its log and its rounds to the quorum. As long as few are under way at
//! the same time, everybody has a turn at once. When there are so many that others would have to wait, a key
//! that has its share of them already waits in a queue of its own, for a bounded time, and the requests
//! for other keys pass by.
//!
//! - [`key_turns`]: who has a turn, who waits and who comes next. Pure.
//! - [`gate`]: where requests wait for theirs, and give it back however they end.
//! - `requests`, beside this folder: asks for a turn before anything is proposed or confirmed.
//!
//! Reads and writes have turns of their own: a disk that is slow holds up writes, and not the reads of the
//! same key. Lists have no key, and pass by.
//!
//! Deliberately not here: order. Who has a turn does not come before others in the log.

pub mod gate;
pub mod key_turns;

pub use gate::{Turn, TurnGate, Turned};
pub use key_turns::TurnLimits;
