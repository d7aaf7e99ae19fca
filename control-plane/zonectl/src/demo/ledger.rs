//! What the demo knows that the index must hold: the truth that the verification compares with.
//!
//! Each key is written by one worker at a time. A write whose outcome is unknown may take effect until
//! it expires, so its key is left alone from then on, and either value is right.

use std::collections::BTreeMap;

use bytes::Bytes;
use client::{Item, ObjectMetadata, Version};

/// A value with the version under which it was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub value: ObjectMetadata,
    pub version: Version,
}

/// What a key may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    Absent,
    Value(Written),
    /// The last write's outcome is unknown: what was there before, or what it wrote (none: a delete).
    Either {
        before: Option<Written>,
        attempted: Option<ObjectMetadata>,
    },
}

impl Expected {
    /// Whether the key may hold this.
    pub fn allows(&self, found: Option<&Item>) -> bool {
        let is = |written: &Written| {
            found.is_some_and(|item| item.value == written.value && item.version == written.version)
        };
        match self {
            Self::Absent => found.is_none(),
            Self::Value(written) => is(written),
            Self::Either { before, attempted } => {
                let as_before = match before {
                    Some(written) => is(written),
                    None => found.is_none(),
                };
                let as_attempted = match attempted {
                    Some(value) => found.is_some_and(|item| item.value == *value),
                    None => found.is_none(),
                };
                as_before || as_attempted
            }
        }
    }

    /// Whether the key may still be written and read by the workload.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Absent | Self::Value(_) => true,
            Self::Either { .. } => false,
        }
    }

    /// What was acknowledged last; none: absence.
    pub fn settled_value(&self) -> Option<Written> {
        match self {
            Self::Absent => None,
            Self::Value(written) => Some(written.clone()),
            Self::Either { before, .. } => before.clone(),
        }
    }
}

/// The keys of one worker, or all of them.
#[derive(Debug, Default)]
pub struct Ledger {
    pub keys: BTreeMap<Bytes, Expected>,
}

/// How the index differs from the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Keys compared.
    pub compared: usize,
    /// Keys whose last write's outcome was unknown: either value was right.
    pub unknown: usize,
    /// Acknowledged keys that are not there.
    pub missing: Vec<Bytes>,
    /// Keys that hold something else than what was acknowledged.
    pub different: Vec<Bytes>,
    /// Keys that are there and should not be.
    pub unexpected: Vec<Bytes>,
}

impl Ledger {
    pub fn absorb(&mut self, other: Ledger) {
        self.keys.extend(other.keys);
    }

    /// Compares everything that the index holds with everything that it should hold.
    pub fn compare(&self, found: &BTreeMap<Bytes, Item>) -> Differences {
        let mut differences = Differences { compared: self.keys.len(), ..Differences::default() };
        for (key, expected) in &self.keys {
            let item = found.get(key);
            if !expected.is_settled() {
                differences.unknown += 1;
            }
            if expected.allows(item) {
                continue;
            }
            match (expected, item) {
                (_, None) => differences.missing.push(key.clone()),
                (Expected::Absent, Some(_)) => differences.unexpected.push(key.clone()),
                (_, Some(_)) => differences.different.push(key.clone()),
            }
        }
        differences
            .unexpected
            .extend(found.keys().filter(|key| !self.keys.contains_key(*key)).cloned());
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(size_bytes: u64) -> ObjectMetadata {
        ObjectMetadata { size_bytes, ..ObjectMetadata::default() }
    }

    fn written(size_bytes: u64, version: u64) -> Written {
        Written { value: value(size_bytes), version: Version(version) }
    }

    fn item(size_bytes: u64, version: u64) -> Item {
        Item { key: "k".into(), value: value(size_bytes), version: Version(version) }
    }

    #[test]
    fn only_the_acknowledged_value_and_version_is_right() {
        let expected = Expected::Value(written(1, 5));
        assert!(expected.allows(Some(&item(1, 5))));
        assert!(!expected.allows(Some(&item(1, 6))));
        assert!(!expected.allows(Some(&item(2, 5))));
        assert!(!expected.allows(None));
        assert!(Expected::Absent.allows(None));
        assert!(!Expected::Absent.allows(Some(&item(1, 5))));
    }

    #[test]
    fn either_outcome_of_an_unknown_write_is_right() {
        let put = Expected::Either { before: Some(written(1, 5)), attempted: Some(value(2)) };
        assert!(put.allows(Some(&item(1, 5))));
        assert!(put.allows(Some(&item(2, 9))));
        assert!(!put.allows(Some(&item(3, 9))));
        assert!(!put.allows(None));
        let delete = Expected::Either { before: Some(written(1, 5)), attempted: None };
        assert!(delete.allows(None));
        assert!(delete.allows(Some(&item(1, 5))));
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let mut ledger = Ledger::default();
        ledger.keys.insert("missing".into(), Expected::Value(written(1, 1)));
        ledger.keys.insert("different".into(), Expected::Value(written(1, 2)));
        ledger.keys.insert("deleted".into(), Expected::Absent);
        ledger.keys.insert("right".into(), Expected::Value(written(1, 5)));
        let found: BTreeMap<Bytes, Item> = [
            ("different", item(2, 2)),
            ("deleted", item(1, 3)),
            ("right", item(1, 5)),
            ("stranger", item(1, 7)),
        ]
        .into_iter()
        .map(|(key, item)| (Bytes::from(key), item))
        .collect();
        let differences = ledger.compare(&found);
        assert_eq!(differences.compared, 4);
        assert_eq!(differences.missing, vec![Bytes::from("missing")]);
        assert_eq!(differences.different, vec![Bytes::from("different")]);
        assert_eq!(differences.unexpected, vec![Bytes::from("deleted"), Bytes::from("stranger")]);
    }
}
