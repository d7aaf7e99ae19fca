//! The shadow policy, and how it does.

use proto::v1;
use serde::Serialize;

use super::{PolicyChangeForm, PolicyForm};

/// `zonectl policy shadow show`.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowForm {
    /// Whether there is one; if not, the rest is null or empty.
    pub is_set: bool,
    pub reason: Option<String>,
    pub set_zone_time_ms: Option<u64>,
    pub set_wall_time_ms: Option<u64>,
    /// What it has otherwise than the zone's policy.
    pub changes: Vec<PolicyChangeForm>,
    /// Null before the first plan.
    pub comparison: Option<ComparisonForm>,
}

/// Plans by both policies, since the control plane's leader began to make them.
#[derive(Clone, Debug, Serialize)]
pub struct ComparisonForm {
    pub began_zone_time_ms: u64,
    pub planned_zone_time_ms: u64,
    pub plans: u64,
    /// Of the shadow policy's plans against the zone's own.
    pub better: u64,
    pub equal: u64,
    pub worse: u64,
    pub active: ProposalsForm,
    pub shadow: ProposalsForm,
}

#[derive(Clone, Debug, Serialize)]
pub struct ProposalsForm {
    pub transfers: u64,
    pub moves: u64,
    pub splits: u64,
    pub bytes: u64,
    pub worst_share_max: f64,
    pub worst_share_mean: f64,
    pub worst_share_last: f64,
}

/// `zonectl policy shadow set` and `clear`.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowSetForm {
    pub is_set: bool,
    /// What it has otherwise than the zone's policy.
    pub changes: Vec<PolicyChangeForm>,
}

impl ShadowForm {
    /// `policy`: the zone's own.
    pub fn new(shadow: v1::GetShadowPolicyResponse, policy: &PolicyForm) -> Self {
        let v1::GetShadowPolicyResponse {
            balance,
            reason,
            set_zone_time_ms,
            set_wall_time_ms,
            comparison,
        } = shadow;
        let is_set = balance.is_some();
        let mut other = policy.clone();
        for (name, value) in balance.unwrap_or_default().values() {
            if let Some(value) = value {
                other.values.insert(format!("balance.{name}"), value);
            }
        }
        Self {
            is_set,
            reason: is_set.then_some(reason),
            set_zone_time_ms: is_set.then_some(set_zone_time_ms),
            set_wall_time_ms: is_set.then_some(set_wall_time_ms),
            changes: policy.changes(&other),
            comparison: comparison.map(ComparisonForm::from),
        }
    }
}

impl From<v1::ShadowComparison> for ComparisonForm {
    fn from(comparison: v1::ShadowComparison) -> Self {
        Self {
            began_zone_time_ms: comparison.began_zone_time_ms,
            planned_zone_time_ms: comparison.planned_zone_time_ms,
            plans: comparison.plans,
            better: comparison.better,
            equal: comparison.equal,
            worse: comparison.worse,
            active: comparison.active.unwrap_or_default().into(),
            shadow: comparison.shadow.unwrap_or_default().into(),
        }
    }
}

impl From<v1::PolicyProposals> for ProposalsForm {
    fn from(proposals: v1::PolicyProposals) -> Self {
        Self {
            transfers: proposals.transfers,
            moves: proposals.moves,
            splits: proposals.splits,
            bytes: proposals.bytes,
            worst_share_max: proposals.worst_share_max,
            worst_share_mean: proposals.worst_share_mean,
            worst_share_last: proposals.worst_share_last,
        }
    }
}
