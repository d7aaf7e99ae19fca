//! Partitions.

use proto::v1;
use serde::Serialize;

use super::{EventForm, NodeForm, OperationForm, some_id, some_text};
use crate::text::escape;

/// A partition in `zonectl partition list`.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionForm {
    pub id: u64,
    /// First key that belongs to it; empty: from the lowest key.
    pub start_key: String,
    /// First key that no longer belongs to it; empty: to the highest key.
    pub end_key: String,
    pub range_epoch: u64,
    /// Null if none is confirmed.
    pub leader_node_id: Option<u64>,
    pub replicas: Vec<PlacementForm>,
    pub available: bool,
    pub under_replicated: bool,
    pub stored_bytes: u64,
    pub keys: u64,
    pub reads_per_second: f64,
    pub writes_per_second: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct PlacementForm {
    pub replica_id: u64,
    pub node_id: u64,
}

/// `zonectl explain partition`.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionExplanationForm {
    #[serde(flatten)]
    pub detail: PartitionDetailForm,
    /// What the ledger said last about who leads; null if it goes back no further.
    pub led_because: Option<EventForm>,
    /// Where the replicas are, and what brought them there.
    pub places: Vec<PlaceForm>,
    /// What the ledger has about the partition, oldest first.
    pub events: Vec<EventForm>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PlaceForm {
    pub replica_id: u64,
    pub node_id: u64,
    pub node_name: Option<String>,
    pub node_state: Option<&'static str>,
    pub fault_domain: Option<String>,
    pub role: Option<String>,
    pub lag_entries: Option<u64>,
    /// The operation that made this replica; null if it is older than what the zone remembers.
    pub placed_by: Option<OperationForm>,
}

impl PartitionExplanationForm {
    /// `nodes` are all nodes, `operations` all that are remembered, newest first; `events` those of this partition.
    pub fn new(
        detail: PartitionDetailForm,
        nodes: &[NodeForm],
        operations: Vec<OperationForm>,
        events: Vec<EventForm>,
    ) -> Self {
        let partition_id = Some(detail.partition.id);
        let moves: Vec<OperationForm> = operations
            .into_iter()
            .filter(|operation| {
                operation.partition_id == partition_id && operation.state == "succeeded"
            })
            .collect();
        let places = detail.partition.replicas.iter().map(|placement| {
            let node = nodes.iter().find(|node| node.id == placement.node_id);
            let view =
                detail.replica_views.iter().find(|view| view.replica_id == placement.replica_id);
            // A transfer of leadership has a target too, and brings no replica.
            let brings = |operation: &&OperationForm| {
                operation.to_node_id == Some(placement.node_id) && operation.kind != TRANSFER_KIND
            };
            PlaceForm {
                replica_id: placement.replica_id,
                node_id: placement.node_id,
                node_name: node.map(|node| node.name.clone()),
                node_state: node.map(|node| node.state),
                fault_domain: node.map(|node| node.fault_domain.clone()),
                role: view.map(|view| view.role.clone()),
                lag_entries: view.map(|view| view.lag_entries),
                placed_by: moves.iter().find(brings).cloned(),
            }
        });
        let places = places.collect();
        let of_leader = |event: &&EventForm| event.kind == LEADER_KIND;
        let led_because = events.iter().rev().find(of_leader).cloned();
        Self { detail, led_because, places, events }
    }
}

/// Operations of this kind move leadership only.
const TRANSFER_KIND: &str = "transfer-leader";
/// Events of this kind say who leads.
const LEADER_KIND: &str = "leader-changed";

impl From<v1::ReplicaPlacement> for PlacementForm {
    fn from(placement: v1::ReplicaPlacement) -> Self {
        Self { replica_id: placement.replica_id, node_id: placement.node_id }
    }
}

fn placements(placements: Vec<v1::ReplicaPlacement>) -> Vec<PlacementForm> {
    placements.into_iter().map(Into::into).collect()
}

impl From<v1::PartitionSummary> for PartitionForm {
    fn from(partition: v1::PartitionSummary) -> Self {
        let range = partition.range.unwrap_or_default();
        Self {
            id: partition.id,
            start_key: escape(&range.start),
            end_key: escape(&range.end),
            range_epoch: partition.range_epoch,
            leader_node_id: some_id(partition.leader_node_id),
            replicas: placements(partition.replicas),
            available: partition.available,
            under_replicated: partition.under_replicated,
            stored_bytes: partition.stored_bytes,
            keys: partition.keys,
            reads_per_second: partition.reads_per_second,
            writes_per_second: partition.writes_per_second,
        }
    }
}

/// `zonectl partition show`.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionDetailForm {
    #[serde(flatten)]
    pub partition: PartitionForm,
    /// As last committed from the group's reports; null if nothing was reported.
    pub membership: Option<MembershipForm>,
    /// What each replica's node reported last.
    pub replica_views: Vec<ReplicaForm>,
    /// Replicas on their way out.
    pub retiring: Vec<PlacementForm>,
    pub operations: Vec<OperationForm>,
}

#[derive(Clone, Debug, Serialize)]
pub struct MembershipForm {
    /// Its place in the group's log.
    pub log_term: u64,
    pub log_index: u64,
    pub committed: bool,
    /// One list of voters, or two while the group is joint.
    pub voter_sets: Vec<Vec<PlacementForm>>,
    pub learners: Vec<PlacementForm>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ReplicaForm {
    pub replica_id: u64,
    pub node_id: u64,
    /// `leader`, `voter`, `learner`, `absent`, `failed` or `unknown`.
    pub role: String,
    pub term: u64,
    pub applied_index: u64,
    pub lag_entries: u64,
    pub message: Option<String>,
}

impl From<v1::Membership> for MembershipForm {
    fn from(membership: v1::Membership) -> Self {
        let position = membership.log_position.unwrap_or_default();
        Self {
            log_term: position.term,
            log_index: position.index,
            committed: membership.committed,
            voter_sets: membership
                .voter_sets
                .into_iter()
                .map(|set| placements(set.voters))
                .collect(),
            learners: placements(membership.learners),
        }
    }
}

impl From<v1::ReplicaView> for ReplicaForm {
    fn from(view: v1::ReplicaView) -> Self {
        let placement = view.placement.unwrap_or_default();
        Self {
            replica_id: placement.replica_id,
            node_id: placement.node_id,
            role: view.role,
            term: view.term,
            applied_index: view.applied_index,
            lag_entries: view.lag_entries,
            message: some_text(view.message),
        }
    }
}

impl From<v1::PartitionDetail> for PartitionDetailForm {
    fn from(detail: v1::PartitionDetail) -> Self {
        Self {
            partition: detail.summary.unwrap_or_default().into(),
            membership: detail.membership.map(Into::into),
            replica_views: detail.replicas.into_iter().map(Into::into).collect(),
            retiring: placements(detail.retiring),
            operations: detail.operations.into_iter().map(Into::into).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_bounds_are_safe_text() {
        let range = v1::KeyRange { start: vec![0x10, 0xff].into(), end: "photos\0x".into() };
        let summary =
            v1::PartitionSummary { id: 3, range: Some(range), ..v1::PartitionSummary::default() };
        let detail =
            v1::PartitionDetail { summary: Some(summary), ..v1::PartitionDetail::default() };
        let json = serde_json::to_value(PartitionDetailForm::from(detail)).unwrap();
        assert_eq!(json["id"], 3);
        assert_eq!(json["start_key"], "\\x10\\xff");
        assert_eq!(json["end_key"], "photos\\x00x");
        assert!(json["leader_node_id"].is_null());
        assert!(json["membership"].is_null());
    }
}
