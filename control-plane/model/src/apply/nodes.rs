//! Nodes: registration, conclusions about their health, removal.

use planted::Bug;
use uuid::Uuid;

use super::{Applier, Draft};
use crate::{
    command::{BrakeChange, Conclusion, Registration},
    event::EventKind,
    ids::NodeId,
    node::{Administrative, Liveness, Node, NodeState, RemovedNode, is_address, is_label},
    operation::OperationState,
    outcome::{Applied, Outcome, Refusal},
    state::ZoneState,
};

/// The longest software version that a node may state.
const VERSION_BYTES_MAX: usize = 128;

impl Applier<'_> {
    pub(super) fn register(&mut self, registration: &Registration) -> Outcome {
        check_registration(registration)?;
        let zone_id = self.state.zone_id().ok_or(Refusal::NotInitialized)?;
        if let Some(given) = registration.zone_id
            && given != zone_id
        {
            return Err(Refusal::WrongZone { given, zone_id });
        }
        if self.state.removed.contains(&registration.identity) {
            return Err(Refusal::IdentityRemoved { identity: registration.identity });
        }
        let known = self.known_node(registration)?;
        if let Some(id) = known {
            let last = self.node(id)?.incarnation;
            let wiped = planted::is_planted(Bug::WipedDiskVotes);
            if registration.incarnation < last && !wiped {
                let (given, last) = (registration.incarnation.get(), last.get());
                return Err(Refusal::StaleIncarnation { node: id, given, last });
            }
        }
        let displaced = self.name_holder(registration, known)?;
        if let Some(node) = displaced {
            self.forget_node(node, "another identity took its name");
        }
        let node = match known {
            Some(id) => {
                self.renew(id, registration);
                id
            }
            None => self.enlist(registration),
        };
        Ok(Applied::NodeRegistered { zone_id, node })
    }

    /// The node that registers, if the zone knows it.
    fn known_node(&self, registration: &Registration) -> Result<Option<NodeId>, Refusal> {
        let identity = registration.identity;
        let by_identity = self.state.node_with_identity(identity);
        match (registration.node, by_identity) {
            (Some(node), _) => {
                let record = self.state.node(node).ok_or(Refusal::UnknownNodeId { node })?;
                if record.identity != identity {
                    let (expected, given) = (record.identity, identity);
                    return Err(Refusal::IdentityMismatch { node, expected, given });
                }
                Ok(Some(node))
            }
            // The answer to its first registration was lost.
            (None, Some(node)) => Ok(Some(node)),
            (None, None) if registration.zone_id.is_some() => {
                Err(Refusal::UnknownIdentity { identity })
            }
            (None, None) => Ok(None),
        }
    }

    /// The node whose name is taken over, if there is one; refused if it still needs its name.
    fn name_holder(
        &self,
        registration: &Registration,
        known: Option<NodeId>,
    ) -> Result<Option<NodeId>, Refusal> {
        let Some((holder, record)) = self.state.node_named(&registration.name) else {
            return Ok(None);
        };
        if known == Some(holder) {
            return Ok(None);
        }
        let replicas = self.state.replicas_held(holder);
        let why = if record.liveness.state != NodeState::Down {
            format!("is {}", record.liveness.state)
        } else if replicas > 0 {
            format!("still holds {replicas} replicas")
        } else {
            return Ok(Some(holder));
        };
        Err(Refusal::NameTaken { name: registration.name.clone(), node: holder, why })
    }

    fn renew(&mut self, id: NodeId, registration: &Registration) {
        let Some(before) = self.state.node(id) else { return };
        let restarted = before.incarnation != registration.incarnation;
        let unchanged = !restarted
            && before.name == registration.name
            && before.address == registration.address
            && before.fault_domain == registration.fault_domain
            && before.capacity == registration.capacity
            && before.software_version == registration.software_version;
        if unchanged {
            return;
        }
        self.state.update_node(id, |node| {
            node.incarnation = registration.incarnation;
            node.name.clone_from(&registration.name);
            node.address.clone_from(&registration.address);
            node.fault_domain.clone_from(&registration.fault_domain);
            node.capacity = registration.capacity;
            node.software_version.clone_from(&registration.software_version);
        });
        let what = if restarted { "registered again after a start" } else { "has changed" };
        self.record_registration(id, registration, what);
    }

    fn enlist(&mut self, registration: &Registration) -> NodeId {
        let id = self.new_node();
        let node = Node {
            identity: registration.identity,
            name: registration.name.clone(),
            address: registration.address.clone(),
            fault_domain: registration.fault_domain.clone(),
            capacity: registration.capacity,
            incarnation: registration.incarnation,
            software_version: registration.software_version.clone(),
            administrative: Administrative::Active,
            liveness: Liveness {
                state: NodeState::Up,
                since: self.now,
                evidence: "it has just registered".into(),
                by_own_account: false,
                lapses: 0,
            },
            registered_at: self.now,
        };
        self.state.insert_node(id, node);
        self.record_registration(id, registration, "registered for the first time");
        id
    }

    fn record_registration(&mut self, id: NodeId, registration: &Registration, what: &str) {
        self.record(Draft {
            node: Some(id),
            ..Draft::new(
                EventKind::NodeRegistered,
                format!("node {id} ({}) {what}", registration.name),
                format!(
                    "identity {}, incarnation {}, address {}, fault domain {}",
                    registration.identity,
                    registration.incarnation,
                    registration.address,
                    registration.fault_domain
                ),
            )
        });
    }

    pub(super) fn set_liveness(
        &mut self,
        conclusions: &[Conclusion],
        brake: Option<&BrakeChange>,
    ) -> Applied {
        // The brake first: the ledger then shows it before what it was engaged for.
        if let Some(brake) = brake {
            self.set_brake(brake);
        }
        let (mut accepted, mut refused) = (0, Vec::new());
        for (conclusion, position) in conclusions.iter().zip(0..) {
            match self.conclude(conclusion) {
                Ok(()) => accepted += 1,
                Err(refusal) => refused.push((position, refusal)),
            }
        }
        Applied::Batch { accepted, operations: Vec::new(), refused }
    }

    fn conclude(&mut self, conclusion: &Conclusion) -> Result<(), Refusal> {
        let Conclusion { node: id, incarnation, state, evidence, .. } = conclusion;
        let node = self.node(*id)?;
        if *incarnation < node.incarnation {
            return Err(Refusal::StaleObservation {
                what: format!("the judgement on incarnation {incarnation} of node {id}"),
            });
        }
        let before = node.liveness.state;
        if !node.liveness.is_news(conclusion) {
            return Ok(());
        }
        let (name, now) = (node.name.clone(), self.now);
        self.state.update_node(*id, |node| {
            node.liveness = node.liveness.concluded(conclusion, now);
        });
        let kind = match state {
            NodeState::Up => EventKind::NodeUp,
            NodeState::Recovering => EventKind::NodeRecovering,
            NodeState::Slow => EventKind::NodeSlow,
            NodeState::Suspect => EventKind::NodeSuspect,
            NodeState::Down => EventKind::NodeDown,
        };
        let message = if conclusion.forgets {
            format!("node {id} ({name}) is {state}, and what it was before is forgotten")
        } else if before == *state {
            format!("node {id} ({name}) is {state} by its own account, too")
        } else {
            format!("node {id} ({name}) is {state}, and was {before}")
        };
        let draft = Draft::new(kind, message, evidence.clone());
        self.record(Draft { node: Some(*id), ..draft });
        Ok(())
    }

    pub(super) fn remove_node(&mut self, id: NodeId) -> Outcome {
        let node = self.node(id)?;
        let state = node.liveness.state;
        if state != NodeState::Down {
            return Err(Refusal::NodeNotDown { node: id, state: state.to_string() });
        }
        let replicas = self.state.replicas_held(id);
        if replicas > 0 {
            return Err(Refusal::NodeHoldsReplicas { node: id, replicas });
        }
        self.check_brake()?;
        self.forget_node(id, "an operator removed it");
        Ok(Applied::Done)
    }

    /// Forgets a node that holds no replicas: its identity is never accepted again.
    fn forget_node(&mut self, id: NodeId, reason: &str) {
        for partition in self.state.partitions_on(id).collect::<Vec<_>>() {
            // Only what was on its way out can be left; it goes with the node.
            self.state.update_partition(partition, |partition| {
                partition.retiring.retain(|retiring| retiring.replica.node != id);
            });
            self.end_change_if_done(partition);
        }
        let Some(node) = self.state.remove_node_record(id) else { return };
        if let Administrative::Draining { operation, .. } = node.administrative {
            self.finish_operation(operation, OperationState::Succeeded, "");
        }
        let removed = RemovedNode { node: id, name: node.name.clone(), removed_at: self.now };
        self.state.removed.insert(node.identity, removed);
        self.record(Draft {
            node: Some(id),
            ..Draft::new(
                EventKind::NodeRemoved,
                format!("node {id} ({}) is removed", node.name),
                format!("{reason}; identity {} is never accepted again", node.identity),
            )
        });
    }
}

impl ZoneState {
    /// Replicas that a node holds in targets or in observed memberships: what keeps it from being
    /// removed. What retires there does not.
    pub fn replicas_held(&self, node: NodeId) -> u32 {
        let held = self.partitions_on(node).filter(|partition| {
            self.partition(*partition).is_some_and(|partition| {
                partition.target_on(node).is_some() || partition.has_member_on(node)
            })
        });
        u32::try_from(held.count()).unwrap_or(u32::MAX)
    }
}

/// Checks the fields of a registration, whatever the zone's state.
pub fn check_registration(registration: &Registration) -> Result<(), Refusal> {
    let malformed = |field: &str, value: &str, expected: &str| Refusal::Malformed {
        field: field.into(),
        value: value.chars().take(100).collect(),
        expected: expected.into(),
    };
    const LABEL: &str = "expected 1 to 63 of a-z, 0-9, '-' and '.'";
    if registration.identity == Uuid::nil() {
        return Err(malformed("identity", &registration.identity.to_string(), "expected a UUID"));
    }
    if registration.incarnation.get() == 0 {
        return Err(malformed("incarnation", "0", "expected a number from 1"));
    }
    if !is_label(&registration.name) {
        return Err(malformed("name", &registration.name, LABEL));
    }
    if !is_label(&registration.fault_domain) {
        return Err(malformed("fault_domain", &registration.fault_domain, LABEL));
    }
    if !is_address(&registration.address) {
        return Err(malformed("address", &registration.address, "expected host:port"));
    }
    if registration.capacity.stored_bytes == 0 {
        return Err(malformed("capacity.stored_bytes", "0", "expected more than 0 bytes"));
    }
    if registration.capacity.cores == 0 {
        return Err(malformed("capacity.cores", "0", "expected at least 1"));
    }
    if registration.software_version.len() > VERSION_BYTES_MAX {
        let expected = format!("expected at most {VERSION_BYTES_MAX} bytes");
        return Err(malformed("software_version", &registration.software_version, &expected));
    }
    if registration.node.is_some() && registration.zone_id.is_none() {
        return Err(malformed("zone_id", "", "expected a zone id, since a node id is given"));
    }
    Ok(())
}
