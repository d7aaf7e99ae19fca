//! The zone's model: everything that the control plane decides, as pure, synchronous code.
//!
//! Nothing here has a clock, a network, a disk or randomness: time, ids and observations are arguments.
//! So all of it can be tested, replayed and explained.
//!
//! Where to start reading:
//! - [`state`] and [`command`]: the replicated state and what changes it; [`apply`] does it.
//! - [`observation`]: what the leader's sessions know now. Never replicated, never mixed with intent.
//! - [`accrual`], [`health`]: what a node's heartbeats say, and how they come.
//! - [`detector`], [`takeover`], [`placement`], [`repair`], [`drain`], [`leaders`]: judgements and plans.
//! - [`heat`]: which partitions and nodes have how much load.
//! - [`brake`]: when too much seems lost at once, what is held back.
//! - [`agenda`], [`reconcile`]: from intent and observation to orders and conclusions.
//! - [`reconcile`]: from intent and observation to orders and conclusions.
//! - [`balance`]: leaderships and replicas where the heat is even, as a plan from a snapshot.
//! - [`reassignment`]: the best places for replicas, as a problem in a file, without a zone.
//! - [`tally`], [`status`]: figures for people.
//!
//! **Architecture invariant:** a planner proposes [`command::Action`]s and nothing else; only
//! [`apply`] changes the state, and it checks each proposal against the state as it is then.
//!
//! **Architecture invariant:** no unordered map decides anything.

pub mod accrual;
pub mod agenda;
pub mod apply;
pub mod balance;
pub mod balancer;
pub mod brake;
pub mod command;
pub mod detector;
pub mod drain;
pub mod event;
pub mod fingerprint;
pub mod group_view;
mod groups;
pub mod health;
pub mod heat;
pub mod ids;
mod indices;
pub mod key_range;
mod laggards;
pub mod leaders;
pub mod node;
pub mod observation;
pub mod operation;
pub mod order;
pub mod outcome;
pub mod partition;
pub mod partition_set;
pub mod placement;
pub mod plan;
pub mod policy;
mod problems;
pub mod progress;
pub mod reassignment;
pub mod reconcile;
pub mod repair;
pub mod seeded;
pub mod signal_log;
pub mod signals;
pub mod state;
pub mod status;
pub mod table;
pub mod takeover;
pub mod tally;
pub mod zone;
pub mod zone_clock;

pub use command::{Action, Command};
pub use ids::{
    EventSequence, Fence, Generation, Incarnation, LogPosition, MemberId, NodeId, OperationId,
    PartitionId, RangeEpoch, ReplicaId, Revision, Term, WallTime, ZoneTime,
};
pub use observation::ZoneView;
pub use outcome::{Applied, Category, Outcome, Refusal};
pub use state::{Changes, ZoneState};
