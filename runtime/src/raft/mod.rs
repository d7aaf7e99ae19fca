//! The Raft log of one or of many groups over the store seam, and the runtime that openraft runs on.
//!
//! - [`LogStore`]: log, vote and commit position of one group. Many groups share one store, and so one
//!   write-ahead log and one sync for all that wrote in that moment.
//! - [`bootstrap`], [`begin_after`] and [`delete_group`]: a group's beginning and end, as parts of a larger
//!   batch.
//! - [`inspect`]: a read-only view of what groups persist.
//! - [`RaftRuntime`]: tokio, with randomness that can be seeded.
//!
//! Not here: state machines, networks, and who is a member of what.

mod cache;
mod group;
pub mod inspect;
mod keys;
mod log;
mod runtime;

pub use group::{begin_after, bootstrap, delete_group};
pub use keys::FAMILY;
pub use log::LogStore;
pub use runtime::RaftRuntime;
