//! The clients of a zone.
//!
//! - [`Client`]: reads, writes and lists keys of the index. It routes by the partition map, which it
//!   fetches from any member of the control plane, watches, and corrects from the hints in errors; with
//!   the control plane down it goes on with what it has.
//! - [`AdminClient`]: an operator's commands to the control plane, wherever its leader is.
//!
//! **How a request is made.** [`request`](self) in short: locate the key's partition, ask the node that
//! is believed to lead, correct the belief by what it answers, and otherwise try the partition's other
//! replicas in turn, round after round, with jittered backoff between rounds, until the deadline.
//! Requests that wait for the same partition do not all probe for its new leader: one does, and the
//! others are woken by what it finds.
//!
//! **Invariants.**
//! - A write keeps its id and expiry for all attempts from the first one that may have been proposed.
//!   So it takes effect at most once, and a conditional write is never measured against itself.
//! - `Failed` is said of a write only if no attempt of it can have taken effect, now or later.
//! - Everything that is remembered is bounded: by the partition map, or by a constant.
//!
//! **Architecture invariant**: network, clock and randomness come from the
//! [`Environment`](runtime::seams::Environment), so the same client runs in the simulation.

mod admin;
mod candidates;
mod client;
mod connect;
mod directory;
mod error;
mod identifiers;
mod keeper;
mod list;
mod map;
mod message;
mod options;
mod pacing;
mod partition_time;
mod request;
mod values;
mod verdict;

#[cfg(test)]
mod tests;

pub use admin::{AdminClient, AdminError, AdminOptions, Rebalanced};
pub use client::Client;
pub use error::{ConnectError, RequestError, WriteError};
pub use identifiers::{NodeId, PartitionId, RangeEpoch, Version};
pub use list::{ListOptions, Page};
pub use map::{MapError, Route};
pub use options::Options;
pub use values::{Condition, Deleted, Item, ObjectMetadata, index_key, split_index_key};
