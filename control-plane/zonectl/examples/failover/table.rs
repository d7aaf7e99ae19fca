//! The end of a run for people. Pure.

use std::fmt::Write;

use comfy_table::Cell;
use zonectl::tables::{number, table as new_table};

use crate::{
    fault::Fault,
    figures::Spread,
    summary::{NotRun, Ratio, Row},
};

/// All that a run has shown.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub rows: &'a [Row],
    pub not_run: &'a [NotRun],
    pub ratios: &'a [Ratio],
    pub failures: &'a [String],
}

/// Kinds of errors that are shown of a row; the JSON has all.
const ERRORS_SHOWN_MAX: usize = 5;

/// Few digits: nobody reads the rest.
fn milliseconds(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn spread(spread: Option<Spread>) -> Cell {
    match spread {
        None => number("–"),
        Some(Spread { median, p99, max, .. }) => {
            let figures = [median, p99, max].map(milliseconds);
            number(figures.join("/"))
        }
    }
}

/// Two parts of a whole, in percent.
fn share(busy: Option<Spread>, stolen: Option<Spread>) -> Cell {
    match (busy, stolen) {
        (Some(busy), Some(stolen)) => {
            number(format!("{:.0} %, {:.0} %", busy.median, stolen.median))
        }
        _ => number("–"),
    }
}

/// The tables, the goals, what was not run and why, and what failed.
pub fn show(outcome: &Outcome<'_>) -> String {
    let Outcome { rows, not_run, ratios, failures } = *outcome;
    let mut text = String::from("Milliseconds from the fault: median/p99/max.\n");
    let mut table = new_table(&[
        "fault",
        "trials",
        "noticed",
        "decided",
        "first writes",
        "last writes",
        "longest wait",
        "machine's sync",
        "busy, stolen",
        "failed",
        "unknown",
        "lost",
    ]);
    for row in rows {
        table.add_row([
            Cell::new(row.fault.title()),
            number(row.trials),
            spread(row.noticed_ms),
            spread(row.decided_ms),
            spread(row.first_again_ms),
            spread(row.last_again_ms),
            spread(row.longest_wait_ms),
            spread(row.slowest_sync_ms),
            share(row.busy_percent, row.stolen_percent),
            number(row.failed),
            number(row.unknown),
            number(row.lost),
        ]);
    }
    for NotRun { fault, .. } in not_run {
        table.add_row([Cell::new(fault.title()), number("not run")]);
    }
    let _ = writeln!(text, "{table}");
    text.push_str(
        "noticed: the ledger says that the node is suspected or down. decided: it says who leads instead.\n\
         (The control plane's leader: another member answers as leader; it has committed that it leads.)\n\
         first, last writes: the fastest and the slowest partition of a trial acknowledges a write again\n\
         that began after the fault. longest wait: the slowest request of a trial. machine's sync: the slowest\n\
         of one small file beside it, 20 times a second; what is slow there is slow for everybody. busy, stolen:\n\
         parts of the processors' time in the median trial, the second taken by others on the same host.\n\
         lost: acknowledged and not there afterwards.\n",
    );
    goals(&mut text, rows);
    comparisons(&mut text, ratios);
    if !not_run.is_empty() {
        text.push_str("\nNot run:\n");
        for NotRun { fault, reason } in not_run {
            let _ = writeln!(text, "  {}: {reason}", fault.title());
        }
    }
    problems(&mut text, rows);
    match failures {
        [] => text.push_str(
            "\nNothing that was acknowledged was lost; no planned fault had a failed request.\n",
        ),
        failures => {
            text.push_str("\nFAILED\n");
            for failure in failures {
                let _ = writeln!(text, "  {failure}");
            }
        }
    }
    text
}

fn goals(text: &mut String, rows: &[Row]) {
    let judged: Vec<_> = rows.iter().filter_map(|row| Some((row, row.verdict.as_ref()?))).collect();
    if judged.is_empty() {
        return;
    }
    let met = judged.iter().filter(|(_, verdict)| verdict.met).count();
    let _ = writeln!(text, "\nGoals: {met} of {} met", judged.len());
    for (row, verdict) in judged {
        let mark = if verdict.met { "met   " } else { "MISSED" };
        let _ = writeln!(text, "  {mark} {}: {}", row.fault.title(), verdict.text);
    }
    let calm = rows.iter().find(|row| row.fault == Fault::Nothing);
    if let Some(pause) = calm.and_then(|row| row.longest_pause_ms) {
        let _ = writeln!(
            text,
            "  (Without any fault, the longest pause of a partition was {} ms, in the median trial {} ms.)",
            milliseconds(pause.max),
            milliseconds(pause.median),
        );
    }
}

fn comparisons(text: &mut String, ratios: &[Ratio]) {
    if ratios.is_empty() {
        return;
    }
    text.push_str(
        "\netcd beside it, three members on this machine, the same load: how many times longer\n",
    );
    for Ratio { fault, etcd, median, p99 } in ratios {
        let what = if *fault == Fault::KillLeader { "decides again" } else { "writes again" };
        let _ = writeln!(
            text,
            "  {} ÷ {} ({what}): median {median:.1} ×, p99 {p99:.1} ×",
            etcd.title(),
            fault.title(),
        );
    }
}

/// Errors that requests ended with, and examples of what was lost.
fn problems(text: &mut String, rows: &[Row]) {
    for row in rows {
        if row.gave_up > 0 {
            let title = row.fault.title();
            let _ = write!(
                text,
                "\n  {title}: {} partitions acknowledged no write while they were watched",
                row.gave_up
            );
        }
        let mut errors: Vec<(&String, &u64)> = row.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (message, count) in errors.into_iter().take(ERRORS_SHOWN_MAX) {
            let _ = write!(text, "\n  {}: {count} × {message}", row.fault.title());
        }
        for example in &row.lost_examples {
            let _ = write!(text, "\n  {}: {example}", row.fault.title());
        }
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{ErrorCount, tests::record},
        summary,
    };

    #[test]
    fn it_says_what_was_measured_what_was_missed_and_what_was_not_run() {
        let mut leader = record(Fault::KillLeader, 1, &[]);
        leader.decided_ms = Some(400.0);
        leader.errors = vec![ErrorCount { message: "no answer".into(), count: 2 }];
        let trials = [
            record(Fault::KillIndexNode, 1, &[47.0, 118.0]),
            leader,
            record(Fault::EtcdKill, 1, &[1_534.0]),
        ];
        let rows: Vec<Row> =
            Fault::all().iter().filter_map(|fault| summary::row(*fault, &trials)).collect();
        let ratios = summary::ratios(&rows);
        let not_run =
            [NotRun { fault: Fault::StallDisk, reason: "mount: only root can do that".into() }];
        let failures = ["something was lost".to_owned()];
        let outcome = Outcome { rows: &rows, not_run: &not_run, ratios: &ratios, failures: &[] };
        let text = show(&outcome);
        for part in [
            "118/118/118",
            "Goals: 1 of 2 met",
            "MISSED kill -9 index node: 2 partitions write again: p99 118 ms, goal ≤ 100 ms",
            "met    kill -9 control plane's leader: deciding again: max 400 ms",
            "etcd: kill -9 leader ÷ kill -9 index node (writes again): median 32.6 ×, p99 13.0 ×",
            "disk stands still: mount: only root can do that",
            "kill -9 control plane's leader: 2 × no answer",
            "Nothing that was acknowledged was lost",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let text = show(&Outcome { failures: &failures, ..outcome });
        assert!(text.ends_with("FAILED\n  something was lost\n"), "{text}");
    }
}
