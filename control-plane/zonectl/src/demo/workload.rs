//! The demo's traffic: fills the index, then keeps reading, writing, overwriting and deleting, and
//! checks each answer against the ledger as it goes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use client::{Client, ObjectMetadata, RequestError, WriteError};
use runtime::seams::{Environment, Moment};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::ledger::{Expected, Ledger, Written};

/// Counts of the whole run. Shared by all workers.
#[derive(Debug, Default)]
pub struct Counters {
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    pub failed: AtomicU64,
    pub unknown: AtomicU64,
    /// Answers that contradict the ledger.
    pub wrong: AtomicU64,
}

/// A look at the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub reads: u64,
    pub writes: u64,
    pub failed: u64,
    pub unknown: u64,
    pub wrong: u64,
}

impl Counters {
    pub fn look(&self) -> Counts {
        Counts {
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            failed: self.failed.load(Relaxed),
            unknown: self.unknown.load(Relaxed),
            wrong: self.wrong.load(Relaxed),
        }
    }
}

/// The latest few failures in words, for the report.
#[derive(Debug, Default)]
pub struct Failures {
    texts: std::sync::Mutex<Vec<String>>,
}

impl Failures {
    const KEPT: usize = 10;

    fn add(&self, text: String) {
        let mut texts = self.texts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if texts.len() < Self::KEPT {
            texts.push(text);
        }
    }

    pub fn texts(&self) -> Vec<String> {
        self.texts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// What workers share.
#[derive(Clone)]
pub struct Workload {
    pub environment: Environment,
    pub client: Client,
    pub counters: Arc<Counters>,
    pub failures: Arc<Failures>,
    /// The longest time that any one request has taken so far.
    pub longest: watch::Sender<Duration>,
}

/// Whether a key's write is a put or a delete.
enum Change {
    Put(ObjectMetadata),
    Delete,
}

impl Workload {
    pub fn new(environment: &Environment, client: Client) -> Self {
        Self {
            environment: environment.clone(),
            client,
            counters: Arc::default(),
            failures: Arc::default(),
            longest: watch::Sender::new(Duration::ZERO),
        }
    }

    fn took(&self, began: Moment) {
        let took = self.environment.now().since(began);
        self.longest.send_if_modified(|longest| {
            let longer = took > *longest;
            if longer {
                *longest = took;
            }
            longer
        });
    }

    /// Carries out one write and says what the key may hold then.
    async fn write(&self, key: &Bytes, before: &Expected, change: Change) -> Expected {
        let began = self.environment.now();
        let (outcome, attempted) = match change {
            Change::Put(value) => {
                let put = self.client.put(key.clone(), value.clone(), None).await;
                (put.map(Some), Some(value))
            }
            Change::Delete => (self.client.delete(key.clone(), None).await.map(|_| None), None),
        };
        self.took(began);
        match outcome {
            Ok(version) => {
                self.counters.writes.fetch_add(1, Relaxed);
                match (version, attempted) {
                    (Some(version), Some(value)) => Expected::Value(Written { value, version }),
                    _ => Expected::Absent,
                }
            }
            Err(WriteError::Failed(error)) => {
                self.failed(key, &error);
                before.clone()
            }
            Err(error) => {
                self.counters.unknown.fetch_add(1, Relaxed);
                self.failures.add(format!("{}: {error}", key.escape_ascii()));
                Expected::Either { before: before.settled_value(), attempted }
            }
        }
    }

    fn failed(&self, key: &Bytes, error: &RequestError) {
        self.counters.failed.fetch_add(1, Relaxed);
        self.failures.add(format!("{}: {error}", key.escape_ascii()));
    }

    /// Reads one key and compares.
    async fn read(&self, key: &Bytes, expected: &Expected) {
        let began = self.environment.now();
        let outcome = self.client.get(key.clone()).await;
        self.took(began);
        match outcome {
            Ok(item) => {
                self.counters.reads.fetch_add(1, Relaxed);
                if !expected.allows(item.as_ref()) {
                    self.counters.wrong.fetch_add(1, Relaxed);
                    self.failures.add(format!(
                        "{} holds {item:?} where {expected:?} was acknowledged",
                        key.escape_ascii()
                    ));
                }
            }
            Err(error) => self.failed(key, &error),
        }
    }

    /// Writes one key outside of any worker's share, and records it in `ledger`.
    pub async fn write_recorded(&self, ledger: &mut Ledger, key: Bytes, value: ObjectMetadata) {
        let before = ledger.keys.get(&key).cloned().unwrap_or(Expected::Absent);
        let after = self.write(&key, &before, Change::Put(value)).await;
        ledger.keys.insert(key, after);
    }

    /// Writes all entries, `concurrency` at a time, and returns a ledger for each worker's share.
    pub async fn fill(
        &self,
        entries: BTreeMap<Bytes, ObjectMetadata>,
        concurrency: usize,
    ) -> Vec<Ledger> {
        let mut shares = vec![Vec::new(); concurrency];
        for (number, entry) in entries.into_iter().enumerate() {
            shares[number % concurrency].push(entry);
        }
        let mut workers = JoinSet::new();
        for (number, share) in shares.into_iter().enumerate() {
            let workload = self.clone();
            workers.spawn(async move {
                let mut ledger = Ledger::default();
                for (key, value) in share {
                    let put = Change::Put(value);
                    let expected = workload.write(&key, &Expected::Absent, put).await;
                    ledger.keys.insert(key, expected);
                }
                (number, ledger)
            });
        }
        let mut ledgers = BTreeMap::new();
        while let Some(done) = workers.join_next().await {
            let (number, ledger) = done.expect("a worker does not panic and is not aborted");
            ledgers.insert(number, ledger);
        }
        ledgers.into_values().collect()
    }

    /// Keeps reading (two of three), overwriting, deleting and writing anew, at about
    /// `rate_per_second`, until `stop`; returns what the worker's keys hold then.
    pub async fn churn(
        self,
        mut ledger: Ledger,
        rate_per_second: f64,
        stop: CancellationToken,
    ) -> Ledger {
        let keys: Vec<Bytes> = ledger.keys.keys().cloned().collect();
        if keys.is_empty() {
            return ledger;
        }
        let interval = Duration::from_secs_f64(1.0 / rate_per_second);
        let mut next = self.environment.now() + self.environment.jittered(interval);
        while !stop.is_cancelled() {
            let now = self.environment.now();
            if next > now {
                self.environment.sleep(next.since(now)).await;
            }
            // Behind after a pause: go on from now, do not burst.
            next = next.max(now) + interval;
            let key = &keys[self.pick(keys.len())];
            let expected = ledger.keys[key].clone();
            if !expected.is_settled() {
                continue;
            }
            let draw = self.environment.random_below(12);
            if draw < 8 {
                self.read(key, &expected).await;
                continue;
            }
            let change = match (&expected, draw) {
                (Expected::Value(_), 8) => Change::Delete,
                _ => Change::Put(self.next_value(&expected)),
            };
            let after = self.write(key, &expected, change).await;
            ledger.keys.insert(key.clone(), after);
        }
        ledger
    }

    fn pick(&self, count: usize) -> usize {
        let bound = u64::try_from(count).unwrap_or(u64::MAX);
        usize::try_from(self.environment.random_below(bound)).unwrap_or(0)
    }

    /// A value that differs from the present one.
    fn next_value(&self, expected: &Expected) -> ObjectMetadata {
        let mut value = expected.settled_value().map(|written| written.value).unwrap_or_default();
        value.size_bytes = value.size_bytes.wrapping_add(1);
        let stamp = self.environment.randomness.next_u64();
        value.etag = Bytes::from(format!("rewritten-{stamp:016x}"));
        value
    }
}
