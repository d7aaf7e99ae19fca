//! From trials to rows: spreads, sums, goals met or not, and how etcd compares. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    fault::{Fault, Goal},
    figures::Spread,
    record::TrialRecord,
};

/// All trials of one fault. Times are in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub fault: Fault,
    pub trials: u32,
    pub noticed_ms: Option<Spread>,
    pub decided_ms: Option<Spread>,
    pub carried_out_ms: Option<Spread>,
    /// The fastest partition of each trial.
    pub first_again_ms: Option<Spread>,
    /// Every partition of every trial.
    pub each_again_ms: Option<Spread>,
    /// The slowest partition of each trial.
    pub last_again_ms: Option<Spread>,
    /// The slowest request of each trial.
    pub longest_wait_ms: Option<Spread>,
    /// Partitions that were given up: their times are too short.
    pub gave_up: u64,
    pub longest_pause_ms: Option<Spread>,
    pub completed: u64,
    pub failed: u64,
    pub unknown: u64,
    pub shed: u64,
    pub acknowledged_writes: u64,
    pub lost: u64,
    pub lost_examples: Vec<String>,
    /// The slowest sync of the machine's disk in each trial.
    pub slowest_sync_ms: Option<Spread>,
    /// The latest that a thread woke up in each trial.
    pub latest_wake_ms: Option<Spread>,
    /// How much of the processors' time was used, and how much was taken by others on the same host.
    pub busy_percent: Option<Spread>,
    pub stolen_percent: Option<Spread>,
    /// How often a node was called down, and how often one was suspected.
    pub called_down: u64,
    pub suspected: u64,
    /// How often, in one trial, one partition's leader changed at most.
    pub leader_changes_max: u64,
    /// How often each problem was met.
    pub errors: BTreeMap<String, u64>,
    /// Null where there is no goal.
    pub verdict: Option<Verdict>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub met: bool,
    pub text: String,
}

/// A fault of which there were no trials, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotRun {
    pub fault: Fault,
    pub reason: String,
}

/// How many times longer etcd takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    pub fault: Fault,
    pub etcd: Fault,
    pub median: f64,
    pub p99: f64,
}

/// The row of a fault; none if there were no trials of it.
pub fn row(fault: Fault, all: &[TrialRecord]) -> Option<Row> {
    let trials: Vec<&TrialRecord> = all.iter().filter(|trial| trial.fault == fault).collect();
    if trials.is_empty() {
        return None;
    }
    let spread = |of: &dyn Fn(&TrialRecord) -> Option<f64>| {
        Spread::of(trials.iter().filter_map(|trial| of(trial)).collect())
    };
    let sum = |of: &dyn Fn(&TrialRecord) -> u64| trials.iter().map(|trial| of(trial)).sum();
    let each = trials.iter().flat_map(|trial| &trial.again).map(|again| again.again_ms);
    let mut errors = BTreeMap::new();
    for error in trials.iter().flat_map(|trial| &trial.errors) {
        *errors.entry(error.message.clone()).or_default() += error.count;
    }
    let examples = trials.iter().flat_map(|trial| &trial.lost_examples);
    let gave_up = trials.iter().flat_map(|trial| &trial.again).filter(|again| again.gave_up);
    let mut row = Row {
        fault,
        trials: u32::try_from(trials.len()).unwrap_or(u32::MAX),
        noticed_ms: spread(&|trial| trial.noticed_ms),
        decided_ms: spread(&|trial| trial.decided_ms),
        carried_out_ms: spread(&|trial| trial.carried_out_ms),
        first_again_ms: spread(&TrialRecord::first_again_ms),
        each_again_ms: Spread::of(each.collect()),
        last_again_ms: spread(&TrialRecord::last_again_ms),
        longest_wait_ms: spread(&|trial| Some(trial.longest_wait_ms)),
        gave_up: gave_up.count() as u64,
        longest_pause_ms: spread(&|trial| Some(trial.longest_pause_ms)),
        slowest_sync_ms: spread(&|trial| Some(trial.machine.slowest_sync_ms)),
        latest_wake_ms: spread(&|trial| Some(trial.machine.latest_wake_ms)),
        busy_percent: spread(&|trial| Some(trial.machine.busy_percent)),
        stolen_percent: spread(&|trial| Some(trial.machine.stolen_percent)),
        completed: sum(&|trial| trial.completed),
        failed: sum(&|trial| trial.failed),
        unknown: sum(&|trial| trial.unknown),
        shed: sum(&|trial| trial.shed),
        acknowledged_writes: sum(&|trial| trial.acknowledged_writes),
        lost: sum(&|trial| trial.lost),
        called_down: sum(&TrialRecord::called_down),
        suspected: sum(&TrialRecord::suspected),
        leader_changes_max: trials
            .iter()
            .map(|trial| trial.leader_changes_max())
            .max()
            .unwrap_or(0),
        lost_examples: examples.take(20).cloned().collect(),
        errors,
        verdict: None,
    };
    row.verdict = fault.goal().map(|goal| judge(&row, goal));
    Some(row)
}

fn judge(row: &Row, goal: Goal) -> Verdict {
    let failed = row.failed;
    match goal {
        Goal::AgainWithin { p99_ms } => measured(row.each_again_ms, |again| {
            let Spread { samples, p99, .. } = again;
            let text =
                format!("{samples} partitions write again: p99 {p99:.0} ms, goal ≤ {p99_ms:.0} ms");
            Verdict { met: p99 <= p99_ms, text }
        }),
        Goal::AlwaysAgainWithin { max_ms } => measured(row.each_again_ms, |again| {
            let Spread { samples, max, .. } = again;
            let text = format!(
                "{samples} partitions write again: max {max:.0} ms, goal ≤ {max_ms:.0} ms; {failed} failed, \
                 goal 0"
            );
            Verdict { met: max <= max_ms && failed == 0, text }
        }),
        Goal::Unnoticed { wait_ms } => measured(row.longest_pause_ms, |pause| {
            let max = pause.max;
            let took = row.carried_out_ms.map_or(0.0, |took| took.max);
            let text = format!(
                "longest pause of a partition {max:.0} ms, goal ≤ {wait_ms:.0} ms; {failed} failed, goal 0; \
                 carried out in {took:.0} ms at most"
            );
            Verdict { met: max <= wait_ms && failed == 0, text }
        }),
        Goal::DecidingWithin { max_ms } => measured(row.decided_ms, |decided| {
            let max = decided.max;
            let text = format!(
                "deciding again: max {max:.0} ms, goal ≤ {max_ms:.0} ms; {failed} failed, goal 0"
            );
            Verdict { met: max <= max_ms && failed == 0, text }
        }),
        Goal::NobodyDown { leader_changes_max: most } => {
            let Row { called_down, suspected, leader_changes_max: changes, .. } = *row;
            let text = format!(
                "nodes called down {called_down} times, goal 0 (suspected {suspected} times); {changes} changes \
                 of one partition's leader at most, goal ≤ {most}; {failed} failed, goal 0"
            );
            Verdict { met: called_down == 0 && changes <= most && failed == 0, text }
        }
        Goal::NoneFailed => Verdict { met: failed == 0, text: format!("{failed} failed, goal 0") },
    }
}

fn measured(spread: Option<Spread>, judge: impl Fn(Spread) -> Verdict) -> Verdict {
    spread.map_or_else(|| Verdict { met: false, text: "nothing was measured".to_owned() }, judge)
}

/// What of a row is measured against etcd: how long writes, or decisions, were not possible.
fn outage(row: &Row) -> Option<Spread> {
    if row.fault == Fault::KillLeader { row.decided_ms } else { row.each_again_ms }
}

/// How many times longer etcd takes, for every row that there is something to compare with.
pub fn ratios(rows: &[Row]) -> Vec<Ratio> {
    let find = |fault| rows.iter().find(|row| row.fault == fault);
    let compared = rows.iter().filter_map(|row| Some((row, row.fault.etcd_rows()?)));
    let pairs = compared.flat_map(|(row, (default, tuned))| [(row, default), (row, tuned)]);
    let ratio = |(row, etcd): (&Row, Fault)| {
        let (ours, theirs) = (outage(row)?, outage(find(etcd)?)?);
        Some(Ratio {
            fault: row.fault,
            etcd,
            median: theirs.median / ours.median.max(1e-3),
            p99: theirs.p99 / ours.p99.max(1e-3),
        })
    };
    pairs.filter_map(ratio).collect()
}

/// Why the run counts as failed, in sentences.
pub fn failures(rows: &[Row]) -> Vec<String> {
    let mut failures = Vec::new();
    for row in rows.iter().filter(|row| !row.fault.is_etcd()) {
        let title = row.fault.title();
        if row.lost > 0 {
            failures.push(format!("{title}: {} violations of what was acknowledged", row.lost));
        }
        if row.fault.is_planned() && row.failed > 0 {
            failures
                .push(format!("{title}: {} failed requests, although it is planned", row.failed));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EventLine, tests::record};

    #[test]
    fn the_goal_is_of_partitions_and_the_last_of_trials() {
        let trials = [
            record(Fault::KillIndexNode, 1, &[40.0, 60.0]),
            record(Fault::KillIndexNode, 2, &[50.0, 120.0]),
            record(Fault::Drain, 1, &[]),
        ];
        let row = row(Fault::KillIndexNode, &trials).unwrap();
        assert_eq!((row.trials, row.completed), (2, 2_000));
        assert_eq!(row.first_again_ms.unwrap().max, 50.0);
        assert_eq!(row.each_again_ms.unwrap().samples, 4);
        assert_eq!(row.last_again_ms.unwrap().median, 60.0);
        let verdict = row.verdict.unwrap();
        assert!(!verdict.met);
        assert_eq!(verdict.text, "4 partitions write again: p99 120 ms, goal ≤ 100 ms");
        assert!(super::row(Fault::Leave, &trials).is_none());
    }

    #[test]
    fn a_planned_fault_may_fail_nothing_and_no_fault_may_lose_anything() {
        let mut drain = record(Fault::Drain, 1, &[]);
        let mut kill = record(Fault::KillIndexNode, 1, &[10.0]);
        kill.failed = 3;
        let rows = |trials: &[TrialRecord]| {
            Fault::all().iter().filter_map(|fault| row(*fault, trials)).collect::<Vec<Row>>()
        };
        assert!(failures(&rows(&[drain.clone(), kill.clone()])).is_empty());
        drain.failed = 1;
        kill.lost = 2;
        let failures = failures(&rows(&[drain.clone(), kill]));
        assert_eq!(failures.len(), 2);
        assert!(failures[0].contains("kill -9 index node: 2 violations"), "{failures:?}");
        assert!(failures[1].contains("1 failed requests"), "{failures:?}");
        let drained = row(Fault::Drain, &[drain]).unwrap();
        assert!(!drained.verdict.unwrap().met, "although no pause was long");
    }

    #[test]
    fn who_is_called_down_while_alive_misses_the_goal() {
        let met = |kinds: &[&str]| {
            let mut trial = record(Fault::Saturate, 1, &[]);
            trial.events = kinds
                .iter()
                .map(|kind| EventLine { kind: (*kind).to_owned(), partition_id: 7, ..line() })
                .collect();
            row(Fault::Saturate, &[trial]).unwrap().verdict.unwrap().met
        };
        assert!(met(&[]) && met(&["node-suspect", "leader-changed", "leader-changed"]));
        assert!(!met(&["node-down"]));
        assert!(!met(&["leader-changed", "leader-changed", "leader-changed"]));
    }

    fn line() -> EventLine {
        EventLine {
            after_ms: 1.0,
            kind: String::new(),
            partition_id: 0,
            node_id: 0,
            message: String::new(),
            reason: String::new(),
        }
    }

    #[test]
    fn a_goal_of_which_nothing_was_measured_is_not_met() {
        let verdict = row(Fault::KillLeader, &[record(Fault::KillLeader, 1, &[])]).unwrap().verdict;
        assert_eq!(verdict.unwrap().text, "nothing was measured");
    }

    #[test]
    fn etcd_is_measured_against_the_same_fault() {
        let mut leader = record(Fault::KillLeader, 1, &[]);
        leader.decided_ms = Some(500.0);
        let trials = [
            record(Fault::KillIndexNode, 1, &[50.0, 100.0]),
            leader,
            record(Fault::EtcdKill, 1, &[1_500.0]),
        ];
        let rows: Vec<Row> = Fault::all().iter().filter_map(|fault| row(*fault, &trials)).collect();
        let ratios = ratios(&rows);
        assert_eq!(ratios.len(), 2);
        assert_eq!((ratios[0].fault, ratios[0].etcd), (Fault::KillIndexNode, Fault::EtcdKill));
        assert_eq!((ratios[0].median, ratios[0].p99), (30.0, 15.0));
        assert_eq!((ratios[1].fault, ratios[1].median), (Fault::KillLeader, 3.0));
    }
}
