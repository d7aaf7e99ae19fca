//! An index node: keeps replicas of partitions, serves the keys in them, and does what the control plane
//! orders.
//!
//! - [`engine`]: the partitions: groups of replicas over one store.
//! - [`peer`]: between nodes: the groups' messages, the watch of each other, takeover while the control
//!   plane is silent.
//! - [`agent`]: the session with the control plane; [`orders`]: carries out what it says.
//! - [`node`]: brings the parts together; start reading at [`run`].
//! - [`configuration`]: what a node is told when it starts.
//!
//! **Architecture invariant**: nothing that serves clients waits for the control plane. What a node
//! serves is decided by its data directory; orders change that, their absence does not.

pub mod agent;
pub mod configuration;
pub mod engine;
mod handover;
pub mod node;
pub mod orders;
pub mod peer;
pub mod place;
pub mod telemetry;

pub use node::{Error, run, run_with_control};

/// The families that the store of an index node is opened with.
pub fn families() -> Vec<runtime::store::Family> {
    engine::FAMILIES.to_vec()
}
