//! A thousand real sessions and a change of the control plane's leader: `make bench-sessions`.
//!
//! Three control-plane processes on this machine, and in this one process as many index nodes' agents as
//! asked for: the agent that the server `index-node` runs, over real connections. In each trial the leader is
//! killed with `kill -9`, and what follows is watched from the nodes' side: when another member decides, when
//! each node has a session with it, how the requests for that were spread, and whether a node was taken for
//! ill that was not.
//!
//! - `node`: one node: the agent, what it reports of, and nothing else. `peers`: how groups' messages get
//!   from node to node. `nodes`: all of them, and what is seen of their sessions.
//! - `requests`: when which node asked which member, seen on its connections.
//! - `zone`: the control plane's processes. `trial`: one loss of its leader.
//! - `crowd`, `table`: from moments to figures, and the figures for people.
//! - `descriptors`: as many open files as it takes.
//!
//! It is deliberately no benchmark of index nodes: their disks are in memory, their groups' messages do not
//! leave the process, and clients ask them nothing.

mod crowd;
mod descriptors;
#[path = "../trials/figures.rs"]
mod figures;
mod node;
mod nodes;
mod options;
mod peers;
#[path = "../trials/processor.rs"]
mod processor;
mod requests;
#[path = "../trials/succession.rs"]
mod succession;
mod table;
mod trial;
mod zone;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use runtime::seams::Environment;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use options::Arguments;
use trial::TrialRecord;
use zone::Zone;

const FAILED: u8 = 1;
const INTERRUPTED: u8 = 130;

/// `--json`.
#[derive(Serialize)]
struct Report<'a> {
    sessions: u32,
    partitions: u32,
    cores: usize,
    version: &'a str,
    failures: &'a [String],
    trials: &'a [TrialRecord],
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut trials = Vec::new();
    // Dropping what runs ends every process.
    let ended = tokio::select! {
        biased;
        () = interruption() => None,
        ended = run(&arguments, &mut trials) => Some(ended),
    };
    let mut failures = trial::failures(&trials);
    let code = match ended {
        Some(Ok(())) => 0,
        Some(Err(error)) => {
            failures.push(format!("{error:#}"));
            FAILED
        }
        None => {
            eprintln!("\nInterrupted. What there is so far:");
            INTERRUPTED
        }
    };
    println!("{}", table::show(arguments.sessions, &trials, &failures));
    if let Err(error) = write_json(&arguments, &trials, &failures) {
        eprintln!("sessions: {error:#}");
        return ExitCode::from(FAILED);
    }
    ExitCode::from(if code == 0 && !failures.is_empty() { FAILED } else { code })
}

async fn run(arguments: &Arguments, trials: &mut Vec<TrialRecord>) -> anyhow::Result<()> {
    descriptors::raise(arguments.sessions)?;
    let directory = tempfile::Builder::new().prefix("isotherm-sessions-").tempdir()?;
    let outcome = run_in(directory.path(), arguments, trials).await;
    if arguments.keep || outcome.is_err() {
        eprintln!("Logs and data are kept in {}.", directory.keep().display());
    }
    outcome
}

/// A zone with its data in this directory, and all trials.
async fn run_in(
    directory: &std::path::Path,
    arguments: &Arguments,
    trials: &mut Vec<TrialRecord>,
) -> anyhow::Result<()> {
    let environment = Environment::production();
    let mut zone = Zone::start(&environment, arguments, directory.join("zone")).await?;
    let nodes = zone.join(arguments.sessions).await?;
    let all = arguments.trials();
    for number in 1..=all {
        let record = trial::run(&mut zone, &nodes)
            .await
            .with_context(|| format!("trial {number} of {all}"))?;
        eprintln!("[{number}/{all}] {}", record.gist());
        trials.push(record);
    }
    drop(nodes);
    zone.stop().await;
    Ok(())
}

fn write_json(
    arguments: &Arguments,
    trials: &[TrialRecord],
    failures: &[String],
) -> anyhow::Result<()> {
    let Some(path) = &arguments.json else { return Ok(()) };
    let report = Report {
        sessions: arguments.sessions,
        partitions: arguments.partitions,
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        version: env!("CARGO_PKG_VERSION"),
        failures,
        trials,
    };
    std::fs::write(path, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("cannot write {}", path.display()))
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
