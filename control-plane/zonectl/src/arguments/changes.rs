//! Nodes, partitions and operations: looking at them, and changing them.

use clap::{Args, Subcommand};

use crate::text::parse_split_key;

pub const REBALANCE_HELP: &str = "\
Examples:
  zonectl rebalance --dry-run
  zonectl rebalance --wait

The zone evens itself out; this does at once what it would do after a while by
transfers of leadership and moves of replicas, and goes on until its policy has
enough. It begins as much as the zone does at a time; what is left is told, and
done by the next rebalance or by the zone. It splits nothing: what is too large a
piece the zone splits by itself after a while, or you do, with
`zonectl partition split`.

JSON:
  dry_run, operation_ids[], empty_nodes[],
  transfers[] {partition_id, from_node_id, to_node_id, reason},
  moves[] {partition_id, replica_id, from_node_id, to_node_id, bytes, reason},
  counts[] {node_id, before, after} (of leaderships),
  plan (see `zonectl plan`)";

#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// All nodes.
    List,
    /// One node: why it is in its state, and what it holds.
    Show {
        /// Id or name.
        node: String,
    },
    /// Move everything off a node, leaders first, and keep it empty.
    Drain {
        /// Id or name.
        node: String,
        /// Go on although a partition could lose its majority, and with it data.
        #[arg(long)]
        accept_data_loss_risk: bool,
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Let a node take part again; ends its drain.
    Uncordon {
        /// Id or name.
        node: String,
    },
    /// Forget a node for good. It must be down, and hold nothing.
    Remove {
        /// Id or name.
        node: String,
    },
}

/// For commands that start an operation.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct WaitArguments {
    /// Show the operation's progress until it has ended; fail if it fails.
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum ExplainVerb {
    /// Why a node is thought to be up, slow, suspect or down.
    Node {
        /// Id or name.
        node: String,
    },
    /// Why a partition is where it is: who leads it and why, what brought each replica to its node, and what the
    /// ledger has about it.
    Partition { partition: u64 },
    /// What the failure detector saw and found lately, as lines of JSON: its judgements can be made again from
    /// them.
    Signals,
}

#[derive(Debug, Subcommand)]
pub enum PartitionVerb {
    /// Partitions in key order.
    List {
        /// Only those with a replica on this node (id or name).
        #[arg(long)]
        node: Option<String>,
        /// Only those that are not as they should be.
        #[arg(long)]
        problems: bool,
    },
    /// One partition: its members, how far each is, and what is being changed.
    Show { partition: u64 },
    /// Move a partition's leadership to another of its replicas.
    TransferLeader {
        partition: u64,
        /// Id or name of a node that holds a replica.
        #[arg(long)]
        to: String,
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Move one replica from a node to another.
    Move {
        partition: u64,
        /// Id or name of the node that holds it.
        #[arg(long)]
        from: String,
        /// Id or name of the node that shall hold it.
        #[arg(long)]
        to: String,
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Make two partitions of one, on the same nodes; no data moves.
    Split {
        partition: u64,
        #[command(flatten)]
        at: SplitPointArguments,
        #[command(flatten)]
        wait: WaitArguments,
    },
}

/// Where a partition is split.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SplitPointArguments {
    /// The first key of the right half, as bucket/object key, both escaped: `photos/m`.
    #[arg(long, value_name = "KEY", value_parser = split_key)]
    pub at: Option<SplitKey>,
    /// Let the partition's leader find the key that halves its load, or its size.
    #[arg(long, value_name = "WHAT")]
    pub by: Option<SplitBy>,
}

#[derive(Clone, Debug)]
pub struct SplitKey(pub Vec<u8>);

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum SplitBy {
    Load,
    Size,
}

fn split_key(text: &str) -> Result<SplitKey, String> {
    let key = parse_split_key(text)?;
    if key.is_empty() {
        return Err("the lowest key cannot be the first of the right half".to_owned());
    }
    Ok(SplitKey(key.into()))
}

#[derive(Debug, Args)]
pub struct RebalanceArguments {
    /// Only show what would be done.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: WaitArguments,
}

#[derive(Debug, Subcommand)]
pub enum OperationVerb {
    /// Operations, newest first.
    List {
        /// Also those that have ended.
        #[arg(long)]
        all: bool,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Follow one operation until it has ended; fail if it fails.
    Watch { operation: u64 },
    /// Cancel one that has not passed its point of no return.
    Cancel { operation: u64 },
}
