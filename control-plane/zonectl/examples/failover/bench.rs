//! The whole run: the zone through its faults, then etcd through its own.

use std::{collections::VecDeque, path::Path, time::Duration};

use anyhow::Context;
use runtime::seams::Environment;
use tempfile::TempDir;
use zonectl::{
    commands::even_split_keys,
    dev::{GRACE, Making, bring_up},
    load::{LoadOptions, RunningLoad},
    zone_process::{Binaries, Layout, Place, Role, ZoneProcesses},
};

use crate::{
    etcd,
    fault::{Fault, Need, Timers},
    noise::NoiseWatch,
    options::{Arguments, Conditions},
    progress::Progress,
    record::TrialRecord,
    sandbox::{Missing, Namespace},
    state::State,
    summary::NotRun,
    trial,
    zone::Zone,
};

/// Longer than any fault lasts: nothing is copied meanwhile.
const REPLACE_AFTER: Duration = Duration::from_secs(300);

/// The witness's load: too little to matter, enough to touch every partition.
const WITNESS_RATE_PER_SECOND: f64 = 20.0;
const WITNESS_KEYS: u64 = 1_000;

pub struct Bench {
    environment: Environment,
    arguments: Arguments,
    state: State,
    progress: Progress,
    not_run: Vec<NotRun>,
    failures: Vec<String>,
    noise: NoiseWatch,
    directory: TempDir,
    /// How many there were: one, unless a fault was too much for it.
    zones: u32,
}

impl Bench {
    pub fn new(arguments: Arguments, state: State) -> anyhow::Result<Self> {
        let left: Vec<(Fault, u32)> = arguments
            .plan()
            .into_iter()
            .map(|(fault, trials)| (fault, trials.saturating_sub(state.done(fault))))
            .collect();
        let environment = Environment::production();
        let directory = tempfile::Builder::new().prefix("isotherm-failover-").tempdir()?;
        if let Some(filter) = &arguments.log_filter {
            runtime::telemetry::init_logging_to(filter, &directory.path().join("failover.log"))?;
        }
        Ok(Self {
            noise: NoiseWatch::start(&environment, directory.path())?,
            environment,
            progress: Progress::new(&left),
            arguments,
            state,
            not_run: Vec::new(),
            failures: Vec::new(),
            directory,
            zones: 0,
        })
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn not_run(&self) -> &[NotRun] {
        &self.not_run
    }

    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    pub fn conditions(&self) -> Conditions {
        self.arguments.conditions()
    }

    pub fn json(&self) -> Option<&Path> {
        self.arguments.json.as_deref()
    }

    /// Removes data and logs, unless they are wanted.
    pub fn close(self, failed: bool) {
        if failed || self.arguments.keep {
            eprintln!("Logs and data are kept in {}.", self.directory.keep().display());
        }
    }

    /// All that is left to do. What goes wrong is among the failures.
    pub async fn run(&mut self) {
        let mut left: Vec<(Fault, u32)> = self.arguments.plan();
        left.retain(|(fault, trials)| self.state.done(*fault) < *trials);
        let (etcd, zone): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(fault, _)| fault.is_etcd());
        let mut zone = VecDeque::from(zone);
        self.progress.begin();
        while !zone.is_empty() {
            let outcome = match self.bring_up(&mut zone).await {
                Ok(Some(up)) => self.go_through(up, &mut zone).await,
                Ok(None) => break,
                Err(error) => {
                    self.failures.push(format!("the zone cannot be brought up: {error:#}"));
                    break;
                }
            };
            if let Err(error) = outcome {
                self.failures.push(format!("the zone: {error:#}"));
                // The fault that it did not get over is left out; the rest happens to a new zone.
                if let Some((fault, _)) = zone.pop_front() {
                    self.progress.skip(fault);
                }
            }
        }
        for timers in [Timers::Default, Timers::Tuned] {
            let some = etcd.iter().copied();
            let some: Vec<_> =
                some.filter(|(fault, _)| fault.need() == Need::Etcd(timers)).collect();
            if !some.is_empty()
                && let Err(error) = self.etcd(timers, some).await
            {
                self.failures.push(format!("etcd: {error:#}"));
            }
        }
        self.progress.end();
    }

    /// Keeps a finished trial.
    fn add(&mut self, record: TrialRecord) -> anyhow::Result<()> {
        let record = TrialRecord { machine: self.noise.take(), ..record };
        self.progress.finished(&record);
        Ok(self.state.add(record)?)
    }

    fn skip(&mut self, fault: Fault, reason: String) {
        self.progress.skip(fault);
        self.not_run.push(NotRun { fault, reason });
    }

    /// A zone in which what is planned can be done; what cannot be is taken from the plan. None: then nothing
    /// is left.
    async fn bring_up(
        &mut self,
        plan: &mut VecDeque<(Fault, u32)>,
    ) -> anyhow::Result<Option<Zone>> {
        let needed = plan.iter().any(|(fault, _)| fault.need() == Need::Namespace);
        let namespace = match needed.then(Namespace::new).transpose() {
            Ok(namespace) => namespace,
            Err(Missing(reason)) => {
                for (fault, _) in plan.iter() {
                    if fault.need() == Need::Namespace {
                        self.skip(*fault, reason.clone());
                    }
                }
                plan.retain(|(fault, _)| fault.need() != Need::Namespace);
                None
            }
        };
        if plan.is_empty() {
            return Ok(None);
        }
        self.zones += 1;
        let mut processes =
            ZoneProcesses::new(self.layout(namespace.as_ref()), Binaries::beside_this_program()?)?;
        processes.check_ports()?;
        let making = Making {
            split_keys: even_split_keys(self.arguments.partitions),
            replication_factor: 3,
            replace_after: REPLACE_AFTER,
        };
        bring_up(&self.environment, &mut processes, &making).await?;
        Ok(Some(Zone::new(&self.environment, processes, namespace).await?))
    }

    /// The zone's part, and its end. What is done is taken from the plan.
    async fn go_through(
        &mut self,
        mut zone: Zone,
        plan: &mut VecDeque<(Fault, u32)>,
    ) -> anyhow::Result<()> {
        let witness = zone
            .load(LoadOptions {
                rate_per_second: WITNESS_RATE_PER_SECOND,
                keys: WITNESS_KEYS,
                bucket: "witness".to_owned(),
                ..LoadOptions::default()
            })
            .await?;
        let outcome = self.faults(&mut zone, plan).await;
        let heard = if outcome.is_ok() { self.hear(witness).await } else { Ok(()) };
        zone.release();
        zone.processes.stop_all(GRACE).await;
        outcome.and(heard)
    }

    fn layout(&self, namespace: Option<&Namespace>) -> Layout {
        let data = self.directory.path().join(format!("zone-{}", self.zones));
        let mut layout = Layout::new(3, 5, self.arguments.base_port, data);
        // The same few nodes are lost again and again here, and each time they are to lead again.
        layout.member_arguments = quarantine_arguments();
        if let Some(filter) = &self.arguments.log_filter {
            let arguments = ["--log-filter".to_owned(), filter.clone()];
            layout.member_arguments.extend(arguments.clone());
            layout.index_node_arguments.extend(arguments);
        }
        if let Some(namespace) = namespace {
            layout.host = namespace.outside_host();
            let place = Place { host: namespace.host(), launcher: namespace.launcher() };
            layout.places.insert(Role::IndexNode(layout.index_nodes - 1), place);
        }
        layout
    }

    async fn faults(
        &mut self,
        zone: &mut Zone,
        plan: &mut VecDeque<(Fault, u32)>,
    ) -> anyhow::Result<()> {
        while let Some((fault, trials)) = plan.front().copied() {
            if fault.need() == Need::Disk
                && let Err(error) = trial::prepare_disk(zone).await
            {
                let Missing(reason) = error.downcast::<Missing>()?;
                self.skip(fault, reason);
                plan.pop_front();
                continue;
            }
            for number in self.state.done(fault) + 1..=trials {
                self.noise.take();
                let record = trial::run(zone, fault, number, self.arguments.rate).await;
                self.add(record.with_context(|| format!("{}, trial {number}", fault.title()))?)?;
            }
            plan.pop_front();
        }
        Ok(())
    }

    /// Reads back what the witness was acknowledged in all this time.
    async fn hear(&mut self, witness: RunningLoad) -> anyhow::Result<()> {
        witness.stop();
        let report = witness.finish().await?;
        let lost = trial::lost(&report);
        if lost > 0 {
            let examples = report.verification.map(|verified| verified.examples.join("; "));
            let examples = examples.unwrap_or_default();
            self.failures.push(format!("the witness: {lost} violations: {examples}"));
        }
        Ok(())
    }

    /// etcd's part, with one kind of timeouts.
    async fn etcd(&mut self, timers: Timers, plan: Vec<(Fault, u32)>) -> anyhow::Result<()> {
        let program = match etcd::program() {
            Ok(program) => program,
            Err(reason) => {
                for (fault, _) in plan {
                    self.skip(fault, reason.clone());
                }
                return Ok(());
            }
        };
        let data = self.directory.path().join(match timers {
            Timers::Default => "etcd",
            Timers::Tuned => "etcd-tuned",
        });
        let mut cluster = etcd::Cluster::start(program, timers, &data, self.arguments.base_port)?;
        for (fault, trials) in plan {
            for number in self.state.done(fault) + 1..=trials {
                self.noise.take();
                let rate = self.arguments.rate;
                let record = etcd::run(&self.environment, &mut cluster, fault, number, rate).await;
                self.add(record.with_context(|| format!("{}, trial {number}", fault.title()))?)?;
            }
        }
        Ok(())
    }
}

/// A node that comes back counts as up at once, however often it was lost.
fn quarantine_arguments() -> Vec<String> {
    ["--quarantine-min-ms", "1", "--quarantine-max-ms", "2"].map(str::to_owned).into()
}
