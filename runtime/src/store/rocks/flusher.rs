//! Group commit: one thread per store that syncs once for everybody who waits.
//!
//! A request is queued after the writes that it is for, and the thread empties the queue before it
//! starts a sync; so each sync covers all the writes of all the requests that it answers. While one sync
//! runs, requests gather for the next: the slower the device, the larger the groups.
//!
//! The queue is as long as there are callers who wait, and so bounded by them.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SendError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::Engine;
use crate::store::{StoreError, SyncDone, instruments};

/// A sync that took longer than this is worth a line in the log.
const SLOW: Duration = Duration::from_millis(10);

pub(super) struct Flusher {
    /// None only while dropping.
    requests: Option<Sender<SyncDone>>,
    /// None only while dropping.
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start(engine: Arc<Engine>) -> io::Result<Self> {
        let (requests, queue) = channel();
        let thread = thread::Builder::new()
            .name("store-flusher".to_owned())
            .spawn(move || run(&engine, &queue))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    pub(super) fn request(&self, done: SyncDone) {
        let requests = self.requests.as_ref().expect("taken only by drop");
        if let Err(SendError(done)) = requests.send(done) {
            done(Err(stopped()));
        }
    }
}

impl Drop for Flusher {
    /// Requests that wait are still served. Afterwards the thread holds the database no longer, so that
    /// it can be opened again.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            // A callback may have held the last reference to the store.
            && thread.thread().id() != thread::current().id()
        {
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of production's store measures itself")]
fn run(engine: &Engine, queue: &Receiver<SyncDone>) {
    let _stop = StopOnPanic(engine);
    while let Ok(first) = queue.recv() {
        let mut waiting = vec![first];
        waiting.extend(queue.try_iter());
        let start = Instant::now();
        let outcome = engine.sync();
        let took = start.elapsed();
        instruments::synced(took, waiting.len());
        if took > SLOW {
            tracing::debug!(?took, waiters = waiting.len(), "a sync took long");
        }
        for done in waiting {
            done(outcome.clone());
        }
    }
}

/// Stops the store if a callback panics: nobody would ever hear of a sync again.
struct StopOnPanic<'a>(&'a Engine);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(stopped());
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Failed { action: "sync", message: "the flusher thread has stopped".to_owned() }
}
