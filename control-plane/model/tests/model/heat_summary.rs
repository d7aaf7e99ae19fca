//! What one leader writes down of load, and the next one makes of it.

use std::{collections::BTreeMap, time::Duration};

use model::{
    Action, Applied, Incarnation, NodeId, PartitionId, Refusal, Term, ZoneState,
    heat::{
        LoadReport, Rates, Summary, ZoneHeat,
        summary::{INTERVAL, PARTITIONS_MAX, Summarizer, SummaryEntry},
    },
};

use crate::world::World;

const FIRST: Incarnation = Incarnation(1);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn say(heat: &mut ZoneHeat, partition: u64, count: u64, ms: u64) {
    let report =
        LoadReport { term: Term(1), interval_ms: 1_000, reads: count, ..LoadReport::default() };
    assert!(heat.report(NodeId(1), FIRST, PartitionId(partition), report, at(ms)));
}

/// Short and long reads per second of a partition.
fn reads_of(heat: &ZoneHeat, partition: u64, ms: u64) -> (f64, f64) {
    let load = heat.of_partition(PartitionId(partition), at(ms)).expect("it is known");
    (load.short.reads_per_second, load.long.reads_per_second)
}

fn summary(loads: &[(u64, f64)]) -> Summary {
    Summary::of_hottest(loads.iter().map(|(partition, reads_per_second)| {
        let rates = Rates { reads_per_second: *reads_per_second, ..Rates::default() };
        SummaryEntry::new(PartitionId(*partition), &rates)
    }))
}

#[track_caller]
fn about(found: f64, expected: f64) {
    let off = (found - expected).abs();
    assert!(off <= 1e-4 * expected.abs().max(1.0), "{found} instead of {expected}");
}

#[test]
fn a_new_leader_goes_on_where_the_last_one_was() {
    let written = summary(&[(7, 100.0), (8, 60.0), (9, 80.0)]);
    let mut heat = ZoneHeat::resume(Some(&written), at(5_000));
    let hottest = |heat: &ZoneHeat, ms| -> Vec<u64> {
        heat.hottest(9, at(ms)).iter().map(|(id, _)| id.get()).collect()
    };
    assert_eq!(hottest(&heat, 5_000), [7, 9, 8]);
    about(reads_of(&heat, 7, 20_000).1, 100.0);
    let load = heat.of_partition(PartitionId(7), at(5_000)).expect("it was written down");
    assert_eq!(load.leader, None, "nobody has said so yet");

    // The load has become another one meanwhile: the averages move towards it from where they were.
    heat.session_opened(NodeId(1), FIRST, at(6_000));
    say(&mut heat, 7, 40, 7_000);
    let (short, long) = reads_of(&heat, 7, 7_000);
    about(short, 40.0 + 60.0 * (-0.1_f64).exp2());
    about(long, 40.0 + 60.0 * (-1.0_f64 / 300.0).exp2());
    about(heat.of_node(NodeId(1), at(7_000)).expect("it spoke").long.reads_per_second, long);
    assert_eq!(hottest(&heat, 7_000), [7, 9, 8]);

    // Of the others nobody speaks: their load is over.
    about(reads_of(&heat, 9, 35_000).0, 80.0);
    about(reads_of(&heat, 9, 45_000).0, 40.0);
    about(reads_of(&heat, 9, 335_000).1, 40.0);
    assert!(heat.of_partition(PartitionId(10), at(7_000)).is_none());
    assert!(ZoneHeat::resume(None, at(5_000)).hottest(9, at(5_000)).is_empty());
}

/// Writes down what is to be written until then, every 100 ms; what, by when.
fn written_until(
    summarizer: &mut Summarizer,
    heat: &ZoneHeat,
    written: &mut Summary,
    from_to_ms: (u64, u64),
) -> BTreeMap<u64, Summary> {
    let mut all = BTreeMap::new();
    for ms in (from_to_ms.0..from_to_ms.1).step_by(100) {
        if let Some(summary) = summarizer.round(heat, Some(written), at(ms)) {
            written.clone_from(&summary);
            all.insert(ms, summary);
        }
    }
    all
}

#[test]
fn a_summary_is_written_when_something_hot_has_changed_and_not_too_often() {
    let mut heat = ZoneHeat::default();
    heat.session_opened(NodeId(1), FIRST, at(0));
    let mut summarizer = Summarizer::default();
    let mut written = Summary::default();
    let mut until =
        |heat: &ZoneHeat, from, to| written_until(&mut summarizer, heat, &mut written, (from, to));
    assert!(until(&heat, 0, 5_000).is_empty(), "there is nothing to say");
    say(&mut heat, 7, 100, 5_000);
    let first = until(&heat, 5_000, 60_000);
    assert_eq!(first.into_iter().collect::<Vec<_>>(), [(5_000, summary(&[(7, 100.0)]))]);
    // Twice as much: the long average is up by a tenth after 45 s.
    for second in 60..=200 {
        say(&mut heat, 7, 200, second * 1_000);
    }
    let mut times: Vec<u64> = until(&heat, 200_000, 206_000).into_keys().collect();
    // It ends, and what is left of it becomes less and less.
    say(&mut heat, 7, 0, 206_000);
    times.extend(until(&heat, 206_000, 6_000_000).into_keys());
    let interval_ms = u64::try_from(INTERVAL.as_millis()).expect("short");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= interval_ms), "{times:?}");
    assert!((30..=60).contains(&times.len()), "{times:?}");
    assert!(times.last().is_some_and(|last| *last < 3_000_000), "it comes to rest: {times:?}");
}

#[test]
fn of_many_partitions_some_are_looked_at_at_a_time_and_the_hottest_are_found() {
    let written = summary(&[(5, 70_000.0), (1_000_000, 90_000.0)]);
    let mut heat = ZoneHeat::resume(Some(&written), at(0));
    heat.session_opened(NodeId(1), FIRST, at(0));
    for partition in 1..=30_000 {
        say(&mut heat, partition, partition % 20_011, 1_000);
    }
    let mut summarizer = Summarizer::default();
    let rounds = (0..100).find_map(|round| {
        let summary = summarizer.round(&heat, Some(&written), at(1_000 + round))?;
        Some((round, summary))
    });
    let (rounds, found) = rounds.expect("much has changed");
    assert!((4..=8).contains(&rounds), "{rounds} rounds");
    assert_eq!((found.entries().len(), found.check()), (PARTITIONS_MAX, Ok(())));
    assert!(found.get(PartitionId(1_000_000)).is_some(), "nobody has said that it is over");
    assert!(found.get(PartitionId(5)).is_some(), "it was hot until a second ago");
    let least = found.entries().iter().map(|entry| entry.rates().reads_per_second);
    about(least.fold(f64::MAX, f64::min), 20_010.0 - 997.0);
}

#[test]
fn a_summary_is_part_of_the_state_and_old_states_have_none() {
    let mut world = World::new(4, 3, &["a", "b", "c"]);
    let old: Vec<_> = world.state.records().collect();
    let loaded = ZoneState::from_records(old).expect("a state of before there were summaries");
    assert_eq!(loaded.heat_summary(), None);

    let events = world.state.events().len();
    let given = summary(&[(2, 50.0), (4, 20.0), (99, 10.0)]);
    let applied = world.apply(Action::SummarizeHeat { summary: given });
    assert_eq!(applied, Ok(Applied::Done));
    assert_eq!(world.state.events().len(), events, "nothing was decided");
    let kept = summary(&[(2, 50.0), (4, 20.0)]);
    assert_eq!(world.state.heat_summary(), Some(&kept), "there is no partition 99");
    let loaded = ZoneState::from_records(world.state.records()).expect("its own records");
    assert_eq!(loaded.heat_summary(), Some(&kept));

    // Ids that do not rise, as another software might send them.
    let command = Action::SummarizeHeat { summary: kept.clone() };
    let mut bytes = postcard::to_stdvec(&command).expect("it encodes");
    let second = bytes.iter().rposition(|byte| *byte == 4).expect("partition 4");
    bytes[second] = 1;
    let unordered = postcard::from_bytes(&bytes).expect("it decodes");
    let refused = world.apply(unordered).expect_err("no summary");
    assert!(matches!(&refused, Refusal::InvalidHeatSummary(_)), "{refused}");
    assert!(refused.to_string().contains("ids must rise"), "{refused}");
    assert_eq!(world.state.heat_summary(), Some(&kept));
}
