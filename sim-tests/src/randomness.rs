//! The randomness seam: one seeded stream for each boot of each process.

use std::sync::{Mutex, PoisonError};

use rand::{Rng, rngs::StdRng};
use runtime::seams::Randomness;

use crate::seed::Seed;

/// Numbers that follow from a seed.
#[derive(Debug)]
pub struct SeededRandomness {
    generator: Mutex<StdRng>,
}

impl SeededRandomness {
    pub fn new(seed: Seed) -> Self {
        Self { generator: Mutex::new(seed.generator()) }
    }
}

impl Randomness for SeededRandomness {
    fn next_u64(&self) -> u64 {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
