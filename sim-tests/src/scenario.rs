//! Scenarios: runs that are written down, for a bug that was found or a schedule that is of interest.
//!
//! A scenario is a TOML file: the seed, from which latencies and the clients' work follow, the size of the
//! zone, and what is done to it when.
//!
//! ```toml
//! title = "A leader's disk breaks while its follower is away"
//! seed = 44
//! expect = "passed"
//! faults_seconds = 20
//! faults = [
//!     "5.2 s power off node-3",
//!     "6.0 s broken disk of node-1",
//!     "7.5 s mended disk of node-1",
//!     "9 s restart node-3",
//! ]
//!
//! [zone]
//! members = 3
//! index_nodes = 4
//! partitions = 2
//! replace_after_seconds = 300
//! ```
//!
//! Times count from the start of the simulation; the zone is usually available after four seconds, and
//! what is due earlier happens then. Whatever is not mended is mended when the faults' time has ended.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    commands::TimedCommand,
    faults::{Schedule, TimedFault},
    report::{Report, Verdict},
    run::RunOptions,
    sabotage::Sabotage,
    seed::Seed,
    zone::{self, ZoneOptions},
};

/// The word for a run in which every guarantee holds.
const PASSED: &str = "passed";

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is about, in a sentence.
    pub title: String,
    pub seed: u64,
    /// `passed`, or the guarantee that is violated, for example `G2`.
    #[serde(default = "passed")]
    pub expect: String,
    #[serde(default = "faults_seconds")]
    pub faults_seconds: u64,
    /// How many requests of clients may end without an answer; absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered_max: Option<usize>,
    /// What is broken on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sabotage: Option<String>,
    /// Each with its time, for example `5.2 s power off node-3`.
    pub faults: Vec<String>,
    /// What the second operator asks for, each with its time, for example `6 s drain node-2`; absent: what
    /// follows from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Vec<String>>,
    pub zone: ZoneSize,
}

/// The size of a scenario's zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSize {
    pub members: u32,
    pub index_nodes: u32,
    /// None: each node is a fault domain of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_domains: Option<u32>,
    pub partitions: u32,
    pub replace_after_seconds: u64,
    /// What each poll of a request costs an index node's processor: load is spread then. None: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_cost_us: Option<u64>,
    /// With so many requests of a partition under way, one more of the same key waits. None: as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_crowd: Option<u32>,
}

fn passed() -> String {
    PASSED.to_owned()
}

fn faults_seconds() -> u64 {
    20
}

impl Scenario {
    /// The run that a seed and options stand for, with a schedule of its own.
    pub fn of_run(title: String, seed: u64, options: &RunOptions, faults: Vec<String>) -> Self {
        let zone = &options.zone;
        Self {
            title,
            seed,
            expect: passed(),
            faults_seconds: options.faults_for.as_secs(),
            unanswered_max: options.unanswered_max,
            sabotage: zone.sabotage.map(|sabotage| sabotage.name().to_owned()),
            faults,
            commands: None,
            zone: ZoneSize {
                members: zone.members,
                index_nodes: zone.index_nodes,
                fault_domains: zone.fault_domains,
                partitions: zone.partitions,
                replace_after_seconds: zone.replace_after.as_secs(),
                poll_cost_us: zone
                    .poll_cost
                    .map(|cost| u64::try_from(cost.as_micros()).unwrap_or(u64::MAX)),
                key_crowd: zone.key_crowd,
            },
        }
    }

    /// # Errors
    /// If the file cannot be read, or is no scenario.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no scenario", path.display()))
    }

    /// # Errors
    /// If the text is no scenario, or one that cannot be carried out.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        scenario.options()?;
        Ok(scenario)
    }

    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = toml::to_string_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
    }

    pub fn seed(&self) -> Seed {
        Seed(self.seed)
    }

    /// What the run is made of.
    ///
    /// # Errors
    /// If it cannot be carried out.
    pub fn options(&self) -> anyhow::Result<RunOptions> {
        let ZoneSize {
            members,
            index_nodes,
            fault_domains,
            partitions,
            replace_after_seconds,
            poll_cost_us,
            key_crowd,
        } = self.zone;
        anyhow::ensure!(
            poll_cost_us.is_none_or(|cost| (1..=100_000).contains(&cost)),
            "zone.poll_cost_us is {}, not between 1 and 100000",
            poll_cost_us.unwrap_or_default()
        );
        anyhow::ensure!(
            key_crowd.is_none_or(|crowd| (1..=1_000).contains(&crowd)),
            "zone.key_crowd is {}, not between 1 and 1000",
            key_crowd.unwrap_or_default()
        );
        anyhow::ensure!([1, 3, 5].contains(&members), "zone.members is {members}, not 1, 3 or 5");
        anyhow::ensure!(
            (3..=64).contains(&index_nodes),
            "zone.index_nodes is {index_nodes}, not between 3 and 64"
        );
        anyhow::ensure!(
            fault_domains.is_none_or(|domains| (3..=index_nodes).contains(&domains)),
            "zone.fault_domains is {}, not between 3 and {index_nodes}",
            fault_domains.unwrap_or_default()
        );
        anyhow::ensure!(
            (1..=24).contains(&partitions),
            "zone.partitions is {partitions}, not between 1 and 24"
        );
        let sabotage = match &self.sabotage {
            None => None,
            Some(name) => Some(name.parse::<Sabotage>().map_err(anyhow::Error::msg)?),
        };
        let commands = match &self.commands {
            None => None,
            Some(texts) => Some(parse_commands(texts, partitions, index_nodes)?),
        };
        let zone = ZoneOptions {
            members,
            index_nodes,
            fault_domains,
            partitions,
            replace_after: Duration::from_secs(replace_after_seconds),
            poll_cost: poll_cost_us.map(Duration::from_micros),
            key_crowd,
            commands,
            sabotage,
            ..ZoneOptions::default()
        };
        let mut faults = Vec::new();
        for text in &self.faults {
            let timed: TimedFault = text.parse().map_err(anyhow::Error::msg)?;
            for host in timed.fault.hosts() {
                anyhow::ensure!(zone::has_host(&zone, host), "the zone has no {host}: {text}");
            }
            faults.push(timed);
        }
        faults.sort_by_key(|fault| fault.at);
        Ok(RunOptions {
            zone,
            faults_for: Duration::from_secs(self.faults_seconds),
            schedule: Some(Schedule { faults }),
            unanswered_max: self.unanswered_max,
            ..RunOptions::default()
        })
    }

    /// Whether the run ended as the scenario says.
    pub fn is_met_by(&self, report: &Report) -> bool {
        match &report.verdict {
            Verdict::Passed => self.expect == PASSED,
            Verdict::Violated(problem) => self.expect == problem.guarantee,
            Verdict::Undecided { .. } => false,
        }
    }
}

/// Commands by time, which name only what is there.
fn parse_commands(
    texts: &[String],
    partitions: u32,
    index_nodes: u32,
) -> anyhow::Result<Vec<TimedCommand>> {
    let mut commands = Vec::new();
    // Each split may make one more.
    let splits = texts.iter().filter(|text| text.contains(" split ")).count();
    let partitions = u64::from(partitions) + u64::try_from(splits).unwrap_or(u64::MAX);
    for text in texts {
        let timed: TimedCommand = text.parse().map_err(anyhow::Error::msg)?;
        for node in timed.command.nodes() {
            anyhow::ensure!(
                zone::has_index_node(index_nodes, node),
                "the zone has no {node}: {text}"
            );
        }
        if let Some(partition) = timed.command.partition() {
            let exists = (1..=partitions).contains(&partition);
            anyhow::ensure!(exists, "the zone has no partition {partition}: {text}");
        }
        commands.push(timed);
    }
    commands.sort_by_key(|timed| timed.at);
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        let mut options = RunOptions::default();
        options.zone.index_nodes = 4;
        let faults = vec!["4.5 s kill node-4".to_owned(), "6 s restart node-4".to_owned()];
        let commands = Some(vec!["5 s drain node-2".to_owned(), "7 s cancel".to_owned()]);
        Scenario { commands, ..Scenario::of_run("A node is killed".into(), 7, &options, faults) }
    }

    #[test]
    fn a_scenario_survives_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scenario.toml");
        scenario().write(&path).unwrap();
        assert_eq!(Scenario::read(&path).unwrap(), scenario());
        let options = scenario().options().unwrap();
        assert_eq!(options.schedule.unwrap().faults.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let text = toml::to_string(&scenario()).unwrap();
        for (good, bad, word) in [
            ("node-4\"", "node-5\"", "node-5"),
            ("kill node-4", "tickle node-4", "tickle"),
            ("4.5 s kill", "soon kill", "soon"),
            ("members = 3", "members = 4", "members"),
            ("index_nodes = 4", "index_nodes = 2", "index_nodes"),
            ("drain node-2", "drain node-7", "node-7"),
            ("7 s cancel", "7 s transfer leader of 5 to node-1", "partition 5"),
            ("7 s cancel", "7 s panic", "panic"),
            ("partitions = 4", "partitions = 0", "partitions"),
            ("title", "titel", "titel"),
        ] {
            assert!(text.contains(good), "{good} is not in {text}");
            let error = Scenario::parse(&text.replace(good, bad)).unwrap_err();
            assert!(format!("{error:#}").contains(word), "{error:#}");
        }
    }
}
