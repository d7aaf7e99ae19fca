//! Failover on real processes under a steady load, many times over, with etcd beside it:
//! `make bench-failover`.
//!
//! One zone on this machine (three members, five index nodes) lives through all of it. In each trial a load
//! of its own runs, one fault happens, is undone, and the zone becomes healthy again; then every key of the
//! load is read back. A *witness*, a small load beside it that lasts through all trials, is read back in the
//! end: what was acknowledged in the first trial must have survived the last one. Then the zone is stopped
//! and etcd goes through the same.
//!
//! - `fault`: what is done, how often, and what the goal is.
//! - `trial`, `strike`, `probe`, `events`: one trial in the zone, and what is measured in it.
//! - `noise`: what the machine did to everybody meanwhile.
//! - `sandbox`: what needs privileges. What is missing is named, and the row stays empty.
//! - `etcd`: the same with etcd.
//! - `record`, `state`: finished trials; with `--state` they survive, and the next run goes on.
//! - `summary`, `table`: from trials to figures, goals and ratios.
//!
//! **Invariants.** Only processes that this program started are ever signalled, by their ids. Nothing that
//! it made outlives it: processes die with it, namespaces and mounts are removed by a caretaker. A fault that a
//! zone does not get over counts as a failure, and the rest happens to a new zone.

mod bench;
mod etcd;
mod events;
mod fault;
#[path = "../trials/figures.rs"]
mod figures;
mod noise;
mod options;
mod probe;
mod progress;
mod record;
mod sandbox;
mod state;
mod strike;
#[path = "../trials/succession.rs"]
mod succession;
mod summary;
mod table;
mod trial;
mod zone;

use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use bench::Bench;
use options::{Arguments, Conditions};
use record::TrialRecord;
use state::State;
use summary::{NotRun, Ratio, Row};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;

/// `--json`.
#[derive(Serialize)]
struct Report<'a> {
    conditions: Conditions,
    rows: &'a [Row],
    ratios: &'a [Ratio],
    not_run: &'a [NotRun],
    failures: &'a [String],
    trials: &'a [TrialRecord],
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let state = match State::open(arguments.state.as_deref(), &arguments.conditions()) {
        Ok(state) => state,
        Err(error) => {
            eprintln!("failover: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let mut bench = match Bench::new(arguments, state) {
        Ok(bench) => bench,
        Err(error) => {
            eprintln!("failover: {error:#}");
            return ExitCode::from(FAILED);
        }
    };
    // Dropping what runs ends every process and undoes every fault.
    let interrupted = tokio::select! {
        biased;
        () = interruption() => true,
        () = bench.run() => false,
    };
    if interrupted {
        eprintln!("\nInterrupted. What there is so far:");
    }
    let code = match report(&bench) {
        Ok(()) if interrupted => INTERRUPTED,
        Ok(()) => 0,
        Err(error) => {
            eprintln!("failover: {error:#}");
            FAILED
        }
    };
    bench.close(code == FAILED);
    ExitCode::from(code)
}

/// Ctrl-C, or SIGTERM.
async fn interruption() {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        // Then the default of the signals ends this program, and with it everything else.
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Prints what there is, writes the JSON, and fails if the run has failed.
fn report(bench: &Bench) -> anyhow::Result<()> {
    let trials = bench.state().trials();
    let all = fault::Fault::all().iter();
    let rows: Vec<Row> = all.filter_map(|fault| summary::row(*fault, trials)).collect();
    let ratios = summary::ratios(&rows);
    let mut failures = summary::failures(&rows);
    failures.extend(bench.failures().iter().cloned());
    let outcome = table::Outcome {
        rows: &rows,
        not_run: bench.not_run(),
        ratios: &ratios,
        failures: &failures,
    };
    println!("{}", table::show(&outcome));
    if let Some(path) = bench.json() {
        let report = Report {
            conditions: bench.conditions(),
            rows: &rows,
            ratios: &ratios,
            not_run: bench.not_run(),
            failures: &failures,
            trials,
        };
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    anyhow::ensure!(failures.is_empty(), "the run has failed; see above");
    Ok(())
}
