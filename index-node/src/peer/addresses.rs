//! Where the nodes of the zone are reached.

use std::sync::{OnceLock, Weak};

use crate::engine::{host::ReplicaHost, types::NodeId};

/// The host's directory, for those who exist before the host does: the host is opened with a transport
/// that needs the directory. Until then nobody's address is known.
#[derive(Default)]
pub struct Addresses {
    /// Weak: the host holds the transport, which holds this.
    host: OnceLock<Weak<ReplicaHost>>,
}

impl Addresses {
    /// From now on the host's directory answers.
    pub fn open(&self, host: Weak<ReplicaHost>) {
        // There is one host in the life of a node; a second call changes nothing.
        let _ = self.host.set(host);
    }

    /// host:port of a node, as far as it is known.
    pub fn get(&self, node: NodeId) -> Option<String> {
        self.host.get()?.upgrade()?.directory().get(node)
    }
}
