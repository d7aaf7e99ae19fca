//! `zonectl plan`, for a problem in a file; for the live zone see [`super::apply`].

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use model::reassignment::{
    DESCENT_ROUNDS, LANES_MAX, Problem, Solution, Solver, form::ProblemForm,
};
use runtime::seams::Environment;

use super::{Context, apply};
use crate::{
    arguments::PlanArguments,
    failure::Failure,
    forms::{PlanForm, SearchForm},
    plan,
    text::escape,
};

/// Characters of a message that quotes from a problem.
const QUOTED_MAX: usize = 400;
/// What a shell says of a command that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;
/// Bytes of a problem that are read at most: two million replicas need about a third of it.
const PROBLEM_BYTES_MAX: u64 = 1 << 30;

pub async fn run(context: &Context, arguments: PlanArguments) -> Result<(), Failure> {
    let Some(path) = arguments.problem.clone() else {
        return apply::plan(context, arguments.seed, arguments.effort).await;
    };
    let name = match path.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => path.display().to_string(),
    };
    // Nobody listens for Ctrl-C before there is something to be searched: until then it just ends the command.
    let problem = read(&name, &path)?;
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let environment = context.environment.clone();
    let stop = is_interrupted.clone();
    let search = tokio::task::spawn_blocking(move || {
        let effort = Effort::new(&arguments);
        let (solution, elapsed) = search(&environment, &problem, effort, &stop);
        let search = SearchForm::new(&solution, effort.lanes, effort.seed, elapsed);
        PlanForm::new(name, &problem, &solution, search)
    });
    tokio::pin!(search);
    let found = tokio::select! {
        found = &mut search => found,
        _ = tokio::signal::ctrl_c() => {
            is_interrupted.store(true, Ordering::Relaxed);
            // A round of a large problem takes seconds; whoever does not want to wait for its end asks twice.
            tokio::select! {
                found = &mut search => found,
                _ = tokio::signal::ctrl_c() => {
                    eprintln!("zonectl: ended in the middle of a round: there is no answer");
                    std::process::exit(INTERRUPTED);
                }
            }
        }
    };
    let form = found.map_err(|_| Failure::Command("the search ended with a panic".into()))?;
    let shown = context.show(&form, plan::text);
    if form.feasible {
        return shown;
    }
    let (broken, remedy) = (form.violations_after.brief(), form.violations_after.remedy());
    Err(Failure::Command(format!("the answer still breaks rules ({broken}); {remedy} would help")))
}

/// Reads a problem and checks it. `name`: what it is called in errors.
fn read(name: &str, path: &Path) -> Result<Problem, Failure> {
    let cannot = || Failure::io(format!("cannot read the problem from {name}"));
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(cannot())?)
    };
    let mut text = Vec::new();
    reader.take(PROBLEM_BYTES_MAX + 1).read_to_end(&mut text).map_err(cannot())?;
    if text.len() as u64 > PROBLEM_BYTES_MAX {
        return Err(Failure::Command(format!(
            "{name} has more than {PROBLEM_BYTES_MAX} bytes: so large a problem is not read"
        )));
    }
    let form: ProblemForm = serde_json::from_slice(&text).map_err(|error| {
        Failure::Command(format!("{name} is not a problem: {}", quoted(&error.to_string())))
    })?;
    Problem::new(&form).map_err(|error| {
        Failure::Command(format!("{name} cannot be planned for: {}", quoted(&error.to_string())))
    })
}

/// What quotes from a file, as it can be shown: its end says where it was.
fn quoted(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let text = if characters.len() > QUOTED_MAX {
        let (start, end) =
            (&characters[..QUOTED_MAX / 2], &characters[characters.len() - QUOTED_MAX / 2..]);
        start.iter().chain(&[' ', '…', ' ']).chain(end).collect()
    } else {
        text.to_owned()
    };
    escape(text.as_bytes())
}

/// How much is searched, and how.
#[derive(Clone, Copy, Debug)]
struct Effort {
    limit: Limit,
    lanes: usize,
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    Time(Duration),
    Rounds { rounds: u32, planned: u32 },
}

impl Effort {
    fn new(arguments: &PlanArguments) -> Self {
        let limit = match arguments.rounds {
            None => Limit::Time(arguments.time_limit),
            Some(rounds) => {
                let planned = arguments.planned_rounds.unwrap_or(rounds);
                Limit::Rounds { rounds: rounds.get(), planned: planned.get() }
            }
        };
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let lanes = arguments.lanes.map_or_else(processors, usize::from).min(LANES_MAX);
        Self { limit, lanes, seed: arguments.seed }
    }
}

/// Searches until the limit, or until it is told to stop: at least one round, and always whole ones. Returns how
/// long it took, too.
fn search(
    environment: &Environment,
    problem: &Problem,
    effort: Effort,
    stop: &AtomicBool,
) -> (Solution, Duration) {
    let started = environment.now();
    let elapsed = || environment.now().since(started);
    let mut solver = Solver::new(problem, effort.seed, effort.lanes);
    if let Limit::Rounds { planned, .. } = effort.limit {
        solver.plan_rounds(planned);
    }
    let bar = bar(effort.limit);
    let first_cost = solver.best_cost();
    loop {
        let weighed = solver.evaluations();
        solver.round();
        bar.set_message(message(solver.rounds(), first_cost, solver.best_cost()));
        let is_done = match effort.limit {
            Limit::Rounds { rounds, .. } => {
                bar.set_position(solver.rounds().into());
                solver.rounds() >= rounds
            }
            Limit::Time(limit) => {
                let elapsed = elapsed();
                bar.set_position(millis(elapsed.min(limit)));
                if solver.rounds() <= DESCENT_ROUNDS {
                    solver.plan_rounds(rounds_within(solver.rounds(), elapsed, limit));
                }
                // With the rounds that were done it comes out the same.
                let is_in_vain = solver.is_at_bound() || solver.evaluations() == weighed;
                elapsed >= limit || is_in_vain
            }
        };
        if is_done || stop.load(Ordering::Relaxed) {
            break;
        }
    }
    bar.finish_and_clear();
    (solver.solution(), elapsed())
}

/// How many rounds there will be within the limit, if they go on taking as long as those that are done.
fn rounds_within(done: u32, elapsed: Duration, limit: Duration) -> u32 {
    let each = elapsed.as_nanos() / u128::from(done.max(1));
    let left = limit.saturating_sub(elapsed).as_nanos();
    done.saturating_add(u32::try_from(left / each.max(1)).unwrap_or(u32::MAX / 2))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A bar on a terminal only: what is piped somewhere gets the answer and nothing else.
fn bar(limit: Limit) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let length = match limit {
        Limit::Time(limit) => millis(limit),
        Limit::Rounds { rounds, .. } => rounds.into(),
    };
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{bar:24} {percent:>3} %, {eta} left: {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn message(rounds: u32, before: i64, now: i64) -> String {
    let change = plan::change(before, now);
    format!("round {rounds}, cost {now}{change}; Ctrl-C ends it with what it has, twice at once")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_foreseen_from_those_that_are_done() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(rounds_within(2, second, minute), 2 + 118);
        assert_eq!(rounds_within(1, 2 * minute, minute), 1);
        assert_eq!(rounds_within(1, Duration::ZERO, Duration::MAX), 1 + u32::MAX / 2);
    }

    #[test]
    fn a_search_ends_where_nothing_more_can_be_had() {
        let text = r#"{ "version": 1, "resources": [{ "name": "bytes", "load_weight": 1 }],
            "nodes": [{ "name": "a", "fault_domain": "a", "capacity": [9], "target": [5] },
                { "name": "b", "fault_domain": "b", "capacity": [9], "target": [5] }],
            "groups": [{ "name": "g" }, { "name": "h" }],
            "replicas": [{ "name": "g/1", "group": "g", "node": "a", "demand": [4] },
                { "name": "h/1", "group": "h", "node": "a", "demand": [4] }] }"#;
        let problem = Problem::new(&serde_json::from_str(text).unwrap()).unwrap();
        let never = AtomicBool::new(false);
        let hour = Duration::from_secs(3_600);
        let effort = Effort { limit: Limit::Time(hour), lanes: 1, seed: 1 };
        let (solution, elapsed) = search(&Environment::production(), &problem, effort, &never);
        assert_eq!((solution.before.total(), solution.after.total()), (3, 0));
        assert!(elapsed < hour, "it is at its bound after {} rounds", solution.rounds);
    }

    #[test]
    fn what_a_file_says_is_shown_in_part_and_does_nothing() {
        assert_eq!(quoted("unknown field `a`"), "unknown field `a`");
        assert_eq!(quoted("\u{1b}[2J\nall is well"), "\\x1b[2J\\x0aall is well");
        let long = quoted(&format!("unknown field `{}` at line 7", "x".repeat(100_000)));
        assert!(long.starts_with("unknown field `xx") && long.ends_with("xx` at line 7"));
        assert_eq!(long.chars().count(), QUOTED_MAX + 3);
    }

    #[test]
    fn the_live_line_says_what_has_been_gained() {
        assert!(message(7, 200, 150).starts_with("round 7, cost 150 (−25.0 %)"));
    }
}
