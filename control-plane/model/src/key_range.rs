//! Ranges of keys, and how they cover the key space.
//!
//! A range has an inclusive start and an exclusive end; an empty start is the lowest key, an empty end
//! lies beyond the highest. **Invariant:** a [`KeyRange`] is never empty and never inverted.
//!
//! There are millions of ranges, mostly several that are alike: copies share their bytes.

use std::{cmp::Ordering, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest key of an index.
pub const KEY_BYTES_MAX: usize = 4096;

/// A contiguous, non-empty range of keys.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bounds", into = "Bounds")]
pub struct KeyRange {
    /// The start, and right after it the end.
    bounds: Arc<[u8]>,
    start_bytes: usize,
}

type Bounds = (Box<[u8]>, Box<[u8]>);

/// Why two bounds are not a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the range from {start} to {end} is empty or inverted: the start must be less than the end"
)]
pub struct InvalidRange {
    start: String,
    end: String,
}

impl KeyRange {
    /// The whole key space.
    pub fn full() -> Self {
        Self::of(&[], &[])
    }

    fn of(start: &[u8], end: &[u8]) -> Self {
        let bounds = start.iter().chain(end).copied().collect();
        Self { bounds, start_bytes: start.len() }
    }

    /// `start..end`; an empty bound is unbounded.
    pub fn new(start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Result<Self, InvalidRange> {
        let (start, end) = (start.as_ref(), end.as_ref());
        if end.is_empty() || start < end {
            Ok(Self::of(start, end))
        } else {
            Err(InvalidRange { start: display_key(start), end: display_key(end) })
        }
    }

    /// First key of the range; empty: the lowest key.
    pub fn start(&self) -> &[u8] {
        &self.bounds[..self.start_bytes]
    }

    /// First key beyond the range; empty: none.
    pub fn end(&self) -> &[u8] {
        &self.bounds[self.start_bytes..]
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.start() <= key && (self.end().is_empty() || key < self.end())
    }

    pub fn overlaps(&self, other: &KeyRange) -> bool {
        (self.end().is_empty() || other.start() < self.end())
            && (other.end().is_empty() || self.start() < other.end())
    }
}

impl Ord for KeyRange {
    /// By the start, and then by the end.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.start(), self.end()).cmp(&(other.start(), other.end()))
    }
}

impl PartialOrd for KeyRange {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<Bounds> for KeyRange {
    type Error = InvalidRange;
    fn try_from((start, end): Bounds) -> Result<Self, InvalidRange> {
        Self::new(start, end)
    }
}

impl From<KeyRange> for Bounds {
    fn from(range: KeyRange) -> Self {
        (range.start().into(), range.end().into())
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{}, {})", display_key(self.start()), display_key(self.end()))
    }
}

/// A key as people can read it: printable ASCII as it is, everything else escaped.
pub fn display_key(key: &[u8]) -> String {
    if key.is_empty() { "''".to_owned() } else { format!("'{}'", key.escape_ascii()) }
}

/// Why keys cannot cut the key space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSplitKeys {
    #[error("split key {position} is empty: the first partition starts at the lowest key anyway")]
    Empty { position: usize },
    #[error("split key {position} is {bytes} bytes long: a key is at most {KEY_BYTES_MAX} bytes")]
    TooLong { position: usize, bytes: usize },
    #[error(
        "split key {position} ({key}) is not greater than the one before ({before}): \
         split keys must rise"
    )]
    NotRising { position: usize, before: String, key: String },
}

/// Cuts the key space at `keys`: n keys make n + 1 ranges. Positions in errors count from 1.
pub fn split(keys: &[Vec<u8>]) -> Result<Vec<KeyRange>, InvalidSplitKeys> {
    let mut ranges = Vec::with_capacity(keys.len() + 1);
    let mut start: &[u8] = &[];
    for (key, position) in keys.iter().zip(1..) {
        if key.is_empty() {
            return Err(InvalidSplitKeys::Empty { position });
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(InvalidSplitKeys::TooLong { position, bytes: key.len() });
        }
        if key.as_slice() <= start {
            return Err(InvalidSplitKeys::NotRising {
                position,
                before: display_key(start),
                key: display_key(key),
            });
        }
        ranges.push(KeyRange::of(start, key));
        start = key;
    }
    ranges.push(KeyRange::of(start, &[]));
    Ok(ranges)
}

/// How ranges fail to cover the key space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoverError {
    #[error("no range starts at the lowest key")]
    NoStart,
    #[error("nothing covers the keys from {from} to {to}")]
    Gap { from: String, to: String },
    #[error("two ranges cover the keys from {from}")]
    Overlap { from: String },
    #[error("nothing covers the keys from {from} on")]
    NoEnd { from: String },
}

/// Checks that ranges, in the order of their starts, cover the key space exactly.
pub fn check_cover<'a>(ranges: impl IntoIterator<Item = &'a KeyRange>) -> Result<(), CoverError> {
    let mut ranges = ranges.into_iter();
    let first =
        ranges.next().filter(|range| range.start().is_empty()).ok_or(CoverError::NoStart)?;
    let mut end = first.end();
    for range in ranges {
        check_adjacent(end, range.start())?;
        end = range.end();
    }
    if end.is_empty() { Ok(()) } else { Err(CoverError::NoEnd { from: display_key(end) }) }
}

/// Checks that a range that ends at `end` is followed without gap or overlap by one that starts at
/// `start`.
pub fn check_adjacent(end: &[u8], start: &[u8]) -> Result<(), CoverError> {
    if end == start && !end.is_empty() {
        Ok(())
    } else if end.is_empty() || start < end {
        Err(CoverError::Overlap { from: display_key(start) })
    } else {
        Err(CoverError::Gap { from: display_key(end), to: display_key(start) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rising_keys_cut_the_space_into_an_exact_cover(
            keys in proptest::collection::btree_set(
                proptest::collection::vec(any::<u8>(), 1..4), 0..20),
            probe in proptest::collection::vec(any::<u8>(), 0..5),
        ) {
            let keys: Vec<_> = keys.into_iter().collect();
            let ranges = split(&keys).expect("rising");
            prop_assert_eq!(ranges.len(), keys.len() + 1);
            prop_assert_eq!(check_cover(&ranges), Ok(()));
            prop_assert_eq!(ranges.iter().filter(|range| range.contains(&probe)).count(), 1);
            for (left, a) in ranges.iter().enumerate() {
                for (right, b) in ranges.iter().enumerate() {
                    prop_assert_eq!(a.overlaps(b), left == right);
                }
            }
        }

        #[test]
        fn a_missing_or_double_range_is_no_cover(
            keys in proptest::collection::btree_set(
                proptest::collection::vec(any::<u8>(), 1..4), 1..20),
            victim in any::<prop::sample::Index>(),
            double in any::<bool>(),
        ) {
            let keys: Vec<_> = keys.into_iter().collect();
            let mut ranges = split(&keys).expect("rising");
            let at = victim.index(ranges.len());
            if double {
                let range = ranges[at].clone();
                ranges.insert(at, range);
            } else {
                ranges.remove(at);
            }
            prop_assert!(check_cover(&ranges).is_err());
        }

        #[test]
        fn bounds_that_are_not_a_range_are_refused(
            a in proptest::collection::vec(any::<u8>(), 0..3),
            b in proptest::collection::vec(any::<u8>(), 0..3),
        ) {
            let range = KeyRange::new(a.clone(), b.clone());
            prop_assert_eq!(range.is_ok(), b.is_empty() || a < b);
            if let Ok(range) = range {
                prop_assert!(range.contains(&a));
                prop_assert!(b.is_empty() || !range.contains(&b));
                let bytes = postcard::to_stdvec(&range).expect("encodes");
                prop_assert_eq!(postcard::from_bytes::<KeyRange>(&bytes), Ok(range));
            }
        }
    }

    #[test]
    fn split_keys_that_are_empty_double_unordered_or_long_are_named() {
        let keys = |keys: &[&[u8]]| keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>();
        assert_eq!(split(&keys(&[b"a", b""])), Err(InvalidSplitKeys::Empty { position: 2 }));
        for second in [b"a", b"b"] {
            assert!(matches!(
                split(&keys(&[b"b", second])),
                Err(InvalidSplitKeys::NotRising { position: 2, .. })
            ));
        }
        assert!(matches!(
            split(&[vec![1; KEY_BYTES_MAX + 1]]),
            Err(InvalidSplitKeys::TooLong { position: 1, bytes: 4097 })
        ));
    }

    #[test]
    fn an_inverted_range_does_not_decode() {
        let bytes = postcard::to_stdvec(&(b"b".to_vec(), b"a".to_vec())).expect("encodes");
        assert!(postcard::from_bytes::<KeyRange>(&bytes).is_err());
    }
}
