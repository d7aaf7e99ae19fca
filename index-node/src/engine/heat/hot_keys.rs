//! Which keys of a partition are asked for the most, with few counters.
//!
//! SpaceSaving (Metwally, Agrawal, El Abbadi: "Efficient computation of frequent and top-k elements in data
//! streams", 2005): a key that has a counter raises it; another one takes over the smallest counter with its
//! count, which is then the error of the newcomer. So a count is never too small, and too large by its
//! error at most; and every key with more than one sixteenth of all requests has a counter. Counts are
//! halved by time: all by the same factor, which keeps both promises for the aged counts.
//!
//! It is our own because no published one of this kind ages, and those that do age promise no error.

use std::time::Duration;

use bytes::Bytes;
use proto::v1::HotKey;

/// Counters of one sketch.
pub const COUNTERS: usize = 16;
/// Longer keys are counted by their beginnings.
pub const KEY_PREFIX_BYTES: usize = 256;
const HALF_LIFE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
struct Counter {
    /// Of the key: compared before the keys are.
    checksum: u32,
    key: Vec<u8>,
    count: f64,
    error: f64,
}

/// The most frequent keys of late.
#[derive(Clone, Debug, Default)]
pub struct HotKeys {
    counters: Vec<Counter>,
    total: f64,
}

impl HotKeys {
    /// A request for this key; without one, for no key in particular.
    pub fn note(&mut self, key: Option<&[u8]>) {
        self.total += 1.0;
        let Some(key) = key else { return };
        let key = &key[..key.len().min(KEY_PREFIX_BYTES)];
        let checksum = crc32fast::hash(key);
        let is_it = |counter: &Counter| counter.checksum == checksum && counter.key == key;
        if let Some(counter) = self.counters.iter_mut().find(|counter| is_it(counter)) {
            counter.count += 1.0;
            return;
        }
        if self.counters.len() < COUNTERS {
            self.counters.push(Counter { checksum, key: key.to_vec(), count: 1.0, error: 0.0 });
            return;
        }
        let smallest = self.counters.iter_mut().min_by(|a, b| a.count.total_cmp(&b.count));
        let smallest = smallest.expect("there are counters: the sketch is full");
        smallest.error = smallest.count;
        smallest.count += 1.0;
        smallest.checksum = checksum;
        smallest.key.clear();
        smallest.key.extend_from_slice(key);
    }

    /// All that was noted weighs half after each half-life of 10 s.
    pub fn age(&mut self, elapsed: Duration) {
        let left = (-elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
        self.total *= left;
        for counter in &mut self.counters {
            counter.count *= left;
            counter.error *= left;
        }
    }

    /// The keys with the largest counts, the largest first.
    pub fn hottest(&self, count: usize) -> Vec<HotKey> {
        if self.total <= 0.0 {
            return Vec::new();
        }
        let mut order: Vec<&Counter> = self.counters.iter().collect();
        order.sort_by(|a, b| b.count.total_cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
        order.truncate(count);
        let hot_key = |counter: &Counter| HotKey {
            key_prefix: Bytes::copy_from_slice(&counter.key),
            share: (counter.count / self.total).min(1.0),
            share_error: (counter.error / self.total).min(1.0),
        };
        order.into_iter().map(hot_key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_keys_are_counted_exactly() {
        let mut keys = HotKeys::default();
        assert!(keys.hottest(4).is_empty());
        for (key, times) in [("a", 6), ("b", 3), ("c", 1)] {
            (0..times).for_each(|_| keys.note(Some(key.as_bytes())));
        }
        let found: Vec<(String, f64, f64)> = keys
            .hottest(2)
            .into_iter()
            .map(|key| {
                (String::from_utf8(key.key_prefix.to_vec()).unwrap(), key.share, key.share_error)
            })
            .collect();
        assert_eq!(found, [("a".to_owned(), 0.6, 0.0), ("b".to_owned(), 0.3, 0.0)]);
    }

    #[test]
    fn a_long_key_is_known_by_its_beginning() {
        let mut keys = HotKeys::default();
        keys.note(Some(&[7; 300]));
        keys.note(Some(&[7; 4_096]));
        keys.note(Some(&[7; 255]));
        let hottest = keys.hottest(COUNTERS);
        assert_eq!(hottest.len(), 2);
        assert_eq!(hottest[0].key_prefix.len(), KEY_PREFIX_BYTES);
        assert!((hottest[0].share - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_new_favourite_soon_outweighs_an_old_one() {
        let mut keys = HotKeys::default();
        (0..1_000).for_each(|_| keys.note(Some(b"old")));
        keys.age(Duration::from_secs(40));
        (0..100).for_each(|_| keys.note(Some(b"new")));
        let hottest = keys.hottest(1);
        assert_eq!(hottest[0].key_prefix.as_ref(), b"new");
        assert!((hottest[0].share - 100.0 / 162.5).abs() < 1e-9);
    }

    proptest! {
        /// Against exact counts, aged in the same way.
        #[test]
        fn a_count_is_never_too_small_and_too_large_by_its_error_at_most(
            noted in prop::collection::vec((0_u8..60, 0_u8..4, prop::bool::weighted(0.01)), 1..800),
        ) {
            let mut keys = HotKeys::default();
            let mut exact: BTreeMap<u8, f64> = BTreeMap::new();
            let mut total = 0.0;
            for (rare, often, ages) in noted {
                // Key 0 is asked for in three of four.
                let key = if often > 0 { 0 } else { rare };
                keys.note(Some(&[key]));
                *exact.entry(key).or_default() += 1.0;
                total += 1.0;
                if ages {
                    keys.age(Duration::from_secs(10));
                    exact.values_mut().for_each(|count| *count /= 2.0);
                    total /= 2.0;
                }
            }
            let hottest = keys.hottest(COUNTERS);
            prop_assert!(hottest.len() <= COUNTERS);
            for key in &hottest {
                let true_share = exact[&key.key_prefix[0]] / total;
                prop_assert!(true_share <= key.share + 1e-9);
                prop_assert!(true_share >= key.share - key.share_error - 1e-9);
            }
            for (key, count) in exact {
                let is_found = hottest.iter().any(|found| found.key_prefix[0] == key);
                let share = count / total;
                prop_assert!(is_found || share <= 1.0 / 16.0 + 1e-9, "{key} has {share}");
            }
        }
    }
}
