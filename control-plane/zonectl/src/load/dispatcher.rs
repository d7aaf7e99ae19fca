//! Makes each request when it is due.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use client::{Client, Item, PartitionId, RequestError, WriteError};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use runtime::seams::{Environment, Moment};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc::Receiver};
use tokio_util::sync::CancellationToken;

use super::{
    keys::KeySpace,
    model::{Found, WriteEnd, WriteKind},
    options::LoadOptions,
    recorder::{End, Recorder, Side},
    values::{RunId, ValueCodec},
};

/// What all requests of a run share.
pub(super) struct Run {
    pub(super) environment: Environment,
    pub(super) clients: Vec<Client>,
    pub(super) options: LoadOptions,
    pub(super) keys: KeySpace,
    pub(super) values: ValueCodec,
    recorder: Mutex<Recorder>,
    /// Makes values distinct where there is no model to do so.
    sequence: AtomicU64,
}

/// What one request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Read,
    Write(WriteKind),
}

/// Where a request goes, and since when it counts.
#[derive(Clone, Copy, Debug)]
struct Aim {
    key: u64,
    partition: PartitionId,
    due: Moment,
}

impl Run {
    pub(super) fn new(
        environment: Environment,
        clients: Vec<Client>,
        options: LoadOptions,
        recorder: Recorder,
    ) -> Self {
        assert!(!clients.is_empty(), "a load needs at least one client");
        let run: RunId = environment.random_bytes();
        Self {
            keys: KeySpace::new(options.keys, options.zipf, &options.bucket),
            values: ValueCodec::new(run, options.value_bytes),
            environment,
            clients,
            options,
            recorder: Mutex::new(recorder),
            sequence: AtomicU64::new(0),
        }
    }

    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw_action(&self, randomness: &mut StdRng) -> Action {
        if randomness.random_bool(self.options.read_ratio) {
            Action::Read
        } else if randomness.random_bool(self.options.delete_ratio) {
            Action::Write(WriteKind::Delete)
        } else {
            Action::Write(WriteKind::Put)
        }
    }

    /// Makes requests as they become due, until there are no more. Those under way when this returns
    /// hold a permit of the semaphore each.
    pub(super) async fn dispatch(
        self: &Arc<Self>,
        mut dues: Receiver<Moment>,
        permits: &Arc<Semaphore>,
        stop: &CancellationToken,
    ) {
        let mut randomness = StdRng::seed_from_u64(self.environment.randomness.next_u64());
        let mut turn = 0;
        loop {
            let due = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                due = dues.recv() => match due {
                    Some(due) => due,
                    None => return,
                },
            };
            let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
                self.recorder().shed += 1;
                continue;
            };
            let action = self.draw_action(&mut randomness);
            let key = self.keys.draw(&mut randomness);
            let client = self.clients[turn % self.clients.len()].clone();
            turn = turn.wrapping_add(1);
            tokio::spawn(Arc::clone(self).request(client, action, key, due, permit));
        }
    }

    async fn request(
        self: Arc<Self>,
        client: Client,
        action: Action,
        key: u64,
        due: Moment,
        permit: OwnedSemaphorePermit,
    ) {
        let index_key = self.keys.key(key);
        // Without a route the request fails or finds one; either way it counts as nobody's.
        let partition = client.partition_of(&index_key).unwrap_or_default();
        let aim = Aim { key, partition, due };
        match action {
            Action::Read => self.read(&client, aim, index_key).await,
            Action::Write(kind) => self.write(&client, aim, kind, index_key).await,
        }
        drop(permit);
    }

    async fn read(&self, client: &Client, aim: Aim, index_key: Bytes) {
        let ticket = {
            let mut recorder = self.recorder();
            recorder.begin(Side::Read, aim.partition, aim.due);
            recorder.model.as_ref().map(|model| model.begin_read(aim.key))
        };
        let outcome = client.get(index_key).await;
        let now = self.environment.now();
        let found = outcome.as_ref().ok().map(|item| self.found(aim.key, item.as_ref()));
        let mut recorder = self.recorder();
        if let (Some(ticket), Some(found)) = (ticket, &found)
            && let Some(model) = &mut recorder.model
        {
            model.end_read(ticket, found);
        }
        let end = match outcome {
            Ok(item) => {
                recorder.reads_found += u64::from(item.is_some());
                End::Completed
            }
            Err(error) => End::Failed(describe(error)),
        };
        recorder.end(Side::Read, aim.partition, aim.due, now, end);
    }

    async fn write(&self, client: &Client, aim: Aim, kind: WriteKind, index_key: Bytes) {
        let ticket = {
            let mut recorder = self.recorder();
            recorder.begin(Side::Write, aim.partition, aim.due);
            recorder.model.as_mut().map(|model| model.begin_write(aim.key, kind))
        };
        let outcome = match kind {
            WriteKind::Put => {
                let sequence = match ticket {
                    Some(ticket) => ticket.sequence,
                    None => self.sequence.fetch_add(1, Ordering::Relaxed),
                };
                client.put(index_key, self.values.encode(aim.key, sequence), None).await
            }
            WriteKind::Delete => {
                client.delete(index_key, None).await.map(|deleted| deleted.version)
            }
        };
        let now = self.environment.now();
        let (end, written) = match outcome {
            Ok(version) => (End::Completed, WriteEnd::Acknowledged(version)),
            Err(WriteError::Unknown { last, .. }) => (End::Unknown(last), WriteEnd::Unknown),
            Err(WriteError::Failed(error)) => (End::Failed(describe(error)), WriteEnd::Failed),
            // No write of a load has a condition.
            Err(error @ WriteError::ConditionFailed { .. }) => {
                (End::Failed(error.to_string()), WriteEnd::Failed)
            }
        };
        let mut recorder = self.recorder();
        if let (Some(ticket), Some(model)) = (ticket, &mut recorder.model) {
            model.end_write(ticket, written);
        }
        recorder.end(Side::Write, aim.partition, aim.due, now, end);
    }

    /// What a read found, as the model takes it.
    pub(super) fn found(&self, key: u64, item: Option<&Item>) -> Found {
        match item {
            None => Found::Absent,
            Some(item) => Found::Present {
                version: item.version,
                content: self.values.decode(key, &item.value),
            },
        }
    }
}

/// What went wrong, without what differs from one request to the next.
fn describe(error: RequestError) -> String {
    match error {
        RequestError::Deadline { last, .. } => last,
        error @ (RequestError::Rejected { .. } | RequestError::Nonsense(_)) => error.to_string(),
    }
}
