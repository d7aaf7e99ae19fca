//! One number from which everything random in a run is derived.
//!
//! Every consumer derives a seed of its own from the run's seed, its purpose and a number, so that one
//! consumer that draws more or fewer numbers does not shift what the others draw: a schedule of faults
//! stays the same when a workload changes.

use rand::{SeedableRng, rngs::StdRng};

/// Where a stream of random numbers starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of one consumer: `purpose` names it, `index` tells it from others of its kind.
    #[must_use]
    pub fn derive(self, purpose: &str, index: u64) -> Seed {
        let mut mixed = mix(self.0);
        for byte in purpose.bytes() {
            mixed = mix(mixed ^ u64::from(byte));
        }
        Seed(mix(mixed ^ mix(index)))
    }

    /// A generator that starts here.
    pub fn generator(self) -> StdRng {
        StdRng::seed_from_u64(self.0)
    }
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): a bijection whose every input bit
/// changes about half of the output bits.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn consumers_have_seeds_of_their_own() {
        let mut seeds = BTreeSet::new();
        for run in 0..20 {
            for purpose in ["faults", "workload", "network"] {
                for index in 0..20 {
                    assert!(seeds.insert(Seed(run).derive(purpose, index)));
                }
            }
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer() {
        assert_eq!(Seed(7).derive("faults", 3), Seed(7).derive("faults", 3));
    }
}
