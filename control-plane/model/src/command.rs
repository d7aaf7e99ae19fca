//! The commands that the control plane's Raft log carries.
//!
//! A command is a proposal: whoever proposed it looked at a state that may be gone when it is applied.
//! So [`ZoneState::apply`](crate::state::ZoneState::apply) checks everything again, and refuses what no
//! longer fits. Whatever a command depends on (time, ids, a plan) it carries: applying it is
//! deterministic.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    balance::Memory,
    heat::Summary,
    ids::{
        Incarnation, MemberId, NodeId, OperationId, PartitionId, RangeEpoch, ReplicaId, Term,
        WallTime, ZoneTime,
    },
    key_range::KeyRange,
    node::{Capacity, NodeState},
    operation::{Origin, SplitPoint},
    partition::Membership,
    policy::PolicyValues,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The zone's time as the leader sees it: see [`crate::zone_clock::ZoneClock`].
    pub zone_time: ZoneTime,
    /// The leader's wall clock, for display only.
    pub wall_time: WallTime,
    /// The caller's; empty: none.
    pub idempotency_key: String,
    /// A digest of the request as the caller wrote it, who may name nodes by names that mean another node
    /// later; 0: of the action itself.
    pub request_fingerprint: u64,
    pub action: Action,
}

impl Command {
    pub fn new(zone_time: ZoneTime, wall_time: WallTime, action: Action) -> Self {
        let idempotency_key = String::new();
        Self { zone_time, wall_time, idempotency_key, request_fingerprint: 0, action }
    }

    /// The caller's key, and the digest of the request that came with it; 0: none.
    pub fn of_request(mut self, key: impl Into<String>, fingerprint: u64) -> Self {
        self.idempotency_key = key.into();
        self.request_fingerprint = fingerprint;
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Makes the zone and its partitions, once.
    InitializeZone {
        zone_id: Uuid,
        split_keys: Vec<Vec<u8>>,
        replication_factor: u32,
        /// 0: five minutes.
        replace_after_ms: u64,
    },
    RegisterNode(Registration),
    /// The conclusions of one round of the judge, all together, and the brake that follows from them.
    SetLiveness {
        conclusions: Vec<Conclusion>,
        brake: Option<BrakeChange>,
    },
    /// Places partitions for the first time. Items stand for themselves.
    CommitPlacements {
        placements: Vec<PlacementProposal>,
    },
    /// What groups were seen to have committed. Items stand for themselves; one that is older than what
    /// is known is left out.
    ObserveGroups {
        groups: Vec<GroupObservation>,
    },

    // By operators.
    TransferLeader {
        partition: PartitionId,
        to: NodeId,
    },
    MoveReplica {
        partition: PartitionId,
        from: NodeId,
        to: NodeId,
    },
    /// A partition becomes two. With the origin Balance it is held back by the brake.
    SplitPartition {
        partition: PartitionId,
        at: SplitPoint,
        origin: Origin,
        /// Why: inputs, scores.
        reason: String,
    },
    DrainNode {
        node: NodeId,
        accept_data_loss_risk: bool,
    },
    UncordonNode {
        node: NodeId,
    },
    RemoveNode {
        node: NodeId,
    },
    /// A plan as it was shown: all of it, or nothing if the zone has changed since.
    ApplyPlan {
        steps: Vec<PlannedStep>,
    },
    CancelOperation {
        operation: OperationId,
    },
    /// Lets repairs and moves go on for a while although the brake is engaged; 0 ms: no longer.
    OverrideBrake {
        for_ms: u64,
        /// The operator's words.
        reason: String,
    },

    // By the control plane itself.
    /// Starts transfers of leadership. Items stand for themselves.
    StartTransfers {
        origin: Origin,
        transfers: Vec<TransferProposal>,
    },
    /// Starts changes of replicas: repairs, and the moves of drains. Items stand for themselves.
    StartReplicaChanges {
        changes: Vec<ChangeProposal>,
    },
    /// What a takeover did, for the record.
    RecordTakeover(TakeoverRecord),
    /// Notes what an operation is waiting on; an empty error clears it.
    NoteOperationError {
        operation: OperationId,
        error: String,
    },
    /// Ends operations. Items stand for themselves.
    EndOperations {
        ends: Vec<OperationEnd>,
    },
    /// Retiring replicas that are destroyed for good. Items stand for themselves.
    DropRetired {
        replicas: Vec<(PartitionId, ReplicaId)>,
    },
    /// Lets zone time advance.
    Tick,
    /// A member leads the control plane from now on: for the ledger, once for each term.
    AnnounceLeader {
        member: MemberId,
        /// Where it listens.
        address: String,
        term: Term,
    },
    /// What the leader has seen of load, coarsely, in the place of what was written down before: the next one
    /// begins with it.
    SummarizeHeat {
        summary: Summary,
    },
    /// What the balancer has to remember, in the place of what it remembered before.
    RememberBalance {
        memory: Memory,
    },
    /// By an operator: puts another policy in the place of the one with that version.
    SetPolicy {
        expected_version: u64,
        /// All fields, by name.
        values: PolicyValues,
        /// The operator's words.
        reason: String,
    },
    /// By an operator: plans with another policy of balance beside the zone's own, and acts on none of it; or no
    /// longer.
    SetShadowPolicy {
        /// All fields of balance, by name.
        balance: Option<PolicyValues>,
        /// The operator's words.
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The zone that the data directory belongs to; none in its first registration.
    pub zone_id: Option<Uuid>,
    pub identity: Uuid,
    /// None in the data directory's first registration.
    pub node: Option<NodeId>,
    pub incarnation: Incarnation,
    pub name: String,
    pub address: String,
    pub fault_domain: String,
    pub capacity: Capacity,
    pub software_version: String,
}

/// A judgement on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conclusion {
    pub node: NodeId,
    /// The incarnation that was judged: a newer one is not hit by it.
    pub incarnation: Incarnation,
    pub state: NodeState,
    /// Why, in a sentence.
    pub evidence: String,
    /// It says so itself: no peer has to confirm it.
    pub by_own_account: bool,
    /// It is up, and has been well for so long that its lapses are forgotten. Said in so many words, since a
    /// conclusion may be committed twice: being up once more is no reason to forget.
    pub forgets: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeChange {
    pub engaged: bool,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementProposal {
    pub partition: PartitionId,
    pub nodes: Vec<NodeId>,
    /// One of `nodes`.
    pub preferred_leader: NodeId,
    pub reason: String,
}

/// What a partition's group was seen to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupObservation {
    pub partition: PartitionId,
    /// A committed membership.
    pub membership: Option<Membership>,
    pub leader: Option<LeaderObservation>,
    /// Of a group that the zone does not know yet: the range that it was split off with.
    pub split_off: Option<SplitOff>,
}

/// How a child of a split began, as a replica of it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitOff {
    pub range: KeyRange,
    pub range_epoch: RangeEpoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderObservation {
    pub replica: ReplicaId,
    pub term: Term,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferProposal {
    pub partition: PartitionId,
    /// Where the leader was when this was planned.
    pub from: NodeId,
    pub to: NodeId,
    pub reason: String,
    /// The operation that this one is a part of.
    pub parent: Option<OperationId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeProposal {
    pub partition: PartitionId,
    pub purpose: ChangePurpose,
    /// The target replica that goes; none: one is missing.
    pub remove: Option<ReplicaId>,
    /// The node that gets a replica; none: the one that goes is given up.
    pub add: Option<NodeId>,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangePurpose {
    /// A replica is lost with its node, or missing.
    Repair,
    /// A replica was stopped by an error of its own, on a node that lives.
    ReplaceFailed,
    /// Replicas share a fault domain although they need not.
    Spread,
    /// A node is emptied.
    Drain { parent: OperationId },
    /// Load is spread.
    SpreadLoad,
    /// A node has more than its share of replicas.
    EvenCounts,
}

/// A step of a plan that an operator was shown, and what of its partition it is conditional on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    pub partition: PartitionId,
    /// Its target replicas when this was planned, in the order of their ids.
    pub targets: Vec<ReplicaId>,
    /// The node that led it then.
    pub leader: NodeId,
    pub change: PlannedChange,
    pub reason: String,
    /// The partition that goes the other way: only together do the two gain.
    pub exchanged_with: Option<PartitionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlannedChange {
    TransferLeader {
        from: NodeId,
        to: NodeId,
    },
    MoveReplica {
        /// One of the targets.
        replica: ReplicaId,
        /// Its node.
        from: NodeId,
        to: NodeId,
    },
}

impl PlannedChange {
    pub fn from(&self) -> NodeId {
        match *self {
            PlannedChange::TransferLeader { from, .. }
            | PlannedChange::MoveReplica { from, .. } => from,
        }
    }

    pub fn to(&self) -> NodeId {
        match *self {
            PlannedChange::TransferLeader { to, .. } | PlannedChange::MoveReplica { to, .. } => to,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeoverRecord {
    /// The node whose leaderships were lost; none: the groups had no leader.
    pub lost: Option<NodeId>,
    pub reason: String,
    pub groups: Vec<TakeoverOutcome>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeoverOutcome {
    pub partition: PartitionId,
    /// The replica that leads now; none: no candidate was elected.
    pub leader: Option<LeaderObservation>,
    /// Why this one: log positions, ties, what went before.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationEnd {
    pub operation: OperationId,
    pub result: EndResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndResult {
    Succeeded,
    Failed { reason: String },
    Cancelled { reason: String },
}
