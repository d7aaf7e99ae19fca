//! The balancer's own time.
//!
//! Zone time stands still while nothing is committed: each command carries it on by a second at most, and a quiet zone
//! may have none for hours. What the balancer waits for passes all the same. So its own time begins as zone time, and
//! goes on with the leader's clock: by all that was quiet it is ahead. What the ledger says of when something
//! happened has to be put in its terms, or it would seem to be that long ago, and nothing would rest or stay away.

use std::{collections::VecDeque, time::Duration};

use crate::ids::{ZoneTime, millis};

/// Zone time is behind by up to so much from one command to the next, and is told by the next.
const LAG_MS: u64 = 1_000;

/// Changes of the distance that are remembered: one for each quiet while, and in one as long as the ban of a return
/// there is some command every half minute. Behind the oldest things seem to be later than they were.
const DISTANCES_MAX: usize = 4_096;

#[derive(Clone, Debug, Default)]
pub(super) struct OwnTime {
    now: ZoneTime,
    committed: ZoneTime,
    /// The leader's clock at the last look; none before the first.
    looked_at: Option<Duration>,
    /// From which zone time on its own was ahead by so many milliseconds, in their sequence.
    distances: VecDeque<(ZoneTime, u64)>,
}

impl OwnTime {
    pub fn now(&self) -> ZoneTime {
        self.now
    }

    /// Zone time at the last look.
    pub fn committed(&self) -> ZoneTime {
        self.committed
    }

    /// Carries it on: `committed` is zone time, and `now` the leader's clock.
    pub fn pass(&mut self, committed: ZoneTime, now: Duration) {
        let elapsed = now.saturating_sub(self.looked_at.replace(now).unwrap_or(now));
        let before = std::mem::replace(&mut self.committed, committed);
        self.now = self.now.after(elapsed).max(committed);
        let ahead_ms = millis(self.now.since(committed));
        let known_ms = self.distances.back().map_or(0, |(_, ahead_ms)| *ahead_ms);
        if committed > before && ahead_ms > known_ms + LAG_MS {
            if self.distances.len() == DISTANCES_MAX {
                self.distances.pop_front();
            }
            self.distances.push_back((before, ahead_ms));
        }
    }

    /// When zone time was that; within a second. What came after the last look is now.
    pub fn when(&self, zone_time: ZoneTime) -> ZoneTime {
        if zone_time > self.committed {
            return self.now;
        }
        let after = self.distances.partition_point(|(before, _)| *before < zone_time);
        let ahead_ms = match after.checked_sub(1).and_then(|index| self.distances.get(index)) {
            Some((_, ahead_ms)) => *ahead_ms,
            None if self.distances.len() == DISTANCES_MAX => self.distances[0].1,
            None => 0,
        };
        zone_time.after(Duration::from_millis(ahead_ms)).min(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_goes_on_while_zone_time_stands_still_and_what_happens_then_is_new() {
        let mut time = OwnTime::default();
        // The leader's clock has another origin.
        time.pass(ZoneTime(5_000), at(70_000));
        assert_eq!((time.now(), time.when(ZoneTime(5_000))), (ZoneTime(5_000), ZoneTime(5_000)));
        for second in 1..=10 {
            time.pass(ZoneTime(5_000 + second * 1_000), at(70_000 + second * 1_000));
        }
        assert_eq!((time.now(), time.when(ZoneTime(9_000))), (ZoneTime(15_000), ZoneTime(9_000)));
        let quiet_until = 80_000 + HOUR_MS;
        for now in (80_000..=quiet_until).step_by(1_000) {
            time.pass(ZoneTime(15_000), at(now));
        }
        assert_eq!(time.now(), ZoneTime(15_000 + HOUR_MS));
        assert_eq!(time.when(ZoneTime(15_000)), ZoneTime(15_000), "it was before");
        assert_eq!(time.when(ZoneTime(15_001)), time.now(), "since the last look");
        // A command: what it does happens now, and not an hour ago.
        time.pass(ZoneTime(16_000), at(quiet_until));
        assert_eq!(time.when(ZoneTime(16_000)), time.now());
        assert_eq!(time.when(ZoneTime(15_000)), ZoneTime(15_000));
        time.pass(ZoneTime(20_000), at(quiet_until + 4_000));
        assert_eq!(time.when(ZoneTime(16_000)), ZoneTime(15_000 + HOUR_MS));
        assert_eq!(time.when(ZoneTime(20_000)), ZoneTime(19_000 + HOUR_MS));
    }

    #[test]
    fn it_never_goes_back_nor_ahead_of_itself_and_remembers_a_bounded_number_of_things() {
        let mut time = OwnTime::default();
        let (mut zone, mut clock) = (0, 0);
        for _ in 0..DISTANCES_MAX + 100 {
            (zone, clock) = (zone + 1_000, clock + 30_000);
            let before = time.now();
            time.pass(ZoneTime(zone), at(clock));
            assert!(time.now() >= before);
            assert!(time.when(ZoneTime(zone)) <= time.now());
            assert!(time.distances.len() <= DISTANCES_MAX);
        }
        // What is older than what is remembered seems to be later than it was, never earlier.
        assert!(time.when(ZoneTime(1_000)) >= ZoneTime(30_000), "{:?}", time.when(ZoneTime(1_000)));
        let times = (0..zone).step_by(500).map(|at| time.when(ZoneTime(at)));
        assert!(times.is_sorted());
        // A new leader's clock, or one that jumps back.
        time.pass(ZoneTime(zone), at(0));
        assert!(time.now() >= time.when(ZoneTime(zone)));
    }
}
