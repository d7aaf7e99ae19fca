//! Who a member is: drawn when its data directory is created, and never again.
//!
//! A wiped disk is another member. So its former vote cannot be cast twice, however its address is
//! reused.

use model::MemberId;
use runtime::{
    record,
    seams::Environment,
    store::{Batch, Store, StoreError, synced},
};
use serde::{Deserialize, Serialize};

use crate::raft::records::{FORMAT_VERSION, MEMBER};

const IDENTITY_KEY: &[u8] = b"identity";

/// What marks the store of a control plane's member.
const KIND: &str = "isotherm control-plane";

/// Ids are drawn below this, so that every JSON reader keeps them exact.
const MEMBER_ID_BOUND: u64 = 1 << 53;

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    kind: String,
    member_id: u64,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "it belongs to {found:?}, not to a member of a control plane: give this member a directory of its own"
    )]
    Foreign { found: String },
}

/// This store's member, drawn now if the store is new.
///
/// # Errors
/// If the store fails, or was made by something else or by newer software.
pub async fn open(environment: &Environment, store: &dyn Store) -> Result<MemberId, IdentityError> {
    if let Some(bytes) = store.get(MEMBER, IDENTITY_KEY)? {
        let identity: Identity = record::decode(MEMBER, FORMAT_VERSION, &bytes)?;
        if identity.kind != KIND {
            return Err(IdentityError::Foreign { found: identity.kind });
        }
        return Ok(MemberId(identity.member_id));
    }
    let member_id = 1 + environment.random_below(MEMBER_ID_BOUND - 1);
    let identity = Identity { kind: KIND.into(), member_id };
    let mut batch = Batch::new();
    batch.put(MEMBER, IDENTITY_KEY, record::encode(FORMAT_VERSION, &identity));
    store.write(batch)?;
    synced(store).await?;
    tracing::info!(member_id, "this data directory is new: drew a member id");
    Ok(MemberId(member_id))
}

/// The member in a record of the store, if it is the one that says who the store belongs to.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Option<MemberId>, StoreError> {
    if key != IDENTITY_KEY {
        return Ok(None);
    }
    let identity: Identity = record::decode(MEMBER, FORMAT_VERSION, value)?;
    Ok(Some(MemberId(identity.member_id)))
}
