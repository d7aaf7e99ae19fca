//! The policy as it is kept: its version, and how load is evened out. ([`super::Policy`] is a part of
//! [`crate::zone::Zone`].) The values are kept by the names of their fields: a field that is added later has its
//! default in a zone that was made before.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{FIELDS, FIRST_VERSION, PolicyValues, WholePolicy, field_named};
use crate::{balance::BalancePolicy, state::ZoneState, table::single_record};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// Of the whole policy.
    pub version: u64,
    #[serde(serialize_with = "write_by_name", deserialize_with = "read_by_name")]
    pub balance: BalancePolicy,
}

impl Default for PolicyRecord {
    fn default() -> Self {
        Self { version: FIRST_VERSION, balance: BalancePolicy::default() }
    }
}

single_record!(PolicyRecord, 9);

/// The fields of the balance policy, by name.
pub(super) fn balance_values(balance: &BalancePolicy) -> PolicyValues {
    let mut whole = WholePolicy::default_for(1);
    whole.balance = balance.clone();
    let fields = FIELDS.iter().filter(|field| field.is_of_balance());
    fields.map(|field| (field.name.to_owned(), field.get(&whole))).collect()
}

pub(super) fn write_by_name<S: Serializer>(
    balance: &BalancePolicy,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    balance_values(balance).serialize(serializer)
}

pub(super) fn read_by_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BalancePolicy, D::Error> {
    let values = PolicyValues::deserialize(deserializer)?;
    let mut whole = WholePolicy::default_for(1);
    for (name, value) in values {
        let field = field_named(&name).filter(|field| field.is_of_balance());
        let field = field.ok_or_else(|| D::Error::custom("a field of no policy"))?;
        field.set(&mut whole, value);
    }
    Ok(whole.balance)
}

impl ZoneState {
    /// How load is evened out; the default before there is a zone.
    pub fn balance_policy(&self) -> &BalancePolicy {
        self.policies.get(&()).map_or(&BalancePolicy::DEFAULT, |record| &record.balance)
    }

    /// The version of the policy: 1 when the zone is made, and one more with each change; 0 before.
    pub fn policy_version(&self) -> u64 {
        match self.policies.get(&()) {
            Some(record) => record.version,
            // A zone that was made before policies had versions.
            None if self.is_initialized() => FIRST_VERSION,
            None => 0,
        }
    }

    /// The whole policy; none before there is a zone.
    pub fn whole_policy(&self) -> Option<WholePolicy> {
        let zone = self.policy()?.clone();
        Some(WholePolicy { zone, balance: self.balance_policy().clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_missing_has_its_default_and_one_that_nobody_knows_is_an_error() {
        let mut values = balance_values(&BalancePolicy { transfers_max: 3, ..Default::default() });
        values.remove("balance.splits_max");
        let bytes = postcard::to_stdvec(&(7_u64, &values)).expect("encodes");
        let record: PolicyRecord = postcard::from_bytes(&bytes).expect("decodes");
        assert_eq!(record.version, 7);
        assert_eq!(record.balance, BalancePolicy { transfers_max: 3, ..Default::default() });
        assert_eq!(
            postcard::from_bytes(&postcard::to_stdvec(&record).expect("encodes")),
            Ok(record)
        );
        for name in ["balance.frobs_max", "replace_after_ms"] {
            let mut values = values.clone();
            values.insert(name.into(), 1);
            let bytes = postcard::to_stdvec(&(7_u64, &values)).expect("encodes");
            assert!(postcard::from_bytes::<PolicyRecord>(&bytes).is_err(), "{name}");
        }
    }
}
