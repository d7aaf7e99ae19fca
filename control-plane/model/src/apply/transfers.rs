//! Transfers of leadership.

use super::Applier;
use crate::{
    command::TransferProposal,
    ids::{NodeId, OperationId, PartitionId},
    operation::{OperationKind, OperationState, Origin},
    outcome::{Applied, Outcome, Refusal},
    partition::{Partition, Replica},
};

impl Applier<'_> {
    /// An operator's transfer.
    pub(super) fn transfer_leader(&mut self, id: PartitionId, to: NodeId) -> Outcome {
        let partition = self.partition(id)?;
        let from = partition.leader.map(|leader| leader.node);
        let replica = self.check_transfer(id, partition, to)?;
        let reason = format!("an operator asked for node {to} to lead");
        let operation = self.begin_transfer(id, from, replica, Origin::Operator, reason, None);
        if from == Some(to) {
            self.end_transfer(operation, OperationState::Succeeded, "");
        }
        Ok(Applied::Operation(operation))
    }

    /// A transfer that was planned.
    pub(super) fn start_transfer(
        &mut self,
        origin: Origin,
        proposal: &TransferProposal,
    ) -> Result<OperationId, Refusal> {
        self.check_brake()?;
        let replica = self.check_planned(proposal)?;
        let max = self.policy().transfers_in_flight_max;
        let count = self.transfers_in_flight();
        if count >= max {
            return Err(Refusal::OverBudget { what: "transfers".into(), count, max });
        }
        let asked = proposal.parent.and_then(|parent| self.state.operation(parent));
        let origin = match asked.map(|parent| parent.origin) {
            // Whoever asked for the whole asked for its parts.
            Some(Origin::Operator) => Origin::Operator,
            Some(Origin::Repair | Origin::Balance | Origin::Takeover | Origin::Heat) | None => {
                origin
            }
        };
        Ok(self.begin_transfer(
            proposal.partition,
            Some(proposal.from),
            replica,
            origin,
            proposal.reason.clone(),
            proposal.parent,
        ))
    }

    /// All transfers of a plan, or none.
    pub(super) fn rebalance_leaders(&mut self, transfers: &[TransferProposal]) -> Outcome {
        self.check_brake()?;
        let mut planned = std::collections::BTreeMap::new();
        for proposal in transfers {
            let replica = self.check_planned(proposal)?;
            if planned.insert(proposal.partition, (proposal, replica)).is_some() {
                let what = format!("partition {} is in it twice", proposal.partition);
                return Err(Refusal::PlanStale { what });
            }
        }
        let operations = transfers
            .iter()
            .filter_map(|proposal| planned.get(&proposal.partition).copied())
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(proposal, replica)| {
                self.begin_transfer(
                    proposal.partition,
                    Some(proposal.from),
                    replica,
                    Origin::Operator,
                    proposal.reason.clone(),
                    None,
                )
            })
            .collect();
        Ok(Applied::Operations(operations))
    }

    fn check_planned(&self, proposal: &TransferProposal) -> Result<Replica, Refusal> {
        let partition = self.partition(proposal.partition)?;
        if partition.leader.map(|leader| leader.node) != Some(proposal.from)
            || proposal.from == proposal.to
        {
            return Err(Refusal::PlanStale {
                what: format!(
                    "partition {} is not led by node {}",
                    proposal.partition, proposal.from
                ),
            });
        }
        self.check_transfer(proposal.partition, partition, proposal.to)
    }

    /// The voting replica that would lead, if the node can take the leadership now.
    fn check_transfer(
        &self,
        id: PartitionId,
        partition: &Partition,
        to: NodeId,
    ) -> Result<Replica, Refusal> {
        let node = self.node(to)?;
        let Some(observed) = &partition.observed else {
            return Err(Refusal::NotFounded { partition: id });
        };
        let voter = partition.target_on(to).filter(|target| observed.is_full_voter(target.id));
        let Some(replica) = voter else {
            let holders = names(observed.voters().into_iter());
            return Err(Refusal::NotAVoter { partition: id, node: to, holders });
        };
        if let Some(why) = node.why_not_eligible() {
            return Err(Refusal::NodeNotEligible { node: to, why });
        }
        if let Some(operation) = partition.change {
            return Err(Refusal::ChangeUnderWay { partition: id, operation });
        }
        if !partition.is_settled() {
            return Err(Refusal::NotSettled { partition: id });
        }
        Ok(replica)
    }

    fn begin_transfer(
        &mut self,
        partition: PartitionId,
        from: Option<NodeId>,
        to: Replica,
        origin: Origin,
        reason: String,
        parent: Option<OperationId>,
    ) -> OperationId {
        let kind =
            OperationKind::TransferLeader { partition, from, to: to.node, to_replica: to.id };
        let operation = self.start_operation(kind, origin, reason, parent);
        self.state.update_partition(partition, |partition| {
            partition.change = Some(operation);
            partition.preferred_leader = Some(to.id);
        });
        operation
    }

    pub(super) fn end_transfer(&mut self, id: OperationId, end: OperationState, error: &str) {
        if let Some(partition) = self.state.operation(id).and_then(|transfer| transfer.partition())
        {
            self.release(partition, id);
        }
        self.finish_operation(id, end, error);
    }

    /// Frees a partition for the next change.
    pub(super) fn release(&mut self, partition: PartitionId, operation: OperationId) {
        self.state.update_partition(partition, |partition| {
            if partition.change == Some(operation) {
                partition.change = None;
            }
        });
    }

    fn transfers_in_flight(&self) -> u32 {
        let running = self.state.running_operations().filter(|(_, operation)| {
            matches!(operation.kind, OperationKind::TransferLeader { .. })
        });
        u32::try_from(running.count()).unwrap_or(u32::MAX)
    }
}

/// Nodes of replicas, for people.
pub(super) fn names(replicas: impl Iterator<Item = Replica>) -> String {
    let names: Vec<_> = replicas.map(|replica| replica.node.to_string()).collect();
    if names.is_empty() { "(none)".into() } else { names.join(", ") }
}
