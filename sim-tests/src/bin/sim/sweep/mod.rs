//! Many runs, each in a process of its own.
//!
//! The sweep itself holds no results but what children report. It begins runs while there are some to
//! begin and the time is not over, takes in what ends, and shows everything at the end. What is done is
//! in the state file, if there is one, before it counts.

mod junit;
mod machine;
mod progress;
mod results;
mod state;
mod summary;

use std::{collections::VecDeque, io::Write as _, time::Duration};

use anyhow::Context as _;
use futures_util::{StreamExt, stream::FuturesUnordered};
use sim_tests::{
    checks::Problem,
    report::{HARNESS, Report, exit},
    shipped,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    arguments::{SweepArguments, SweepFormat, ZoneArguments},
    case::{Case, exit_code},
    child,
};
use progress::Progress;
use results::{Done, Ended, Results};
use state::State;

/// The word for all shipped scenarios.
const ALL: &str = "all";

/// How often progress is shown anew.
const TICK: Duration = Duration::from_millis(500);

/// Carries out the sweep of the command line; returns its exit code.
pub fn sweep(arguments: &SweepArguments) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the sweep's own runtime cannot be started")?;
    let results = runtime.block_on(carry_out(arguments))?;
    let text = match arguments.format {
        SweepFormat::Human => summary::human(&results, &arguments.zone),
        SweepFormat::Json => machine::json(&results, &arguments.zone)?,
        SweepFormat::Junit => junit::xml(&results, &arguments.zone),
    };
    // Nobody may be left to read it.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(results.exit_code())
}

/// The scenarios whose zones and faults are used; one that is none: those that the seeds draw.
fn scenarios(wanted: Option<&str>) -> Vec<Option<String>> {
    match wanted {
        None => vec![None],
        Some(ALL) => shipped::names().map(|name| Some(name.to_owned())).collect(),
        Some(name) => vec![Some(name.to_owned())],
    }
}

/// Everything that shall be done.
fn cases(arguments: &SweepArguments) -> Vec<Case> {
    scenarios(arguments.scenario.as_deref())
        .into_iter()
        .flat_map(|scenario| {
            arguments.seeds.0.clone().map(move |seed| Case { scenario: scenario.clone(), seed })
        })
        .collect()
}

async fn carry_out(arguments: &SweepArguments) -> anyhow::Result<Results> {
    if let Some(scenario) = arguments.scenario.as_deref().filter(|scenario| *scenario != ALL) {
        // What cannot be read is found before the first run.
        shipped::find(scenario)?;
    }
    let cases = cases(arguments);
    let build = state::build()?;
    let mut state = match &arguments.state {
        Some(path) => Some(State::open(path, &identity(arguments, &build)?)?),
        None => None,
    };
    let mut results = Results::new(arguments, build, cases.clone());
    for done in state.iter_mut().flat_map(State::take_done) {
        results.add_earlier(done);
    }
    let mut waiting: VecDeque<Case> = cases.into_iter().filter(|case| !results.has(case)).collect();
    let mut interrupts = Interrupts::new()?;
    let started = Instant::now();
    let deadline = arguments.time_limit.map(|limit| started + limit);
    let mut progress = Progress::new(&results);
    let mut running = FuturesUnordered::new();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        let time_is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        while !time_is_over && running.len() < usize::from(arguments.jobs) {
            let Some(case) = waiting.pop_front() else { break };
            running.push(run(case, &arguments.zone, arguments.seed_limit));
        }
        if running.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            () = interrupts.next() => {
                // Dropping them ends the children.
                running.clear();
                results.ended = Ended::Interrupted;
                break;
            }
            Some(done) = running.next() => {
                if let Some(state) = &mut state {
                    state.append(&done)?;
                }
                progress.note(&done, &arguments.zone);
                results.add(done, started.elapsed());
            }
            _ = ticks.tick() => {}
            () = sleep_until(deadline.unwrap_or(started)), if deadline.is_some() && !time_is_over => {}
        }
        progress.show(&results, started.elapsed());
    }
    progress.finish();
    if !waiting.is_empty() && results.ended == Ended::Finished {
        results.ended = Ended::TimeLimit;
    }
    results.wall = started.elapsed();
    Ok(results)
}

/// What has to be the same for results to be about the same.
fn identity(arguments: &SweepArguments, build: &str) -> anyhow::Result<state::Identity> {
    let mut options = arguments.zone.to_flags();
    if let Some(scenario) = &arguments.scenario {
        options.extend(["--scenario".to_owned(), scenario.clone()]);
        if scenario != ALL {
            let text = shipped::text_of(scenario)?;
            options.push(format!("{:016x}", sim_tests::trace::hash_of(text.as_bytes())));
        }
    }
    Ok(state::Identity { build: build.to_owned(), options })
}

async fn run(case: Case, zone: &ZoneArguments, limit: Duration) -> Done {
    let finished = child::run_beside_others(&case.flags(zone), limit).await;
    let scenario = case.scenario.as_deref().map(shipped::find).transpose();
    match finished.and_then(|finished| Ok((finished, scenario?))) {
        Ok((finished, scenario)) => {
            Done::new(case, exit_code(scenario.as_ref(), &finished.report), finished)
        }
        Err(error) => {
            let problem = Problem::new(HARNESS, format!("{error:#}"));
            let report = Report::broken_off(case.seed, String::new(), problem);
            let finished = child::Finished { report, wall: Duration::ZERO };
            Done::new(case, exit::HARNESS_FAILED, finished)
        }
    }
}

/// What asks the sweep to end.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Interrupts {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
