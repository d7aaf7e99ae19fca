//! What the planner sees of a zone: nodes and partitions, numbered, with their heat.
//!
//! It can be made from anywhere: it knows nothing of the replicated state. A node or partition is known by
//! its place in its list; its id is what it is called outside. A node's load is never taken from the node's
//! own report: it is summed up from the heat of what is placed there, so that a report from before a move
//! counts where the partition is now.
//!
//! **Placement is as it will be.** A change that is running counts as done: `nodes` and `leader` say what
//! it leads to, and [`Running`] says what it holds meanwhile. Otherwise a plan would send away again what
//! is on its way already.

use serde::{Deserialize, Serialize};

use super::rest::Rest;
use crate::ids::{NodeId, PartitionId, ZoneTime};

/// What load is measured in.
pub const DIMENSIONS: usize = 5;
/// The names of the dimensions, in their sequence.
pub const DIMENSION_NAMES: [&str; DIMENSIONS] =
    ["reads/s", "writes/s", "bytes/s", "processor time", "stored bytes"];
/// The dimension of processor time.
pub const PROCESSOR: usize = 3;
/// The dimension of stored bytes, which must fit whatever the balance.
pub const STORED_BYTES: usize = 4;

/// An amount for each dimension: reads/s, writes/s, bytes/s, microseconds of processor time per second,
/// bytes stored. As capacity, 0 means that the dimension does not limit the node.
pub type Amounts = [u64; DIMENSIONS];

/// The most replicas of a partition.
pub const REPLICAS_MAX: usize = 7;
/// A partition's `leader` while nobody leads it.
pub const NO_LEADER: u8 = u8::MAX;
/// Departures that are remembered for a partition.
pub const DEPARTURES_MAX: usize = 16;

/// A node, and what may be done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    pub id: NodeId,
    /// What fails as one, as a number.
    pub fault_domain: u32,
    pub capacity: Amounts,
    /// Replicas may come: it is neither cordoned nor short of room.
    pub may_receive: bool,
    /// It may lead, and leaderships may come.
    pub may_lead: bool,
    /// Its replicas are to go: it is being drained, or is gone.
    pub is_leaving: bool,
    /// It is gone for good: what it holds can only be made again from other replicas.
    pub is_gone: bool,
}

/// What left a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departed {
    Replica,
    Leadership,
}

/// Where a replica or the leadership of a partition was, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    pub from: u32,
    pub at: ZoneTime,
    pub what: Departed,
}

/// A change of a partition that is under way. The partition is left alone until it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Running {
    #[default]
    Nothing,
    /// Anything that moves no data: a transfer, a split.
    Light,
    /// Data is copied to `to`, and counts against the budgets of both ends. `from` still holds its own: it
    /// is the node that the replica leaves, or the copy's source where none leaves.
    Move { from: u32, to: u32 },
}

/// A partition's placement and heat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionView {
    pub id: PartitionId,
    /// The nodes of its replicas, as places in the list of nodes; the first `replica_count` count.
    pub nodes: [u32; REPLICAS_MAX],
    pub replica_count: u8,
    /// How many replicas it should have; fewer than `replica_count` means nothing.
    pub replicas_wanted: u8,
    /// Which of its replicas leads, or [`NO_LEADER`].
    pub leader: u8,
    pub running: Running,
    /// How much of the leader's heat would go to the left half, in thousandths, if it were split at the
    /// sketch's point; 0 if no such point is known.
    pub split_left_permille: u16,
    /// How much of the leader's heat is the hottest key's, in thousandths.
    pub hottest_key_permille: u16,
    /// What its leader's node bears, and what each follower's does.
    pub leader_heat: Amounts,
    pub follower_heat: Amounts,
    /// By how much its heat may be off beside what the policy says, in thousandths: of few requests the rate is
    /// known badly.
    pub noise_permille: u16,
    /// It was changed a short while ago: until then, only safety and overload change it again.
    pub cooldown_until: ZoneTime,
    /// What has left which node, lately; few partitions have any. A leader's replica that moves leaves
    /// twice: as a replica and as the leader.
    pub departures: Vec<Departure>,
}

impl PartitionView {
    pub fn replicas(&self) -> &[u32] {
        &self.nodes[..usize::from(self.replica_count).min(REPLICAS_MAX)]
    }

    /// The node that leads it.
    pub fn leader_node(&self) -> Option<u32> {
        self.replicas().get(usize::from(self.leader)).copied()
    }

    pub fn is_on(&self, node: u32) -> bool {
        self.replicas().contains(&node)
    }

    /// What it costs the node to have it.
    pub fn heat_on(&self, node: u32) -> &Amounts {
        if self.leader_node() == Some(node) { &self.leader_heat } else { &self.follower_heat }
    }

    /// Bytes that have to be copied to make a replica.
    pub fn copied_bytes(&self) -> u64 {
        self.follower_heat[STORED_BYTES]
    }

    /// Remembers that something has left a node, and forgets the oldest if there are too many.
    pub fn depart(&mut self, departure: Departure) {
        if self.departures.len() >= DEPARTURES_MAX {
            self.departures.remove(0);
        }
        self.departures.push(departure);
    }
}

/// Whether two of these nodes are in one fault domain. Those that are gone do not count.
pub(super) fn shares_domain(nodes: &[NodeView], replicas: &[u32]) -> bool {
    let node = |index: &u32| &nodes[*index as usize];
    let pairs = |end: usize| replicas[..end].iter().map(move |other| (other, &replicas[end]));
    let meet = |one: &NodeView, other: &NodeView| {
        one.fault_domain == other.fault_domain && !one.is_gone && !other.is_gone
    };
    (1..replicas.len()).flat_map(pairs).any(|(one, other)| meet(node(one), node(other)))
}

/// What one plan has to know of the plans before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What earlier plans gained of what they promised, in thousandths: see [`Memory::judged`].
    pub realised_gain_permille: u32,
    /// The last plan was not done evening out, so this one goes on until the policy's stop.
    pub is_settling: bool,
    /// Since when a node has been above the policy's band in every plan.
    pub above_since: Option<ZoneTime>,
    /// Evening out has come to its end, in this zone.
    pub rest: Option<Rest>,
    /// A digest of the nodes' numbers of leaders and replicas with which nothing was left to be done for counts.
    /// Only others start it again: what heat allows changes with every report.
    pub counts_rest: Option<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            realised_gain_permille: 1_000,
            is_settling: false,
            above_since: None,
            rest: None,
            counts_rest: None,
        }
    }
}

impl Memory {
    /// What the next leader of the control plane has to know: without what has only begun, which it sees for itself.
    #[must_use]
    pub fn lasting(self) -> Self {
        let rest = self.rest.map(|rest| Rest { disturbed_since: None, ..rest });
        Self { above_since: None, rest, ..self }
    }

    /// Nothing is known not to be worth doing.
    #[must_use]
    pub fn without_rest(self) -> Self {
        Self { rest: None, counts_rest: None, ..self }
    }

    /// Takes in what a plan has promised and what came of it, as a moving average over about eight plans.
    /// A plan that promised nothing changes nothing.
    pub fn judged(self, promised_permille: u32, realised_permille: u32) -> Self {
        if promised_permille == 0 {
            return self;
        }
        let part = u64::from(realised_permille) * 1_000 / u64::from(promised_permille);
        let mixed = (u64::from(self.realised_gain_permille) * 7 + part.min(1_000)) / 8;
        Self { realised_gain_permille: u32::try_from(mixed).unwrap_or(1_000), ..self }
    }
}

/// A zone at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub time: ZoneTime,
    pub nodes: Vec<NodeView>,
    pub partitions: Vec<PartitionView>,
    pub memory: Memory,
}
