//! What is on a disk at one moment: persistent maps, so that keeping a copy per batch and per snapshot
//! costs next to nothing.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use rpds::RedBlackTreeMapSync;

use crate::store::{Batch, Change, Entries, Family, Reader, Scan, StoreError};

type Map = RedBlackTreeMapSync<Bytes, Bytes>;

#[derive(Clone, Default)]
pub(super) struct Image {
    families: Arc<BTreeMap<Family, Map>>,
}

impl Image {
    pub(super) fn add_family(&mut self, family: Family) {
        Arc::make_mut(&mut self.families).entry(family).or_default();
    }

    pub(super) fn families(&self) -> Vec<Family> {
        self.families.keys().copied().collect()
    }

    /// # Errors
    /// If the batch names an unknown family. Nothing has changed then.
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for change in batch.changes() {
            let (Change::Put { family, .. }
            | Change::Delete { family, .. }
            | Change::DeleteRange { family, .. }) = change;
            self.map(*family)?;
        }
        let families = Arc::make_mut(&mut self.families);
        for change in batch.changes() {
            match change {
                Change::Put { family, key, value } => {
                    if let Some(map) = families.get_mut(family) {
                        map.insert_mut(key.clone(), value.clone());
                    }
                }
                Change::Delete { family, key } => {
                    if let Some(map) = families.get_mut(family) {
                        map.remove_mut(key);
                    }
                }
                Change::DeleteRange { family, start, end } => {
                    if let Some(map) = families.get_mut(family)
                        && start < end
                    {
                        let range = start.clone()..end.clone();
                        let doomed: Vec<Bytes> =
                            map.range::<Bytes, _>(range).map(|(key, _)| key.clone()).collect();
                        for key in doomed {
                            map.remove_mut(&key);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A scan that owns what it reads.
    pub(super) fn into_scan(self, family: Family, scan: Scan) -> Entries<'static> {
        match self.map(family) {
            Ok(map) => Box::new(Cursor { map: map.clone(), scan }),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    pub(super) fn bytes_between(&self, family: Family, start: &[u8], end: &[u8]) -> u64 {
        if start >= end {
            return 0;
        }
        let Ok(map) = self.map(family) else { return 0 };
        let range = (Bound::Included(start), Bound::Excluded(end));
        let bytes: usize =
            map.range::<[u8], _>(range).map(|(key, value)| key.len() + value.len()).sum();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn map(&self, family: Family) -> Result<&Map, StoreError> {
        self.families.get(&family).ok_or_else(|| StoreError::Failed {
            action: "find the family",
            message: format!("{} was not named when the store was opened", family.0),
        })
    }
}

impl Reader for Image {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.map(family)?.get(key).cloned())
    }

    fn scan(&self, family: Family, scan: Scan) -> Entries<'_> {
        self.clone().into_scan(family, scan)
    }
}

/// Looks each next entry up anew in a map of its own, and so borrows nothing.
struct Cursor {
    map: Map,
    /// What is left of the scan.
    scan: Scan,
}

impl Iterator for Cursor {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if is_empty(&self.scan) {
            return None;
        }
        let mut range = self.map.range((self.scan.start.clone(), self.scan.end.clone()));
        let next = if self.scan.reverse { range.next_back() } else { range.next() };
        let (key, value) = next.map(|(key, value)| (key.clone(), value.clone()))?;
        let rest = Bound::Excluded(key.clone());
        if self.scan.reverse {
            self.scan.end = rest;
        } else {
            self.scan.start = rest;
        }
        Some(Ok((key, value)))
    }
}

/// Whether no key can lie within the bounds: some of these would panic in a map's `range`.
fn is_empty(scan: &Scan) -> bool {
    match (&scan.start, &scan.end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
    }
}
