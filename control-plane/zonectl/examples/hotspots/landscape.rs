//! Which keys are hot, and when. Pure: all of it follows from the seed.
//!
//! The key space is cut into ranges, ten to a partition. The popularity of a range falls with its rank by Zipf's
//! law with exponent 0.99, and where each rank lies is drawn by the seed. With each jump all ranks move on by the
//! same part of the key space, so that the load is as uneven as before, elsewhere.

use bytes::{BufMut, Bytes, BytesMut};
use model::seeded::Seeded;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Zipf};

const EXPONENT: f64 = 0.99;
const RANGES_PER_PARTITION: u32 = 10;
const KEYS_PER_RANGE: u64 = 100;

/// Leading bytes of a key, each of 255 values: NUL ends a bucket.
const PREFIX_BYTES: u32 = 3;
const BYTE_VALUES: u64 = 255;

pub struct Landscape {
    partitions: u32,
    popularity: Zipf<f64>,
    /// The range of each rank before the first jump.
    places: Vec<usize>,
    /// How far everything jumps, in ranges.
    jump: usize,
}

impl Landscape {
    /// None without partitions.
    pub fn new(partitions: u32, seed: u64) -> Option<Self> {
        let ranges = usize::try_from(partitions.checked_mul(RANGES_PER_PARTITION)?).ok()?;
        let popularity = Zipf::new(ranges as f64, EXPONENT).ok()?;
        let mut places: Vec<usize> = (0..ranges).collect();
        Seeded::new(seed).shuffle(&mut places);
        // By the golden section, the hottest range comes near none of its earlier places for long.
        let jump = (ranges * 382 / 1_000).max(1);
        Some(Self { partitions, popularity, places, jump })
    }

    /// Where the zone is cut: between ranges.
    pub fn split_keys(&self) -> Vec<Bytes> {
        let ranges = (1..self.partitions).map(|cut| u64::from(cut * RANGES_PER_PARTITION));
        ranges.map(|range| self.prefix(range * KEYS_PER_RANGE).freeze()).collect()
    }

    /// The key of one request, after so many jumps.
    pub fn draw(&self, jumps: usize, randomness: &mut impl Rng) -> Bytes {
        // Ranks count from 1. The conversion saturates, and the bound makes it exact.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = self.popularity.sample(randomness) as usize;
        let range = self.range(rank.clamp(1, self.places.len()) - 1, jumps) as u64;
        let number = range * KEYS_PER_RANGE + randomness.random_range(0..KEYS_PER_RANGE);
        let mut key = self.prefix(number);
        key.put_slice(format!("-hot\0key-{number}").as_bytes());
        key.freeze()
    }

    fn range(&self, rank: usize, jumps: usize) -> usize {
        (self.places[rank] + jumps * self.jump) % self.places.len()
    }

    /// So that keys are in the sequence of their numbers, spread over the key space.
    fn prefix(&self, number: u64) -> BytesMut {
        let all = self.places.len() as u64 * KEYS_PER_RANGE;
        let mut place = number * BYTE_VALUES.pow(PREFIX_BYTES) / all;
        let mut digits = [0; PREFIX_BYTES as usize];
        for digit in digits.iter_mut().rev() {
            *digit = u8::try_from(place % BYTE_VALUES + 1).unwrap_or(u8::MAX);
            place /= BYTE_VALUES;
        }
        BytesMut::from(&digits[..])
    }

    /// The part of all requests that each partition gets after so many jumps.
    pub fn parts(&self, jumps: usize) -> Vec<f64> {
        let weight = |rank: usize| (rank as f64 + 1.0).powf(-EXPONENT);
        let all: f64 = (0..self.places.len()).map(weight).sum();
        let mut parts = vec![0.0; self.partitions as usize];
        for rank in 0..self.places.len() {
            let partition = self.range(rank, jumps) / RANGES_PER_PARTITION as usize;
            parts[partition] += weight(rank) / all;
        }
        parts
    }

    /// The best that indivisible pieces allow, as the greatest load of a node against the mean: the hottest
    /// partition alone on a node, if all that it costs is its leader's.
    pub fn best_share(&self, jumps: usize, nodes: u32) -> f64 {
        let largest = self.parts(jumps).into_iter().fold(0.0, f64::max);
        (largest * f64::from(nodes)).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn partition(landscape: &Landscape, key: &Bytes) -> usize {
        landscape.split_keys().iter().filter(|split| *split <= key).count()
    }

    #[test]
    fn requests_fall_on_partitions_as_the_parts_say() {
        let landscape = Landscape::new(40, 7).unwrap();
        let mut randomness = StdRng::seed_from_u64(1);
        for jumps in [0, 3] {
            let parts = landscape.parts(jumps);
            assert!((parts.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            let mut drawn = vec![0.0; 40];
            for _ in 0..20_000 {
                drawn[partition(&landscape, &landscape.draw(jumps, &mut randomness))] += 1.0 / 2e4;
            }
            for (part, drawn) in parts.iter().zip(&drawn) {
                assert!((part - drawn).abs() < 0.02, "{parts:?} {drawn:?}");
            }
        }
    }

    #[test]
    fn the_hottest_partition_is_another_after_each_jump() {
        let landscape = Landscape::new(40, 7).unwrap();
        let hottest = |jumps| {
            let parts = landscape.parts(jumps);
            (0..40).max_by(|one, other| parts[*one].total_cmp(&parts[*other])).unwrap()
        };
        let hottest: Vec<usize> = (0..5).map(hottest).collect();
        assert!(hottest.windows(2).all(|pair| pair[0] != pair[1]), "{hottest:?}");
    }

    #[test]
    fn a_seed_is_a_landscape() {
        let parts = |seed| Landscape::new(40, seed).unwrap().parts(2);
        assert_eq!(parts(1), parts(1));
        assert_ne!(parts(1), parts(2));
        assert!(Landscape::new(0, 1).is_none());
    }

    #[test]
    fn keys_are_good_and_splits_rise() {
        let landscape = Landscape::new(40, 7).unwrap();
        let splits = landscape.split_keys();
        assert_eq!(splits.len(), 39);
        assert!(splits.windows(2).all(|pair| pair[0] < pair[1]));
        let key = landscape.draw(0, &mut StdRng::seed_from_u64(1));
        assert!(client::split_index_key(&key).unwrap().0.ends_with(b"-hot"));
    }

    #[test]
    fn no_partition_is_more_than_the_best_share_says() {
        let landscape = Landscape::new(40, 7).unwrap();
        assert!((landscape.best_share(0, 5) - 1.0).abs() < 1e-9, "pieces are small enough for 5");
        let largest = landscape.parts(0).into_iter().fold(0.0, f64::max);
        assert!((landscape.best_share(0, 40) - 40.0 * largest).abs() < 1e-9);
    }
}
