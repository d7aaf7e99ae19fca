//! Which keys are asked for, and how often each.
//!
//! The buckets start with bytes that are spread evenly over the byte space, so that a zone that is cut
//! evenly gets its load evenly, whatever the number of partitions.

use bytes::{BufMut, Bytes, BytesMut};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Zipf};

/// The keys of a run.
#[derive(Clone, Debug)]
pub struct KeySpace {
    keys: u64,
    popularity: Option<Zipf<f64>>,
    bucket: String,
}

/// Leading bytes of a bucket.
const SPREAD_BYTES: usize = 4;

/// Mixes a number's bits (the finaliser of SplitMix64).
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl KeySpace {
    /// `keys` keys whose popularity falls with the exponent `zipf`; 0: all are equally popular.
    ///
    /// # Panics
    /// If there is no key, or the exponent is negative.
    pub fn new(keys: u64, zipf: f64, bucket: &str) -> Self {
        assert!(keys > 0, "a load needs at least one key");
        let popularity = (zipf > 0.0).then(|| {
            Zipf::new(keys as f64, zipf).expect("at least one key and an exponent above zero")
        });
        Self { keys, popularity, bucket: bucket.to_owned() }
    }

    /// Draws a key by its popularity.
    pub fn draw(&self, randomness: &mut impl Rng) -> u64 {
        match &self.popularity {
            None => randomness.random_range(0..self.keys),
            Some(popularity) => {
                // Ranks count from 1. The conversion saturates, and the bound makes it exact.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let rank = popularity.sample(randomness) as u64;
                rank.clamp(1, self.keys) - 1
            }
        }
    }

    /// The index key of the key with this number.
    pub fn key(&self, number: u64) -> Bytes {
        let mut key = BytesMut::with_capacity(SPREAD_BYTES + self.bucket.len() + 20);
        let mut spread = mix(number);
        for _ in 0..SPREAD_BYTES {
            // The high bits of a widening product: 1 to 255, since NUL ends a bucket.
            let product = u128::from(spread) * 255;
            let byte = u8::try_from(product >> 64).expect("a number below 255");
            key.put_u8(byte + 1);
            #[allow(clippy::cast_possible_truncation)]
            let rest = product as u64;
            spread = rest;
        }
        key.put_u8(b'-');
        key.put_slice(self.bucket.as_bytes());
        key.put_u8(0);
        key.put_slice(format!("key-{number:010}").as_bytes());
        key.freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn keys_are_distinct_and_have_a_bucket() {
        let space = KeySpace::new(10_000, 0.0, "load");
        let keys: BTreeSet<Bytes> = (0..10_000).map(|number| space.key(number)).collect();
        assert_eq!(keys.len(), 10_000);
        let key = space.key(7);
        let (bucket, object) = client::split_index_key(&key).unwrap();
        assert!(bucket.ends_with(b"-load"));
        assert_eq!(object, b"key-0000000007");
    }

    #[test]
    fn keys_are_spread_evenly_over_the_byte_space() {
        let space = KeySpace::new(16_000, 0.0, "load");
        let mut counts = [0_u32; 16];
        for number in 0..16_000 {
            counts[usize::from(space.key(number)[0] / 16)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn popularity_falls_with_the_exponent() {
        let mut randomness = StdRng::seed_from_u64(1);
        let skewed = KeySpace::new(1_000, 1.0, "load");
        let uniform = KeySpace::new(1_000, 0.0, "load");
        let mut share =
            |space: &KeySpace| (0..10_000).filter(|_| space.draw(&mut randomness) == 0).count();
        // By Zipf's law with exponent 1 the first of 1,000 gets 1 / 7.49 of all.
        assert!((1_100..1_600).contains(&share(&skewed)));
        assert!(share(&uniform) < 40);
        let mut randomness = StdRng::seed_from_u64(2);
        assert!((0..10_000).all(|_| skewed.draw(&mut randomness) < 1_000));
    }
}
