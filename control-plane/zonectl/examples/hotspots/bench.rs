//! The phases, one after the other.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use runtime::seams::Environment;
use serde::Serialize;
use tempfile::TempDir;
use zonectl::dev::GRACE;

use crate::{
    figures::{self, Evenness, Moved, Seen, max_to_mean},
    landscape::Landscape,
    load::Load,
    noise::{MachineNoise, NoiseWatch},
    options::{Arguments, Conditions},
    progress::{Progress, SETTLING},
    settling::{Settling, at_rest_since},
    watch::{Change, Second, Watch, millis},
    zone::{Balancing, Zone},
};

const INDEX_NODES: u32 = 5;

/// The zone whose load stays as it is in the end is the last.
const ZONES: [Balancing; 3] = [Balancing::Off, Balancing::Soon, Balancing::On];

/// How long the zone may take to come to rest after the last jump.
const REST_WITHIN: Duration = Duration::from_secs(600);

/// One policy's figures, or those of a zone whose load has stopped jumping.
#[derive(Debug, Serialize)]
pub struct Phase {
    pub title: String,
    pub evenness: Evenness,
    pub moved: Moved,
    pub seen: Seen,
    /// Requests that could not begin in time, in the whole life of the zone.
    pub shed: u64,
    pub machine: MachineNoise,
    /// The best that pieces allow, at worst of all jumps.
    pub best_share: f64,
    pub seconds: Vec<Second>,
    pub changes: Vec<Change>,
}

/// A part of a zone's life.
struct Part {
    title: String,
    span: Range<u64>,
    machine: MachineNoise,
    best_share: f64,
}

pub struct Bench {
    environment: Environment,
    arguments: Arguments,
    conditions: Conditions,
    landscape: Arc<Landscape>,
    noise: NoiseWatch,
    directory: TempDir,
    progress: Progress,
    phases: Vec<Phase>,
    settling: Option<Settling>,
    errors: Vec<String>,
}

impl Bench {
    pub fn new(arguments: Arguments) -> anyhow::Result<Self> {
        let environment = Environment::production();
        let conditions = arguments.conditions(INDEX_NODES);
        let directory = tempfile::Builder::new().prefix("isotherm-hotspots-").tempdir()?;
        let landscape = Landscape::new(conditions.partitions, conditions.seed);
        Ok(Self {
            noise: NoiseWatch::start(&environment, directory.path())?,
            landscape: Arc::new(landscape.context("a zone needs partitions")?),
            progress: Progress::new(ZONES.len() as u32, conditions.lasting()),
            environment,
            arguments,
            conditions,
            directory,
            phases: Vec::new(),
            settling: None,
            errors: Vec::new(),
        })
    }

    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    pub fn settling(&self) -> Option<&Settling> {
        self.settling.as_ref()
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

    /// All of it. What goes wrong is among the failures.
    pub async fn run(&mut self) {
        for balancing in ZONES {
            if let Err(error) = self.zone(balancing).await {
                self.errors.push(format!("balancing {}: {error:#}", balancing.title()));
            }
        }
        self.progress.end();
    }

    /// What must not be.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = self.errors.clone();
        for phase in &self.phases {
            let (seen, title) = (&phase.seen, &phase.title);
            if seen.failed + phase.shed > 0 {
                failures
                    .push(format!("{title}: {} requests failed, {} shed", seen.failed, phase.shed));
            }
            if phase.title == Balancing::Off.title() && phase.moved.begun() > 0 {
                failures.push("something moved for load while balancing was off".into());
            }
        }
        if let Some(settling) = &self.settling {
            let begun = settling.moved_at_rest.begun();
            if settling.rest_after_s.is_none() {
                failures.push(format!("the zone did not come to rest within {REST_WITHIN:?}"));
            } else if begun > 0 {
                failures.push(format!("{begun} changes for load began at rest"));
            }
        }
        failures
    }

    /// The life of one zone.
    async fn zone(&mut self, balancing: Balancing) -> anyhow::Result<()> {
        let (title, lasting) = (balancing.title(), self.conditions.lasting());
        let is_last = ZONES.last() == Some(&balancing);
        self.progress.making(title);
        let data: PathBuf = self.directory.path().join(format!("{balancing:?}").to_lowercase());
        let mut zone = Zone::start(
            &self.environment,
            &self.conditions,
            &self.landscape,
            balancing,
            self.arguments.base_port,
            data,
        )
        .await?;
        // The last zone's load jumps once more at the end of its phase.
        let lasting_in_all = if is_last { 2 * lasting + REST_WITHIN } else { lasting };
        let load = Load::start(
            &self.environment,
            zone.client.clone(),
            Arc::clone(&self.landscape),
            &self.conditions,
            self.conditions.minutes,
            lasting_in_all + GRACE,
        )?;
        let endpoints = zone.processes.layout().endpoints();
        let process_ids = zone.process_ids()?;
        let mut watch = Watch::start(&self.environment, &endpoints, process_ids, load.began())?;
        let mut parts = vec![self.jumping(title, &mut watch).await?];
        if is_last {
            parts.push(self.staying(&mut watch).await?);
        }
        let (samples, shed) = load.finish().await?;
        let changes = watch.changes();
        for part in parts {
            let Part { title, span, machine, best_share } = part;
            let within = |at: u64| span.contains(&at);
            self.phases.push(Phase {
                evenness: figures::evenness(&watch.seconds, &span),
                moved: figures::moved(&changes, &span),
                seen: figures::seen(&samples, &changes, &span),
                seconds: watch.seconds.iter().filter(|it| within(it.at_ms)).cloned().collect(),
                changes: changes.iter().filter(|it| within(it.began_ms)).cloned().collect(),
                title,
                shed,
                machine,
                best_share,
            });
        }
        zone.processes.stop_all(GRACE).await;
        Ok(())
    }

    /// Watches while the hottest range jumps.
    async fn jumping(&mut self, title: &str, watch: &mut Watch) -> anyhow::Result<Part> {
        let lasting = self.conditions.lasting();
        self.progress.phase(title, lasting);
        self.noise.take();
        while watch.elapsed() < lasting {
            self.second(title, watch, Duration::ZERO, lasting).await?;
        }
        let jumps = 0..usize::try_from(self.conditions.minutes)?;
        let best = jumps.map(|jumps| self.landscape.best_share(jumps, INDEX_NODES));
        Ok(Part {
            title: title.to_owned(),
            span: 0..millis(lasting),
            machine: self.noise.take(),
            best_share: best.fold(1.0, f64::max),
        })
    }

    /// Watches from the last jump until the zone is at rest, and as long as a phase from then.
    async fn staying(&mut self, watch: &mut Watch) -> anyhow::Result<Part> {
        let (lasting, jumped_ms) = (self.conditions.lasting(), millis(self.conditions.lasting()));
        self.progress.settling("after the last jump");
        let mut rest_since = None;
        while rest_since.is_none() && watch.elapsed() < lasting + REST_WITHIN {
            self.second("after the last jump", watch, lasting, SETTLING).await?;
            rest_since = at_rest_since(&watch.seconds, &watch.changes(), jumped_ms);
        }
        if rest_since.is_some() {
            let began = watch.elapsed();
            self.progress.phase("at rest", lasting);
            while watch.elapsed() < began + lasting {
                self.second("at rest", watch, began, lasting).await?;
            }
        }
        let best_share =
            self.landscape.best_share(usize::try_from(self.conditions.minutes)?, INDEX_NODES);
        let changes = watch.changes();
        self.settling =
            Some(Settling::of(&watch.seconds, &changes, jumped_ms, rest_since, best_share));
        // Evenness is of the time at rest; before, it is told when it came.
        let span = rest_since.unwrap_or(jumped_ms)..millis(watch.elapsed());
        Ok(Part { title: "on, at rest".into(), span, machine: self.noise.take(), best_share })
    }

    /// One look.
    async fn second(
        &self,
        title: &str,
        watch: &mut Watch,
        began: Duration,
        lasting: Duration,
    ) -> anyhow::Result<()> {
        let share = max_to_mean(&watch.second().await?.utilisation);
        let elapsed = watch.elapsed().saturating_sub(began);
        self.progress.second(title, elapsed, lasting, share);
        Ok(())
    }
}
