//! A change of the policy: what is possible, and what it would change.

use super::{FIELDS, Field, PolicyError, PolicyValues, WholePolicy};
use crate::{outcome::Refusal, state::ZoneState};

/// A field that a change gives another value.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    pub field: &'static Field,
    pub from: u64,
    pub to: u64,
}

/// A change that is possible.
#[derive(Clone, Debug)]
pub struct Change {
    pub policy: WholePolicy,
    /// The version that the policy has afterwards: the same as before if nothing differs.
    pub version: u64,
    /// In the sequence of [`FIELDS`].
    pub differences: Vec<Difference>,
}

impl WholePolicy {
    /// What another policy has otherwise, in the sequence of [`FIELDS`].
    pub fn differences(&self, other: &WholePolicy) -> Vec<Difference> {
        let pairs = FIELDS.iter().map(|field| (field, field.get(self), field.get(other)));
        let changed = pairs.filter(|(_, from, to)| from != to);
        changed.map(|(field, from, to)| Difference { field, from, to }).collect()
    }
}

impl Difference {
    /// For the ledger.
    pub(crate) fn in_words(&self) -> String {
        format!("{} {} → {}", self.field.name, self.from, self.to)
    }
}

/// What setting the policy to these values would change, if it is possible. `expected_version`: of the policy that
/// they were made from.
///
/// # Errors
/// If a field is missing, unknown, out of its bounds or fixed, or if the policy has changed since.
pub fn check_change(
    state: &ZoneState,
    expected_version: u64,
    values: &PolicyValues,
) -> Result<Change, Refusal> {
    let policy = WholePolicy::from_values(values)?;
    let now = state.whole_policy().ok_or(Refusal::NotInitialized)?;
    let found = state.policy_version();
    if expected_version != found {
        return Err(Refusal::PolicyVersion { expected: expected_version, found });
    }
    let differences = now.differences(&policy);
    if let Some(fixed) = differences.iter().find(|it| it.field.is_fixed()) {
        let field = fixed.field.name.to_owned();
        return Err(Refusal::PolicyFieldFixed { field, found: fixed.from, given: fixed.to });
    }
    let keys = u64::try_from(state.remembered.len()).unwrap_or(u64::MAX);
    let given = u64::from(policy.zone.idempotency_keys_max);
    // Else no command with a key would be possible any more, not even one that takes this one back.
    if given < u64::from(now.zone.idempotency_keys_max) && given <= keys + 1 {
        let field = "idempotency_keys_max".to_owned();
        return Err(Refusal::PolicyBelowUse { field, given, in_use: keys });
    }
    let version = found.saturating_add(u64::from(!differences.is_empty()));
    Ok(Change { policy, version, differences })
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        Refusal::InvalidPolicy(error.to_string())
    }
}
