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
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Verb::Run(arguments) => run::run_one(&arguments),
        Verb::Sweep(arguments) => sweep::sweep(&arguments),
        Verb::Shrink(arguments) => shrink::shrink(&arguments),
        Verb::List(arguments) => list::list(&arguments),
        Verb::Bench(arguments) => bench::bench(&arguments),
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        eprintln!("sim: {error:#}");
        exit::HARNESS_FAILED
    }))
}
