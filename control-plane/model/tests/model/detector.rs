//! The failure detector and its brake.

use std::collections::BTreeMap;

use model::{
    Action, Incarnation, NodeId, ZoneView, detector::PROBED_AT_ONCE_MAX, node::NodeState,
    observation::Heartbeat,
};
use proptest::prelude::*;

use crate::bench::{Bench, at};

#[test]
fn one_late_heartbeat_is_nothing_and_silence_is_suspect_then_down() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    bench.run(100, 1_400, &[1, 2, 3]);
    assert_eq!(bench.state(4), NodeState::Up);
    bench.run(1_500, 1_600, &[1, 2, 3]);
    assert_eq!(bench.state(4), NodeState::Suspect);
    bench.run(1_700, 9_900, &[1, 2, 3]);
    assert_eq!(bench.state(4), NodeState::Suspect);
    bench.run(10_000, 10_100, &[1, 2, 3]);
    assert_eq!(bench.state(4), NodeState::Down);
    assert!(bench.world.state.brake().is_none(), "one node of four is no reason to brake");
    bench.run(10_200, 10_300, &[1, 2, 3, 4]);
    assert_eq!(bench.state(4), NodeState::Up);
}

#[test]
fn a_late_node_that_most_of_its_peers_have_lost_is_suspect_sooner_and_not_down() {
    let mut bench = Bench::sharing(4, &["a", "b", "c"]);
    bench.complain(100, 600, &[1, 2], &[1, 2], &[3]);
    assert_eq!(bench.state(3), NodeState::Up, "no later than a peer may be");
    bench.complain(700, 700, &[1, 2], &[1, 2], &[3]);
    assert_eq!(bench.state(3), NodeState::Suspect);
    let evidence = bench.world.state.node(NodeId(3)).expect("there").liveness.evidence.clone();
    assert_eq!(evidence, "no heartbeat for 700 ms; nodes 1, 2 cannot reach it either");
    bench.complain(800, 9_900, &[1, 2], &[1, 2], &[3]);
    assert_eq!(bench.state(3), NodeState::Suspect, "peers alone never call a node down");
    bench.complain(10_000, 10_000, &[1, 2, 3], &[1, 2], &[3]);
    assert_eq!(bench.state(3), NodeState::Up, "its own word counts most");
    bench.complain(10_100, 20_000, &[1, 2, 3], &[1, 2], &[3]);
    assert_eq!(bench.state(3), NodeState::Up);
}

#[test]
fn one_peer_of_several_or_a_peer_that_is_late_itself_proves_nothing() {
    // One of two.
    let mut bench = Bench::sharing(4, &["a", "b", "c"]);
    bench.complain(100, 1_400, &[1, 2], &[2], &[3]);
    assert_eq!(bench.state(3), NodeState::Up);
    bench.complain(1_500, 1_500, &[1, 2], &[2], &[3]);
    assert_eq!(bench.state(3), NodeState::Suspect, "its lateness does, in the end");
    // Both, but one of them is not heard any more: what it said last may be its own fault.
    let mut bench = Bench::sharing(4, &["a", "b", "c"]);
    bench.complain(100, 100, &[1, 2], &[1, 2], &[3]);
    bench.complain(200, 1_400, &[1], &[1], &[3]);
    assert_eq!(bench.state(3), NodeState::Up);
    // The only other one that has a session.
    let mut bench = Bench::sharing(4, &["a", "b", "c"]);
    bench.view.session_closed(NodeId(2), at(50));
    bench.complain(100, 700, &[1], &[1], &[3]);
    assert_eq!(bench.state(3), NodeState::Suspect);
    // Those that share nothing with it have no say.
    let mut bench = Bench::sharing(1, &["a", "b", "c", "d", "e", "f", "g"]);
    let (_, partition) = bench.world.state.partitions().first().expect("one");
    let holders: Vec<u64> = partition.nodes().iter().map(|node| node.get()).collect();
    let others: Vec<u64> = (1..=7).filter(|node| *node != holders[0]).collect();
    let strangers: Vec<u64> =
        others.iter().copied().filter(|node| !holders.contains(node)).collect();
    bench.complain(100, 1_000, &others, &strangers, &holders[..1]);
    assert_eq!(bench.state(holders[0]), NodeState::Up);
    bench.complain(1_100, 1_100, &others, &holders[1..], &holders[..1]);
    assert_eq!(bench.state(holders[0]), NodeState::Suspect);
}

#[test]
fn a_judge_that_ran_late_does_not_believe_peers_about_lateness() {
    let mut bench = Bench::sharing(4, &["a", "b", "c", "d"]);
    bench.complain(100, 100, &[1, 2, 3], &[1, 2, 3], &[4]);
    for id in 1..=3 {
        let heartbeat = Heartbeat { unreachable: vec![NodeId(4)], ..Heartbeat::default() };
        bench.view.heartbeat(NodeId(id), heartbeat, at(900));
    }
    assert_eq!(bench.judge(900).conclusions, Vec::new());
}

#[test]
fn one_conclusion_is_enough_for_a_process_that_is_gone() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    bench.view.session_closed(NodeId(2), at(50));
    assert_eq!(bench.judge(51).conclusions, Vec::new());
    bench.view.dial_refused(NodeId(2), at(52));
    let conclusions = bench.judge(53).conclusions;
    assert_eq!(conclusions.len(), 1);
    assert_eq!(conclusions[0].state, NodeState::Down);
    // Its connections end before it stops listening: it is dialled again soon, for a while.
    bench.view.session_closed(NodeId(3), at(60));
    let mut dialled = Vec::new();
    for ms in 60..260 {
        let judgement = bench.judge(ms);
        if judgement.probe == [NodeId(3)] {
            bench.view.dial_answered(NodeId(3));
            dialled.push(ms);
        }
        assert_eq!(judgement.is_urgent, ms < 160, "at {ms} ms");
    }
    assert_eq!(dialled[..4], [60, 65, 70, 75]);
    assert_eq!(dialled.len(), 20, "{dialled:?}");
    assert_eq!(bench.state(3), NodeState::Suspect);
}

#[test]
fn however_many_have_no_session_few_are_dialled_at_once_and_none_is_forgotten() {
    const NODES: u64 = 350;
    let mut bench = Bench::new(&["a"; NODES as usize]);
    for id in 1..=NODES {
        bench.view.session_closed(NodeId(id), at(10));
    }
    let interval_ms = 500;
    let mut dialled: BTreeMap<NodeId, u64> = BTreeMap::new();
    for ms in (200..2_300).step_by(20) {
        for node in bench.judge(ms).probe {
            let before = dialled.insert(node, ms);
            assert!(before.is_none_or(|before| ms - before >= interval_ms), "{node} at {ms} ms");
        }
        let recent = dialled.values().filter(|at| ms - **at < interval_ms).count();
        assert!(recent <= PROBED_AT_ONCE_MAX, "{recent} at {ms} ms");
    }
    assert_eq!(dialled.len() as u64, NODES, "each has had its turn");
    // Whose session breaks now does not wait for its turn behind the others.
    bench.view.session_opened(NodeId(NODES), Incarnation(1), at(2_300));
    bench.judge(2_790);
    bench.view.session_closed(NodeId(NODES), at(2_795));
    let probe = bench.judge(2_800).probe;
    assert!(probe.contains(&NodeId(NODES)), "{probe:?}");
}

#[test]
fn a_broken_session_is_suspect_and_a_refused_dial_is_down_at_once() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    bench.view.session_closed(NodeId(2), at(50));
    let judgement = bench.judge(60);
    assert_eq!(bench.state(2), NodeState::Up, "a dial says more in a moment");
    assert_eq!(judgement.probe, vec![NodeId(2)]);
    bench.judge(70);
    assert_eq!(bench.state(2), NodeState::Suspect, "or does not");
    bench.judge(150);
    assert_eq!(bench.judge(151).probe, Vec::new(), "one dial is enough for a while");
    bench.view.dial_refused(NodeId(2), at(160));
    bench.judge(160);
    assert_eq!(bench.state(2), NodeState::Down);
    let evidence = &bench.world.state.node(NodeId(2)).expect("there").liveness.evidence;
    assert!(evidence.contains("refused"), "{evidence}");
    // A dial that is answered, or a mere session, does not bring it back: heartbeats do.
    bench.view.dial_answered(NodeId(2));
    bench.judge(200);
    assert_eq!(bench.state(2), NodeState::Down);
    bench.view.session_opened(NodeId(2), Incarnation(1), at(250));
    bench.judge(700);
    assert_eq!(bench.state(2), NodeState::Down);
    bench.view.heartbeat(NodeId(2), Heartbeat::default(), at(750));
    bench.judge(800);
    assert_eq!(bench.state(2), NodeState::Up);
}

#[test]
fn a_new_leader_grants_time_to_find_it() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.view = ZoneView::new(at(0));
    bench.run(100, 2_900, &[]);
    assert!((1..=3).all(|node| bench.state(node) == NodeState::Up));
    bench.run(3_000, 3_100, &[]);
    assert!((1..=3).all(|node| bench.state(node) == NodeState::Suspect));
    assert!(bench.world.state.brake().is_some());
}

#[test]
fn a_judge_that_ran_late_concludes_nothing_from_lateness_and_brakes() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    let judgement = bench.judge(20_000);
    assert_eq!(judgement.conclusions, Vec::new());
    let brake = bench.world.state.brake().expect("engaged");
    assert!(brake.reason.contains("ran late"), "{}", brake.reason);
    bench.run(20_100, 24_900, &[1, 2, 3, 4]);
    assert!(bench.world.state.brake().is_some(), "it is held for a while");
    bench.run(25_000, 25_200, &[1, 2, 3, 4]);
    assert!(bench.world.state.brake().is_none());
}

#[test]
fn a_whole_fault_domain_brakes_although_it_is_less_than_a_third() {
    let domains = ["a", "a", "b", "b", "b", "c", "c", "c", "c"];
    let mut bench = Bench::new(&domains);
    bench.run(100, 1_600, &[1, 3, 4, 5, 6, 7, 8, 9]);
    assert!(bench.world.state.brake().is_none(), "one of nine");
    bench.run(1_700, 3_300, &[3, 4, 5, 6, 7, 8, 9]);
    let brake = bench.world.state.brake().expect("both of a");
    assert!(brake.reason.contains("fault domain \"a\""), "{}", brake.reason);
}

#[test]
fn nodes_that_an_operator_wants_empty_do_not_brake() {
    let mut bench = Bench::new(&["a", "b", "c", "d", "e"]);
    for node in [4, 5] {
        let node = NodeId(node);
        let drain = Action::DrainNode { node, accept_data_loss_risk: true };
        bench.world.apply(drain).expect("accepted");
    }
    bench.run(100, 3_000, &[1, 2, 3]);
    assert_eq!(bench.state(5), NodeState::Suspect);
    assert!(bench.world.state.brake().is_none());
}

proptest! {
    /// G7: all judgements of a round are made together, and never are several nodes and more than a
    /// third of them lost without the brake.
    #[test]
    fn never_more_than_a_third_is_lost_without_the_brake(
        rounds in proptest::collection::vec(
            (proptest::collection::btree_set(1_u64..=7, 0..=7), 1_u64..8, any::<bool>()), 1..60),
    ) {
        let mut bench = Bench::new(&["a", "a", "b", "b", "c", "c", "d"]);
        let mut ms = 0;
        for (beating, hundreds, breaks) in rounds {
            ms += hundreds * 100;
            for id in 1..=7 {
                if beating.contains(&id) {
                    if !bench.view.is_connected(NodeId(id)) {
                        bench.view.session_opened(NodeId(id), Incarnation(1), at(ms));
                    }
                    bench.view.heartbeat(NodeId(id), Heartbeat::default(), at(ms));
                } else if breaks {
                    bench.view.session_closed(NodeId(id), at(ms));
                }
            }
            let judgement = bench.judge(ms);
            let lost = (1..=7).filter(|node| !bench.state(*node).is_up()).count();
            if lost > 1 && lost * 3 > 7 {
                prop_assert!(bench.world.state.brake().is_some(), "{} of 7 are lost", lost);
            }
            for conclusion in &judgement.conclusions {
                prop_assert!(!conclusion.evidence.is_empty());
                if beating.contains(&conclusion.node.get()) {
                    prop_assert!(conclusion.state.is_up(), "{conclusion:?}");
                }
            }
            for id in &beating {
                prop_assert!(bench.state(*id).is_up());
            }
        }
    }
}

#[test]
fn a_node_that_is_much_worse_than_its_peers_is_slow_until_it_has_been_well_for_a_while() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    bench.beat(100, 5_000, 4, 2);
    bench.beat(5_100, 5_200, 4, 200);
    assert_eq!(bench.state(4), NodeState::Up, "a moment is nothing");
    bench.beat(5_300, 7_000, 4, 200);
    assert_eq!(bench.state(4), NodeState::Slow);
    let liveness = bench.world.state.node(NodeId(4)).expect("there").liveness.clone();
    assert!(liveness.evidence.starts_with("a sync of its disk takes"), "{liveness:?}");
    assert!(bench.world.state.brake().is_none(), "it is there, and nothing is lost");
    // It averages over a few seconds, and then it has to be well for five.
    bench.beat(7_100, 12_000, 4, 2);
    assert_eq!(bench.state(4), NodeState::Recovering);
    bench.beat(12_100, 16_000, 4, 2);
    assert_eq!(bench.state(4), NodeState::Up);
    // When all are as bad, nobody is slow.
    let all = [1, 2, 3, 4];
    for ms in (16_100..30_000).step_by(100) {
        for id in all {
            let heartbeat = Heartbeat { disk_sync_ms: 300, ..Heartbeat::default() };
            bench.view.heartbeat(NodeId(id), heartbeat, at(ms));
        }
        bench.judge(ms);
    }
    assert!(all.iter().all(|id| bench.state(*id) == NodeState::Up));
}

#[test]
fn who_is_lost_again_and_again_comes_back_more_and_more_slowly_and_is_forgiven() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    let mut now = 100;
    let mut waits = Vec::new();
    for round in 0..8 {
        if round == 7 {
            // Ten minutes of good behaviour.
            bench.run(now, now + 610_000, &[1, 2, 3, 4]);
            now += 610_100;
        }
        bench.view.session_closed(NodeId(4), at(now));
        bench.view.dial_refused(NodeId(4), at(now));
        bench.run(now, now, &[1, 2, 3]);
        assert_eq!(bench.state(4), NodeState::Down);
        now += 100;
        bench.view.session_opened(NodeId(4), Incarnation(1), at(now));
        let back = now;
        while bench.state(4) != NodeState::Up {
            bench.run(now, now, &[1, 2, 3, 4]);
            now += 100;
        }
        waits.push((now - back) / 1_000);
    }
    assert_eq!(waits, [0, 5, 10, 20, 40, 80, 160, 0]);
}

/// Heartbeats of all six: two have little space left, and one more has a slow disk.
fn three_ailing(bench: &mut Bench, ms: u64) {
    for id in 1..=6 {
        let disk_sync_ms = if id == 4 { 300 } else { 2 };
        let disk_below_reserve = id > 4;
        let heartbeat = Heartbeat { disk_below_reserve, disk_sync_ms, ..Heartbeat::default() };
        bench.view.heartbeat(NodeId(id), heartbeat, at(ms));
    }
    bench.judge(ms);
}

#[test]
fn never_more_than_a_third_of_the_nodes_are_slow() {
    let mut bench = Bench::new(&["a", "b", "c", "d", "e", "f"]);
    for ms in (100..5_000).step_by(100) {
        three_ailing(&mut bench, ms);
    }
    let slow = (1..=6).filter(|id| bench.state(*id) == NodeState::Slow).count();
    assert_eq!(slow, 2);
    // One that was down and is as bad comes back all the same.
    bench.view.session_closed(NodeId(4), at(5_000));
    bench.view.dial_refused(NodeId(4), at(5_000));
    bench.judge(5_000);
    assert_eq!(bench.state(4), NodeState::Down);
    bench.view.session_opened(NodeId(4), Incarnation(1), at(5_100));
    for ms in (5_100..7_000).step_by(100) {
        three_ailing(&mut bench, ms);
    }
    assert_eq!(bench.state(4), NodeState::Up);
    // And where most are short of space, nobody is slow for that.
    let mut bench = Bench::new(&["a", "b", "c"]);
    for ms in (100..5_000).step_by(100) {
        for id in 1..=3 {
            let heartbeat = Heartbeat { disk_below_reserve: id > 1, ..Heartbeat::default() };
            bench.view.heartbeat(NodeId(id), heartbeat, at(ms));
        }
        bench.judge(ms);
    }
    assert!((1..=3).all(|id| bench.state(id) == NodeState::Up));
}

#[test]
fn a_node_whose_disk_does_not_answer_is_suspect_by_its_own_account() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    bench.beat(100, 3_000, 4, 2);
    // A sync that has not ended, as each heartbeat says.
    let mut suspect_at = None;
    for n in 1..=12 {
        let ms = 3_000 + n * 100;
        bench.beat(ms, ms, 4, n * 100);
        if bench.state(4) == NodeState::Suspect {
            suspect_at.get_or_insert(n * 100);
        }
    }
    assert!(suspect_at.is_some_and(|ms| ms <= 900), "{suspect_at:?}");
    let liveness = bench.world.state.node(NodeId(4)).expect("there").liveness.clone();
    assert!(liveness.by_own_account, "no peer has to confirm it: {liveness:?}");
    // Its disk answers again: it is slow while the averages remember, then it recovers.
    let mut states = vec![NodeState::Suspect];
    for ms in (4_300..40_000).step_by(100) {
        bench.beat(ms, ms, 4, 2);
        if states.last() != Some(&bench.state(4)) {
            states.push(bench.state(4));
        }
    }
    let expected = [NodeState::Suspect, NodeState::Slow, NodeState::Recovering, NodeState::Up];
    assert_eq!(states, expected);
    assert!(!bench.world.state.node(NodeId(4)).expect("there").liveness.by_own_account);
}
