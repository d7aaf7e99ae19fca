//! The partition engine: groups of replicas over one store.
//!
//! Start reading at [`host`] (all replicas of a node), then [`replica`] (one of them).
//!
//! - [`types`], [`command`]: identifiers, what a group's log carries.
//! - [`apply`], [`state_machine`], [`view`]: what entries do, and what reads see of it.
//! - [`split`], [`birth`], `roll`: how a partition becomes two, and who is on this node.
//! - [`records`], [`keys`], [`lineages`], [`fences`], [`directory`], [`node_records`]: what is persisted.
//! - [`requests`], [`reads`], `awaiting`, `sight`, [`error`], [`service`]: what clients ask, up to the wire.
//! - [`membership`], [`takeover`], [`report`], [`heat`]: what the control plane and the peers ask.
//! - [`snapshot`], [`snapshot_stream`], [`snapshot_receive`]: a replica's content on its way to another.
//! - [`transport`]: how messages leave; [`host_peer`]: how they come in; [`host_orders`]: orders;
//!   [`host_heat`]: what is told of load.
//! - [`options`], [`instruments`], [`clock`], [`codec`]: settings, metrics, partition time, encoding.
//!
//! **Architecture invariant**: the engine does not know the control plane or sessions, opens no
//! connection, and decides nothing about where replicas are. Everything that a replica persists goes
//! through one store with one write-ahead log, so what a crash keeps is a prefix of all of it.

pub mod apply;
mod awaiting;
pub mod birth;
pub mod clock;
pub mod codec;
pub mod command;
pub mod digest;
pub mod directory;
pub mod error;
pub mod fences;
pub mod heat;
pub mod host;
pub mod host_heat;
pub mod host_orders;
pub mod host_peer;
pub mod instruments;
pub mod keys;
pub mod lineages;
mod log_hold;
pub mod membership;
pub mod node_records;
pub mod options;
pub mod reads;
pub mod records;
pub mod replica;
pub mod report;
pub mod requests;
mod roll;
pub mod service;
mod sight;
pub mod snapshot;
pub mod snapshot_receive;
pub mod snapshot_stream;
pub mod split;
pub mod state_machine;
pub mod takeover;
pub mod transport;
pub mod turns;
pub mod types;
pub mod view;

pub use keys::FAMILIES;

#[cfg(test)]
mod tests;
