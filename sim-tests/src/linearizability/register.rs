//! The sequential specification: what one key holds, and what may happen to it.

use std::fmt;

use crate::history::{Call, Condition, Operation, Outcome, ValueId};

/// The version of the last write that took effect, as far as the operations tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Version {
    Exactly(u64),
    /// A write whose answer was lost: only that its version is not below this one is known.
    AtLeast(u64),
}

impl Version {
    fn lowest(self) -> u64 {
        match self {
            Version::Exactly(version) | Version::AtLeast(version) => version,
        }
    }

    fn may_be(self, version: u64) -> bool {
        match self {
            Version::Exactly(exact) => exact == version,
            Version::AtLeast(lowest) => version >= lowest,
        }
    }
}

/// What a key holds after some sequence of operations, as far as these tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register {
    value: Option<ValueId>,
    version: Version,
}

impl Register {
    /// A key that was never written.
    pub const EMPTY: Register = Register { value: None, version: Version::Exactly(0) };

    /// What the key holds after `operation` took effect; none if it cannot have taken effect here with
    /// its outcome. An unknown outcome means: it took effect. That it did not is the caller's to try.
    pub fn after(self, operation: &Operation) -> Option<Register> {
        match (operation.call, &operation.outcome) {
            (Call::Put { value, condition }, Outcome::Written { version }) => {
                self.given(condition)?.written(Some(value), *version)
            }
            (Call::Put { value, condition }, Outcome::Unknown) => {
                Some(self.given(condition)?.written_unseen(Some(value)))
            }
            (Call::Delete { condition }, Outcome::Deleted { version, existed }) => {
                let here = self.given(condition)?;
                if here.value.is_some() == *existed { here.written(None, *version) } else { None }
            }
            (Call::Delete { condition }, Outcome::Unknown) => {
                // An unseen delete of nothing changes nothing that anybody could see.
                self.value?;
                Some(self.given(condition)?.written_unseen(None))
            }
            (
                Call::Put { condition: Some(condition), .. }
                | Call::Delete { condition: Some(condition) },
                Outcome::ConditionFailed { current_version },
            ) => self.not_given(condition, *current_version),
            (Call::Get, Outcome::Found { value, version }) => {
                if self.value == Some(*value) {
                    self.seen(*version)
                } else {
                    None
                }
            }
            (Call::Get, Outcome::Missing) => self.value.is_none().then_some(self),
            // A get that was not answered says nothing and changes nothing.
            (Call::Get, Outcome::Unknown) => Some(self),
            (call, outcome) => {
                // An answer that does not fit its question explains nothing.
                tracing::error!(%call, %outcome, "an outcome of another operation");
                None
            }
        }
    }

    /// The register, if somebody saw this version of its value.
    fn seen(self, version: u64) -> Option<Register> {
        let fits = self.value.is_some() && self.version.may_be(version);
        fits.then_some(Register { version: Version::Exactly(version), ..self })
    }

    fn given(self, condition: Option<Condition>) -> Option<Register> {
        match condition {
            None => Some(self),
            Some(Condition::Absent) => self.value.is_none().then_some(self),
            Some(Condition::VersionEquals(version)) => self.seen(version),
        }
    }

    fn not_given(self, condition: Condition, current_version: u64) -> Option<Register> {
        let here = if current_version == 0 {
            self.value.is_none().then_some(self)?
        } else {
            self.seen(current_version)?
        };
        let holds = match condition {
            Condition::Absent => current_version == 0,
            Condition::VersionEquals(version) => version == current_version,
        };
        (!holds).then_some(here)
    }

    fn written(self, value: Option<ValueId>, version: u64) -> Option<Register> {
        let rises = version > self.version.lowest();
        rises.then_some(Register { value, version: Version::Exactly(version) })
    }

    fn written_unseen(self, value: Option<ValueId>) -> Register {
        Register { value, version: Version::AtLeast(self.version.lowest() + 1) }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => write!(formatter, "the key holds value {}", value.0)?,
            None => write!(formatter, "the key is absent")?,
        }
        match self.version {
            Version::Exactly(version) => write!(formatter, ", version {version}"),
            Version::AtLeast(version) => write!(formatter, ", version {version} or later"),
        }
    }
}
