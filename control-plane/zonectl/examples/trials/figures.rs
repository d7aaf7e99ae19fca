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
