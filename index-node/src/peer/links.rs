//! The links of this node to all others that it has to do with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use proto::v1::{PeerFrame, peer_frame::Body};
use tokio_util::sync::CancellationToken;

use super::link::{Link, LinkContext, RequestError};
use crate::engine::types::NodeId;

/// A link that no group needs any more is kept for so long.
const IDLE_MAX: Duration = Duration::from_secs(10);

struct Kept {
    link: Arc<Link>,
    stop: CancellationToken,
}

/// One link to each node that is asked something, or that shares a partition with this one.
pub struct Links {
    context: Arc<LinkContext>,
    kept: Mutex<BTreeMap<NodeId, Kept>>,
    shutdown: CancellationToken,
}

impl Links {
    pub fn new(context: LinkContext, shutdown: CancellationToken) -> Self {
        Self { context: Arc::new(context), kept: Mutex::new(BTreeMap::new()), shutdown }
    }

    /// Asks a node something. See [`Link::request`].
    ///
    /// # Errors
    /// As there.
    pub async fn request(
        &self,
        to: NodeId,
        frame: PeerFrame,
        limit: Duration,
    ) -> Result<Body, RequestError> {
        self.link(to).request(frame, limit).await
    }

    /// Keeps links to exactly these nodes, and for a while to those that were asked something lately.
    pub fn keep(&self, needed: &BTreeSet<NodeId>) {
        for node in needed {
            self.link(*node);
        }
        self.lock().retain(|node, kept| {
            let keep = needed.contains(node) || kept.link.idle() < IDLE_MAX;
            if !keep {
                kept.stop.cancel();
            }
            keep
        });
    }

    /// The node was heard of: a link to it that waits for its next dial need not wait.
    pub fn dial_now(&self, node: NodeId) {
        if let Some(kept) = self.lock().get(&node) {
            kept.link.dial_now();
        }
    }

    fn link(&self, node: NodeId) -> Arc<Link> {
        let mut links = self.lock();
        if let Some(kept) = links.get(&node) {
            return Arc::clone(&kept.link);
        }
        let link = Arc::new(Link::new(node, Arc::clone(&self.context)));
        let stop = self.shutdown.child_token();
        tokio::spawn(run(Arc::clone(&link), stop.clone()));
        links.insert(node, Kept { link: Arc::clone(&link), stop });
        link
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(link: Arc<Link>, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = link.run() => {}
    }
    link.end();
}
