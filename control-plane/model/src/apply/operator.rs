//! What operators ask for, beyond single transfers and moves: drains, cancellations, and notes.

use super::{Applier, Draft};
use crate::{
    drain,
    event::EventKind,
    ids::{NodeId, OperationId},
    node::Administrative,
    operation::{OperationKind, OperationState, Origin},
    outcome::{Applied, Outcome, Refusal},
};

impl Applier<'_> {
    pub(super) fn drain(&mut self, id: NodeId, accept_data_loss_risk: bool) -> Outcome {
        let node = self.node(id)?;
        match node.administrative {
            Administrative::Active => {}
            Administrative::Draining { operation, .. } => {
                let why = format!("being drained by operation {operation}");
                return Err(Refusal::AlreadyDraining { node: id, why });
            }
            Administrative::Drained => {
                return Err(Refusal::AlreadyDraining { node: id, why: "drained".into() });
            }
        }
        let name = node.name.clone();
        if !accept_data_loss_risk && let Some(risk) = drain::risk(self.state, None, id) {
            return Err(Refusal::DrainAtRisk {
                node: id,
                why: risk.why,
                partitions: risk.partitions,
            });
        }
        let replicas_at_start = self.state.target_count(id);
        let reason = if accept_data_loss_risk {
            "an operator asked for it, and accepted the risk of data loss".to_owned()
        } else {
            "an operator asked for it".to_owned()
        };
        let kind = OperationKind::Drain { node: id, replicas_at_start };
        let operation = self.start_operation(kind, Origin::Operator, reason.clone(), None);
        self.state.update_node(id, |node| {
            node.administrative = Administrative::Draining { operation, accept_data_loss_risk };
        });
        self.record(Draft {
            node: Some(id),
            operation: Some(operation),
            ..Draft::new(
                EventKind::NodeDraining,
                format!("node {id} ({name}) is being drained of {replicas_at_start} replicas"),
                reason,
            )
        });
        Ok(Applied::Operation(operation))
    }

    /// Ends a drain: with success the node is kept empty, otherwise it takes part again.
    pub(super) fn end_drain(
        &mut self,
        operation: OperationId,
        id: NodeId,
        end: OperationState,
        error: &str,
    ) {
        let drained = end == OperationState::Succeeded;
        self.state.update_node(id, |node| {
            node.administrative =
                if drained { Administrative::Drained } else { Administrative::Active };
        });
        if drained {
            let name = self.state.node(id).map_or(String::new(), |node| node.name.clone());
            self.record(Draft {
                node: Some(id),
                operation: Some(operation),
                ..Draft::new(
                    EventKind::NodeDrained,
                    format!("node {id} ({name}) is drained"),
                    "no partition has a replica there, and none is placed there".into(),
                )
            });
        } else {
            self.cancel_parts(operation);
        }
        self.finish_operation(operation, end, error);
    }

    /// Cancels the parts of an operation that can still be taken back; the others run to their end.
    fn cancel_parts(&mut self, parent: OperationId) {
        let parts: Vec<_> = self
            .state
            .running_operations()
            .filter(|(_, operation)| operation.parent == Some(parent))
            .map(|(id, _)| id)
            .collect();
        for part in parts {
            let why = format!("operation {parent}, which it was a part of, has ended");
            // What is past its point of no return goes on, and ends by itself.
            let _ = self.close(part, OperationState::Cancelled, &why);
        }
    }

    pub(super) fn uncordon(&mut self, id: NodeId) -> Outcome {
        let node = self.node(id)?;
        let name = node.name.clone();
        match node.administrative {
            Administrative::Active => return Ok(Applied::Done),
            Administrative::Draining { operation, .. } => {
                let why = "the node was uncordoned";
                self.end_drain(operation, id, OperationState::Cancelled, why);
            }
            Administrative::Drained => {
                self.state.update_node(id, |node| node.administrative = Administrative::Active);
            }
        }
        self.record(Draft {
            node: Some(id),
            ..Draft::new(
                EventKind::NodeUncordoned,
                format!("node {id} ({name}) takes part in placement again"),
                "an operator asked for it".into(),
            )
        });
        Ok(Applied::Done)
    }

    pub(super) fn cancel(&mut self, id: OperationId) -> Outcome {
        let operation = self.operation(id)?;
        if !operation.is_running() {
            let state = operation.state.as_str().into();
            return Err(Refusal::OperationEnded { operation: id, state });
        }
        self.close(id, OperationState::Cancelled, "an operator cancelled it")?;
        Ok(Applied::Operation(id))
    }

    pub(super) fn note_error(&mut self, id: OperationId, error: &str) -> Outcome {
        let operation = self.operation(id)?;
        if !operation.is_running() {
            let state = operation.state.as_str().into();
            return Err(Refusal::OperationEnded { operation: id, state });
        }
        if operation.last_error == error {
            return Ok(Applied::Done);
        }
        let draft = Draft {
            partition: operation.partition(),
            node: operation.node().or(operation.to_node()),
            operation: Some(id),
            ..Draft::new(
                EventKind::OperationWaiting,
                format!("operation {id} waits: {}", operation.summary()),
                error.to_owned(),
            )
        };
        self.state.update_operation(id, |operation| error.clone_into(&mut operation.last_error));
        if !error.is_empty() {
            self.record(draft);
        }
        Ok(Applied::Operation(id))
    }
}
