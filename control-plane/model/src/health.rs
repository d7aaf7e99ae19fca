//! How well a node does what it does, by what it says of itself: averages that forget, so that one bad
//! moment is no sickness, and a comparison with the others, so that what strikes all of them is none
//! either.

use std::time::Duration;

use planted::{Bug, is_planted};
use serde::{Deserialize, Serialize};

/// How long it takes until half of what was said is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// The most that one heartbeat can say, in milliseconds: one very bad moment must not count for minutes.
const VALUE_MAX_MS: u64 = 5_000;

/// An average over a few seconds, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Decayed {
    value_ms: f64,
    at: Option<Duration>,
}

impl Decayed {
    /// `value_ms` was so since the last time.
    fn add(&mut self, value_ms: u64, now: Duration) {
        let value_ms = f64::from(u32::try_from(value_ms.min(VALUE_MAX_MS)).unwrap_or(u32::MAX));
        // What was before the first word is not known: half of it is taken for good.
        let passed = self.at.map_or(HALF_LIFE, |at| now.saturating_sub(at));
        let kept = 0.5_f64.powf(passed.as_secs_f64() / HALF_LIFE.as_secs_f64());
        self.value_ms = self.value_ms * kept + value_ms * (1.0 - kept);
        self.at = Some(now);
    }
}

/// What a node's heartbeats said lately.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    disk_sync: Decayed,
    runtime_lag: Decayed,
    /// Heartbeats in a row that said that something has not ended for very long.
    stuck_heartbeats: u32,
}

/// From this on something counts as not ending, if so many heartbeats in a row say so: one bad moment that is
/// over is told by fewer.
const STUCK_MS: u64 = 400;
const STUCK_HEARTBEATS: u32 = 3;

/// What is wrong with a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ailing {
    /// In words with figures.
    pub words: String,
    /// It does nothing at all any more: others have to lead in its place, whether it can hand over or not.
    pub is_stuck: bool,
}

/// What can be worse on one node than on others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ailment {
    SlowDisk,
    SaturatedRuntime,
}

impl Ailment {
    pub const ALL: [Self; 2] = [Self::SlowDisk, Self::SaturatedRuntime];

    /// From this average on it may be one.
    pub fn threshold(self) -> Duration {
        match self {
            Self::SlowDisk => Duration::from_millis(60),
            Self::SaturatedRuntime => Duration::from_millis(150),
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::SlowDisk => "a sync of its disk takes",
            Self::SaturatedRuntime => "its tasks wait for their turn",
        }
    }
}

/// So many times worse than most a node has to be.
const WORSE_THAN_MOST: f64 = 4.0;

/// What is usual among all nodes of a zone, in milliseconds: the middle of what each of them says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usual {
    medians_ms: [f64; Ailment::ALL.len()],
}

impl Usual {
    pub fn of<'a>(all: impl Iterator<Item = &'a HealthFigures> + Clone) -> Self {
        let medians_ms = Ailment::ALL.map(|ailment| {
            let mut values: Vec<u64> =
                all.clone().map(|figures| figures.average_us(ailment)).collect();
            values.sort_unstable();
            // Of an even number the greater of the two in the middle: in doubt for the node. So of two
            // nodes neither is judged by the other.
            values.get(values.len() / 2).copied().map(milliseconds).unwrap_or_default()
        });
        Self { medians_ms }
    }
}

impl Health {
    pub fn heard(&mut self, disk_sync_ms: u64, runtime_lag_ms: u64, now: Duration) {
        self.disk_sync.add(disk_sync_ms, now);
        self.runtime_lag.add(runtime_lag_ms, now);
        let is_long = disk_sync_ms.max(runtime_lag_ms) >= STUCK_MS;
        self.stuck_heartbeats = if is_long { self.stuck_heartbeats.saturating_add(1) } else { 0 };
    }

    /// In milliseconds.
    pub fn average_ms(&self, ailment: Ailment) -> f64 {
        match ailment {
            Ailment::SlowDisk => self.disk_sync.value_ms,
            Ailment::SaturatedRuntime => self.runtime_lag.value_ms,
        }
    }

    /// What the node is judged by.
    pub fn figures(&self) -> HealthFigures {
        // At most `VALUE_MAX_MS`.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let average_us = |ailment| (self.average_ms(ailment) * 1_000.0).round() as u64;
        HealthFigures {
            disk_sync_us: average_us(Ailment::SlowDisk),
            runtime_lag_us: average_us(Ailment::SaturatedRuntime),
            stuck_heartbeats: self.stuck_heartbeats,
        }
    }
}

/// What a node's heartbeats said lately, in whole numbers: it can be written down and read again without
/// loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthFigures {
    /// Averages, in microseconds.
    pub disk_sync_us: u64,
    pub runtime_lag_us: u64,
    /// Heartbeats in a row that said that something has not ended for very long.
    pub stuck_heartbeats: u32,
}

/// Of whole microseconds.
fn milliseconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64() * 1_000.0
}

impl HealthFigures {
    fn average_us(&self, ailment: Ailment) -> u64 {
        match ailment {
            Ailment::SlowDisk => self.disk_sync_us,
            Ailment::SaturatedRuntime => self.runtime_lag_us,
        }
    }

    /// What it suffers from, against what is usual. `is_slow`: it counts as slow already, and then half as
    /// much is enough.
    pub fn ailment(&self, usual: &Usual, is_slow: bool) -> Option<Ailing> {
        Ailment::ALL.into_iter().zip(usual.medians_ms).find_map(|(ailment, median)| {
            let own = milliseconds(self.average_us(ailment));
            let share = if is_slow { 0.5 } else { 1.0 };
            let threshold = ailment.threshold().as_secs_f64() * 1_000.0;
            let is_worse = own >= share * threshold
                && (own >= share * WORSE_THAN_MOST * median || is_planted(Bug::EverybodySlow));
            is_worse.then(|| Ailing {
                words: format!("{} {own:.0} ms, and {median:.0} ms are usual", ailment.words()),
                is_stuck: self.stuck_heartbeats >= STUCK_HEARTBEATS,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(said: impl IntoIterator<Item = (u64, u64)>) -> HealthFigures {
        let mut health = Health::default();
        let mut now = Duration::ZERO;
        for (disk_sync_ms, runtime_lag_ms) in said {
            now += Duration::from_millis(100);
            health.heard(disk_sync_ms, runtime_lag_ms, now);
        }
        health.figures()
    }

    fn steady(disk_sync_ms: u64, runtime_lag_ms: u64) -> HealthFigures {
        after([(disk_sync_ms, runtime_lag_ms); 50])
    }

    /// What is wrong with the first of them.
    fn ailment(nodes: &[HealthFigures], is_slow: bool) -> Option<Ailing> {
        nodes[0].ailment(&Usual::of(nodes.iter()), is_slow)
    }

    fn among_the_well(node: HealthFigures, is_slow: bool) -> Option<Ailing> {
        ailment(&[node, steady(1, 2), steady(3, 2), steady(2, 2)], is_slow)
    }

    #[test]
    fn one_bad_moment_is_no_sickness_and_what_lasts_is_one() {
        let moment = after([(1, 1); 30].into_iter().chain([(300, 1)]).chain([(1, 1); 3]));
        assert_eq!(among_the_well(moment, false), None);
        let lasting = after([(1, 1); 30].into_iter().chain([(150, 1); 10]));
        let lasting = among_the_well(lasting, false).unwrap();
        assert!(lasting.words.contains("a sync of its disk takes"), "{lasting:?}");
        let saturated = among_the_well(steady(1, 300), false).unwrap();
        assert!(saturated.words.contains("tasks wait"), "{saturated:?}");
        assert!(!lasting.is_stuck && !saturated.is_stuck);
    }

    #[test]
    fn what_does_not_end_is_noticed_in_less_than_a_second() {
        let stalled = |heartbeats: u64| {
            let stalled = (1..=heartbeats).map(|n| (n * 100, 1));
            among_the_well(after([(1, 1); 30].into_iter().chain(stalled)), false)
        };
        assert!(stalled(5).is_some_and(|ailing| !ailing.is_stuck));
        assert!(stalled(6).is_some_and(|ailing| ailing.is_stuck));
        // A pause that is over is told once.
        let paused = after([(1, 1); 30].into_iter().chain([(1_200, 1_200), (1, 1)]));
        assert!(among_the_well(paused, false).is_none_or(|ailing| !ailing.is_stuck));
        // And what strikes all proves nothing.
        let all = [after((1..=30).map(|n| (n * 100, 1))); 3];
        assert_eq!(ailment(&all, false), None);
    }

    #[test]
    fn what_strikes_all_is_nobodys_sickness() {
        let all = [steady(100, 900), steady(80, 700), steady(120, 800)];
        let usual = Usual::of(all.iter());
        for health in &all {
            assert_eq!(health.ailment(&usual, false), None);
        }
    }

    #[test]
    fn nobody_is_judged_by_one_peer_alone() {
        assert_eq!(ailment(&[steady(1_000, 1), steady(1, 1)], false), None);
        assert!(ailment(&[steady(1_000, 1), steady(1, 1), steady(2, 2)], false).is_some());
    }

    #[test]
    fn who_is_slow_has_to_become_clearly_better() {
        assert_eq!(among_the_well(steady(45, 1), false), None);
        assert!(among_the_well(steady(45, 1), true).is_some());
        assert_eq!(among_the_well(steady(20, 1), true), None);
    }

    #[test]
    fn it_forgets() {
        let cured = after([(5_000, 5_000); 30].into_iter().chain([(1, 1); 90]));
        assert_eq!(among_the_well(cured, true), None);
    }
}
