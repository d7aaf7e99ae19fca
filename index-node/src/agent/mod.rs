//! The node's side of the session with the control plane: registers, reports, takes orders.
//!
//! Nothing here may be delayed by data traffic, since a late heartbeat costs the node its leaderships:
//! in production the agent runs on a thread of its own, and does no more than pass messages on. Orders
//! are carried out elsewhere (see [`crate::orders`]).
//!
//! **Architecture invariant**: the agent decides nothing about partitions. Without a control plane it
//! only goes on asking for one; what the node serves does not depend on it (G6).

mod contact;
mod registration;
mod reports;
mod schedule;
mod session;
mod signs;

use std::{sync::Arc, time::Duration};

use proto::v1::OrderRefusal;
use runtime::{grpc::Channels, seams::Environment};
use tokio::sync::mpsc;

pub use contact::Contact;
pub use registration::{Registered, Registrar, Registration};
pub use session::SessionError;
pub use signs::{Signs, watch_disk, watch_lag, watch_syncs};

use schedule::BACKOFF_MIN;

use crate::{engine::host::ReplicaHost, orders::OrderSink, peer::ConnectionWatch};

/// What the agent works with.
pub struct Agent {
    pub environment: Environment,
    /// Of the agent alone: connections belong to the runtime that opened them.
    pub channels: Channels,
    pub registrar: Registrar,
    pub host: Arc<ReplicaHost>,
    pub watch: Arc<ConnectionWatch>,
    pub orders: OrderSink,
    pub refusals: mpsc::Receiver<OrderRefusal>,
    pub contact: Arc<Contact>,
    pub signs: Arc<Signs>,
}

impl Agent {
    /// Keeps a session with whoever leads the control plane, until dropped.
    pub async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let registered = self.registrar.register(&self.environment, &self.channels).await;
            let error = self.session(&registered).await;
            if self.contact.silence() < Duration::from_secs(1) {
                backoff = BACKOFF_MIN;
            }
            tracing::info!(member = registered.endpoint, %error, "the session has ended");
            runtime::mark!("session ended", error);
            self.registrar.prefer(error.leader_hint());
            self.environment.sleep(self.environment.jittered(backoff)).await;
            backoff = schedule::doubled(backoff);
        }
    }
}
