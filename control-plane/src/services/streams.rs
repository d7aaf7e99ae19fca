//! The leader's streams for operators: an operation until it has ended, the ledger as it grows.

use std::{ops::Bound, pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use model::{EventSequence, OperationId};
use proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{figures, to_wire};
use crate::{leader::Reign, member::Member};

/// A stream of updates, or of one final error.
pub type UpdateStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Updates that wait for a slow reader.
const UPDATES_WAITING_MAX: usize = 16;
/// Events that are read from the state at once.
const EVENTS_PER_READ_MAX: usize = 128;

/// How often the progress of an operation, which reports show and no commit, is looked at.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// How often events are looked for if nothing wakes.
const EVENTS_INTERVAL: Duration = Duration::from_secs(10);

type Updates<T> = mpsc::Sender<Result<T, Status>>;

fn stream<T: Send + 'static>() -> (Updates<T>, UpdateStream<T>) {
    let (sender, receiver) = mpsc::channel(UPDATES_WAITING_MAX);
    (sender, Box::pin(ReceiverStream::new(receiver)))
}

/// Sends an update; false if the stream is over: nobody reads it, or this member stops leading.
async fn send<T>(member: &Member, reign: &Reign, updates: &Updates<T>, update: T) -> bool {
    tokio::select! {
        biased;
        () = reign.ended().cancelled() => {
            let _ = updates.try_send(Err(member.wrong_leader()));
            false
        }
        sent = updates.send(Ok(update)) => sent.is_ok(),
    }
}

/// Waits for the next applied entry, `limit` at most; false if the stream is over.
async fn next<T>(
    member: &Member,
    reign: &Reign,
    updates: &Updates<T>,
    published: &mut watch::Receiver<u64>,
    limit: Duration,
) -> bool {
    tokio::select! {
        biased;
        () = reign.ended().cancelled() => {
            let _ = updates.try_send(Err(member.wrong_leader()));
            false
        }
        () = updates.closed() => false,
        changed = published.changed() => changed.is_ok(),
        () = reign.environment().sleep(limit) => true,
    }
}

/// The operation now, then each change of it, until it has ended.
pub fn operation(
    member: &Arc<Member>,
    reign: Arc<Reign>,
    id: OperationId,
    first: v1::Operation,
) -> UpdateStream<v1::Operation> {
    let (updates, stream) = stream();
    let member = Arc::clone(member);
    tokio::spawn(async move {
        let mut published = reign.zone().subscribe();
        let mut last = first;
        let mut sent = send(&member, &reign, &updates, last.clone()).await;
        while sent && last.state() == v1::OperationState::Running {
            if !next(&member, &reign, &updates, &mut published, PROGRESS_INTERVAL).await {
                return;
            }
            // One that has been forgotten has ended before: there is nothing more to tell.
            let Some(now) = figures::operation(&reign, id) else { return };
            if now != last {
                last = now;
                sent = send(&member, &reign, &updates, last.clone()).await;
            }
        }
    });
    stream
}

/// The events after `after`, oldest first; with `follow` also those that come.
pub fn events(
    member: &Arc<Member>,
    reign: Arc<Reign>,
    mut after: EventSequence,
    follow: bool,
) -> UpdateStream<v1::Event> {
    let (updates, stream) = stream();
    let member = Arc::clone(member);
    tokio::spawn(async move {
        let mut published = reign.zone().subscribe();
        loop {
            published.mark_unchanged();
            let events: Vec<v1::Event> = reign.zone().read(|state| {
                let range = (Bound::Excluded(after), Bound::Unbounded);
                let events = state.events().range(range).take(EVENTS_PER_READ_MAX);
                events.map(|(sequence, event)| to_wire::event(*sequence, event)).collect()
            });
            let all = events.len() < EVENTS_PER_READ_MAX;
            for event in events {
                after = EventSequence(event.sequence);
                if !send(&member, &reign, &updates, event).await {
                    return;
                }
            }
            if all && !follow {
                return;
            }
            if all && !next(&member, &reign, &updates, &mut published, EVENTS_INTERVAL).await {
                return;
            }
        }
    });
    stream
}
