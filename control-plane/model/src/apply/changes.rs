//! Changes of a partition's target replicas: how they start, and how they end.
//!
//! A change is a level: it puts the new replica into the targets and the old one among the retiring, and
//! the reconciler closes the gap. Ending it without success puts the targets back, as long as the group
//! has not begun to vote with the new replica.
use planted::Bug;

use super::{Applier, transfers::names};
use crate::{
    command::{ChangeProposal, ChangePurpose, EndResult},
    ids::{NodeId, OperationId, PartitionId, ReplicaId},
    node::{Administrative, Node, NodeState},
    operation::{Operation, OperationKind, OperationState, Origin, ReplicaChange},
    outcome::{Applied, Outcome, Refusal},
    partition::{Partition, Replica, Retiring},
    state::ZoneState,
};

impl Applier<'_> {
    /// An operator's move.
    pub(super) fn move_replica(&mut self, id: PartitionId, from: NodeId, to: NodeId) -> Outcome {
        let partition = self.partition(id)?;
        self.node(from)?;
        self.node(to)?;
        let Some(source) = partition.target_on(from) else {
            let holders = names(partition.targets.iter().copied());
            return Err(Refusal::NoReplicaThere { partition: id, node: from, holders });
        };
        self.state.check_addition(id, partition, to)?;
        self.state.check_free(id, partition)?;
        if !partition.is_settled() {
            return Err(Refusal::NotSettled { partition: id });
        }
        self.state.check_fault_domains(id, partition, source, to)?;
        self.state.check_budget(&self.state.changes_in_flight(), Some(source), Some(to))?;
        let reason = format!("an operator asked for it: from node {from} to node {to}");
        let add = Some(Replica { id: self.added_replica(), node: to });
        let change = ReplicaChange { partition: id, remove: Some(source), add };
        let kind = OperationKind::MoveReplica(change);
        Ok(Applied::Operation(self.begin_change(kind, change, Origin::Operator, reason, None)))
    }

    /// A change that was planned.
    pub(super) fn start_change(
        &mut self,
        proposal: &ChangeProposal,
    ) -> Result<OperationId, Refusal> {
        self.check_brake()?;
        let id = proposal.partition;
        let partition = self.partition(id)?;
        self.state.check_free(id, partition)?;
        let remove = match proposal.remove {
            Some(replica) => Some(partition.target(replica).ok_or_else(|| Refusal::PlanStale {
                what: format!("replica {replica} is no longer a target of partition {id}"),
            })?),
            None => None,
        };
        let forsaken = proposal.add.and_then(|node| partition.forsaken_voter_on(node));
        match (proposal.add, forsaken) {
            (Some(node), None) => {
                self.node(node)?;
                self.state.check_addition(id, partition, node)?;
            }
            (Some(node), Some(_)) => self.state.check_eligible(node)?,
            (None, _) => {}
        }
        let (origin, parent) = self.check_purpose(proposal, partition, remove)?;
        self.state.check_budget(&self.state.changes_in_flight(), remove, proposal.add)?;
        let new = |node| Replica { id: self.added_replica(), node };
        let add = forsaken.or_else(|| proposal.add.map(new));
        let change = ReplicaChange { partition: id, remove, add };
        let kind = match proposal.purpose {
            ChangePurpose::Repair | ChangePurpose::ReplaceFailed => OperationKind::Repair(change),
            ChangePurpose::Spread
            | ChangePurpose::Drain { .. }
            | ChangePurpose::SpreadLoad
            | ChangePurpose::EvenCounts => OperationKind::MoveReplica(change),
        };
        Ok(self.begin_change(kind, change, origin, proposal.reason.clone(), parent))
    }

    /// Whether the purpose still holds; who asked, and the operation that this is a part of.
    fn check_purpose(
        &self,
        proposal: &ChangeProposal,
        partition: &Partition,
        remove: Option<Replica>,
    ) -> Result<(Origin, Option<OperationId>), Refusal> {
        let id = proposal.partition;
        let stale = |what: String| Err(Refusal::PlanStale { what });
        match proposal.purpose {
            ChangePurpose::Repair => {
                match (remove, proposal.add) {
                    (_, None) => return stale("a repair adds a replica".into()),
                    (Some(lost), Some(_)) if !self.state.is_replaceable(lost.node) => {
                        return stale(format!("node {} is not lost for good", lost.node));
                    }
                    (None, Some(_))
                        if partition.targets.len() >= self.state.replication_factor() =>
                    {
                        return stale(format!("partition {id} lacks no replica"));
                    }
                    (Some(_) | None, Some(_)) => {}
                }
                Ok((Origin::Repair, None))
            }
            ChangePurpose::ReplaceFailed => {
                // That it has failed is reported, not committed: the leader is taken at its word.
                if remove.is_none() || proposal.add.is_none() {
                    return stale("a failed replica is replaced by another".into());
                }
                Ok((Origin::Repair, None))
            }
            ChangePurpose::Spread => {
                let (Some(source), Some(to)) = (remove, proposal.add) else {
                    return stale("a move takes a replica from one node to another".into());
                };
                if !partition.is_settled() {
                    return Err(Refusal::NotSettled { partition: id });
                }
                let (before, after) = self.state.domains(partition, source, to);
                if after <= before {
                    return stale(format!("it spreads partition {id} no better"));
                }
                Ok((Origin::Repair, None))
            }
            purpose @ (ChangePurpose::SpreadLoad | ChangePurpose::EvenCounts) => {
                let (Some(source), Some(to)) = (remove, proposal.add) else {
                    return stale("a move takes a replica from one node to another".into());
                };
                if !partition.is_settled() {
                    return Err(Refusal::NotSettled { partition: id });
                }
                self.state.check_fault_domains(id, partition, source, to)?;
                let is_for_load = purpose == ChangePurpose::SpreadLoad;
                Ok((if is_for_load { Origin::Heat } else { Origin::Balance }, None))
            }
            ChangePurpose::Drain { parent } => {
                let Some(source) = remove else {
                    return stale("a drain takes a replica away".into());
                };
                let node = self.node(source.node)?;
                let Administrative::Draining { operation, accept_data_loss_risk } =
                    node.administrative
                else {
                    return stale(format!("node {} is not being drained", source.node));
                };
                if operation != parent {
                    return stale(format!("node {} is drained by {operation}", source.node));
                }
                if !partition.is_settled() {
                    return Err(Refusal::NotSettled { partition: id });
                }
                if proposal.add.is_none() && (!accept_data_loss_risk || partition.targets.len() < 2)
                {
                    return stale(format!("partition {id} cannot do without that replica"));
                }
                Ok((Origin::Operator, Some(parent)))
            }
        }
    }

    /// The id of a replica that is about to be added.
    pub(super) fn added_replica(&mut self) -> ReplicaId {
        if planted::is_planted(Bug::ReplicaIdReused) {
            return ReplicaId(self.counters().replica);
        }
        self.new_replica()
    }
}

/// What is checked of every change, before it begins.
impl ZoneState {
    fn known_node(&self, node: NodeId) -> Result<&Node, Refusal> {
        self.node(node).ok_or(Refusal::NoSuchNode { node })
    }

    /// Whether the node can take a replica of the partition.
    pub(super) fn check_addition(
        &self,
        id: PartitionId,
        partition: &Partition,
        to: NodeId,
    ) -> Result<(), Refusal> {
        if let Some(replica) = replica_on(partition, to)
            && !planted::is_planted(Bug::TwoReplicasOnOneNode)
        {
            return Err(Refusal::ReplicaThereAlready { partition: id, node: to, replica });
        }
        self.check_eligible(to)
    }

    pub(super) fn check_eligible(&self, to: NodeId) -> Result<(), Refusal> {
        match self.known_node(to)?.why_not_eligible() {
            Some(why) => Err(Refusal::NodeNotEligible { node: to, why }),
            None => Ok(()),
        }
    }

    pub(super) fn check_free(&self, id: PartitionId, partition: &Partition) -> Result<(), Refusal> {
        if let Some(operation) = partition.change {
            return Err(Refusal::ChangeUnderWay { partition: id, operation });
        }
        // Founders that differ could elect two leaders: no change before the group exists.
        if partition.observed.is_none() {
            return Err(Refusal::NotFounded { partition: id });
        }
        let is_up = |node| self.node(node).is_some_and(|node| node.is_up());
        if !partition.has_majority(|voter| is_up(voter.node)) {
            return Err(Refusal::NoMajority { partition: id });
        }
        Ok(())
    }

    /// Refuses a move after which fewer fault domains hold the partition than before.
    pub(super) fn check_fault_domains(
        &self,
        id: PartitionId,
        partition: &Partition,
        source: Replica,
        to: NodeId,
    ) -> Result<(), Refusal> {
        let (before, after) = self.domains(partition, source, to);
        if after >= before {
            return Ok(());
        }
        let fault_domain = self.known_node(to)?.fault_domain.clone();
        let other = partition
            .targets
            .iter()
            .filter(|target| target.id != source.id)
            .find(|target| {
                self.node(target.node).is_some_and(|node| node.fault_domain == fault_domain)
            })
            .map_or(source.node, |target| target.node);
        Err(Refusal::FaultDomainTaken { partition: id, node: to, other, fault_domain })
    }

    /// Fault domains that hold the partition before and after a move.
    pub(super) fn domains(
        &self,
        partition: &Partition,
        source: Replica,
        to: NodeId,
    ) -> (usize, usize) {
        let count = |nodes: &mut dyn Iterator<Item = NodeId>| {
            nodes
                .filter_map(|node| self.node(node))
                .map(|node| node.fault_domain.as_str())
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        let before = count(&mut partition.targets.iter().map(|target| target.node));
        let kept = partition.targets.iter().filter(|target| target.id != source.id);
        let after = count(&mut kept.map(|target| target.node).chain([to]));
        (before, after)
    }

    pub(super) fn check_budget(
        &self,
        in_flight: &ChangesInFlight,
        remove: Option<Replica>,
        add: Option<NodeId>,
    ) -> Result<(), Refusal> {
        let Some(policy) = self.policy() else { return Err(Refusal::NotInitialized) };
        let over = |what: &str, count, max| {
            if count < max {
                return Ok(());
            }
            Err(Refusal::OverBudget { what: what.into(), count, max })
        };
        over("changes in the zone", in_flight.zone, policy.changes_in_flight_zone_max)?;
        for node in remove.map(|replica| replica.node).into_iter().chain(add) {
            // Nothing is read from a node that is down.
            if self.node(node).is_none_or(|node| node.liveness.state == NodeState::Down) {
                continue;
            }
            let count = in_flight.nodes.get(&node).copied().unwrap_or(0);
            over(&format!("changes on node {node}"), count, policy.changes_in_flight_node_max)?;
        }
        Ok(())
    }
}

impl Applier<'_> {
    pub(super) fn begin_change(
        &mut self,
        kind: OperationKind,
        change: ReplicaChange,
        origin: Origin,
        reason: String,
        parent: Option<OperationId>,
    ) -> OperationId {
        let operation = self.start_operation(kind, origin, reason, parent);
        let now = self.now;
        self.state.update_partition(change.partition, |partition| {
            partition.change = Some(operation);
            if let Some(remove) = change.remove {
                partition.targets.retain(|target| target.id != remove.id);
                partition.retiring.push(Retiring { replica: remove, since: now });
                if partition.preferred_leader == Some(remove.id) {
                    partition.preferred_leader = change.add.map(|add| add.id);
                }
            }
            // One that was given up, and is taken back.
            partition.retiring.retain(|retiring| Some(retiring.replica) != change.add);
            partition.targets.extend(change.add);
            partition.targets.sort_unstable();
        });
        operation
    }

    /// Ends the partition's operation with success if all that it was for has happened.
    pub(super) fn end_change_if_done(&mut self, id: PartitionId) {
        let Some(operation) = self.state.partition(id).and_then(|partition| partition.change)
        else {
            return;
        };
        if self.state.operation_done(operation) == Ok(()) {
            self.release(id, operation);
            self.finish_operation(operation, OperationState::Succeeded, "");
        }
    }

    pub(super) fn end_operation(
        &mut self,
        id: OperationId,
        result: &EndResult,
    ) -> Result<(), Refusal> {
        let operation = self.operation(id)?;
        if !operation.is_running() {
            let state = operation.state.as_str().into();
            return Err(Refusal::OperationEnded { operation: id, state });
        }
        let (end, error) = match result {
            EndResult::Succeeded => {
                let done = self.state.operation_done(id);
                done.map_err(|why| Refusal::OperationNotDone { operation: id, why })?;
                (OperationState::Succeeded, "")
            }
            EndResult::Failed { reason } => (OperationState::Failed, reason.as_str()),
            EndResult::Cancelled { reason } => (OperationState::Cancelled, reason.as_str()),
        };
        self.close(id, end, error)
    }

    /// Ends a running operation, and settles what it stood for.
    pub(super) fn close(
        &mut self,
        id: OperationId,
        end: OperationState,
        error: &str,
    ) -> Result<(), Refusal> {
        let operation = self.operation(id)?;
        match operation.kind.clone() {
            OperationKind::Repair(change) | OperationKind::MoveReplica(change) => {
                if end != OperationState::Succeeded {
                    self.state.check_reversible(id, &change)?;
                    self.revert(&change);
                }
                self.release(change.partition, id);
                self.finish_operation(id, end, error);
            }
            OperationKind::TransferLeader { .. } => self.end_transfer(id, end, error),
            OperationKind::Split(_) => self.end_split(id, end, error)?,
            OperationKind::Drain { node, .. } => self.end_drain(id, node, end, error),
            OperationKind::Takeover { .. } => return Err(Refusal::NotCancellable),
        }
        Ok(())
    }

    fn revert(&mut self, change: &ReplicaChange) {
        let now = self.now;
        self.state.update_partition(change.partition, |partition| {
            if let Some(add) = change.add {
                partition.targets.retain(|target| target.id != add.id);
                partition.retiring.push(Retiring { replica: add, since: now });
                if partition.preferred_leader == Some(add.id) {
                    partition.preferred_leader = change.remove.map(|remove| remove.id);
                }
            }
            if let Some(remove) = change.remove {
                partition.retiring.retain(|retiring| retiring.replica.id != remove.id);
                partition.targets.push(remove);
                partition.targets.sort_unstable();
            }
        });
    }
}

/// The replica of any kind that the partition has on a node.
fn replica_on(partition: &Partition, node: NodeId) -> Option<ReplicaId> {
    let observed = partition.observed.iter().flat_map(|observed| {
        observed.voter_sets.iter().flatten().chain(&observed.learners).copied()
    });
    partition
        .target_on(node)
        .or_else(|| partition.retiring_on(node))
        .or_else(|| observed.into_iter().find(|replica| replica.node == node))
        .map(|replica| replica.id)
}

/// Changes of replicas that run now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangesInFlight {
    pub zone: u32,
    /// Onto a node, or off it while it is alive.
    pub nodes: std::collections::BTreeMap<NodeId, u32>,
}

impl ZoneState {
    pub fn changes_in_flight(&self) -> ChangesInFlight {
        let mut in_flight = ChangesInFlight::default();
        for change in self
            .running_operations()
            .filter_map(|(_, operation)| Operation::replica_change(operation))
        {
            in_flight.zone += 1;
            for node in change.add.iter().chain(&change.remove).map(|replica| replica.node) {
                *in_flight.nodes.entry(node).or_default() += 1;
            }
        }
        in_flight
    }

    /// Whether a node's replicas may be made again elsewhere: it has been down for long enough, or it is
    /// down and an operator wants it empty, or it is gone.
    pub fn is_replaceable(&self, node: NodeId) -> bool {
        let (Some(node), Some(policy)) = (self.node(node), self.policy()) else { return true };
        let down_ms = crate::ids::millis(self.zone_time().since(node.liveness.since));
        node.liveness.state == NodeState::Down
            && (down_ms >= policy.replace_after_ms || node.administrative != Administrative::Active)
    }

    /// Whether a running operation has reached its goal; if not, what it waits for.
    pub fn operation_done(&self, id: OperationId) -> Result<(), String> {
        let Some(operation) = self.operation(id) else { return Err("it is not known".into()) };
        match &operation.kind {
            OperationKind::Repair(change) | OperationKind::MoveReplica(change) => {
                let Some(partition) = self.partition(change.partition) else { return Ok(()) };
                if !partition.is_settled() {
                    return Err("the group does not have the intended members yet".into());
                }
                let alive = |node| {
                    self.node(node).is_some_and(|node| node.liveness.state != NodeState::Down)
                };
                match change.remove {
                    Some(old) if alive(old.node) && partition.retiring_on(old.node).is_some() => {
                        Err(format!("replica {} on node {} is not destroyed yet", old.id, old.node))
                    }
                    _ => Ok(()),
                }
            }
            OperationKind::TransferLeader { partition, to_replica, to, .. } => {
                let leader = self.partition(*partition).and_then(|partition| partition.leader);
                if leader.is_some_and(|leader| leader.replica == *to_replica) {
                    Ok(())
                } else {
                    Err(format!("node {to} does not lead yet"))
                }
            }
            OperationKind::Split(split) => self.split_done(split),
            OperationKind::Drain { node, .. } => {
                let down =
                    self.node(*node).is_none_or(|node| node.liveness.state == NodeState::Down);
                // What retires on a node that is down is never reported as destroyed.
                let left = if down {
                    usize::try_from(self.replicas_held(*node)).unwrap_or(usize::MAX)
                } else {
                    self.partitions_on(*node).count()
                };
                if left == 0 { Ok(()) } else { Err(format!("{left} replicas are still there")) }
            }
            OperationKind::Takeover { .. } => Ok(()),
        }
    }

    /// Whether a change can still be taken back.
    pub fn check_reversible(
        &self,
        operation: OperationId,
        change: &ReplicaChange,
    ) -> Result<(), Refusal> {
        let past = |why: String| Err(Refusal::PastNoReturn { operation, why });
        let Some(partition) = self.partition(change.partition) else {
            return past("its partition is gone".into());
        };
        if let (Some(add), Some(observed)) = (change.add, &partition.observed)
            && observed.is_voter(add.id)
        {
            return past(format!("replica {} on node {} votes already", add.id, add.node));
        }
        let Some(remove) = change.remove else { return Ok(()) };
        if !partition.retiring.iter().any(|retiring| retiring.replica.id == remove.id) {
            return past(format!("replica {} on node {} is destroyed", remove.id, remove.node));
        }
        if change.add.is_none()
            && partition
                .observed
                .as_ref()
                .is_some_and(|observed| !observed.is_full_voter(remove.id))
        {
            return past(format!("replica {} on node {} no longer votes", remove.id, remove.node));
        }
        Ok(())
    }
}
