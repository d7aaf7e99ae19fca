//! The zone as a whole: making it, looking at it, its brake, and zones on this machine.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::global::endpoint;

#[derive(Debug, Args)]
pub struct InitArguments {
    /// All members of the control plane: 1, 3 or 5. Default: the endpoints.
    #[arg(long, value_delimiter = ',', value_parser = endpoint)]
    pub members: Vec<String>,
    #[command(flatten)]
    pub split: SplitArguments,
    /// Replicas of each partition: 1, 3 or 5.
    #[arg(long, default_value_t = 3)]
    pub replication_factor: u32,
    /// How long a node is missed before its replicas are made again elsewhere.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5m")]
    pub replace_after: Duration,
}

/// How the key space is cut.
#[derive(Clone, Debug, Args)]
pub struct SplitArguments {
    /// How many partitions, cut evenly over the byte space.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub partitions: u32,
    /// Where to cut instead: one key on each line, ascending, as `bucket/object key`, with \xNN for
    /// bytes that are no text.
    #[arg(long, value_name = "FILE", conflicts_with = "partitions")]
    pub split_keys_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Wait so long for the zone to be healthy; fail if it does not become so.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub wait_healthy: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct HeatArguments {
    /// How many of the hottest partitions to show: 1 to 64.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub top: u32,
}

#[derive(Debug, Args)]
pub struct EventsArguments {
    /// Go on with what happens from now on, until interrupted.
    #[arg(short, long)]
    pub follow: bool,
    /// Only events after this sequence number.
    #[arg(long, default_value_t = 0)]
    pub after: u64,
}

#[derive(Debug, Subcommand)]
pub enum DevVerb {
    /// Start a zone of separate processes, and run it until Ctrl-C. The same data directory gives the
    /// same zone again.
    Up(DevUpArguments),
}

#[derive(Clone, Debug, Args)]
pub struct DevUpArguments {
    /// Members of the control plane: 1, 3 or 5.
    #[arg(long, default_value_t = 3)]
    pub members: u32,
    /// Index nodes, each in a rack of its own.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub index_nodes: u32,
    #[command(flatten)]
    pub split: SplitArguments,
    /// Where the zone lives. Default: isotherm/dev-zone in the state directory of this user.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The first of its ports. Members listen from P (metrics: P + 10), nodes from P + 100 (P + 200).
    #[arg(long, value_name = "P", default_value_t = 7_400, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub base_port: u16,
    /// Replicas of each partition: 1, 3 or 5.
    #[arg(long, default_value_t = 3)]
    pub replication_factor: u32,
    /// How long a node is missed before its replicas are made again elsewhere.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    pub replace_after: Duration,
}
