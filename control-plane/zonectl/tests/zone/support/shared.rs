//! The zone that most tests share, one after the other: making one takes seconds.
//!
//! Each test finds it settled and leaves it settled. After a test that failed, the next one gets a new
//! zone. It goes when nobody uses it any more.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

use super::zone::{Shape, TestZone};

type Slot = tokio::sync::Mutex<Option<TestZone>>;

static SLOT: Mutex<Weak<Slot>> = Mutex::new(Weak::new());

/// Nodes of the shared zone.
pub const NODES: u32 = 5;

/// The shared zone, for this test alone as long as this is kept.
pub struct Shared {
    slot: OwnedMutexGuard<Option<TestZone>>,
}

fn slot() -> Arc<Slot> {
    let mut known = SLOT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(slot) = known.upgrade() {
        return slot;
    }
    let slot = Arc::new(Slot::new(None));
    *known = Arc::downgrade(&slot);
    slot
}

/// The shared zone: 3 members, 5 index nodes, 8 partitions of 3 replicas each.
pub async fn shared() -> Shared {
    let mut slot = slot().lock_owned().await;
    match slot.as_ref() {
        Some(zone) => {
            zone.settled().await;
        }
        None => {
            let zone = TestZone::start(Shape { index_nodes: NODES, ..Shape::default() }).await;
            zone.settled().await;
            *slot = Some(zone);
        }
    }
    Shared { slot }
}

impl Deref for Shared {
    type Target = TestZone;

    fn deref(&self) -> &TestZone {
        self.slot.as_ref().expect("filled before it is handed out")
    }
}

impl DerefMut for Shared {
    fn deref_mut(&mut self) -> &mut TestZone {
        self.slot.as_mut().expect("filled before it is handed out")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Who knows in which state it is.
            *self.slot = None;
        }
    }
}
