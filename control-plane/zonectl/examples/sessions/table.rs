//! The figures for people. Pure.

use std::fmt::Write;

use zonectl::tables::{number, table};

use crate::{
    figures::Spread,
    trial::{TrialRecord, WINDOW_MS},
};

fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"))
}

/// The median and the worst of the trials.
fn over_trials(trials: &[TrialRecord], of: impl Fn(&TrialRecord) -> Option<f64>) -> String {
    let spread = Spread::of(trials.iter().filter_map(of).collect());
    spread.map_or_else(|| "–".to_owned(), |all| format!("{:.0}, {:.0}", all.median, all.max))
}

/// A column: its name, and its figure of one trial.
type Column = (&'static str, fn(&TrialRecord) -> Option<f64>);

const COLUMNS: [Column; 11] = [
    ("deciding", |trial| Some(trial.deciding_ms)),
    ("first session", |trial| trial.sessions.established_ms.first().copied()),
    ("median session", |trial| Some(trial.sessions.spread()?.median)),
    ("last session", |trial| Some(trial.sessions.spread()?.max)),
    ("session requests", |trial| Some(trial.sessions.session_requests_most as f64)),
    ("any requests", |trial| Some(trial.sessions.requests_most as f64)),
    ("repeated", |trial| Some(trial.sessions.repeated as f64)),
    ("suspected", |trial| Some(trial.suspected as f64)),
    ("down", |trial| Some(trial.down as f64)),
    ("calm, %", |trial| Some(trial.calm_cores * 100.0)),
    ("change, ms", |trial| Some(trial.change_processor_ms)),
];

/// The table, what its columns are, and what failed.
pub fn show(sessions: u32, trials: &[TrialRecord], failures: &[String]) -> String {
    let mut rows = table(&[&["trial"][..], &COLUMNS.map(|(name, _)| name)].concat());
    for (position, trial) in trials.iter().enumerate() {
        let figures = COLUMNS.map(|(_, of)| number(milliseconds(of(trial))));
        rows.add_row(std::iter::once(number(position + 1)).chain(figures));
    }
    let sums = COLUMNS.map(|(_, of)| number(over_trials(trials, of)));
    rows.add_row(std::iter::once(number("median, worst")).chain(sums));
    let mut text = format!(
        "{sessions} sessions. Milliseconds from `kill -9` of the control plane's leader.\n\
         {rows}\n\
         deciding: another member has committed that it leads. first, median, last session: the nodes have\n\
         a session with it. session requests, any requests: the most that it got from them in any {WINDOW_MS} ms.\n\
         repeated: nodes whose session broke again. suspected, down: nodes that the ledger called so. calm:\n\
         the leader's processor time before the loss, of one processor; change: the new leader's until the last\n\
         session.\n"
    );
    let brakes: usize = trials.iter().map(|trial| trial.brakes).sum();
    if brakes > 0 {
        let _ = writeln!(text, "The brake was engaged {brakes} times: the judge itself ran late.");
    }
    match failures {
        [] if trials.is_empty() => text.push_str("\nNo trial has ended.\n"),
        [] => text.push_str("\nEvery node had a session again, and none was taken for ill.\n"),
        failures => {
            text.push_str("\nFAILED\n");
            for failure in failures {
                let _ = writeln!(text, "  {failure}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::tests::record;

    #[test]
    fn each_trial_is_a_line_and_what_failed_is_said() {
        let mut trials = [record(&[820.0, 900.0, 1_130.4]), record(&[])];
        trials[1].deciding_ms = 990.0;
        let text = show(3, &trials, &[]);
        for part in ["1130", "–", "810, 990", "31, 31", "25, 25", "none was taken for ill"] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        trials[0].brakes = 2;
        let text = show(3, &trials, &["something was wrong".to_owned()]);
        assert!(text.contains("engaged 2 times"), "{text}");
        assert!(text.ends_with("FAILED\n  something was wrong\n"), "{text}");
        assert!(show(3, &[], &[]).ends_with("No trial has ended.\n"));
    }
}
