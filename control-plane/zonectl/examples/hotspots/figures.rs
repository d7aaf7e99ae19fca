//! From seconds, changes and requests to the figures of a phase. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use serde::Serialize;
use zonectl::load::{Latencies, LatencyForm};

use crate::{
    load::{End, JUMP_INTERVAL, Sample},
    watch::{Change, Second, millis},
};

/// A zone is even if no node has more of the mean than this.
pub const GOAL: f64 = 1.05;

/// Averages of load take so long to follow: what they say before is no measure.
pub const WARM_UP_MS: u64 = 20_000;

/// The time after a jump in so many parts.
pub const PARTS: usize = 6;

/// Requests so long before a change begins, and after it has ended, are told apart.
const AROUND_MS: u64 = 2_000;

/// How even load was.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evenness {
    /// Of the greatest utilisation against the mean of the nodes, over seconds.
    pub mean: f64,
    pub p95: f64,
    pub max: f64,
    /// Part of the seconds with at most the goal.
    pub within_goal: f64,
    /// Greatest utilisation less the mean: of the capacity of a node.
    pub excess_p95: f64,
    /// Mean utilisation of the nodes.
    pub utilisation: f64,
    /// The mean in each sixth of the time between jumps.
    pub after_jump: Vec<Option<f64>>,
    /// The same of processor time that the kernel counted within each, averaged over jumps.
    pub processor_after_jump: Vec<Option<f64>>,
    /// Cores that all nodes' processes used, as the kernel counts.
    pub processor_cores: f64,
}

/// What was moved for load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub transfers: usize,
    pub moves: usize,
    pub splits: usize,
    /// That came back to where the same had left between the same two jumps.
    pub returns: usize,
    pub failed: usize,
    /// Changes for other reasons.
    pub others: usize,
}

impl Moved {
    /// Changes for load.
    pub fn begun(&self) -> usize {
        self.transfers + self.moves + self.splits
    }
}

/// What clients saw.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Seen {
    pub completed: u64,
    pub failed: u64,
    pub unknown: u64,
    pub all: LatencyForm,
    /// Of requests that were due within 2 s before a change for load began.
    pub before: LatencyForm,
    /// While one was under way.
    pub during: LatencyForm,
    /// Within 2 s after one had ended.
    pub after: LatencyForm,
    /// And otherwise.
    pub otherwise: LatencyForm,
}

/// The greatest of the nodes against their mean; none without load.
pub fn max_to_mean(nodes: &[f64]) -> Option<f64> {
    let mean = nodes.iter().sum::<f64>() / nodes.len() as f64;
    (mean > 0.0).then(|| nodes.iter().copied().fold(0.0, f64::max) / mean)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The smallest value that at least the part of all are not above.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Which jump came last, and in which part of the time after it.
fn place(at_ms: u64) -> (u64, usize) {
    let interval = millis(JUMP_INTERVAL);
    let part = (at_ms % interval) * PARTS as u64 / interval;
    (at_ms / interval, usize::try_from(part).unwrap_or(0))
}

/// Of the seconds within the span.
pub fn evenness(seconds: &[Second], span: &Range<u64>) -> Evenness {
    let settled: Vec<&Second> = seconds
        .iter()
        .filter(|second| span.contains(&second.at_ms) && second.at_ms >= WARM_UP_MS)
        .filter(|second| !second.utilisation.is_empty())
        .collect();
    let mut shares = Vec::new();
    let mut excesses = Vec::new();
    let mut utilisations = Vec::new();
    let mut by_part = vec![Vec::new(); PARTS];
    for second in settled {
        let Some(share) = max_to_mean(&second.utilisation) else { continue };
        let average = mean(&second.utilisation).unwrap_or_default();
        shares.push(share);
        excesses.push((share - 1.0) * average);
        utilisations.push(average);
        by_part[place(second.at_ms).1].push(share);
    }
    let within = shares.iter().filter(|share| **share <= GOAL).count();
    Evenness {
        mean: mean(&shares).unwrap_or_default(),
        p95: quantile(&shares, 0.95),
        max: shares.iter().copied().fold(0.0, f64::max),
        within_goal: within as f64 / shares.len().max(1) as f64,
        excess_p95: quantile(&excesses, 0.95),
        utilisation: mean(&utilisations).unwrap_or_default(),
        after_jump: by_part.iter().map(|shares| mean(shares)).collect(),
        processor_after_jump: processor_after_jump(seconds, span),
        processor_cores: processor_cores(seconds, span),
    }
}

fn processor_after_jump(seconds: &[Second], span: &Range<u64>) -> Vec<Option<f64>> {
    let mut sums: BTreeMap<(u64, usize), Vec<f64>> = BTreeMap::new();
    for second in seconds.iter().filter(|second| span.contains(&second.at_ms)) {
        // What was used in the second before this moment.
        let sum = sums.entry(place(second.at_ms.saturating_sub(500))).or_default();
        sum.resize(second.processor_s.len(), 0.0);
        for (sum, used) in sum.iter_mut().zip(&second.processor_s) {
            *sum += used;
        }
    }
    let of_part = |part: usize| {
        let these = sums.iter().filter(|((_, it), _)| *it == part);
        mean(&these.filter_map(|(_, nodes)| max_to_mean(nodes)).collect::<Vec<f64>>())
    };
    (0..PARTS).map(of_part).collect()
}

fn processor_cores(seconds: &[Second], span: &Range<u64>) -> f64 {
    let these = seconds.iter().filter(|second| span.contains(&second.at_ms));
    let used: f64 = these.flat_map(|second| &second.processor_s).sum();
    used * 1e3 / span.end.saturating_sub(span.start).max(1) as f64
}

/// Of the changes that began within the span.
pub fn moved(changes: &[Change], span: &Range<u64>) -> Moved {
    let mut moved = Moved::default();
    // What has left which node since the last jump.
    let mut left = BTreeSet::new();
    let mut jump = None;
    for change in changes.iter().filter(|change| span.contains(&change.began_ms)) {
        if !change.is_for_heat() {
            moved.others += 1;
            continue;
        }
        let now = place(change.began_ms).0;
        if jump.replace(now) != Some(now) {
            left.clear();
        }
        let has_failed = change.ended_ms.is_some() && !change.succeeded;
        moved.failed += usize::from(has_failed);
        if change.is_split() {
            moved.splits += 1;
            continue;
        }
        if change.is_transfer() {
            moved.transfers += 1;
        } else {
            moved.moves += 1;
        }
        if has_failed {
            continue;
        }
        let piece = |node| (change.partition_id, change.is_transfer(), node);
        moved.returns += usize::from(left.contains(&piece(change.to_node_id)));
        left.insert(piece(change.from_node_id));
    }
    moved
}

/// When a request was due, as seen from the changes for load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Before,
    During,
    After,
    Otherwise,
}

/// During one change counts before after another, and that before before a third.
fn place_of(due_ms: u64, changes: &[(u64, u64)]) -> Place {
    let any = |fits: &dyn Fn(u64, u64) -> bool| changes.iter().any(|(from, to)| fits(*from, *to));
    if any(&|from, to| (from..=to).contains(&due_ms)) {
        Place::During
    } else if any(&|_, to| (to..=to + AROUND_MS).contains(&due_ms)) {
        Place::After
    } else if any(&|from, _| (from.saturating_sub(AROUND_MS)..=from).contains(&due_ms)) {
        Place::Before
    } else {
        Place::Otherwise
    }
}

/// Of the requests that were due within the span.
pub fn seen(samples: &[Sample], changes: &[Change], span: &Range<u64>) -> Seen {
    let for_heat = changes.iter().filter(|change| change.is_for_heat());
    let spans: Vec<(u64, u64)> =
        for_heat.map(|change| (change.began_ms, change.ended_ms.unwrap_or(span.end))).collect();
    let (mut completed, mut failed, mut unknown) = (0, 0, 0);
    let mut all = Latencies::default();
    let mut by_place: [Latencies; 4] = std::array::from_fn(|_| Latencies::default());
    for sample in samples.iter().filter(|sample| span.contains(&millis(sample.due))) {
        match sample.end {
            End::Completed => completed += 1,
            End::Failed => failed += 1,
            End::Unknown => unknown += 1,
        }
        all.record(sample.took);
        by_place[place_of(millis(sample.due), &spans) as usize].record(sample.took);
    }
    let form = |place: Place| by_place[place as usize].form();
    Seen {
        completed,
        failed,
        unknown,
        all: all.form(),
        before: form(Place::Before),
        during: form(Place::During),
        after: form(Place::After),
        otherwise: form(Place::Otherwise),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn second(at_ms: u64, utilisation: &[f64], processor_s: &[f64]) -> Second {
        Second {
            at_ms,
            utilisation: utilisation.to_vec(),
            processor_s: processor_s.to_vec(),
            ..Second::default()
        }
    }

    fn change(operation_id: u64, kind: &str, from: u64, to: u64, began_ms: u64) -> Change {
        Change {
            operation_id,
            kind: kind.into(),
            origin: "heat".into(),
            partition_id: 3,
            from_node_id: from,
            to_node_id: to,
            succeeded: true,
            began_ms,
            ended_ms: Some(began_ms + 100),
        }
    }

    #[test]
    fn evenness_is_of_seconds_after_the_warm_up_in_the_span() {
        let seconds = [
            second(1_000, &[0.9, 0.1], &[]),
            second(31_000, &[0.2, 0.2], &[]),
            second(61_000, &[0.3, 0.1], &[]),
            second(62_000, &[], &[]),
            second(121_000, &[0.9, 0.1], &[]),
        ];
        let found = evenness(&seconds, &(0..120_000));
        assert!((found.mean - 1.25).abs() < 1e-9 && (found.p95 - 1.5).abs() < 1e-9, "{found:?}");
        assert!((found.within_goal - 0.5).abs() < 1e-9, "{found:?}");
        assert!((found.excess_p95 - 0.1).abs() < 1e-9, "{found:?}");
        assert_eq!(found.after_jump[2], None);
        assert!((found.after_jump[3].unwrap() - 1.0).abs() < 1e-9, "{found:?}");
        assert_eq!(evenness(&[], &(0..9)).mean, 0.0);
    }

    #[test]
    fn processor_time_is_summed_within_each_part_and_averaged_over_jumps() {
        let seconds = [
            second(1_000, &[], &[0.3, 0.0]),
            second(2_000, &[], &[0.0, 0.1]),
            second(61_000, &[], &[0.1, 0.1]),
            second(70_000, &[], &[0.0, 0.2]),
        ];
        let found = processor_after_jump(&seconds, &(0..120_000));
        // 0.3 against 0.2, and 0.1 and 0.3 against 0.2.
        assert!((found[0].unwrap() - 1.5).abs() < 1e-9, "{found:?}");
        assert_eq!(found[1], None);
        assert!((processor_cores(&seconds, &(0..4_000)) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn what_comes_back_between_two_jumps_is_a_return() {
        let there = change(1, "transfer-leader", 1, 2, 10_000);
        let back = change(2, "transfer-leader", 2, 1, 40_000);
        let later = change(3, "transfer-leader", 1, 2, 70_000);
        let moved_back = change(4, "move-replica", 2, 1, 71_000);
        let all = [there.clone(), back, later, moved_back];
        let found = moved(&all, &(0..120_000));
        assert_eq!((found.transfers, found.moves, found.returns), (3, 1, 1));
        assert_eq!(moved(&all, &(60_000..120_000)).returns, 0);
        let split = Change { kind: "split".into(), succeeded: false, ..there.clone() };
        let found = moved(&[split], &(0..120_000));
        assert_eq!((found.splits, found.failed, found.begun()), (1, 1, 1));
        let other = Change { origin: "operator".into(), ..there };
        assert_eq!(moved(&[other], &(0..120_000)), Moved { others: 1, ..Moved::default() });
    }

    #[test]
    fn requests_are_told_apart_by_the_changes_around_them() {
        let changes = [(10_000, 11_000), (12_500, 12_600)];
        let places =
            [5_000, 8_500, 10_500, 11_500, 12_500, 14_601].map(|due| place_of(due, &changes));
        use Place::{After, Before, During, Otherwise};
        assert_eq!(places, [Otherwise, Before, During, After, During, Otherwise]);
    }

    #[test]
    fn requests_count_where_they_were_due() {
        let sample = |due_s, took_ms, end| Sample {
            due: Duration::from_secs(due_s),
            took: Duration::from_millis(took_ms),
            end,
        };
        let samples = [
            sample(1, 4, End::Completed),
            sample(10, 80, End::Unknown),
            sample(30, 4, End::Failed),
            sample(130, 999, End::Completed),
        ];
        let found = seen(&samples, &[change(1, "transfer-leader", 1, 2, 9_950)], &(0..120_000));
        assert_eq!((found.completed, found.failed, found.unknown), (1, 1, 1));
        assert!((found.during.max_ms.unwrap() - 80.0).abs() < 1.0, "{found:?}");
        assert!(found.otherwise.max_ms.unwrap() < 5.0 && found.before.max_ms.is_none());
    }

    #[test]
    fn quantiles_are_the_nearest_ranks() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
