//! One run, in this process.

use std::{
    io::Write as _,
    panic,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use sim_tests::{
    checks::Problem,
    report::{Report, Verdict, exit},
    run::run,
    scenario::Scenario,
    seed::Seed,
    shipped,
    trace::{Print, Trace},
};

use super::{
    arguments::{Format, RunArguments, TraceWhat},
    case::{Case, exit_code},
};

/// Writes a report where a caller reads it.
pub fn show(report: &Report, reproduction: &str, format: Format) {
    let text = match format {
        Format::Json => {
            serde_json::to_string(report).expect("a report has only text keys and finite numbers")
        }
        Format::Human if report.verdict == Verdict::Passed => report.to_string(),
        Format::Human => format!("{report}\nto reproduce:\n  {reproduction}"),
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
        let problem = Problem::new("assertion", format!("a process panicked{place}: {message}"));
        let (trace_hash, trace_lines) = trace.digest();
        let report = Report {
            trace_hash: format!("{trace_hash:016x}"),
            trace_lines,
            marks: trace.marks(),
            recent: trace.recent(),
            ..Report::broken_off(seed.0, zone.clone(), problem)
        };
        show(&report, &again, format);
        std::process::exit(i32::from(exit::VIOLATED));
    }));
}

/// Carries out what the command line says, and shows the report.
pub fn run_one(arguments: &RunArguments) -> anyhow::Result<u8> {
    let print = match arguments.trace {
        None => Print::Nothing,
        Some(TraceWhat::Processes) => Print::Processes,
        Some(TraceWhat::Everything) => Print::Everything,
    };
    let trace = Trace::new(print);
    let scenario = arguments.scenario.as_deref().map(shipped::find).transpose()?;
    let written = scenario.as_ref().map(Scenario::seed);
    let seed = arguments.seed.map(Seed).or(written).context("clap asks for one of the two")?;
    let options = match &scenario {
        Some(scenario) => scenario.options()?,
        None => arguments.zone.options(seed),
    };
    let again =
        Case { scenario: arguments.scenario.clone(), seed: seed.0 }.reproduction(&arguments.zone);
    if let Some(bug) = arguments.zone.planted {
        planted::plant(bug).map_err(anyhow::Error::msg)?;
    }
    trace.install().context("the trace cannot be installed")?;
    report_panics(seed, options.zone.to_string(), again.clone(), arguments.format, trace.clone());
    let report = run(seed, &options, &trace);
    show(&report, &again, arguments.format);
    if arguments.zone.planted.is_some() {
        // What a scenario expects is of a zone without bugs.
        return Ok(report.exit_code());
    }
    if let Some(scenario) = &scenario
        && !scenario.is_met_by(&report)
    {
        eprintln!("sim: this is not how it was to end, which is: {}", scenario.expect);
    }
    Ok(exit_code(scenario.as_ref(), &report))
}
