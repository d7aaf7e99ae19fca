//! Numbers that look random and follow from a seed.
//!
//! A plan must be the same on every machine and after every update of a library, for it is compared,
//! replayed and explained. So the generator is written out here, and works with integers only: SplitMix64
//! (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). It is for searches,
//! not for secrets.

/// One sequence of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeded {
    state: u64,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bits behind the point in the numbers of [`Seeded::exponential`] and [`power_of_two`].
pub const FRACTION_BITS: u32 = 16;

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A sequence of its own for each stream: lanes and rounds do not share numbers.
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut seeds = Self::new(seed ^ stream.wrapping_mul(GOLDEN).rotate_left(17));
        let first = seeds.next();
        Self::new(first ^ stream)
    }

    #[expect(clippy::should_implement_trait, reason = "a sequence without an end is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, evenly as far as 32 bits go; 0 if the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        let product = u128::from(self.next()) * u128::from(bound);
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// One of the items; none if there is none.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        items.get(self.below(items.len())).copied()
    }

    /// Puts the items into another sequence (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }

    /// An exponentially distributed number with mean 1, as a fixed-point number with
    /// [`FRACTION_BITS`]. The logarithm is drawn as straight lines between powers of two, which is
    /// exact enough for a search and the same everywhere.
    pub fn exponential(&mut self) -> u64 {
        const LN_2: u64 = 45_426;
        let drawn = self.next() | 1;
        let zeros = u64::from(drawn.leading_zeros());
        let mantissa = (drawn << zeros) << 1 >> (64 - FRACTION_BITS);
        let log = ((zeros + 1) << FRACTION_BITS) - mantissa;
        (log * LN_2) >> FRACTION_BITS
    }
}

/// The logarithm to base two of a number, by straight lines between powers of two; fixed-point.
pub fn log_two(number: u64) -> u64 {
    let number = number.max(1);
    let whole = u64::from(63 - number.leading_zeros());
    let mantissa = ((u128::from(number) << FRACTION_BITS) >> whole) - (1 << FRACTION_BITS);
    (whole << FRACTION_BITS) + u64::try_from(mantissa).unwrap_or(0)
}

/// The inverse of [`log_two`]; saturates at 2⁶².
pub fn power_of_two(log: u64) -> u64 {
    let whole = log >> FRACTION_BITS;
    if whole >= 62 {
        return 1 << 62;
    }
    let mantissa = (1 << FRACTION_BITS) + (log & ((1 << FRACTION_BITS) - 1));
    u64::try_from((u128::from(mantissa) << whole) >> FRACTION_BITS).unwrap_or(1 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_fixed() {
        let mut seeded = Seeded::new(0);
        // The first outputs of the published generator for seed 0.
        assert_eq!(seeded.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(seeded.next(), 0x6e78_9e6a_a1b9_65f4);
        assert_ne!(Seeded::stream(1, 0).next(), Seeded::stream(1, 1).next());
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let mut seeded = Seeded::new(7);
        let mut counts = [0_u32; 10];
        for _ in 0..100_000 {
            counts[seeded.below(10)] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(seeded.below(0), 0);
        assert_eq!(seeded.pick::<u32>(&[]), None);
    }

    #[test]
    fn exponential_numbers_have_mean_one_and_the_right_tail() {
        let mut seeded = Seeded::new(3);
        let drawn: Vec<u64> = (0..100_000).map(|_| seeded.exponential()).collect();
        let mean = drawn.iter().sum::<u64>() / 100_000;
        assert!((63_000..68_500).contains(&mean), "{mean}");
        // One in e³ ≈ 20.1 is above 3.
        let above = drawn.iter().filter(|number| **number > 3 << FRACTION_BITS).count();
        assert!((4_600..5_400).contains(&above), "{above}");
    }

    #[test]
    fn powers_undo_logarithms() {
        for number in [1, 2, 3, 7, 1_000, 123_456_789, 1 << 61] {
            let back = power_of_two(log_two(number));
            assert!(number.abs_diff(back) <= number >> 15, "{number} became {back}");
        }
        assert_eq!(power_of_two(u64::MAX), 1 << 62);
    }
}
