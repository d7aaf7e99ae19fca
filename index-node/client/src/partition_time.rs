//! What the client believes of each partition's time.
//!
//! Partition time is no wall time: it is known from the last answer, and carried on by the client's own
//! monotonic clock. It is a guess that can be ahead of the truth (while a partition has no leader its
//! time stands still); a leader that finds an expiry too far ahead refuses it and says the time.

use std::{collections::BTreeMap, time::Duration};

use runtime::seams::Moment;

use crate::identifiers::PartitionId;

/// The furthest that an expiry is put ahead. Servers refuse beyond 60 s; the rest is for the guess.
const EXPIRY_AHEAD_MAX: Duration = Duration::from_secs(50);

/// What is added to the time that the client will retry, so that the last attempt is not expired when
/// it is applied.
const EXPIRY_MARGIN: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct PartitionTimes {
    reports: BTreeMap<PartitionId, (u64, Moment)>,
}

impl PartitionTimes {
    /// A server said that the partition's time is `time_ms`, just now.
    pub(crate) fn note(&mut self, partition: PartitionId, time_ms: u64, now: Moment) {
        self.reports.insert(partition, (time_ms, now));
    }

    /// The expiry of a write that may be retried for `remaining`; none if nothing is known of the
    /// partition's time yet.
    pub(crate) fn expiry(
        &self,
        partition: PartitionId,
        remaining: Duration,
        now: Moment,
    ) -> Option<u64> {
        let (reported_ms, at) = *self.reports.get(&partition)?;
        let ahead = now.since(at) + (remaining + EXPIRY_MARGIN).min(EXPIRY_AHEAD_MAX);
        let ahead_ms = u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX);
        Some(reported_ms.saturating_add(ahead_ms).max(1))
    }

    /// Forgets partitions that no longer exist.
    pub(crate) fn retain(&mut self, exists: impl Fn(PartitionId) -> bool) {
        self.reports.retain(|partition, _| exists(*partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn expiry_is_the_reported_time_carried_on_by_the_clock() {
        let mut times = PartitionTimes::default();
        let partition = PartitionId(3);
        assert_eq!(times.expiry(partition, Duration::from_secs(10), at(5)), None);
        times.note(partition, 70_000, at(5));
        assert_eq!(times.expiry(partition, Duration::from_secs(10), at(9)), Some(86_000));
    }

    #[test]
    fn expiry_stays_within_what_servers_accept() {
        let mut times = PartitionTimes::default();
        times.note(PartitionId(1), 0, at(0));
        let expiry = times.expiry(PartitionId(1), Duration::from_secs(3_600), at(0));
        assert_eq!(expiry, Some(50_000));
    }
}
