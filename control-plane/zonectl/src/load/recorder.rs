//! What a run has seen so far. One for all requests, behind a lock that is held for microseconds.

use std::{collections::BTreeMap, time::Duration};

use client::PartitionId;
use runtime::seams::Moment;

use super::{latency::Latencies, model::Model, pauses::PauseTracker};

/// Which latencies and pauses a request counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    Failed(String),
    Unknown(String),
}

/// One side's figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) issued: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    pub(super) latencies: Latencies,
    pub(super) pauses: PauseTracker,
    /// Completed requests of each partition.
    pub(super) by_partition: BTreeMap<PartitionId, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) reads: Figures,
    pub(super) writes: Figures,
    pub(super) reads_found: u64,
    pub(super) shed: u64,
    /// How often each problem was met, in its first few kinds.
    pub(super) errors: BTreeMap<String, u64>,
    /// Present while the run verifies.
    pub(super) model: Option<Model>,
}

/// How a run goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub elapsed: Duration,
    pub issued: u64,
    pub completed: u64,
    pub failed: u64,
    pub unknown: u64,
    pub shed: u64,
    pub outstanding: u64,
    pub violations: u64,
    /// Of reads and writes, the worse.
    pub p99: Option<Duration>,
    pub longest_write_pause: Option<Duration>,
}

const ERROR_KINDS_MAX: usize = 20;
const OTHER_ERRORS: &str = "other errors";

impl Recorder {
    fn figures(&mut self, side: Side) -> &mut Figures {
        match side {
            Side::Read => &mut self.reads,
            Side::Write => &mut self.writes,
        }
    }

    /// A request that was due at `due` is made.
    pub(super) fn begin(&mut self, side: Side, partition: PartitionId, due: Moment) {
        let figures = self.figures(side);
        figures.issued += 1;
        figures.pauses.begin(partition, due);
    }

    /// A request has ended.
    pub(super) fn end(
        &mut self,
        side: Side,
        partition: PartitionId,
        due: Moment,
        now: Moment,
        end: End,
    ) {
        let figures = self.figures(side);
        match end {
            End::Completed => {
                figures.completed += 1;
                figures.latencies.record(now.since(due));
                figures.pauses.succeed(partition, now);
                *figures.by_partition.entry(partition).or_default() += 1;
            }
            End::Failed(problem) => {
                figures.failed += 1;
                figures.pauses.fail(partition);
                self.note_error(problem);
            }
            End::Unknown(problem) => {
                figures.unknown += 1;
                figures.pauses.fail(partition);
                self.note_error(problem);
            }
        }
    }

    fn note_error(&mut self, problem: String) {
        let room = self.errors.len() < ERROR_KINDS_MAX || self.errors.contains_key(&problem);
        let kind = if room { problem } else { OTHER_ERRORS.to_owned() };
        *self.errors.entry(kind).or_default() += 1;
    }

    pub(super) fn progress(&self, elapsed: Duration) -> Progress {
        let (reads, writes) = (&self.reads, &self.writes);
        let issued = reads.issued + writes.issued;
        let completed = reads.completed + writes.completed;
        let failed = reads.failed + writes.failed;
        let unknown = reads.unknown + writes.unknown;
        Progress {
            elapsed,
            issued,
            completed,
            failed,
            unknown,
            shed: self.shed,
            outstanding: issued.saturating_sub(completed + failed + unknown),
            violations: self.model.as_ref().map_or(0, Model::violations),
            p99: reads.latencies.quantile(0.99).max(writes.latencies.quantile(0.99)),
            longest_write_pause: writes.pauses.longest().map(|pause| pause.length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(milliseconds))
    }

    #[test]
    fn latency_counts_from_when_the_request_was_due() {
        let mut recorder = Recorder::default();
        recorder.begin(Side::Write, PartitionId(1), at(10));
        recorder.end(Side::Write, PartitionId(1), at(10), at(110), End::Completed);
        let progress = recorder.progress(Duration::from_secs(1));
        assert_eq!(progress.completed, 1);
        let p99 = progress.p99.unwrap().as_millis();
        assert!((99..=101).contains(&p99), "{p99}");
        assert_eq!(recorder.reads.issued, 0);
    }

    #[test]
    fn failed_and_unknown_are_counted_apart_and_not_in_the_latencies() {
        let mut recorder = Recorder::default();
        for end in [End::Failed("a".into()), End::Unknown("b".into()), End::Unknown("b".into())] {
            recorder.begin(Side::Write, PartitionId(1), at(0));
            recorder.end(Side::Write, PartitionId(1), at(0), at(1), end);
        }
        recorder.begin(Side::Read, PartitionId(1), at(0));
        let progress = recorder.progress(Duration::ZERO);
        assert_eq!((progress.failed, progress.unknown, progress.outstanding), (1, 2, 1));
        assert_eq!(progress.p99, None);
        assert_eq!(recorder.errors, BTreeMap::from([("a".into(), 1), ("b".into(), 2)]));
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let mut recorder = Recorder::default();
        for number in 0..100 {
            recorder.note_error(format!("error {number}"));
        }
        assert_eq!(recorder.errors.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(recorder.errors[OTHER_ERRORS], 80);
    }
}
