//! The clients: an open loop over a landscape that jumps.
//!
//! As in the load generator, requests start when they are due and their latency counts from then.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use client::{Client, ObjectMetadata, WriteError};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use runtime::seams::{Environment, Moment};
use tokio::{
    sync::{Semaphore, mpsc::Receiver},
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use zonectl::load::pace;

use crate::{landscape::Landscape, options::Conditions};

pub const JUMP_INTERVAL: Duration = Duration::from_secs(60);

/// Requests that may be outstanding; more are shed, and counted.
const OUTSTANDING_MAX: usize = 4_096;
const VALUE_BYTES: usize = 256;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Completed,
    Failed,
    Unknown,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was due, since the load began.
    pub due: Duration,
    pub took: Duration,
    pub end: End,
}

struct Run {
    environment: Environment,
    client: Client,
    began: Moment,
    samples: Mutex<Vec<Sample>>,
    shed: Arc<AtomicU64>,
}

/// A load under way. When it is dropped, no more requests are made.
pub struct Load {
    run: Arc<Run>,
    stop: CancellationToken,
    _stop_at_last: DropGuard,
    requests: JoinHandle<()>,
}

/// After how many jumps a request is that is due then.
pub fn jumps_at(since_began: Duration, jumps_max: u64) -> u64 {
    (since_began.as_secs() / JUMP_INTERVAL.as_secs()).min(jumps_max)
}

impl Load {
    /// Jumps every minute, so many times; then all stays as it is, until the load is stopped or its time is over.
    pub fn start(
        environment: &Environment,
        client: Client,
        landscape: Arc<Landscape>,
        conditions: &Conditions,
        jumps_max: u64,
        lasting: Duration,
    ) -> anyhow::Result<Self> {
        let (rate, reads) =
            (f64::from(conditions.rate_per_second), f64::from(conditions.reads_percent) / 100.0);
        let planned = u64::from(conditions.rate_per_second) * lasting.as_secs();
        let (began, stop, shed) = (environment.now(), CancellationToken::new(), Arc::default());
        let dues = pace(environment.clone(), began, planned, rate, Arc::clone(&shed), stop.clone())
            .context("cannot start the pace")?;
        let environment = environment.clone();
        let run = Arc::new(Run { environment, client, began, samples: Mutex::default(), shed });
        let requests = tokio::spawn({
            let (run, seed) = (Arc::clone(&run), conditions.seed);
            async move { run.dispatch(dues, &landscape, seed, reads, jumps_max).await }
        });
        let stop_at_last = stop.clone().drop_guard();
        Ok(Self { run, stop, _stop_at_last: stop_at_last, requests })
    }

    pub fn began(&self) -> Moment {
        self.run.began
    }

    /// Makes no more requests and waits for those under way: all requests, and how many were shed.
    pub async fn finish(self) -> anyhow::Result<(Vec<Sample>, u64)> {
        self.stop.cancel();
        self.requests.await.context("the load broke down")?;
        let samples = std::mem::take(&mut *self.run.samples());
        Ok((samples, self.run.shed.load(Ordering::Relaxed)))
    }
}

impl Run {
    fn samples(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dispatch(
        self: Arc<Self>,
        mut dues: Receiver<Moment>,
        landscape: &Landscape,
        seed: u64,
        reads: f64,
        jumps_max: u64,
    ) {
        let mut randomness = StdRng::seed_from_u64(seed);
        let permits = Arc::new(Semaphore::new(OUTSTANDING_MAX));
        while let Some(due) = dues.recv().await {
            // Drawn also for what is shed, so that the sequence is the seed's.
            let jumps = jumps_at(due.since(self.began), jumps_max);
            let key = landscape.draw(usize::try_from(jumps).unwrap_or(0), &mut randomness);
            let is_read = randomness.random_bool(reads);
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                self.shed.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let run = Arc::clone(&self);
            tokio::spawn(async move {
                let end = if is_read { run.read(key).await } else { run.write(key).await };
                let took = run.environment.now().since(due);
                run.samples().push(Sample { due: due.since(run.began), took, end });
                drop(permit);
            });
        }
        // All permits are free when the last request has ended; each has a deadline.
        let all = permits.acquire_many(OUTSTANDING_MAX as u32).await;
        drop(all);
    }

    async fn read(&self, key: Bytes) -> End {
        if self.client.get(key).await.is_ok() { End::Completed } else { End::Failed }
    }

    async fn write(&self, key: Bytes) -> End {
        let value = ObjectMetadata {
            size_bytes: VALUE_BYTES as u64,
            user_payload: Bytes::from_static(&[0x5a; VALUE_BYTES]),
            ..ObjectMetadata::default()
        };
        match self.client.put(key, value, None).await {
            Ok(_) => End::Completed,
            Err(WriteError::Unknown { .. }) => End::Unknown,
            Err(WriteError::Failed(_) | WriteError::ConditionFailed { .. }) => End::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_jumps_every_minute_until_it_stays() {
        let jumps = [0, 59, 60, 119, 120, 600].map(|at| jumps_at(Duration::from_secs(at), 2));
        assert_eq!(jumps, [0, 0, 1, 1, 2, 2]);
    }
}
