//! What must be true of each committed state of the zone, and from one to the next: pure functions of the
//! state that a member has applied.
//!
//! - G4: the ranges cover the key space exactly; a partition's replicas are on distinct nodes, and a
//!   replica id is one placement for ever.
//! - G7: while too many nodes are down the brake is engaged, and while it is and no operator overrides it, no
//!   change begins.
//! - G8: an operation goes on until it ends, and has ended for good.
//! - G10: an operation has a reason.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    ZoneState,
    ids::{NodeId, PartitionId, ReplicaId, ZoneTime},
    node::{Administrative, NodeState},
    operation::{Operation, OperationKind, OperationState, Origin},
};

use crate::{ambush, checks::Problem};

/// For how long too many nodes may be down before the brake is engaged: rounds of judgement, and the
/// commit.
const BRAKE_WITHIN_MS: u64 = 3_000;

/// Follows the zone's state from one committed command to the next.
#[derive(Default)]
pub(super) struct ZoneStates {
    newest: Option<ZoneState>,
    placements: BTreeMap<ReplicaId, (PartitionId, NodeId)>,
    /// Since when too many nodes have been down without a brake.
    unbraked: Option<ZoneTime>,
}

impl ZoneStates {
    /// A member has applied a command that no member had applied before.
    pub(super) fn advances(&mut self, state: ZoneState) -> Result<(), Problem> {
        if !state.is_initialized() {
            return Ok(());
        }
        covers(&state)?;
        self.placed(&state)?;
        self.brakes(&state)?;
        for (id, operation) in state.operations().iter() {
            if operation.reason.trim().is_empty() {
                let sentence = format!("operation {id} has no reason");
                return Err(Problem::new("G10", sentence).with_details(format!("{operation:?}")));
            }
        }
        if let Some(before) = &self.newest {
            operations_go_on(before, &state)?;
            few_are_slow(before, &state)?;
            begins_nothing_while_braked(before, &state)?;
            if state.revision() < before.revision() || state.zone_time() < before.zone_time() {
                let sentence = "the zone's revision or time went back".to_owned();
                return Err(Problem::new("G8", sentence));
            }
        }
        self.newest = Some(state);
        Ok(())
    }

    /// Whether an operation of this kind has begun and not ended.
    pub(super) fn is_under_way(&self, kind: ambush::OperationKind) -> bool {
        let Some(state) = &self.newest else { return false };
        let mut operations = state.operations().iter();
        operations.any(|(_, operation)| operation.is_running() && kind_of(&operation.kind) == kind)
    }

    fn placed(&mut self, state: &ZoneState) -> Result<(), Problem> {
        for (id, partition) in state.partitions().iter() {
            let nodes: BTreeSet<NodeId> =
                partition.targets.iter().map(|replica| replica.node).collect();
            if nodes.len() != partition.targets.len() {
                let sentence = format!("partition {id} is to have two replicas on one node");
                return Err(Problem::new("G4", sentence).with_details(format!("{partition:?}")));
            }
            let retiring = partition.retiring.iter().map(|retiring| &retiring.replica);
            for replica in partition.targets.iter().chain(retiring) {
                let placement = (*id, replica.node);
                let known = *self.placements.entry(replica.id).or_insert(placement);
                if known != placement {
                    let sentence = format!(
                        "replica {} was of partition {} on node {}, and is of partition {id} on node {}",
                        replica.id, known.0, known.1, replica.node
                    );
                    return Err(Problem::new("G2", sentence));
                }
            }
        }
        Ok(())
    }

    fn brakes(&mut self, state: &ZoneState) -> Result<(), Problem> {
        let active: Vec<NodeState> = state
            .nodes()
            .iter()
            .filter(|(_, node)| node.administrative == Administrative::Active)
            .map(|(_, node)| node.liveness.state)
            .collect();
        let down = active.iter().filter(|state| **state == NodeState::Down).count();
        if down < 2 || 3 * down <= active.len() || state.engaged_brake().is_some() {
            self.unbraked = None;
            return Ok(());
        }
        let since = *self.unbraked.get_or_insert(state.zone_time());
        let lasts_ms = state.zone_time().since(since).as_millis();
        if lasts_ms > u128::from(BRAKE_WITHIN_MS) {
            let sentence = format!(
                "{down} of {} nodes have been down for {lasts_ms} ms, and the brake is not engaged",
                active.len()
            );
            return Err(Problem::new("G7", sentence));
        }
        Ok(())
    }
}

/// G7: no more than a third of the nodes, and one at least, come to be judged slow: what strikes more of
/// them is no node's own trouble.
fn few_are_slow(before: &ZoneState, state: &ZoneState) -> Result<(), Problem> {
    let is_slow =
        |state: &ZoneState, id: NodeId| state.node(id).is_some_and(|node| node.is_impaired());
    let nodes = || state.nodes().iter().map(|(id, _)| *id);
    let slow = nodes().filter(|id| is_slow(state, *id)).count();
    let has_more = nodes().any(|id| is_slow(state, id) && !is_slow(before, id));
    if has_more && slow > (nodes().count() / 3).max(1) {
        let sentence = format!("{slow} of {} nodes were judged slow", nodes().count());
        return Err(Problem::new("G7", sentence));
    }
    Ok(())
}

fn kind_of(kind: &OperationKind) -> ambush::OperationKind {
    match kind {
        OperationKind::Takeover { .. } => ambush::OperationKind::Takeover,
        OperationKind::Repair(_) => ambush::OperationKind::Repair,
        OperationKind::MoveReplica(_) => ambush::OperationKind::Move,
        OperationKind::TransferLeader { .. } => ambush::OperationKind::Transfer,
        OperationKind::Split(_) => ambush::OperationKind::Split,
        OperationKind::Drain { .. } => ambush::OperationKind::Drain,
    }
}

fn covers(state: &ZoneState) -> Result<(), Problem> {
    let mut ranges: Vec<_> =
        state.partitions().iter().map(|(id, partition)| (&partition.range, *id)).collect();
    ranges.sort_by(|(left, _), (right, _)| left.start().cmp(right.start()));
    let problem = |sentence: String| Err(Problem::new("G4", sentence));
    let (Some((first, _)), Some((last, _))) = (ranges.first(), ranges.last()) else {
        return Ok(());
    };
    if !first.start().is_empty() || !last.end().is_empty() {
        return problem("the first and the last keys belong to no partition".into());
    }
    for pair in ranges.windows(2) {
        let [(left, left_id), (right, right_id)] = pair else { continue };
        if left.end() != right.start() || left.end().is_empty() {
            return problem(format!(
                "between partition {left_id}, which ends at {:?}, and partition {right_id}, which starts \
                 at {:?}, is a gap or an overlap",
                left.end(),
                right.start()
            ));
        }
    }
    Ok(())
}

fn operations_go_on(before: &ZoneState, after: &ZoneState) -> Result<(), Problem> {
    for (id, was) in before.operations().iter() {
        let is = after.operation(*id);
        let problem = |what: &str| {
            let details = format!("{was:?}\n{is:?}");
            Err(Problem::new("G8", format!("operation {id} {what}")).with_details(details))
        };
        match (was.state, is) {
            (OperationState::Running, None) => return problem("was forgotten while it ran"),
            (OperationState::Running, Some(is)) if !is_same(was, is) => {
                return problem("became another one");
            }
            (OperationState::Running, Some(_)) | (_, None) => {}
            (ended, Some(is)) if is.state != ended => return problem("ended twice"),
            (_, Some(_)) => {}
        }
    }
    Ok(())
}

fn is_same(was: &Operation, is: &Operation) -> bool {
    let kind = match (&was.kind, &is.kind) {
        (OperationKind::Repair(was), OperationKind::Repair(is))
        | (OperationKind::MoveReplica(was), OperationKind::MoveReplica(is)) => was == is,
        (was, is) => std::mem::discriminant(was) == std::mem::discriminant(is),
    };
    kind && was.origin == is.origin && was.parent == is.parent
}

/// While the brake holds no repair, no removal and no discretionary move begins. What an operator asks for by
/// name is no matter of discretion.
fn begins_nothing_while_braked(before: &ZoneState, after: &ZoneState) -> Result<(), Problem> {
    let (Some(was), Some(is)) = (before.brake(), after.brake()) else { return Ok(()) };
    if was.since != is.since {
        return Ok(());
    }
    for (id, operation) in after.operations().iter() {
        let held_back = match operation.kind {
            OperationKind::Repair(_) | OperationKind::MoveReplica(_) => true,
            OperationKind::TransferLeader { .. } | OperationKind::Split(_) => {
                matches!(operation.origin, Origin::Balance | Origin::Heat)
            }
            OperationKind::Takeover { .. } | OperationKind::Drain { .. } => false,
        };
        let asked_for = operation.origin == Origin::Operator && operation.parent.is_none();
        if held_back && !asked_for && before.operation(*id).is_none() {
            let sentence =
                format!("operation {id} began while the brake was engaged ({})", is.reason);
            return Err(Problem::new("G7", sentence).with_details(format!("{operation:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::{
        Action, Command, WallTime,
        command::Registration,
        ids::{Incarnation, OperationId, Revision},
        node::{Capacity, Node},
        operation::ReplicaChange,
        partition::{Partition, Replica},
        table::Record,
        zone::{Brake, Zone},
    };
    use uuid::Uuid;

    use super::*;

    /// A zone with four partitions and five nodes.
    fn zone() -> ZoneState {
        let mut state = ZoneState::default();
        let initialize = Action::InitializeZone {
            zone_id: Uuid::from_u128(1),
            split_keys: vec![vec![1], vec![2], vec![3]],
            replication_factor: 3,
            replace_after_ms: 1_000,
        };
        let register = |number: u64| {
            Action::RegisterNode(Registration {
                zone_id: None,
                identity: Uuid::from_u128(u128::from(number)),
                node: None,
                incarnation: Incarnation(1),
                name: format!("node-{number}"),
                address: format!("node-{number}:1"),
                fault_domain: format!("rack-{number}"),
                capacity: Capacity { stored_bytes: 1 << 40, cores: 2 },
                software_version: String::new(),
            })
        };
        let actions = std::iter::once(initialize).chain((1..=5).map(register));
        for (revision, action) in (1..).zip(actions) {
            let command = Command::new(ZoneTime(revision), WallTime(0), action);
            state.apply(Revision(revision), &command).expect("well-formed");
        }
        state
    }

    /// The state with another record in it.
    fn with<R: Record>(state: &ZoneState, key: &R::Key, record: &R) -> ZoneState {
        let mut tagged = vec![R::TAG];
        tagged.extend(R::encode_key(key));
        let value = postcard::to_stdvec(record).expect("records have an encoding");
        ZoneState::from_records(state.records().chain([(tagged, value)])).expect("a state")
    }

    fn with_down(state: &ZoneState, nodes: &[u64]) -> ZoneState {
        nodes.iter().fold(state.clone(), |state, node| {
            let mut down: Node = state.node(NodeId(*node)).expect("registered").clone();
            down.liveness.state = NodeState::Down;
            with(&state, &NodeId(*node), &down)
        })
    }

    fn at(state: &ZoneState, zone_time: u64, braked: bool) -> ZoneState {
        let brake = Brake {
            engaged: braked,
            reason: "too many".into(),
            since: ZoneTime(1),
            overridden_until: None,
        };
        let zone =
            Zone { zone_time: ZoneTime(zone_time), brake, ..state.zone().expect("one").clone() };
        with(state, &(), &zone)
    }

    fn repair() -> Operation {
        Operation {
            kind: OperationKind::Repair(ReplicaChange {
                partition: PartitionId(1),
                remove: None,
                add: None,
            }),
            state: OperationState::Running,
            origin: Origin::Repair,
            reason: "a test".into(),
            last_error: String::new(),
            started_at: ZoneTime(1),
            ended_at: None,
            parent: None,
        }
    }

    fn after(states: &[ZoneState]) -> Result<(), Problem> {
        let mut seen = ZoneStates::default();
        states.iter().try_for_each(|state| seen.advances(state.clone()))
    }

    fn guarantee(states: &[ZoneState]) -> String {
        after(states).expect_err("it is found").guarantee
    }

    #[test]
    fn operations_run_until_they_end_and_have_a_reason() {
        let zone = zone();
        let of = |operation: &Operation| with(&zone, &OperationId(1), operation);
        let ended = Operation { state: OperationState::Succeeded, ..repair() };
        let failed = Operation { state: OperationState::Failed, ..repair() };
        after(&[zone.clone(), of(&repair()), of(&ended), zone.clone()]).unwrap();
        assert_eq!(guarantee(&[of(&repair()), zone.clone()]), "G8");
        assert_eq!(guarantee(&[of(&ended), of(&failed)]), "G8");
        let other = Operation { origin: Origin::Operator, ..repair() };
        assert_eq!(guarantee(&[of(&repair()), of(&other)]), "G8");
        assert_eq!(guarantee(&[of(&Operation { reason: " ".into(), ..repair() })]), "G10");
    }

    #[test]
    fn few_nodes_are_slow_at_the_same_time() {
        let zone = zone();
        let slow = |state: &ZoneState, node: u64| {
            let mut record: Node = state.node(NodeId(node)).expect("registered").clone();
            record.liveness.state = NodeState::Slow;
            with(state, &NodeId(node), &record)
        };
        let one = slow(&zone, 1);
        after(&[zone.clone(), one.clone(), zone.clone()]).unwrap();
        assert_eq!(guarantee(&[zone.clone(), one.clone(), slow(&one, 2)]), "G7");
    }

    #[test]
    fn nothing_begins_while_the_brake_is_engaged() {
        let zone = zone();
        let begun = with(&zone, &OperationId(1), &repair());
        after(&[at(&zone, 1, false), at(&begun, 2, false), at(&begun, 3, true)]).unwrap();
        after(&[at(&begun, 2, true), at(&begun, 3, true)]).unwrap();
        let asked_for = Operation { origin: Origin::Operator, ..repair() };
        let asked_for = with(&zone, &OperationId(1), &asked_for);
        after(&[at(&zone, 1, true), at(&asked_for, 2, true)]).unwrap();
        assert_eq!(guarantee(&[at(&zone, 1, true), at(&begun, 2, true)]), "G7");
    }

    #[test]
    fn changes_begin_while_an_operator_overrides_the_brake() {
        let zone = zone();
        let begun = with(&zone, &OperationId(1), &repair());
        let overridden = |state: &ZoneState, zone_time| {
            let mut record = at(state, zone_time, true).zone().expect("one").clone();
            record.brake.overridden_until = Some(ZoneTime(100));
            with(state, &(), &record)
        };
        after(&[overridden(&zone, 10), overridden(&begun, 20)]).unwrap();
        assert_eq!(guarantee(&[overridden(&zone, 100), overridden(&begun, 101)]), "G7");
        // Too many are down, and it is engaged all the time.
        let many = with_down(&zone, &[1, 2]);
        after(&[overridden(&many, 10), overridden(&many, 90), at(&many, 100_000, true)]).unwrap();
    }

    #[test]
    fn the_brake_is_engaged_while_too_many_nodes_are_down() {
        let zone = zone();
        let few = with_down(&zone, &[1]);
        after(&[at(&few, 100, false), at(&few, 100_000, false)]).unwrap();
        let many = with_down(&zone, &[1, 2]);
        after(&[at(&many, 100, false), at(&many, 1_000, false), at(&many, 100_000, true)]).unwrap();
        assert_eq!(guarantee(&[at(&many, 100, false), at(&many, 4_000, false)]), "G7");
    }

    #[test]
    fn a_replica_id_is_one_placement() {
        let zone = zone();
        let placed = |nodes: [u64; 3]| {
            let partition = zone.partition(PartitionId(1)).expect("there").clone();
            let targets = [1, 2, 3].map(ReplicaId).into_iter().zip(nodes.map(NodeId));
            let targets = targets.map(|(id, node)| Replica { id, node }).collect();
            with(&zone, &PartitionId(1), &Partition { targets, ..partition })
        };
        after(&[placed([1, 2, 3]), placed([1, 2, 3])]).unwrap();
        assert_eq!(guarantee(&[placed([1, 2, 3]), placed([1, 2, 4])]), "G2");
    }
}
