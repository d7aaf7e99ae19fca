//! What a plan proposes, as data, and why, in words.

use crate::ids::{NodeId, PartitionId};

use super::{
    measure::LEADERS,
    snapshot::{Amounts, DIMENSION_NAMES, Memory},
};

/// Why something is done; the first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goal {
    /// A replica is missing, a node is to be left, or replicas share a fault domain.
    Safety,
    /// A node is overloaded.
    Overload,
    /// A node is above its share of the load.
    Balance,
    /// A node has more than its share of leaderships or replicas.
    Counts,
}

/// What is done; the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    TransferLeadership,
    /// The replica's leadership, if it has it, goes with it.
    MoveReplica,
    /// A replica that is missing is made; `from` is where it is copied from.
    AddReplica,
    /// At the sketch's point, which leaves so much of the heat on the left.
    Split {
        left_permille: u16,
    },
    /// One key is the heat: it is slowed down to so much of its rate at the door, for moving it would only
    /// move the trouble. Proposed in every plan for as long as it is needed.
    Throttle {
        keep_permille: u16,
    },
}

/// One end of an action. Shares are in thousandths of the mean utilisation, in the node's worst column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub node: NodeId,
    /// The node's place in the snapshot.
    pub index: u32,
    pub before_permille: u32,
    pub after_permille: u32,
}

/// Another way to reach the same, and where its nodes would be then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub partition: PartitionId,
    pub to: NodeId,
    pub from_after_permille: u32,
    pub to_after_permille: u32,
}

/// One proposal. For a split or a throttle, `to` is `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceAction {
    pub goal: Goal,
    pub tool: Tool,
    pub partition: PartitionId,
    /// The partition's place in the snapshot.
    pub index: u32,
    pub from: End,
    pub to: End,
    /// Bytes that are copied.
    pub bytes: u64,
    /// What the partition's leader bears when this is planned.
    pub leader_heat: Amounts,
    /// The column that matters: a dimension, then leaders, then replicas.
    pub column: usize,
    /// By how much the more loaded of both nodes is relieved, in thousandths of the mean.
    pub gain_permille: u32,
    /// The partition that goes the other way, if the two are exchanged: only together do they gain.
    pub exchanged_with: Option<PartitionId>,
    pub rejected: Option<Rejected>,
}

impl BalanceAction {
    /// What its ends' shares are shares of.
    pub fn column_name(&self) -> &'static str {
        column_name(self.column)
    }

    /// Whether it is only for even numbers of leaders.
    pub fn is_for_leaders(&self) -> bool {
        self.goal == Goal::Counts && self.column == LEADERS
    }

    /// The reason as a sentence.
    pub fn reason(&self) -> String {
        let Self { partition, from, to, .. } = self;
        let (source, destination, column) = (from.node, to.node, column_name(self.column));
        let why = match (self.goal, self.tool) {
            (Goal::Safety, Tool::AddReplica) => {
                format!("partition {partition} has fewer replicas than it should")
            }
            (Goal::Safety, _) => {
                format!("node {source} is to be left, may not lead, or shares a fault domain")
            }
            (Goal::Overload, _) => format!("node {source} is overloaded ({column})"),
            (Goal::Balance | Goal::Counts, _) => {
                format!("node {source} has more than its share of {column}")
            }
        };
        let bytes = self.bytes;
        let what = match self.tool {
            Tool::TransferLeadership => {
                format!("leadership of partition {partition} goes to node {destination}")
            }
            Tool::MoveReplica => format!(
                "a replica of partition {partition} ({bytes} bytes) goes to node {destination}"
            ),
            Tool::AddReplica => format!(
                "a replica of partition {partition} ({bytes} bytes) is made on node {destination}"
            ),
            Tool::Split { left_permille } => {
                format!("partition {partition} is split, {left_permille} ‰ of its heat on the left")
            }
            Tool::Throttle { keep_permille } => format!(
                "the hottest key of partition {partition} is slowed down to {keep_permille} ‰"
            ),
        };
        let course = |end: &End| {
            let End { node, before_permille, after_permille, .. } = end;
            format!("node {node} from {before_permille} to {after_permille} ‰ of the mean")
        };
        let effect = match self.tool {
            Tool::TransferLeadership | Tool::MoveReplica => {
                format!("{}, {}", course(from), course(to))
            }
            Tool::AddReplica => course(to),
            Tool::Split { .. } | Tool::Throttle { .. } => {
                format!("node {source} is at {} ‰ of the mean", from.before_permille)
            }
        };
        let exchange = match self.exchanged_with {
            None => String::new(),
            Some(other) => format!(" in exchange for partition {other}"),
        };
        let rejected = match self.rejected {
            None => "nothing else would have done".to_owned(),
            Some(other) => format!(
                "rejected: partition {} to node {} (then {} and {} ‰)",
                other.partition, other.to, other.from_after_permille, other.to_after_permille
            ),
        };
        format!("{why}: {what}{exchange}; {effect}; {rejected}{}", self.bears())
    }

    /// The partition's heat at the time, for whoever reads its history.
    fn bears(&self) -> String {
        let [reads, writes, bytes, processor_us, _] = self.leader_heat;
        if reads + writes + processor_us == 0 {
            return String::new();
        }
        let cores = processor_us as f64 / 1e6;
        format!(
            "; its leader bears {reads} reads/s, {writes} writes/s, {bytes} bytes/s, {cores:.3} cores"
        )
    }
}

fn column_name(column: usize) -> &'static str {
    match DIMENSION_NAMES.get(column) {
        Some(name) => name,
        None if column == DIMENSION_NAMES.len() => "leaderships",
        None => "replicas",
    }
}

/// Why a node stays above its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// The partition is too large a piece, and no split point is known.
    Indivisible,
    /// One key is its heat.
    HotKey,
    /// Changes that run, rest or are out of budget come first; a later plan goes on.
    Waiting,
    /// No change that the policy allows brings enough for what it costs.
    NothingGains,
    /// No node can take it, whatever budgets say: of those that may, none has room, or fault domains would be lost.
    NoPlace,
}

impl Hindrance {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Indivisible => "indivisible",
            Self::HotKey => "hot-key",
            Self::Waiting => "waiting",
            Self::NothingGains => "nothing-gains",
            Self::NoPlace => "no-place",
        }
    }
}

/// Something that a goal would have wanted, and that was not proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub goal: Goal,
    pub node: NodeId,
    pub partition: Option<PartitionId>,
    pub hindrance: Hindrance,
}

/// How good a zone is: the least is the best, and each field counts only where the ones before are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Replicas that are missing, or on nodes that are to be left.
    pub replicas_wanted: u64,
    /// Leaderships on nodes that are there and may not lead.
    pub leaders_misplaced: u64,
    /// Partitions with two replicas in one fault domain.
    pub domains_shared: u64,
    /// Utilisation above the policy's overload, summed over nodes, in millionths.
    pub overload_ppm: u64,
    /// The most loaded node's share of the mean utilisation, in its worst dimension, in millionths.
    pub worst_share_ppm: u64,
    /// The nodes' squared shares in all dimensions, weighted; in millionths.
    pub unevenness_ppm: u64,
}

/// What one plan proposes, most urgent first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancePlan {
    pub actions: Vec<BalanceAction>,
    pub before: Score,
    /// What the zone would be like with all of it done; splits and throttles are not counted.
    pub after: Score,
    /// What is in the way of the goals, at most [`OBSTACLES_MAX`] of it.
    pub obstacles: Vec<Obstacle>,
    /// Changes that were weighed.
    pub evaluations: u64,
    /// For the next snapshot.
    pub memory: Memory,
}

/// Obstacles that a plan names at most.
pub const OBSTACLES_MAX: usize = 64;
