//! The hottest partitions, without a walk over all of them.
//!
//! Whoever was reported is a candidate; when there are too many, the coldest half goes. A partition with load
//! is reported twice a minute at least, so one that went because others were hotter then is back in time.

use std::collections::BTreeMap;

use super::zone::HotKey;
use crate::ids::PartitionId;

/// So many candidates are kept, when there are twice as many.
const CANDIDATES_KEPT: usize = 256;

/// What was last told of a candidate besides its load.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub keys: Vec<HotKey>,
    pub throttled_per_second: f64,
}

/// Candidates, with what was last told of them.
#[derive(Clone, Debug, Default)]
pub struct Hottest {
    candidates: BTreeMap<PartitionId, Told>,
}

impl Hottest {
    /// The partition was reported; `weight` says how hot one is now.
    pub fn note(
        &mut self,
        partition: PartitionId,
        told: Told,
        weight: impl Fn(PartitionId) -> f64,
    ) {
        self.candidates.insert(partition, told);
        if self.candidates.len() >= 2 * CANDIDATES_KEPT {
            let kept = self.ranked(CANDIDATES_KEPT, weight);
            let mut before = std::mem::take(&mut self.candidates);
            let kept = kept
                .into_iter()
                .map(|partition| (partition, before.remove(&partition).unwrap_or_default()));
            self.candidates = kept.collect();
        }
    }

    /// The hottest, the hottest first; of two alike the one with the lower id.
    pub fn ranked(&self, count: usize, weight: impl Fn(PartitionId) -> f64) -> Vec<PartitionId> {
        let mut ranked: Vec<(f64, PartitionId)> =
            self.candidates.keys().map(|partition| (weight(*partition), *partition)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        ranked.truncate(count);
        ranked.into_iter().map(|(_, partition)| partition).collect()
    }

    pub fn keys(&self, partition: PartitionId) -> &[HotKey] {
        self.candidates.get(&partition).map_or(&[], |told| told.keys.as_slice())
    }

    pub fn throttled_per_second(&self, partition: PartitionId) -> f64 {
        self.candidates.get(&partition).map_or(0.0, |told| told.throttled_per_second)
    }
}
