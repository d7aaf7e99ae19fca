//! What operators are shown: the model's figures, with what only the server knows (the members of the
//! control plane), in the wire's words.

use std::time::Duration;

use model::{
    MemberId, NodeId, OperationId, PartitionId, ZoneState, ZoneView,
    health::Ailment,
    ids::millis,
    node::Node,
    operation::Operation,
    partition::Partition,
    progress,
    status::{self, Figures, ReplicaFigures},
};
use proto::v1;

use super::to_wire::{self, Progress};
use crate::{leader::Reign, member::Member};

/// A member that has not answered the leader for so long is called unreachable.
const MEMBER_SILENCE_MAX: Duration = Duration::from_secs(1);

/// Looks at the applied state and the view of this moment.
fn look<T>(reign: &Reign, look: impl FnOnce(&ZoneState, &ZoneView) -> T) -> T {
    reign.zone().read(|state| look(state, &reign.view()))
}

/// The state of the zone as this member sees it.
pub fn zone_status(member: &Member) -> v1::ZoneStatus {
    let reign = member.reign();
    let (control_plane, mut problems) = control_plane(member, reign.is_some());
    let mut status = match &reign {
        Some(reign) => look(reign, |state, view| {
            let figures = status::figures_by(state, view, &reign.tally(), reign.now());
            status_of(state, Some(view), figures)
        }),
        None => {
            let now = member.environment().now().since_origin();
            member
                .group()
                .zone()
                .read(|state| status_of(state, None, status::figures(state, None, now)))
        }
    };
    problems.append(&mut status.problems);
    status.healthy = problems.is_empty();
    status.problems = problems;
    status.from_leader = reign.is_some();
    status.control_plane = Some(control_plane);
    status
}

fn status_of(state: &ZoneState, view: Option<&ZoneView>, figures: Figures) -> v1::ZoneStatus {
    let Figures { problems, partitions, operations_running, operations_failed, held_back } =
        figures;
    v1::ZoneStatus {
        problems,
        zone_id: state.zone_id().map_or_else(String::new, |id| id.to_string()),
        revision: state.revision().get(),
        nodes: nodes_of(state, view),
        partitions: Some(v1::PartitionCounts {
            total: partitions.total,
            available: partitions.available,
            under_replicated: partitions.under_replicated,
            unavailable: partitions.unavailable,
        }),
        operations_running,
        operations_failed,
        brake: Some(to_wire::brake(state, held_back)),
        replication_factor: state.policy().map_or(0, |policy| policy.replication_factor.into()),
        ..v1::ZoneStatus::default()
    }
}

/// The members of the control plane, and what is wrong with them.
fn control_plane(member: &Member, leads: bool) -> (v1::ControlPlaneStatus, Vec<String>) {
    let group = member.group();
    let leader = group.leader().map(|leader| leader.id);
    let mut problems = Vec::new();
    let mut members = Vec::new();
    for peer in group.members() {
        let replication = leads.then(|| group.replication(peer.id)).flatten();
        let (state, lag_entries) = if Some(peer.id) == leader {
            ("leader", 0)
        } else if leads {
            let reached = replication
                .and_then(|replication| replication.silent_for)
                .is_some_and(|silent| silent < MEMBER_SILENCE_MAX);
            let state = if reached { "follower" } else { "unreachable" };
            (state, replication.map_or(0, |replication| replication.lag_entries))
        } else if peer.id == group.member_id() {
            ("follower", 0)
        } else {
            ("unknown", 0)
        };
        if state == "unreachable" {
            problems.push(format!(
                "member {} of the control plane, at {}, is unreachable",
                peer.id, peer.address
            ));
        }
        let (id, address) = (peer.id.get(), peer.address);
        members.push(v1::MemberStatus { id, address, state: state.into(), lag_entries });
    }
    if !members.is_empty() && !leads {
        problems.push(match leader.filter(|leader| *leader != group.member_id()) {
            Some(leader) => {
                format!(
                    "this is a follower's view: ask member {leader}, which leads, for the whole"
                )
            }
            None => {
                "the control plane has no leader that a majority of its members confirms".into()
            }
        });
    }
    let status = v1::ControlPlaneStatus {
        leader: leader.map_or(0, MemberId::get),
        term: group.term().get(),
        members,
    };
    (status, problems)
}

/// The brake as it is now.
pub fn brake(reign: &Reign) -> v1::Brake {
    look(reign, |state, view| to_wire::brake(state, model::brake::held_back(state, Some(view))))
}

/// All nodes.
pub fn nodes(reign: &Reign) -> Vec<v1::NodeSummary> {
    look(reign, |state, view| nodes_of(state, Some(view)))
}

fn nodes_of(state: &ZoneState, view: Option<&ZoneView>) -> Vec<v1::NodeSummary> {
    state.nodes().iter().filter_map(|(id, node)| node_of(state, view, *id, node)).collect()
}

/// One node; none if it is not known.
pub fn node(reign: &Reign, id: NodeId) -> Option<v1::NodeSummary> {
    look(reign, |state, view| node_of(state, Some(view), id, state.node(id)?))
}

fn node_of(
    state: &ZoneState,
    view: Option<&ZoneView>,
    id: NodeId,
    node: &Node,
) -> Option<v1::NodeSummary> {
    let figures = status::node(state, view, id)?;
    Some(v1::NodeSummary {
        id: id.get(),
        name: node.name.clone(),
        state: to_wire::node_state(node.liveness.state).into(),
        administrative_state: to_wire::administrative_state(node.administrative).into(),
        fault_domain: node.fault_domain.clone(),
        address: node.address.clone(),
        leaders: figures.leaders,
        replicas: figures.replicas,
        stored_bytes: figures.stored_bytes,
        capacity_bytes: node.capacity.stored_bytes,
        reads_per_second: figures.rates.reads_per_second,
        writes_per_second: figures.rates.writes_per_second,
        disk_below_reserve: figures.disk_below_reserve,
        incarnation: node.incarnation.get(),
        software_version: node.software_version.clone(),
    })
}

/// One node and what it holds; none if it is not known.
pub fn node_detail(reign: &Reign, id: NodeId) -> Option<v1::NodeDetail> {
    look(reign, |state, view| {
        let node = state.node(id)?;
        let held = state.partitions_on(id);
        let led = state
            .partitions_on(id)
            .filter(|partition| view.leader(*partition).is_some_and(|it| it.replica.node == id));
        Some(v1::NodeDetail {
            summary: node_of(state, Some(view), id, node),
            identity: node.identity.to_string(),
            evidence: node.liveness.evidence.clone(),
            partition_ids: held.map(PartitionId::get).collect(),
            led_partition_ids: led.map(PartitionId::get).collect(),
            in_state_for_ms: millis(state.zone_time().since(node.liveness.since)),
            lapses: node.liveness.lapses,
            signals: Some(signals(view, id, reign.now())),
        })
    })
}

/// What the leader judges a node by.
fn signals(view: &ZoneView, id: NodeId, now: Duration) -> v1::NodeSignals {
    let unreachable_for_node_ids = view
        .nodes()
        .filter(|(_, peer)| peer.session.is_some() && peer.heartbeat.unreachable.contains(&id))
        .map(|(peer, _)| peer.get())
        .collect();
    let Some(node) = view.node(id) else {
        return v1::NodeSignals { unreachable_for_node_ids, ..Default::default() };
    };
    v1::NodeSignals {
        has_session: node.session.is_some(),
        since_heartbeat_ms: node.last_heartbeat_at.map(|at| millis(now.saturating_sub(at))),
        disk_sync_ms: node.health.average_ms(Ailment::SlowDisk),
        runtime_lag_ms: node.health.average_ms(Ailment::SaturatedRuntime),
        disk_free_bytes: node.heartbeat.disk_free_bytes,
        cannot_reach_node_ids: node.heartbeat.unreachable.iter().map(|node| node.get()).collect(),
        unreachable_for_node_ids,
        dial_refused: node.dial_refused_at.is_some(),
        phi: node.phi(now),
    }
}

/// Which partitions to show.
pub struct PartitionSelection {
    /// Only those with a replica there.
    pub node: Option<NodeId>,
    pub only_problems: bool,
    /// Go on after this one, in key order.
    pub after: PartitionId,
    pub limit: usize,
}

/// Partitions in key order.
pub fn partitions(reign: &Reign, selection: &PartitionSelection) -> v1::ListPartitionsResponse {
    look(reign, |state, view| {
        let mut partitions: Vec<v1::PartitionSummary> = state
            .partitions_after(selection.after)
            .filter(|(_, partition)| selection.node.is_none_or(|node| partition.is_on(node)))
            .filter_map(|(id, partition)| partition_of(state, view, id, partition, reign.now()))
            .filter(|summary| {
                !selection.only_problems || !summary.available || summary.under_replicated
            })
            .take(selection.limit.saturating_add(1))
            .collect();
        let more = partitions.len() > selection.limit;
        partitions.truncate(selection.limit);
        v1::ListPartitionsResponse { partitions, more }
    })
}

fn partition_of(
    state: &ZoneState,
    view: &ZoneView,
    id: PartitionId,
    partition: &Partition,
    now: Duration,
) -> Option<v1::PartitionSummary> {
    let figures = status::partition(state, Some(view), id, now)?;
    Some(v1::PartitionSummary {
        id: id.get(),
        range: Some(to_wire::range(&partition.range)),
        range_epoch: partition.range_epoch.get(),
        leader_node_id: figures.leader.map_or(0, NodeId::get),
        replicas: to_wire::placements(&partition.targets),
        available: figures.available,
        under_replicated: figures.under_replicated,
        stored_bytes: figures.stored_bytes,
        keys: figures.keys,
        reads_per_second: figures.rates.reads_per_second,
        writes_per_second: figures.rates.writes_per_second,
    })
}

/// One partition and all that is known of it; none if it is not known.
pub fn partition_detail(reign: &Reign, id: PartitionId) -> Option<v1::PartitionDetail> {
    look(reign, |state, view| {
        let partition = state.partition(id)?;
        let replicas = status::replicas(state, Some(view), id);
        let operations = state
            .running_operations()
            .filter(|(_, operation)| operation.partition() == Some(id))
            .map(|(id, operation)| operation_of(state, view, id, operation));
        Some(v1::PartitionDetail {
            summary: partition_of(state, view, id, partition, reign.now()),
            membership: partition.observed.as_ref().map(to_wire::membership),
            replicas: replicas.into_iter().map(replica_of).collect(),
            retiring: to_wire::placements(partition.retiring.iter().map(|it| &it.replica)),
            operations: operations.collect(),
        })
    })
}

fn replica_of(figures: ReplicaFigures) -> v1::ReplicaView {
    v1::ReplicaView {
        placement: Some(to_wire::placement(figures.replica)),
        role: figures.role.as_str().to_owned(),
        term: figures.term,
        applied_index: figures.applied_index,
        lag_entries: figures.lag_entries,
        message: figures.message,
    }
}

/// One operation; none if it is not known.
pub fn operation(reign: &Reign, id: OperationId) -> Option<v1::Operation> {
    look(reign, |state, view| Some(operation_of(state, view, id, state.operation(id)?)))
}

/// Operations, newest first.
pub fn operations(reign: &Reign, include_ended: bool, limit: usize) -> Vec<v1::Operation> {
    look(reign, |state, view| {
        let operations = state.operations().iter().rev();
        operations
            .filter(|(_, operation)| include_ended || operation.is_running())
            .take(limit)
            .map(|(id, operation)| operation_of(state, view, *id, operation))
            .collect()
    })
}

fn operation_of(
    state: &ZoneState,
    view: &ZoneView,
    id: OperationId,
    operation: &Operation,
) -> v1::Operation {
    let progress = progress::progress(state, Some(view), id).map(|progress| Progress {
        step: progress.step,
        percent: progress.percent,
        remaining_ms: progress.remaining_ms.unwrap_or(0),
    });
    to_wire::operation(id, operation, progress.unwrap_or_default())
}
