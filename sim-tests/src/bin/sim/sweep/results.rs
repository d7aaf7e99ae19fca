//! What has become of a sweep so far.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sim_tests::{
    coverage::{self, Mark},
    report::{Report, exit},
};

use super::scenarios;
use crate::{arguments::SweepArguments, case::Case, child::Finished};

/// How a run ended, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Passed,
    Violated,
    Undecided,
    HarnessFailed,
}

impl Outcome {
    fn of_code(code: u8) -> Self {
        match code {
            exit::PASSED => Outcome::Passed,
            exit::VIOLATED => Outcome::Violated,
            exit::UNDECIDED => Outcome::Undecided,
            _ => Outcome::HarnessFailed,
        }
    }

    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Violated => "FAILED",
            Outcome::Undecided => "undecided",
            Outcome::HarnessFailed => "NOT CARRIED OUT",
        }
    }
}

/// A run that is done. This is also a line of the state file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    #[serde(flatten)]
    pub case: Case,
    pub outcome: Outcome,
    pub wall_ms: u64,
    pub report: Report,
}

impl Done {
    pub fn new(case: Case, code: u8, finished: Finished) -> Self {
        let Finished { mut report, wall } = finished;
        let outcome = Outcome::of_code(code);
        if outcome == Outcome::Passed {
            // Nobody reads them, and there are many.
            report.recent.clear();
        }
        Self { case, outcome, wall_ms: milliseconds(wall), report }
    }
}

pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Why the sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    Finished,
    TimeLimit,
    Interrupted,
}

/// Sums over all runs that are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub planned: usize,
    pub done: usize,
    pub passed: usize,
    pub violated: usize,
    pub undecided: usize,
    pub harness_failed: usize,
    pub operations: usize,
    pub unknown: usize,
    pub refused: usize,
    pub faults: usize,
}

pub struct Results {
    pub seeds: Range<u64>,
    pub scenarios: Vec<String>,
    pub jobs: u16,
    pub build: String,
    pub ended: Ended,
    /// How long this sweep took by the real clock.
    pub wall: Duration,
    planned: Vec<Case>,
    wanted: BTreeSet<Case>,
    done: BTreeMap<Case, Done>,
    /// How many of the runs were done in this sweep, not in an earlier part of it.
    done_now: usize,
    simulated_now: Duration,
    /// When the last run ended.
    last_at: Duration,
}

impl Results {
    pub fn new(arguments: &SweepArguments, build: String, planned: Vec<Case>) -> Self {
        Self {
            seeds: arguments.seeds.0.clone(),
            scenarios: scenarios(arguments.scenario.as_deref()).into_iter().flatten().collect(),
            jobs: arguments.jobs,
            build,
            ended: Ended::Finished,
            wall: Duration::ZERO,
            wanted: planned.iter().cloned().collect(),
            planned,
            done: BTreeMap::new(),
            done_now: 0,
            simulated_now: Duration::ZERO,
            last_at: Duration::ZERO,
        }
    }

    /// Takes in what was done before, if it is part of this sweep.
    pub fn add_earlier(&mut self, done: Done) {
        if self.wanted.contains(&done.case) {
            self.done.insert(done.case.clone(), done);
        }
    }

    /// Takes in a run that ended `at` so long after the sweep's start.
    pub fn add(&mut self, done: Done, at: Duration) {
        self.done_now += 1;
        self.simulated_now += Duration::from_millis(done.report.simulated_ms);
        self.last_at = at;
        self.done.insert(done.case.clone(), done);
    }

    pub fn has(&self, case: &Case) -> bool {
        self.done.contains_key(case)
    }

    /// All runs that are done, by scenario and seed.
    pub fn runs(&self) -> impl Iterator<Item = &Done> {
        self.done.values()
    }

    /// All that should be done, in sequence; none where it is not done.
    pub fn planned(&self) -> impl Iterator<Item = (&Case, Option<&Done>)> {
        self.planned.iter().map(|case| (case, self.done.get(case)))
    }

    pub fn failures(&self) -> impl Iterator<Item = &Done> {
        self.runs().filter(|done| done.outcome != Outcome::Passed)
    }

    /// Runs that were done by this sweep itself.
    pub fn done_now(&self) -> usize {
        self.done_now
    }

    pub fn simulated_now(&self) -> Duration {
        self.simulated_now
    }

    /// Runs a minute, over this sweep until its last run ended; none before the first.
    pub fn seeds_per_minute(&self) -> Option<f64> {
        let minutes = self.last_at.as_secs_f64() / 60.0;
        (self.done_now > 0 && minutes > 0.0).then(|| self.done_now as f64 / minutes)
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals { planned: self.planned.len(), ..Totals::default() };
        for Done { outcome, report, .. } in self.runs() {
            totals.done += 1;
            match outcome {
                Outcome::Passed => totals.passed += 1,
                Outcome::Violated => totals.violated += 1,
                Outcome::Undecided => totals.undecided += 1,
                Outcome::HarnessFailed => totals.harness_failed += 1,
            }
            totals.operations += report.operations;
            totals.unknown += report.unknown;
            totals.refused += report.refused;
            totals.faults += report.faults.len();
        }
        totals
    }

    /// How many runs reached each mark that any of them reached.
    pub fn marks(&self) -> BTreeMap<&str, usize> {
        let mut marks = BTreeMap::new();
        for mark in self.runs().flat_map(|done| &done.report.marks) {
            *marks.entry(mark.as_str()).or_default() += 1;
        }
        marks
    }

    /// The marks that no run reached.
    pub fn never_reached(&self) -> Vec<&'static Mark> {
        let reached = self.marks().keys().map(|mark| (*mark).to_owned()).collect();
        coverage::never_reached(&reached)
    }

    pub fn exit_code(&self) -> u8 {
        let totals = self.totals();
        if self.ended == Ended::Interrupted {
            exit::INTERRUPTED
        } else if totals.harness_failed > 0 {
            exit::HARNESS_FAILED
        } else if totals.violated > 0 {
            exit::VIOLATED
        } else if totals.undecided > 0 {
            exit::UNDECIDED
        } else {
            exit::PASSED
        }
    }
}
