//! Emptying a node: leaderships first (see [`crate::leaders`]), then replicas, one move each, and at
//! last the node is kept empty. And the questions that come before it: what would break (G7), and would
//! it ever end?

use crate::{
    command::{ChangeProposal, ChangePurpose, EndResult, OperationEnd},
    ids::{NodeId, OperationId, PartitionId},
    node::{Administrative, NodeState},
    observation::ZoneView,
    placement::{Loads, NoChoice, choose},
    state::ZoneState,
};

/// Partitions that are named in a refusal.
const NAMED_MAX: usize = 16;
/// Partitions that are named in its sentence.
const WORDED_MAX: usize = 8;
/// Partitions of one drain that are looked at in one round.
const EXAMINED_MAX: usize = 64;
/// For how long a drain moves no replicas while the node still has leaderships to hand over: copies would slow
/// the hand-overs down, for which clients wait. After that one leadership that does not go holds up its own
/// partition only.
const HAND_OVER_FIRST_MS: u64 = 2_000;

/// What a drain would break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Risk {
    pub why: String,
    /// At most 16.
    pub partitions: Vec<PartitionId>,
}

/// Whether what is left could keep every partition's replication; none if it can.
///
/// With the leader's view a node counts only if it has a session and room on its disk; without, as it is
/// when a command is applied, what was concluded has to do.
pub fn risk(state: &ZoneState, view: Option<&ZoneView>, node: NodeId) -> Option<Risk> {
    let takes_replicas = |id: NodeId| {
        view.is_none_or(|view| view.is_connected(id) && !view.is_disk_low(id))
            && state.node(id).is_some_and(|node| node.is_serving())
    };
    let others =
        state.nodes().iter().filter(|(id, _)| **id != node && takes_replicas(**id)).count();
    let is_up = |id: NodeId| state.node(id).is_some_and(|node| node.is_up());
    let (mut homeless, mut stuck, mut needed) = (Vec::new(), Vec::new(), 0);
    for id in state.partitions_on(node) {
        let Some(partition) = state.partition(id) else { continue };
        if partition.target_on(node).is_none() {
            continue;
        }
        // Each of the others can hold one replica: those that do and those that could must suffice.
        if others < partition.targets.len() {
            needed = needed.max(partition.targets.len());
            homeless.push(id);
        } else if !partition.has_majority(|voter| is_up(voter.node)) {
            stuck.push(id);
        }
    }
    let (why, mut partitions) = match (homeless.is_empty(), stuck.is_empty()) {
        (true, true) => return None,
        (true, false) => {
            let why = format!(
                "{} no majority of replicas on nodes that are up, and cannot be moved: bring such a node back first",
                named(&stuck, "has", "have")
            );
            (why, stuck)
        }
        (false, _) => {
            let nodes = if others == 1 { "node is" } else { "nodes are" };
            let why = format!(
                "only {others} other {nodes} up and can take replicas, and {needed} are needed: {} nowhere to go; bring a node back or add one first",
                named(&homeless, "would have", "would have")
            );
            (why, homeless)
        }
    };
    partitions.truncate(NAMED_MAX);
    Some(Risk { why, partitions })
}

/// The first few partitions as the subject of a sentence, with its verb.
fn named(partitions: &[PartitionId], one: &str, many: &str) -> String {
    let ids: Vec<_> = partitions.iter().take(WORDED_MAX).map(ToString::to_string).collect();
    match partitions.len() {
        1 => format!("partition {} {one}", ids.join(", ")),
        count if count > WORDED_MAX => {
            format!("{count} partitions ({}, …) {many}", ids.join(", "))
        }
        _ => format!("partitions {} {many}", ids.join(", ")),
    }
}

/// Whether the other nodes have room for what the node stores, as far as the leader sees; none if they
/// have. The replicated state cannot check this: it is asked before the drain is proposed.
pub fn room_risk(state: &ZoneState, view: &ZoneView, node: NodeId) -> Option<Risk> {
    let needed = view.stored_bytes_on(node);
    let others = state
        .nodes()
        .iter()
        .filter(|(id, record)| **id != node && record.is_serving() && !view.is_disk_low(**id));
    let free = others.fold(0_u64, |sum, (id, record)| {
        let used = view.stored_bytes_on(*id);
        sum.saturating_add(record.capacity.stored_bytes.saturating_sub(used))
    });
    if needed <= free {
        return None;
    }
    let mut partitions: Vec<PartitionId> = state.partitions_on(node).collect();
    partitions.truncate(NAMED_MAX);
    let why = format!(
        "the other nodes have room for {free} bytes, and {needed} are there: free space or add a node first"
    );
    Some(Risk { why, partitions })
}

/// What drains do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainPlan {
    pub changes: Vec<ChangeProposal>,
    pub ends: Vec<OperationEnd>,
    /// What each running drain waits on; empty: nothing.
    pub notes: Vec<(OperationId, String)>,
}

/// Next steps of all drains, within the budgets.
pub fn plan(state: &ZoneState, view: &ZoneView, loads: &mut Loads) -> DrainPlan {
    let mut plan = DrainPlan::default();
    for (id, node) in state.nodes().iter() {
        let Administrative::Draining { operation, accept_data_loss_risk } = node.administrative
        else {
            continue;
        };
        if state.operation_done(operation) == Ok(()) {
            plan.ends.push(OperationEnd { operation, result: EndResult::Succeeded });
            continue;
        }
        let note = if let Some(brake) = state.brake() {
            format!("the brake is engaged: {}", brake.reason)
        } else if node.liveness.state == NodeState::Down {
            // Its replicas are lost: repair makes them again elsewhere.
            "the node is down: its replicas are made again elsewhere".to_owned()
        } else {
            let step = Step { state, view, node: *id, operation, accept_data_loss_risk };
            step.moves(loads, &mut plan.changes)
        };
        plan.notes.push((operation, note));
    }
    plan
}

/// One drain's next moves.
struct Step<'a> {
    state: &'a ZoneState,
    view: &'a ZoneView,
    node: NodeId,
    operation: OperationId,
    accept_data_loss_risk: bool,
}

impl Step<'_> {
    /// Adds the moves that can start now; says what cannot, empty if nothing is in the way.
    fn moves(&self, loads: &mut Loads, changes: &mut Vec<ChangeProposal>) -> String {
        let mut note = String::new();
        let mut examined = 0;
        if self.is_handing_over() {
            return note;
        }
        for id in self.state.partitions_on(self.node) {
            let Some(partition) = self.state.partition(id) else { continue };
            let Some(source) = partition.target_on(self.node) else { continue };
            if partition.change.is_some()
                || !partition.is_settled()
                || changes.iter().any(|change| change.partition == id)
                || self.must_hand_over_first(id)
            {
                continue;
            }
            // Some are looked at although there is no budget for them: what is in the way of a drain
            // shall be said all the time, not only in the moments when a move could start.
            examined += 1;
            if examined > EXAMINED_MAX {
                break;
            }
            let chosen = choose(self.state, self.view, loads, id, partition, Some(source.id));
            let (add, why) = match chosen {
                Ok(choice) => (Some(choice.node), choice.reason),
                Err(NoChoice::Wait { .. }) => continue,
                Err(nobody @ NoChoice::Nobody { .. }) => {
                    if !self.accept_data_loss_risk || partition.targets.len() < 2 {
                        note = nobody.to_string();
                        continue;
                    }
                    (None, format!("{nobody}; the operator has accepted the risk of data loss"))
                }
            };
            if !loads.zone_has_budget(self.state) || !loads.node_has_budget(self.state, self.node) {
                continue;
            }
            loads.reserve(Some(self.node), add, self.view.stored_bytes_of(id));
            changes.push(ChangeProposal {
                partition: id,
                purpose: ChangePurpose::Drain { parent: self.operation },
                remove: Some(source.id),
                add,
                reason: format!("node {} is being drained: {why}", self.node),
            });
        }
        note
    }

    /// Whether the drain has just begun, and leaderships are on their way to other nodes.
    fn is_handing_over(&self) -> bool {
        let began = self.state.operation(self.operation).map(|operation| operation.started_at);
        let lasts_ms = began
            .map_or(u64::MAX, |began| self.state.zone_time().get().saturating_sub(began.get()));
        lasts_ms < HAND_OVER_FIRST_MS
            && self.state.partitions_on(self.node).any(|id| self.must_hand_over_first(id))
    }

    /// Whether the node leads the partition and another voter can take over: leaderships go first.
    fn must_hand_over_first(&self, id: PartitionId) -> bool {
        let Some(partition) = self.state.partition(id) else { return false };
        let leads = match self.view.leader(id) {
            Some(leader) => leader.replica.node == self.node,
            None => partition.leader.is_some_and(|leader| leader.node == self.node),
        };
        leads
            && partition.targets.iter().any(|target| {
                target.node != self.node
                    && self.state.node(target.node).is_some_and(|node| node.is_eligible())
            })
    }
}
