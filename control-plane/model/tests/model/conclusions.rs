//! Conclusions as they are committed: what they say in so many words, and what they do when they come twice.

use model::{
    Action, Incarnation, NodeId, command::Conclusion, node::NodeState, observation::Heartbeat,
};

use crate::bench::{Bench, at};

fn commit(bench: &mut Bench, conclusion: &Conclusion) {
    let conclusions = vec![conclusion.clone()];
    bench.world.apply(Action::SetLiveness { conclusions, brake: None }).expect("a batch");
}

fn conclusion(node: u64, state: NodeState) -> Conclusion {
    Conclusion {
        node: NodeId(node),
        incarnation: Incarnation(1),
        state,
        evidence: "the test says so".into(),
        by_own_account: false,
        forgets: false,
    }
}

/// What the ledger says of nodes, in the order in which it happened.
fn ledger(bench: &Bench) -> Vec<String> {
    let events = bench.world.state.events().iter();
    events
        .filter(|(_, event)| event.node.is_some())
        .map(|(_, event)| event.message.clone())
        .collect()
}

#[test]
fn a_conclusion_that_is_committed_twice_forgets_nothing() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    commit(&mut bench, &conclusion(4, NodeState::Down));
    let up = conclusion(4, NodeState::Up);
    commit(&mut bench, &up);
    assert_eq!(bench.liveness(4).lapses, 1);
    let told = ledger(&bench);
    // The answer to the first commit was lost, and it is proposed again.
    commit(&mut bench, &up);
    assert_eq!(bench.liveness(4).lapses, 1);
    assert_eq!(ledger(&bench), told, "and there is nothing to tell");
    let forgets = Conclusion { forgets: true, ..up.clone() };
    commit(&mut bench, &forgets);
    assert_eq!(bench.liveness(4).lapses, 0);
    assert!(ledger(&bench).last().expect("told").ends_with("what it was before is forgotten"));
}

#[test]
fn nobody_is_forgiven_or_up_again_by_a_conclusion_that_comes_late() {
    let mut bench = Bench::new(&["a", "b", "c", "d"]);
    commit(&mut bench, &conclusion(4, NodeState::Down));
    let forgets = Conclusion { forgets: true, ..conclusion(4, NodeState::Up) };
    commit(&mut bench, &forgets);
    assert_eq!((bench.state(4), bench.liveness(4).lapses), (NodeState::Down, 1));
    for state in [NodeState::Slow, NodeState::Up] {
        commit(&mut bench, &Conclusion { forgets: true, ..conclusion(3, state) });
        assert_eq!(bench.state(3), NodeState::Up, "it forgets, and says nothing else");
    }
}

/// Node 4 is suspect since its session broke. It comes back, and all that it says at once is that a sync
/// has not ended.
fn late_then_stuck() -> Bench {
    let mut bench = Bench::sharing(4, &["a", "b", "c", "d"]);
    bench.beat(100, 3_000, 4, 2);
    bench.view.session_closed(NodeId(4), at(3_010));
    bench.judge(3_060);
    assert_eq!(bench.state(4), NodeState::Suspect);
    assert!(!bench.liveness(4).by_own_account);
    bench.view.session_opened(NodeId(4), Incarnation(1), at(3_070));
    for ms in [3_080, 3_090, 3_100, 3_110] {
        let heartbeat = Heartbeat { disk_sync_ms: 5_000, ..Heartbeat::default() };
        bench.view.heartbeat(NodeId(4), heartbeat, at(ms));
    }
    bench
}

#[test]
fn who_is_late_and_then_stuck_by_its_own_account_is_so_without_a_witness() {
    let mut bench = late_then_stuck();
    let lapses = bench.liveness(4).lapses;
    let conclusions = bench.judge(3_120).conclusions;
    assert_eq!(conclusions.len(), 1, "{conclusions:?}");
    assert!(bench.liveness(4).by_own_account);
    assert_eq!(bench.liveness(4).lapses, lapses, "it is the same lapse");
    assert!(bench.liveness(4).evidence.starts_with("a sync of its disk takes"));
    assert!(ledger(&bench).last().expect("told").ends_with("is suspect by its own account, too"));
    assert_eq!(bench.judge(3_130).conclusions, Vec::new(), "once is enough");
    // The same again, and a weaker one, change nothing.
    let told = ledger(&bench);
    commit(&mut bench, &conclusions[0]);
    commit(&mut bench, &conclusion(4, NodeState::Suspect));
    assert_eq!(ledger(&bench), told);
    assert!(bench.liveness(4).by_own_account);
}
