//! `zonectl demo`: a zone on this machine, real input, real faults, and proof that nothing was lost.
//!
//! - [`input`]: the files of a directory tree as index entries.
//! - [`workload`]: fills the index, and keeps reading, writing, overwriting and deleting.
//! - [`ledger`]: what the index must hold; [`verify`]: whether it does.
//! - [`stage`]: the zone with its traffic; [`faults`]: what is done to it, one after the other.
//! - [`display`]: progress for people; [`report`]: the table in the end, and the judgement.

mod display;
mod faults;
mod input;
mod ledger;
mod report;
mod stage;
mod verify;
mod workload;

use std::{path::PathBuf, time::Duration};

use clap::Args;

use self::{display::Display, report::Report, stage::Stage};
use crate::{
    commands::Context,
    dev::{GRACE, Making, bring_up},
    failure::Failure,
    zone_process::{Binaries, Layout, ZoneProcesses},
};

/// `zonectl demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArguments {
    /// The directory tree whose files are indexed.
    #[arg(default_value = "/usr")]
    pub tree: PathBuf,
    /// Entries at least; what the tree lacks is generated.
    #[arg(long, default_value_t = 20_000)]
    pub keys_min: usize,
    /// Entries at most.
    #[arg(long, default_value_t = 150_000)]
    pub keys_max: usize,
    /// Requests per second that go on while faults happen.
    #[arg(long, default_value_t = 600.0)]
    pub rate: f64,
    /// For how long the whole control plane is down.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    pub outage: Duration,
    /// Index nodes, each in a rack of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(4..=20))]
    pub index_nodes: u32,
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub partitions: u32,
    /// The first of the zone's ports.
    #[arg(long, value_name = "P", default_value_t = 7_700, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub base_port: u16,
    /// Where the zone lives. Default: a temporary directory, kept only if something was wrong.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Drop one acknowledged write on purpose: the verification must notice.
    #[arg(long)]
    pub sabotage: bool,
}

/// Runs the demo.
///
/// # Errors
/// If the zone cannot be run, or something that the demo promises did not hold.
pub async fn run(context: &Context, arguments: &DemoArguments) -> Result<(), Failure> {
    if arguments.keys_min > arguments.keys_max {
        return Err(Failure::Usage("--keys-min is more than --keys-max".into()));
    }
    let started = context.environment.now();
    let display = Display::new(context.environment.clone());
    display.phase(&format!("reading {}", arguments.tree.display()));
    let tree = arguments.tree.clone();
    let (least, most) = (arguments.keys_min, arguments.keys_max);
    let input = tokio::task::spawn_blocking(move || input::read(&tree, least, most))
        .await
        .map_err(|error| Failure::Command(format!("the tree could not be read: {error}")))?;
    if input.skipped > 0 {
        display.note(&format!("{} entries could not be read and are left out", input.skipped));
    }
    if input.generated > 0 {
        display.note(&format!(
            "{} has {} files; {} entries are generated",
            arguments.tree.display(),
            input.entries.len() - input.generated,
            input.generated
        ));
    }

    let temporary = tempfile::Builder::new()
        .prefix("isotherm-demo-")
        .tempdir()
        .map_err(Failure::io("cannot make a temporary directory"))?;
    let data = match &arguments.data {
        Some(data) => std::path::absolute(data)
            .map_err(Failure::io(format!("cannot use the directory {}", data.display())))?,
        None => temporary.path().to_owned(),
    };
    let layout = Layout::new(3, arguments.index_nodes, arguments.base_port, data.clone());
    let mut zone = ZoneProcesses::new(layout, Binaries::beside_this_program()?)?;
    zone.check_ports()?;
    let making = Making {
        split_keys: input.split_keys(arguments.partitions as usize),
        replication_factor: 3,
        replace_after: Duration::from_secs(60),
    };

    let outcome = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(Failure::Command("interrupted".into())),
        outcome = async {
            display.phase("bringing a zone up");
            bring_up(&context.environment, &mut zone, &making).await?;
            let mut stage = Stage::new(&context.environment, &mut zone, &display).await?;
            stage.play(arguments, input, started).await
        } => outcome,
    };
    display.finish();
    zone.stop_all(GRACE).await;
    let passed = matches!(&outcome, Ok(report) if report.passed);
    if !passed && arguments.data.is_none() {
        let kept = temporary.keep();
        eprintln!("Logs and data are kept in {}.", kept.display());
    }
    let report = outcome?;
    context.show(&report, Report::table)?;
    if report.passed {
        Ok(())
    } else {
        Err(Failure::Command("the zone did not keep what it promises; see above".into()))
    }
}
