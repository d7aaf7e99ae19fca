//! The zone with its traffic, and the demo's course from filling to verification.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use client::{AdminClient, AdminOptions, Client, ObjectMetadata, Options};
use proto::v1;
use runtime::seams::{Environment, Moment};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    DemoArguments,
    display::Display,
    input::Input,
    ledger::{Expected, Ledger},
    report::{Report, Verification},
    verify::verify,
    workload::Workload,
};
use crate::{failure::Failure, forms::StatusForm, zone_process::ZoneProcesses};

/// Requests at the same time while the index is filled.
const FILL_CONCURRENCY: usize = 64;
/// Workers that keep the traffic up while faults happen.
const CHURN_WORKERS: usize = 32;

pub struct Stage<'a> {
    pub(super) environment: Environment,
    pub(super) zone: &'a mut ZoneProcesses,
    pub(super) display: &'a Display,
    pub(super) admin: AdminClient,
    pub(super) workload: Workload,
    /// What the probes of the faults have written.
    pub(super) probes: Ledger,
}

impl<'a> Stage<'a> {
    pub async fn new(
        environment: &Environment,
        zone: &'a mut ZoneProcesses,
        display: &'a Display,
    ) -> Result<Self, Failure> {
        let endpoints = zone.layout().endpoints();
        let client = Client::connect(environment, &endpoints, Options::default()).await?;
        let admin = AdminClient::new(environment, &endpoints, AdminOptions::default())
            .map_err(|error| Failure::Command(error.to_string()))?;
        Ok(Self {
            environment: environment.clone(),
            zone,
            display,
            admin,
            workload: Workload::new(environment, client),
            probes: Ledger::default(),
        })
    }

    /// Fills the index, lets faults happen under traffic, verifies, and reports.
    pub async fn play(
        &mut self,
        arguments: &DemoArguments,
        input: Input,
        started: Moment,
    ) -> Result<Report, Failure> {
        let (keys, generated_keys) = (input.entries.len(), input.generated);
        self.display.phase(&format!("indexing {keys} files"));
        self.display.follow(self.workload.counters.clone(), keys as u64);
        let filling = self.environment.now();
        let shares = self.workload.fill(input.entries, FILL_CONCURRENCY).await;
        let fill_seconds = self.environment.now().since(filling).as_secs_f64();

        let stop = CancellationToken::new();
        let mut churn = self.start_churn(shares, arguments.rate, &stop);
        let partitions = self.workload.client.routes().len();
        let faults = self.faults(arguments.outage).await;
        stop.cancel();
        let mut ledger = Ledger::default();
        while let Some(share) = churn.join_next().await {
            ledger.absorb(share.map_err(|error| {
                Failure::Command(format!("a worker of the workload failed: {error}"))
            })?);
        }
        let faults = faults?;
        ledger.absorb(std::mem::take(&mut self.probes));

        if arguments.sabotage {
            self.sabotage(&ledger).await?;
        }
        self.display.phase("verifying every key and value");
        let differences = verify(&self.workload.client, &ledger).await?;
        let verification = Verification::from(&differences);
        let counts = self.workload.counters.look();
        Ok(Report {
            passed: Report::judge(&faults, counts, &verification),
            keys,
            generated_keys,
            partitions,
            fill_seconds,
            fill_writes_per_second: keys as f64 / fill_seconds.max(0.001),
            faults,
            reads: counts.reads,
            writes: counts.writes,
            failed: counts.failed,
            unknown: counts.unknown,
            wrong_answers: counts.wrong,
            verification,
            seconds: self.environment.now().since(started).as_secs_f64(),
            failures: self.workload.failures.texts(),
        })
    }

    /// Shares the keys among the workers anew, and starts them.
    fn start_churn(
        &self,
        shares: Vec<Ledger>,
        rate_per_second: f64,
        stop: &CancellationToken,
    ) -> JoinSet<Ledger> {
        let mut workers: Vec<Ledger> = (0..CHURN_WORKERS).map(|_| Ledger::default()).collect();
        for (number, share) in shares.into_iter().enumerate() {
            workers[number % CHURN_WORKERS].absorb(share);
        }
        let mut churn = JoinSet::new();
        for share in workers {
            let rate = rate_per_second / CHURN_WORKERS as f64;
            churn.spawn(self.workload.clone().churn(share, rate, stop.clone()));
        }
        churn
    }

    /// Deletes a key behind the ledger's back: an acknowledged write is gone.
    async fn sabotage(&self, ledger: &Ledger) -> Result<(), Failure> {
        let victim = ledger
            .keys
            .iter()
            .find(|(_, expected)| matches!(expected, Expected::Value(_)))
            .map(|(key, _)| key.clone())
            .ok_or_else(|| Failure::Command("there is no key to sabotage".into()))?;
        self.display.note(&format!("sabotage: {} is dropped", victim.escape_ascii()));
        self.workload.client.delete(victim, None).await?;
        Ok(())
    }

    /// The zone's state, from its leader.
    pub(super) async fn status(&self) -> Result<StatusForm, Failure> {
        Ok(self.admin.status().await?.into())
    }

    /// Waits until `done` says so of the status; how long that took.
    pub(super) async fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&StatusForm) -> bool,
    ) -> Result<Duration, Failure> {
        let began = self.environment.now();
        loop {
            let last = match self.status().await {
                Ok(status) if status.from_leader && done(&status) => {
                    return Ok(self.environment.now().since(began));
                }
                Ok(status) => status.problems.join("; "),
                Err(error) => error.to_string(),
            };
            if self.environment.now().since(began) > limit {
                let seconds = limit.as_secs();
                return Err(Failure::Command(format!("{what}: not within {seconds} s ({last})")));
            }
            self.environment.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ids of the partitions that a node leads.
    pub(super) async fn led_by(&self, node: u64) -> Result<Vec<u64>, Failure> {
        let partitions = self.admin.all_partitions(v1::ListPartitionsRequest::default()).await?;
        let led = partitions.into_iter().filter(|partition| partition.leader_node_id == node);
        Ok(led.map(|partition| partition.id).collect())
    }

    /// A key for each partition that nothing else writes.
    pub(super) fn probe_keys(&self) -> BTreeMap<u64, Bytes> {
        self.workload
            .client
            .routes()
            .iter()
            .map(|route| {
                let mut key = route.start.to_vec();
                key.extend_from_slice(b"\0probe");
                (route.partition.0, Bytes::from(key))
            })
            .collect()
    }

    /// Writes to each of the partitions until it acknowledges; the longest that one took, none if one
    /// did not within the client's deadline.
    pub(super) async fn probe(&mut self, partitions: &[u64], since: Moment) -> Option<Duration> {
        let keys = self.probe_keys();
        let mut probes = JoinSet::new();
        for id in partitions {
            let Some(key) = keys.get(id).cloned() else { continue };
            let workload = self.workload.clone();
            let before = self.probes.keys.get(&key).cloned();
            probes.spawn(async move {
                let mut ledger = Ledger::default();
                ledger.keys.extend(before.map(|expected| (key.clone(), expected)));
                let stamp = workload.environment.randomness.next_u64();
                let value = ObjectMetadata {
                    user_payload: Bytes::from(format!("probe {stamp:016x}")),
                    ..ObjectMetadata::default()
                };
                workload.write_recorded(&mut ledger, key.clone(), value).await;
                let acknowledged = matches!(ledger.keys.get(&key), Some(Expected::Value(_)));
                (ledger, acknowledged.then(|| workload.environment.now().since(since)))
            });
        }
        let mut longest = Some(Duration::ZERO);
        while let Some(probe) = probes.join_next().await {
            let (ledger, took) = probe.expect("a probe does not panic and is not aborted");
            self.probes.absorb(ledger);
            longest = longest.zip(took).map(|(longest, took)| longest.max(took));
        }
        longest
    }
}
