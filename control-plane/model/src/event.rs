//! The ledger: what happened and why, bounded by count and age.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{EventSequence, NodeId, OperationId, PartitionId, WallTime, ZoneTime},
    table::{Record, decode_number, encode_number},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub zone_time: ZoneTime,
    /// For display only.
    pub wall_time: WallTime,
    pub kind: EventKind,
    pub message: String,
    /// Inputs, scores, the best rejected alternative; may be empty where the message says it all.
    pub reason: String,
    pub partition: Option<PartitionId>,
    pub node: Option<NodeId>,
    pub operation: Option<OperationId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventKind {
    ZoneInitialized,
    NodeRegistered,
    NodeUp,
    NodeRecovering,
    NodeSlow,
    NodeSuspect,
    NodeDown,
    NodeDraining,
    NodeDrained,
    NodeUncordoned,
    NodeRemoved,
    PartitionPlaced,
    PartitionFounded,
    MembersChanged,
    LeaderChanged,
    ReplicaDestroyed,
    Takeover,
    TakeoverFailed,
    OperationStarted,
    OperationWaiting,
    OperationEnded,
    BrakeEngaged,
    BrakeReleased,
    BrakeOverridden,
    BrakeRestored,
    ControlPlaneLeader,
    PolicyChanged,
    ShadowPolicySet,
    ShadowPolicyCleared,
    PartitionSplit,
}

impl EventKind {
    /// The name of the kind on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::ZoneInitialized => "zone-initialized",
            EventKind::NodeRegistered => "node-registered",
            EventKind::NodeUp => "node-up",
            EventKind::NodeRecovering => "node-recovering",
            EventKind::NodeSlow => "node-slow",
            EventKind::NodeSuspect => "node-suspect",
            EventKind::NodeDown => "node-down",
            EventKind::NodeDraining => "node-draining",
            EventKind::NodeDrained => "node-drained",
            EventKind::NodeUncordoned => "node-uncordoned",
            EventKind::NodeRemoved => "node-removed",
            EventKind::PartitionPlaced => "partition-placed",
            EventKind::PartitionFounded => "partition-founded",
            EventKind::MembersChanged => "members-changed",
            EventKind::LeaderChanged => "leader-changed",
            EventKind::ReplicaDestroyed => "replica-destroyed",
            EventKind::Takeover => "takeover",
            EventKind::TakeoverFailed => "takeover-failed",
            EventKind::OperationStarted => "operation-started",
            EventKind::OperationWaiting => "operation-waiting",
            EventKind::OperationEnded => "operation-ended",
            EventKind::BrakeEngaged => "brake-engaged",
            EventKind::BrakeReleased => "brake-released",
            EventKind::BrakeOverridden => "brake-overridden",
            EventKind::BrakeRestored => "brake-restored",
            EventKind::ControlPlaneLeader => "control-plane-leader",
            EventKind::PolicyChanged => "policy-changed",
            EventKind::ShadowPolicySet => "shadow-policy-set",
            EventKind::ShadowPolicyCleared => "shadow-policy-cleared",
            EventKind::PartitionSplit => "partition-split",
        }
    }
}

impl Record for Event {
    const TAG: u8 = 6;
    type Key = EventSequence;
    fn encode_key(key: &EventSequence) -> Vec<u8> {
        encode_number(key.get())
    }
    fn decode_key(bytes: &[u8]) -> Option<EventSequence> {
        decode_number(bytes).map(EventSequence)
    }
}
