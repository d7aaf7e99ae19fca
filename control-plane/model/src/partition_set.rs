//! Sets of partitions, of a handful or of all: partition ids are drawn from a counter and lie close together, so
//! that sixty-four neighbours fit into one word, and a million into a tree that a processor's cache can hold.
//!
//! An ordinary ordered set takes fifty times as much, and most of a new leader's time goes into walks down such trees
//! once they are that large. Where a set is small or sparse, and not asked again and again, that one is simpler.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use crate::ids::PartitionId;

/// Ids in one word.
const WORD_IDS: u64 = 64;

/// Partition ids in their order. **Invariant:** no word is zero, and `len` is the number of bits that are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionSet {
    words: BTreeMap<u64, u64>,
    len: usize,
}

/// The word of an id, and its bit there.
fn place(id: PartitionId) -> (u64, u64) {
    (id.get() / WORD_IDS, 1 << (id.get() % WORD_IDS))
}

/// The ids of a word's bits, the least first.
fn ids_of(number: u64, mut word: u64) -> impl Iterator<Item = PartitionId> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = u64::from(word.trailing_zeros());
        word &= word - 1;
        Some(PartitionId(number * WORD_IDS + bit))
    })
}

impl PartitionSet {
    /// Whether it was not there yet.
    pub fn insert(&mut self, id: PartitionId) -> bool {
        let (number, bit) = place(id);
        let word = self.words.entry(number).or_default();
        let is_new = *word & bit == 0;
        *word |= bit;
        self.len += usize::from(is_new);
        is_new
    }

    /// Whether it was there.
    pub fn remove(&mut self, id: PartitionId) -> bool {
        let (number, bit) = place(id);
        let Some(word) = self.words.get_mut(&number) else { return false };
        let was_in = *word & bit != 0;
        *word &= !bit;
        if *word == 0 {
            self.words.remove(&number);
        }
        self.len -= usize::from(was_in);
        was_in
    }

    pub fn contains(&self, id: PartitionId) -> bool {
        let (number, bit) = place(id);
        self.words.get(&number).is_some_and(|word| word & bit != 0)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn first(&self) -> Option<PartitionId> {
        self.iter().next()
    }

    /// All, in their order.
    pub fn iter(&self) -> impl Iterator<Item = PartitionId> {
        self.words.iter().flat_map(|(number, word)| ids_of(*number, *word))
    }

    /// All beyond this one, in their order.
    pub fn after(&self, id: PartitionId) -> impl Iterator<Item = PartitionId> {
        let (number, bit) = place(id);
        // Neither the id's own bit nor those below it.
        let own = self.words.get(&number).map_or(0, |word| word & !(bit | (bit - 1)));
        let later = self.words.range((Excluded(number), Unbounded));
        ids_of(number, own).chain(later.flat_map(|(number, word)| ids_of(*number, *word)))
    }

    /// Keeps those for which it is true.
    pub fn retain(&mut self, mut is_kept: impl FnMut(PartitionId) -> bool) {
        *self = self.iter().filter(|id| is_kept(*id)).collect();
    }
}

impl Extend<PartitionId> for PartitionSet {
    fn extend<T: IntoIterator<Item = PartitionId>>(&mut self, ids: T) {
        for id in ids {
            self.insert(id);
        }
    }
}

impl FromIterator<PartitionId> for PartitionSet {
    fn from_iter<T: IntoIterator<Item = PartitionId>>(ids: T) -> Self {
        let mut set = Self::default();
        set.extend(ids);
        set
    }
}
