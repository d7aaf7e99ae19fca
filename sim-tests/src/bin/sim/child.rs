//! Runs in processes of their own.

use std::{
    process::{Command, Output},
    time::Duration,
};

use anyhow::Context as _;
use sim_tests::report::Report;

/// The command line of a run whose report is wanted.
const REPORTED: [&str; 3] = ["run", "--format", "json"];

/// A child's report, and how long it took by the real clock.
pub struct Finished {
    pub report: Report,
    pub wall: Duration,
}

/// Carries out a run with these flags, and waits for it.
pub fn run(flags: &[String]) -> anyhow::Result<Finished> {
    #[expect(clippy::disallowed_methods, reason = "how long a child takes is about real time")]
    let now = std::time::Instant::now;
    let program = std::env::current_exe().context("this program cannot be found again")?;
    let started = now();
    let output = Command::new(program)
        .args(REPORTED)
        .args(flags)
        .output()
        .context("a child process cannot be started")?;
    Ok(Finished { report: report_of(&output)?, wall: now() - started })
}

/// The same beside others. Dropped before its end, it ends the child; a child that takes longer than
/// `limit` is ended as well.
pub async fn run_beside_others(flags: &[String], limit: Duration) -> anyhow::Result<Finished> {
    let program = std::env::current_exe().context("this program cannot be found again")?;
    let started = tokio::time::Instant::now();
    let running = tokio::process::Command::new(program)
        .args(REPORTED)
        .args(flags)
        .stdin(std::process::Stdio::null())
        // Ctrl-C is for the sweep, which then ends its children.
        .process_group(0)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(limit, running)
        .await
        .with_context(|| format!("it did not end within {limit:?}, and was ended"))?
        .context("a child process cannot be started")?;
    Ok(Finished { report: report_of(&output)?, wall: started.elapsed() })
}

fn report_of(output: &Output) -> anyhow::Result<Report> {
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the child left no report: {}", remains(output)))
}

/// What a child without a report said at its end.
fn remains(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = text.lines().rev().take(5).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    format!("{}; {}", output.status, last.join(" / "))
}
