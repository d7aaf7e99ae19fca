//! The same load as the zone has: as many requests per second, half of them writes, as large; due whether
//! earlier ones were answered or not. Each write has a key of its own, so that what must be there
//! afterwards is plain.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use client::PartitionId;
use futures_util::{StreamExt, stream};
use runtime::seams::{Environment, Moment};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use zonectl::load::PauseTracker;

use super::client::EtcdClient;
use crate::record::ErrorCount;

/// As the zone's load.
const VALUE_BYTES: usize = 256;

/// Reads that verify at the same time.
const VERIFYING_READS: usize = 64;

/// etcd is not divided.
const ALL: PartitionId = PartitionId(0);

#[derive(Debug, Default)]
pub struct Figures {
    /// The writes that were acknowledged, by number.
    pub acknowledged: Vec<u64>,
    pub completed: u64,
    pub failed: u64,
    pub unknown: u64,
    pub longest_wait: Duration,
    writes: PauseTracker,
    reads: PauseTracker,
    errors: BTreeMap<String, u64>,
    /// Reads, meanwhile or afterwards, that did not find what was acknowledged.
    pub lost: Vec<String>,
}

impl Figures {
    pub fn longest_pause(&self) -> Duration {
        let longest =
            |pauses: &PauseTracker| pauses.longest().map(|pause| pause.length).unwrap_or_default();
        longest(&self.writes).max(longest(&self.reads))
    }

    pub fn errors(&self) -> Vec<ErrorCount> {
        let errors = self.errors.iter();
        errors
            .map(|(message, count)| ErrorCount { message: message.clone(), count: *count })
            .collect()
    }
}

/// A load under way. When it is dropped, no more requests are made.
pub struct EtcdLoad {
    shared: Arc<Shared>,
    stop: DropGuard,
    requests: JoinHandle<()>,
}

struct Shared {
    environment: Environment,
    client: EtcdClient,
    run: String,
    figures: Mutex<Figures>,
}

impl Shared {
    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, number: u64) -> Bytes {
        Bytes::from(format!("{}/key-{number:010}", self.run))
    }

    fn value(&self, number: u64) -> Bytes {
        let mut value = format!("{}/{number}", self.run).into_bytes();
        value.resize(VALUE_BYTES, b'.');
        Bytes::from(value)
    }

    async fn write(&self, number: u64, due: Moment) {
        self.figures().writes.begin(ALL, due);
        let outcome = self.client.put(self.key(number), self.value(number)).await;
        let now = self.environment.now();
        let mut figures = self.figures();
        match outcome {
            Ok(()) => {
                figures.acknowledged.push(number);
                figures.completed += 1;
                figures.longest_wait = figures.longest_wait.max(now.since(due));
                figures.writes.succeed(ALL, now);
            }
            Err(error) => {
                // An attempt may have been proposed.
                figures.unknown += 1;
                figures.writes.fail(ALL);
                *figures.errors.entry(error).or_default() += 1;
            }
        }
    }

    async fn read(&self, due: Moment) {
        let number = {
            let mut figures = self.figures();
            let count = figures.acknowledged.len() as u64;
            if count == 0 {
                return;
            }
            figures.reads.begin(ALL, due);
            let chosen = self.environment.random_below(count);
            figures.acknowledged[usize::try_from(chosen).unwrap_or_default()]
        };
        let outcome = self.client.get(self.key(number)).await;
        let now = self.environment.now();
        let mut figures = self.figures();
        match outcome {
            Ok(found) => {
                if found != Some(self.value(number)) {
                    figures.lost.push(format!("write {number} was acknowledged and is not there"));
                }
                figures.completed += 1;
                figures.longest_wait = figures.longest_wait.max(now.since(due));
                figures.reads.succeed(ALL, now);
            }
            Err(error) => {
                figures.failed += 1;
                figures.reads.fail(ALL);
                *figures.errors.entry(error).or_default() += 1;
            }
        }
    }

    /// Reads everything that was acknowledged.
    async fn verify(&self) {
        let acknowledged = self.figures().acknowledged.clone();
        let check = |number| async move {
            match self.client.get(self.key(number)).await {
                Ok(found) if found == Some(self.value(number)) => None,
                Ok(_) => Some(format!("write {number} was acknowledged and is not there")),
                Err(error) => Some(format!("write {number} cannot be read: {error}")),
            }
        };
        let lost: Vec<String> = stream::iter(acknowledged)
            .map(check)
            .buffer_unordered(VERIFYING_READS)
            .filter_map(std::future::ready)
            .collect()
            .await;
        self.figures().lost.extend(lost);
    }
}

impl EtcdLoad {
    /// Keys of different runs are apart.
    pub fn start(
        environment: &Environment,
        client: &EtcdClient,
        rate_per_second: f64,
        run: String,
    ) -> Self {
        let shared = Arc::new(Shared {
            environment: environment.clone(),
            client: client.clone(),
            run,
            figures: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let requests = tokio::spawn(make(Arc::clone(&shared), rate_per_second, stop.clone()));
        Self { shared, stop: stop.drop_guard(), requests }
    }

    /// Ends it, waits for the last request, and verifies.
    pub async fn finish(self) -> anyhow::Result<Figures> {
        drop(self.stop);
        self.requests.await?;
        let now = self.shared.environment.now();
        {
            let mut figures = self.shared.figures();
            figures.writes.finish(now);
            figures.reads.finish(now);
        }
        self.shared.verify().await;
        Ok(std::mem::take(&mut *self.shared.figures()))
    }
}

/// Makes requests when they are due, until it is stopped; waits for the last.
async fn make(shared: Arc<Shared>, rate_per_second: f64, stop: CancellationToken) {
    let started = shared.environment.now();
    let mut requests = JoinSet::new();
    for number in 0.. {
        let due = started + Duration::from_secs_f64(number as f64 / rate_per_second);
        let wait = due.since(shared.environment.now());
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = shared.environment.sleep(wait) => {}
        }
        let shared = Arc::clone(&shared);
        requests.spawn(async move {
            if number % 2 == 0 { shared.write(number, due).await } else { shared.read(due).await }
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}
