//! Hands out lineages, and removes what is left of those that no replica uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Mutex, PoisonError},
};

use runtime::store::{Batch, Reader, Scan, StoreError};

use super::{
    keys, records,
    types::{KeyRange, Lineage},
};

/// Draws lineages from a persisted counter. The counter travels in the batch that uses the lineage
/// first, so after a crash it is never behind what is in the store.
pub struct Lineages {
    next: Mutex<u64>,
}

impl Lineages {
    pub fn load(reader: &dyn Reader) -> Result<Self, StoreError> {
        let next = records::read(reader, keys::META, keys::NEXT_LINEAGE)?.unwrap_or(1);
        Ok(Self { next: Mutex::new(next) })
    }

    /// A fresh lineage; the batch has to be the first that writes to it.
    pub fn allocate(&self, batch: &mut Batch) -> Lineage {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let lineage = Lineage(*next);
        *next += 1;
        batch.put(keys::META, keys::NEXT_LINEAGE, records::encode(&*next));
        lineage
    }
}

/// Deletes everything in the lineage.
pub fn delete(batch: &mut Batch, lineage: Lineage) {
    let (start, end) = (keys::lineage(lineage), keys::lineage(Lineage(lineage.0 + 1)));
    batch.delete_range(keys::DATA, start.clone(), end.clone());
    batch.delete_range(keys::OUTCOMES, start, end);
}

/// What the replicas of a node hold, by lineage: the ranges of those that share it. None: all of it, for
/// one that has no range yet.
pub type Held = BTreeMap<Lineage, Vec<Option<KeyRange>>>;

/// Deletes what no replica holds: half of a snapshot, or what a crash kept from being deleted. Returns how
/// many lineages had something of that.
pub fn delete_unused(
    reader: &dyn Reader,
    held: &Held,
    batch: &mut Batch,
) -> Result<usize, StoreError> {
    let mut unused = BTreeSet::new();
    for family in [keys::DATA, keys::OUTCOMES] {
        let mut from = Lineage(0);
        loop {
            let start = Bound::Included(keys::lineage(from));
            let scan = Scan { start, end: Bound::Unbounded, reverse: false };
            let Some(first) = reader.scan(family, scan).next() else { break };
            let (key, _) = first?;
            let lineage = keys::lineage_of(&key).ok_or_else(|| StoreError::Corrupt {
                family: family.0,
                message: "a key is too short for its lineage".into(),
            })?;
            if !held.contains_key(&lineage) {
                unused.insert(lineage);
            }
            from = Lineage(lineage.0 + 1);
        }
    }
    for lineage in &unused {
        delete(batch, *lineage);
    }
    let mut count = unused.len();
    for (lineage, ranges) in held {
        count += usize::from(delete_between(reader, *lineage, ranges, batch)?);
    }
    Ok(count)
}

/// Deletes the keys of a lineage that lie in none of the ranges. Whether there were any.
fn delete_between(
    reader: &dyn Reader,
    lineage: Lineage,
    ranges: &[Option<KeyRange>],
    batch: &mut Batch,
) -> Result<bool, StoreError> {
    let Some(mut held) = ranges
        .iter()
        .map(|range| range.as_ref().map(|range| keys::data_range(lineage, range)))
        .collect::<Option<Vec<_>>>()
    else {
        return Ok(false);
    };
    held.sort_unstable();
    let last = keys::lineage(Lineage(lineage.0 + 1));
    let mut from = keys::lineage(lineage);
    let mut found = false;
    for (start, end) in held.into_iter().chain([(last.clone(), last)]) {
        if from < start {
            let scan = Scan::range(from.clone(), start.clone());
            if reader.scan(keys::DATA, scan).next().transpose()?.is_some() {
                batch.delete_range(keys::DATA, from.clone(), start);
                found = true;
            }
        }
        from = from.max(end);
    }
    Ok(found)
}
