//! Is a history linearizable (G3)?
//!
//! An index key is a register that is independent of all others, and linearizability is local (Herlihy
//! and Wing 1990): a history is linearizable exactly if each key's part of it is. For one key this is
//! the search of Wing and Gong (1993) with Lowe's memoisation (2017): extend a sequence of operations
//! one by one, by any whose invocation precedes every response still outstanding; remember each pair
//! of (set of operations taken, state reached) that led nowhere.
//!
//! - An operation whose outcome is *unknown* may have taken effect at any time after its invocation, or
//!   never.
//! - One that was *refused* claims to have had no effect; it is left out, so that an effect of it shows
//!   as a value that nobody wrote.
//! - Versions are checked too: they rise with each write of a key, and a write that took effect twice
//!   shows as a version that nobody was told.
//!
//! The search is exponential at worst. It gives up after a number of configurations and says so; a
//! history that was not decided has not passed.

mod register;
mod search;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;

use crate::history::{Operation, Outcome};
pub use register::Register;

/// After how many configurations of one key the search gives up.
pub const CONFIGURATIONS_MAX: usize = 4_000_000;

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    NotLinearizable(Box<Counterexample>),
    /// The search gave up.
    Undecided {
        key: Bytes,
    },
}

/// Why one key's history has no linearization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    pub key: Bytes,
    /// How many operations of the key the longest valid sequence took.
    pub explained: usize,
    /// What the key held at its end, as far as the history tells.
    pub reached: Register,
    /// The operation that no sequence could take: of those left, the first to be answered.
    pub stuck_at: Operation,
    /// The key's operations that end or begin near it, for people.
    pub around: Vec<Operation>,
}

/// Checks all keys, in key order; the first that is not linearizable decides.
pub fn check(history: &[Operation]) -> Verdict {
    check_within(history, CONFIGURATIONS_MAX)
}

/// [`check`] with another limit of configurations for each key.
pub fn check_within(history: &[Operation], configurations_max: usize) -> Verdict {
    let mut by_key: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        if !matches!(operation.outcome, Outcome::Refused { .. }) {
            by_key.entry(&operation.key).or_default().push(operation);
        }
    }
    let mut undecided = None;
    for (key, operations) in by_key {
        match search::Search::new(operations.clone(), configurations_max).run() {
            search::Found::Sequence => {}
            search::Found::Nothing { explained, reached, stuck_at } => {
                let around = around(&operations, stuck_at);
                return Verdict::NotLinearizable(Box::new(Counterexample {
                    key: key.clone(),
                    explained,
                    reached,
                    stuck_at: stuck_at.clone(),
                    around,
                }));
            }
            search::Found::GaveUp => undecided = undecided.or_else(|| Some(key.clone())),
        }
    }
    undecided.map_or(Verdict::Linearizable, |key| Verdict::Undecided { key })
}

/// How many operations before the one that is stuck a counterexample shows.
const SHOWN_BEFORE: usize = 12;

/// How many after it.
const SHOWN_AFTER: usize = 4;

fn around(operations: &[&Operation], stuck_at: &Operation) -> Vec<Operation> {
    let middle = operations
        .iter()
        .position(|operation| *operation == stuck_at)
        .expect("what is stuck is one of the operations");
    let start = middle.saturating_sub(SHOWN_BEFORE);
    let end = operations.len().min(middle + SHOWN_AFTER + 1);
    operations[start..end].iter().map(|operation| (*operation).clone()).collect()
}

impl fmt::Display for Counterexample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "key {} has no linearization: after {} operations ({}) nothing explains",
            String::from_utf8_lossy(&self.key),
            self.explained,
            self.reached
        )?;
        writeln!(formatter, "  {}", self.stuck_at)?;
        writeln!(formatter, "among")?;
        for operation in &self.around {
            let mark = if *operation == self.stuck_at { '>' } else { ' ' };
            writeln!(formatter, "{mark} {operation}")?;
        }
        Ok(())
    }
}
