//! Recorded rounds, judged again. The logs in `signals/` were recorded from the situations below; beside each
//! of them is what the detector makes of it, in words. `UPDATE_EXPECTED=1` writes both anew: read the
//! difference.

use std::{fmt::Write as _, fs, path::PathBuf};

use model::{
    Incarnation, NodeId,
    detector::{Judgement, Memory},
    node::NodeState,
    observation::Heartbeat,
    signal_log::{Entry, FORMAT, ReplayError, SignalLog, SignalLogOptions, replay},
    signals::SignalRound,
};
use proptest::{collection::vec, prelude::*};

use crate::bench::{Bench, at};

/// A node is frozen in the middle of its work: its session stays open, its peers lose it, and after a while
/// it goes on as if nothing had been.
fn freeze() -> Bench {
    let mut bench = Bench::sharing(4, &["a", "b", "c", "d"]);
    bench.run(100, 2_000, &[1, 2, 3, 4]);
    bench.run(2_100, 2_700, &[1, 2, 4]);
    bench.complain(2_800, 6_000, &[1, 2, 4], &[1, 2, 4], &[3]);
    bench.run(6_100, 8_000, &[1, 2, 3, 4]);
    bench
}

/// A node dies and comes back again and again.
fn flap() -> Bench {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    bench.run(100, 1_000, &[1, 2, 3, 4]);
    let mut now = 1_000;
    for _ in 0..3 {
        bench.view.session_closed(NodeId(2), at(now + 1));
        bench.judge(now + 2);
        bench.view.dial_refused(NodeId(2), at(now + 4));
        bench.judge(now + 5);
        bench.run(now + 100, now + 1_000, &[1, 3, 4]);
        bench.view.session_opened(NodeId(2), Incarnation(1), at(now + 1_010));
        bench.run(now + 1_100, now + 4_000, &[1, 2, 3, 4]);
        now += 4_000;
    }
    bench.run(now + 100, now + 10_000, &[1, 2, 3, 4]);
    bench
}

/// All machines have far too much to do, the leader's own too: heartbeats come when they can, syncs take
/// long, tasks wait, nodes lose sight of each other, and rounds come late.
fn saturation() -> Bench {
    let mut bench = Bench::sharing(4, &["a", "b", "c", "d", "e"]);
    bench.run(100, 1_000, &[1, 2, 3, 4, 5]);
    // Heartbeats of each node after so many milliseconds, the nodes out of step.
    let gaps = [130, 460, 90, 700, 220, 880, 40, 310, 610];
    let mut next: Vec<u64> = (0..5).map(|node| 1_000 + 90 * node).collect();
    let (mut ms, mut round) = (1_000, 0_usize);
    while ms < 13_000 {
        // From one round to the next it takes 100 ms, and now and then half a second and more.
        ms += if round % 17 == 16 { 620 } else { 100 };
        round += 1;
        for (node, next) in (1..=5_u64).zip(&mut next) {
            while *next <= ms {
                let turn = usize::try_from(*next / 10 + node).expect("small");
                let lost = (turn % 5 == 0).then_some(NodeId(node % 5 + 1));
                let heartbeat = Heartbeat {
                    disk_sync_ms: 200 + 40 * node,
                    runtime_lag_ms: 350 + 60 * node,
                    unreachable: lost.into_iter().collect(),
                    ..Heartbeat::default()
                };
                bench.view.heartbeat(NodeId(node), heartbeat, at(*next));
                *next += gaps[turn % gaps.len()];
            }
        }
        bench.judge(ms);
    }
    bench.run(ms + 100, ms + 6_000, &[1, 2, 3, 4, 5]);
    bench
}

fn path(name: &str, extension: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/model/signals");
    folder.join(name).with_extension(extension)
}

fn lines(log: &SignalLog) -> String {
    log.entries().fold(String::new(), |mut text, entry| {
        text.push_str(&serde_json::to_string(&entry).expect("plain data"));
        text.push('\n');
        text
    })
}

fn entries(text: &str) -> Vec<Entry> {
    text.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect()
}

fn recorded(entries: &[Entry]) -> Vec<(SignalRound, Judgement)> {
    entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Begin { .. } => None,
            Entry::Round { round, judgement } => Some((round.clone(), judgement.clone())),
        })
        .collect()
}

/// What was found, in words.
fn transcript(rounds: &[SignalRound], judgements: &[Judgement]) -> String {
    let mut text = String::new();
    for (round, judgement) in rounds.iter().zip(judgements) {
        let seconds = round.at().as_secs_f64();
        for conclusion in &judgement.conclusions {
            let before = round.node(conclusion.node).expect("judged").state;
            let account = if conclusion.by_own_account { " by its own account" } else { "" };
            writeln!(
                text,
                "{seconds:.3} s: node {} is {}{account}, and was {before}: {}",
                conclusion.node, conclusion.state, conclusion.evidence
            )
            .expect("to a string");
        }
        if let Some(brake) = &judgement.brake {
            let verb = if brake.engaged { "engaged" } else { "released" };
            writeln!(text, "{seconds:.3} s: the brake is {verb}: {}", brake.reason)
                .expect("to a string");
        }
    }
    let dials: usize = judgements.iter().map(|judgement| judgement.probe.len()).sum();
    writeln!(text, "{} rounds, {dials} dials", rounds.len()).expect("to a string");
    text
}

/// The transcript of a recorded log, which is as expected.
fn check(name: &str, situation: fn() -> Bench) -> String {
    let is_update = std::env::var_os("UPDATE_EXPECTED").is_some_and(|value| value == "1");
    let log = lines(&situation().log);
    if is_update {
        fs::write(path(name, "jsonl"), &log).expect("written");
    }
    let text = fs::read_to_string(path(name, "jsonl")).expect("recorded");
    let entries = entries(&text);
    let (rounds, found): (Vec<_>, Vec<_>) = recorded(&entries).into_iter().unzip();
    let judgements = replay(entries).expect("a log");
    let transcript = transcript(&rounds, &judgements);
    if is_update {
        fs::write(path(name, "txt"), &transcript).expect("written");
    }
    let expected = fs::read_to_string(path(name, "txt")).expect("expected");
    assert_eq!(transcript, expected, "{name}: UPDATE_EXPECTED=1 writes it anew");
    assert!(judgements == found, "{name}: what is found again is what was found then");
    assert!(
        text == log,
        "{name}: the situation gives another log; UPDATE_EXPECTED=1 writes it anew"
    );
    transcript
}

#[test]
fn a_frozen_node_is_suspect_by_its_peers_and_up_again() {
    let transcript = check("freeze", freeze);
    assert!(
        transcript.contains("node 3 is suspect, and was up: no heartbeat for 8"),
        "{transcript}"
    );
    assert!(!transcript.contains("down"), "{transcript}");
}

#[test]
fn a_flapping_node_comes_back_more_and_more_slowly() {
    let transcript = check("flap", flap);
    assert_eq!(transcript.matches("node 2 is down").count(), 3, "{transcript}");
    assert!(transcript.contains("node 2 is recovering"), "{transcript}");
}

#[test]
fn where_all_are_saturated_nobody_is_called_down_or_slow() {
    let transcript = check("saturation", saturation);
    assert!(!transcript.contains("is down") && !transcript.contains("is slow"), "{transcript}");
    assert!(transcript.contains("the brake is engaged: the judge ran late"), "{transcript}");
}

#[test]
fn what_is_no_log_is_refused() {
    let bench = freeze();
    let all: Vec<Entry> = bench.log.entries().collect();
    let begin = all[0].clone();
    let round = |at_us, nodes: &[usize]| {
        let Entry::Round { round, judgement } = &all[1] else { panic!("a round") };
        let nodes = nodes.iter().map(|node| round.nodes[*node].clone()).collect();
        let round = SignalRound { at_us, nodes, ..round.clone() };
        Entry::Round { round, judgement: judgement.clone() }
    };
    assert_eq!(replay([]), Err(ReplayError::NoBeginning));
    assert_eq!(replay([round(1, &[0])]), Err(ReplayError::NoBeginning));
    let twice = [begin.clone(), round(7, &[0]), begin.clone()];
    assert_eq!(replay(twice), Err(ReplayError::SecondBeginning { at_us: 7 }));
    let Entry::Begin { options, memory, .. } = begin.clone() else { panic!("a beginning") };
    let found = FORMAT + 1;
    let other = Entry::Begin { format: found, options, memory };
    assert_eq!(replay([other]), Err(ReplayError::UnknownFormat { found }));
    let back = [begin.clone(), round(7, &[0]), round(6, &[0])];
    assert_eq!(replay(back), Err(ReplayError::OutOfOrder { at_us: 6, before_us: 7 }));
    for nodes in [&[1, 0], &[1, 1]] {
        let unordered = [begin.clone(), round(7, nodes)];
        assert_eq!(replay(unordered), Err(ReplayError::UnorderedNodes { at_us: 7 }));
    }
    assert_eq!(replay([begin, round(7, &[0, 1])]).map(|judgements| judgements.len()), Ok(1));
}

#[test]
fn of_quiet_rounds_one_per_second_is_kept() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    bench.run(100, 30_000, &[1, 2, 3, 4]);
    assert!((30..=32).contains(&bench.log.len()), "{}", bench.log.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens, and however much is forgotten: what is left is judged again as it was.
    #[test]
    fn what_is_judged_again_is_judged_the_same(
        steps in vec((0_u64..5, 1_u64..7, 0_u8..10), 1..250),
        rounds_max in 1_usize..100,
        bytes_max in 2_000_usize..60_000,
    ) {
        let mut bench = Bench::sharing(2, &["a", "a", "b", "c"]);
        let options = SignalLogOptions { rounds_max, bytes_max, ..SignalLogOptions::default() };
        bench.log = SignalLog::new(options, &bench.detector);
        let mut ms = 0;
        for (node, hundreds, what) in steps {
            ms += hundreds * 100;
            let id = NodeId(node.max(1));
            match what {
                0 => bench.view.session_closed(id, at(ms)),
                1 => bench.view.session_opened(id, Incarnation(1), at(ms)),
                2 => bench.view.dial_refused(id, at(ms)),
                _ => {}
            }
            for other in (1..=4).filter(|other| *other != node) {
                let heartbeat = Heartbeat {
                    unreachable: if what > 5 { vec![id] } else { Vec::new() },
                    disk_sync_ms: if what == 4 && other == 2 { 900 } else { 3 },
                    ..Heartbeat::default()
                };
                bench.view.heartbeat(NodeId(other), heartbeat, at(ms));
            }
            bench.judge(ms);
            prop_assert!(bench.log.len() <= rounds_max);
            prop_assert!(bench.log.bytes() <= bytes_max);
        }
        let read = entries(&lines(&bench.log));
        let (_, found): (Vec<_>, Vec<_>) = recorded(&read).into_iter().unzip();
        prop_assert_eq!(found.len(), bench.log.len());
        prop_assert_eq!(replay(read).expect("a log"), found);
    }
}

/// The memory matters: without it, a log that has lost its beginning is judged otherwise.
#[test]
fn a_log_that_has_lost_its_beginning_goes_on_from_what_was_remembered() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    bench.log = SignalLog::new(
        SignalLogOptions { rounds_max: 40, ..SignalLogOptions::default() },
        &bench.detector,
    );
    bench.run(100, 1_000, &[1, 2, 3, 4]);
    bench.run(1_100, 60_000, &[1, 2, 3]);
    assert_eq!(bench.state(4), NodeState::Down);
    // Well for ten minutes: what is forgotten then was remembered before the log begins.
    bench.run(60_100, 670_000, &[1, 2, 3, 4]);
    let mut all: Vec<Entry> = bench.log.entries().collect();
    let found: Vec<Judgement> =
        recorded(&all).into_iter().map(|(_, judgement)| judgement).collect();
    assert!(found.iter().any(|judgement| !judgement.conclusions.is_empty()), "it is forgiven");
    assert_eq!(replay(all.clone()).as_ref(), Ok(&found));
    if let Entry::Begin { memory, .. } = &mut all[0] {
        *memory = Memory::default();
    }
    assert_ne!(replay(all).as_ref(), Ok(&found));
}
