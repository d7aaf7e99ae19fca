//! What goes wrong in a run, and when: a schedule that follows from a seed alone, made before the run.
//!
//! A schedule is a row of *episodes*. Each impairs some hosts at one time and mends them at a later
//! one, and no host takes part in two episodes at once. Except when a whole group of processes goes
//! down together, a minority of the members and of the index nodes is impaired at a time, so that
//! there is progress to check. Every episode ends before the schedule does.

use std::{collections::BTreeMap, fmt, ops::Range, str::FromStr, time::Duration};

use rand::{RngExt, rngs::StdRng};

use crate::{
    seed::Seed,
    world::{Crash, World},
};

/// One thing done to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Crash {
        process: String,
        crash: Crash,
    },
    Restart {
        process: String,
    },
    /// Messages both ways are lost.
    Cut {
        a: String,
        b: String,
    },
    /// Messages one way are lost.
    CutOneWay {
        from: String,
        to: String,
    },
    /// Messages both ways wait for the link to heal.
    Hold {
        a: String,
        b: String,
    },
    Heal {
        a: String,
        b: String,
    },
    /// Messages between one host and all others are lost.
    Isolate {
        host: String,
    },
    Rejoin {
        host: String,
    },
    /// Syncs take long.
    SlowDisk {
        process: String,
    },
    /// No sync ends.
    StallDisk {
        process: String,
    },
    /// Syncs fail: the process has to stop by itself.
    BreakDisk {
        process: String,
    },
    /// The disk is as it was, without what a failed sync may have lost; a process that stopped because
    /// of it starts again.
    MendDisk {
        process: String,
    },
}

/// A fault and its time since the start of the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedFault {
    pub at: Duration,
    pub fault: Fault,
}

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
}

/// The pause between the beginnings of two episodes.
const PAUSE_MS: Range<u64> = 200..1_800;

/// How long an episode lasts.
const EPISODE_MS: Range<u64> = 150..4_000;

/// How long it lasts at least if there is hardly room before the end.
const EPISODE_MIN: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Episode {
    CrashIndexNode,
    CrashMember,
    CrashControlPlane,
    CrashAllIndexNodes,
    CrashZone,
    Cut,
    CutOneWay,
    Hold,
    Isolate,
    SlowDisk,
    StallDisk,
    BreakDisk,
}

/// Episodes and how often they are drawn, in percent.
const EPISODES: [(Episode, u32); 12] = [
    (Episode::CrashIndexNode, 22),
    (Episode::CrashMember, 12),
    (Episode::CrashControlPlane, 5),
    (Episode::CrashAllIndexNodes, 4),
    (Episode::CrashZone, 6),
    (Episode::Cut, 9),
    (Episode::CutOneWay, 9),
    (Episode::Hold, 9),
    (Episode::Isolate, 9),
    (Episode::SlowDisk, 5),
    (Episode::StallDisk, 5),
    (Episode::BreakDisk, 5),
];

/// How long a sync takes on a slow disk.
const SLOW_SYNC_MIN: Duration = Duration::from_millis(20);
const SLOW_SYNC_MAX: Duration = Duration::from_millis(250);

impl Schedule {
    /// The schedule that follows from the seed, for hosts that are all well at the start.
    pub fn generate(seed: Seed, cast: &Cast, time: Range<Duration>) -> Self {
        let mut builder = Builder {
            generator: seed.derive("faults", 0).generator(),
            cast,
            end: time.end,
            busy_until: BTreeMap::new(),
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

struct Builder<'a> {
    generator: StdRng,
    cast: &'a Cast,
    end: Duration,
    busy_until: BTreeMap<String, Duration>,
    faults: Vec<TimedFault>,
}

impl Builder<'_> {
    fn add_episode(&mut self, from: Duration) {
        let lasts = Duration::from_millis(self.generator.random_range(EPISODE_MS));
        let until = (from + lasts).min(self.end);
        let crash =
            if self.generator.random_bool(0.6) { Crash::ProcessKilled } else { Crash::PowerLost };
        match self.draw_episode() {
            Episode::CrashIndexNode => {
                let free = self.free_minority(&self.cast.index_nodes, from);
                self.crash_one_of(&free, crash, from, until);
            }
            Episode::CrashMember => {
                let free = self.free_minority(&self.cast.members, from);
                self.crash_one_of(&free, crash, from, until);
            }
            Episode::CrashControlPlane => {
                let members = self.cast.members.clone();
                self.crash_all(&members, crash, from, until);
            }
            Episode::CrashAllIndexNodes => {
                let index_nodes = self.cast.index_nodes.clone();
                self.crash_all(&index_nodes, crash, from, until);
            }
            Episode::CrashZone => {
                let processes = [&self.cast.members[..], &self.cast.index_nodes[..]].concat();
                self.crash_all(&processes, crash, from, until);
            }
            Episode::Cut => self.trouble_link(from, until, |a, b| Fault::Cut { a, b }),
            Episode::CutOneWay => {
                self.trouble_link(from, until, |from, to| Fault::CutOneWay { from, to });
            }
            Episode::Hold => self.trouble_link(from, until, |a, b| Fault::Hold { a, b }),
            Episode::SlowDisk => {
                self.trouble_disk(from, until, |process| Fault::SlowDisk { process });
            }
            Episode::StallDisk => {
                self.trouble_disk(from, until, |process| Fault::StallDisk { process });
            }
            Episode::BreakDisk => {
                self.trouble_disk(from, until, |process| Fault::BreakDisk { process });
            }
            Episode::Isolate => {
                let mut free = self.free_minority(&self.cast.index_nodes, from);
                free.extend(self.free_minority(&self.cast.members, from));
                if let Some(host) = self.draw(&free) {
                    self.occupy(&host, until);
                    self.add(from, Fault::Isolate { host: host.clone() });
                    self.add(until, Fault::Rejoin { host });
                }
            }
        }
    }

    fn trouble_disk(&mut self, from: Duration, until: Duration, fault: fn(String) -> Fault) {
        let mut free = self.free_minority(&self.cast.index_nodes, from);
        free.extend(self.free_minority(&self.cast.members, from));
        if let Some(process) = self.draw(&free) {
            self.occupy(&process, until);
            self.add(from, fault(process.clone()));
            self.add(until, Fault::MendDisk { process });
        }
    }

    fn draw_episode(&mut self) -> Episode {
        let mut left = self.generator.random_range(0..100_u32);
        for (episode, percent) in EPISODES {
            if left < percent {
                return episode;
            }
            left -= percent;
        }
        unreachable!("the episodes' shares make a hundred percent")
    }

    fn is_busy(&self, host: &str, at: Duration) -> bool {
        self.busy_until.get(host).is_some_and(|until| *until >= at)
    }

    /// The hosts of a group that may be impaired now; none if a minority is already.
    fn free_minority(&self, group: &[String], at: Duration) -> Vec<String> {
        let busy = group.iter().filter(|host| self.is_busy(host, at)).count();
        if (busy + 1) * 2 > group.len() {
            return Vec::new();
        }
        group.iter().filter(|host| !self.is_busy(host, at)).cloned().collect()
    }

    fn draw(&mut self, from: &[String]) -> Option<String> {
        if from.is_empty() {
            return None;
        }
        Some(from[self.generator.random_range(0..from.len())].clone())
    }

    fn occupy(&mut self, host: &str, until: Duration) {
        self.busy_until.insert(host.to_owned(), until);
    }

    fn add(&mut self, at: Duration, fault: Fault) {
        self.faults.push(TimedFault { at, fault });
    }

    fn crash_one_of(&mut self, free: &[String], crash: Crash, from: Duration, until: Duration) {
        if let Some(process) = self.draw(free) {
            self.crash_all(&[process], crash, from, until);
        }
    }

    /// Crashes together, and restarts one after the other.
    fn crash_all(&mut self, processes: &[String], crash: Crash, from: Duration, until: Duration) {
        if processes.iter().any(|process| self.is_busy(process, from)) {
            return;
        }
        for process in processes {
            let spread = Duration::from_millis(self.generator.random_range(0..300));
            let restart = (until + spread).min(self.end);
            self.occupy(process, restart);
            self.add(from, Fault::Crash { process: process.clone(), crash });
            self.add(restart, Fault::Restart { process: process.clone() });
        }
    }

    fn trouble_link(
        &mut self,
        from: Duration,
        until: Duration,
        fault: impl FnOnce(String, String) -> Fault,
    ) {
        let cast = self.cast;
        let mut one_side = self.free_minority(&cast.index_nodes, from);
        one_side.extend(self.free_minority(&cast.members, from));
        let Some(a) = self.draw(&one_side) else { return };
        let other_side: Vec<String> = [&cast.members[..], &cast.index_nodes[..], &cast.drivers[..]]
            .concat()
            .into_iter()
            .filter(|host| *host != a && !self.is_busy(host, from))
            .collect();
        let Some(b) = self.draw(&other_side) else { return };
        self.occupy(&a, until);
        self.occupy(&b, until);
        let (first, second) = if self.generator.random_bool(0.5) { (a, b) } else { (b, a) };
        self.add(from, fault(first.clone(), second.clone()));
        self.add(until, Fault::Heal { a: first, b: second });
    }
}

impl Fault {
    /// Does it.
    pub fn apply(&self, world: &mut World) {
        match self {
            Fault::Crash { process, crash } => world.crash(process, *crash),
            Fault::Restart { process } => world.restart(process),
            Fault::Cut { a, b } => world.cut(a, b),
            Fault::CutOneWay { from, to } => world.cut_one_way(from, to),
            Fault::Hold { a, b } => world.hold(a, b),
            Fault::Heal { a, b } => world.heal(a, b),
            Fault::Isolate { host } => {
                for other in others(world, host) {
                    world.cut(host, &other);
                }
            }
            Fault::Rejoin { host } => {
                for other in others(world, host) {
                    world.heal(host, &other);
                }
            }
            Fault::SlowDisk { process } => {
                world.disk(process).set_sync_delay(SLOW_SYNC_MIN, SLOW_SYNC_MAX);
            }
            Fault::StallDisk { process } => world.disk(process).stall_syncs(true),
            Fault::BreakDisk { process } => world.break_disk(process),
            Fault::MendDisk { process } => world.mend_disk(process),
        }
    }

    /// The hosts that it names.
    pub fn hosts(&self) -> Vec<&str> {
        match self {
            Fault::Crash { process, .. }
            | Fault::Restart { process }
            | Fault::SlowDisk { process }
            | Fault::StallDisk { process }
            | Fault::BreakDisk { process }
            | Fault::MendDisk { process } => vec![process],
            Fault::CutOneWay { from: a, to: b }
            | Fault::Cut { a, b }
            | Fault::Hold { a, b }
            | Fault::Heal { a, b } => vec![a, b],
            Fault::Isolate { host } | Fault::Rejoin { host } => vec![host],
        }
    }

    /// Whether it makes something worse, rather than mends it.
    pub fn impairs(&self) -> bool {
        match self {
            Fault::Crash { .. }
            | Fault::Cut { .. }
            | Fault::CutOneWay { .. }
            | Fault::Hold { .. }
            | Fault::Isolate { .. }
            | Fault::SlowDisk { .. }
            | Fault::StallDisk { .. }
            | Fault::BreakDisk { .. } => true,
            Fault::Restart { .. }
            | Fault::Heal { .. }
            | Fault::Rejoin { .. }
            | Fault::MendDisk { .. } => false,
        }
    }
}

fn others(world: &World, host: &str) -> Vec<String> {
    world.hosts().iter().filter(|other| *other != host).cloned().collect()
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash { process, crash: Crash::ProcessKilled } => {
                write!(formatter, "kill {process}")
            }
            Fault::Crash { process, crash: Crash::PowerLost } => {
                write!(formatter, "power off {process}")
            }
            Fault::Restart { process } => write!(formatter, "restart {process}"),
            Fault::Cut { a, b } => write!(formatter, "cut {a} and {b}"),
            Fault::CutOneWay { from, to } => write!(formatter, "cut from {from} to {to}"),
            Fault::Hold { a, b } => write!(formatter, "hold {a} and {b}"),
            Fault::Heal { a, b } => write!(formatter, "heal {a} and {b}"),
            Fault::Isolate { host } => write!(formatter, "isolate {host}"),
            Fault::Rejoin { host } => write!(formatter, "rejoin {host}"),
            Fault::SlowDisk { process } => write!(formatter, "slow disk of {process}"),
            Fault::StallDisk { process } => write!(formatter, "stalled disk of {process}"),
            Fault::BreakDisk { process } => write!(formatter, "broken disk of {process}"),
            Fault::MendDisk { process } => write!(formatter, "mended disk of {process}"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    /// The fault whose words these are.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let own = |word: &str| word.to_owned();
        let fault = match words.as_slice() {
            ["kill", process] => {
                Fault::Crash { process: own(process), crash: Crash::ProcessKilled }
            }
            ["power", "off", process] => {
                Fault::Crash { process: own(process), crash: Crash::PowerLost }
            }
            ["restart", process] => Fault::Restart { process: own(process) },
            ["cut", "from", from, "to", to] => Fault::CutOneWay { from: own(from), to: own(to) },
            ["cut", a, "and", b] => Fault::Cut { a: own(a), b: own(b) },
            ["hold", a, "and", b] => Fault::Hold { a: own(a), b: own(b) },
            ["heal", a, "and", b] => Fault::Heal { a: own(a), b: own(b) },
            ["isolate", host] => Fault::Isolate { host: own(host) },
            ["rejoin", host] => Fault::Rejoin { host: own(host) },
            ["slow", "disk", "of", process] => Fault::SlowDisk { process: own(process) },
            ["stalled", "disk", "of", process] => Fault::StallDisk { process: own(process) },
            ["broken", "disk", "of", process] => Fault::BreakDisk { process: own(process) },
            ["mended", "disk", "of", process] => Fault::MendDisk { process: own(process) },
            _ => {
                return Err(format!(
                    "{text:?} is no fault; one is for example \"kill node-1\", \"power off node-1\", \
                     \"restart node-1\", \"cut node-1 and node-2\", \"cut from node-1 to node-2\", \
                     \"hold node-1 and node-2\", \"heal node-1 and node-2\", \"isolate node-1\", \
                     \"rejoin node-1\", \"slow disk of node-1\", \"stalled disk of node-1\", \
                     \"broken disk of node-1\" or \"mended disk of node-1\""
                ));
            }
        };
        Ok(fault)
    }
}

impl FromStr for TimedFault {
    type Err = String;

    /// A time and a fault, for example `4.769 s  cut node-2 and member-2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("{text:?} does not start with a time, for example \"4.769 s\"");
        let (seconds, rest) = text.trim().split_once(char::is_whitespace).ok_or_else(shape)?;
        let fault = rest.trim_start().strip_prefix("s ").ok_or_else(shape)?;
        let seconds: f64 = seconds.parse().map_err(|_| shape())?;
        let at = Duration::try_from_secs_f64(seconds).map_err(|_| shape())?;
        // As it is written: to the millisecond.
        let at = Duration::from_millis(
            (at.as_micros().div_ceil(500) / 2).try_into().map_err(|_| shape())?,
        );
        Ok(Self { at, fault: fault.parse()? })
    }
}

impl fmt::Display for TimedFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:>9.3} s  {}", self.at.as_secs_f64(), self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn cast() -> Cast {
        let names =
            |prefix: &str, count: u32| (1..=count).map(|n| format!("{prefix}-{n}")).collect();
        Cast {
            members: names("member", 3),
            index_nodes: names("node", 3),
            drivers: names("client", 2),
        }
    }

    const TIME: Range<Duration> = Duration::from_secs(3)..Duration::from_secs(23);

    #[test]
    fn a_schedule_follows_from_its_seed() {
        let schedule = |seed| Schedule::generate(Seed(seed), &cast(), TIME);
        assert_eq!(schedule(4), schedule(4));
        assert_ne!(schedule(4), schedule(5));
    }

    #[test]
    fn whatever_is_impaired_is_mended_before_the_end() {
        for seed in 0..300 {
            let mut impaired = BTreeSet::new();
            let schedule = Schedule::generate(Seed(seed), &cast(), TIME);
            for TimedFault { at, fault } in &schedule.faults {
                assert!(TIME.contains(at) || *at == TIME.end, "seed {seed}: {fault} at {at:?}");
                for host in fault.hosts() {
                    let changed = if fault.impairs() {
                        impaired.insert(host.to_owned())
                    } else {
                        impaired.remove(host)
                    };
                    assert!(changed, "seed {seed}: {fault} at {at:?} overlaps another episode");
                }
            }
            assert_eq!(impaired, BTreeSet::new(), "seed {seed}");
        }
    }

    #[test]
    fn every_fault_can_be_read_as_it_is_written() {
        for seed in 0..50 {
            for timed in Schedule::generate(Seed(seed), &cast(), TIME).faults {
                let at = Duration::from_millis(timed.at.as_millis().try_into().unwrap());
                let read: TimedFault = timed.to_string().parse().unwrap();
                assert_eq!(read, TimedFault { at, ..timed });
            }
        }
    }

    #[test]
    fn every_kind_of_fault_occurs() {
        let mut kinds = BTreeSet::new();
        for seed in 0..50 {
            for timed in Schedule::generate(Seed(seed), &cast(), TIME).faults {
                let words: Vec<String> =
                    timed.fault.to_string().split(' ').map(str::to_owned).collect();
                kinds.insert(
                    words[..2.min(words.len() - 1)].join(" ").replace(char::is_numeric, ""),
                );
            }
        }
        for kind in [
            "kill",
            "power off",
            "restart",
            "cut from",
            "isolate",
            "rejoin",
            "hold",
            "heal",
            "slow disk",
            "stalled disk",
            "broken disk",
            "mended disk",
        ] {
            assert!(kinds.iter().any(|seen| seen.starts_with(kind)), "{kind} is not in {kinds:?}");
        }
    }
}
