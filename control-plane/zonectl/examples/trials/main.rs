//! Blackouts, operations and full speed on real processes under load, with figures: `make trials`. Faults of
//! single processes, links and disks are the benchmark `failover`'s.
//!
//! One zone on this machine goes through all phases; each has its own load, whose every answer and every
//! acknowledged write is verified. Exit code 1 if anything acknowledged was missing, a request failed, or
//! something moved when nothing should.
//!
//! - `blackouts`: `kill -9` of all processes at once, then a restart.
//! - `operations`: move, drain, uncordon, rebalance, re-replication; then nothing may move for a while.
//! - `throughput`: writes and reads at full speed, and processor time for each.

mod figures;
mod phases;
mod processor;
mod zone;

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use runtime::seams::Environment;
use serde::Serialize;
use zonectl::{
    commands::even_split_keys,
    dev::{GRACE, Making, bring_up},
    zone_process::{Binaries, Layout, ZoneProcesses},
};

use figures::Spread;

#[derive(Clone, Debug, Parser)]
#[command(
    about = "Blackouts, operations and full speed on real processes under load, with figures."
)]
pub struct Arguments {
    /// Trials of `kill -9` of all processes.
    #[arg(long, default_value_t = 5)]
    blackouts: u32,
    /// For how long nothing may move in the end.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "60s")]
    quiet: Duration,
    /// Requests per second under which faults happen.
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    #[arg(long, default_value_t = 16)]
    partitions: u32,
    #[arg(long, default_value_t = 7_800)]
    base_port: u16,
    #[arg(long)]
    skip_operations: bool,
    #[arg(long)]
    skip_throughput: bool,
    /// Where to write the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What one phase did to requests and data.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    pub phase: String,
    pub trials: u32,
    /// From the fault until the partition acknowledged a write that began after it, over all trials and
    /// affected partitions, in milliseconds.
    pub recovery_ms: Option<Spread>,
    /// The slowest partition of each trial.
    pub worst_ms: Option<Spread>,
    pub completed: u64,
    pub failed: u64,
    pub unknown: u64,
    pub longest_write_pause_ms: f64,
    pub violations: u64,
    pub note: String,
}

impl PhaseReport {
    fn passed(&self) -> bool {
        self.failed == 0 && self.violations == 0
    }

    fn print(&self) {
        let spread = |spread: &Option<Spread>| match spread {
            Some(spread) => spread.to_string(),
            None => "–".to_owned(),
        };
        println!(
            "{:<12} {:>3} trials | writes again, each partition: {} | slowest of a trial: {} | {} requests, \
             {} failed, {} unknown, {} violations, longest write pause {:.0} ms | {}",
            self.phase,
            self.trials,
            spread(&self.recovery_ms),
            spread(&self.worst_ms),
            self.completed,
            self.failed,
            self.unknown,
            self.violations,
            self.longest_write_pause_ms,
            self.note,
        );
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let environment = Environment::production();
    let directory = tempfile::Builder::new().prefix("isotherm-trials-").tempdir()?;
    let mut layout = Layout::new(3, 5, arguments.base_port, directory.path());
    // The same few nodes are lost again and again here.
    let at_once = ["--quarantine-min-ms", "1", "--quarantine-max-ms", "2"];
    layout.member_arguments = at_once.map(str::to_owned).into();
    let mut processes = ZoneProcesses::new(layout, Binaries::beside_this_program()?)?;
    processes.check_ports()?;
    let making = Making {
        split_keys: even_split_keys(arguments.partitions),
        replication_factor: 3,
        replace_after: Duration::from_secs(15),
    };
    bring_up(&environment, &mut processes, &making).await?;
    let outcome = phases::all(&environment, &mut processes, &arguments).await;
    processes.stop_all(GRACE).await;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("Logs and data are kept in {}.", directory.keep().display());
            return Err(error);
        }
    };
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&outcome)?)?;
    }
    let good = outcome.phases.iter().all(PhaseReport::passed) && outcome.moved.is_empty();
    if !good {
        eprintln!("Logs and data are kept in {}.", directory.keep().display());
    }
    anyhow::ensure!(good, "the zone did not keep what it promises; see above");
    Ok(())
}
