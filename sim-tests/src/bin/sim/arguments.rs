//! The command line, and what it stands for.

use std::{ops::Range, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use planted::Bug;
use sim_tests::{run::RunOptions, sabotage::Sabotage, seed::Seed, zone::ZoneOptions};

use super::planted_bugs;

#[derive(Args)]
#[command(after_help = "\
Examples:
  sim run --seed 7
  sim run --seed 7 --trace                    with everything that the zone's processes log
  sim run --scenario lost-for-good            a scenario that is shipped; `sim list scenarios` shows them
  sim run --scenario lost-for-good --seed 9   the same faults with other latencies, work and commands
  sim run --scenario ./my-own.toml            one of your own")]
pub struct RunArguments {
    #[arg(long, value_name = "N", required_unless_present = "scenario")]
    pub seed: Option<u64>,
    /// Carry out a scenario: the name of a shipped one, or a file; exit code 0 says that it ended as
    /// written there
    #[arg(long, value_name = "NAME", conflicts_with_all = ["members", "index_nodes", "partitions",
        "replace_after_seconds", "faults_seconds", "load", "sabotage"])]
    pub scenario: Option<String>,
    /// Write what happens to standard error as it happens
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "processes")]
    pub trace: Option<TraceWhat>,
    #[arg(long, default_value = "human")]
    pub format: Format,
    #[command(flatten)]
    pub zone: ZoneArguments,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  sim shrink --seed 44
  sim shrink --seed 44 --out sim-tests/scenarios/disk-breaks.toml")]
pub struct ShrinkArguments {
    #[arg(long, value_name = "N")]
    pub seed: u64,
    /// Where to write the scenario [default: seed-N.toml]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub zone: ZoneArguments,
}

#[derive(Args)]
#[command(after_help = SWEEP_HELP)]
pub struct SweepArguments {
    /// First seed, and the one after the last: 0..100
    #[arg(long, value_name = "A..B")]
    pub seeds: Seeds,
    /// Instead of the zones and faults that the seeds draw: a shipped scenario by name, a scenario's
    /// file, or `all` shipped scenarios one after the other, each with every seed
    #[arg(long, value_name = "NAME", conflicts_with_all = ["members", "index_nodes", "partitions",
        "replace_after_seconds", "faults_seconds", "load", "sabotage"])]
    pub scenario: Option<String>,
    /// How many seeds are simulated at the same time
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// Begin no further seed after this time: 90s, 10m, 8h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub time_limit: Option<Duration>,
    /// End a seed that takes longer than this, and count it as not carried out
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = humantime::parse_duration)]
    pub seed_limit: Duration,
    /// Keep what is done in this file, and go on from there if it exists
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// What is written to standard output at the end; progress goes to standard error
    #[arg(long, default_value = "human")]
    pub format: SweepFormat,
    #[command(flatten)]
    pub zone: ZoneArguments,
}

const SWEEP_HELP: &str = "\
Examples:
  sim sweep --seeds 0..100
  sim sweep --seeds 0..100000 --time-limit 8h --state night.state   again: goes on where it ended
  sim sweep --seeds 0..20 --scenario all
  sim sweep --seeds 0..100 --format junit > sim.xml

State: JSON lines, one for each seed that is done; a line that was torn by a crash is done again. A file
of another build of this program or of other options is refused, since its results are not about this
one; the range of seeds may differ.

JSON: one object, whose fields stay. `seeds` {from, to}; `scenarios` (names; empty: drawn zones); `build`
(a hash of this program); `ended` (`finished`, `time-limit` or `interrupted`); `totals` {planned, done,
passed, violated, undecided, harness_failed, operations, unknown, refused, faults}; `wall_ms`,
`simulated_ms`, `seeds_per_minute` (of this sweep, without what a state file brought);
`coverage` {reached: [{mark, runs}], never: [mark], never_and_seldom: [mark]}; `runs`: for each
{scenario, seed, outcome (passed, violated, undecided, harness-failed), wall_ms, reproduce, report}, where
`report` is what `sim run --format json` writes.

JUnit: one test case for each seed; what was not begun is skipped.

Exit codes: that of the worst run that is done: 4 one could not be carried out; 1 a guarantee was violated;
3 a linearizability was not decided; 0 every one passed, also when a time limit ended the sweep; 130 the
sweep was interrupted (Ctrl-C, SIGTERM), which ends the runs under way and keeps the state.";

#[derive(Args)]
#[command(after_help = "\
Examples:
  sim list
  sim list marks
  sim list scenarios --format json")]
pub struct ListArguments {
    /// What to show [default: everything]
    #[arg(value_name = "WHAT")]
    pub what: Option<ListWhat>,
    #[arg(long, default_value = "human")]
    pub format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListWhat {
    Scenarios,
    Faults,
    Marks,
    Sabotages,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  sim bench
  sim bench --zone small --runs 5 --format json

The figures are medians. Nothing else should run on the machine.")]
pub struct BenchArguments {
    /// How many seeds of each zone are simulated, one after the other
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
    /// Which zones: the small one (3 members, 3 nodes, 4 partitions), the standard one (3, 5, 16)
    #[arg(long, value_name = "ZONE", default_value = "all")]
    pub zone: BenchZone,
    #[arg(long, default_value = "human")]
    pub format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchZone {
    Small,
    Standard,
    All,
}

/// What a zone is, where the seed shall not draw it.
#[derive(Args, Clone)]
pub struct ZoneArguments {
    /// Members of the control plane: 1, 3 or 5 [default: drawn by the seed]
    #[arg(long, value_name = "N", value_parser = ["1", "3", "5"])]
    members: Option<String>,
    /// Index nodes [default: drawn by the seed, 3 to 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..))]
    index_nodes: Option<u32>,
    /// Partitions [default: drawn by the seed, 1 to 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=24))]
    partitions: Option<u32>,
    /// How long a node's loss lasts before its replicas are made again elsewhere [default: drawn by the
    /// seed]
    #[arg(long, value_name = "SECONDS")]
    replace_after_seconds: Option<u64>,
    /// Simulated seconds in which things go wrong
    #[arg(long, value_name = "SECONDS")]
    faults_seconds: Option<u64>,
    /// Let requests cost processor time, so that load has to be spread and then left alone
    #[arg(long)]
    load: bool,
    /// Break something on purpose, to see it found: acknowledge-before-sync
    #[arg(long, value_name = "WHAT")]
    sabotage: Option<Sabotage>,
    /// Plant this bug in the zone's processes; only in a build with planted bugs
    #[arg(long, value_name = "BUG")]
    pub planted: Option<Bug>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum TraceWhat {
    /// What the zone's processes log
    Processes,
    /// That, and each message on the network
    Everything,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Human,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SweepFormat {
    Human,
    Json,
    Junit,
}

/// A range of seeds that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("{text:?} is not A..B with A below B");
        let (start, end) = text.split_once("..").ok_or_else(shape)?;
        let number = |part: &str| part.trim().parse::<u64>().map_err(|_| shape());
        let range = number(start)?..number(end)?;
        if range.is_empty() { Err(shape()) } else { Ok(Self(range)) }
    }
}

impl ZoneArguments {
    fn members(&self) -> Option<u32> {
        self.members.as_deref().and_then(|members| members.parse().ok())
    }

    pub fn options(&self, seed: Seed) -> RunOptions {
        let drawn = ZoneOptions::drawn(seed);
        let zone = ZoneOptions {
            members: self.members().unwrap_or(drawn.members),
            index_nodes: self.index_nodes.unwrap_or(drawn.index_nodes),
            partitions: self.partitions.unwrap_or(drawn.partitions),
            replace_after: self
                .replace_after_seconds
                .map_or(drawn.replace_after, Duration::from_secs),
            sabotage: self.sabotage,
            ..drawn
        };
        let zone = if self.load { zone.under_load(seed) } else { zone };
        let usual = RunOptions::default();
        let faults_for = self.faults_seconds.map_or(usual.faults_for, Duration::from_secs);
        RunOptions { zone, faults_for, ..usual }
    }

    /// The same on another command line.
    pub fn to_flags(&self) -> Vec<String> {
        let numbers = [
            ("--members", self.members().map(u64::from)),
            ("--index-nodes", self.index_nodes.map(u64::from)),
            ("--partitions", self.partitions.map(u64::from)),
            ("--replace-after-seconds", self.replace_after_seconds),
            ("--faults-seconds", self.faults_seconds),
        ];
        let mut flags: Vec<String> = numbers
            .iter()
            .filter_map(|(flag, number)| Some(((*flag).to_owned(), (*number)?.to_string())))
            .flat_map(|(flag, number)| [flag, number])
            .collect();
        if self.load {
            flags.push("--load".to_owned());
        }
        if let Some(sabotage) = self.sabotage {
            flags.extend(["--sabotage".to_owned(), sabotage.name().to_owned()]);
        }
        flags.extend(planted_bugs::flags(self.planted));
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_seeds_is_read_and_nonsense_refused() {
        assert_eq!("3..9".parse(), Ok(Seeds(3..9)));
        for text in ["", "9", "9..9", "9..3", "a..b", "1..=3", "-1..3"] {
            assert!(text.parse::<Seeds>().unwrap_err().contains("A..B"), "{text}");
        }
    }
}
