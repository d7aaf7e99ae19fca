//! Latencies in an HDR histogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// From 1 µs to 2 minutes, to three digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    microseconds: Histogram<u64>,
}

const LONGEST: Duration = Duration::from_secs(120);

/// What people want to know of latencies. Null where nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyForm {
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub p99_9_ms: Option<f64>,
    pub max_ms: Option<f64>,
    pub mean_ms: Option<f64>,
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, microseconds(LONGEST), 3);
        Self { microseconds: histogram.expect("the bounds are in order and the digits few") }
    }
}

impl Latencies {
    /// What takes longer than 2 minutes counts as that.
    pub fn record(&mut self, latency: Duration) {
        self.microseconds.saturating_record(microseconds(latency).max(1));
    }

    /// None: nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let recorded = !self.microseconds.is_empty();
        recorded.then(|| Duration::from_micros(self.microseconds.value_at_quantile(quantile)))
    }

    pub fn form(&self) -> LatencyForm {
        let ms = |quantile| self.quantile(quantile).map(|latency| latency.as_secs_f64() * 1e3);
        LatencyForm {
            p50_ms: ms(0.5),
            p90_ms: ms(0.9),
            p99_ms: ms(0.99),
            p99_9_ms: ms(0.999),
            max_ms: ms(1.0),
            mean_ms: (!self.microseconds.is_empty()).then(|| self.microseconds.mean() / 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.form(), LatencyForm::default());
        for milliseconds in 1..=1_000 {
            latencies.record(Duration::from_millis(milliseconds));
        }
        let form = latencies.form();
        let near = |found: Option<f64>, expected: f64| {
            let found = found.unwrap();
            assert!((found - expected).abs() <= expected / 500.0, "{found} is not {expected}");
        };
        near(form.p50_ms, 500.0);
        near(form.p90_ms, 900.0);
        near(form.p99_ms, 990.0);
        near(form.p99_9_ms, 999.0);
        near(form.max_ms, 1_000.0);
        near(form.mean_ms, 500.5);
    }

    #[test]
    fn what_is_out_of_bounds_counts_as_the_bound() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(3_600));
        assert!(latencies.quantile(1.0).unwrap() >= Duration::from_secs(119));
        assert!(latencies.quantile(0.1).unwrap() <= Duration::from_micros(2));
    }
}
