//! Heartbeats and how they come: patience that follows from it.

use std::{collections::VecDeque, time::Duration};

use model::{
    NodeId,
    accrual::{Arrivals, GAPS_MIN, Rhythm, WINDOW},
    event::EventKind,
    node::NodeState,
    observation::Heartbeat,
};
use proptest::{collection::vec, prelude::*};

use crate::bench::{Bench, at};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn arrivals(gaps_ms: &[u64]) -> Arrivals {
    let (mut arrivals, mut now) = (Arrivals::default(), ms(5));
    arrivals.heard(now);
    for gap in gaps_ms {
        now += ms(*gap);
        arrivals.heard(now);
    }
    arrivals
}

fn rhythm(gaps_ms: &[u64]) -> Rhythm {
    arrivals(gaps_ms).rhythm().expect("enough gaps")
}

/// A zone of three that share partitions, in which node 3 is heard at its own moments, and the others
/// every 100 ms.
struct Course {
    bench: Bench,
    now_ms: u64,
    /// Node 3 was heard last.
    heard_ms: u64,
    /// The others say that they have lost node 3.
    complain: bool,
}

impl Course {
    fn new(gaps_ms: &[u64]) -> Self {
        let bench = Bench::sharing(4, &["a", "b", "c"]);
        let mut course = Self { bench, now_ms: 0, heard_ms: 0, complain: false };
        course.hear(gaps_ms);
        course
    }

    /// Node 3 is heard after each of the gaps.
    fn hear(&mut self, gaps_ms: &[u64]) {
        for gap in gaps_ms {
            while self.now_ms + 10 < self.heard_ms + gap {
                self.step();
            }
            self.heard_ms += gap;
            self.bench.view.heartbeat(NodeId(3), Heartbeat::default(), at(self.heard_ms));
        }
    }

    /// Ten milliseconds.
    fn step(&mut self) {
        self.now_ms += 10;
        if self.now_ms.is_multiple_of(100) {
            let lost = if self.complain { vec![NodeId(3)] } else { Vec::new() };
            for id in [1, 2] {
                let heartbeat = Heartbeat { unreachable: lost.clone(), ..Heartbeat::default() };
                self.bench.view.heartbeat(NodeId(id), heartbeat, at(self.now_ms));
            }
        }
        self.bench.judge(self.now_ms);
    }

    /// How long node 3 may be silent until it is suspect, in milliseconds.
    fn patience(&mut self) -> u64 {
        while self.bench.state(3) == NodeState::Up {
            assert!(self.now_ms < self.heard_ms + 20_000, "it is patient for ever");
            self.step();
        }
        self.now_ms - self.heard_ms
    }

    fn was_never_suspect(&self) -> bool {
        let mut events = self.bench.world.state.events().iter();
        events.all(|(_, event)| event.kind != EventKind::NodeSuspect)
    }
}

fn patience(gaps_ms: &[u64], complain: bool) -> u64 {
    let mut course = Course::new(gaps_ms);
    course.complain = complain;
    course.patience()
}

#[test]
fn patience_follows_from_how_heartbeats_come() {
    let steady = [100; 64];
    let jittery: Vec<u64> = (0..64).map(|n| [20, 350, 60, 30, 240, 80, 20, 300][n % 8]).collect();
    let wild: Vec<u64> = (0..64).map(|n| [10, 900, 20, 20, 1_400, 30][n % 6]).collect();
    assert_eq!(patience(&[], true), 610, "nothing is known: as it was always");
    assert_eq!(patience(&[], false), 1_500);
    let with_peers = [&steady[..], &jittery, &wild].map(|gaps| patience(gaps, true));
    let alone = [&steady[..], &jittery, &wild].map(|gaps| patience(gaps, false));
    assert!((300..=350).contains(&with_peers[0]), "{with_peers:?}");
    assert!((600..=1_500).contains(&with_peers[1]), "{with_peers:?}");
    assert!(with_peers[2] > 1_500, "{with_peers:?}");
    assert_eq!(alone[0], 1_000, "a process may pause");
    assert!((1_000..=1_500).contains(&alone[1]), "{alone:?}");
    assert_eq!(alone[2], 3_000, "there is an end to it");
}

#[test]
fn a_silence_is_told_with_what_it_is_measured_by() {
    let mut course = Course::new(&[101; 64]);
    course.patience();
    let expected = "no heartbeat for 1006 ms (φ 1935.3, usually every 101 ms)";
    let told = course.bench.liveness(3).evidence.clone();
    assert!(told.starts_with("no heartbeat for 10"), "{told}, and {expected}");
    assert!(told.ends_with(", usually every 101 ms)"), "{told}, and {expected}");
    let node = course.bench.view.node(NodeId(3)).expect("heard");
    let phi = node.phi(at(course.now_ms)).expect("enough heartbeats");
    assert!(told.contains(&format!("(φ {phi:.1}, ")), "{told}, and φ is {phi}");
    assert_eq!(node.phi(at(course.heard_ms)).map(|phi| phi < 0.1), Some(true));
}

#[test]
fn a_new_session_begins_anew() {
    let mut course = Course::new(&[100; 64]);
    course.bench.view.session_opened(NodeId(3), model::Incarnation(1), at(course.heard_ms));
    let node = course.bench.view.node(NodeId(3)).expect("heard");
    assert_eq!(node.phi(at(course.heard_ms + 500)), None);
    assert_eq!(course.patience(), 1_500);
}

#[test]
fn phi_is_as_the_paper_defines_it() {
    // A clockwork of 100 ms: one more gap is granted, and the deviation is taken as 20 ms.
    let steady = rhythm(&[100; 64]);
    let phi = |silence| steady.phi(ms(silence));
    assert!((phi(200) - 2_f64.log10()).abs() < 1e-9, "an even chance: {}", phi(200));
    // The normal distribution's tail beyond two and three deviations is 2.3 % and 0.13 %.
    assert!((phi(240) - 1.64).abs() < 0.02, "{}", phi(240));
    assert!((phi(260) - 2.87).abs() < 0.05, "{}", phi(260));
    assert!(phi(u64::from(u32::MAX)).is_finite());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn phi_rises_with_the_silence(
        gaps in vec(0_u64..2_500, 20..200),
        silences in vec(0_u64..60_000, 2..20),
    ) {
        let Some(rhythm) = arrivals(&gaps).rhythm() else { return Ok(()) };
        let mut silences = silences;
        silences.sort_unstable();
        let phis: Vec<f64> = silences.iter().map(|silence| rhythm.phi(ms(*silence))).collect();
        prop_assert!(phis.iter().all(|phi| phi.is_finite() && *phi >= 0.0), "{:?}", phis);
        prop_assert!(phis.is_sorted(), "{:?}", phis);
        let long = rhythm.phi(ms(3_600_000));
        prop_assert!(long > 8.0, "in the end there is no doubt: {}", long);
    }

    /// The window is what a naive one would be, and as small.
    #[test]
    fn the_window_holds_the_latest_gaps_and_no_more(gaps in vec(0_u64..2_100, 0..400)) {
        let mut naive = VecDeque::new();
        for gap in gaps.iter().filter(|gap| **gap <= 2_000) {
            naive.push_back(*gap);
            if naive.len() > WINDOW {
                naive.pop_front();
            }
        }
        let expected = (naive.len() >= GAPS_MIN).then(|| Rhythm {
            gaps: u16::try_from(naive.len()).expect("few"),
            sum_ms: u32::try_from(naive.iter().sum::<u64>()).expect("small"),
            sum_of_squares: naive.iter().map(|gap| gap * gap).sum(),
            longest_ms: u16::try_from(*naive.iter().max().expect("some")).expect("small"),
        });
        let arrivals = arrivals(&gaps);
        prop_assert_eq!(arrivals.rhythm(), expected);
        prop_assert_eq!(arrivals.rhythm(), arrivals.clone().rhythm());
    }

    /// Whoever keeps to the range of gaps that was seen before is never suspect, even if peers complain.
    #[test]
    fn what_was_seen_before_is_no_reason_for_suspicion(
        longest in 120_u64..1_400,
        shares in vec(0.0_f64..=1.0, 60),
    ) {
        let mut course = Course::new(&[longest; 10]);
        course.complain = true;
        for share in &shares {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let gap = 10 + (share * (longest - 10) as f64) as u64;
            course.hear(&[gap.min(longest)]);
        }
        prop_assert!(course.was_never_suspect());
    }

    /// Two heartbeats in a row may be lost on the way although peers complain, and nine if none does.
    #[test]
    fn a_late_heartbeat_is_nothing(
        jitter in vec(90_u64..=110, 64),
        late in 100_u64..290,
        later in 290_u64..990,
    ) {
        let mut course = Course::new(&jitter);
        course.complain = true;
        course.hear(&[late]);
        course.hear(&jitter);
        course.complain = false;
        // What they said last must be gone before it is late again.
        course.hear(&[100, 100, later, 100]);
        prop_assert!(course.was_never_suspect());
    }

    /// The more heartbeats stray, the more patience; never more than the limit, nor less than the floor.
    #[test]
    fn jitter_makes_patient(stray in 0_u64..90) {
        let gaps = |stray: u64| (0..64).map(move |n| if n % 2 == 0 { 100 + stray } else { 100 - stray });
        let less = rhythm(&gaps(stray).collect::<Vec<_>>());
        let more = rhythm(&gaps(stray + 10).collect::<Vec<_>>());
        for silence in [300, 500, 1_000] {
            prop_assert!(more.phi(ms(silence)) <= less.phi(ms(silence)));
        }
        let patience = patience(&gaps(stray).collect::<Vec<_>>(), true);
        prop_assert!((300..=1_500).contains(&patience), "{}", patience);
    }
}
