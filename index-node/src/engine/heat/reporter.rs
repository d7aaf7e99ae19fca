//! Which partitions' load to report, once a second.
//!
//! The load of most partitions hardly changes from second to second, and a node may have thousands. So a
//! partition is reported when its load has changed noticeably since its last report, when that is half a
//! minute old, and a few seconds after the last one if it is among the hottest. What is not reported is
//! kept, and reported later: over time the reports add up to all that was counted.
//!
//! Only who leads a partition reports it. What followers cost is one sum for the node.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proto::v1::{FollowerLoad, HeatReport};
use runtime::seams::Moment;

use super::{counts::Counts, rates::Rates};
use crate::engine::types::{PartitionId, ReplicaId};

/// The most partitions in one round.
pub const REPORTS_MAX: usize = 1_024;
/// The most partitions whose keys are watched: some 300 KiB.
pub const WATCHED_MAX: usize = 64;
/// With so many requests per second a partition's keys are worth watching.
const WATCHED_REQUESTS_PER_SECOND: f64 = 100.0;
/// Who is watched stays so down to this part of what is asked of a newcomer.
const WATCHED_ADVANTAGE: f64 = 2.0;
/// How often a partition is reported whose keys are watched.
const WATCHED_INTERVAL: Duration = Duration::from_secs(5);
/// How often one is reported whose load has not changed.
const UNCHANGED_INTERVAL: Duration = Duration::from_secs(30);

/// What one replica says of itself in a round.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub partition: PartitionId,
    pub replica: ReplicaId,
    /// The term in which it leads now, if it does.
    pub leads_in: Option<u64>,
    /// Since the round before.
    pub counts: Counts,
}

/// One round's outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    /// Those with the most to report first. Stored bytes and keys are left to the caller.
    pub reports: Vec<HeatReport>,
    pub follower_load: FollowerLoad,
    /// The partitions whose keys are to be watched from now on.
    pub watched: BTreeSet<PartitionId>,
}

/// What was reported last.
#[derive(Clone, Copy, Debug)]
struct Reported {
    at: Moment,
    rates: Rates,
}

#[derive(Debug)]
struct Pending {
    replica: ReplicaId,
    /// In which it led last.
    term: u64,
    leads: bool,
    /// Whether the control plane was told that it leads in this term: it may know of load that was led
    /// elsewhere.
    announced: bool,
    /// Of the last round alone: in what is pending, a change would go under.
    latest: Rates,
    counts: Counts,
    since: Moment,
    /// None: the leader of the control plane has not heard of it.
    reported: Option<Reported>,
}

/// What is still to be reported.
#[derive(Debug)]
pub struct HeatReporter {
    partitions: BTreeMap<PartitionId, Pending>,
    watched: BTreeSet<PartitionId>,
    follower_cpu: Duration,
    last_round_at: Moment,
}

/// What goes first, greatest last: what has waited too long, then what has the most to report.
type Urgency = (bool, u64);

impl HeatReporter {
    pub fn new(now: Moment) -> Self {
        Self {
            partitions: BTreeMap::new(),
            watched: BTreeSet::new(),
            follower_cpu: Duration::ZERO,
            last_round_at: now,
        }
    }

    /// Somebody listens who knows nothing yet. What is pending stays so.
    pub fn restart(&mut self) {
        self.partitions.values_mut().for_each(|pending| pending.reported = None);
    }

    pub fn last_round_at(&self) -> Moment {
        self.last_round_at
    }

    /// Takes in what was counted since the last round, and says what to report. A replica that has no
    /// sample is not here any more.
    pub fn round(&mut self, now: Moment, samples: &[Sample]) -> Round {
        let elapsed = now.since(self.last_round_at);
        let before = std::mem::take(&mut self.partitions);
        self.partitions = self.gather(before, samples, elapsed);
        self.watched = self.choose_watched(samples, elapsed);

        let due = self.partitions.iter().filter_map(|(partition, pending)| {
            let watched = self.watched.contains(partition);
            Some((Reverse(pending.urgency(now, watched)?), *partition))
        });
        let mut due: Vec<(Reverse<Urgency>, PartitionId)> = due.collect();
        due.sort_unstable();
        due.truncate(REPORTS_MAX);

        let mut round = Round { watched: self.watched.clone(), ..Round::default() };
        for (_, partition) in due {
            let pending = self.partitions.get_mut(&partition);
            round.reports.extend(pending.map(|pending| pending.report(partition, now)));
        }
        round.follower_load = FollowerLoad {
            interval_ms: milliseconds(elapsed),
            apply_cpu_us: microseconds(std::mem::take(&mut self.follower_cpu)),
        };
        self.last_round_at = now;
        round
    }

    /// What is pending, with the samples added.
    fn gather(
        &mut self,
        mut before: BTreeMap<PartitionId, Pending>,
        samples: &[Sample],
        elapsed: Duration,
    ) -> BTreeMap<PartitionId, Pending> {
        let mut after = BTreeMap::new();
        for sample in samples {
            let mut counts = sample.counts;
            if sample.leads_in.is_none() {
                self.follower_cpu = self.follower_cpu.saturating_add(counts.apply_cpu);
                counts.apply_cpu = Duration::ZERO;
            }
            let same = before.remove(&sample.partition).filter(|it| it.replica == sample.replica);
            // Another replica has nothing to do with the one that was here before.
            let pending = match (same, sample.leads_in) {
                (Some(mut pending), Some(term)) => {
                    if pending.term != term {
                        // The counts of an earlier term would be taken for this one's.
                        pending.counts = Counts::default();
                        pending.since = self.last_round_at;
                        pending.reported = None;
                        pending.announced = false;
                        pending.term = term;
                    }
                    pending.leads = true;
                    Some(pending)
                }
                (Some(mut pending), None) => {
                    pending.leads = false;
                    Some(pending)
                }
                (None, Some(term)) => Some(Pending {
                    replica: sample.replica,
                    term,
                    leads: true,
                    announced: false,
                    latest: Rates::default(),
                    counts: Counts::default(),
                    since: self.last_round_at,
                    reported: None,
                }),
                // Who never led was asked by those only who did not know better.
                (None, None) => None,
            };
            if let Some(mut pending) = pending {
                if pending.is_idle() {
                    // An idle time says no more than that: what comes now is not to be spread over it.
                    pending.since = self.last_round_at;
                }
                pending.latest = Rates::new(&counts, elapsed);
                pending.counts = pending.counts.plus(counts);
                if !pending.is_over() {
                    after.insert(sample.partition, pending);
                }
            }
        }
        after
    }

    /// The hottest that are hot enough; who is watched already has an advantage.
    fn choose_watched(&self, samples: &[Sample], elapsed: Duration) -> BTreeSet<PartitionId> {
        let mut hot: Vec<(f64, PartitionId)> = samples
            .iter()
            .filter(|sample| sample.leads_in.is_some())
            .map(|sample| {
                let rate = Rates::new(&sample.counts, elapsed).requests;
                let watched = self.watched.contains(&sample.partition);
                (if watched { rate * WATCHED_ADVANTAGE } else { rate }, sample.partition)
            })
            .filter(|(rate, _)| *rate >= WATCHED_REQUESTS_PER_SECOND)
            .collect();
        hot.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        hot.into_iter().take(WATCHED_MAX).map(|(_, partition)| partition).collect()
    }
}

impl Pending {
    /// There is nothing to report, nor was there last time.
    fn is_idle(&self) -> bool {
        let was_zero = self.reported.is_none_or(|reported| reported.rates.are_zero());
        was_zero && self.counts.is_nothing()
    }

    /// It leads no more, and its last word was that there is no load here: until another leader is heard of,
    /// the control plane takes what was reported last to go on.
    fn is_over(&self) -> bool {
        let has_said_so = self.reported.is_none_or(|reported| reported.rates.are_zero());
        !self.leads && self.counts.is_nothing() && has_said_so
    }

    /// How urgent a report is; none: there is no need.
    fn urgency(&self, now: Moment, watched: bool) -> Option<Urgency> {
        let (is_due, is_late) = match &self.reported {
            None => (
                !self.counts.is_nothing() || !self.announced,
                now.since(self.since) >= UNCHANGED_INTERVAL,
            ),
            Some(reported) => {
                let age = now.since(reported.at);
                let interval = if watched { WATCHED_INTERVAL } else { UNCHANGED_INTERVAL };
                let is_old = age >= interval;
                let says_something = !self.counts.is_nothing() || !reported.rates.are_zero();
                let is_due = self.latest.differ_noticeably(&reported.rates)
                    || self.counts.shed > 0
                    || self.counts.throttled > 0
                    || !self.leads
                    || (is_old && says_something);
                (is_due, is_due && age >= 2 * UNCHANGED_INTERVAL)
            }
        };
        // What weighs like a request: 16 KiB, or 50 µs of a processor.
        let counts = &self.counts;
        let bytes = counts.bytes_read.saturating_add(counts.bytes_written);
        let cpu_us = microseconds(counts.request_cpu.saturating_add(counts.apply_cpu));
        let weight = [counts.reads, counts.writes, counts.shed, bytes >> 14, cpu_us / 50];
        let weight = weight.into_iter().fold(0_u64, u64::saturating_add);
        is_due.then_some((is_late, weight))
    }

    fn report(&mut self, partition: PartitionId, now: Moment) -> HeatReport {
        let interval = now.since(self.since);
        let counts = std::mem::take(&mut self.counts);
        self.reported = Some(Reported { at: now, rates: Rates::new(&counts, interval) });
        self.since = now;
        self.announced = true;
        HeatReport {
            partition_id: partition.0,
            replica_id: self.replica.0,
            term: self.term,
            interval_ms: milliseconds(interval),
            reads: counts.reads,
            writes: counts.writes,
            bytes_read: counts.bytes_read,
            bytes_written: counts.bytes_written,
            request_cpu_us: microseconds(counts.request_cpu),
            apply_cpu_us: microseconds(counts.apply_cpu),
            shed: counts.shed,
            throttled: counts.throttled,
            waited_us: microseconds(counts.waited),
            stored_bytes: 0,
            hottest_keys: Vec::new(),
            split_left_permille: 0,
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    fn reads(partition: u64, reads: u64) -> Sample {
        let counts = Counts { reads, ..Counts::default() };
        let (partition, replica) = (PartitionId(partition), ReplicaId(partition));
        Sample { partition, replica, leads_in: Some(1), counts }
    }

    fn told(round: &Round) -> Vec<(u64, u64, u64)> {
        let report = |it: &HeatReport| (it.partition_id, it.interval_ms, it.reads);
        round.reports.iter().map(report).collect()
    }

    #[test]
    fn what_hardly_changes_is_reported_twice_a_minute() {
        let mut reporter = HeatReporter::new(at(0));
        assert_eq!(told(&reporter.round(at(1), &[reads(1, 50)])), [(1, 1_000, 50)]);
        for second in 2..31 {
            let count = 45 + second % 10;
            assert_eq!(told(&reporter.round(at(second), &[reads(1, count)])), []);
        }
        let round = reporter.round(at(31), &[reads(1, 50)]);
        assert_eq!(round.reports.len(), 1);
        assert_eq!(round.reports[0].interval_ms, 30_000);
        let sum: u64 = (2..31).map(|second| 45 + second % 10).sum::<u64>() + 50;
        assert_eq!(round.reports[0].reads, sum, "all that was kept");
    }

    #[test]
    fn a_change_is_reported_at_once_and_so_is_the_end() {
        let mut reporter = HeatReporter::new(at(0));
        reporter.round(at(1), &[reads(1, 50)]);
        assert_eq!(told(&reporter.round(at(2), &[reads(1, 80)])), [(1, 1_000, 80)]);
        assert_eq!(told(&reporter.round(at(3), &[reads(1, 0)])), [(1, 1_000, 0)], "it has ceased");
        for second in 4..100 {
            assert_eq!(told(&reporter.round(at(second), &[reads(1, 0)])), []);
        }
        let shed = Counts { shed: 1, ..Counts::default() };
        let shed = Sample { counts: shed, ..reads(1, 0) };
        assert_eq!(reporter.round(at(100), &[shed]).reports[0].shed, 1, "what is refused matters");
    }

    #[test]
    fn a_new_leader_says_so_although_it_has_no_load() {
        let mut reporter = HeatReporter::new(at(0));
        assert_eq!(told(&reporter.round(at(1), &[reads(1, 0)])), [(1, 1_000, 0)]);
        reporter.restart();
        assert_eq!(told(&reporter.round(at(2), &[reads(1, 0)])), []);
        let again = Sample { leads_in: Some(2), ..reads(1, 0) };
        let round = reporter.round(at(3), &[again]);
        assert_eq!((told(&round), round.reports[0].term), (vec![(1, 1_000, 0)], 2));
        assert_eq!(told(&reporter.round(at(4), &[again])), []);
    }

    #[test]
    fn a_new_listener_hears_of_all_that_is_pending() {
        let mut reporter = HeatReporter::new(at(0));
        reporter.round(at(1), &[reads(1, 50), reads(2, 0)]);
        assert_eq!(told(&reporter.round(at(2), &[reads(1, 50), reads(2, 0)])), []);
        reporter.restart();
        let round = reporter.round(at(3), &[reads(1, 50), reads(2, 0)]);
        assert_eq!(told(&round), [(1, 2_000, 100)]);
    }

    #[test]
    fn a_change_shows_behind_a_long_calm_and_a_long_rest() {
        let mut reporter = HeatReporter::new(at(0));
        reporter.round(at(1), &[reads(1, 50)]);
        for second in 2..29 {
            assert_eq!(told(&reporter.round(at(second), &[reads(1, 50)])), []);
        }
        assert_eq!(told(&reporter.round(at(29), &[reads(1, 150)])), [(1, 28_000, 1_500)]);
        assert_eq!(told(&reporter.round(at(30), &[reads(1, 150)])), [(1, 1_000, 150)]);
        for second in 31..1_000 {
            reporter.round(at(second), &[reads(1, 0)]);
        }
        assert_eq!(told(&reporter.round(at(1_000), &[reads(1, 9)])), [(1, 1_000, 9)]);
    }

    #[test]
    fn who_leads_no_more_has_a_last_word_in_its_old_term_and_followers_are_a_sum() {
        let mut reporter = HeatReporter::new(at(0));
        let apply = Duration::from_millis(3);
        let counts = Counts { reads: 7, apply_cpu: apply, ..Counts::default() };
        let led = Sample { counts, ..reads(1, 0) };
        let follows = Sample { leads_in: None, ..led };
        let round = reporter.round(at(1), &[led, Sample { partition: PartitionId(2), ..follows }]);
        assert_eq!(told(&round), [(1, 1_000, 7)]);
        assert_eq!(round.reports[0].apply_cpu_us, 3_000);
        assert_eq!(round.follower_load, FollowerLoad { interval_ms: 1_000, apply_cpu_us: 3_000 });

        let round = reporter.round(at(2), &[follows]);
        assert_eq!(told(&round), [(1, 1_000, 7)]);
        assert_eq!((round.reports[0].term, round.reports[0].apply_cpu_us), (1, 0));
        let idle = Sample { counts: Counts::default(), ..follows };
        assert_eq!(told(&reporter.round(at(3), &[idle])), [(1, 1_000, 0)], "its last word");
        assert_eq!(told(&reporter.round(at(4), &[idle])), []);
        assert_eq!(told(&reporter.round(at(4), &[follows])), [], "it has not led since");

        let again = Sample { leads_in: Some(5), ..led };
        let round = reporter.round(at(5), &[again]);
        assert_eq!((round.reports[0].term, round.reports[0].interval_ms), (5, 1_000));
        assert_eq!(told(&reporter.round(at(6), &[idle])), [(1, 1_000, 0)], "it had load");
    }

    #[test]
    fn keys_are_watched_where_there_is_the_most_to_see() {
        let mut reporter = HeatReporter::new(at(0));
        let all: Vec<Sample> = (1..=100).map(|id| reads(id, 50 + id)).collect();
        let round = reporter.round(at(1), &all);
        let hot: BTreeSet<PartitionId> = (50..=100).map(PartitionId).collect();
        assert_eq!(round.watched, hot, "those with a hundred per second");
        let less: Vec<Sample> = (1..=100).map(|id| reads(id, id)).collect();
        let round = reporter.round(at(2), &less);
        let left: BTreeSet<PartitionId> = (50..=100).map(PartitionId).collect();
        assert_eq!(round.watched, left, "half of it is enough to stay");
        let more: Vec<Sample> = (1..=100).map(|id| reads(id, 1_000 - 2 * id)).collect();
        let round = reporter.round(at(3), &more);
        assert_eq!(round.watched.len(), WATCHED_MAX);
        assert_eq!(told(&reporter.round(at(8), &more)).len(), 100, "they slowed down");
        let round = reporter.round(at(9), &(1..=100).map(|id| reads(id, 0)).collect::<Vec<_>>());
        assert!(round.watched.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever the loads and however many partitions there are, nothing is lost or told twice, and a
        /// message is bounded.
        #[test]
        fn the_reports_add_up(
            loads in prop::collection::vec(prop::collection::vec(0_u64..3, 1_100), 3..6),
        ) {
            let mut reporter = HeatReporter::new(at(0));
            let mut told = BTreeMap::<u64, (u64, u64)>::new();
            let mut second = 0;
            let mut tell = |reporter: &mut HeatReporter, counts: &[u64]| {
                second += 1;
                let samples: Vec<Sample> =
                    (1_u64..).zip(counts).map(|(id, count)| reads(id, *count)).collect();
                let round = reporter.round(at(second), &samples);
                assert!(round.reports.len() <= REPORTS_MAX);
                for report in round.reports {
                    let sum = told.entry(report.partition_id).or_default();
                    sum.0 += report.reads;
                    sum.1 += report.interval_ms;
                }
            };
            for counts in &loads {
                tell(&mut reporter, counts);
            }
            for _ in 0..130 {
                tell(&mut reporter, &[0; 1_100]);
            }
            for id in 0..1_100 {
                let counted: u64 = loads.iter().map(|counts| counts[id]).sum();
                let (reported, covered_ms) =
                    told.get(&(id as u64 + 1)).copied().unwrap_or_default();
                prop_assert_eq!(reported, counted, "partition {}", id + 1);
                prop_assert!(covered_ms <= second * 1_000);
            }
        }
    }
}
