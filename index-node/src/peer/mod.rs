//! Between index nodes: the groups' messages, the watch of each other, and what the nodes do by
//! themselves while the control plane is silent.
//!
//! - [`Links`] and [`LinkTransport`]: one batching stream for each ordered pair of nodes, which carries
//!   the messages of all groups that both share; [`PeerApi`] is the answering side.
//! - [`ConnectionWatch`]: which peers this node has lost, as evidence for itself and for the control
//!   plane.
//! - [`SnapshotSender`]: snapshots, on connections of their own.
//! - [`Appointer`]: takeover among peers.
//!
//! **Architecture invariant**: nothing here knows what a group's messages say. The engine writes and
//! reads them; this module brings them to the right node, or says that it cannot.

mod addresses;
mod appoint;
mod authority;
mod connection_watch;
mod dispatch;
mod frames;
mod link;
mod links;
mod pending;
mod receive;
mod service;
mod snapshots;
mod takeover;
mod transport;

pub use addresses::Addresses;
pub use connection_watch::ConnectionWatch;
pub use link::{LinkContext, RequestError, is_refused};
pub use links::Links;
pub use service::PeerApi;
pub use snapshots::{SnapshotLimits, SnapshotSender};
pub use takeover::Appointer;
pub use transport::LinkTransport;
