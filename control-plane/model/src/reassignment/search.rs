//! One lane's part of a round: simulated annealing over its own nodes and groups.
//!
//! Changes are drawn at random, weighed by the rows that they touch, and made if they are cheaper, or dearer
//! by less than a random threshold around the temperature (Kirkpatrick et al., "Optimization by simulated
//! annealing", 1983). Among the challenge's entries, local search by shifts, swaps and short chains with
//! some such noise came out first.

use crate::seeded::{FRACTION_BITS, Seeded};

use super::{moves::Change, state::State};

/// Out of so many draws, so many are shifts and so many are swaps; the others are chains.
const DRAWS: usize = 16;
const SHIFTS: usize = 7;
const SWAPS: usize = 7;
/// Destinations that are looked at for a shift before the draw counts as one that found none.
const SHIFT_TRIES: usize = 3;

/// What a lane may touch, so that lanes do not meet.
#[derive(Clone, Debug, Default)]
pub(super) struct Territory {
    pub nodes: Vec<u32>,
    /// Replicas that are on these nodes and whose groups belong to this lane.
    pub replicas: Vec<u32>,
}

/// What a lane has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub evaluations: u64,
    pub accepted: u64,
    /// Sum and number of the changes that would have made it dearer.
    pub dearer_sum: i128,
    pub dearer_count: u64,
}

/// Searches for so many evaluations.
pub(super) fn anneal(
    state: &mut State<'_>,
    territory: &Territory,
    seeded: &mut Seeded,
    temperature: i64,
    evaluations: u64,
) -> Seen {
    let mut seen = Seen::default();
    if territory.nodes.len() < 2 || territory.replicas.is_empty() {
        return seen;
    }
    while seen.evaluations < evaluations {
        seen.evaluations += 1;
        let Some((change, gain)) = draw(state, territory, seeded, &mut seen) else { continue };
        if gain > 0 {
            seen.dearer_sum += i128::from(gain);
            seen.dearer_count += 1;
            if temperature == 0 {
                continue;
            }
            let threshold = i128::from(temperature) * i128::from(seeded.exponential());
            if i128::from(gain) > threshold >> FRACTION_BITS {
                continue;
            }
        }
        state.carry_out(change);
        seen.accepted += 1;
    }
    seen
}

/// One possible change and what it adds to the cost; none if the draw was not possible.
#[inline]
fn draw(
    state: &State<'_>,
    territory: &Territory,
    seeded: &mut Seeded,
    seen: &mut Seen,
) -> Option<(Change, i64)> {
    let replica = seeded.pick(&territory.replicas)? as usize;
    let kind = seeded.below(DRAWS);
    if kind < SHIFTS {
        for attempt in 0..SHIFT_TRIES {
            seen.evaluations += u64::from(attempt > 0);
            let to = seeded.pick(&territory.nodes)? as usize;
            let change = Change::Shift { replica, to };
            if let Some(gain) = state.weigh(change) {
                return Some((change, gain));
            }
        }
        return None;
    }
    let other = seeded.pick(&territory.replicas)? as usize;
    let to = if kind < SHIFTS + SWAPS {
        state.node_of(replica)?
    } else {
        seeded.pick(&territory.nodes)? as usize
    };
    let change = Change::Replace { replica, other, to };
    Some((change, state.weigh(change)?))
}
