//! The schedule of a run: faults by time.
//!
//! A schedule that is drawn is a row of *episodes*. Each impairs some hosts at one time and mends them at
//! a later one, and no host takes part in two episodes at once. Except when a whole group of processes
//! goes down together, a minority of the members and of the index nodes is impaired at a time, so that
//! there is progress to check. Every episode ends before the schedule does.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use rand::{RngExt, rngs::StdRng};

use super::{Fault, TimedFault};
use crate::seed::Seed;

/// Faults by time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    pub faults: Vec<TimedFault>,
}

/// The hosts that things can happen to.
#[derive(Clone, Debug, Default)]
pub struct Cast {
    pub members: Vec<String>,
    pub index_nodes: Vec<String>,
    /// Clients and operators: only their links fail.
    pub drivers: Vec<String>,
    /// The index nodes by fault domain.
    pub domains: Vec<Vec<String>>,
    /// How many fault domains a partition needs.
    pub domains_needed: usize,
    /// Whether the zone makes a lost node's replicas again elsewhere while the run lasts.
    pub replaces_lost: bool,
}

/// The pause between the beginnings of two episodes.
const PAUSE_MS: Range<u64> = 200..1_800;

/// How long an episode lasts at least if there is hardly room before the end.
const EPISODE_MIN: Duration = Duration::from_millis(150);

impl Schedule {
    /// The schedule that follows from the seed, for hosts that are all well at the start.
    pub fn generate(seed: Seed, cast: &Cast, time: Range<Duration>) -> Self {
        let mut builder = Builder {
            generator: seed.derive("faults", 0).generator(),
            cast,
            end: time.end,
            busy_until: BTreeMap::new(),
            has_wiped: false,
            faults: Vec::new(),
        };
        let mut now = time.start;
        loop {
            now += Duration::from_millis(builder.generator.random_range(PAUSE_MS));
            if now + EPISODE_MIN >= time.end {
                break;
            }
            builder.add_episode(now);
        }
        let mut faults = builder.faults;
        // Stable: what an episode does at one time stays in its sequence.
        faults.sort_by_key(|fault| fault.at);
        Self { faults }
    }
}

/// A schedule in the making.
pub(super) struct Builder<'a> {
    pub(super) generator: StdRng,
    pub(super) cast: &'a Cast,
    pub(super) end: Duration,
    busy_until: BTreeMap<String, Duration>,
    /// A second disk must not go: a majority of each partition's replicas keeps its disks.
    pub(super) has_wiped: bool,
    faults: Vec<TimedFault>,
}

impl Builder<'_> {
    pub(super) fn is_busy(&self, host: &str, at: Duration) -> bool {
        self.busy_until.get(host).is_some_and(|until| *until >= at)
    }

    pub(super) fn occupy(&mut self, host: &str, until: Duration) {
        self.busy_until.insert(host.to_owned(), until);
    }

    pub(super) fn add(&mut self, at: Duration, fault: Fault) {
        self.faults.push(TimedFault { at, fault });
    }

    /// The hosts of a group that may be impaired now; none if a minority is already.
    pub(super) fn free_minority(&self, group: &[String], at: Duration) -> Vec<String> {
        let busy = group.iter().filter(|host| self.is_busy(host, at)).count();
        if (busy + 1) * 2 > group.len() {
            return Vec::new();
        }
        group.iter().filter(|host| !self.is_busy(host, at)).cloned().collect()
    }

    /// The index nodes and the members that may be impaired now.
    pub(super) fn free_processes(&self, at: Duration) -> Vec<String> {
        let mut free = self.free_minority(&self.cast.index_nodes, at);
        free.extend(self.free_minority(&self.cast.members, at));
        free
    }

    pub(super) fn draw<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        Some(from[self.generator.random_range(0..from.len())].clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::faults::Effect;

    fn cast() -> Cast {
        let names = |prefix: &str, count: u32| -> Vec<String> {
            (1..=count).map(|n| format!("{prefix}-{n}")).collect()
        };
        let index_nodes = names("node", 5);
        Cast {
            members: names("member", 3),
            domains: index_nodes.chunks(2).map(<[String]>::to_vec).collect(),
            index_nodes,
            drivers: names("client", 2),
            domains_needed: 3,
            replaces_lost: true,
        }
    }

    const TIME: Range<Duration> = Duration::from_secs(3)..Duration::from_secs(23);

    fn schedules(seeds: Range<u64>) -> impl Iterator<Item = (u64, Vec<TimedFault>)> {
        seeds.map(|seed| (seed, Schedule::generate(Seed(seed), &cast(), TIME).faults))
    }

    #[test]
    fn a_schedule_follows_from_its_seed() {
        let schedule = |seed| Schedule::generate(Seed(seed), &cast(), TIME);
        assert_eq!(schedule(4), schedule(4));
        assert_ne!(schedule(4), schedule(5));
    }

    #[test]
    fn whatever_is_impaired_is_mended_before_the_end() {
        for (seed, faults) in schedules(0..300) {
            let mut impaired = BTreeSet::new();
            for TimedFault { at, fault } in &faults {
                assert!(TIME.contains(at) || *at == TIME.end, "seed {seed}: {fault} at {at:?}");
                let mut subject: Vec<String> =
                    fault.hosts().into_iter().map(str::to_owned).collect();
                if fault.is_of_leader() {
                    subject.push("whoever leads".into());
                }
                subject.sort();
                let changed = match fault.effect() {
                    Effect::Impairs => impaired.insert(subject),
                    Effect::Mends => impaired.remove(&subject),
                    Effect::Passes => true,
                };
                assert!(changed, "seed {seed}: {fault} at {at:?} overlaps another episode");
            }
            assert_eq!(impaired, BTreeSet::new(), "seed {seed}");
        }
    }

    #[test]
    fn one_disk_at_most_is_wiped_and_only_if_the_zone_can_do_without() {
        let wiped = |cast: &Cast, seed| {
            let schedule = Schedule::generate(Seed(seed), cast, TIME);
            let is_wipe = |it: &&TimedFault| matches!(it.fault, Fault::WipeDisk { .. });
            schedule.faults.iter().filter(is_wipe).count()
        };
        let counts: BTreeSet<usize> = (0..300).map(|seed| wiped(&cast(), seed)).collect();
        assert_eq!(counts, BTreeSet::from([0, 1]));
        let patient = Cast { replaces_lost: false, ..cast() };
        let small = Cast { domains_needed: 4, ..cast() };
        for cast in [patient, small] {
            assert!((0..300).all(|seed| wiped(&cast, seed) == 0));
        }
    }

    #[test]
    fn every_fault_can_be_read_as_it_is_written() {
        for (_, faults) in schedules(0..100) {
            for timed in faults {
                let at = Duration::from_millis(timed.at.as_millis().try_into().unwrap());
                let read: TimedFault = timed.to_string().parse().unwrap();
                assert_eq!(read, TimedFault { at, ..timed });
            }
        }
    }

    #[test]
    fn every_kind_of_fault_occurs() {
        /// Its words without names, numbers and kinds of operations.
        fn kind(fault: &Fault) -> String {
            let hosts = fault.hosts();
            let words = fault.to_string();
            let is_general = |word: &&str| {
                let is_operation = word.parse::<crate::ambush::OperationKind>().is_ok();
                !hosts.contains(word) && word.parse::<i64>().is_err() && !is_operation
            };
            words.split(' ').filter(is_general).collect::<Vec<_>>().join(" ")
        }
        let mut kinds = BTreeSet::new();
        for (_, faults) in schedules(0..300) {
            kinds.extend(faults.iter().map(|timed| kind(&timed.fault)));
        }
        let expected: BTreeSet<String> = [
            "broken disk of",
            "corrupted disk of",
            "cut and",
            "cut from to",
            "fast network",
            "freeze",
            "full disk of",
            "heal and",
            "hold and",
            "isolate",
            "jumbled orders of",
            "kill",
            "kill after dial",
            "kill after sync",
            "kill after write",
            "kill before dial",
            "kill before sync",
            "kill before write",
            "kill leader after write of",
            "kill leader before write of",
            "low disk of",
            "mended disk of",
            "mute",
            "pause",
            "power off",
            "power off after dial",
            "power off after sync",
            "power off after write",
            "power off before dial",
            "power off before sync",
            "power off before write",
            "power off leader after write of",
            "power off leader before write of",
            "rejoin",
            "restart",
            "restart leader",
            "slow disk of",
            "slow link of and",
            "slow links of",
            "slow network",
            "stalled disk of",
            "straight orders of",
            "thaw",
            "unmute",
            "wall clock of jumps by s",
            "wiped disk of",
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(kinds, expected);
    }
}
