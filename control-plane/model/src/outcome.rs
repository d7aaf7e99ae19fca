//! What becomes of a command: [`Applied`], or a [`Refusal`] that changed nothing.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    heat::summary::SummaryError,
    ids::{NodeId, OperationId, PartitionId, ReplicaId},
    key_range::InvalidSplitKeys,
};

pub type Outcome = Result<Applied, Refusal>;

/// What a command has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// All there was to do.
    Done,
    ZoneInitialized {
        zone_id: Uuid,
        partitions: u32,
    },
    NodeRegistered {
        zone_id: Uuid,
        node: NodeId,
    },
    /// The one operation that was started, or ended.
    Operation(OperationId),
    /// The operations that were started, in the sequence of the proposals.
    Operations(Vec<OperationId>),
    /// Of a batch whose items stand for themselves: what was started, and what was refused, by its
    /// position in the batch.
    Batch {
        accepted: u32,
        operations: Vec<OperationId>,
        refused: Vec<(u32, Refusal)>,
    },
    /// The policy is as it was asked for, in this version.
    PolicySet {
        version: u64,
    },
}

/// Why a command was refused. It has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("the zone is not initialised yet: run `init` first")]
    NotInitialized,
    #[error("the zone is initialised already, as {zone_id}")]
    AlreadyInitialized { zone_id: Uuid },
    #[error("{0}")]
    InvalidSplitKeys(String),
    #[error("{count} split keys are too many: at most {max}")]
    TooManySplitKeys { count: u64, max: u64 },
    #[error("a replication factor of {given} is not possible: it is 1, 3 or 5")]
    InvalidReplicationFactor { given: u32 },
    #[error("{field} {value:?} is malformed: {expected}")]
    Malformed { field: String, value: String, expected: String },
    #[error("an idempotency key of {bytes} bytes is too long: at most 64 bytes")]
    IdempotencyKeyTooLong { bytes: u64 },
    #[error("the idempotency key {key:?} was used for another command: choose a new one")]
    IdempotencyKeyReused { key: String },
    #[error("{max} idempotency keys are remembered already: retry without a key, or later")]
    TooManyIdempotencyKeys { max: u32 },

    #[error(
        "the data directory belongs to zone {given}, and this is zone {zone_id}: point the node at its own zone, or give it an empty data directory"
    )]
    WrongZone { given: Uuid, zone_id: Uuid },
    #[error(
        "node id {node} is not known in this zone: the data directory is not one of its nodes'"
    )]
    UnknownNodeId { node: NodeId },
    #[error(
        "identity {identity} is not known in this zone, although it says that it was registered: the data directory is not one of its nodes'"
    )]
    UnknownIdentity { identity: Uuid },
    #[error(
        "node {node} has identity {expected}, not {given}: the data directory is another node's, or a copy"
    )]
    IdentityMismatch { node: NodeId, expected: Uuid, given: Uuid },
    #[error(
        "identity {identity} was removed from the zone and is never accepted again: start the node with an empty data directory"
    )]
    IdentityRemoved { identity: Uuid },
    #[error(
        "incarnation {given} of node {node} is older than {last}, which has registered already: another process runs on a newer copy of its data directory"
    )]
    StaleIncarnation { node: NodeId, given: u64, last: u64 },
    #[error(
        "the name {name:?} belongs to node {node}, which {why}: choose another name, or remove that node first"
    )]
    NameTaken { name: String, node: NodeId, why: String },

    #[error("there is no node {node}")]
    NoSuchNode { node: NodeId },
    #[error("there is no partition {partition}")]
    NoSuchPartition { partition: PartitionId },
    #[error("there is no operation {operation}, or it has been forgotten")]
    NoSuchOperation { operation: OperationId },

    #[error(
        "node {node} holds no voting replica of partition {partition}: choose one of nodes {holders}"
    )]
    NotAVoter { partition: PartitionId, node: NodeId, holders: String },
    #[error("node {node} holds no replica of partition {partition}: choose one of nodes {holders}")]
    NoReplicaThere { partition: PartitionId, node: NodeId, holders: String },
    #[error(
        "node {node} holds replica {replica} of partition {partition} already: choose another node"
    )]
    ReplicaThereAlready { partition: PartitionId, node: NodeId, replica: ReplicaId },
    #[error("node {node} cannot be chosen: {why}")]
    NodeNotEligible { node: NodeId, why: String },
    #[error(
        "node {node} is in fault domain {fault_domain:?}, where node {other} holds a replica of partition {partition} already: choose a node in another fault domain"
    )]
    FaultDomainTaken { partition: PartitionId, node: NodeId, other: NodeId, fault_domain: String },
    #[error(
        "partition {partition} is in the middle of operation {operation}: wait for it, or cancel it"
    )]
    ChangeUnderWay { partition: PartitionId, operation: OperationId },
    #[error(
        "partition {partition} is in the middle of a change of its members: wait until that has ended"
    )]
    NotSettled { partition: PartitionId },
    #[error("partition {partition} has no group yet: wait until its replicas are up")]
    NotFounded { partition: PartitionId },
    #[error(
        "partition {partition} has no majority of its replicas on nodes that are up: bring one back first"
    )]
    NoMajority { partition: PartitionId },
    #[error("the zone has changed since this was planned: {what}: plan again")]
    PlanStale { what: String },
    #[error("the plan cannot be applied to any zone: {0}")]
    InvalidPlan(String),
    #[error(
        "nothing of the plan was begun, for the zone has changed since: {}: plan again",
        in_words(.changed, *.more)
    )]
    PlanChanged {
        /// The partitions that are no longer as the plan saw them, and how; the first of them.
        changed: Vec<(PartitionId, String)>,
        /// How many there are beside these.
        more: u64,
    },
    #[error(
        "nothing of the plan was begun, for it has {planned} {what}, {running} are under way already, and {max} is the limit: wait for those, and plan again"
    )]
    PlanOverBudget { what: String, planned: u32, running: u32, max: u32 },
    #[error("{count} {what} are under way already, and {max} is the limit: wait for one of them")]
    OverBudget { what: String, count: u32, max: u32 },
    #[error("the brake is engaged: {reason}")]
    Braked { reason: String },
    #[error("the brake is not engaged: there is nothing to override")]
    BrakeNotEngaged,
    #[error("an override of {for_ms} ms is too long: at most {max_ms} ms, which is an hour")]
    OverrideTooLong { for_ms: u64, max_ms: u64 },

    #[error("node {node} is {why} already")]
    AlreadyDraining { node: NodeId, why: String },
    #[error(
        "node {node} cannot be drained safely: {why}, or accept that partitions are left with fewer replicas (`--accept-data-loss-risk`)"
    )]
    DrainAtRisk { node: NodeId, why: String, partitions: Vec<PartitionId> },
    #[error("node {node} is {state}: stop its process first, and wait until it is down")]
    NodeNotDown { node: NodeId, state: String },
    #[error(
        "node {node} still holds {replicas} replicas: drain it, or wait until they are made again elsewhere"
    )]
    NodeHoldsReplicas { node: NodeId, replicas: u32 },

    #[error(
        "partition {partition} cannot be split at {key}: it has the keys from {start} up to {end}, and both \
         halves must have room for a key; choose one behind {start}"
    )]
    NotInside { partition: PartitionId, key: String, start: String, end: String },
    #[error("a key of {bytes} bytes is too long to split at: at most {max} bytes")]
    SplitKeyTooLong { bytes: u64, max: u64 },

    #[error("operation {operation} has ended already: {state}")]
    OperationEnded { operation: OperationId, state: String },
    #[error("operation {operation} has passed its point of no return: {why}")]
    PastNoReturn { operation: OperationId, why: String },
    #[error("a takeover cannot be cancelled: it ends by itself within seconds")]
    NotCancellable,
    #[error("operation {operation} has not reached its end: {why}")]
    OperationNotDone { operation: OperationId, why: String },
    #[error("partition {partition} has its replicas already")]
    PlacedAlready { partition: PartitionId },
    #[error("a placement of partition {partition} is not possible: {why}")]
    InvalidPlacement { partition: PartitionId, why: String },
    #[error("{what} is older than what is known already")]
    StaleObservation { what: String },
    #[error("replica {replica} of partition {partition} is not retiring")]
    NotRetiring { partition: PartitionId, replica: ReplicaId },
    #[error("{0}")]
    InvalidHeatSummary(String),

    #[error("{0}")]
    InvalidPolicy(String),
    #[error(
        "the policy is version {found}, not {expected}: somebody has changed it since; look at it again, and set what should be otherwise"
    )]
    PolicyVersion { expected: u64, found: u64 },
    #[error("{field} is {found} and cannot become {given}: it is fixed when the zone is made")]
    PolicyFieldFixed { field: String, found: u64, given: u64 },
    #[error("{field} is {given}, and {in_use} are in use: choose more, or wait")]
    PolicyBelowUse { field: String, given: u64, in_use: u64 },
}

fn in_words(changed: &[(PartitionId, String)], more: u64) -> String {
    let named = changed.iter().map(|(partition, how)| format!("partition {partition}: {how}"));
    let mut words = named.collect::<Vec<_>>().join("; ");
    if more > 0 {
        words.push_str(&format!("; and {more} more"));
    }
    words
}

/// Which kind of refusal: each stands for one status code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Can never be right.
    InvalidArgument,
    NotFound,
    AlreadyExists,
    /// The state of the zone forbids it now.
    FailedPrecondition,
    ResourceExhausted,
}

impl Refusal {
    pub fn category(&self) -> Category {
        match self {
            Refusal::InvalidSplitKeys(_)
            | Refusal::TooManySplitKeys { .. }
            | Refusal::InvalidReplicationFactor { .. }
            | Refusal::Malformed { .. }
            | Refusal::OverrideTooLong { .. }
            | Refusal::InvalidPlan(_)
            | Refusal::InvalidHeatSummary(_)
            | Refusal::InvalidPolicy(_)
            | Refusal::IdempotencyKeyTooLong { .. }
            | Refusal::IdempotencyKeyReused { .. }
            | Refusal::NotInside { .. }
            | Refusal::SplitKeyTooLong { .. }
            | Refusal::NotAVoter { .. }
            | Refusal::NoReplicaThere { .. }
            | Refusal::ReplicaThereAlready { .. } => Category::InvalidArgument,
            Refusal::NoSuchNode { .. }
            | Refusal::NoSuchPartition { .. }
            | Refusal::NoSuchOperation { .. } => Category::NotFound,
            Refusal::AlreadyInitialized { .. } | Refusal::NameTaken { .. } => {
                Category::AlreadyExists
            }
            Refusal::TooManyIdempotencyKeys { .. }
            | Refusal::OverBudget { .. }
            | Refusal::PlanOverBudget { .. } => Category::ResourceExhausted,
            Refusal::NotInitialized
            | Refusal::WrongZone { .. }
            | Refusal::UnknownNodeId { .. }
            | Refusal::UnknownIdentity { .. }
            | Refusal::IdentityMismatch { .. }
            | Refusal::IdentityRemoved { .. }
            | Refusal::StaleIncarnation { .. }
            | Refusal::NodeNotEligible { .. }
            | Refusal::FaultDomainTaken { .. }
            | Refusal::ChangeUnderWay { .. }
            | Refusal::NotSettled { .. }
            | Refusal::NotFounded { .. }
            | Refusal::NoMajority { .. }
            | Refusal::PlanStale { .. }
            | Refusal::PlanChanged { .. }
            | Refusal::Braked { .. }
            | Refusal::BrakeNotEngaged
            | Refusal::AlreadyDraining { .. }
            | Refusal::DrainAtRisk { .. }
            | Refusal::NodeNotDown { .. }
            | Refusal::NodeHoldsReplicas { .. }
            | Refusal::OperationEnded { .. }
            | Refusal::PastNoReturn { .. }
            | Refusal::NotCancellable
            | Refusal::OperationNotDone { .. }
            | Refusal::PlacedAlready { .. }
            | Refusal::InvalidPlacement { .. }
            | Refusal::StaleObservation { .. }
            | Refusal::NotRetiring { .. }
            | Refusal::PolicyVersion { .. }
            | Refusal::PolicyFieldFixed { .. }
            | Refusal::PolicyBelowUse { .. } => Category::FailedPrecondition,
        }
    }

    /// The guarantee that the command would have broken, and the partitions that it would have hurt, at
    /// most 16 of them.
    pub fn guarantee_at_risk(&self) -> Option<(&'static str, &[PartitionId])> {
        match self {
            Refusal::DrainAtRisk { partitions, .. } => Some(("G7", partitions)),
            _ => None,
        }
    }
}

impl From<InvalidSplitKeys> for Refusal {
    fn from(error: InvalidSplitKeys) -> Self {
        Refusal::InvalidSplitKeys(error.to_string())
    }
}

impl From<SummaryError> for Refusal {
    fn from(error: SummaryError) -> Self {
        Refusal::InvalidHeatSummary(error.to_string())
    }
}
