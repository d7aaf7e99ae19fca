//! What the control plane's ledger says, and when it reaches this program.
//!
//! The moments are of this program's clock, at which the watching client received the event: later than
//! the control plane knew by one commit and one message.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use client::AdminClient;
use futures_util::StreamExt;
use proto::v1;
use runtime::seams::{Environment, Moment};
use tokio::task::JoinHandle;

use crate::record::EventLine;

/// Between two watches, when one has ended.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Moment,
    pub event: v1::Event,
}

/// All events since it was last cleared.
pub struct EventLog {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Of the last event that came.
    sequence: Arc<AtomicU64>,
    watch: JoinHandle<()>,
}

impl EventLog {
    pub fn start(environment: Environment, admin: AdminClient) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let sequence: Arc<AtomicU64> = Arc::default();
        let watch = tokio::spawn({
            let (seen, sequence) = (Arc::clone(&seen), Arc::clone(&sequence));
            async move { watch(&environment, &admin, &seen, &sequence).await }
        });
        Self { seen, sequence, watch }
    }

    pub fn clear(&self) {
        lock(&self.seen).clear();
    }

    /// Those so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// The last one that came.
    pub fn last_sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// How long after the moment the first event came that fits.
    pub fn first_ms(&self, since: Moment, fits: impl Fn(&v1::Event) -> bool) -> Option<f64> {
        first_ms(&lock(&self.seen), since, fits)
    }

    /// For the record.
    pub fn lines(&self, since: Moment) -> Vec<EventLine> {
        let line = |seen: Seen| EventLine {
            after_ms: seen.at.since(since).as_secs_f64() * 1e3,
            kind: seen.event.kind,
            partition_id: seen.event.partition_id,
            node_id: seen.event.node_id,
            message: seen.event.message,
            reason: seen.event.reason,
        };
        let after = |seen: &Seen| seen.at >= since;
        self.seen().into_iter().filter(after).map(line).collect()
    }
}

fn first_ms(seen: &[Seen], since: Moment, fits: impl Fn(&v1::Event) -> bool) -> Option<f64> {
    let mut after = seen.iter().filter(|seen| seen.at >= since);
    let first = after.find(|seen| fits(&seen.event))?;
    Some(first.at.since(since).as_secs_f64() * 1e3)
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn lock(seen: &Mutex<Vec<Seen>>) -> MutexGuard<'_, Vec<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches for ever; with the whole control plane down it tries again and again.
async fn watch(
    environment: &Environment,
    admin: &AdminClient,
    seen: &Mutex<Vec<Seen>>,
    sequence: &AtomicU64,
) {
    loop {
        let after_sequence = sequence.load(Ordering::Relaxed);
        let request = v1::WatchEventsRequest { after_sequence, follow: true };
        let mut events = std::pin::pin!(admin.watch_events(request));
        while let Some(Ok(event)) = events.next().await {
            sequence.store(event.sequence, Ordering::Relaxed);
            lock(seen).push(Seen { at: environment.now(), event });
        }
        environment.sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_the_fault_does_not_count() {
        let at = |ms| Moment::from_origin(Duration::from_millis(ms));
        let seen = |ms, kind: &str| Seen {
            at: at(ms),
            event: v1::Event { kind: kind.into(), ..Default::default() },
        };
        let all = [seen(10, "node-down"), seen(130, "takeover"), seen(140, "node-down")];
        let down = |event: &v1::Event| event.kind == "node-down";
        assert_eq!(first_ms(&all, at(100), down), Some(40.0));
        assert_eq!(first_ms(&all, at(141), down), None);
    }
}
