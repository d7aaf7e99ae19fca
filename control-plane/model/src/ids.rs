//! Identities, positions and moments, each a type of its own so that they cannot be mixed up.
//!
//! **Invariant:** node, partition, replica and operation ids are drawn from counters in the replicated
//! state, start at 1 and are never reused, whatever happens to what they named.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number!(
    /// An index node: one data directory, for as long as it exists.
    NodeId
);
number!(
    /// A contiguous range of keys, replicated on several nodes.
    PartitionId
);
number!(
    /// One placement of a partition on a node. It is the replica's Raft id in the partition's group.
    ReplicaId
);
number!(
    /// A durable change.
    OperationId
);
number!(
    /// A replica of the control plane: one data directory.
    MemberId
);
number!(
    /// Position of a command in the control plane's log: the state after it has this revision.
    Revision
);
number!(
    /// Rises when a zone is rebuilt from a backup.
    Generation
);
number!(
    /// A Raft term: the control plane's, or a partition group's.
    Term
);
number!(
    /// Rises when a partition's range changes.
    RangeEpoch
);
number!(
    /// Rises each time a node's process starts.
    Incarnation
);
number!(
    /// Number of an event in the ledger: rises by one.
    EventSequence
);
number!(
    /// Milliseconds since 1970 by some leader's wall clock: for display, never for a decision.
    WallTime
);
number!(
    /// Milliseconds of the zone's own time: it advances only while the control plane leads, at most
    /// one second for each command, and never goes backwards.
    ZoneTime
);

impl ZoneTime {
    /// Time from `earlier` to this moment; zero if it is not earlier.
    pub const fn since(self, earlier: ZoneTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `duration` later.
    pub fn after(self, duration: Duration) -> ZoneTime {
        ZoneTime(self.0.saturating_add(millis(duration)))
    }
}

/// Whole milliseconds of a duration, saturating.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A position in a Raft log, ordered by (term, leader, index).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogPosition {
    pub term: Term,
    /// Raft id of the leader that proposed the entry: a replica id in a partition's group.
    pub leader_id: u64,
    pub index: u64,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}-{}", self.term, self.leader_id, self.index)
    }
}

/// Decides which of two orders is newer: compared field by field.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Fence {
    pub generation: Generation,
    /// Term of the control plane's leader that gives the order.
    pub term: Term,
    /// Revision of the state on which the order is based.
    pub revision: Revision,
}
