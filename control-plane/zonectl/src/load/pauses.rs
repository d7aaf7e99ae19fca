//! The longest time in which a partition completed nothing, although something was waiting for it.
//!
//! Pure. Each partition has a clock that runs while a request waits for it: from the moment that one was
//! due while none was waiting, or from the last success if others were still waiting then. A success
//! reads the clock. A failure does not stop it: a partition whose requests all fail pauses on.

use std::{collections::BTreeMap, time::Duration};

use client::PartitionId;
use runtime::seams::Moment;

/// One pause of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    pub partition: PartitionId,
    pub started: Moment,
    pub length: Duration,
    /// Whether a success ended it; otherwise the end of the run did.
    pub ended: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    waiting: u64,
    running_since: Option<Moment>,
    last_success: Moment,
    longest: Option<Pause>,
}

/// Follows the requests of all partitions.
#[derive(Clone, Debug, Default)]
pub struct PauseTracker {
    by_partition: BTreeMap<PartitionId, Watch>,
}

impl Watch {
    fn note(&mut self, pause: Pause) {
        if self.longest.is_none_or(|longest| pause.length > longest.length) {
            self.longest = Some(pause);
        }
    }
}

impl PauseTracker {
    /// A request for the partition was due at `due`, and is made.
    pub fn begin(&mut self, partition: PartitionId, due: Moment) {
        let watch = self.by_partition.entry(partition).or_default();
        watch.waiting += 1;
        if watch.running_since.is_none() {
            // One that is made late may have been due before a success that it had no part in.
            watch.running_since = Some(due.max(watch.last_success));
        }
    }

    /// A request for the partition succeeded.
    pub fn succeed(&mut self, partition: PartitionId, now: Moment) {
        let watch = self.by_partition.entry(partition).or_default();
        watch.waiting = watch.waiting.saturating_sub(1);
        if let Some(started) = watch.running_since {
            watch.note(Pause { partition, started, length: now.since(started), ended: true });
        }
        watch.last_success = now;
        watch.running_since = (watch.waiting > 0).then_some(now);
    }

    /// A request for the partition ended in anything but success.
    pub fn fail(&mut self, partition: PartitionId) {
        let watch = self.by_partition.entry(partition).or_default();
        watch.waiting = watch.waiting.saturating_sub(1);
    }

    /// The run is over: pauses that go on end here.
    pub fn finish(&mut self, now: Moment) {
        for (partition, watch) in &mut self.by_partition {
            if let Some(started) = watch.running_since.take() {
                let partition = *partition;
                watch.note(Pause { partition, started, length: now.since(started), ended: false });
            }
        }
    }

    /// The longest pause of one partition so far.
    pub fn longest_of(&self, partition: PartitionId) -> Option<Pause> {
        self.by_partition.get(&partition)?.longest
    }

    /// The longest pause so far.
    pub fn longest(&self) -> Option<Pause> {
        self.by_partition
            .values()
            .filter_map(|watch| watch.longest)
            .max_by_key(|pause| pause.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PartitionId = PartitionId(1);
    const B: PartitionId = PartitionId(2);

    fn at(milliseconds: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(milliseconds))
    }

    fn longest(tracker: &PauseTracker) -> (u64, u64, u64) {
        let pause = tracker.longest().unwrap();
        let started = pause.started.since_origin().as_millis();
        (pause.partition.0, started as u64, pause.length.as_millis() as u64)
    }

    #[test]
    fn idle_time_is_no_pause() {
        let mut tracker = PauseTracker::default();
        tracker.begin(A, at(10));
        tracker.succeed(A, at(12));
        tracker.begin(A, at(5_000));
        tracker.succeed(A, at(5_003));
        assert_eq!(longest(&tracker), (1, 5_000, 3));
    }

    #[test]
    fn a_pause_is_between_successes_while_something_waits() {
        let mut tracker = PauseTracker::default();
        tracker.begin(A, at(0));
        tracker.begin(A, at(1));
        tracker.begin(A, at(2));
        tracker.succeed(A, at(3));
        tracker.succeed(A, at(103));
        tracker.succeed(A, at(104));
        assert_eq!(longest(&tracker), (1, 3, 100));
    }

    #[test]
    fn a_failure_does_not_end_a_pause() {
        let mut tracker = PauseTracker::default();
        tracker.begin(A, at(0));
        tracker.fail(A);
        tracker.begin(A, at(400));
        tracker.succeed(A, at(500));
        assert_eq!(longest(&tracker), (1, 0, 500));
    }

    #[test]
    fn partitions_are_apart_and_the_worst_is_named() {
        let mut tracker = PauseTracker::default();
        tracker.begin(A, at(0));
        tracker.begin(B, at(0));
        tracker.succeed(B, at(5));
        tracker.succeed(A, at(50));
        assert_eq!(longest(&tracker), (1, 0, 50));
        assert_eq!(tracker.longest_of(B).unwrap().length, Duration::from_millis(5));
    }

    #[test]
    fn a_request_that_is_made_late_is_not_charged_for_earlier_successes() {
        let mut tracker = PauseTracker::default();
        tracker.begin(A, at(0));
        tracker.succeed(A, at(20));
        tracker.begin(A, at(10));
        tracker.succeed(A, at(21));
        assert_eq!(longest(&tracker), (1, 0, 20));
    }

    #[test]
    fn a_pause_at_the_end_of_the_run_counts() {
        let mut tracker = PauseTracker::default();
        tracker.begin(A, at(0));
        tracker.fail(A);
        tracker.finish(at(700));
        let pause = tracker.longest().unwrap();
        assert_eq!((pause.length, pause.ended), (Duration::from_millis(700), false));
        tracker.finish(at(900));
        assert_eq!(tracker.longest().unwrap().length, Duration::from_millis(700));
    }
}
