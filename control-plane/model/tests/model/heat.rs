//! Load by partition and by node: that it is right for what was reported, and that each word counts once.

use std::time::Duration;

use model::{
    Incarnation, NodeId, PartitionId, ReplicaId, Term,
    heat::{HotKey, LoadReport, Rates, ZoneHeat},
};
use proptest::prelude::*;

const FIRST: Incarnation = Incarnation(1);

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// So many reads in a second.
fn reads(term: u64, reads: u64) -> LoadReport {
    LoadReport { term: Term(term), interval_ms: 1_000, reads, ..LoadReport::default() }
}

fn heat(nodes: u64) -> ZoneHeat {
    let mut heat = ZoneHeat::default();
    (1..=nodes).for_each(|node| heat.session_opened(NodeId(node), FIRST, at(0)));
    heat
}

fn say(heat: &mut ZoneHeat, node: u64, partition: u64, report: LoadReport, ms: u64) -> bool {
    heat.report(NodeId(node), FIRST, PartitionId(partition), report, at(ms))
}

/// Short and long reads per second of a partition.
fn reads_of(heat: &ZoneHeat, partition: u64, ms: u64) -> (f64, f64) {
    let load = heat.of_partition(PartitionId(partition), at(ms)).unwrap();
    (load.short.reads_per_second, load.long.reads_per_second)
}

fn reads_on(heat: &ZoneHeat, node: u64, ms: u64) -> (f64, f64) {
    let load = heat.of_node(NodeId(node), at(ms)).unwrap();
    (load.short.reads_per_second, load.long.reads_per_second)
}

#[track_caller]
fn about(found: f64, expected: f64) {
    let off = (found - expected).abs();
    assert!(off <= 1e-4 * expected.abs().max(1.0), "{found} instead of {expected}");
}

#[test]
fn averages_move_by_half_in_their_half_lives() {
    let mut heat = heat(1);
    assert!(say(&mut heat, 1, 7, reads(1, 100), 1_000));
    assert!(say(&mut heat, 1, 7, reads(1, 0), 2_000));
    // From there on nothing, without a further word.
    let (short, long) = reads_of(&heat, 7, 11_000);
    about(short, 50.0);
    about(long, 100.0 * (-10.0_f64 / 300.0).exp2());
    let (short, long) = reads_of(&heat, 7, 301_000);
    about(short, 100.0 * (-30.0_f64).exp2());
    about(long, 50.0);
    assert_eq!(reads_on(&heat, 1, 301_000).1.round(), 50.0);
}

#[test]
fn what_is_not_reported_goes_on_until_its_session_ends() {
    let mut heat = heat(1);
    say(&mut heat, 1, 7, reads(1, 100), 1_000);
    about(reads_of(&heat, 7, 31_000).0, 100.0);
    about(reads_on(&heat, 1, 31_000).0, 100.0);
    assert!(heat.of_node(NodeId(1), at(31_000)).unwrap().reported);
    heat.session_closed(NodeId(1), at(31_000));
    about(reads_of(&heat, 7, 51_000).0, 25.0);
    about(reads_on(&heat, 1, 51_000).0, 25.0);
    assert!(!heat.of_node(NodeId(1), at(51_000)).unwrap().reported);
    assert!(!say(&mut heat, 1, 7, reads(1, 100), 52_000), "it has no session");
    assert!(heat.of_node(NodeId(2), at(0)).is_none());
}

#[test]
fn a_long_report_is_as_exact_as_many_short_ones() {
    let (mut often, mut seldom) = (heat(1), heat(1));
    say(&mut often, 1, 7, reads(1, 100), 1_000);
    say(&mut seldom, 1, 7, reads(1, 100), 1_000);
    for second in 2..=31 {
        say(&mut often, 1, 7, reads(1, 40), second * 1_000);
    }
    let report = LoadReport { interval_ms: 30_000, ..reads(1, 30 * 40) };
    say(&mut seldom, 1, 7, report, 31_000);
    let (often, seldom) = (reads_of(&often, 7, 31_000), reads_of(&seldom, 7, 31_000));
    about(seldom.0, often.0);
    about(seldom.1, often.1);
    about(seldom.0, 40.0 + 60.0 * (-3.0_f64).exp2());
}

#[test]
fn the_load_moves_with_the_leadership_and_a_deposed_leader_says_nothing() {
    let mut heat = heat(3);
    say(&mut heat, 1, 7, reads(1, 100), 1_000);
    say(&mut heat, 1, 8, reads(1, 11), 1_000);
    assert!(say(&mut heat, 2, 7, reads(2, 100), 2_000));
    about(reads_on(&heat, 1, 2_000).0, 11.0);
    about(reads_on(&heat, 2, 2_000).0, 100.0);
    about(reads_on(&heat, 2, 2_000).1, 100.0);
    assert_eq!(heat.of_partition(PartitionId(7), at(2_000)).unwrap().leader, Some(NodeId(2)));

    assert!(!say(&mut heat, 1, 7, reads(1, 999), 3_000), "deposed");
    assert!(!say(&mut heat, 3, 7, reads(2, 999), 3_000), "another one leads in that term");
    let other_start = Incarnation(2);
    assert!(!heat.report(NodeId(2), other_start, PartitionId(7), reads(3, 999), at(3_000)));
    heat.session_opened(NodeId(2), other_start, at(3_000));
    assert!(!say(&mut heat, 2, 7, reads(3, 999), 3_000), "the process of before");
    assert!(!say(&mut heat, 9, 7, reads(9, 999), 3_000), "nobody knows it");
    let no_time = LoadReport { interval_ms: 0, ..reads(9, 999) };
    assert!(!say(&mut heat, 1, 7, no_time, 3_000), "in no time");
    about(reads_of(&heat, 7, 3_000).0, 100.0);
    about(reads_on(&heat, 1, 3_000).0, 11.0);
    about(reads_on(&heat, 3, 3_000).0, 0.0);
}

#[test]
fn of_two_leaders_in_one_term_the_one_with_the_greater_id_is_the_later_one() {
    let mut heat = heat(2);
    let of = |replica, count| LoadReport { replica: ReplicaId(replica), ..reads(4, count) };
    assert!(say(&mut heat, 1, 7, of(21, 100), 1_000));
    assert!(say(&mut heat, 2, 7, of(22, 60), 2_000));
    assert!(!say(&mut heat, 1, 7, of(21, 900), 3_000), "its last word");
    assert!(!say(&mut heat, 1, 7, of(22, 900), 3_000), "that one is elsewhere");
    about(reads_on(&heat, 1, 3_000).0, 0.0);
    assert_eq!(heat.of_partition(PartitionId(7), at(3_000)).unwrap().leader, Some(NodeId(2)));
}

#[test]
fn what_is_said_twice_counts_once() {
    let (mut once, mut twice) = (heat(1), heat(1));
    for second in 1..20 {
        for heat in [&mut once, &mut twice] {
            assert!(say(heat, 1, 7, reads(1, 100 + second), second * 1_000));
            assert!(say(heat, 1, 8, reads(1, 10), second * 1_000));
        }
        assert!(say(&mut twice, 1, 7, reads(1, 100 + second), second * 1_000));
    }
    assert_eq!(reads_of(&once, 7, 25_000), reads_of(&twice, 7, 25_000));
    about(reads_on(&twice, 1, 25_000).0, reads_on(&once, 1, 25_000).0);
}

/// The session breaks and is there again at once; before the node has said anything in it, another one leads.
#[test]
fn a_load_lasts_until_its_session_ends_also_if_a_new_one_has_begun() {
    let mut heat = heat(2);
    say(&mut heat, 1, 7, reads(1, 100), 1_000);
    heat.session_closed(NodeId(1), at(26_000));
    heat.session_opened(NodeId(1), FIRST, at(27_000));
    about(reads_of(&heat, 7, 27_000).0, 100.0 * (-0.1_f64).exp2());
    about(reads_of(&heat, 7, 36_000).0, 50.0);
    assert!(say(&mut heat, 2, 7, reads(2, 100), 28_000));
    let gap = 100.0 * (1.0 - (-0.1_f64).exp2()) * (-0.1_f64).exp2();
    about(reads_of(&heat, 7, 28_000).0, 100.0 - gap);
    // One that takes another's place ends it.
    heat.session_opened(NodeId(2), FIRST, at(58_000));
    about(reads_of(&heat, 7, 58_000).0, 100.0 - gap * (-3.0_f64).exp2());
}

#[test]
fn what_nothing_can_do_is_not_believed_and_spoils_no_sum() {
    let mut heat = heat(1);
    say(&mut heat, 1, 7, reads(1, 100), 1_000);
    let most = u64::MAX;
    let spoilt = [
        LoadReport { reads: most, ..reads(1, 0) },
        LoadReport { writes: most, ..reads(1, 0) },
        LoadReport { bytes_written: most, ..reads(1, 0) },
        LoadReport { request_cpu_us: most, ..reads(1, 0) },
        LoadReport { apply_cpu_us: most, ..reads(1, 0) },
        LoadReport { shed: most, ..reads(1, 0) },
        LoadReport { throttled: most, ..reads(1, 0) },
        LoadReport { waited_us: most, ..reads(1, 0) },
    ];
    for (partition, report) in (8..).zip(spoilt) {
        assert!(!say(&mut heat, 1, partition, report, 1_000), "partition {partition}");
    }
    assert_eq!(heat.len(), 1);
    let busy = LoadReport { bytes_read: 1 << 40, ..reads(1, 100_000_000) };
    assert!(say(&mut heat, 1, 7, busy, 2_000), "as busy as can be");
    assert!(say(&mut heat, 1, 8, reads(1, 100), 2_000));
    assert!(say(&mut heat, 1, 7, reads(1, 0), 3_000));
    let led = reads_of(&heat, 7, 900_000).0 + reads_of(&heat, 8, 900_000).0;
    about(led, 100.0);
    about(reads_on(&heat, 1, 900_000).0, led);
    // Processor time of followers is not believed either.
    heat.follower_load(NodeId(1), FIRST, 1, most, at(4_000));
    assert_eq!(heat.of_node(NodeId(1), at(4_000)).unwrap().follower_cpu_cores_long, 0.0);
}

#[test]
fn a_new_session_counts_what_is_said_in_it() {
    let mut heat = heat(1);
    say(&mut heat, 1, 7, reads(1, 100), 1_000);
    say(&mut heat, 1, 8, reads(1, 50), 1_000);
    heat.session_closed(NodeId(1), at(5_000));
    heat.session_opened(NodeId(1), FIRST, at(6_000));
    about(reads_on(&heat, 1, 6_000).0, 0.0);
    // It kept what it could not say.
    let report = LoadReport { interval_ms: 5_000, ..reads(1, 500) };
    assert!(say(&mut heat, 1, 7, report, 6_000));
    about(reads_of(&heat, 7, 6_000).0, 100.0);
    about(reads_on(&heat, 1, 6_000).0, 100.0);
    about(reads_of(&heat, 8, 15_000).0, 25.0);
}

#[test]
fn followers_cost_processor_time() {
    let mut heat = heat(1);
    heat.follower_load(NodeId(1), FIRST, 1_000, 200_000, at(1_000));
    let cpu = LoadReport { request_cpu_us: 300_000, apply_cpu_us: 100_000, ..reads(1, 1) };
    say(&mut heat, 1, 7, cpu, 1_000);
    let load = heat.of_node(NodeId(1), at(1_000)).unwrap();
    about(load.cpu_cores_short(), 0.6);
    let load = heat.of_partition(PartitionId(7), at(1_000)).unwrap();
    about(load.cpu_cores_of_all(3), 0.6);
    heat.follower_load(NodeId(1), FIRST, 10_000, 0, at(11_000));
    about(heat.of_node(NodeId(1), at(11_000)).unwrap().follower_cpu_cores_short, 0.1);
    heat.follower_load(NodeId(1), Incarnation(9), 1_000, 9_000_000, at(11_000));
    heat.follower_load(NodeId(1), FIRST, 0, 9_000_000, at(11_000));
    about(heat.of_node(NodeId(1), at(21_000)).unwrap().follower_cpu_cores_short, 0.05);
}

#[test]
fn the_hottest_are_found_among_many_that_change() {
    let mut heat = heat(4);
    let key = |share| HotKey { key_prefix: b"k".to_vec(), share, share_error: 0.1 };
    for partition in 1..=5_000_u64 {
        let report = LoadReport {
            hottest_keys: vec![key(0.5)],
            throttled: 30,
            ..reads(1, 1 + partition.wrapping_mul(2_654_435_761) % 10_007)
        };
        say(&mut heat, 1 + partition % 4, partition, report, 1_000);
    }
    let hottest = heat.hottest(1_000, at(1_000));
    assert_eq!(hottest.len(), 64);
    let mut expected: Vec<(f64, u64)> =
        (1..=5_000).map(|it| (reads_of(&heat, it, 1_000).0, it)).collect();
    expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let ids = |all: &[(PartitionId, _)]| all.iter().map(|it| it.0.get()).collect::<Vec<u64>>();
    let of_expected: Vec<u64> = expected.iter().take(64).map(|it| it.1).collect();
    assert_eq!(ids(&hottest), of_expected);
    assert_eq!(heat.hottest_keys(hottest[0].0), [key(0.5)]);
    about(heat.throttled_per_second(hottest[0].0), 30.0);
    let coldest = PartitionId(expected[4_999].1);
    about(heat.throttled_per_second(coldest), 0.0);
    assert!(heat.hottest_keys(coldest).is_empty(), "only of the hottest");

    // They cool down, and one that was never among them is the hottest, steadily, and says so seldom.
    for partition in 1..=5_000 {
        say(&mut heat, 1 + partition % 4, partition, reads(1, 0), 2_000);
    }
    let steady = LoadReport { interval_ms: 30_000, ..reads(1, 30_000) };
    say(&mut heat, 1 + coldest.get() % 4, coldest.get(), steady, 61_000);
    assert_eq!(heat.hottest(1, at(61_000))[0].0, coldest);
    assert!(heat.hottest(0, at(61_000)).is_empty());
}

#[test]
fn counts_and_times_beyond_reason_do_no_harm() {
    let mut heat = heat(1);
    let most = LoadReport {
        term: Term(u64::MAX),
        interval_ms: 1,
        reads: u64::MAX,
        writes: u64::MAX,
        bytes_read: u64::MAX,
        bytes_written: u64::MAX,
        request_cpu_us: u64::MAX,
        apply_cpu_us: u64::MAX,
        shed: u64::MAX,
        throttled: u64::MAX,
        waited_us: u64::MAX,
        stored_bytes: u64::MAX,
        ..LoadReport::default()
    };
    assert!(!say(&mut heat, 1, u64::MAX, most.clone(), 1), "not in a millisecond");
    let forever = LoadReport { interval_ms: u64::MAX, ..most };
    assert!(say(&mut heat, 1, 1, forever.clone(), u64::MAX));
    assert!(say(&mut heat, 1, u64::MAX, forever, 0), "a clock that goes back");
    heat.follower_load(NodeId(1), FIRST, 1, u64::MAX, at(u64::MAX));
    let load = heat.of_node(NodeId(1), at(u64::MAX)).unwrap();
    for rate in [load.short, load.long] {
        assert!(rate.reads_per_second.is_finite() && rate.weight().is_finite(), "{rate:?}");
    }
    assert!(load.shed_per_second.is_finite() && load.cpu_cores_long().is_finite());
    assert_eq!(heat.len(), 2);
}

/// One thing that happens, with how long after the one before.
#[derive(Clone, Debug)]
enum Happens {
    Report { node: u64, partition: u64, newer_term: bool, interval_ms: u64, reads: u64 },
    Reopen { node: u64 },
    Close { node: u64 },
}

fn happens() -> impl Strategy<Value = (u64, Happens)> {
    let report = (1..4_u64, 1..6_u64, prop::bool::weighted(0.3), 1..5_000_u64, 0..10_000_u64);
    let report = report.prop_map(|(node, partition, newer_term, interval_ms, reads)| {
        Happens::Report { node, partition, newer_term, interval_ms, reads }
    });
    let what = prop_oneof![
        20 => report,
        1 => (1..4_u64).prop_map(|node| Happens::Reopen { node }),
        1 => (1..4_u64).prop_map(|node| Happens::Close { node }),
    ];
    (0..3_000_u64, what)
}

proptest! {
    /// A steady load is told exactly, however its reports are cut, and from wherever the averages come.
    #[test]
    fn a_steady_load_converges(
        first in 0..100_000_u64,
        per_second in 1..100_000_u64,
        cuts in prop::collection::vec(1..30_u64, 400..420),
    ) {
        let mut heat = heat(1);
        say(&mut heat, 1, 7, reads(1, first), 1_000);
        let mut now = 1_000;
        for seconds in cuts {
            now += seconds * 1_000;
            let interval_ms = seconds * 1_000;
            let report = LoadReport { interval_ms, ..reads(1, seconds * per_second) };
            say(&mut heat, 1, 7, report, now);
        }
        let (short, long) = reads_of(&heat, 7, now + 500);
        #[allow(clippy::cast_precision_loss)]
        let (expected, first) = (per_second as f64, first as f64);
        #[allow(clippy::cast_precision_loss)]
        let left = (-(now as f64 / 1_000.0 - 1.0) / 300.0).exp2() * (first - expected).abs();
        prop_assert!((short - expected).abs() <= 1e-3 * expected, "{short} of {expected}");
        prop_assert!((long - expected).abs() <= left * 1.01 + 1e-3 * expected, "{long} of {expected}");
        prop_assert!((reads_on(&heat, 1, now + 500).0 - short).abs() <= 1e-3 * expected);
    }

    /// Nodes' messages overtake each other: what they say of their own partitions comes to the same.
    #[test]
    fn the_order_of_different_nodes_reports_does_not_matter(
        counts in prop::collection::vec(0..1_000_000_u64, 30),
        order in Just((0..30_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let (mut forth, mut mixed) = (heat(3), heat(3));
        for round in 1..4_u64 {
            let tell = |heat: &mut ZoneHeat, index: usize| {
                let node = 1 + index as u64 % 3;
                say(heat, node, 1 + index as u64, reads(1, counts[index]), round * 1_000)
            };
            for (index, other) in order.iter().enumerate() {
                prop_assert!(tell(&mut forth, index));
                prop_assert!(tell(&mut mixed, *other));
            }
        }
        for partition in 1..=30 {
            prop_assert_eq!(reads_of(&forth, partition, 9_000), reads_of(&mixed, partition, 9_000));
        }
        for node in 1..=3 {
            let (forth, mixed) = (reads_on(&forth, node, 9_000), reads_on(&mixed, node, 9_000));
            prop_assert!((forth.0 - mixed.0).abs() <= 1e-6 * forth.0);
            prop_assert!((forth.1 - mixed.1).abs() <= 1e-6 * forth.1);
        }
        prop_assert_eq!(forth.hottest(64, at(9_000)), mixed.hottest(64, at(9_000)));
    }

    /// Whatever is reported and whoever leads: the sums of the nodes are the sums over what each leads, no
    /// load is in two places, and nothing is negative.
    #[test]
    fn a_nodes_load_is_the_sum_of_what_it_leads(
        story in prop::collection::vec(happens(), 1..120),
    ) {
        let mut heat = heat(3);
        let mut now = 1_000;
        let mut terms = [0_u64; 6];
        let mut leaders = [0_u64; 6];
        // Whether what is known of a partition was said in its leader's present session.
        let mut is_current = [false; 6];
        let mut is_open = [true; 4];
        for (pause, what) in story {
            now += pause;
            match what {
                Happens::Report { node, partition, newer_term, interval_ms, reads: count } => {
                    let index = usize::try_from(partition).unwrap();
                    let term = terms[index] + u64::from(newer_term || terms[index] == 0);
                    let report = LoadReport { interval_ms, ..reads(term, count) };
                    let counts = say(&mut heat, node, partition, report, now);
                    let open = is_open[usize::try_from(node).unwrap()];
                    let leads = term > terms[index] || leaders[index] == node;
                    prop_assert_eq!(counts, open && leads);
                    if counts {
                        (terms[index], leaders[index], is_current[index]) = (term, node, true);
                    }
                }
                Happens::Reopen { node } => {
                    heat.session_opened(NodeId(node), FIRST, at(now));
                    is_open[usize::try_from(node).unwrap()] = true;
                    for index in (1..6).filter(|index| leaders[*index] == node) {
                        is_current[index] = false;
                    }
                }
                Happens::Close { node } => {
                    heat.session_closed(NodeId(node), at(now));
                    is_open[usize::try_from(node).unwrap()] = false;
                }
            }
            for node in 1..=3 {
                let led = (1..6).filter(|index| leaders[*index] == node && is_current[*index]);
                let sum = led.fold((0.0, 0.0), |sum, index| {
                    let (short, long) = reads_of(&heat, index as u64, now + 700);
                    (sum.0 + short, sum.1 + long)
                });
                let found = reads_on(&heat, node, now + 700);
                prop_assert!(found.0 >= 0.0 && found.1 >= 0.0);
                // Ten million reads per second are the most that can be said here.
                prop_assert!((found.0 - sum.0).abs() <= 1e-3 + 1e-5 * sum.0, "{found:?} {sum:?}");
                prop_assert!((found.1 - sum.1).abs() <= 1e-3 + 1e-5 * sum.1, "{found:?} {sum:?}");
            }
        }
    }
}

#[test]
fn what_weighs_is_what_costs() {
    let rates = |reads_per_second, bytes_per_second, request_cpu_cores| Rates {
        reads_per_second,
        bytes_per_second,
        request_cpu_cores,
        ..Rates::default()
    };
    about(rates(3.0, 0.0, 0.0).weight(), 3.0);
    about(rates(0.0, 32_768.0, 0.0).weight(), 2.0);
    about(rates(0.0, 0.0, 0.5).weight(), 10_000.0);
}
