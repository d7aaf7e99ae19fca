//! The newest orders that this node has accepted. Never forgotten: an older order is refused after any
//! crash, too.
//!
//! (generation, term) is compared for the whole node; the revision for each partition, since orders of
//! different partitions may be based on different revisions.

use std::sync::Arc;

use planted::Bug;
use runtime::store::{Batch, Store, StoreError, synced};
use tokio::sync::Mutex;

use super::{keys, records, transport::Fence, types::PartitionId};

/// Why an order is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    #[error(
        "the order is of generation {}, term {}, revision {}, but this node has accepted generation {}, \
         term {}, revision {}",
        order.zone_generation, order.term, order.revision,
        highest.zone_generation, highest.term, highest.revision
    )]
    Stale { order: Fence, highest: Fence },
    #[error("the order's fence could not be stored")]
    Store(#[from] StoreError),
}

pub struct Fences {
    store: Arc<dyn Store>,
    /// (generation, term) with revision 0. The lock is held until what was accepted is durable.
    highest: Mutex<Fence>,
    /// The same, for those who only look.
    shown: std::sync::RwLock<Fence>,
}

fn without_revision(fence: Fence) -> Fence {
    Fence { revision: 0, ..fence }
}

/// Whether `order` is older than `accepted` for one partition. Revisions rise across terms, so the term
/// need not be looked at here.
fn is_older(order: Fence, accepted: Fence) -> bool {
    (order.zone_generation, order.revision) < (accepted.zone_generation, accepted.revision)
}

impl Fences {
    pub fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let highest = records::read(store.as_ref(), keys::META, keys::FENCE)?.unwrap_or_default();
        Ok(Self { store, highest: Mutex::new(highest), shown: std::sync::RwLock::new(highest) })
    }

    /// The highest (generation, term); its revision says nothing.
    pub fn highest(&self) -> Fence {
        *self.shown.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Accepts what a leader of this generation and term asks for, if no newer one was heard of.
    pub async fn accept_term(&self, fence: Fence) -> Result<(), FenceError> {
        self.accept(fence, &[]).await.map(|_| ())
    }

    /// Accepts or refuses the order for each of the partitions. One sync for all.
    pub async fn accept(
        &self,
        fence: Fence,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<(), FenceError>>, FenceError> {
        let mut highest = self.highest.lock().await;
        let term = without_revision(fence);
        let unchecked = planted::is_planted(Bug::OrderWithoutTermCheck);
        if term < *highest && !unchecked {
            runtime::mark!("order refused: of an older term");
            return Err(FenceError::Stale { order: fence, highest: *highest });
        }
        let mut batch = Batch::new();
        if term > *highest || (unchecked && term != *highest) {
            batch.put(keys::META, keys::FENCE, records::encode(&term));
        }
        let mut answers = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let key = keys::order(*partition);
            let accepted: Fence =
                records::read(self.store.as_ref(), keys::META, &key)?.unwrap_or_default();
            if is_older(fence, accepted) && !unchecked {
                runtime::mark!("order refused: of an older revision");
                answers.push(Err(FenceError::Stale { order: fence, highest: accepted }));
                continue;
            }
            if fence > accepted {
                batch.put(keys::META, key, records::encode(&fence));
            }
            answers.push(Ok(()));
        }
        if !batch.is_empty() {
            self.store.write(batch)?;
            synced(self.store.as_ref()).await?;
        }
        *highest = term;
        *self.shown.write().unwrap_or_else(std::sync::PoisonError::into_inner) = term;
        Ok(answers)
    }
}
