//! Identities and positions that must not be mixed up.

use std::fmt;

macro_rules! number {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number! {
    /// A partition of the zone. Never reused.
    PartitionId
}
number! {
    /// An index node of the zone. Never reused.
    NodeId
}
number! {
    /// Rises when a partition's range changes.
    RangeEpoch
}
number! {
    /// A write's position in its partition's log. Rises across overwrites and deletes of a key.
    Version
}

impl NodeId {
    /// The wire says zero for "not known".
    pub(crate) fn known(id: u64) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }
}
