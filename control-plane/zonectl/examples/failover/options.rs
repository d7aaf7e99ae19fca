//! What can be said on the command line, and what must be the same for trials to belong together.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};

use crate::fault::Fault;

const PRIVILEGES: &str = "\
Cuts need root and `ip` (network namespaces); the disk that stands still needs root, `mkfs.ext4`, a loop
device and `fsfreeze`. Where something is missing, the row says what. The rest needs no privilege.

Exit codes: 0 nothing acknowledged was lost and no planned fault had a failed request, 1 otherwise or the
benchmark could not go on, 2 wrong usage, 130 interrupted. A goal that is not met is shown, and is no error.";

#[derive(Clone, Debug, Parser)]
#[command(
    name = "failover",
    about = "Failover of a zone on real processes under load, many times over, with etcd beside it.",
    after_help = PRIVILEGES
)]
pub struct Arguments {
    /// Only these faults, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "FAULT,…")]
    pub only: Vec<Fault>,
    /// Trials of each fault [default: 50 of the two kills in the zone, 3 of what lasts a minute, 15 of the others].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub trials: Option<u32>,
    /// Three trials of each fault, one of those that last a minute: under 10 minutes in all.
    #[arg(long, conflicts_with = "trials")]
    pub quick: bool,
    /// Keep finished trials here, one per line; the same command goes on after the last one.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Where to write every trial and the sums as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Requests per second under which faults happen, half of them writes.
    #[arg(long, default_value_t = 400.0)]
    pub rate: f64,
    #[arg(long, default_value_t = 16)]
    pub partitions: u32,
    /// The zone's ports start here; etcd has 2 × 3 of the first hundred.
    #[arg(long, default_value_t = 8_200)]
    pub base_port: u16,
    /// Keep logs and data, and say where.
    #[arg(long)]
    pub keep: bool,
    /// What the zone's processes log [default: info], and this program with its client [default: nothing].
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
}

/// Under which circumstances trials were made. Those of one state file have the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    pub rate_per_second: f64,
    pub partitions: u32,
    pub cores: u32,
    pub version: String,
}

impl Arguments {
    pub fn conditions(&self) -> Conditions {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        Conditions {
            rate_per_second: self.rate,
            partitions: self.partitions,
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What to do, in sequence, and how often each.
    pub fn plan(&self) -> Vec<(Fault, u32)> {
        let wanted = |fault: &Fault| self.only.is_empty() || self.only.contains(fault);
        let trials = |fault: Fault| match (self.trials, self.quick) {
            (Some(trials), _) => trials,
            (None, true) => fault.quick_trials(),
            (None, false) => fault.default_trials(),
        };
        let all = Fault::all().iter().copied();
        all.filter(wanted).map(|fault| (fault, trials(fault))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split_whitespace()).unwrap()
    }

    #[test]
    fn the_plan_follows_the_command_line() {
        assert_eq!(arguments("failover").plan().len(), Fault::all().len());
        assert_eq!(arguments("failover").plan()[1], (Fault::KillIndexNode, 50));
        let some = arguments("failover --only drain,kill-index-node --trials 2").plan();
        assert_eq!(some, [(Fault::KillIndexNode, 2), (Fault::Drain, 2)]);
        let quick = arguments("failover --quick").plan();
        assert!(quick.iter().all(|(fault, trials)| *trials == fault.quick_trials()));
        assert!(Arguments::try_parse_from(["failover", "--quick", "--trials", "2"]).is_err());
    }
}
