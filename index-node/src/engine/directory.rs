//! Where the other nodes are, as this node last heard. Durable: peers find each other without the control
//! plane.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use runtime::store::{Batch, Store, StoreError, synced};

use super::{keys, records, types::NodeId};

pub struct Directory {
    store: Arc<dyn Store>,
    addresses: RwLock<BTreeMap<NodeId, String>>,
}

impl Directory {
    pub fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let addresses =
            records::read(store.as_ref(), keys::META, keys::DIRECTORY)?.unwrap_or_default();
        Ok(Self { store, addresses: RwLock::new(addresses) })
    }

    /// host:port of the node; none if it was never heard of.
    pub fn get(&self, node: NodeId) -> Option<String> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    pub fn all(&self) -> BTreeMap<NodeId, String> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds to what is known, and replaces where it differs.
    pub async fn set(&self, news: &[(NodeId, String)]) -> Result<(), StoreError> {
        {
            let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
            if news.iter().all(|(node, address)| addresses.get(node) == Some(address)) {
                return Ok(());
            }
            addresses.extend(news.iter().cloned());
            let mut batch = Batch::new();
            batch.put(keys::META, keys::DIRECTORY, records::encode(&*addresses));
            self.store.write(batch)?;
        }
        synced(self.store.as_ref()).await
    }
}
