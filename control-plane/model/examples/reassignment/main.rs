//! How good the solver's assignments are, and how fast it finds them.
//!
//! ```sh
//! cargo run -p model --example reassignment                  # the table: 5, 20 and 60 seconds each
//! cargo run -p model --example reassignment -- --seconds 5   # one time limit
//! cargo run -p model --example reassignment -- --file problem.json --seconds 30
//! ```
//!
//! Other options: `--lanes 2`, `--seed 1`, and `--rounds N` instead of a time limit, which gives the same
//! result on every machine. With a time limit the last columns say how to get the same again.

mod generate;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use generate::{Shape, generate};
use model::reassignment::{
    DESCENT_ROUNDS, LowerBound, Problem, Solution, Solver, form::ProblemForm,
};

/// Bytes of a file that are read at most.
const FILE_BYTES_MAX: u64 = 1 << 30;

struct Options {
    seconds: Vec<u64>,
    rounds: Option<u32>,
    planned_rounds: Option<u32>,
    lanes: usize,
    seed: u64,
    file: Option<String>,
    only: Option<String>,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seconds: vec![5, 20, 60],
        rounds: None,
        planned_rounds: None,
        lanes: 2,
        seed: 1,
        file: None,
        only: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} {value}: not a number"));
        let small = || number().map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        match word.as_str() {
            "--seconds" => options.seconds = vec![number()?],
            "--rounds" => options.rounds = Some(small()?),
            "--planned-rounds" => options.planned_rounds = Some(small()?),
            "--lanes" => options.lanes = usize::try_from(number()?).unwrap_or(usize::MAX),
            "--seed" => options.seed = number()?,
            "--file" => options.file = Some(value),
            "--only" => options.only = Some(value),
            _ => return Err(format!("{word}: no such option")),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), String> {
    println!(
        "{:<12} {:>6} {:>8} {:>4} {:>7} {:>16} {:>16} {:>16} {:>9} {:>7} {:>7} {:>8} {:>7}",
        "problem",
        "nodes",
        "replicas",
        "res",
        "time",
        "before",
        "after",
        "lower bound",
        "gap",
        "moved",
        "rounds",
        "planned",
        "Meval/s"
    );
    if let Some(path) = &options.file {
        let length = std::fs::metadata(path).map_err(|error| format!("{path}: {error}"))?.len();
        if length > FILE_BYTES_MAX {
            return Err(format!("{path}: {length} bytes: at most {FILE_BYTES_MAX} are read"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let form: ProblemForm =
            serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
        return measure(path, &form, options);
    }
    let shapes = [
        ("small", 100, 1_000, 4, 1, 1, 65),
        ("like a2", 100, 1_000, 12, 4, 0, 60),
        ("like b1", 100, 5_000, 12, 4, 1, 70),
        ("like b4", 500, 20_000, 6, 0, 1, 80),
        ("like b10", 5_000, 50_000, 3, 0, 1, 80),
        ("large", 5_000, 50_000, 12, 2, 1, 65),
    ];
    for (name, nodes, replicas, resources, transient, balances, fill_percent) in shapes {
        if options.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let shape = Shape { nodes, replicas, resources, transient, balances, fill_percent };
        measure(name, &generate(shape, options.seed), options)?;
    }
    Ok(())
}

fn measure(name: &str, form: &ProblemForm, options: &Options) -> Result<(), String> {
    let problem = Problem::new(form).map_err(|error| format!("{name}: {error}"))?;
    if let Some(rounds) = options.rounds {
        let started = now();
        let mut solver = Solver::new(&problem, options.seed, options.lanes);
        solver.plan_rounds(options.planned_rounds.unwrap_or(rounds));
        for _ in 0..rounds {
            solver.round();
        }
        report(name, &problem, &solver.solution(), started.elapsed());
        return Ok(());
    }
    for seconds in &options.seconds {
        let limit = Duration::from_secs(*seconds);
        let started = now();
        let mut solver = Solver::new(&problem, options.seed, options.lanes);
        while started.elapsed() < limit {
            solver.round();
            // The rounds before this do not depend on the plan, so they tell how many there will be.
            if solver.rounds() <= DESCENT_ROUNDS {
                let each = started.elapsed() / solver.rounds();
                let left = limit.saturating_sub(started.elapsed()).as_nanos();
                let more = u32::try_from(left / each.as_nanos().max(1)).unwrap_or(u32::MAX / 2);
                solver.plan_rounds(solver.rounds() + more);
            }
        }
        report(name, &problem, &solver.solution(), started.elapsed());
    }
    Ok(())
}

fn report(name: &str, problem: &Problem, solution: &Solution, took: Duration) {
    let bound: LowerBound = solution.bound;
    let gap = match bound.gap_basis_points(&solution.after) {
        Some(points) => format!("{}.{:02} %", points / 100, points % 100),
        None => "-".to_owned(),
    };
    let moved = (0..problem.replica_count())
        .filter(|replica| solution.assignment.node_of(*replica) != problem.initial_node(*replica))
        .count();
    let speed = solution.evaluations as f64 / took.as_secs_f64() / 1e6;
    println!(
        "{name:<12} {:>6} {:>8} {:>4} {:>5.1} s {:>16} {:>16} {:>16} {gap:>9} {moved:>7} {:>7} {:>8} {speed:>7.2}",
        problem.node_count(),
        problem.replica_count(),
        problem.resource_count(),
        took.as_secs_f64(),
        solution.before.total(),
        solution.after.total(),
        bound.total(),
        solution.rounds,
        solution.planned_rounds,
    );
    println!("{:<12} after: {}; {}", "", solution.after, solution.violations_after);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}
