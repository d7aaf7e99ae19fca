//! Carries out the control plane's orders.
//!
//! Orders describe a level: what a replica shall be. They are repeated until they are fulfilled, so
//! nothing here is retried, and what cannot be done now is refused with its reason. Before an order is
//! acted upon, its fence is checked against what the node remembers, and remembered durably (G5).
//!
//! Orders of one partition are carried out one after the other, the newest only; those of different
//! partitions side by side, up to a bound. A slow partition holds up nobody else.

mod executor;
mod host;
mod slots;

use proto::v1::Order;
use tokio::sync::mpsc;

pub use executor::{OrderHost, execute};
pub use host::EngineOrders;

use crate::engine::{transport::Fence, types::NodeId};

/// Messages of the session that may wait to be looked at.
const BATCHES_WAITING_MAX: usize = 64;

/// What one message of the session asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OrderBatch {
    /// The reign under which the session is held.
    pub welcome: Option<Fence>,
    /// Of all orders in this batch.
    pub fence: Option<Fence>,
    pub orders: Vec<Order>,
    pub directory: Vec<(NodeId, String)>,
}

impl OrderBatch {
    pub fn is_empty(&self) -> bool {
        self.welcome.is_none() && self.orders.is_empty() && self.directory.is_empty()
    }
}

/// Where the session leaves what it was told. Cheap to clone.
#[derive(Clone)]
pub struct OrderSink {
    queue: mpsc::Sender<OrderBatch>,
}

impl OrderSink {
    /// Leaves a batch, without waiting: if too much waits already it is dropped, and will be repeated.
    pub fn give(&self, batch: OrderBatch) {
        if self.queue.try_send(batch).is_err() {
            metrics::counter!("isotherm_node_order_batches_dropped_total").increment(1);
        }
    }
}

/// A sink, and the queue behind it for [`execute`].
pub fn sink() -> (OrderSink, mpsc::Receiver<OrderBatch>) {
    let (queue, batches) = mpsc::channel(BATCHES_WAITING_MAX);
    (OrderSink { queue }, batches)
}
