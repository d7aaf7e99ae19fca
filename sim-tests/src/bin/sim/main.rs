//! Simulates whole zones: one seed, or many.
//!
//! Exit codes: 0 every guarantee held; 1 one was violated; 2 the command line makes no sense; 3 a
//! history's linearizability could not be decided; 4 the simulation itself could not be carried out;
//! 130 a sweep was interrupted. A sweep ends with the code of its worst run: 4, then 1, then 3.

mod arguments;
mod bench;
mod case;
mod child;
mod list;
mod planted_bugs;
mod run;
mod shrink;
mod sweep;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sim_tests::report::exit;

use arguments::{BenchArguments, ListArguments, RunArguments, ShrinkArguments, SweepArguments};

const EXAMPLES: &str = "\
Examples:
  sim run --seed 7
  sim run --seed 7 --trace          with everything that the zone's processes log
  sim sweep --seeds 0..100 --jobs 2
  sim shrink --seed 44 --out sim-tests/scenarios/disk-breaks.toml
  sim run --scenario lost-for-good
  sim list scenarios
  sim bench
  sim planted --only range-gap      in a build with planted bugs: make sim-planted

Exit codes: 0 every guarantee held; 1 one was violated; 2 the command line makes no sense; 3 a history's
linearizability could not be decided; 4 the simulation itself could not be carried out; 130 a sweep was
interrupted. A sweep ends with the code of its worst run: 4, then 1, then 3.";

/// Simulates whole zones, deterministically: the same seed is the same run.
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Simulate one seed, or a scenario
    Run(RunArguments),
    /// Simulate many seeds, each in a process of its own
    Sweep(SweepArguments),
    /// Find the smallest schedule of faults with which a seed still fails, and write it down
    Shrink(ShrinkArguments),
    /// Show the scenarios, the faults, the coverage marks and what can be broken on purpose
    List(ListArguments),
    /// Measure how fast zones are simulated here
    Bench(BenchArguments),
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
            Verb::List(_) | Verb::Bench(_) => false,
            Verb::Planted(_) => true,
        }
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if !planted::BUILT_IN && command.wants_bugs() {
        eprintln!("sim: {}", planted_bugs::NOT_BUILT_IN);
        return ExitCode::from(exit::USAGE);
    }
    let done = match command {
        Verb::Run(arguments) => run::run_one(&arguments),
        Verb::Sweep(arguments) => sweep::sweep(&arguments),
        Verb::Shrink(arguments) => shrink::shrink(&arguments),
        Verb::List(arguments) => list::list(&arguments),
        Verb::Bench(arguments) => bench::bench(&arguments),
        Verb::Planted(arguments) => Ok(planted_bugs::table(&arguments)),
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        eprintln!("sim: {error:#}");
        exit::HARNESS_FAILED
    }))
}
