//! What the demo says in the end.

use std::time::Duration;

use comfy_table::{Cell, Color};
use serde::Serialize;

use super::{ledger::Differences, workload::Counts};
use crate::{
    tables::{number, table},
    text::show_duration,
};

/// The longest that an affected partition may take to acknowledge writes again.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

/// One fault and what it cost.
#[derive(Clone, Debug, Serialize)]
pub struct FaultReport {
    pub fault: String,
    /// Partitions whose leader was hit, or all where the control plane was.
    pub affected_partitions: usize,
    /// From the fault until the last of them acknowledged a write that began after it; none: not within
    /// the limit of the client.
    pub recovered_ms: Option<u64>,
    pub failed: u64,
    pub unknown: u64,
    /// The longest that any one request took while the fault lasted.
    pub longest_request_ms: u64,
    /// What ended it, in words.
    pub note: String,
}

impl FaultReport {
    fn passed(&self) -> bool {
        self.failed == 0
            && self.recovered_ms.is_some_and(|ms| Duration::from_millis(ms) <= RECOVERY_LIMIT)
    }
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub passed: bool,
    pub keys: usize,
    pub generated_keys: usize,
    pub partitions: usize,
    pub fill_seconds: f64,
    pub fill_writes_per_second: f64,
    pub faults: Vec<FaultReport>,
    pub reads: u64,
    pub writes: u64,
    pub failed: u64,
    pub unknown: u64,
    /// Answers during the run that contradicted what had been acknowledged.
    pub wrong_answers: u64,
    pub verification: Verification,
    pub seconds: f64,
    /// The first few failures and wrong answers, in words.
    pub failures: Vec<String>,
}

/// Listing and values against what was recorded.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    pub compared: usize,
    pub unknown: usize,
    pub missing: usize,
    pub different: usize,
    pub unexpected: usize,
    /// The first few keys that are not right.
    pub examples: Vec<String>,
}

impl From<&Differences> for Verification {
    fn from(differences: &Differences) -> Self {
        let named = [
            ("missing", &differences.missing),
            ("different", &differences.different),
            ("unexpected", &differences.unexpected),
        ];
        let examples = named
            .iter()
            .flat_map(|(what, keys)| {
                keys.iter().take(3).map(move |key| format!("{what}: {}", key.escape_ascii()))
            })
            .collect();
        Self {
            compared: differences.compared,
            unknown: differences.unknown,
            missing: differences.missing.len(),
            different: differences.different.len(),
            unexpected: differences.unexpected.len(),
            examples,
        }
    }
}

impl Report {
    /// Whether everything that the demo promises held.
    pub fn judge(faults: &[FaultReport], counts: Counts, verification: &Verification) -> bool {
        faults.iter().all(FaultReport::passed)
            && counts.failed == 0
            && counts.wrong == 0
            && verification.holds()
    }

    /// For people.
    pub fn table(&self) -> String {
        let verdict = if self.passed { "PASSED" } else { "FAILED" };
        let mut text = format!("\n{}\n\n{}\n", self.faults_table(), self.figures_table());
        for line in self.verification.examples.iter().chain(&self.failures) {
            text.push_str(&format!("  • {line}\n"));
        }
        let took = show_duration(Duration::from_secs(self.seconds.round() as u64));
        text.push_str(&format!("\n{verdict} in {took}: {}", self.reason()));
        text
    }

    /// One line for each fault.
    fn faults_table(&self) -> comfy_table::Table {
        let mut faults = table(&[
            "fault",
            "partitions",
            "writes again after",
            "failed",
            "unknown",
            "longest request",
            "and then",
        ]);
        for fault in &self.faults {
            let recovered = match fault.recovered_ms {
                Some(ms) => show_duration(Duration::from_millis(ms)),
                None => "not within 10 s".to_owned(),
            };
            faults.add_row([
                Cell::new(&fault.fault),
                number(format!("{} of {}", fault.affected_partitions, self.partitions)),
                right(fault.passed(), number(recovered)),
                right(fault.failed == 0, number(fault.failed)),
                number(fault.unknown),
                number(show_duration(Duration::from_millis(fault.longest_request_ms))),
                Cell::new(&fault.note),
            ]);
        }
        faults
    }

    /// What the whole run was, and what is left of it.
    fn figures_table(&self) -> comfy_table::Table {
        let verification = &self.verification;
        let or_nothing = |count: u64, text: &str| match count {
            0 => String::new(),
            count => format!(" ({count} {text})"),
        };
        let indexed = format!(
            "{} keys in {}, {:.0} writes/s{}",
            self.keys,
            show_duration(Duration::from_secs_f64(self.fill_seconds)),
            self.fill_writes_per_second,
            or_nothing(self.generated_keys as u64, "of them generated"),
        );
        let requests = format!("{} reads and {} writes", self.reads, self.writes);
        let outcomes = format!(
            "{} failed, {} unknown, {} wrong answers",
            self.failed, self.unknown, self.wrong_answers
        );
        let verified = format!(
            "{} keys and values{}",
            verification.compared,
            or_nothing(verification.unknown as u64, "of unknown outcome: either value is right"),
        );
        let differences = format!(
            "{} missing, {} different, {} unexpected",
            verification.missing, verification.different, verification.unexpected
        );
        let mut figures = table(&["whole run", "", "outcome"]);
        figures.add_row([Cell::new("indexed"), Cell::new(indexed), Cell::new("")]);
        figures.add_row([
            Cell::new("requests"),
            Cell::new(requests),
            right(self.failed == 0 && self.wrong_answers == 0, Cell::new(outcomes)),
        ]);
        figures.add_row([
            Cell::new("verified"),
            Cell::new(verified),
            right(verification.holds(), Cell::new(differences)),
        ]);
        figures
    }

    /// The verdict in one sentence.
    fn reason(&self) -> String {
        if self.passed {
            return "no request failed, every partition was soon written to again, and every key and value \
                    is as it was acknowledged."
                .to_owned();
        }
        let slow = self.faults.iter().any(|fault| {
            fault.recovered_ms.is_none_or(|ms| Duration::from_millis(ms) > RECOVERY_LIMIT)
        });
        let wrong = [
            (self.failed > 0, "requests failed"),
            (self.wrong_answers > 0, "answers contradicted what was acknowledged"),
            (slow, "a partition was not written to again within 5 s"),
            (!self.verification.holds(), "what was acknowledged is not what is there"),
        ];
        let wrong: Vec<&str> = wrong.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
        format!("{}.", wrong.join("; "))
    }
}

impl Verification {
    /// Whether everything is there as it was acknowledged.
    fn holds(&self) -> bool {
        self.missing == 0 && self.different == 0 && self.unexpected == 0
    }
}

/// Green if it is as it should be, red if not.
fn right(is_right: bool, cell: Cell) -> Cell {
    cell.fg(if is_right { Color::Green } else { Color::Red })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> FaultReport {
        FaultReport {
            fault: "kill -9".into(),
            affected_partitions: 4,
            recovered_ms: Some(80),
            failed: 0,
            unknown: 0,
            longest_request_ms: 90,
            note: String::new(),
        }
    }

    fn verification() -> Verification {
        Verification::from(&Differences { compared: 7, ..Differences::default() })
    }

    #[test]
    fn every_promise_is_judged() {
        let counts = Counts { reads: 1, writes: 1, unknown: 2, ..Counts::default() };
        assert!(Report::judge(&[fault()], counts, &verification()));
        let slow = FaultReport { recovered_ms: Some(5_001), ..fault() };
        assert!(!Report::judge(&[slow], counts, &verification()));
        let never = FaultReport { recovered_ms: None, ..fault() };
        assert!(!Report::judge(&[never], counts, &verification()));
        let failing = FaultReport { failed: 1, ..fault() };
        assert!(!Report::judge(&[failing], counts, &verification()));
        let failed = Counts { failed: 1, ..counts };
        assert!(!Report::judge(&[fault()], failed, &verification()));
        let wrong = Counts { wrong: 1, ..counts };
        assert!(!Report::judge(&[fault()], wrong, &verification()));
        for break_it in [
            |v: &mut Verification| v.missing = 1,
            |v: &mut Verification| v.different = 1,
            |v: &mut Verification| v.unexpected = 1,
        ] {
            let mut broken = verification();
            break_it(&mut broken);
            assert!(!Report::judge(&[fault()], counts, &broken));
        }
    }
}
