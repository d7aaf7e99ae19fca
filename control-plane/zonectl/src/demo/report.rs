//! What the demo says in the end.

use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use super::{ledger::Differences, workload::Counts};

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
            && verification.missing == 0
            && verification.different == 0
            && verification.unexpected == 0
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header([
            "fault",
            "affected",
            "writes again after",
            "failed",
            "unknown",
            "longest request",
            "",
        ]);
        for fault in &self.faults {
            let recovered = match fault.recovered_ms {
                Some(ms) => format!("{ms} ms"),
                None => "not within 10 s".to_owned(),
            };
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(&fault.fault),
                right(format!("{}/{}", fault.affected_partitions, self.partitions)),
                right(recovered),
                right(fault.failed.to_string()),
                right(fault.unknown.to_string()),
                right(format!("{} ms", fault.longest_request_ms)),
                Cell::new(&fault.note),
            ]);
        }
        let verification = &self.verification;
        let mut text = format!("{table}\n\n");
        text.push_str(&format!(
            "filled    {} keys in {:.1} s ({:.0} writes/s){}\n",
            self.keys,
            self.fill_seconds,
            self.fill_writes_per_second,
            match self.generated_keys {
                0 => String::new(),
                generated => format!(", {generated} of them generated"),
            },
        ));
        text.push_str(&format!(
            "requests  {} reads, {} writes, {} failed, {} unknown, {} wrong answers\n",
            self.reads, self.writes, self.failed, self.unknown, self.wrong_answers,
        ));
        text.push_str(&format!(
            "verified  {} keys and values: {} missing, {} different, {} unexpected{}\n",
            verification.compared,
            verification.missing,
            verification.different,
            verification.unexpected,
            match verification.unknown {
                0 => String::new(),
                unknown => format!(" ({unknown} of unknown outcome: either value is right)"),
            },
        ));
        for example in &verification.examples {
            text.push_str(&format!("          {example}\n"));
        }
        for failure in &self.failures {
            text.push_str(&format!("          {failure}\n"));
        }
        let verdict = if self.passed { "PASSED" } else { "FAILED" };
        text.push_str(&format!("\n{verdict} in {:.0} s\n", self.seconds));
        text
    }
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
