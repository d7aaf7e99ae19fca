//! The shadow policy: another way to even out load, which is planned with and never acted on, so that its plans can
//! be held against those of the zone's policy. See [`crate::balancer::Comparison`].

use serde::{Deserialize, Serialize};

use super::{Difference, PolicyValues, WholePolicy, field_named, record};
use crate::{
    balance::BalancePolicy,
    ids::{Revision, WallTime, ZoneTime},
    outcome::Refusal,
    state::ZoneState,
    table::single_record,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowPolicy {
    #[serde(serialize_with = "record::write_by_name", deserialize_with = "record::read_by_name")]
    pub balance: BalancePolicy,
    /// Of the command that has set it: no other shadow policy has the same.
    pub set_by: Revision,
    pub set_at: ZoneTime,
    /// For display only.
    pub wall_time: WallTime,
    /// The operator's words.
    pub reason: String,
}

impl ShadowPolicy {
    /// By the names of the fields in the whole policy.
    pub fn values(&self) -> PolicyValues {
        record::balance_values(&self.balance)
    }
}

single_record!(ShadowPolicy, 11);

impl ZoneState {
    pub fn shadow_policy(&self) -> Option<&ShadowPolicy> {
        self.shadows.get(&())
    }

    /// What the shadow policy has otherwise than the policy.
    pub fn shadow_differences(&self) -> Vec<Difference> {
        let (Some(now), Some(shadow)) = (self.whole_policy(), self.shadow_policy()) else {
            return Vec::new();
        };
        let other = WholePolicy { zone: now.zone.clone(), balance: shadow.balance.clone() };
        now.differences(&other)
    }
}

/// The balance policy with these values: all of its fields, and no others.
///
/// # Errors
/// If a field is missing, out of its bounds, or none of balance.
pub fn check_shadow(state: &ZoneState, values: &PolicyValues) -> Result<BalancePolicy, Refusal> {
    let is_of_balance = |name: &str| field_named(name).is_some_and(|field| field.is_of_balance());
    if let Some(name) = values.keys().find(|name| !is_of_balance(name)) {
        let name: String = name.chars().take(super::NAME_SHOWN_MAX).collect();
        let words = "a shadow policy has the fields of balance, and no others";
        return Err(Refusal::InvalidPolicy(format!("{name:?} is none of its fields: {words}")));
    }
    let now = state.whole_policy().ok_or(Refusal::NotInitialized)?;
    let mut whole = now.values();
    whole.retain(|name, _| !is_of_balance(name));
    whole.extend(values.iter().map(|(name, value)| (name.clone(), *value)));
    Ok(WholePolicy::from_values(&whole)?.balance)
}
