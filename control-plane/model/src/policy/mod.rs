//! What the zone's operators decide for all partitions: the one object that they look at and change.
//!
//! [`Policy`] says how partitions are treated and what is remembered, [`BalancePolicy`] how eagerly load is evened
//! out; [`WholePolicy`] is both. [`FIELDS`] describes each field once: name, unit, bounds and meaning. Whatever is
//! shown, read, compared or refused goes by that table.
//!
//! [`ShadowPolicy`] is another [`BalancePolicy`], which is planned with and never acted on.
//!
//! **Invariant:** a policy that has been committed through [`crate::command::Action::SetPolicy`] is within the
//! bounds, and its version is one more than that of the policy before it.

mod change;
mod field;
mod record;
mod shadow;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use change::{Change, Difference, check_change};
pub use field::{FIELDS, Field, Group, Unit, field_named};
pub use record::PolicyRecord;
pub use shadow::{ShadowPolicy, check_shadow};

use crate::balance::BalancePolicy;

/// How a zone treats its partitions. Durations are in zone time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Replicas of each partition: 1, 3 or 5. Fixed when the zone is made.
    pub replication_factor: u8,
    /// How long a node is down before its replicas are made again elsewhere.
    pub replace_after_ms: u64,
    /// How long no new node must have come before the first partitions are placed, so that a zone that
    /// is being switched on is spread over all of its nodes.
    pub placement_settle_ms: u64,
    /// Changes of replicas at the same time, in the zone and on or off one node.
    pub changes_in_flight_zone_max: u32,
    pub changes_in_flight_node_max: u32,
    /// Transfers of leadership at the same time.
    pub transfers_in_flight_max: u32,
    /// A transfer of leadership that has not happened after so long has failed.
    pub transfer_timeout_ms: u64,
    pub events_max: u64,
    pub events_age_max_ms: u64,
    /// Operations that have ended and are remembered.
    pub ended_operations_max: u32,
    pub idempotency_keys_max: u32,
    pub idempotency_age_max_ms: u64,
}

/// What `replace_after_ms: 0` in an `init` stands for.
pub const REPLACE_AFTER_DEFAULT_MS: u64 = 5 * 60 * 1000;
/// The longest that a node may be down before its replicas are made again: a year.
pub const REPLACE_AFTER_MAX_MS: u64 = 366 * 24 * 60 * 60 * 1000;
/// No zone has more partitions than so many at its start.
pub const SPLIT_KEYS_MAX: usize = 100_000;
/// The version of a zone's first policy.
pub const FIRST_VERSION: u64 = 1;

impl Policy {
    pub fn new(replication_factor: u8, replace_after_ms: u64) -> Self {
        const HOUR_MS: u64 = 60 * 60 * 1000;
        Self {
            replication_factor,
            replace_after_ms,
            placement_settle_ms: 2_000,
            changes_in_flight_zone_max: 16,
            changes_in_flight_node_max: 4,
            transfers_in_flight_max: 16,
            transfer_timeout_ms: 10_000,
            events_max: 20_000,
            events_age_max_ms: 7 * 24 * HOUR_MS,
            ended_operations_max: 2_000,
            idempotency_keys_max: 20_000,
            idempotency_age_max_ms: 24 * HOUR_MS,
        }
    }
}

/// Checks the one value that an `init` gives.
///
/// # Errors
/// If it is out of its bounds.
pub fn check_replace_after(replace_after_ms: u64) -> Result<(), PolicyError> {
    let mut policy = WholePolicy::default_for(1);
    policy.zone.replace_after_ms = replace_after_ms;
    let wrong = |field: &&Field| field.name == "replace_after_ms";
    FIELDS.iter().find(wrong).map_or(Ok(()), |field| field.check(&policy, replace_after_ms))
}

/// All that is decided for a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholePolicy {
    pub zone: Policy,
    pub balance: BalancePolicy,
}

/// A policy's values by the names of their fields, as they are written, sent and kept.
pub type PolicyValues = BTreeMap<String, u64>;

/// What is wrong with a policy that somebody proposes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error(
        "there is no field {name:?} in a policy: `zonectl policy show` lists those that there are"
    )]
    Unknown { name: String },
    #[error("{name} is missing: a policy has every field, also those that stay as they are")]
    Missing { name: &'static str },
    #[error("{name} is {found}: it must be {bounds}")]
    Range { name: &'static str, found: u64, bounds: String },
}

impl WholePolicy {
    /// What a zone of so many replicas has unless somebody decides otherwise.
    pub fn default_for(replication_factor: u8) -> Self {
        let zone = Policy::new(replication_factor, REPLACE_AFTER_DEFAULT_MS);
        Self { zone, balance: BalancePolicy::default() }
    }

    pub fn values(&self) -> PolicyValues {
        FIELDS.iter().map(|field| (field.name.to_owned(), field.get(self))).collect()
    }

    /// The policy with these values: all fields, no others, each within its bounds.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn from_values(values: &PolicyValues) -> Result<Self, PolicyError> {
        if let Some(name) = values.keys().find(|name| field_named(name).is_none()) {
            return Err(PolicyError::Unknown { name: name.chars().take(NAME_SHOWN_MAX).collect() });
        }
        let mut policy = Self::default_for(1);
        for field in FIELDS {
            let name = field.name;
            let value = values.get(name).ok_or(PolicyError::Missing { name })?;
            field.set(&mut policy, *value);
        }
        for field in FIELDS {
            if let Some(value) = values.get(field.name) {
                field.check(&policy, *value)?;
            }
        }
        Ok(policy)
    }
}

/// Letters of a field's name that an error shows at most.
const NAME_SHOWN_MAX: usize = 64;
