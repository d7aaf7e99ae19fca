//! A live zone whose hottest range jumps every minute: `make bench-balance`.
//!
//! A zone of its own for each policy, on real processes and made alike: balancing off, on, and on with a policy that
//! acts sooner. Clients ask it for keys whose ranges are popular by Zipf's law, at a steady rate; every minute all
//! that is hot is elsewhere. In the last zone it jumps once more and stays: then the zone has to become even, and
//! nothing may move any more.
//!
//! Utilisation is processor time against a node's configured cores: as the control plane knows it, of requests and
//! of applying them, in averages with a half-life of 10 s, which the balancer goes by, too; and for a second opinion
//! as the kernel counts it for each process, without averages and with all that a process does beside that.
//!
//! - `landscape`: which keys are hot, and when.
//! - `load`: the clients. `watch`: what the zone does meanwhile.
//! - `zone`: one zone and its policy. `bench`: the phases.
//! - `figures`, `settling`: from what was seen to figures. `table`: the figures for people.
//!
//! **Invariants.** Only processes that this program started are ever signalled, by their ids; they die with it. All
//! traffic is on 127.0.0.1, and every phase has an end.

mod bench;
mod figures;
mod landscape;
mod load;
#[path = "../failover/noise.rs"]
mod noise;
mod options;
#[path = "../trials/processor.rs"]
mod processor;
mod progress;
mod settling;
mod table;
mod watch;
mod zone;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use bench::{Bench, Phase};
use options::{Arguments, Conditions};
use settling::Settling;

const FAILED: u8 = 1;
const INTERRUPTED: u8 = 130;

/// `--json`.
#[derive(Serialize)]
struct Report<'a> {
    conditions: &'a Conditions,
    phases: &'a [Phase],
    settling: Option<&'a Settling>,
    failures: &'a [String],
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut bench = match Bench::new(Arguments::parse()) {
        Ok(bench) => bench,
        Err(error) => {
            eprintln!("hotspots: {error:#}");
            return ExitCode::from(FAILED);
        }
    };
    // Dropping what runs ends every process.
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
            eprintln!("hotspots: {error:#}");
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
    let failures = bench.failures();
    println!("{}", table::show(bench.conditions(), bench.phases(), bench.settling(), &failures));
    if let Some(path) = bench.json() {
        let report = Report {
            conditions: bench.conditions(),
            phases: bench.phases(),
            settling: bench.settling(),
            failures: &failures,
        };
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    anyhow::ensure!(failures.is_empty(), "the run has failed; see above");
    Ok(())
}
