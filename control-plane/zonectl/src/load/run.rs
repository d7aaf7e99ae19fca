//! A run from its start to its report.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use client::{Client, ConnectError, Options};
use futures_util::{StreamExt, stream};
use runtime::seams::{Environment, Moment};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    dispatcher::Run,
    model::Model,
    options::LoadOptions,
    pacer,
    recorder::{Progress, Recorder},
    report::LoadReport,
};
use crate::failure::Failure;

/// Reads that verify at the same time.
const VERIFYING_READS: usize = 64;

/// A run under way. When it is dropped, no more requests are made.
pub struct RunningLoad {
    run: Arc<Run>,
    started: Moment,
    stop: CancellationToken,
    _stop_at_last: DropGuard,
    shed: Arc<AtomicU64>,
    /// Ends when every request has. When it does, how long requests were made and answered.
    requests: JoinHandle<Duration>,
}

/// As many clients as the options say connections: each has connections of its own.
///
/// # Errors
/// If the zone cannot be reached.
pub async fn connect(
    environment: &Environment,
    endpoints: &[String],
    client_options: &Options,
    options: &LoadOptions,
) -> Result<Vec<Client>, ConnectError> {
    let mut clients = Vec::new();
    for _ in 0..options.connections {
        clients.push(Client::connect(environment, endpoints, client_options.clone()).await?);
    }
    Ok(clients)
}

/// Starts a load against the zone of the clients, which take the requests in turn.
///
/// # Errors
/// If the options are impossible, or the pace cannot be kept.
pub fn start(
    environment: &Environment,
    clients: Vec<Client>,
    options: LoadOptions,
) -> Result<RunningLoad, Failure> {
    options.check().map_err(Failure::Usage)?;
    let planned = options.planned();
    let rate = options.rate_per_second;
    let outstanding_max = options.outstanding_max;
    let recorder = Recorder { model: options.verify.then(Model::default), ..Recorder::default() };
    let run = Arc::new(Run::new(environment.clone(), clients, options, recorder));
    let started = environment.now();
    let stop = CancellationToken::new();
    let shed = Arc::new(AtomicU64::new(0));
    let pace_shed = Arc::clone(&shed);
    let dues = pacer::start(environment.clone(), started, planned, rate, pace_shed, stop.clone())
        .map_err(Failure::io("cannot start the pace"))?;
    let requests = tokio::spawn({
        let (run, stop) = (Arc::clone(&run), stop.clone());
        async move {
            let permits = Arc::new(Semaphore::new(outstanding_max as usize));
            run.dispatch(dues, &permits, &stop).await;
            // All permits are free when the last request has ended; each has a deadline.
            let all = permits.acquire_many(outstanding_max).await;
            drop(all);
            let now = run.environment.now();
            let mut recorder = run.recorder();
            recorder.reads.pauses.finish(now);
            recorder.writes.pauses.finish(now);
            now.since(started)
        }
    });
    let stop_at_last = stop.clone().drop_guard();
    Ok(RunningLoad { run, started, stop, _stop_at_last: stop_at_last, shed, requests })
}

impl RunningLoad {
    /// How it goes.
    pub fn progress(&self) -> Progress {
        let elapsed = self.run.environment.now().since(self.started);
        let mut progress = self.run.recorder().progress(elapsed);
        progress.shed += self.shed.load(Ordering::Relaxed);
        progress
    }

    /// Ends it before its time: no more requests are made. [`finish`](Self::finish) still reports.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether every request has ended, so that only the verification is left.
    pub fn requests_ended(&self) -> bool {
        self.requests.is_finished()
    }

    /// Waits for the last request, verifies if that was asked for, and reports.
    ///
    /// # Errors
    /// If the run broke down.
    pub async fn finish(self) -> Result<LoadReport, Failure> {
        let elapsed = self
            .requests
            .await
            .map_err(|error| Failure::Command(format!("the load broke down: {error}")))?;
        let unchecked = if self.run.options.verify { verify(&self.run).await } else { 0 };
        let mut recorder = self.run.recorder();
        recorder.shed += self.shed.load(Ordering::Relaxed);
        Ok(LoadReport::new(&self.run.options, &recorder, self.started, elapsed, unchecked))
    }
}

/// Reads every key that was written. How many could not be read.
async fn verify(run: &Arc<Run>) -> u64 {
    let keys = match &run.recorder().model {
        Some(model) => model.known_keys(),
        None => return 0,
    };
    let client = &run.clients[0];
    let reads = stream::iter(keys).map(|key| async move {
        let ticket = run.recorder().model.as_ref().map(|model| model.begin_read(key));
        match client.get(run.keys.key(key)).await {
            Ok(item) => {
                let found = run.found(key, item.as_ref());
                if let (Some(ticket), Some(model)) = (ticket, &mut run.recorder().model) {
                    model.end_read(ticket, &found);
                }
                0
            }
            Err(error) => {
                tracing::warn!(key, %error, "a key could not be verified");
                1
            }
        }
    });
    reads.buffer_unordered(VERIFYING_READS).fold(0, |sum, unread| async move { sum + unread }).await
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    /// A client of a zone whose only node does not exist.
    async fn client_of_nobody() -> Client {
        let environment = Environment::production();
        let listener = environment.network.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_address().unwrap().to_string();
        drop(listener);
        let seed_map = v1::PartitionMap {
            zone_id: "zone".into(),
            revision: 1,
            partitions: vec![v1::PartitionRoute {
                partition_id: 9,
                range: Some(v1::KeyRange::default()),
                range_epoch: 1,
                replicas: vec![v1::ReplicaPlacement { replica_id: 1, node_id: 1 }],
                leader_node_id: 1,
            }],
            nodes: vec![v1::NodeAddress { node_id: 1, address: address.clone() }],
        };
        let options = Options {
            deadline: Duration::from_millis(100),
            seed_map: Some(seed_map),
            ..Options::default()
        };
        Client::connect(&environment, &[address], options).await.unwrap()
    }

    #[tokio::test]
    async fn a_dead_zone_fails_every_request_and_sheds_what_is_too_much() {
        let environment = Environment::production();
        let options = LoadOptions {
            rate_per_second: 1_000.0,
            duration: Duration::from_millis(50),
            outstanding_max: 10,
            verify: true,
            ..LoadOptions::default()
        };
        let running = start(&environment, vec![client_of_nobody().await], options).unwrap();
        let report = running.finish().await.unwrap();
        assert_eq!(report.planned, 50);
        assert_eq!(report.issued + report.shed, 50);
        assert!(report.shed >= 40 - 10, "{report:?}");
        assert_eq!(report.failed + report.unknown, report.issued);
        assert_eq!(report.completed, 0);
        let pause = report.longest_write_pause.or(report.longest_read_pause).unwrap();
        assert_eq!((pause.partition_id, pause.ended), (9, false));
        assert!(pause.pause_ms >= 90.0, "{pause:?}");
        assert!(report.failure().is_some());
    }

    #[tokio::test]
    async fn a_stopped_run_still_reports() {
        let environment = Environment::production();
        let options = LoadOptions {
            rate_per_second: 100.0,
            duration: Duration::from_secs(3_600),
            ..LoadOptions::default()
        };
        let running = start(&environment, vec![client_of_nobody().await], options).unwrap();
        while running.progress().issued < 3 {
            tokio::task::yield_now().await;
        }
        running.stop();
        let report = running.finish().await.unwrap();
        assert!(report.issued >= 3 && report.issued < 1_000, "{report:?}");
        assert_eq!(report.verification, None);
    }

    #[tokio::test]
    async fn a_dropped_run_makes_no_more_requests() {
        let environment = Environment::production();
        let options = LoadOptions {
            rate_per_second: 100.0,
            duration: Duration::from_secs(3_600),
            ..LoadOptions::default()
        };
        let running = start(&environment, vec![client_of_nobody().await], options).unwrap();
        let run = Arc::downgrade(&running.run);
        drop(running);
        while run.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn impossible_options_are_refused() {
        let environment = Environment::production();
        let options = LoadOptions { keys: 0, ..LoadOptions::default() };
        let refused = start(&environment, vec![client_of_nobody().await], options);
        assert!(matches!(refused, Err(Failure::Usage(_))));
    }
}
