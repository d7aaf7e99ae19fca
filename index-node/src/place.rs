//! Who this node is in its zone, for as long as this process lives.

use crate::engine::types::NodeId;

/// What a node says of itself to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub zone_id: String,
    pub node: NodeId,
    /// Rises at each start of the process.
    pub incarnation: u64,
    /// host:port under which clients and other nodes reach this one.
    pub address: String,
}
