//! Requests that wait for their answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use proto::v1::{PeerFrame, peer_frame::Body};
use tokio::sync::oneshot;

use super::link::RequestError;

type Answer = Result<Body, RequestError>;

#[derive(Default)]
struct Table {
    next_id: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
}

/// The requests under way on one link. Shared by those who ask and by who reads the answers.
#[derive(Clone, Default)]
pub struct Pending {
    table: Arc<Mutex<Table>>,
}

/// A request that waits. Dropped, it is forgotten: a late answer finds nobody.
pub struct Waiting {
    pending: Pending,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Pending {
    /// Registers a request, and gives it a number that no other one on this link has had.
    pub fn register(&self) -> Waiting {
        let (sender, answer) = oneshot::channel();
        let mut table = self.lock();
        table.next_id += 1;
        let id = table.next_id;
        table.waiting.insert(id, sender);
        drop(table);
        Waiting { pending: self.clone(), id, answer }
    }

    /// Hands an answer to whoever waits for it; nobody may.
    pub fn answer(&self, frame: PeerFrame) {
        let Some(sender) = self.lock().waiting.remove(&frame.request_id) else { return };
        let answer = match frame.body {
            Some(Body::Error(error)) => Err(RequestError::Refused(error)),
            Some(body) => Ok(body),
            None => Err(RequestError::Malformed),
        };
        // Whoever asked may have stopped waiting in this moment.
        let _ = sender.send(answer);
    }

    /// Fails everything that waits: the connection broke, so no answer can come.
    pub fn fail_all(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        for sender in waiting.into_values() {
            let _ = sender.send(Err(RequestError::Broken));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    pub fn id(&self) -> u64 {
        self.id
    }

    pub async fn answer(mut self) -> Answer {
        (&mut self.answer).await.unwrap_or(Err(RequestError::Broken))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pending.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::RaftPayload;

    use super::*;

    fn answer(request_id: u64) -> PeerFrame {
        let body = Some(Body::VoteResponse(RaftPayload::default()));
        PeerFrame { request_id, body, ..PeerFrame::default() }
    }

    #[tokio::test]
    async fn answers_find_their_requests_in_any_sequence() {
        let pending = Pending::default();
        let (first, second) = (pending.register(), pending.register());
        assert_ne!(first.id(), second.id());
        pending.answer(answer(second.id()));
        pending.answer(answer(first.id()));
        assert!(first.answer().await.is_ok());
        assert!(second.answer().await.is_ok());
        pending.answer(answer(99));
    }

    #[tokio::test]
    async fn a_broken_link_fails_what_waits_at_once() {
        let pending = Pending::default();
        let waiting = pending.register();
        drop(pending.register());
        assert_eq!(pending.lock().waiting.len(), 1, "who stopped waiting is forgotten");
        pending.fail_all();
        assert!(matches!(waiting.answer().await, Err(RequestError::Broken)));
    }
}
