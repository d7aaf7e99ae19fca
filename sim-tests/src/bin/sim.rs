//! Simulates whole zones: one seed, or many.
//!
//! Exit codes: 0 every guarantee held; 1 one was violated; 2 the command line makes no sense; 3 a
//! history's linearizability could not be decided; 4 the simulation itself could not be carried out.
//! A sweep ends with the code of its worst run.

#[path = "sim/planted.rs"]
mod planted_bugs;

use std::{
    io::Write as _,
    ops::Range,
    panic,
    path::PathBuf,
    process::{Command, ExitCode, Output},
    str::FromStr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use planted::Bug;
use sim_tests::{
    checks::Problem,
    report::{HARNESS, Report, Verdict, exit},
    run::{RunOptions, run},
    sabotage::Sabotage,
    scenario::Scenario,
    seed::Seed,
    trace::{Print, Trace},
    zone::ZoneOptions,
};

const EXAMPLES: &str = "\
Examples:
  sim run --seed 7
  sim run --seed 7 --trace          with everything that the zone's processes log
  sim sweep --seeds 0..100 --jobs 2
  sim shrink --seed 44 --out scenarios/disk-breaks.toml
  sim run --scenario scenarios/disk-breaks.toml
  sim planted --only range-gap      in a build with planted bugs: make sim-planted

Exit codes: 0 every guarantee held; 1 one was violated; 2 the command line makes no sense; 3 a history's
linearizability could not be decided; 4 the simulation itself could not be carried out.";

/// Simulates whole zones, deterministically: the same seed is the same run.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Simulate one seed
    Run(RunArguments),
    /// Simulate many seeds, each in a process of its own
    Sweep(SweepArguments),
    /// Find the smallest schedule of faults with which a seed still fails, and write it down
    Shrink(ShrinkArguments),
    /// See whether planted bugs are found: which, by which check, after how many seeds
    Planted(planted_bugs::Arguments),
}

impl Verb {
    /// Whether it makes sense only in a build with planted bugs.
    fn wants_bugs(&self) -> bool {
        match self {
            Verb::Run(arguments) => arguments.zone.planted.is_some(),
            Verb::Sweep(arguments) => arguments.zone.planted.is_some(),
            Verb::Shrink(arguments) => arguments.zone.planted.is_some(),
            Verb::Planted(_) => true,
        }
    }
}

#[derive(Args)]
struct RunArguments {
    /// With a scenario: instead of the seed that is written there
    #[arg(long, value_name = "N", required_unless_present = "scenario")]
    seed: Option<u64>,
    /// Carry out what is written in this file; exit code 0 says that it ended as written there
    #[arg(long, value_name = "FILE", conflicts_with_all = ["members", "index_nodes",
        "partitions", "replace_after_seconds", "faults_seconds", "sabotage"])]
    scenario: Option<PathBuf>,
    /// Write what happens to standard error as it happens
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "processes")]
    trace: Option<TraceWhat>,
    #[arg(long, default_value = "human")]
    format: Format,
    #[command(flatten)]
    zone: ZoneArguments,
}

#[derive(Args)]
struct SweepArguments {
    /// First seed, and the one after the last: 0..100
    #[arg(long, value_name = "A..B")]
    seeds: Seeds,
    /// How many seeds are simulated at the same time
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    #[command(flatten)]
    zone: ZoneArguments,
}

#[derive(Args)]
struct ShrinkArguments {
    #[arg(long, value_name = "N")]
    seed: u64,
    /// Where to write the scenario [default: seed-N.toml]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    zone: ZoneArguments,
}

#[derive(Args, Clone)]
struct ZoneArguments {
    /// Members of the control plane: 1, 3 or 5 [default: drawn by the seed]
    #[arg(long, value_name = "N", value_parser = ["1", "3", "5"])]
    members: Option<String>,
    /// Index nodes [default: drawn by the seed, 3 to 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..))]
    index_nodes: Option<u32>,
    /// Partitions [default: drawn by the seed, 1 to 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=24))]
    partitions: Option<u32>,
    /// How long a node's loss lasts before its replicas are made again elsewhere [default: drawn by the
    /// seed]
    #[arg(long, value_name = "SECONDS")]
    replace_after_seconds: Option<u64>,
    /// Simulated seconds in which things go wrong
    #[arg(long, value_name = "SECONDS")]
    faults_seconds: Option<u64>,
    /// Break something on purpose, to see it found: acknowledge-before-sync
    #[arg(long, value_name = "WHAT")]
    sabotage: Option<Sabotage>,
    /// Plant this bug in the zone's processes; only in a build with planted bugs
    #[arg(long, value_name = "BUG")]
    planted: Option<Bug>,
}

#[derive(Clone, Copy, ValueEnum)]
enum TraceWhat {
    /// What the zone's processes log
    Processes,
    /// That, and each message on the network
    Everything,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

#[derive(Clone)]
struct Seeds(Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("{text:?} is not A..B with A below B");
        let (start, end) = text.split_once("..").ok_or_else(shape)?;
        let number = |part: &str| part.trim().parse::<u64>().map_err(|_| shape());
        let range = number(start)?..number(end)?;
        if range.is_empty() { Err(shape()) } else { Ok(Self(range)) }
    }
}

impl ZoneArguments {
    fn members(&self) -> Option<u32> {
        self.members.as_deref().and_then(|members| members.parse().ok())
    }

    fn options(&self, seed: Seed) -> RunOptions {
        let drawn = ZoneOptions::drawn(seed);
        let zone = ZoneOptions {
            members: self.members().unwrap_or(drawn.members),
            index_nodes: self.index_nodes.unwrap_or(drawn.index_nodes),
            partitions: self.partitions.unwrap_or(drawn.partitions),
            replace_after: self
                .replace_after_seconds
                .map_or(drawn.replace_after, Duration::from_secs),
            sabotage: self.sabotage,
            ..drawn
        };
        let usual = RunOptions::default();
        let faults_for = self.faults_seconds.map_or(usual.faults_for, Duration::from_secs);
        RunOptions { zone, faults_for, ..usual }
    }

    /// The same on another command line.
    fn to_flags(&self) -> Vec<String> {
        let numbers = [
            ("--members", self.members().map(u64::from)),
            ("--index-nodes", self.index_nodes.map(u64::from)),
            ("--partitions", self.partitions.map(u64::from)),
            ("--replace-after-seconds", self.replace_after_seconds),
            ("--faults-seconds", self.faults_seconds),
        ];
        let mut flags: Vec<String> = numbers
            .iter()
            .filter_map(|(flag, number)| Some(((*flag).to_owned(), (*number)?.to_string())))
            .flat_map(|(flag, number)| [flag, number])
            .collect();
        if let Some(sabotage) = self.sabotage {
            flags.extend(["--sabotage".into(), sabotage.name().into()]);
        }
        flags.extend(planted_bugs::flags(self.planted));
        flags
    }
}

/// The flags with which a run can be made again.
fn reproduction(seed: u64, zone: &ZoneArguments) -> String {
    let flags = zone.to_flags().join(" ");
    format!("--seed {seed} {flags}").trim_end().to_owned()
}

fn show(report: &Report, reproduction: &str, format: Format) {
    let text = match format {
        Format::Json => {
            serde_json::to_string(report).expect("a report has only text keys and finite numbers")
        }
        Format::Human if report.verdict == Verdict::Passed => report.to_string(),
        Format::Human => {
            let features = if planted::BUILT_IN { planted_bugs::FLAGS } else { "" };
            let command = format!("cargo run -p sim-tests --bin sim {features}-- run --trace");
            format!("{report}\nto reproduce:\n  {command} {reproduction}")
        }
    };
    // Nobody may be left to read it.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// A panic anywhere is a process of the zone that stopped itself: it is reported as such, at once,
/// since what it leaves behind cannot be run on.
fn report_panics(seed: Seed, zone: String, again: String, format: Format, trace: Trace) {
    let once = AtomicBool::new(false);
    panic::set_hook(Box::new(move |panicked| {
        if once.swap(true, Ordering::SeqCst) {
            return;
        }
        let message = panicked.payload_as_str().unwrap_or("without a message");
        let place = panicked.location().map_or_else(String::new, |place| format!(" at {place}"));
        let (trace_hash, trace_lines) = trace.digest();
        let report = Report {
            seed: seed.0,
            verdict: Verdict::Violated(Problem::new(
                "assertion",
                format!("a process panicked{place}: {message}"),
            )),
            trace_hash: format!("{trace_hash:016x}"),
            trace_lines,
            zone: zone.clone(),
            simulated_ms: 0,
            operations: 0,
            unknown: 0,
            refused: 0,
            faults: Vec::new(),
            recent: trace.recent(),
        };
        show(&report, &again, format);
        std::process::exit(i32::from(exit::VIOLATED));
    }));
}

fn run_one(arguments: &RunArguments) -> anyhow::Result<u8> {
    let print = match arguments.trace {
        None => Print::Nothing,
        Some(TraceWhat::Processes) => Print::Processes,
        Some(TraceWhat::Everything) => Print::Everything,
    };
    let trace = Trace::new(print);
    let mut scenario = arguments.scenario.as_deref().map(Scenario::read).transpose()?;
    if let (Some(scenario), Some(seed)) = (&mut scenario, arguments.seed) {
        scenario.seed = seed;
    }
    if let Some(bug) = arguments.zone.planted {
        planted::plant(bug).map_err(anyhow::Error::msg)?;
    }
    let (seed, options, again) = match (&scenario, &arguments.scenario) {
        (Some(scenario), Some(path)) => {
            let seed = arguments.seed.map_or_else(String::new, |seed| format!(" --seed {seed}"));
            let flags = arguments.zone.to_flags();
            let again = format!("--scenario {}{seed} {}", path.display(), flags.join(" "));
            let again = again.trim_end().to_owned();
            (scenario.seed(), scenario.options()?, again)
        }
        _ => {
            let seed = Seed(arguments.seed.context("clap asks for a seed or a scenario")?);
            (seed, arguments.zone.options(seed), reproduction(seed.0, &arguments.zone))
        }
    };
    trace.install().context("the trace cannot be installed")?;
    let zone = options.zone.to_string();
    report_panics(seed, zone, again.clone(), arguments.format, trace.clone());
    let report = run(seed, &options, &trace);
    show(&report, &again, arguments.format);
    Ok(match scenario {
        None => report.exit_code(),
        // What is written there is for a zone without bugs.
        Some(_) if arguments.zone.planted.is_some() => report.exit_code(),
        Some(scenario) if scenario.is_met_by(&report) => exit::PASSED,
        Some(scenario) => {
            eprintln!("sim: this is not how it was to end, which is: {}", scenario.expect);
            report.exit_code().max(exit::VIOLATED)
        }
    })
}

/// Runs one seed in a child process.
fn run_child(seed: u64, zone: &ZoneArguments) -> anyhow::Result<Report> {
    child(&[&["--seed".to_owned(), seed.to_string()][..], &zone.to_flags()].concat())
        .with_context(|| format!("the child of seed {seed} left no report"))
}

/// Runs a child process with these flags of `run`.
fn child(flags: &[String]) -> anyhow::Result<Report> {
    let program = std::env::current_exe().context("this program cannot be found again")?;
    let output = Command::new(program)
        .args(["run", "--format", "json"])
        .args(flags)
        .output()
        .context("a child process cannot be started")?;
    serde_json::from_slice(&output.stdout).with_context(|| remains(&output))
}

/// Shrinks what goes wrong in a run that fails, and writes it down.
fn shrink(arguments: &ShrinkArguments) -> anyhow::Result<u8> {
    let seed = arguments.seed;
    let whole = run_child(seed, &arguments.zone)?;
    let Verdict::Violated(problem) = &whole.verdict else {
        println!("{}\nThere is nothing to shrink.", whole.summary());
        return Ok(exit::PASSED);
    };
    let path = arguments.out.clone().unwrap_or_else(|| format!("seed-{seed}.toml").into());
    let options = arguments.zone.options(Seed(seed));
    let scenario = |faults: &[String]| Scenario {
        expect: problem.guarantee.clone(),
        ..Scenario::of_run(problem.sentence.clone(), seed, &options, faults.to_vec())
    };
    println!("seed {seed} violates {problem}");
    let mut runs = 0;
    let faults: Vec<String> = whole.faults.iter().map(|fault| fault.trim().to_owned()).collect();
    let smallest = sim_tests::shrink::shrink(&faults, |fewer| {
        scenario(fewer).write(&path)?;
        let mut flags = vec!["--scenario".to_owned(), path.display().to_string()];
        flags.extend(planted_bugs::flags(arguments.zone.planted));
        let report = child(&flags)?;
        let fails = scenario(fewer).is_met_by(&report);
        runs += 1;
        println!(
            "  run {runs}: {} faults: {}",
            fewer.len(),
            if fails { "fails" } else { "passes" }
        );
        Ok::<_, anyhow::Error>(fails)
    })?;
    scenario(&smallest).write(&path)?;
    println!("{} of {} faults are left after {runs} runs:", smallest.len(), faults.len());
    for fault in &smallest {
        println!("  {fault}");
    }
    println!("written to {}; to reproduce:", path.display());
    println!("  cargo run -p sim-tests --bin sim -- run --trace --scenario {}", path.display());
    Ok(exit::VIOLATED)
}

fn remains(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = text.lines().rev().take(5).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    format!("{}; {}", output.status, last.join(" / "))
}

/// What has become of a sweep so far.
#[derive(Default)]
struct Tally {
    passed: u64,
    violated: Vec<u64>,
    undecided: Vec<u64>,
    harness_failed: Vec<u64>,
}

impl Tally {
    fn add(&mut self, report: &Report) {
        match report.exit_code() {
            exit::PASSED => self.passed += 1,
            exit::VIOLATED => self.violated.push(report.seed),
            exit::UNDECIDED => self.undecided.push(report.seed),
            _ => self.harness_failed.push(report.seed),
        }
    }

    fn exit_code(&self) -> u8 {
        if !self.harness_failed.is_empty() {
            exit::HARNESS_FAILED
        } else if !self.violated.is_empty() {
            exit::VIOLATED
        } else if !self.undecided.is_empty() {
            exit::UNDECIDED
        } else {
            exit::PASSED
        }
    }
}

fn sweep(arguments: &SweepArguments) -> u8 {
    let Seeds(seeds) = &arguments.seeds;
    let next = AtomicU64::new(seeds.start);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let report = run_child(seed, &arguments.zone)
                        .unwrap_or_else(|error| no_report(seed, &format!("{error:#}")));
                    let mut tally = tally.lock().expect("a job does not panic with the tally");
                    tally.add(&report);
                    if report.verdict == Verdict::Passed {
                        println!("{}", report.summary());
                    } else {
                        let again = reproduction(seed, &arguments.zone);
                        show(&report, &again, Format::Human);
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().expect("a job does not panic with the tally");
    println!(
        "{} seeds: {} passed, violated {:?}, undecided {:?}, not carried out {:?}",
        seeds.end - seeds.start,
        tally.passed,
        tally.violated,
        tally.undecided,
        tally.harness_failed
    );
    tally.exit_code()
}

fn no_report(seed: u64, why: &str) -> Report {
    Report {
        seed,
        verdict: Verdict::Violated(Problem::new(HARNESS, why)),
        trace_hash: String::new(),
        trace_lines: 0,
        zone: String::new(),
        simulated_ms: 0,
        operations: 0,
        unknown: 0,
        refused: 0,
        faults: Vec::new(),
        recent: Vec::new(),
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if !planted::BUILT_IN && command.wants_bugs() {
        eprintln!("sim: {}", planted_bugs::NOT_BUILT_IN);
        return ExitCode::from(exit::USAGE);
    }
    let code = match command {
        Verb::Planted(arguments) => planted_bugs::table(&arguments),
        Verb::Run(arguments) => match run_one(&arguments) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("sim: {error:#}");
                exit::HARNESS_FAILED
            }
        },
        Verb::Sweep(arguments) => sweep(&arguments),
        Verb::Shrink(arguments) => match shrink(&arguments) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("sim: {error:#}");
                exit::HARNESS_FAILED
            }
        },
    };
    ExitCode::from(code)
}
