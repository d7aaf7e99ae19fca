//! The zone as a whole.

use proto::v1;
use serde::Serialize;

use super::{BrakeForm, NodeForm, some_id, some_text};

/// `zonectl status`.
#[derive(Clone, Debug, Serialize)]
pub struct StatusForm {
    /// Whether everything is as it should be.
    pub healthy: bool,
    /// One sentence for each thing that is not, worst first.
    pub problems: Vec<String>,
    /// Null before `init`.
    pub zone_id: Option<String>,
    pub revision: u64,
    /// Whether this is the leader's view, or a member's that may lag.
    pub from_leader: bool,
    pub control_plane: ControlPlaneForm,
    pub nodes: Vec<NodeForm>,
    pub partitions: PartitionCountsForm,
    pub operations: OperationCountsForm,
    pub brake: BrakeForm,
    pub replication_factor: u32,
}

#[derive(Clone, Debug, Serialize)]
pub struct ControlPlaneForm {
    /// Member id; null if none is known.
    pub leader: Option<u64>,
    pub term: u64,
    pub members: Vec<MemberForm>,
}

#[derive(Clone, Debug, Serialize)]
pub struct MemberForm {
    pub id: u64,
    pub address: String,
    /// `leader`, `follower`, `unreachable` or `unknown`.
    pub state: String,
    pub lag_entries: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct PartitionCountsForm {
    pub total: u32,
    /// With a confirmed leader.
    pub available: u32,
    pub under_replicated: u32,
    pub unavailable: u32,
}

#[derive(Clone, Debug, Serialize)]
pub struct OperationCountsForm {
    pub running: u32,
    /// Failed for good: somebody should look.
    pub failed: u32,
}

impl From<v1::ZoneStatus> for StatusForm {
    fn from(status: v1::ZoneStatus) -> Self {
        let control_plane = status.control_plane.unwrap_or_default();
        let partitions = status.partitions.unwrap_or_default();
        Self {
            healthy: status.healthy,
            problems: status.problems,
            zone_id: some_text(status.zone_id),
            revision: status.revision,
            from_leader: status.from_leader,
            control_plane: ControlPlaneForm {
                leader: some_id(control_plane.leader),
                term: control_plane.term,
                members: control_plane.members.into_iter().map(Into::into).collect(),
            },
            nodes: status.nodes.into_iter().map(Into::into).collect(),
            partitions: PartitionCountsForm {
                total: partitions.total,
                available: partitions.available,
                under_replicated: partitions.under_replicated,
                unavailable: partitions.unavailable,
            },
            operations: OperationCountsForm {
                running: status.operations_running,
                failed: status.operations_failed,
            },
            brake: status.brake.unwrap_or_default().into(),
            replication_factor: status.replication_factor,
        }
    }
}

impl From<v1::MemberStatus> for MemberForm {
    fn from(member: v1::MemberStatus) -> Self {
        let v1::MemberStatus { id, address, state, lag_entries } = member;
        Self { id, address, state, lag_entries }
    }
}

/// `zonectl init`.
#[derive(Clone, Debug, Serialize)]
pub struct InitForm {
    pub zone_id: String,
    pub partitions: u32,
}

impl From<v1::InitResponse> for InitForm {
    fn from(response: v1::InitResponse) -> Self {
        Self { zone_id: response.zone_id, partitions: response.partitions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_others_rely_on_are_there() {
        let status = v1::ZoneStatus {
            healthy: true,
            zone_id: "z".into(),
            control_plane: Some(v1::ControlPlaneStatus {
                leader: 7,
                term: 2,
                members: vec![v1::MemberStatus {
                    id: 7,
                    address: "a:1".into(),
                    state: "leader".into(),
                    lag_entries: 0,
                }],
            }),
            nodes: vec![v1::NodeSummary {
                id: 1,
                name: "node-1".into(),
                state: v1::NodeState::Suspect.into(),
                fault_domain: "rack-a".into(),
                leaders: 3,
                replicas: 9,
                ..v1::NodeSummary::default()
            }],
            partitions: Some(v1::PartitionCounts {
                total: 16,
                available: 16,
                ..Default::default()
            }),
            ..v1::ZoneStatus::default()
        };
        let json = serde_json::to_value(StatusForm::from(status)).unwrap();
        assert_eq!(json["healthy"], true);
        assert_eq!(json["problems"], serde_json::json!([]));
        assert_eq!(json["control_plane"]["leader"], 7);
        assert_eq!(json["control_plane"]["members"][0]["state"], "leader");
        let node = &json["nodes"][0];
        assert_eq!(node["id"], 1);
        assert_eq!(node["name"], "node-1");
        assert_eq!(node["state"], "suspect");
        assert_eq!(node["fault_domain"], "rack-a");
        assert_eq!(node["leaders"], 3);
        assert_eq!(node["replicas"], 9);
        let counts = serde_json::json!({
            "total": 16, "available": 16, "under_replicated": 0, "unavailable": 0
        });
        assert_eq!(json["partitions"], counts);
        assert_eq!(json["brake"]["engaged"], false);
    }

    #[test]
    fn what_is_not_known_is_null() {
        let json = serde_json::to_value(StatusForm::from(v1::ZoneStatus::default())).unwrap();
        assert!(json["zone_id"].is_null());
        assert!(json["control_plane"]["leader"].is_null());
    }
}
