//! Hands out lineages, and removes what is left of those that no replica uses.

use std::{
    collections::BTreeSet,
    ops::Bound,
    sync::{Mutex, PoisonError},
};

use runtime::store::{Batch, Reader, Scan, StoreError};

use super::{keys, records, types::Lineage};

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

/// Deletes every lineage that is not among `used`: half of a snapshot, or what a crash kept from being
/// deleted. Returns how many there were.
pub fn delete_unused(
    reader: &dyn Reader,
    used: &BTreeSet<Lineage>,
    batch: &mut Batch,
) -> Result<usize, StoreError> {
    let mut unused = BTreeSet::new();
    for family in [keys::DATA, keys::OUTCOMES] {
        let mut from = Lineage(0);
        loop {
            let scan = Scan {
                start: Bound::Included(keys::lineage(from)),
                end: Bound::Unbounded,
                reverse: false,
            };
            let Some(first) = reader.scan(family, scan).next() else { break };
            let (key, _) = first?;
            let lineage = keys::lineage_of(&key).ok_or_else(|| StoreError::Corrupt {
                family: family.0,
                message: "a key is too short for its lineage".into(),
            })?;
            if !used.contains(&lineage) {
                unused.insert(lineage);
            }
            from = Lineage(lineage.0 + 1);
        }
    }
    for lineage in &unused {
        delete(batch, *lineage);
    }
    Ok(unused.len())
}
