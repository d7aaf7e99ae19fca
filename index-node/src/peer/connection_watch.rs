//! Which peers this node has lost, by its own watch of its connections.
//!
//! A peer counts as lost when its connection broke and nobody listens at its address any more (the
//! process is gone), or when nothing was heard of it for a while. What decides over the second is not
//! the time that has passed but the time *during which this node was listening*: each step counts at
//! most twice the interval between two questions, so that a node that was frozen itself does not wake
//! up with the conviction that everybody else is gone.
//!
//! While there is a connection to the peer, only what comes back on it counts: a peer that nothing reaches
//! goes on sending for a while, and is of no use to anybody.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::engine::{transport::PeerWatch, types::NodeId};

/// What is known of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Peer {
    connected: bool,
    /// The last dial was refused: nobody listens there.
    refused: bool,
    /// For how long this node has listened and heard nothing.
    silence: Duration,
}

impl Peer {
    fn is_lost(&self, lost_after: Duration) -> bool {
        self.refused || self.silence >= lost_after
    }
}

/// See the module's documentation.
pub struct ConnectionWatch {
    ping_interval: Duration,
    lost_after: Duration,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    /// Rises each time when a peer is lost or found again.
    changes: watch::Sender<u64>,
}

impl ConnectionWatch {
    pub fn new(ping_interval: Duration, lost_after: Duration) -> Self {
        Self {
            ping_interval,
            lost_after,
            peers: Mutex::new(BTreeMap::new()),
            changes: watch::Sender::new(0),
        }
    }

    /// Whether this node's own watch has lost the peer. A peer that is not watched is not lost: there
    /// is no evidence.
    pub fn is_lost(&self, node: NodeId) -> bool {
        self.lock().get(&node).is_some_and(|peer| peer.is_lost(self.lost_after))
    }

    /// Whether there is a connection, and the peer is not lost.
    pub fn is_reachable(&self, node: NodeId) -> bool {
        let peers = self.lock();
        peers.get(&node).is_some_and(|peer| peer.connected && !peer.is_lost(self.lost_after))
    }

    /// All peers that are lost, in rising sequence.
    pub fn lost(&self) -> Vec<NodeId> {
        let peers = self.lock();
        peers
            .iter()
            .filter(|(_, peer)| peer.is_lost(self.lost_after))
            .map(|(node, _)| *node)
            .collect()
    }

    /// Told each time when a peer is lost or found again.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// From now on the peer is watched.
    pub(super) fn begin(&self, node: NodeId) {
        self.change(node, |_| ());
    }

    pub(super) fn end(&self, node: NodeId) {
        if self.lock().remove(&node).is_some() {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// A stream to the peer is open.
    pub(super) fn connected(&self, node: NodeId) {
        self.change(node, |peer| *peer = Peer { connected: true, ..Peer::default() });
    }

    /// The stream broke, or could not be opened; `refused` if nobody listens at the address.
    pub(super) fn broken(&self, node: NodeId, refused: bool) {
        self.change(node, |peer| {
            peer.connected = false;
            // A dial that only took too long takes nothing back: the last clear answer holds.
            peer.refused |= refused;
        });
    }

    /// An answer came from the peer, on the connection to it. One that was still on its way does not bring
    /// back a peer whose address refuses: only a connection does.
    pub(super) fn answered(&self, node: NodeId) {
        self.hear(node, |_| true);
    }

    /// The peer has asked something, on the connection that it has made. If there is one to it, too, then
    /// what comes back on that one decides; and who was lost has to be reached again.
    pub(super) fn asked(&self, node: NodeId) {
        self.hear(node, |peer| !peer.connected && !peer.is_lost(self.lost_after));
    }

    fn hear(&self, node: NodeId, counts: impl FnOnce(&Peer) -> bool) {
        let mut peers = self.lock();
        let Some(peer) = peers.get_mut(&node).filter(|peer| counts(peer)) else { return };
        let was_lost = peer.is_lost(self.lost_after);
        peer.silence = Duration::ZERO;
        let changed = was_lost != peer.is_lost(self.lost_after);
        drop(peers);
        if changed {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// This node has listened for `elapsed`.
    pub(super) fn listened(&self, node: NodeId, elapsed: Duration) {
        let counted = elapsed.min(self.ping_interval * 2);
        self.change(node, |peer| peer.silence += counted);
    }

    fn change(&self, node: NodeId, change: impl FnOnce(&mut Peer)) {
        let mut peers = self.lock();
        let peer = peers.entry(node).or_default();
        let was_lost = peer.is_lost(self.lost_after);
        change(peer);
        let is_lost = peer.is_lost(self.lost_after);
        if is_lost {
            let variant = if peer.refused { "its address refuses" } else { "it is silent" };
            runtime::mark!("peer lost", variant);
        }
        drop(peers);
        if was_lost != is_lost {
            tracing::info!(peer = node.0, "{}", if is_lost { "peer lost" } else { "peer found" });
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerWatch for ConnectionWatch {
    fn has_lost(&self, node: NodeId) -> bool {
        self.is_lost(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(4);
    const TICK: Duration = Duration::from_millis(100);

    fn watch() -> ConnectionWatch {
        ConnectionWatch::new(TICK, Duration::from_secs(1))
    }

    #[test]
    fn a_refused_dial_is_proof_and_a_broken_connection_alone_is_none() {
        let watch = watch();
        watch.connected(PEER);
        assert!(watch.is_reachable(PEER));
        watch.broken(PEER, false);
        assert!(!watch.is_lost(PEER) && !watch.is_reachable(PEER));
        watch.broken(PEER, true);
        assert!(watch.is_lost(PEER));
        watch.answered(PEER);
        assert!(watch.is_lost(PEER), "a message that was still on its way proves nothing");
        watch.connected(PEER);
        assert!(!watch.is_lost(PEER));
    }

    #[test]
    fn silence_counts_only_while_this_node_listens() {
        let watch = watch();
        watch.connected(PEER);
        watch.listened(PEER, Duration::from_secs(60));
        assert!(!watch.is_lost(PEER), "this node was frozen, not the peer");
        for _ in 0..7 {
            watch.listened(PEER, TICK);
        }
        assert!(!watch.is_lost(PEER));
        watch.listened(PEER, TICK);
        assert!(watch.is_lost(PEER));
        assert_eq!(watch.lost(), [PEER]);
        watch.answered(PEER);
        assert!(!watch.is_lost(PEER));
    }

    #[test]
    fn a_peer_that_asks_and_does_not_answer_is_lost() {
        let silence = |watch: &ConnectionWatch| {
            for _ in 0..10 {
                watch.listened(PEER, TICK);
                watch.asked(PEER);
            }
            watch.is_lost(PEER)
        };
        let watch = watch();
        watch.begin(PEER);
        assert!(
            !silence(&watch),
            "there is no connection to it yet: that it asks is a sign of life"
        );
        watch.connected(PEER);
        assert!(silence(&watch));
        watch.broken(PEER, false);
        assert!(silence(&watch), "it has to be reached again");
        watch.connected(PEER);
        assert!(!watch.is_lost(PEER));
    }

    #[test]
    fn nobody_is_lost_who_is_not_watched() {
        let watch = watch();
        watch.answered(PEER);
        assert!(!watch.is_lost(PEER) && watch.lost().is_empty());
        watch.broken(PEER, true);
        watch.end(PEER);
        assert!(!watch.is_lost(PEER));
    }

    #[test]
    fn changes_are_told() {
        let watch = watch();
        let mut changes = watch.subscribe();
        watch.connected(PEER);
        assert!(!changes.has_changed().unwrap());
        watch.broken(PEER, true);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        watch.connected(PEER);
        assert!(changes.has_changed().unwrap());
    }
}
