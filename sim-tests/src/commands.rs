//! A second operator, who gives commands while things go wrong: moves, hand-overs, splits, drains and their ends,
//! plans (also such as are outrun), cancellations, changes of the policy, at times and on nodes that follow from the
//! seed, or that a scenario says. Here is what a command is and how it is drawn and read; [`commander`] gives it.

mod commander;

use std::{ops::RangeInclusive, str::FromStr, time::Duration};

use rand::{RngExt, rngs::StdRng};

pub use self::commander::work;
use crate::faults;

/// For how long a drawn command overrides the brake: long enough for a repair, shorter than most faults.
const OVERRIDE_SECONDS: u64 = 5;

/// The fields of the policy that are drawn, and their values: none that would make repairs take too long.
const FIELDS: [(&str, RangeInclusive<u64>); 3] = [
    ("changes_in_flight_zone_max", 4..=16),
    ("changes_in_flight_node_max", 2..=4),
    ("transfers_in_flight_max", 4..=16),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    TransferLeader {
        partition: u64,
        to: String,
    },
    MoveReplica {
        partition: u64,
        from: String,
        to: String,
    },
    Drain {
        node: String,
    },
    Uncordon {
        node: String,
    },
    Split {
        partition: u64,
        at: SplitAt,
    },
    /// A plan, and its application.
    Rebalance,
    /// Of a plan that was made a while ago: the last one that had any steps.
    ApplyStalePlan,
    /// Of the newest operation that has not ended.
    Cancel,
    OverrideBrake {
        seconds: u64,
    },
    RestoreBrake,
    /// Changes one field of the policy.
    SetPolicy {
        field: String,
        value: u64,
    },
}

/// Where a partition is to be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitAt {
    Key(String),
    Load,
    Size,
}

/// A command and its time since the start of the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedCommand {
    pub at: Duration,
    pub command: Command,
}

impl Command {
    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<&str> {
        match self {
            Command::TransferLeader { to: node, .. }
            | Command::Drain { node }
            | Command::Uncordon { node } => vec![node],
            Command::MoveReplica { from, to, .. } => vec![from, to],
            Command::Split { .. }
            | Command::Rebalance
            | Command::ApplyStalePlan
            | Command::Cancel
            | Command::OverrideBrake { .. }
            | Command::RestoreBrake
            | Command::SetPolicy { .. } => Vec::new(),
        }
    }

    /// The partition that it names.
    pub fn partition(&self) -> Option<u64> {
        match self {
            Command::TransferLeader { partition, .. } | Command::MoveReplica { partition, .. } => {
                Some(*partition)
            }
            // It may be one that a split before has made.
            Command::Split { .. }
            | Command::Drain { .. }
            | Command::Uncordon { .. }
            | Command::Rebalance
            | Command::ApplyStalePlan
            | Command::Cancel
            | Command::OverrideBrake { .. }
            | Command::RestoreBrake
            | Command::SetPolicy { .. } => None,
        }
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let own = |word: &str| word.to_owned();
        let number = |word: &str| {
            word.parse::<u64>().map_err(|_| format!("{word:?} is no partition's number: {text:?}"))
        };
        let seconds = |word: &str| {
            let given = word.parse::<u64>().ok().filter(|given| (1..=3_600).contains(given));
            given.ok_or_else(|| format!("{word:?} is no number from 1 to 3600: {text:?}"))
        };
        Ok(match words[..] {
            ["transfer", "leader", "of", partition, "to", to] => {
                Command::TransferLeader { partition: number(partition)?, to: own(to) }
            }
            ["move", "replica", "of", partition, "from", from, "to", to] => {
                let partition = number(partition)?;
                Command::MoveReplica { partition, from: own(from), to: own(to) }
            }
            ["split", partition, "at", key] => {
                Command::Split { partition: number(partition)?, at: SplitAt::Key(own(key)) }
            }
            ["split", partition, "by", "size"] => {
                Command::Split { partition: number(partition)?, at: SplitAt::Size }
            }
            ["split", partition, "by", "load"] => {
                Command::Split { partition: number(partition)?, at: SplitAt::Load }
            }
            ["drain", node] => Command::Drain { node: own(node) },
            ["uncordon", node] => Command::Uncordon { node: own(node) },
            ["rebalance"] => Command::Rebalance,
            ["apply", "a", "stale", "plan"] => Command::ApplyStalePlan,
            ["cancel"] => Command::Cancel,
            ["override", "brake", "for", given, "s"] => {
                Command::OverrideBrake { seconds: seconds(given)? }
            }
            ["restore", "brake"] => Command::RestoreBrake,
            ["set", field, "to", value] => {
                let value =
                    value.parse().map_err(|_| format!("{value:?} is no value: {text:?}"))?;
                Command::SetPolicy { field: own(field), value }
            }
            _ => {
                return Err(format!(
                    "{text:?} is no command; one is for example \"drain node-1\", \"uncordon node-1\", \
                     \"transfer leader of 2 to node-1\", \"move replica of 2 from node-1 to node-4\", \
                     \"split 2 at key-0007\", \"split 2 by size\", \"rebalance\", \"apply a stale plan\", \"cancel\", \
                     \"override brake for 10 s\", \"restore brake\" or \"set transfers_in_flight_max to 4\""
                ));
            }
        })
    }
}

impl FromStr for TimedCommand {
    type Err = String;

    /// A time and a command, for example `6.5 s  drain node-2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (at, command) = faults::timed(text)?;
        Ok(Self { at, command: command.parse()? })
    }
}

/// Partitions that splits may have made by the time of a drawn one, and about how many keys there are.
const SPLITS_EXPECTED: u32 = 3;
const KEYS_EXPECTED: u32 = 24;

/// Commands, and how often they are drawn, of 120 times.
fn draw(generator: &mut StdRng, nodes: &[String], partitions: u32) -> Command {
    let partition = u64::from(generator.random_range(1..=partitions));
    let from = nodes[generator.random_range(0..nodes.len())].clone();
    let to = nodes[generator.random_range(0..nodes.len())].clone();
    // One that splits have made already, perhaps.
    let divided = u64::from(generator.random_range(1..=partitions + SPLITS_EXPECTED));
    let key = format!("key-{:04}", generator.random_range(0..KEYS_EXPECTED));
    match generator.random_range(0..120_u32) {
        100..113 => Command::Split { partition: divided, at: SplitAt::Key(key) },
        113..119 => Command::Split { partition: divided, at: SplitAt::Size },
        119 => Command::Split { partition: divided, at: SplitAt::Load },
        0..30 => Command::TransferLeader { partition, to },
        30..60 => Command::MoveReplica { partition, from, to },
        60..75 => Command::Drain { node: from },
        75..84 => Command::Uncordon { node: from },
        84..86 => {
            let (field, values) = &FIELDS[generator.random_range(0..FIELDS.len())];
            let value = generator.random_range(values.clone());
            Command::SetPolicy { field: (*field).to_owned(), value }
        }
        86..91 => Command::Cancel,
        91..95 => Command::Rebalance,
        95..97 => Command::ApplyStalePlan,
        // Mostly it is not engaged, and refused.
        97 | 98 => Command::OverrideBrake { seconds: OVERRIDE_SECONDS },
        99.. => Command::RestoreBrake,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::seed::Seed;

    #[test]
    fn every_command_is_drawn_for_every_node() {
        let nodes: Vec<String> = (1..=4).map(|number| format!("node-{number}")).collect();
        let mut generator = Seed(1).generator();
        let mut seen = BTreeSet::new();
        for _ in 0..2_000 {
            match draw(&mut generator, &nodes, 3) {
                Command::TransferLeader { partition, to } => {
                    assert!((1..=3).contains(&partition));
                    seen.insert(format!("transfer to {to}"));
                }
                Command::MoveReplica { partition, from, to } => {
                    assert!((1..=3).contains(&partition));
                    seen.insert(format!("move from {from}"));
                    seen.insert(format!("move to {to}"));
                }
                Command::Drain { node } => {
                    seen.insert(format!("drain {node}"));
                }
                Command::Uncordon { node } => {
                    seen.insert(format!("uncordon {node}"));
                }
                Command::Split { partition, at } => {
                    assert!((1..=6).contains(&partition));
                    seen.insert(match at {
                        SplitAt::Key(_) => "split at a key".to_owned(),
                        SplitAt::Load => "split by load".to_owned(),
                        SplitAt::Size => "split by size".to_owned(),
                    });
                }
                Command::Rebalance => {
                    seen.insert("rebalance".to_owned());
                }
                Command::ApplyStalePlan => {
                    seen.insert("apply a stale plan".to_owned());
                }
                Command::Cancel => {
                    seen.insert("cancel".to_owned());
                }
                Command::OverrideBrake { seconds } => {
                    assert!((1..=3_600).contains(&seconds));
                    seen.insert("override brake".to_owned());
                }
                Command::RestoreBrake => {
                    seen.insert("restore brake".to_owned());
                }
                Command::SetPolicy { field, value } => {
                    assert!(FIELDS.iter().any(|it| it.0 == field && it.1.contains(&value)));
                    seen.insert(format!("set {field}"));
                }
            }
        }
        assert_eq!(seen.len(), 5 * nodes.len() + 8 + FIELDS.len());
    }

    #[test]
    fn a_command_is_read_by_its_words() {
        let timed: TimedCommand = "6.5 s  move replica of 2 from node-1 to node-4".parse().unwrap();
        assert_eq!(timed.at, Duration::from_millis(6_500));
        assert_eq!(
            (timed.command.partition(), timed.command.nodes()),
            (Some(2), vec!["node-1", "node-4"])
        );
        for text in [
            "drain node-1",
            "uncordon node-1",
            "rebalance",
            "apply a stale plan",
            "cancel",
            "transfer leader of 1 to node-2",
            "split 3 at key-0007",
            "split 3 by size",
            "split 3 by load",
            "override brake for 10 s",
            "restore brake",
            "set balance.splits_max to 0",
        ] {
            assert!(text.parse::<Command>().is_ok(), "{text}");
        }
        for text in [
            "drain",
            "move replica of two from node-1 to node-2",
            "6 s cancel",
            "cancel all",
            "split 3",
            "split three by size",
            "override brake",
            "override brake for 0 s",
            "override brake for 3601 s",
            "set balance.splits_max to none",
            "set balance.splits_max",
        ] {
            assert!(text.parse::<Command>().is_err(), "{text}");
        }
        assert!("cancel".parse::<TimedCommand>().is_err());
    }
}
