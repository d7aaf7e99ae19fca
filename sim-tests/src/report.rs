//! What a run found, for people and for machines. It follows from the seed and the options alone.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::checks::Problem;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Violated(Problem),
    /// The linearizability of this key's history was not decided within the limit.
    Undecided {
        key: String,
    },
}

/// What a run found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub seed: u64,
    pub verdict: Verdict,
    /// Of the whole trace, in hexadecimal.
    pub trace_hash: String,
    pub trace_lines: u64,
    /// How large the zone was, in words.
    pub zone: String,
    pub simulated_ms: u64,
    /// Operations that clients invoked.
    pub operations: usize,
    /// Of these, writes whose outcome they were not told.
    pub unknown: usize,
    /// Of these, those that had no effect because the zone could not carry them out in time.
    pub refused: usize,
    /// What was done to the zone, in words.
    pub faults: Vec<String>,
    /// The [coverage marks](crate::coverage) that were reached.
    pub marks: BTreeSet<String>,
    /// The last lines of the trace.
    pub recent: Vec<String>,
}

/// Exit codes of the binary `sim`, for one run and for a sweep (whose code is its worst run's: harness,
/// then violation, then undecided). 2 is for a command line that makes no sense, 130 for a sweep that was
/// interrupted.
pub mod exit {
    /// Every guarantee held.
    pub const PASSED: u8 = 0;
    /// A guarantee was violated.
    pub const VIOLATED: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// Nothing was found, but the search for a linearization gave up.
    pub const UNDECIDED: u8 = 3;
    /// The simulation itself could not be carried out.
    pub const HARNESS_FAILED: u8 = 4;
    /// A sweep was ended from outside before it was through, as shells have it for Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
}

impl Report {
    /// The report of a run that ended before it could tell more.
    pub fn broken_off(seed: u64, zone: String, problem: Problem) -> Self {
        Self {
            seed,
            verdict: Verdict::Violated(problem),
            trace_hash: String::new(),
            trace_lines: 0,
            zone,
            simulated_ms: 0,
            operations: 0,
            unknown: 0,
            refused: 0,
            faults: Vec::new(),
            marks: BTreeSet::new(),
            recent: Vec::new(),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match &self.verdict {
            Verdict::Passed => exit::PASSED,
            Verdict::Violated(problem) if problem.guarantee == HARNESS => exit::HARNESS_FAILED,
            Verdict::Violated(_) => exit::VIOLATED,
            Verdict::Undecided { .. } => exit::UNDECIDED,
        }
    }

    /// One line.
    pub fn summary(&self) -> String {
        let Self { seed, zone, operations, unknown, refused, trace_hash, trace_lines, .. } = self;
        let verdict = match &self.verdict {
            Verdict::Passed => "passed",
            Verdict::Violated(_) => "FAILED",
            Verdict::Undecided { .. } => "undecided",
        };
        let faults = self.faults.len();
        let seconds = std::time::Duration::from_millis(self.simulated_ms).as_secs_f64();
        format!(
            "seed {seed}: {verdict}: {zone}, {operations} operations ({unknown} unknown, {refused} refused), \
             {faults} faults, {seconds:.1} s simulated, trace {trace_hash} ({trace_lines} lines)"
        )
    }
}

/// The "guarantee" that is violated when the simulation itself cannot be carried out.
pub const HARNESS: &str = "harness";

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.summary())?;
        match &self.verdict {
            Verdict::Passed => return Ok(()),
            Verdict::Violated(problem) => {
                writeln!(formatter, "\nviolated: {problem}")?;
                if !problem.details.is_empty() {
                    writeln!(formatter, "{}", problem.details.trim_end())?;
                }
            }
            Verdict::Undecided { key } => writeln!(
                formatter,
                "\nundecided: the search for a linearization of {key} took too many steps"
            )?,
        }
        writeln!(formatter, "\nwhat was done to the zone:")?;
        for fault in &self.faults {
            writeln!(formatter, "  {fault}")?;
        }
        writeln!(formatter, "\nthe last events:")?;
        for line in &self.recent {
            writeln!(formatter, "  {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdict: Verdict) -> Report {
        Report {
            seed: 7,
            verdict,
            trace_hash: "00ff".into(),
            trace_lines: 3,
            zone: "3 members".into(),
            simulated_ms: 1_500,
            operations: 10,
            unknown: 1,
            refused: 0,
            faults: vec!["kill node-1".into()],
            marks: BTreeSet::from(["fault: kill".into()]),
            recent: vec!["the last line".into()],
        }
    }

    #[test]
    fn a_failure_shows_what_a_reader_needs() {
        let problem = Problem::new("G3", "a key's history has no linearization").with_details("x");
        let failed = report(Verdict::Violated(problem));
        let text = failed.to_string();
        for part in ["seed 7", "FAILED", "G3", "no linearization", "kill node-1", "the last line"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert_eq!(failed.exit_code(), exit::VIOLATED);
        assert_eq!(report(Verdict::Passed).exit_code(), exit::PASSED);
        assert_eq!(report(Verdict::Undecided { key: "k".into() }).exit_code(), exit::UNDECIDED);
        let harness = report(Verdict::Violated(Problem::new(HARNESS, "a driver failed")));
        assert_eq!(harness.exit_code(), exit::HARNESS_FAILED);
    }

    #[test]
    fn a_report_survives_the_trip_to_the_parent() {
        let sent = report(Verdict::Undecided { key: "k".into() });
        let text = serde_json::to_string(&sent).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), sent);
    }
}
