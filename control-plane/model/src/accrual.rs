//! How a node's heartbeats usually come, and how unlikely its present silence is: the φ accrual failure
//! detector of Hayashibara, Défago, Yared and Katayama (SRDS 2004).
//!
//! φ is the negative decimal logarithm of the probability that a heartbeat comes even later than now, if the
//! gaps between heartbeats are normally distributed as the latest ones were: 1 is one in ten, 8 is one in a
//! hundred million. So a machine whose heartbeats come like clockwork is missed sooner than one under load,
//! whose heartbeats come when they can.
//!
//! What it deliberately is not: a verdict. [`crate::detector`] sets limits to how far φ shortens or lengthens
//! its patience, and listens to other signals.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

/// Gaps that are remembered of each node: at ten heartbeats per second, of the last six seconds.
pub const WINDOW: usize = 64;

/// With fewer gaps nothing is known of how the heartbeats come.
pub const GAPS_MIN: usize = 8;

/// Whoever was silent for longer was away. That says nothing of how its heartbeats come when it is there.
const GAP_MAX_MS: u16 = 2_000;

/// The least deviation, as a share of the usual gap: a clockwork may slip a little all the same.
const DEVIATION_SHARE_MIN: f64 = 0.2;

/// The latest gaps between a node's heartbeats, in one session. At most a few hundred bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    last_at: Option<Duration>,
    /// In milliseconds, the oldest first; at most [`WINDOW`].
    gaps_ms: VecDeque<u16>,
    /// Of all gaps in the window. Whole numbers, so that nothing drifts.
    sum_ms: u32,
    sum_of_squares: u64,
}

impl Arrivals {
    /// A heartbeat has come.
    pub fn heard(&mut self, now: Duration) {
        let gap = self.last_at.map(|last| now.saturating_sub(last).as_millis());
        self.last_at = Some(now);
        let gap_ms = gap.and_then(|gap| u16::try_from(gap).ok());
        let Some(gap_ms) = gap_ms.filter(|gap_ms| *gap_ms <= GAP_MAX_MS) else { return };
        if self.gaps_ms.len() == WINDOW
            && let Some(oldest) = self.gaps_ms.pop_front()
        {
            self.sum_ms -= u32::from(oldest);
            self.sum_of_squares -= u64::from(oldest).pow(2);
        }
        self.gaps_ms.push_back(gap_ms);
        self.sum_ms += u32::from(gap_ms);
        self.sum_of_squares += u64::from(gap_ms).pow(2);
    }

    /// How the heartbeats come; none as long as too few have come.
    pub fn rhythm(&self) -> Option<Rhythm> {
        let gaps = u16::try_from(self.gaps_ms.len()).ok()?;
        (self.gaps_ms.len() >= GAPS_MIN).then(|| Rhythm {
            gaps,
            sum_ms: self.sum_ms,
            sum_of_squares: self.sum_of_squares,
            longest_ms: self.gaps_ms.iter().copied().max().unwrap_or_default(),
        })
    }
}

/// How a node's heartbeats come: what φ depends on, besides the silence. Whole numbers, so that it can be
/// written down and read again without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rhythm {
    /// How many gaps this is taken from.
    pub gaps: u16,
    /// The gaps' sum, in milliseconds.
    pub sum_ms: u32,
    /// The sum of their squares, in milliseconds squared.
    pub sum_of_squares: u64,
    /// The longest of them.
    pub longest_ms: u16,
}

impl Rhythm {
    /// The usual gap.
    pub fn mean_ms(&self) -> f64 {
        f64::from(self.sum_ms) / f64::from(self.gaps.max(1))
    }

    /// How much the gaps deviate from the usual one, and at least a share of it.
    pub fn deviation_ms(&self) -> f64 {
        let mean = self.mean_ms();
        // Far below 2^53: at most `WINDOW` squares of `GAP_MAX_MS`, or what a record says.
        #[allow(clippy::cast_precision_loss)]
        let mean_of_squares = self.sum_of_squares as f64 / f64::from(self.gaps.max(1));
        let variance = (mean_of_squares - mean * mean).max(0.0);
        // At least a millisecond: gaps of nothing have no rhythm.
        variance.sqrt().max(DEVIATION_SHARE_MIN * mean).max(1.0)
    }

    /// How unlikely it is that the silence still ends in a heartbeat; rises with the silence. One usual gap
    /// more than expected is granted, for a heartbeat that is lost on the way.
    ///
    /// The tail of the normal distribution is approximated by a logistic function, as Akka's detector does
    /// (Bowling et al., A logistic approximation to the cumulative normal distribution, 2009). Taken in
    /// logarithms, so that no silence is too long for it.
    pub fn phi(&self, silence: Duration) -> f64 {
        let mean = self.mean_ms();
        let late_by = silence.as_secs_f64() * 1_000.0 - 2.0 * mean;
        let y = late_by / self.deviation_ms();
        let x = y * (1.5976 + 0.070_566 * y * y);
        // ln(1 + eˣ), without overflow.
        (x.max(0.0) + (-x.abs()).exp().ln_1p()) / std::f64::consts::LN_10
    }

    /// Whether the silence is longer than any gap that was seen, and φ is at least the threshold.
    pub fn is_unusual(&self, silence: Duration, threshold: f64) -> bool {
        silence > Duration::from_millis(self.longest_ms.into()) && self.phi(silence) >= threshold
    }
}
