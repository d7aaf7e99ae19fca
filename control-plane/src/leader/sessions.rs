//! The open sessions with index nodes: where their orders are sent.
//!
//! One node has one session; a newer one closes the older. All of them end with the leadership that
//! they belong to.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use model::NodeId;
use proto::v1::SessionOrder;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages that wait for a slow node. Orders are repeated anyway, so that more would be of no use.
const MESSAGES_WAITING_MAX: usize = 64;

/// Numbers sessions, so that the end of an older one is not taken for the end of a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionNumber(u64);

/// What a session's task needs.
pub struct OpenSession {
    pub number: SessionNumber,
    pub sender: mpsc::Sender<Result<SessionOrder, Status>>,
    pub receiver: mpsc::Receiver<Result<SessionOrder, Status>>,
    /// Cancelled when a newer session of the node takes over.
    pub superseded: CancellationToken,
}

struct Session {
    number: SessionNumber,
    sender: mpsc::Sender<Result<SessionOrder, Status>>,
    superseded: CancellationToken,
}

/// All sessions of one leadership.
#[derive(Default)]
pub struct Sessions {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last_number: u64,
    by_node: BTreeMap<NodeId, Session>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session, and ends an older one of the node.
    pub fn open(&self, node: NodeId) -> OpenSession {
        let (sender, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        let superseded = CancellationToken::new();
        let mut inner = self.lock();
        inner.last_number += 1;
        let number = SessionNumber(inner.last_number);
        let session = Session { number, sender: sender.clone(), superseded: superseded.clone() };
        if let Some(older) = inner.by_node.insert(node, session) {
            older.superseded.cancel();
        }
        OpenSession { number, sender, receiver, superseded }
    }

    /// Ends a session; false if a newer one has taken its place.
    pub fn close(&self, node: NodeId, number: SessionNumber) -> bool {
        let mut inner = self.lock();
        let current = inner.by_node.get(&node).is_some_and(|session| session.number == number);
        if current {
            inner.by_node.remove(&node);
        }
        current
    }

    /// How many nodes have a session.
    pub fn count(&self) -> usize {
        self.lock().by_node.len()
    }

    /// Sends a message; false if the node has no session, or is too slow to take it now.
    pub fn send(&self, node: NodeId, message: SessionOrder) -> bool {
        let inner = self.lock();
        let Some(session) = inner.by_node.get(&node) else { return false };
        session.sender.try_send(Ok(message)).is_ok()
    }

    /// The node's session now.
    pub fn number(&self, node: NodeId) -> Option<SessionNumber> {
        self.lock().by_node.get(&node).map(|session| session.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_session_takes_the_place_of_an_older_one() {
        let sessions = Sessions::default();
        let node = NodeId(7);
        assert!(!sessions.send(node, SessionOrder::default()));
        let first = sessions.open(node);
        let mut second = sessions.open(node);
        assert!(first.superseded.is_cancelled());
        assert!(!second.superseded.is_cancelled());
        assert_eq!(sessions.count(), 1);
        assert!(!sessions.close(node, first.number), "the older one's end changes nothing");
        assert!(sessions.send(node, SessionOrder::default()));
        assert!(second.receiver.try_recv().is_ok());
        assert!(sessions.close(node, second.number));
        assert_eq!(sessions.number(node), None);
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn a_slow_node_does_not_fill_the_memory() {
        let sessions = Sessions::default();
        let session = sessions.open(NodeId(1));
        for _ in 0..MESSAGES_WAITING_MAX {
            assert!(sessions.send(NodeId(1), SessionOrder::default()));
        }
        assert!(!sessions.send(NodeId(1), SessionOrder::default()));
        drop(session);
    }
}
