//! When a load has changed so much that it is worth a report.

use std::time::Duration;

use super::counts::Counts;

/// Counts per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub requests: f64,
    /// Reads, writes, bytes of both, seconds of processor time, each with what does not matter of it.
    dimensions: [f64; 4],
}

/// So much more or less is no change worth a report, besides a fifth of what was reported.
const NOTICEABLE: [f64; 4] = [5.0, 5.0, 65_536.0, 0.005];
const NOTICEABLE_PART: f64 = 0.2;

impl Rates {
    pub fn new(counts: &Counts, interval: Duration) -> Self {
        // Never less than a moment: the rate of nothing in no time is none.
        let seconds = interval.as_secs_f64().max(1e-3);
        // Counts beyond 2^53 lose precision, which a rate does not need.
        #[allow(clippy::cast_precision_loss)]
        let rate = |count: u64| count as f64 / seconds;
        let cpu = (counts.request_cpu + counts.apply_cpu).as_secs_f64() / seconds;
        Self {
            requests: rate(counts.reads.saturating_add(counts.writes)),
            dimensions: [
                rate(counts.reads),
                rate(counts.writes),
                rate(counts.bytes_read.saturating_add(counts.bytes_written)),
                cpu,
            ],
        }
    }

    pub fn differ_noticeably(&self, before: &Rates) -> bool {
        let pairs = self.dimensions.iter().zip(&before.dimensions).zip(NOTICEABLE);
        pairs.into_iter().any(|((now, before), noticeable)| {
            (now - before).abs() > noticeable + NOTICEABLE_PART * before
        })
    }

    pub fn are_zero(&self) -> bool {
        self.dimensions.iter().all(|rate| *rate == 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(reads: u64, bytes_read: u64, cpu_ms: u64) -> Rates {
        let request_cpu = Duration::from_millis(cpu_ms);
        let counts = Counts { reads, bytes_read, request_cpu, ..Counts::default() };
        Rates::new(&counts, Duration::from_secs(2))
    }

    #[test]
    fn a_fifth_and_a_little_more_is_a_change_in_any_dimension() {
        let before = rates(2_000, 2 << 20, 200);
        assert!(!before.differ_noticeably(&before));
        assert!(!rates(2_400, 2 << 20, 200).differ_noticeably(&before));
        assert!(rates(2_412, 2 << 20, 200).differ_noticeably(&before));
        assert!(rates(1_588, 2 << 20, 200).differ_noticeably(&before));
        assert!(rates(2_000, 3 << 20, 200).differ_noticeably(&before));
        assert!(rates(2_000, 2 << 20, 252).differ_noticeably(&before));
        let nothing = rates(0, 0, 0);
        assert!(nothing.are_zero() && !before.are_zero());
        assert!(!rates(9, 0, 0).differ_noticeably(&nothing), "next to nothing");
        assert!(Rates::new(&Counts::default(), Duration::ZERO).are_zero());
    }
}
