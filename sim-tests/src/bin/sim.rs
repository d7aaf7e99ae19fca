//! Simulates whole zones: one seed, or many.
//!
//! Exit codes: 0 every guarantee held; 1 one was violated; 2 the command line makes no sense; 3 a
//! history's linearizability could not be decided; 4 the simulation itself could not be carried out.
//! A sweep ends with the code of its worst run.

use std::{
    io::Write as _,
    ops::Range,
    panic,
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
use sim_tests::{
    checks::Problem,
    report::{HARNESS, Report, Verdict, exit},
    run::{RunOptions, run},
    sabotage::Sabotage,
    seed::Seed,
    trace::{Print, Trace},
};

const EXAMPLES: &str = "\
Examples:
  sim run --seed 7
  sim run --seed 7 --trace          with everything that the zone's processes log
  sim sweep --seeds 0..100 --jobs 2

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
}

#[derive(Args)]
struct RunArguments {
    #[arg(long, value_name = "N")]
    seed: u64,
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

#[derive(Args, Clone)]
struct ZoneArguments {
    /// Members of the control plane: 1, 3 or 5
    #[arg(long, value_name = "N", default_value = "3")]
    members: u32,
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(3..))]
    index_nodes: u32,
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=24))]
    partitions: u32,
    /// How long a node's loss lasts before its replicas are made again elsewhere
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    replace_after_seconds: u64,
    /// Simulated seconds in which things go wrong
    #[arg(long, value_name = "SECONDS", default_value = "20")]
    faults_seconds: u64,
    /// Break something on purpose, to see it found: acknowledge-before-sync
    #[arg(long, value_name = "WHAT")]
    sabotage: Option<Sabotage>,
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
    fn options(&self) -> RunOptions {
        let mut options = RunOptions {
            faults_for: Duration::from_secs(self.faults_seconds),
            ..RunOptions::default()
        };
        options.zone.members = self.members;
        options.zone.index_nodes = self.index_nodes;
        options.zone.partitions = self.partitions;
        options.zone.replace_after = Duration::from_secs(self.replace_after_seconds);
        options.zone.sabotage = self.sabotage;
        options
    }

    /// The same on another command line.
    fn to_flags(&self) -> Vec<String> {
        let numbers = [
            ("--members", u64::from(self.members)),
            ("--index-nodes", u64::from(self.index_nodes)),
            ("--partitions", u64::from(self.partitions)),
            ("--replace-after-seconds", self.replace_after_seconds),
            ("--faults-seconds", self.faults_seconds),
        ];
        let mut flags: Vec<String> = numbers
            .iter()
            .flat_map(|(flag, number)| [(*flag).into(), number.to_string()])
            .collect();
        if let Some(sabotage) = self.sabotage {
            flags.extend(["--sabotage".into(), sabotage.name().into()]);
        }
        flags
    }
}

fn reproduction(seed: u64, zone: &ZoneArguments) -> String {
    let flags = zone.to_flags().join(" ");
    format!("cargo run -p sim-tests --bin sim -- run --trace --seed {seed} {flags}")
}

fn show(report: &Report, zone: &ZoneArguments, format: Format) {
    let text = match format {
        Format::Json => {
            serde_json::to_string(report).expect("a report has only text keys and finite numbers")
        }
        Format::Human if report.verdict == Verdict::Passed => report.to_string(),
        Format::Human => {
            format!("{report}\nto reproduce:\n  {}", reproduction(report.seed, zone))
        }
    };
    // Nobody may be left to read it.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// A panic anywhere is a process of the zone that stopped itself: it is reported as such, at once,
/// since what it leaves behind cannot be run on.
fn report_panics(seed: u64, zone: ZoneArguments, format: Format, trace: Trace) {
    let once = AtomicBool::new(false);
    panic::set_hook(Box::new(move |panicked| {
        if once.swap(true, Ordering::SeqCst) {
            return;
        }
        let message = panicked.payload_as_str().unwrap_or("without a message");
        let place = panicked.location().map_or_else(String::new, |place| format!(" at {place}"));
        let (trace_hash, trace_lines) = trace.digest();
        let report = Report {
            seed,
            verdict: Verdict::Violated(Problem::new(
                "assertion",
                format!("a process panicked{place}: {message}"),
            )),
            trace_hash: format!("{trace_hash:016x}"),
            trace_lines,
            simulated_ms: 0,
            operations: 0,
            unknown: 0,
            refused: 0,
            faults: Vec::new(),
            recent: trace.recent(),
        };
        show(&report, &zone, format);
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
    trace.install().context("the trace cannot be installed")?;
    report_panics(arguments.seed, arguments.zone.clone(), arguments.format, trace.clone());
    let report = run(Seed(arguments.seed), &arguments.zone.options(), &trace);
    show(&report, &arguments.zone, arguments.format);
    Ok(report.exit_code())
}

/// Runs one seed in a child process.
fn run_child(seed: u64, zone: &ZoneArguments) -> anyhow::Result<Report> {
    let program = std::env::current_exe().context("this program cannot be found again")?;
    let output = Command::new(program)
        .args(["run", "--format", "json", "--seed", &seed.to_string()])
        .args(zone.to_flags())
        .output()
        .context("a child process cannot be started")?;
    let report = serde_json::from_slice(&output.stdout);
    report.with_context(|| format!("the child of seed {seed} left no report: {}", remains(&output)))
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
                        show(&report, &arguments.zone, Format::Human);
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
        simulated_ms: 0,
        operations: 0,
        unknown: 0,
        refused: 0,
        faults: Vec::new(),
        recent: Vec::new(),
    }
}

fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Verb::Run(arguments) => match run_one(&arguments) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("sim: {error:#}");
                exit::HARNESS_FAILED
            }
        },
        Verb::Sweep(arguments) => sweep(&arguments),
    };
    ExitCode::from(code)
}
