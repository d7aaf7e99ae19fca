//! Medians and tails of a handful of samples.

use std::fmt;

use serde::Serialize;

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub samples: usize,
    pub median: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// None of no samples.
    pub fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let last = samples.len().checked_sub(1)?;
        // Nearest rank: the smallest sample that at least the share of all are not above.
        let rank = |share: f64| {
            let rank = (share * samples.len() as f64).ceil() as usize;
            samples[rank.saturating_sub(1).min(last)]
        };
        Some(Self {
            samples: samples.len(),
            median: rank(0.5),
            p99: rank(0.99),
            max: samples[last],
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, median, p99, max } = self;
        write!(formatter, "n {samples} median {median:.0} p99 {p99:.0} max {max:.0} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        assert!(Spread::of(Vec::new()).is_none());
        let one = Spread::of(vec![7.0]).unwrap();
        assert_eq!((one.samples, one.median, one.p99, one.max), (1, 7.0, 7.0, 7.0));
        let few = Spread::of(vec![30.0, 10.0, 40.0, 20.0]).unwrap();
        assert_eq!((few.median, few.p99, few.max), (20.0, 40.0, 40.0));
    }

    #[test]
    fn one_in_a_hundred_may_be_above_the_99th_percentile() {
        let hundred = Spread::of((1..=100).map(f64::from).collect()).unwrap();
        assert_eq!((hundred.median, hundred.p99, hundred.max), (50.0, 99.0, 100.0));
        let two_hundred = Spread::of((1..=200).rev().map(f64::from).collect()).unwrap();
        assert_eq!((two_hundred.median, two_hundred.p99, two_hundred.max), (100.0, 198.0, 200.0));
    }
}
