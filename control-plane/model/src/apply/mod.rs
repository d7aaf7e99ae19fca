//! Applying commands: the only code that changes a [`ZoneState`].
//!
//! It is deterministic, and total: whatever decodes as a command is carried out or refused, never a
//! panic and never half of an effect. Each action checks all it needs before it changes anything; in a
//! batch, each item does.

mod brake;
mod changes;
mod groups;
mod nodes;
mod operator;
mod plans;
mod policy;
mod retention;
mod splits;
mod transfers;
mod zone;

pub use changes::ChangesInFlight;
pub use nodes::check_registration;
pub(crate) use plans::PlanBudget;
pub use plans::{CHANGES_NAMED_MAX, REASON_BYTES_MAX, STEPS_MAX, check_plan_form};
use planted::Bug;
pub use splits::SPLITS_IN_FLIGHT_MAX;
pub use zone::check_initialization;

use crate::{
    command::{Action, Command},
    event::{Event, EventKind},
    fingerprint::fingerprint,
    ids::{
        EventSequence, NodeId, OperationId, PartitionId, ReplicaId, Revision, WallTime, ZoneTime,
    },
    node::Node,
    operation::{Operation, OperationKind, OperationState, Origin},
    outcome::{Applied, Outcome, Refusal},
    partition::Partition,
    policy::Policy,
    state::ZoneState,
    zone::{Counters, Remembered},
    zone_clock::ZONE_TIME_STEP_MAX_MS,
};

/// The longest idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;

impl ZoneState {
    /// Applies the command at position `revision` of the control plane's log.
    ///
    /// # Panics
    /// If the state no longer keeps G4 afterwards: better no control plane than one that gives orders
    /// from such a state.
    pub fn apply(&mut self, revision: Revision, command: &Command) -> Outcome {
        if !self.is_initialized() && !matches!(command.action, Action::InitializeZone { .. }) {
            return Err(Refusal::NotInitialized);
        }
        let mut applier = Applier { wall_time: command.wall_time, now: ZoneTime(0), state: self };
        applier.advance(revision, command.zone_time);
        let outcome = applier.act_once(command);
        // Only now for the command that makes the zone.
        applier.advance(revision, command.zone_time);
        // What is refused changes nothing.
        if outcome.is_ok() {
            applier.end_override_in_time();
        }
        applier.forget();
        if let Err(error) = self.check_changed() {
            panic!("revision {revision} would break G4: {error}");
        }
        outcome
    }
}

/// A command on its way into the state.
struct Applier<'a> {
    state: &'a mut ZoneState,
    now: ZoneTime,
    wall_time: WallTime,
}

impl Applier<'_> {
    fn advance(&mut self, revision: Revision, proposed: ZoneTime) {
        if let Some(zone) = self.state.zone.get_mut(&()) {
            if zone.revision < revision {
                let latest = ZoneTime(zone.zone_time.get().saturating_add(ZONE_TIME_STEP_MAX_MS));
                zone.zone_time = proposed.min(latest).max(zone.zone_time);
                zone.revision = revision;
            }
            self.now = zone.zone_time;
        }
    }

    /// Acts, unless the command's idempotency key says that it was done before.
    fn act_once(&mut self, command: &Command) -> Outcome {
        let key = &command.idempotency_key;
        if key.is_empty() || planted::is_planted(Bug::IdempotencyKeyForgotten) {
            return self.act(&command.action);
        }
        if key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            let bytes = u64::try_from(key.len()).unwrap_or(u64::MAX);
            return Err(Refusal::IdempotencyKeyTooLong { bytes });
        }
        let fingerprint = match command.request_fingerprint {
            0 => fingerprint_of(&command.action),
            given => given,
        };
        if let Some(remembered) = self.state.remembered.get(key) {
            return if remembered.fingerprint == fingerprint {
                remembered.outcome.clone()
            } else {
                Err(Refusal::IdempotencyKeyReused { key: key.clone() })
            };
        }
        if let Some(policy) = self.state.policy() {
            let max = policy.idempotency_keys_max;
            if self.state.remembered.len() >= usize::try_from(max).unwrap_or(usize::MAX) {
                return Err(Refusal::TooManyIdempotencyKeys { max });
            }
        }
        let outcome = self.act(&command.action);
        // A plan that was refused may fit later, and is held against the zone each time: only what was done counts.
        let may_fit_later = outcome.is_err() && matches!(command.action, Action::ApplyPlan { .. });
        if self.state.is_initialized() && !may_fit_later {
            let remembered = Remembered { fingerprint, outcome: outcome.clone(), at: self.now };
            self.state.indices.remembered.insert((self.now, key.clone()));
            self.state.remembered.insert(key.clone(), remembered);
        }
        outcome
    }

    fn act(&mut self, action: &Action) -> Outcome {
        match action {
            Action::InitializeZone {
                zone_id,
                split_keys,
                replication_factor,
                replace_after_ms,
            } => self.initialize(*zone_id, split_keys, *replication_factor, *replace_after_ms),
            Action::RegisterNode(registration) => self.register(registration),
            Action::SetLiveness { conclusions, brake } => {
                Ok(self.set_liveness(conclusions, brake.as_ref()))
            }
            Action::CommitPlacements { placements } => {
                self.batch(placements, |applier, placement| applier.place(placement).map(|()| None))
            }
            Action::ObserveGroups { groups } => {
                self.batch(groups, |applier, group| applier.observe(group).map(|()| None))
            }
            Action::TransferLeader { partition, to } => self.transfer_leader(*partition, *to),
            Action::MoveReplica { partition, from, to } => {
                self.move_replica(*partition, *from, *to)
            }
            Action::SplitPartition { partition, at, origin, reason } => {
                self.split_partition(*partition, at, *origin, reason)
            }
            Action::DrainNode { node, accept_data_loss_risk } => {
                self.drain(*node, *accept_data_loss_risk)
            }
            Action::UncordonNode { node } => self.uncordon(*node),
            Action::RemoveNode { node } => self.remove_node(*node),
            Action::ApplyPlan { steps } => self.apply_plan(steps),
            Action::CancelOperation { operation } => self.cancel(*operation),
            Action::OverrideBrake { for_ms, reason } => self.override_brake(*for_ms, reason),
            Action::SetPolicy { expected_version, values, reason } => {
                self.set_policy(*expected_version, values, reason)
            }
            Action::SetShadowPolicy { balance, reason } => {
                self.set_shadow_policy(balance.as_ref(), reason)
            }
            Action::StartTransfers { origin, transfers } => self
                .batch(transfers, |applier, item| applier.start_transfer(*origin, item).map(Some)),
            Action::StartReplicaChanges { changes } => {
                self.batch(changes, |applier, item| applier.start_change(item).map(Some))
            }
            Action::RecordTakeover(record) => Ok(self.record_takeover(record)),
            Action::NoteOperationError { operation, error } => self.note_error(*operation, error),
            Action::EndOperations { ends } => self.batch(ends, |applier, end| {
                applier.end_operation(end.operation, &end.result).map(|()| Some(end.operation))
            }),
            Action::DropRetired { replicas } => {
                self.batch(replicas, |applier, (partition, replica)| {
                    applier.drop_retired(*partition, *replica).map(|()| None)
                })
            }
            Action::Tick => Ok(Applied::Done),
            Action::AnnounceLeader { member, address, term } => {
                self.announce_leader(*member, address, *term)
            }
            Action::SummarizeHeat { summary } => self.summarize_heat(summary),
            Action::RememberBalance { memory } => {
                self.state.balance.insert((), memory.clone());
                Ok(Applied::Done)
            }
        }
    }

    /// Applies items that stand for themselves.
    fn batch<T>(
        &mut self,
        items: &[T],
        mut apply: impl FnMut(&mut Self, &T) -> Result<Option<OperationId>, Refusal>,
    ) -> Outcome {
        let (mut accepted, mut operations, mut refused) = (0, Vec::new(), Vec::new());
        for (item, position) in items.iter().zip(0..) {
            match apply(self, item) {
                Ok(operation) => {
                    accepted += 1;
                    operations.extend(operation);
                }
                Err(refusal) => refused.push((position, refusal)),
            }
        }
        Ok(Applied::Batch { accepted, operations, refused })
    }

    fn policy(&self) -> &Policy {
        self.state.policy().expect("only `init` is applied before there is a zone")
    }

    fn counters(&mut self) -> &mut Counters {
        let zone = self.state.zone.get_mut(&());
        &mut zone.expect("only `init` is applied before there is a zone").counters
    }

    fn new_node(&mut self) -> NodeId {
        NodeId(next(&mut self.counters().node))
    }

    fn new_partition(&mut self) -> PartitionId {
        PartitionId(next(&mut self.counters().partition))
    }

    fn new_replica(&mut self) -> ReplicaId {
        ReplicaId(next(&mut self.counters().replica))
    }

    fn node(&self, node: NodeId) -> Result<&Node, Refusal> {
        self.state.nodes.get(&node).ok_or(Refusal::NoSuchNode { node })
    }

    fn partition(&self, partition: PartitionId) -> Result<&Partition, Refusal> {
        self.state.partitions.get(&partition).ok_or(Refusal::NoSuchPartition { partition })
    }

    fn operation(&self, operation: OperationId) -> Result<&Operation, Refusal> {
        self.state.operations.get(&operation).ok_or(Refusal::NoSuchOperation { operation })
    }

    /// Adds to the ledger.
    fn record(&mut self, draft: Draft) {
        let sequence = EventSequence(next(&mut self.counters().event));
        let Draft { kind, message, reason, partition, node, operation } = draft;
        let (zone_time, wall_time) = (self.now, self.wall_time);
        let event =
            Event { zone_time, wall_time, kind, message, reason, partition, node, operation };
        self.state.events.insert(sequence, event);
    }

    /// Adds an operation that runs from now on.
    fn start_operation(
        &mut self,
        kind: OperationKind,
        origin: Origin,
        reason: String,
        parent: Option<OperationId>,
    ) -> OperationId {
        let id = OperationId(next(&mut self.counters().operation));
        let operation = Operation {
            kind,
            state: OperationState::Running,
            origin,
            reason,
            last_error: String::new(),
            started_at: self.now,
            ended_at: None,
            parent,
        };
        self.record(Draft {
            partition: operation.partition(),
            node: operation.node().or(operation.to_node()),
            operation: Some(id),
            ..Draft::new(
                EventKind::OperationStarted,
                format!("operation {id} started: {}", operation.summary()),
                operation.reason.clone(),
            )
        });
        self.state.insert_operation(id, operation);
        id
    }

    /// Ends a running operation; what it stood for is settled by the caller.
    fn finish_operation(&mut self, id: OperationId, end: OperationState, error: &str) {
        let now = self.now;
        self.state.update_operation(id, |operation| {
            operation.state = end;
            operation.ended_at = Some(now);
            error.clone_into(&mut operation.last_error);
        });
        let Some(operation) = self.state.operation(id) else { return };
        let draft = Draft {
            partition: operation.partition(),
            node: operation.node().or(operation.to_node()),
            operation: Some(id),
            ..Draft::new(
                EventKind::OperationEnded,
                format!("operation {id} {}: {}", end.as_str(), operation.summary()),
                error.to_owned(),
            )
        };
        self.record(draft);
    }
}

/// An event that is about to be recorded.
struct Draft {
    kind: EventKind,
    message: String,
    reason: String,
    partition: Option<PartitionId>,
    node: Option<NodeId>,
    operation: Option<OperationId>,
}

impl Draft {
    fn new(kind: EventKind, message: String, reason: String) -> Self {
        Self { kind, message, reason, partition: None, node: None, operation: None }
    }
}

fn next(counter: &mut u64) -> u64 {
    *counter = counter.checked_add(1).expect("2^64 ids are never used up");
    *counter
}

/// A digest of what a caller asked for, without what the server added to it: a retry of the same
/// request has the same digest.
fn fingerprint_of(action: &Action) -> u64 {
    let bytes = postcard::to_stdvec(action).expect("commands hold nothing that cannot be encoded");
    fingerprint(bytes)
}
