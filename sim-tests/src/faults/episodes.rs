//! The kinds of episodes that schedules are drawn from, and how often each is.

use std::{ops::Range, time::Duration};

use rand::{
    RngExt,
    seq::{IndexedRandom, SliceRandom},
};
use runtime::store::simulated::Side;

use super::{Fault, schedule::Builder};
use crate::{
    ambush::{Ambush, OperationKind},
    gate::FrozenClock,
    world::{Crash, SeamCall},
};

/// How long an episode lasts.
const EPISODE_MS: Range<u64> = 150..4_000;

/// How long a process is away now and then: longer than the zone waits before it replaces what is lost, and
/// than others keep their logs for it.
const LONG_EPISODE_MS: Range<u64> = 4_000..11_000;

/// After how many writes at most the leader ends in the middle of an operation.
const LEADERS_WRITES_MAX: u64 = 12;

/// How long a process is frozen: sometimes longer than every timeout.
const FREEZE_MS: Range<u64> = 100..7_000;

/// How often a process or a link goes and comes that flaps, and how long each takes.
const FLAPS: Range<u32> = 5..11;
const FLAP_DOWN_MS: Range<u64> = 20..250;
const FLAP_UP_MS: Range<u64> = 50..500;

/// By how much a wall clock jumps.
const WALL_JUMP_SECONDS: i64 = 12 * 60 * 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Episode {
    CrashIndexNode,
    CrashMember,
    CrashAtCall,
    LoseLeader,
    CrashControlPlane,
    CrashAllIndexNodes,
    CrashZone,
    CrashDomain,
    FlapProcess,
    Freeze,
    Mute,
    JumbleOrders,
    Cut,
    CutOneWay,
    Hold,
    FlapLink,
    Swizzle,
    Isolate,
    SlowLink,
    SlowLinksOf,
    SlowNetwork,
    SlowDisk,
    StallDisk,
    BreakDisk,
    FillDisk,
    LowDisk,
    CorruptDisk,
    WipeDisk,
    JumpWallClock,
}

/// Episodes and their shares.
const EPISODES: [(Episode, u32); 29] = [
    (Episode::CrashIndexNode, 12),
    (Episode::CrashMember, 7),
    (Episode::CrashAtCall, 20),
    (Episode::LoseLeader, 8),
    (Episode::CrashControlPlane, 4),
    (Episode::CrashAllIndexNodes, 3),
    (Episode::CrashZone, 4),
    (Episode::CrashDomain, 4),
    (Episode::FlapProcess, 4),
    (Episode::Freeze, 10),
    (Episode::Mute, 3),
    (Episode::JumbleOrders, 6),
    (Episode::Cut, 6),
    (Episode::CutOneWay, 7),
    (Episode::Hold, 4),
    (Episode::FlapLink, 3),
    (Episode::Swizzle, 4),
    (Episode::Isolate, 6),
    (Episode::SlowLink, 3),
    (Episode::SlowLinksOf, 3),
    (Episode::SlowNetwork, 2),
    (Episode::SlowDisk, 4),
    (Episode::StallDisk, 4),
    (Episode::BreakDisk, 4),
    (Episode::FillDisk, 3),
    (Episode::LowDisk, 2),
    (Episode::CorruptDisk, 4),
    (Episode::WipeDisk, 4),
    (Episode::JumpWallClock, 3),
];

/// Stands among the busy hosts for the network as a whole.
const NETWORK: &str = "the network";

/// When an episode begins and ends.
#[derive(Clone, Copy)]
struct Span {
    from: Duration,
    until: Duration,
}

impl Builder<'_> {
    pub(super) fn add_episode(&mut self, from: Duration) {
        let is_long = self.generator.random_bool(0.1);
        let length_ms = if is_long { LONG_EPISODE_MS } else { EPISODE_MS };
        let span = self.draw_span(from, length_ms);
        let crash = self.draw_crash();
        let cast = self.cast;
        match self.draw_episode() {
            Episode::CrashIndexNode => {
                let free = self.free_minority(&cast.index_nodes, from);
                self.crash_one_of(&free, crash, span);
            }
            Episode::CrashMember => {
                let free = self.free_minority(&cast.members, from);
                self.crash_one_of(&free, crash, span);
            }
            Episode::CrashAtCall => self.crash_at_call(crash, span),
            Episode::LoseLeader => self.lose_leader(crash, span),
            Episode::CrashControlPlane => self.crash_all(&cast.members, crash, span),
            Episode::CrashAllIndexNodes => self.crash_all(&cast.index_nodes, crash, span),
            Episode::CrashZone => {
                let processes = [&cast.members[..], &cast.index_nodes[..]].concat();
                self.crash_all(&processes, crash, span);
            }
            Episode::CrashDomain => {
                // All other nodes are well, so that it is the one domain that is lost.
                if !cast.index_nodes.iter().any(|node| self.is_busy(node, from))
                    && let Some(domain) = self.draw(&cast.domains)
                {
                    self.crash_all(&domain, crash, span);
                }
            }
            Episode::FlapProcess => self.flap_process(crash, span.from),
            Episode::Freeze => {
                let span = self.draw_span(from, FREEZE_MS);
                let stands_still = self.generator.random_bool(0.4);
                let clock =
                    if stands_still { FrozenClock::StandsStill } else { FrozenClock::GoesOn };
                let free = self.free_processes(from);
                self.impair(&free, span, |process| {
                    (Fault::Freeze { process: process.clone(), clock }, Fault::Thaw { process })
                });
            }
            Episode::Mute => {
                let free = self.free_minority(&cast.index_nodes, from);
                self.impair(&free, span, |process| {
                    (Fault::Mute { process: process.clone() }, Fault::Unmute { process })
                });
            }
            Episode::JumbleOrders => {
                let free = self.free_minority(&cast.index_nodes, from);
                self.impair(&free, span, |process| {
                    let straight = Fault::StraightenOrders { process: process.clone() };
                    (Fault::JumbleOrders { process }, straight)
                });
            }
            Episode::Cut => self.trouble_link(span, |a, b| Fault::Cut { a, b }),
            Episode::CutOneWay => self.trouble_link(span, |from, to| Fault::CutOneWay { from, to }),
            Episode::Hold => self.trouble_link(span, |a, b| Fault::Hold { a, b }),
            Episode::SlowLink => self.trouble_link(span, |a, b| Fault::SlowLink { a, b }),
            Episode::FlapLink => self.flap_link(span.from),
            Episode::Swizzle => self.swizzle(span),
            Episode::Isolate => {
                let free = self.free_processes(from);
                self.impair(&free, span, |host| {
                    (Fault::Isolate { host: host.clone() }, Fault::Rejoin { host })
                });
            }
            Episode::SlowLinksOf => {
                let free = self.free_processes(from);
                self.impair(&free, span, |host| {
                    (Fault::SlowLinksOf { host: host.clone() }, Fault::Rejoin { host })
                });
            }
            Episode::SlowNetwork => {
                if !self.is_busy(NETWORK, from) {
                    self.occupy(NETWORK, span.until);
                    self.add(from, Fault::SlowNetwork);
                    self.add(span.until, Fault::QuickenNetwork);
                }
            }
            Episode::SlowDisk => self.trouble_disk(span, |process| Fault::SlowDisk { process }),
            Episode::StallDisk => self.trouble_disk(span, |process| Fault::StallDisk { process }),
            Episode::BreakDisk => self.trouble_disk(span, |process| Fault::BreakDisk { process }),
            Episode::FillDisk => self.trouble_disk(span, |process| Fault::FillDisk { process }),
            Episode::LowDisk => self.trouble_disk(span, |process| Fault::LowDisk { process }),
            Episode::CorruptDisk => {
                self.trouble_disk(span, |process| Fault::CorruptDisk { process });
            }
            Episode::WipeDisk => self.wipe_disk(span),
            Episode::JumpWallClock => {
                let processes = [&cast.members[..], &cast.index_nodes[..]].concat();
                let seconds = self.generator.random_range(-WALL_JUMP_SECONDS..=WALL_JUMP_SECONDS);
                if let Some(process) = self.draw(&processes) {
                    self.add(from, Fault::JumpWallClock { process, seconds });
                }
            }
        }
    }

    fn draw_episode(&mut self) -> Episode {
        let all: u32 = EPISODES.iter().map(|(_, share)| share).sum();
        let mut left = self.generator.random_range(0..all);
        for (episode, share) in EPISODES {
            if left < share {
                return episode;
            }
            left -= share;
        }
        unreachable!("what is drawn is below the sum of the shares")
    }

    fn draw_span(&mut self, from: Duration, length_ms: Range<u64>) -> Span {
        Span { from, until: self.draw_later(from, length_ms) }
    }

    /// A moment some milliseconds later, and not after the end.
    fn draw_later(&mut self, from: Duration, by_ms: Range<u64>) -> Duration {
        (from + Duration::from_millis(self.generator.random_range(by_ms))).min(self.end)
    }

    fn draw_crash(&mut self) -> Crash {
        if self.generator.random_bool(0.6) { Crash::ProcessKilled } else { Crash::PowerLost }
    }

    /// Does something to one of the free hosts, and mends it in the end.
    fn impair(
        &mut self,
        free: &[String],
        span: Span,
        fault: impl FnOnce(String) -> (Fault, Fault),
    ) {
        if let Some(host) = self.draw(free) {
            self.occupy(&host, span.until);
            let (impairs, mends) = fault(host);
            self.add(span.from, impairs);
            self.add(span.until, mends);
        }
    }

    fn trouble_disk(&mut self, span: Span, fault: fn(String) -> Fault) {
        let free = self.free_processes(span.from);
        self.impair(&free, span, |process| (fault(process.clone()), Fault::MendDisk { process }));
    }

    fn crash_one_of(&mut self, free: &[String], crash: Crash, span: Span) {
        if let Some(process) = self.draw(free) {
            self.crash_all(&[process], crash, span);
        }
    }

    /// Crashes together, and restarts one after the other.
    fn crash_all(&mut self, processes: &[String], crash: Crash, span: Span) {
        if processes.iter().any(|process| self.is_busy(process, span.from)) {
            return;
        }
        for process in processes {
            let restart = self.draw_later(span.until, 0..300);
            self.occupy(process, restart);
            self.add(span.from, Fault::Crash { process: process.clone(), crash });
            self.add(restart, Fault::Restart { process: process.clone() });
        }
    }

    /// In the middle of an operation, if one begins in time: whoever leads then.
    fn lose_leader(&mut self, crash: Crash, span: Span) {
        let members = &self.cast.members;
        if members.iter().any(|member| self.is_busy(member, span.from)) {
            return;
        }
        for member in members {
            self.occupy(member, span.until);
        }
        let operation = *OperationKind::ALL.choose(&mut self.generator).expect("there are kinds");
        let write = self.generator.random_range(1..=LEADERS_WRITES_MAX);
        let side = if self.generator.random_bool(0.5) { Side::Before } else { Side::After };
        let ambush = Ambush { operation, crash, side, write };
        self.add(span.from, Fault::LoseLeader { ambush });
        self.add(span.until, Fault::RestoreLeader);
    }

    fn crash_at_call(&mut self, crash: Crash, span: Span) {
        let is_member = self.generator.random_bool(0.3);
        let group = if is_member { &self.cast.members } else { &self.cast.index_nodes };
        let free = self.free_minority(group, span.from);
        let (call, number_max) = match self.generator.random_range(0..100_u32) {
            // Members write seldom.
            0..45 => (SeamCall::Write, if is_member { 4 } else { 64 }),
            45..90 => (SeamCall::Sync, if is_member { 4 } else { 64 }),
            _ => (SeamCall::Dial, 2),
        };
        // The near ones often, the far ones too.
        let number_max = self.generator.random_range(1..=number_max);
        let number = self.generator.random_range(1..=number_max);
        let side = if self.generator.random_bool(0.5) { Side::Before } else { Side::After };
        self.impair(&free, span, |process| {
            let armed = Fault::CrashAtCall { process: process.clone(), crash, side, call, number };
            (armed, Fault::Restart { process })
        });
    }

    /// Crashes and restarts in quick succession.
    fn flap_process(&mut self, crash: Crash, from: Duration) {
        let free = self.free_processes(from);
        let Some(process) = self.draw(&free) else { return };
        let until = self.flap(from, |builder, down, up| {
            builder.add(down, Fault::Crash { process: process.clone(), crash });
            builder.add(up, Fault::Restart { process: process.clone() });
        });
        self.occupy(&process, until);
    }

    fn flap_link(&mut self, from: Duration) {
        let Some((a, b)) = self.draw_link(from) else { return };
        let until = self.flap(from, |builder, down, up| {
            builder.add(down, Fault::Cut { a: a.clone(), b: b.clone() });
            builder.add(up, Fault::Heal { a: a.clone(), b: b.clone() });
        });
        self.occupy(&a, until);
        self.occupy(&b, until);
    }

    /// Draws times of going and coming; returns the last.
    fn flap(
        &mut self,
        from: Duration,
        mut add: impl FnMut(&mut Self, Duration, Duration),
    ) -> Duration {
        let mut now = from;
        let mut until = from;
        for _ in 0..self.generator.random_range(FLAPS) {
            until = self.draw_later(now, FLAP_DOWN_MS);
            add(self, now, until);
            now = self.draw_later(until, FLAP_UP_MS);
            if now >= self.end {
                break;
            }
        }
        until
    }

    /// Holds all links of a host, but those to hosts in trouble of their own, and lets them go one by one.
    fn swizzle(&mut self, span: Span) {
        let free = self.free_processes(span.from);
        let Some(host) = self.draw(&free) else { return };
        let mut others: Vec<String> =
            [&self.cast.members[..], &self.cast.index_nodes[..], &self.cast.drivers[..]]
                .concat()
                .into_iter()
                .filter(|other| *other != host && !self.is_busy(other, span.from))
                .collect();
        others.shuffle(&mut self.generator);
        self.occupy(&host, span.until);
        let lasts_ms = u64::try_from((span.until - span.from).as_millis()).unwrap_or(u64::MAX);
        for other in others {
            let at = self.draw_later(span.from, lasts_ms / 4..lasts_ms);
            self.add(span.from, Fault::Hold { a: host.clone(), b: other.clone() });
            self.add(at, Fault::Heal { a: host.clone(), b: other });
        }
    }

    /// One disk in a schedule, of a node that the zone can replace: enough fault domains are left.
    fn wipe_disk(&mut self, span: Span) {
        if self.has_wiped || !self.cast.replaces_lost {
            return;
        }
        let cast = self.cast;
        let can_go = |node: &String| {
            let is_left = |domain: &&Vec<String>| domain.iter().any(|other| other != node);
            cast.domains.iter().filter(is_left).count() >= cast.domains_needed
        };
        let mut free = self.free_minority(&cast.index_nodes, span.from);
        free.retain(can_go);
        self.has_wiped = !free.is_empty();
        self.impair(&free, span, |process| {
            (Fault::WipeDisk { process: process.clone() }, Fault::Restart { process })
        });
    }

    /// The ends of a link that may have trouble now.
    fn draw_link(&mut self, at: Duration) -> Option<(String, String)> {
        let one_side = self.free_processes(at);
        let a = self.draw(&one_side)?;
        let cast = self.cast;
        let other_side: Vec<String> = [&cast.members[..], &cast.index_nodes[..], &cast.drivers[..]]
            .concat()
            .into_iter()
            .filter(|host| *host != a && !self.is_busy(host, at))
            .collect();
        let b = self.draw(&other_side)?;
        Some(if self.generator.random_bool(0.5) { (a, b) } else { (b, a) })
    }

    fn trouble_link(&mut self, span: Span, fault: impl FnOnce(String, String) -> Fault) {
        let Some((a, b)) = self.draw_link(span.from) else { return };
        self.occupy(&a, span.until);
        self.occupy(&b, span.until);
        self.add(span.from, fault(a.clone(), b.clone()));
        self.add(span.until, Fault::Heal { a, b });
    }
}
