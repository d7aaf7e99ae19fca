//! What a leader writes down of load, so that its successor is not blind: long averages of the hottest
//! partitions, coarsely, and only when they have changed enough to be worth a command.
//!
//! A partition's averages would else begin anew with each leader, and until its nodes have reported nobody
//! would know which partitions are hot. What the summary says counts until a partition is reported, half a
//! minute at most: then it ages as any load does that nobody speaks of.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DIMENSIONS, Rates, zone::ZoneHeat};
use crate::{ids::PartitionId, state::ZoneState, table::single_record};

/// The most partitions in a summary.
pub const PARTITIONS_MAX: usize = 1_000;
/// The least time between two summaries.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// How often the hottest are gathered.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// So many partitions are looked at at a time: a look holds up whoever reports.
const PARTITIONS_PER_LOOK: usize = 5_000;
/// What has changed by more than this part of what it was is news.
const CHANGE_MIN: f64 = 0.1;
/// A partition with this part of the load of all, or more, is news by itself.
const HOT_PART: f64 = 0.01;
/// Less than so many requests per second over all partitions is no load worth a command.
const WEIGHT_MIN: f64 = 1.0;
/// Whole numbers of these parts of a [`Rates`]' units are kept: thousandths of requests, bytes, and
/// millionths of cores.
const PARTS: [f64; DIMENSIONS] = [1e3, 1e3, 1.0, 1e6, 1e6];
/// The greatest of them: far above what any machine can do, and exact as a float.
const PARTS_MAX: u64 = 1 << 53;

/// One partition's long averages, in whole numbers: what is replicated has no floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryEntry {
    pub partition: PartitionId,
    parts: [u64; DIMENSIONS],
}

impl SummaryEntry {
    pub fn new(partition: PartitionId, rates: &Rates) -> Self {
        let mut parts = [0; DIMENSIONS];
        for ((part, rate), scale) in parts.iter_mut().zip(rates.to_array()).zip(PARTS) {
            // Between nothing and what fits: a float that is cast saturates.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let whole = (rate * scale).round() as u64;
            *part = whole.min(PARTS_MAX);
        }
        Self { partition, parts }
    }

    pub fn rates(&self) -> Rates {
        let mut rates = [0.0; DIMENSIONS];
        for ((rate, part), scale) in rates.iter_mut().zip(self.parts).zip(PARTS) {
            // Up to 2^53, which is checked, it is exact.
            #[allow(clippy::cast_precision_loss)]
            let part = part as f64;
            *rate = part / scale;
        }
        Rates::from_array(rates)
    }

    fn weight(&self) -> f64 {
        self.rates().weight()
    }
}

/// The hottest partitions, in the order of their ids. It is small, and is replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    entries: Vec<SummaryEntry>,
}

single_record!(Summary, 8);

impl ZoneState {
    /// What was last written down of load; none before there was any.
    pub fn heat_summary(&self) -> Option<&Summary> {
        self.heat.get(&())
    }
}

/// Why a summary that somebody proposes is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SummaryError {
    #[error("a summary of heat has {found} partitions: at most {PARTITIONS_MAX} are possible")]
    TooLong { found: usize },
    #[error("a summary of heat names partition {after} after partition {before}: ids must rise")]
    Unordered { before: PartitionId, after: PartitionId },
    #[error("a summary of heat has more load on partition {partition} than any machine can do")]
    Absurd { partition: PartitionId },
}

impl Summary {
    /// Of all these the hottest, at most [`PARTITIONS_MAX`].
    pub fn of_hottest(entries: impl IntoIterator<Item = SummaryEntry>) -> Self {
        let mut hottest: Vec<SummaryEntry> = entries.into_iter().collect();
        keep_hottest(&mut hottest);
        hottest.sort_unstable_by_key(|entry| entry.partition);
        Self { entries: hottest }
    }

    pub fn get(&self, partition: PartitionId) -> Option<Rates> {
        let at = self.entries.binary_search_by_key(&partition, |entry| entry.partition).ok()?;
        self.entries.get(at).map(SummaryEntry::rates)
    }

    /// In the order of partition ids.
    pub fn entries(&self) -> &[SummaryEntry] {
        &self.entries
    }

    /// Without partitions that are not there.
    pub fn retain(&mut self, is_there: impl Fn(PartitionId) -> bool) {
        self.entries.retain(|entry| is_there(entry.partition));
    }

    /// Whether this one says enough that `before` did not to be worth a command: something hot has changed by
    /// a tenth, or many that are not have changed as much together.
    pub fn differs_from(&self, before: &Summary) -> bool {
        let sum = |summary: &Summary| summary.entries.iter().map(SummaryEntry::weight).sum::<f64>();
        let all = sum(self).max(sum(before));
        if all < WEIGHT_MIN {
            return false;
        }
        let mut changed_in_all = 0.0;
        let mut is_news = |was: f64, is: f64| {
            let (changed, larger) = ((is - was).abs(), is.max(was));
            changed_in_all += changed;
            larger >= HOT_PART * all && changed > CHANGE_MIN * larger
        };
        let weight_in = |summary: &Summary, entry: &SummaryEntry| {
            summary.get(entry.partition).unwrap_or_default().weight()
        };
        let gone = before.entries.iter().filter(|entry| self.get(entry.partition).is_none());
        let is_hot_news = self
            .entries
            .iter()
            .map(|entry| (weight_in(before, entry), entry.weight()))
            .chain(gone.map(|entry| (entry.weight(), 0.0)))
            .fold(false, |news, (was, is)| is_news(was, is) || news);
        is_hot_news || changed_in_all > CHANGE_MIN * all
    }

    /// # Errors
    /// If it was not made by [`Summary::of_hottest`].
    pub fn check(&self) -> Result<(), SummaryError> {
        if self.entries.len() > PARTITIONS_MAX {
            return Err(SummaryError::TooLong { found: self.entries.len() });
        }
        for pair in self.entries.windows(2) {
            let [before, after] = pair else { continue };
            if before.partition >= after.partition {
                let (before, after) = (before.partition, after.partition);
                return Err(SummaryError::Unordered { before, after });
            }
        }
        match self.entries.iter().find(|entry| entry.parts.iter().any(|part| *part > PARTS_MAX)) {
            Some(absurd) => Err(SummaryError::Absurd { partition: absurd.partition }),
            None => Ok(()),
        }
    }
}

/// The hottest, the hottest first; of two alike the one with the lower id. Without those that have no load.
fn keep_hottest(entries: &mut Vec<SummaryEntry>) {
    entries.retain(|entry| entry.weight() > 0.0);
    entries.sort_by(|a, b| {
        b.weight().total_cmp(&a.weight()).then_with(|| a.partition.cmp(&b.partition))
    });
    entries.truncate(PARTITIONS_MAX);
}

/// Gathers the hottest partitions, some at a time, and says when a summary of them is worth a command.
#[derive(Clone, Debug, Default)]
pub struct Summarizer {
    /// From where on partitions are still to be looked at; none: nothing is being gathered.
    next: Option<PartitionId>,
    gathered: Vec<SummaryEntry>,
    began_at: Option<Duration>,
    written_at: Option<Duration>,
}

impl Summarizer {
    /// Goes on with what is to be done now, if anything; gives the summary that is to be written in the place
    /// of `written`. To be called several times a second.
    pub fn round(
        &mut self,
        heat: &ZoneHeat,
        written: Option<&Summary>,
        now: Duration,
    ) -> Option<Summary> {
        let has_passed = |since: Option<Duration>, interval| {
            since.is_none_or(|since| now.saturating_sub(since) >= interval)
        };
        let from = match self.next {
            Some(next) => next,
            None if heat.knows_nothing() => return None,
            None if has_passed(self.began_at, LOOK_INTERVAL) => {
                self.began_at = Some(now);
                PartitionId(0)
            }
            None => return None,
        };
        self.next = heat.gather(from, PARTITIONS_PER_LOOK, now, &mut self.gathered);
        if self.next.is_some() {
            if self.gathered.len() >= 2 * PARTITIONS_MAX {
                keep_hottest(&mut self.gathered);
            }
            return None;
        }
        let gathered = std::mem::take(&mut self.gathered);
        if !has_passed(self.written_at, INTERVAL) {
            return None;
        }
        let summary = Summary::of_hottest(gathered.into_iter().chain(heat.unreported(now)));
        let nothing = Summary::default();
        summary.differs_from(written.unwrap_or(&nothing)).then(|| {
            self.written_at = Some(now);
            summary
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(partition: u64, reads_per_second: f64) -> SummaryEntry {
        let rates = Rates { reads_per_second, ..Rates::default() };
        SummaryEntry::new(PartitionId(partition), &rates)
    }

    fn of(rates: &[f64]) -> Summary {
        Summary::of_hottest((1..).zip(rates).map(|(id, it)| entry(id, *it)))
    }

    #[test]
    fn the_hottest_thousand_are_kept_in_order() {
        let all = (1..=3_000_u32)
            .map(|id| entry(u64::from(id), if id % 2 == 0 { 0.0 } else { 1.0 + f64::from(id) }));
        let summary = Summary::of_hottest(all);
        assert_eq!(summary.check(), Ok(()));
        let ids: Vec<u64> = summary.entries().iter().map(|entry| entry.partition.get()).collect();
        assert_eq!(ids, (1_001..=2_999).step_by(2).collect::<Vec<u64>>());
        assert_eq!(summary.get(PartitionId(2_999)).unwrap().reads_per_second, 3_000.0);
        assert_eq!(summary.get(PartitionId(999)), None);
        let bytes = postcard::to_stdvec(&summary).unwrap();
        assert!(bytes.len() <= 16_384, "{} bytes in the log", bytes.len());
        assert_eq!(postcard::from_bytes::<Summary>(&bytes).unwrap(), summary);
    }

    #[test]
    fn all_dimensions_come_back_as_they_were() {
        let rates = Rates {
            reads_per_second: 0.125,
            writes_per_second: 70.001,
            bytes_per_second: 123_456_789.0,
            request_cpu_cores: 0.000_051,
            apply_cpu_cores: 3.5,
        };
        assert_eq!(SummaryEntry::new(PartitionId(1), &rates).rates(), rates);
        let absurd = Rates { bytes_per_second: f64::MAX, reads_per_second: f64::NAN, ..rates };
        let summary = Summary::of_hottest([SummaryEntry::new(PartitionId(1), &absurd)]);
        assert_eq!(summary.check(), Ok(()));
        assert_eq!(summary.get(PartitionId(1)).unwrap().reads_per_second, 0.0);
    }

    #[test]
    fn a_tenth_is_a_change_for_something_hot_and_for_all_together() {
        let before = of(&[100.0, 100.0]);
        assert!(!before.differs_from(&before));
        assert!(!of(&[109.0, 92.0]).differs_from(&before));
        assert!(of(&[115.0, 100.0]).differs_from(&before), "one of them");
        assert!(of(&[100.0]).differs_from(&before), "it ceased");
        assert!(before.differs_from(&Summary::default()));
        assert!(!of(&[0.4]).differs_from(&Summary::default()), "next to nothing");
        let many = |first: f64| {
            of(&(0..500).map(|id| if id < 250 { first } else { 2.0 }).collect::<Vec<_>>())
        };
        assert!(!many(2.3).differs_from(&many(2.0)), "each is a small part");
        assert!(many(2.6).differs_from(&many(2.0)), "all of them together are not");
    }

    #[test]
    fn what_is_no_summary_is_refused() {
        let of = |entries: &[(u64, u64)]| Summary {
            entries: entries
                .iter()
                .map(|(id, part)| SummaryEntry { partition: PartitionId(*id), parts: [*part; 5] })
                .collect(),
        };
        let (before, after) = (PartitionId(2), PartitionId(2));
        let unordered = SummaryError::Unordered { before, after };
        assert_eq!(of(&[(2, 1), (2, 1)]).check(), Err(unordered));
        let absurd = SummaryError::Absurd { partition: PartitionId(3) };
        assert_eq!(of(&[(2, 1), (3, PARTS_MAX + 1)]).check(), Err(absurd));
        let many: Vec<(u64, u64)> = (1..=1_001).map(|id| (id, 1)).collect();
        assert_eq!(of(&many).check(), Err(SummaryError::TooLong { found: 1_001 }));
    }
}
