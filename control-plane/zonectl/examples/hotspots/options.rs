//! What can be said on the command line.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use serde::Serialize;

const NOTES: &str = "\
Utilisation is processor time against the configured cores of a node (--cores of an index node), whatever the
machine has: all processes and the clients share its processors.

Exit codes: 0 no request failed, nothing moved after the zone had come to rest, and nothing moved for load while
balancing was off; 1 otherwise, or the benchmark could not go on; 2 wrong usage; 130 interrupted. A goal that is
not met is shown, and is no error.";

#[derive(Clone, Debug, Parser)]
#[command(
    name = "hotspots",
    about = "A live zone whose hottest range jumps every minute, with balancing on and off.",
    after_help = NOTES
)]
pub struct Arguments {
    /// How long the hottest range jumps under each policy, and how long nothing may move in the end.
    #[arg(long, default_value_t = 5, value_name = "MINUTES",
        value_parser = clap::value_parser!(u64).range(1..=60))]
    minutes: u64,
    /// Two minutes instead: about ten minutes in all.
    #[arg(long, conflicts_with = "minutes")]
    quick: bool,
    /// Where to write all figures, each second and each change as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Requests per second.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=50_000))]
    rate: u32,
    /// Of a hundred requests, so many are reads.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(0..=100))]
    reads_percent: u32,
    /// Load is evened out while the nodes' mean utilisation is above this, in thousandths of their cores. A new
    /// zone's policy says 20; five nodes on a machine with two cores, half busy, have little more.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    idle_permille: u64,
    /// Which ranges are hot when, and which keys are asked for, follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Members of the control plane: 1, 3 or 5.
    #[arg(long, default_value_t = 1)]
    pub members: u32,
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(5..=1_000))]
    partitions: u32,
    /// The zones' ports start here.
    #[arg(long, default_value_t = 9_400)]
    pub base_port: u16,
    /// Keep logs and data, and say where.
    #[arg(long)]
    pub keep: bool,
}

const QUICK_MINUTES: u64 = 2;

/// What is the same in all phases.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conditions {
    pub minutes: u64,
    pub rate_per_second: u32,
    pub reads_percent: u32,
    /// Of the policies.
    pub idle_permille: u64,
    pub seed: u64,
    pub members: u32,
    pub index_nodes: u32,
    pub partitions: u32,
    /// Of this machine.
    pub cores: usize,
}

impl Conditions {
    /// How long the hottest range jumps under each policy.
    pub fn lasting(&self) -> Duration {
        Duration::from_secs(60 * self.minutes)
    }
}

impl Arguments {
    pub fn conditions(&self, index_nodes: u32) -> Conditions {
        Conditions {
            minutes: if self.quick { QUICK_MINUTES } else { self.minutes },
            rate_per_second: self.rate,
            reads_percent: self.reads_percent,
            idle_permille: self.idle_permille,
            seed: self.seed,
            members: self.members,
            index_nodes,
            partitions: self.partitions,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn quick_is_two_minutes_and_impossible_loads_are_refused() {
        let lasting = |line| arguments(line).unwrap().conditions(5).lasting().as_secs();
        assert_eq!(lasting("hotspots"), 300);
        assert_eq!(lasting("hotspots --quick"), 120);
        assert_eq!(lasting("hotspots --minutes 7"), 420);
        for refused in ["--minutes 0", "--rate 1", "--reads-percent 101", "--quick --minutes 3"] {
            assert!(arguments(&format!("hotspots {refused}")).is_err(), "{refused}");
        }
    }
}
