//! What the node remembers of itself, whatever happens to the process.

use std::sync::{Arc, Mutex, PoisonError};

use runtime::{
    seams::Environment,
    store::{Batch, Scan, Store, StoreError, synced},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{keys, records, types::NodeId};

/// Of this program's data, to tell it from any other.
const LAYOUT_KIND: &str = "isotherm index node";
/// The newest layout that this program reads and writes.
const LAYOUT_FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Layout {
    kind: String,
    format: u32,
}

/// What registering gave the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub zone_id: String,
    pub node_id: NodeId,
}

/// Why the node's records cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the data directory belongs to another program ({found}): give this node one of its own"
    )]
    Foreign { found: String },
    #[error(
        "the data directory has layout {found}, but this program knows layouts up to {LAYOUT_FORMAT}: \
         start the newer program that wrote it"
    )]
    TooNew { found: u32 },
    #[error(
        "the data directory has data but no layout record: it is damaged, or not of an index node"
    )]
    NoLayout,
}

pub struct NodeRecords {
    store: Arc<dyn Store>,
    identity: Uuid,
    registration: Mutex<Option<Registration>>,
}

impl NodeRecords {
    /// Reads the records; draws an identity where the store is empty.
    pub async fn open(
        store: Arc<dyn Store>,
        environment: &Environment,
    ) -> Result<Self, RecordsError> {
        let layout: Option<Layout> = records::read(store.as_ref(), keys::META, keys::LAYOUT)?;
        match layout {
            Some(layout) if layout.kind != LAYOUT_KIND => {
                return Err(RecordsError::Foreign { found: layout.kind });
            }
            Some(layout) if layout.format > LAYOUT_FORMAT => {
                return Err(RecordsError::TooNew { found: layout.format });
            }
            Some(_) => {}
            None => {
                for family in keys::FAMILIES {
                    if store.scan(family, Scan::prefix("")).next().is_some() {
                        return Err(RecordsError::NoLayout);
                    }
                }
                let layout = Layout { kind: LAYOUT_KIND.to_owned(), format: LAYOUT_FORMAT };
                let identity = environment.random_uuid();
                let mut batch = Batch::new();
                batch.put(keys::META, keys::LAYOUT, records::encode(&layout));
                batch.put(keys::META, keys::IDENTITY, records::encode(&identity.into_bytes()));
                store.write(batch)?;
                synced(store.as_ref()).await?;
            }
        }
        let identity: [u8; 16] = records::read(store.as_ref(), keys::META, keys::IDENTITY)?
            .ok_or(RecordsError::NoLayout)?;
        let registration = records::read(store.as_ref(), keys::META, keys::REGISTRATION)?;
        Ok(Self {
            store,
            identity: Uuid::from_bytes(identity),
            registration: Mutex::new(registration),
        })
    }

    /// What only a planted bug does: gives an empty store the identity that follows from the node's
    /// name, and has therefore been the node's before its disk was wiped.
    pub fn name_for_identity(store: &dyn Store, name: &str) -> Result<(), StoreError> {
        if store.scan(keys::META, Scan::prefix("")).next().is_some() {
            return Ok(());
        }
        let layout = Layout { kind: LAYOUT_KIND.to_owned(), format: LAYOUT_FORMAT };
        let mut identity = [1; 16];
        identity.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte = letter);
        let mut batch = Batch::new();
        batch.put(keys::META, keys::LAYOUT, records::encode(&layout));
        batch.put(keys::META, keys::IDENTITY, records::encode(&identity));
        store.write(batch)
    }

    /// Drawn when the data directory was created.
    pub fn identity(&self) -> Uuid {
        self.identity
    }

    /// None before the first registration.
    pub fn registration(&self) -> Option<Registration> {
        self.registration.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers the registration, durably.
    pub async fn set_registration(&self, registration: Registration) -> Result<(), StoreError> {
        if self.registration().as_ref() == Some(&registration) {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(keys::META, keys::REGISTRATION, records::encode(&registration));
        self.store.write(batch)?;
        synced(self.store.as_ref()).await?;
        *self.registration.lock().unwrap_or_else(PoisonError::into_inner) = Some(registration);
        Ok(())
    }

    /// Raises the incarnation, durably: once at each start, before anything else.
    pub async fn begin_incarnation(&self) -> Result<u64, StoreError> {
        let before: u64 =
            records::read(self.store.as_ref(), keys::META, keys::INCARNATION)?.unwrap_or(0);
        let incarnation = before + 1;
        let mut batch = Batch::new();
        batch.put(keys::META, keys::INCARNATION, records::encode(&incarnation));
        self.store.write(batch)?;
        synced(self.store.as_ref()).await?;
        Ok(incarnation)
    }
}
