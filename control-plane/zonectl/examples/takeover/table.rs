//! The figures for people. Pure.

use zonectl::tables::{number, table};

use crate::{Size, figures::Spread, trial::TrialRecord};

/// Median and worst of the trials.
fn spread(trials: &[TrialRecord], of: impl Fn(&TrialRecord) -> Option<f64>) -> String {
    let spread = Spread::of(trials.iter().filter_map(of).collect());
    spread.map_or_else(|| "–".to_owned(), |all| format!("{:.0}, {:.0}", all.median, all.max))
}

/// The write at this place in the sequence of a trial's writes.
fn write(trial: &TrialRecord, place: impl Fn(&[f64]) -> Option<&f64>) -> Option<f64> {
    place(&trial.writes_ms).copied()
}

pub fn show(sizes: &[Size]) -> String {
    let mut rows = table(&[
        "led",
        "trials",
        "noticed",
        "first decided",
        "last decided",
        "first writes",
        "half write",
        "last writes",
        "failed",
    ]);
    for Size { led, trials } in sizes {
        let failed: u64 = trials.iter().map(|trial| trial.failed).sum();
        rows.add_row([
            number(led),
            number(trials.len()),
            number(spread(trials, |trial| trial.noticed_ms)),
            number(spread(trials, |trial| trial.first_decided_ms)),
            number(spread(trials, |trial| trial.last_decided_ms)),
            number(spread(trials, |trial| write(trial, |writes| writes.first()))),
            number(spread(trials, |trial| write(trial, |writes| writes.get(writes.len() / 2)))),
            number(spread(trials, |trial| write(trial, |writes| writes.last()))),
            number(failed),
        ]);
    }
    format!(
        "Milliseconds from `kill -9` of the node that leads so many partitions: median, worst of the trials.\n\
         {rows}\n\
         noticed: the ledger says that the node is down. decided: it says who leads the first, the last of\n\
         its partitions instead. writes: the first, half, the last of them acknowledge a write."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_is_a_line_and_what_was_not_seen_a_dash() {
        let trial = |last: f64| TrialRecord {
            led: 3,
            noticed_ms: Some(20.4),
            first_decided_ms: None,
            last_decided_ms: None,
            writes_ms: vec![30.0, 41.0, last],
            failed: 0,
            errors: std::collections::BTreeMap::new(),
        };
        let text = show(&[Size { led: 3, trials: vec![trial(50.0), trial(90.0)] }]);
        assert!(text.contains("50, 90") && text.contains("41, 41") && text.contains('–'), "{text}");
    }
}
