//! Where the load of a partition falls into halves: from a sample of the keys that were asked for of late.
//!
//! A reservoir sample (Vitter: "Random sampling with a reservoir", 1985; biased towards the present as by
//! Aggarwal: "On biased reservoir sampling in the presence of stream evolution", 2006): each request takes a
//! place in it with the chance places / requests, and requests are forgotten by half in each half-life. Of
//! 128 places the middle of the sample lies within 4.4 percentage points of the true one two times out of
//! three. Two samples are merged by drawing from each as often as it has seen requests.

use std::time::Duration;

use bytes::Bytes;

use super::hot_keys::KEY_PREFIX_BYTES;
use crate::engine::types::KeyRange;

/// Keys of one sample.
pub const PLACES: usize = 128;
/// With fewer the middle says nothing.
const SAMPLES_MIN: usize = 32;
const HALF_LIFE: Duration = Duration::from_secs(10);

/// Where load falls into halves, or as near to that as the keys allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Middle {
    /// The first key of the right half.
    pub key: Bytes,
    /// The share of the requests that asked for keys before it.
    pub left_permille: u32,
}

/// A sample of the keys that were asked for.
#[derive(Clone, Debug, Default)]
pub struct KeySample {
    keys: Vec<Vec<u8>>,
    /// Requests that it stands for.
    seen: f64,
    draws: u64,
}

impl KeySample {
    /// A number below `bound` that looks random: nobody gains by foreseeing it.
    fn draw(&mut self, bound: u64) -> u64 {
        self.draws = self.draws.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.draws ^ (self.draws >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The high half of the product: even, without a division.
        let product = u128::from(mixed ^ (mixed >> 31)) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// A request for this key.
    pub fn note(&mut self, key: &[u8]) {
        let key = &key[..key.len().min(KEY_PREFIX_BYTES)];
        self.seen += 1.0;
        if self.keys.len() < PLACES {
            self.keys.push(key.to_vec());
            return;
        }
        // Counts are far below 2^53, and never below the number of places.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let seen = (self.seen as u64).max(PLACES as u64);
        let place = self.draw(seen);
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let Some(kept) = self.keys.get_mut(place) {
            kept.clear();
            kept.extend_from_slice(key);
        }
    }

    /// What was noted counts half after each half-life of 10 s.
    pub fn age(&mut self, elapsed: Duration) {
        self.seen *= (-elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
    }

    /// Both together: as one sample of all requests of either.
    pub fn merge(&mut self, other: &KeySample) {
        let total = self.seen + other.seen;
        if other.keys.is_empty() || total <= 0.0 {
            return;
        }
        // A share of 2^32 is exact enough.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let theirs = (other.seen / total * f64::from(u32::MAX)) as u64;
        let own = std::mem::take(&mut self.keys);
        let count = (own.len() + other.keys.len()).min(PLACES);
        for _ in 0..count {
            let from = if own.is_empty() || self.draw(u64::from(u32::MAX)) < theirs {
                &other.keys
            } else {
                &own
            };
            let place = self.draw(from.len() as u64);
            let key = usize::try_from(place).ok().and_then(|place| from.get(place));
            self.keys.extend(key.cloned());
        }
        self.seen = total;
    }

    /// The key inside the range before which the share of requests is nearest to a half; none if there are too
    /// few requests, or all ask for one key.
    pub fn middle(&self, range: &KeyRange) -> Option<Middle> {
        let mut keys: Vec<&[u8]> = self.keys.iter().map(Vec::as_slice).collect();
        keys.retain(|key| range.contains(key));
        if keys.len() < SAMPLES_MIN {
            return None;
        }
        keys.sort_unstable();
        let count = keys.len();
        // Between two different neighbours the sample can be cut.
        let cuts = (1..count).filter(|at| keys[at - 1] != keys[*at]);
        let best = cuts.min_by_key(|at| (2 * at).abs_diff(count))?;
        let left_permille = u32::try_from(best * 1_000 / count).unwrap_or(0);
        Some(Middle { key: Bytes::copy_from_slice(keys[best]), left_permille })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> KeyRange {
        KeyRange::default()
    }

    fn key(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    #[test]
    fn the_middle_halves_even_load() {
        let mut sample = KeySample::default();
        (0..100_000).for_each(|number| sample.note(&key(number * 31 % 1_000)));
        let middle = sample.middle(&range()).expect("there is load");
        let number = u32::from_be_bytes(middle.key.as_ref().try_into().unwrap());
        assert!((350..=650).contains(&number), "{number}");
        assert!((450..=550).contains(&middle.left_permille), "{middle:?}");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut sample = KeySample::default();
        (0..10_000).for_each(|number| sample.note(&key(number % 100)));
        for _ in 0..20 {
            sample.age(Duration::from_secs(10));
            (0..100).for_each(|number| sample.note(&key(1_000 + number % 100)));
        }
        let middle = sample.middle(&range()).expect("there is load");
        assert!(middle.key.as_ref() > key(1_000).as_slice(), "{middle:?}");
    }

    #[test]
    fn one_key_and_few_requests_have_no_middle() {
        let mut sample = KeySample::default();
        (0..20).for_each(|number| sample.note(&key(number)));
        assert_eq!(sample.middle(&range()), None);
        let mut sample = KeySample::default();
        (0..1_000).for_each(|_| sample.note(&key(7)));
        assert_eq!(sample.middle(&range()), None);
        // A hot key at the edge: the cut is beside it.
        (0..1_000).for_each(|_| sample.note(&key(8)));
        assert_eq!(sample.middle(&range()).unwrap().key.as_ref(), key(8));
        let outside = KeyRange { start: Bytes::copy_from_slice(&key(9)), end: Bytes::new() };
        assert_eq!(sample.middle(&outside), None);
    }

    #[test]
    fn a_merged_sample_stands_for_both() {
        let (mut left, mut right) = (KeySample::default(), KeySample::default());
        (0..9_000).for_each(|number| left.note(&key(number % 100)));
        (0..1_000).for_each(|number| right.note(&key(1_000 + number % 100)));
        left.merge(&right);
        let middle = left.middle(&range()).unwrap();
        assert!(middle.key.as_ref() < key(1_000).as_slice(), "nine tenths are on the left");
        let mut empty = KeySample::default();
        empty.merge(&right);
        assert!(empty.middle(&range()).is_some());
    }
}
