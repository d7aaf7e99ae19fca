//! One run among others: which seed, and which scenario.

use std::fmt;

use serde::{Deserialize, Serialize};
use sim_tests::{
    report::{Report, exit},
    scenario::Scenario,
};

use super::{arguments::ZoneArguments, planted_bugs};

/// How a run is started again. In a checkout this builds what is missing; the features are those of the
/// whole workspace, so nothing is built twice.
pub const COMMAND: &str = "cargo run --bin sim -- run --trace";

/// A run: a seed, and whose zone and faults it has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Case {
    /// A scenario's name or file; none: the zone and the faults that the seed draws.
    pub scenario: Option<String>,
    pub seed: u64,
}

impl Case {
    /// Its part of the command line of `run`.
    pub fn flags(&self, zone: &ZoneArguments) -> Vec<String> {
        let mut flags = vec!["--seed".to_owned(), self.seed.to_string()];
        match &self.scenario {
            Some(scenario) => {
                flags.extend(["--scenario".to_owned(), scenario.clone()]);
                flags.extend(planted_bugs::flags(zone.planted));
            }
            None => flags.extend(zone.to_flags()),
        }
        flags
    }

    /// The command that makes exactly this run again.
    pub fn reproduction(&self, zone: &ZoneArguments) -> String {
        let features = if planted::BUILT_IN { planted_bugs::FLAGS } else { "" };
        let command = COMMAND.replace("-- ", &format!("{features}-- "));
        format!("{command} {}", self.flags(zone).join(" "))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scenario {
            Some(scenario) => write!(formatter, "{scenario}, seed {}", self.seed),
            None => write!(formatter, "seed {}", self.seed),
        }
    }
}

/// The exit code of a run: of a scenario's, 0 says that it ended as the scenario says.
pub fn exit_code(scenario: Option<&Scenario>, report: &Report) -> u8 {
    match scenario {
        None => report.exit_code(),
        Some(scenario) if scenario.is_met_by(report) => exit::PASSED,
        Some(_) => report.exit_code().max(exit::VIOLATED),
    }
}
