//! The policy: as it is shown, and as a file of it is read.

use std::fmt;

use model::policy::{Difference, FIELDS, PolicyValues, WholePolicy, field_named};
use proto::v1;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
    ser::SerializeMap,
};

const VERSION: &str = "version";
/// The object with the fields whose names begin with this and a dot.
const BALANCE: &str = "balance";

/// `zonectl policy show`, and what `diff` and `set` read: every field, whether it is possible or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyForm {
    /// Of the policy that it is, or was made from.
    pub version: u64,
    pub values: PolicyValues,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyChangeForm {
    pub field: String,
    pub from: u64,
    pub to: u64,
    /// Null for what is counted or weighed.
    pub unit: Option<String>,
}

/// `zonectl policy diff`.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyDiffForm {
    /// Of the zone's policy.
    pub version: u64,
    /// Of the policy that the file was made from.
    pub file_version: u64,
    pub changes: Vec<PolicyChangeForm>,
}

/// `zonectl policy set`.
#[derive(Clone, Debug, Serialize)]
pub struct PolicySetForm {
    /// That the policy has now, or with `dry_run` would have.
    pub version: u64,
    pub dry_run: bool,
    pub changes: Vec<PolicyChangeForm>,
}

impl PolicyForm {
    /// What another policy has otherwise, in the sequence of the fields.
    pub fn changes(&self, other: &PolicyForm) -> Vec<PolicyChangeForm> {
        let fields = FIELDS.iter().filter_map(|field| {
            let (from, to) = (*self.values.get(field.name)?, *other.values.get(field.name)?);
            (from != to).then(|| Difference { field, from, to }.into())
        });
        fields.collect()
    }
}

impl From<Difference> for PolicyChangeForm {
    fn from(difference: Difference) -> Self {
        let Difference { field, from, to } = difference;
        let unit = Some(field.unit.as_str().to_owned()).filter(|unit| !unit.is_empty());
        Self { field: field.name.to_owned(), from, to, unit }
    }
}

/// A server of another version has a policy with other fields.
#[derive(Debug, thiserror::Error)]
#[error("the zone's policy has no {0}: use the zonectl of the control plane's version")]
pub struct UnknownPolicy(String);

impl TryFrom<v1::Policy> for PolicyForm {
    type Error = UnknownPolicy;

    fn try_from(policy: v1::Policy) -> Result<Self, UnknownPolicy> {
        let mut values = PolicyValues::new();
        for (name, value) in policy.values() {
            let value = value.ok_or_else(|| UnknownPolicy(name.to_owned()))?;
            values.insert(name.to_owned(), value);
        }
        let version = values.remove(VERSION).ok_or_else(|| UnknownPolicy(VERSION.to_owned()))?;
        Ok(Self { version, values })
    }
}

impl From<&PolicyForm> for v1::Policy {
    fn from(form: &PolicyForm) -> Self {
        let mut policy = v1::Policy { version: Some(form.version), ..v1::Policy::default() };
        for (name, value) in &form.values {
            policy.set_value(name, *value);
        }
        policy
    }
}

/// The fields within an object: `None` for the policy itself.
fn fields_of(within: Option<&str>) -> impl Iterator<Item = (&'static str, &'static str)> {
    FIELDS.iter().filter_map(move |field| {
        let split = field.name.split_once('.');
        match (within, split) {
            (None, None) => Some((field.name, field.name)),
            (Some(within), Some((object, name))) if object == within => Some((field.name, name)),
            (None, Some(_)) | (Some(_), _) => None,
        }
    })
}

impl Serialize for PolicyForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Balance<'a>(&'a PolicyValues);
        impl Serialize for Balance<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let fields = fields_of(Some(BALANCE));
                serializer
                    .collect_map(fields.filter_map(|(name, key)| Some((key, self.0.get(name)?))))
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(VERSION, &self.version)?;
        for (name, key) in fields_of(None) {
            if let Some(value) = self.values.get(name) {
                map.serialize_entry(key, value)?;
            }
        }
        map.serialize_entry(BALANCE, &Balance(&self.values))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for PolicyForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut found = Found::default();
        deserializer.deserialize_map(Object { within: None, found: &mut found })?;
        let version = found.version.ok_or_else(|| D::Error::missing_field(VERSION))?;
        Ok(Self { version, values: found.values })
    }
}

/// What has been read of a policy.
#[derive(Default)]
struct Found {
    version: Option<u64>,
    values: PolicyValues,
}

impl Found {
    fn missing(&self) -> Option<&'static str> {
        let field = FIELDS.iter().find(|field| !self.values.contains_key(field.name));
        field.map(|field| field.name).or(self.version.is_none().then_some(VERSION))
    }
}

/// Reads one object of a policy: unknown fields, fields that come twice, and what is no whole number are errors,
/// and the place is where they are.
struct Object<'a> {
    within: Option<&'static str>,
    found: &'a mut Found,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with the fields of a policy")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut has_balance = false;
        while let Some(key) = map.next_key::<String>()? {
            let twice = |name: &str| A::Error::custom(format!("{name} is there twice"));
            if self.within.is_none() && key == BALANCE {
                if std::mem::replace(&mut has_balance, true) {
                    return Err(twice(BALANCE));
                }
                map.next_value_seed(Object { within: Some(BALANCE), found: self.found })?;
                continue;
            }
            let name = match self.within {
                Some(within) => format!("{within}.{key}"),
                None => key,
            };
            let is_version = name == VERSION;
            if !is_version
                && (name.contains('.') != self.within.is_some() || field_named(&name).is_none())
            {
                let words = "`zonectl policy show -o json` has all that there are";
                return Err(A::Error::custom(format!("there is no field {name:?}: {words}")));
            }
            let value: u64 = map.next_value().map_err(|error| {
                A::Error::custom(format!("{name} has to be a whole number: {error}"))
            })?;
            let before = if is_version {
                self.found.version.replace(value)
            } else {
                self.found.values.insert(name.clone(), value)
            };
            if before.is_some() {
                return Err(twice(&name));
            }
        }
        match self.found.missing().filter(|_| self.within.is_none()) {
            Some(name) => Err(A::Error::custom(format!("{name} is missing"))),
            None => Ok(()),
        }
    }
}

/// The default of each field, given what is fixed.
pub fn defaults(form: &PolicyForm) -> PolicyValues {
    let factor = form.values.get("replication_factor").copied().unwrap_or(0);
    WholePolicy::default_for(u8::try_from(factor).unwrap_or(u8::MAX)).values()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> PolicyForm {
        PolicyForm { version: 7, values: WholePolicy::default_for(3).values() }
    }

    fn read(json: &serde_json::Value) -> Result<PolicyForm, String> {
        serde_json::from_str(&json.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_shown_can_be_read() {
        let json = serde_json::to_value(form()).unwrap();
        assert_eq!(json["version"], 7);
        assert_eq!(json["replace_after_ms"], 300_000);
        assert_eq!(json["balance"]["act_above_permille"], 1_050);
        assert_eq!(read(&json), Ok(form()));
        assert_eq!(PolicyForm::try_from(v1::Policy::from(&form())).unwrap(), form());
        let text = serde_json::to_string_pretty(&form()).unwrap();
        let places: Vec<_> = FIELDS
            .iter()
            .map(|field| text.find(&format!("\"{}\"", field.name.rsplit('.').next().unwrap())))
            .collect();
        assert!(places.is_sorted() && places[0].is_some(), "{text}");
    }

    #[test]
    fn what_is_no_policy_is_refused_with_the_place() {
        let json = serde_json::to_string_pretty(&form()).unwrap();
        for (from, to, words) in [
            ("\"version\": 7", "\"version\": \"7\"", "version has to be a whole number"),
            ("300000", "-1", "replace_after_ms has to be a whole number"),
            ("300000", "1.5", "replace_after_ms has to be a whole number"),
            ("300000", "null", "replace_after_ms has to be a whole number"),
            ("\"act_after_ms\"", "\"act_soon\"", "there is no field \"balance.act_soon\""),
            (
                "\"events_max\"",
                "\"balance.events_max\"",
                "there is no field \"balance.events_max\"",
            ),
            ("\"events_max\"", "\"balance.idle_permille\"", "there is no field"),
            ("\"events_max\"", "\"replace_after_ms\"", "replace_after_ms is there twice"),
            ("  \"version\": 7,", "", "version is missing"),
            ("    \"idle_permille\": 20,", "", "balance.idle_permille is missing"),
            ("\"balance\": {", "\"balance\": [", "invalid type: sequence"),
            ("{\n  \"version\"", "{,\n \"version\"", "line 1 column 2"),
        ] {
            assert!(json.contains(from), "{from}");
            let error =
                serde_json::from_str::<PolicyForm>(&json.replacen(from, to, 1)).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(words) && error.contains(" at line "), "{from} → {to}: {error}");
        }
    }
}
