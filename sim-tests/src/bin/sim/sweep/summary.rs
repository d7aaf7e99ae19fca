//! A sweep's end for people: failures first, then what was never reached, then the sums.

use std::{fmt::Write as _, time::Duration};

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use humantime::format_duration;
use sim_tests::{
    coverage::{MARKS, Mark},
    report::{Report, Verdict},
};

use super::results::{Ended, Results};
use crate::arguments::ZoneArguments;

/// So many failures are shown whole; of the others one line each.
const WHOLE_MAX: usize = 5;

/// What a run found, in a line.
pub fn what_went_wrong(report: &Report) -> String {
    match &report.verdict {
        // Only of a scenario: it expects something else.
        Verdict::Passed => "it passed, which is not how the scenario is to end".to_owned(),
        Verdict::Violated(problem) => problem.to_string(),
        Verdict::Undecided { key } => format!("the history of {key} was not decided"),
    }
}

/// The text of a sweep's end.
pub fn human(results: &Results, zone: &ZoneArguments) -> String {
    let mut text = String::new();
    failures(&mut text, results, zone).expect("writing to a string does not fail");
    let never = results.never_reached();
    never_reached(&mut text, &never).expect("writing to a string does not fail");
    text.push_str(&sums(results, never.len()));
    text
}

fn failures(text: &mut String, results: &Results, zone: &ZoneArguments) -> std::fmt::Result {
    for (number, done) in results.failures().enumerate() {
        let again = done.case.reproduction(zone);
        let (case, word) = (&done.case, done.outcome.word());
        if number < WHOLE_MAX {
            writeln!(text, "━━━ {case}: {word}\n\n{}\nto reproduce:\n  {again}\n", done.report)?;
        } else {
            writeln!(text, "{case}: {word}: {}\n  {again}", what_went_wrong(&done.report))?;
        }
    }
    if results.failures().count() > WHOLE_MAX {
        writeln!(text)?;
    }
    Ok(())
}

fn never_reached(text: &mut String, never: &[&Mark]) -> std::fmt::Result {
    let expected: Vec<&&Mark> = never.iter().filter(|mark| mark.seldom.is_none()).collect();
    if !expected.is_empty() {
        writeln!(text, "never reached:")?;
        for Mark { name, meaning, .. } in expected {
            writeln!(text, "  {name}\n      {meaning}")?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn sums(results: &Results, never: usize) -> String {
    let totals = results.totals();
    let simulated = results.simulated_now();
    let seconds = |time: Duration| format_duration(Duration::from_secs(time.as_secs())).to_string();
    let seldom = results.never_reached().iter().filter(|mark| mark.seldom.is_some()).count();
    let speed = simulated.as_secs_f64() / results.wall.as_secs_f64().max(f64::MIN_POSITIVE);
    let earlier = totals.done - results.done_now();
    let mut rows = vec![
        (
            "seeds",
            format!(
                "{} of {} done: {} passed, {} violated, {} undecided, {} not carried out",
                totals.done,
                totals.planned,
                totals.passed,
                totals.violated,
                totals.undecided,
                totals.harness_failed
            ),
        ),
        (
            "operations",
            format!(
                "{}, of which {} unknown and {} refused; {} faults",
                totals.operations, totals.unknown, totals.refused, totals.faults
            ),
        ),
        (
            "coverage",
            format!(
                "{} of {} marks; {} were never reached that a sweep should reach, and {seldom} that it need not \
                 (`sim list marks`)",
                MARKS.len() - never,
                MARKS.len(),
                never - seldom
            ),
        ),
        (
            "wall time",
            format!(
                "{}; {:.1} seeds/min with {} at a time",
                seconds(results.wall),
                results.seeds_per_minute().unwrap_or(0.0),
                results.jobs
            ),
        ),
        ("simulated", format!("{}; {speed:.1} simulated seconds per second", seconds(simulated))),
    ];
    if earlier > 0 {
        rows.push(("before", format!("{earlier} of the seeds were done by earlier sweeps")));
    }
    match results.ended {
        Ended::Finished => {}
        Ended::TimeLimit => rows.push(("ended", "by the time limit".to_owned())),
        Ended::Interrupted => rows.push(("ended", "it was interrupted".to_owned())),
    }
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED.with_rounded_corners())
        .set_content_arrangement(ContentArrangement::Dynamic);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    table.to_string()
}
