//! What an operator asks for is done once, however often it is asked (G8).
//!
//! A caller that got no answer repeats its request with the same idempotency key. Meanwhile the request may
//! have been carried out, and everything that it names may have changed: a node's name can mean another
//! node, what was possible may be so no more. So the key is looked up before anything of the request is
//! looked at, and the request is told from another one as it was written, not as it is understood now.
//!
//! Before that a quorum confirms the leadership: a member that was frozen for a while and does not know yet
//! that another one leads would look in vain for the key, and refuse by a state that is gone.

use model::{Action, Applied, Refusal, fingerprint::fingerprint};
use prost::Message;
use tonic::Status;

use super::{from_wire, refusal};
use crate::leader::Reign;

/// A request's idempotency key, and a digest of the rest of it.
pub struct Once {
    key: String,
    fingerprint: u64,
}

impl Once {
    /// `request` is without its key.
    ///
    /// # Errors
    /// If the key is none.
    pub fn of<M: Message>(verb: &str, request: &M, key: String) -> Result<Self, Status> {
        let key = from_wire::idempotency_key(key)?;
        let request = request.encode_to_vec();
        let digest = fingerprint(verb.bytes().chain([0]).chain(request));
        // 0 would mean that there is none.
        Ok(Self { key, fingerprint: u64::max(digest, 1) })
    }

    /// The outcome of the request that came first with this key; only if this is the first, `action` says
    /// what it asks for, which is then committed.
    ///
    /// # Errors
    /// If `action` fails, or what it says is refused or not committed.
    pub async fn carry_out(
        &self,
        reign: &Reign,
        action: impl FnOnce() -> Result<Action, Status>,
    ) -> Result<Applied, Status> {
        reign.confirm().await.map_err(|error| refusal::propose_status(&error))?;
        match reign.zone().read(|state| state.remembered(&self.key).cloned()) {
            None => {
                let proposed = reign.propose_request(action()?, &self.key, self.fingerprint).await;
                proposed.map_err(|error| refusal::propose_status(&error))
            }
            Some(first) if first.fingerprint == self.fingerprint => {
                first.outcome.map_err(|refused| refusal::status(&refused))
            }
            Some(_) => {
                Err(refusal::status(&Refusal::IdempotencyKeyReused { key: self.key.clone() }))
            }
        }
    }
}
