//! `sim planted`: whether planted bugs are found, by which check, after how many seeds.
//!
//! Only in the build with planted bugs. A bug that has a scenario of its own, because it shows in a rare
//! schedule only, is looked for there, with the scenario's seed varied; every other bug in a sweep.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use planted::Bug;
use serde::Serialize;
use sim_tests::report::{Report, Verdict, exit};

use super::arguments::{Format, Seeds};

/// What has to be added to a `cargo` command for a build with planted bugs.
pub const FLAGS: &str = "--features sim-tests/planted-bugs ";

pub const NOT_BUILT_IN: &str = "this program was built without planted bugs; use `make sim-planted`, or \
    build it with `cargo build --workspace --bins --features sim-tests/planted-bugs`";

/// Seeds for a bug that has a scenario.
const SCENARIO_SEEDS_MAX: u64 = 20;

/// A child that takes longer hangs. An ordinary seed takes seconds.
const CHILD_TIME_MAX: Duration = Duration::from_secs(180);

#[derive(clap::Args)]
pub struct Arguments {
    /// First seed, and the one after the last
    #[arg(long, value_name = "A..B", default_value = "0..100")]
    seeds: Seeds,
    /// How many seeds are simulated at the same time
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Only these bugs [default: all]
    #[arg(long, value_name = "BUG", value_delimiter = ',')]
    only: Vec<Bug>,
    #[arg(long, default_value = "human")]
    format: Format,
}

/// The flags with which a child has this bug.
pub fn flags(bug: Option<Bug>) -> Vec<String> {
    bug.map_or_else(Vec::new, |bug| vec!["--planted".to_owned(), bug.name().to_owned()])
}

/// What became of one bug.
#[derive(Serialize)]
struct Row {
    bug: &'static str,
    sentence: &'static str,
    found: bool,
    /// The guarantee that was seen violated, and how.
    check: Option<String>,
    /// How many were simulated, the one that found it included.
    seeds: u64,
    /// The first seed that found it.
    seed: Option<u64>,
    scenario: Option<String>,
}

/// Where the scenario of a bug is, if it has one.
fn scenario_of(bug: Bug) -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/planted");
    Some(directory.join(format!("{bug}.toml"))).filter(|path| path.exists())
}

/// Looks for each bug, and prints what came of it as it goes.
pub fn table(arguments: &Arguments) -> u8 {
    let bugs = if arguments.only.is_empty() { Bug::ALL.to_vec() } else { arguments.only.clone() };
    let human = arguments.format == Format::Human;
    let (mut rows, mut hung) = (Vec::new(), false);
    if human {
        say(&format!("{:<30} {:<6} {:>5}  by which check", "bug", "found", "seeds"));
    }
    for bug in bugs {
        match look_for(bug, arguments) {
            Ok(row) => {
                if human {
                    say(&line(&row));
                }
                rows.push(row);
            }
            Err(error) => {
                eprintln!("sim: {bug}: {error:#}");
                hung = true;
            }
        }
    }
    let found = rows.iter().filter(|row| row.found).count();
    if human {
        say(&format!("{found} of {} planted bugs were found", rows.len()));
    } else {
        say(&serde_json::to_string(&rows).expect("rows have only text and numbers"));
    }
    match () {
        () if hung => exit::HARNESS_FAILED,
        () if found < rows.len() => exit::VIOLATED,
        () => exit::PASSED,
    }
}

fn say(line: &str) {
    // Nobody may be left to read it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn line(row: &Row) -> String {
    let found = if row.found { "yes" } else { "NO" };
    let check = row.check.as_deref().unwrap_or("by none");
    let scenario = row.scenario.as_ref().map_or("", |_| " (scenario)");
    format!("{:<30} {found:<6} {:>5}  {check}{scenario}", row.bug, row.seeds)
}

/// Simulates seed after seed until one finds the bug.
fn look_for(bug: Bug, arguments: &Arguments) -> anyhow::Result<Row> {
    let scenario = scenario_of(bug);
    let Seeds(seeds) = &arguments.seeds;
    let end = match scenario {
        Some(_) => seeds.end.min(seeds.start + SCENARIO_SEEDS_MAX),
        None => seeds.end,
    };
    let next = AtomicU64::new(seeds.start);
    // The lowest seed that found it: so the answer does not depend on how many run at once.
    let lowest = AtomicU64::new(u64::MAX);
    let outcomes: Mutex<Vec<(u64, anyhow::Result<Option<String>>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end || seed > lowest.load(Ordering::SeqCst) {
                        break;
                    }
                    let outcome = simulate(bug, seed, scenario.as_deref());
                    if !matches!(outcome, Ok(None)) {
                        lowest.fetch_min(seed, Ordering::SeqCst);
                    }
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    outcomes.push((seed, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(seed, _)| *seed);
    let mut row = Row {
        bug: bug.name(),
        sentence: bug.sentence(),
        found: false,
        check: None,
        seeds: 0,
        seed: None,
        scenario: scenario.map(|path| path.display().to_string()),
    };
    for (seed, outcome) in outcomes {
        row.seeds += 1;
        if let Some(check) = outcome.with_context(|| format!("seed {seed}"))? {
            return Ok(Row { found: true, check: Some(check), seed: Some(seed), ..row });
        }
    }
    Ok(row)
}

/// Which check found the bug in one seed; none if nothing was found.
fn simulate(bug: Bug, seed: u64, scenario: Option<&Path>) -> anyhow::Result<Option<String>> {
    let report = child(bug, seed, scenario)?;
    match (report.exit_code(), &report.verdict) {
        (exit::HARNESS_FAILED, Verdict::Violated(problem)) => {
            anyhow::bail!("the simulation could not be carried out: {}", problem.sentence)
        }
        (_, Verdict::Violated(problem)) => Ok(Some(problem.to_string())),
        (_, Verdict::Passed | Verdict::Undecided { .. }) => Ok(None),
    }
}

#[expect(clippy::disallowed_methods, reason = "a person waits, outside of any simulation")]
fn child(bug: Bug, seed: u64, scenario: Option<&Path>) -> anyhow::Result<Report> {
    let program = std::env::current_exe().context("this program cannot be found again")?;
    let mut command = Command::new(program);
    command.args(["run", "--format", "json", "--seed", &seed.to_string()]);
    command.args(flags(Some(bug)));
    if let Some(scenario) = scenario {
        command.arg("--scenario").arg(scenario);
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("a child process cannot be started")?;
    let mut stdout = child.stdout.take().context("the child has no output")?;
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > CHILD_TIME_MAX {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("it had not ended after {CHILD_TIME_MAX:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let read = reading.join().map_err(|_| anyhow::anyhow!("its output could not be read"))?;
    serde_json::from_slice(&read?).with_context(|| format!("it left no report ({status})"))
}
