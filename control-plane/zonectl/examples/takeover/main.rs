//! How long a takeover takes, against how many partitions the dead node led: `make bench-takeover`.
//!
//! For each size a zone of its own (three members, five index nodes) with five times as many partitions. The
//! index node that leads most is killed with `kill -9`; at that moment one write to each of its partitions
//! begins, and retries as every client's does. Nothing else asks the zone anything, so what is measured is
//! the takeover, and the processors and the disk that all eight processes share.
//!
//! - `trial`: one loss, and when each step of what follows was done.
//! - `table`: the figures for people.

#[path = "../trials/figures.rs"]
mod figures;
mod table;
mod trial;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use runtime::seams::Environment;
use serde::Serialize;
use zonectl::{
    commands::even_split_keys,
    dev::{GRACE, Making, bring_up},
    zone_process::{Binaries, Layout, ZoneProcesses},
};

use trial::TrialRecord;

const INDEX_NODES: u32 = 5;

/// Longer than a run lasts: nothing is copied meanwhile.
const REPLACE_AFTER: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, Parser)]
#[command(
    name = "takeover",
    about = "How long a takeover takes, against how many partitions the dead node led."
)]
pub struct Arguments {
    /// How many partitions the node that is killed leads, about.
    #[arg(long, value_delimiter = ',', value_name = "COUNT,…", default_value = "10,100,1000",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    led: Vec<u32>,
    /// Losses of each size.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    trials: u32,
    /// The zones' ports start here.
    #[arg(long, default_value_t = 8_600)]
    base_port: u16,
    /// Where to write every trial as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep logs and data, and say where.
    #[arg(long)]
    keep: bool,
}

/// All trials with one number of partitions.
#[derive(Debug, Serialize)]
pub struct Size {
    /// How many partitions the dead node was to lead.
    pub led: u32,
    pub trials: Vec<TrialRecord>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("takeover: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let directory = tempfile::Builder::new().prefix("isotherm-takeover-").tempdir()?;
    let environment = Environment::production();
    let mut sizes = Vec::new();
    let mut outcome = Ok(());
    for led in arguments.led.iter().copied() {
        let data = directory.path().join(format!("zone-{led}"));
        let mut trials = Vec::new();
        outcome = size(&environment, arguments, led, data, &mut trials).await;
        sizes.push(Size { led, trials });
        if outcome.is_err() {
            break;
        }
    }
    println!("{}", table::show(&sizes));
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&sizes)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if arguments.keep || outcome.is_err() {
        eprintln!("Logs and data are kept in {}.", directory.keep().display());
    }
    outcome
}

/// A zone of this size, and its trials.
async fn size(
    environment: &Environment,
    arguments: &Arguments,
    led: u32,
    data: PathBuf,
    trials: &mut Vec<TrialRecord>,
) -> anyhow::Result<()> {
    let partitions = led * INDEX_NODES;
    eprintln!("{led} led: a zone of {partitions} partitions …");
    let mut layout = Layout::new(3, INDEX_NODES, arguments.base_port, data);
    // The same few nodes are lost again and again here, and each time they are to lead again.
    layout.member_arguments =
        ["--quarantine-min-ms", "1", "--quarantine-max-ms", "2"].map(str::to_owned).into();
    let mut processes = ZoneProcesses::new(layout, Binaries::beside_this_program()?)?;
    processes.check_ports()?;
    let making = Making {
        split_keys: even_split_keys(partitions),
        replication_factor: 3,
        replace_after: REPLACE_AFTER,
    };
    bring_up(environment, &mut processes, &making).await?;
    for number in 1..=arguments.trials {
        let record = trial::run(environment, &mut processes)
            .await
            .with_context(|| format!("{led} led, trial {number}"))?;
        eprintln!(
            "[{number}/{}] {} led: all write again after {:.0} ms",
            arguments.trials,
            record.led,
            record.last_write_ms()
        );
        for (message, count) in &record.errors {
            eprintln!("    {count} writes failed: {message}");
        }
        trials.push(record);
    }
    processes.stop_all(GRACE).await;
    Ok(())
}
