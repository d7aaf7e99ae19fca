//! After the last jump: when the zone was even, when it came to rest, and what moved then. Pure.

use std::ops::Range;

use serde::Serialize;

use crate::{
    figures::{GOAL, Moved, WARM_UP_MS, max_to_mean, moved},
    watch::{Change, Second},
};

/// Evenness is averaged over so long: one second may be even by chance.
const AVERAGED_MS: u64 = 30_000;

/// Nothing has been done, and nothing was to be done, for so long: the zone is at rest.
pub const REST_MS: u64 = 30_000;

#[derive(Clone, Debug, Serialize)]
pub struct Settling {
    /// The goal, or the best that pieces allow if that is more.
    pub goal: f64,
    /// From the last jump until the greatest utilisation against the mean was no more than the goal, on average over
    /// the 30 s from then.
    pub even_after_s: Option<f64>,
    /// From the last jump until nothing was done any more, nor was to be.
    pub rest_after_s: Option<f64>,
    /// Until then.
    pub moved: Moved,
    /// How long was watched afterwards, and what moved.
    pub watched_s: f64,
    pub moved_at_rest: Moved,
    /// Greatest utilisation against the mean at rest, on average.
    pub at_rest: Option<f64>,
}

/// Whether the balancer wants nothing and nothing is under way.
fn is_calm(second: &Second) -> bool {
    second.running == 0 && matches!(second.balance.as_str(), "idle" | "even" | "at-rest")
}

/// Since when the zone has been at rest, if it has been for long enough at the last of the seconds. What is known of
/// load right after the jump is of the time before; and what is done between two looks is seen in the changes only.
pub fn at_rest_since(seconds: &[Second], changes: &[Change], jumped_ms: u64) -> Option<u64> {
    let of_load = changes.iter().filter(|change| change.is_for_heat());
    let done_ms = of_load.map(|change| change.ended_ms.unwrap_or(change.began_ms)).max();
    let from_ms = (jumped_ms + WARM_UP_MS).max(done_ms.unwrap_or(0));
    let calm = seconds.iter().rev().take_while(|second| is_calm(second) && second.at_ms >= from_ms);
    let since = calm.last()?.at_ms;
    (seconds.last()?.at_ms >= since + REST_MS).then_some(since)
}

/// The mean of the seconds' greatest utilisation against the mean; none without load.
fn average(seconds: &[Second], span: &Range<u64>) -> Option<f64> {
    let these = seconds.iter().filter(|second| span.contains(&second.at_ms));
    let shares: Vec<f64> = these.filter_map(|it| max_to_mean(&it.utilisation)).collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

/// From the jump until it is even for a while.
fn even_after(seconds: &[Second], jumped_ms: u64, goal: f64) -> Option<u64> {
    let end = seconds.last()?.at_ms;
    let starts = seconds.iter().map(|second| second.at_ms);
    let mut starts = starts.filter(|at| *at >= jumped_ms && at + AVERAGED_MS <= end);
    let is_even =
        |at: &u64| average(seconds, &(*at..at + AVERAGED_MS)).is_some_and(|it| it <= goal);
    starts.find(is_even).map(|at| at - jumped_ms)
}

impl Settling {
    pub fn of(
        seconds: &[Second],
        changes: &[Change],
        jumped_ms: u64,
        rest_since_ms: Option<u64>,
        best_share: f64,
    ) -> Self {
        let goal = GOAL.max(best_share);
        let end_ms = seconds.last().map_or(jumped_ms, |second| second.at_ms);
        let rest_ms = rest_since_ms.unwrap_or(end_ms);
        let in_seconds = |ms: u64| ms as f64 / 1e3;
        Self {
            goal,
            even_after_s: even_after(seconds, jumped_ms, goal).map(in_seconds),
            rest_after_s: rest_since_ms.map(|at| in_seconds(at.saturating_sub(jumped_ms))),
            moved: moved(changes, &(jumped_ms..rest_ms)),
            watched_s: in_seconds(end_ms.saturating_sub(rest_ms)),
            moved_at_rest: moved(changes, &(rest_ms..u64::MAX)),
            at_rest: average(seconds, &(rest_ms..end_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at_s: u64, worst: f64, balance: &str, running: usize) -> Second {
        let utilisation = vec![worst, 2.0 - worst];
        Second {
            at_ms: at_s * 1_000,
            utilisation,
            balance: balance.into(),
            running,
            ..Default::default()
        }
    }

    fn course() -> Vec<Second> {
        let of = |at| match at {
            0..70 => second(at, 1.5, "even", 0),
            70..90 => second(at, 1.5, "uneven", 0),
            90..100 => second(at, 1.2, "settling", 1),
            _ => second(at, 1.04, "at-rest", 0),
        };
        (0..200).map(of).collect()
    }

    fn moved_at(began_ms: u64) -> Change {
        Change {
            operation_id: began_ms,
            kind: "move-replica".into(),
            origin: "heat".into(),
            partition_id: 1,
            from_node_id: 1,
            to_node_id: 2,
            succeeded: true,
            began_ms,
            ended_ms: Some(began_ms + 500),
        }
    }

    #[test]
    fn rest_is_calm_for_long_enough_and_not_what_is_known_of_the_time_before() {
        let course = course();
        let since = |seconds: usize, changes| at_rest_since(&course[..=seconds], changes, 60_000);
        assert_eq!(since(69, &[]), None, "averages have not followed");
        assert_eq!(since(129, &[]), None);
        assert_eq!(since(130, &[]), Some(100_000));
        assert_eq!(at_rest_since(&[], &[], 0), None);
        // No look saw it run.
        let between = [moved_at(101_200)];
        assert_eq!((since(131, &between), since(132, &between)), (None, Some(102_000)));
        let by_hand = [Change { origin: "operator".into(), ..moved_at(101_200) }];
        assert_eq!(since(130, &by_hand), Some(100_000));
    }

    #[test]
    fn a_zone_is_even_from_when_it_stays_so_and_what_moves_at_rest_is_told_apart() {
        let changes = [moved_at(30_000), moved_at(92_000), moved_at(150_000)];
        let found = Settling::of(&course(), &changes, 60_000, Some(100_000), 1.0);
        // One second of 1.2 is within an average of 1.05.
        assert_eq!((found.even_after_s, found.rest_after_s), (Some(39.0), Some(40.0)));
        assert_eq!((found.moved.moves, found.moved_at_rest.moves), (1, 1));
        assert!((found.at_rest.unwrap() - 1.04).abs() < 1e-9 && found.watched_s > 98.0);
        let never = Settling::of(&course()[..95], &changes, 60_000, None, 1.0);
        assert_eq!((never.even_after_s, never.rest_after_s), (None, None));
        assert_eq!(Settling::of(&course(), &[], 60_000, None, 1.3).goal, 1.3);
    }
}
