//! Takeovers, step by step.

use std::time::Duration;

use model::{
    Action, LogPosition, NodeId, PartitionId, ReplicaId, Term,
    node::NodeState,
    observation::{Heartbeat, ReplicaReport},
    takeover::{
        Call, CallKind, GroupPosition, GroupResult, TakeOverOutcome, TakeoverOptions, Takeovers,
    },
};

use crate::world::World;

/// A zone of one partition on three nodes, whose leader's node has just been killed.
struct Bench {
    world: World,
    takeovers: Takeovers,
    partition: PartitionId,
    /// The survivors' replicas, and their nodes.
    survivors: Vec<(ReplicaId, NodeId)>,
    voters: Vec<ReplicaId>,
    lost: NodeId,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self::before_the_loss(3, &["a", "b", "c"]);
        bench.world.kill(bench.lost);
        bench.judge();
        bench
    }

    /// Its leader is well.
    fn before_the_loss(replicas: u32, domains: &[&str]) -> Self {
        let mut world = World::new(1, replicas, domains);
        world.settle(400);
        let partition = PartitionId(1);
        let record = world.state.partition(partition).expect("there");
        let lost = record.leader.expect("led").node;
        let survivors = record
            .targets
            .iter()
            .filter(|target| target.node != lost)
            .map(|target| (target.id, target.node))
            .collect();
        let voters = record.targets.iter().map(|target| target.id).collect();
        let takeovers = Takeovers::new(TakeoverOptions::default());
        Self { world, takeovers, partition, survivors, voters, lost }
    }

    fn judge(&mut self) {
        let World { detector, now, state, view, .. } = &mut self.world;
        let round = detector.gather(*now, state, view);
        let judgement = detector.judge(&round);
        self.world.apply(judgement.action().expect("it is lost")).expect("a batch");
    }

    fn judge_if_new(&mut self) {
        let World { detector, now, state, view, .. } = &mut self.world;
        let round = detector.gather(*now, state, view);
        if let Some(action) = detector.judge(&round).action() {
            self.world.apply(action).expect("a batch");
        }
    }

    /// One after the other, all calls of a takeover in which the first survivor comes to lead.
    fn lead(&mut self) {
        let calls = self.begin();
        assert!(!calls.is_empty(), "it is taken on");
        self.collect(&calls, &[9, 5, 5, 5]);
        let calls = self.calls();
        let leading = self.result(order(&calls[0]).0, TakeOverOutcome::Leading);
        self.takeovers.taken_over(calls[0].id, vec![leading]);
        assert_eq!(self.calls(), Vec::new());
    }

    fn begin(&mut self) -> Vec<Call> {
        self.takeovers.begin(&self.world.state, &self.world.view, self.world.now);
        self.calls()
    }

    fn calls(&mut self) -> Vec<Call> {
        self.takeovers.calls(&self.world.state, self.world.now)
    }

    fn wait(&mut self, ms: u64) {
        self.world.now += Duration::from_millis(ms);
    }

    fn position(&self, replica: ReplicaId, index: u64) -> GroupPosition {
        GroupPosition {
            partition: self.partition,
            replica,
            last_log: Some(LogPosition { term: Term(1), leader_id: 1, index }),
            vote_term: Term(1),
            voters: self.voters.clone(),
            ..GroupPosition::default()
        }
    }

    fn result(&self, replica: ReplicaId, outcome: TakeOverOutcome) -> GroupResult {
        GroupResult {
            partition: self.partition,
            replica,
            outcome,
            term: Term(7),
            ..GroupResult::default()
        }
    }

    /// Answers a collection with the given lengths of logs.
    fn collect(&mut self, calls: &[Call], lengths: &[u64]) {
        for call in calls {
            let at = self.survivors.iter().position(|(_, node)| *node == call.node);
            let at = at.expect("only survivors are asked");
            let position = self.position(self.survivors[at].0, lengths[at]);
            self.takeovers.collected(call.id, vec![position]);
        }
    }
}

/// The one order in a call: the asked replica, the candidate, and whether it elects itself at once.
fn order(call: &Call) -> (ReplicaId, ReplicaId, bool) {
    match &call.kind {
        CallKind::TakeOver { groups, .. } => {
            assert_eq!(groups.len(), 1);
            (groups[0].replica, groups[0].candidate, groups[0].elect)
        }
        CallKind::Collect { .. } => panic!("expected a takeover: {call:?}"),
    }
}

#[test]
fn the_longest_log_leads_and_the_record_says_why() {
    let mut bench = Bench::new();
    let calls = bench.begin();
    assert_eq!(calls.len(), 2, "both survivors are asked at once");
    assert!(calls.iter().all(|call| matches!(call.kind, CallKind::Collect { .. })));
    bench.collect(&calls, &[5, 9]);
    let calls = bench.calls();
    let longest = bench.survivors[1];
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].node, longest.1);
    assert_eq!(order(&calls[0]), (longest.0, longest.0, false));
    let CallKind::TakeOver { lost_node, .. } = &calls[0].kind else { panic!() };
    assert_eq!(*lost_node, Some(bench.lost));
    let leading = bench.result(longest.0, TakeOverOutcome::Leading);
    bench.takeovers.taken_over(calls[0].id, vec![leading]);
    assert_eq!(bench.calls(), Vec::new());
    let action = bench.takeovers.finished(bench.world.now).expect("recorded at once");
    assert_eq!(bench.takeovers.finished(bench.world.now), None);
    let Action::RecordTakeover(record) = &action else { panic!("{action:?}") };
    assert_eq!(record.lost, Some(bench.lost));
    assert!(record.groups[0].reason.contains("best first"), "{}", record.groups[0].reason);
    bench.world.apply(action).expect("recorded");
    let leader = bench.world.state.partition(bench.partition).expect("there").leader;
    assert_eq!(leader.expect("led").node, longest.1);
    assert!(bench.takeovers.is_idle());
}

#[test]
fn a_candidate_that_fails_is_tried_again_after_disarming_and_then_the_next_one() {
    let mut bench = Bench::new();
    let calls = bench.begin();
    bench.collect(&calls, &[9, 9]);
    let (first, second) = (bench.survivors[0], bench.survivors[1]);
    let calls = bench.calls();
    assert_eq!(order(&calls[0]), (first.0, first.0, false));
    let failed = bench.result(first.0, TakeOverOutcome::NotElected);
    bench.takeovers.taken_over(calls[0].id, vec![failed.clone()]);
    // The other lets go of the lost leader, in favour of the first.
    let calls = bench.calls();
    assert_eq!((calls.len(), order(&calls[0])), (1, (second.0, first.0, false)));
    let disarmed = bench.result(second.0, TakeOverOutcome::Disarmed);
    bench.takeovers.taken_over(calls[0].id, vec![disarmed]);
    let calls = bench.calls();
    assert_eq!((calls.len(), order(&calls[0])), (1, (first.0, first.0, true)));
    bench.takeovers.taken_over(calls[0].id, vec![failed]);
    // Now the second: the first lets go.
    let calls = bench.calls();
    assert_eq!((calls.len(), order(&calls[0])), (1, (first.0, second.0, false)));
    let disarmed = bench.result(first.0, TakeOverOutcome::Disarmed);
    bench.takeovers.taken_over(calls[0].id, vec![disarmed]);
    let calls = bench.calls();
    assert_eq!(order(&calls[0]), (second.0, second.0, true));
    let leading = bench.result(second.0, TakeOverOutcome::Leading);
    bench.takeovers.taken_over(calls[0].id, vec![leading]);
    assert_eq!(bench.calls(), Vec::new());
    assert!(bench.takeovers.finished(bench.world.now).is_some());
}

#[test]
fn a_candidate_that_the_others_cannot_vote_for_does_not_stand() {
    let mut bench = Bench::new();
    let calls = bench.begin();
    bench.collect(&calls, &[9, 5]);
    let first = bench.survivors[0];
    // Whatever is asked, it is for the first, until it has failed.
    for _ in 0..3 {
        let calls = bench.calls();
        assert_eq!(calls.len(), 1);
        let (asked, candidate, _) = order(&calls[0]);
        assert_eq!(candidate, first.0);
        let failed = bench.result(asked, TakeOverOutcome::NotElected);
        bench.takeovers.taken_over(calls[0].id, vec![failed]);
    }
    assert_eq!(bench.calls(), Vec::new(), "the second would only raise the term");
    bench.wait(300);
    assert_eq!(bench.begin().len(), 2, "they are asked again");
    // Of five voters two may be behind: the other two and itself are a majority.
    let mut bench = Bench::before_the_loss(5, &["a", "b", "c", "d", "e"]);
    bench.world.kill(bench.lost);
    bench.judge();
    let calls = bench.begin();
    bench.collect(&calls, &[9, 7, 7, 5]);
    let mut candidates = std::collections::BTreeSet::new();
    for _ in 0..20 {
        for call in bench.calls() {
            let (asked, candidate, _) = order(&call);
            candidates.insert(candidate);
            let failed = bench.result(asked, TakeOverOutcome::NotElected);
            bench.takeovers.taken_over(call.id, vec![failed]);
        }
    }
    let electable: std::collections::BTreeSet<_> =
        bench.survivors[..3].iter().map(|(replica, _)| *replica).collect();
    assert_eq!(candidates, electable);
}

#[test]
fn silence_is_waited_for_only_so_long() {
    let mut bench = Bench::new();
    let calls = bench.begin();
    let (first, second) = (bench.survivors[0], bench.survivors[1]);
    let position = bench.position(first.0, 5);
    let asked = calls.iter().find(|call| call.node == first.1).expect("asked");
    bench.takeovers.collected(asked.id, vec![position]);
    assert_eq!(bench.calls(), Vec::new(), "the other may have the longer log");
    let deadline = bench.takeovers.next_deadline().expect("it waits");
    bench.world.now = deadline;
    let calls = bench.calls();
    assert_eq!(order(&calls[0]), (first.0, first.0, false));
    // No answer: on with it, and a late success still counts.
    bench.wait(200);
    let disarming = bench.calls();
    assert_eq!(order(&disarming[0]), (second.0, first.0, false));
    let leading = bench.result(first.0, TakeOverOutcome::Leading);
    bench.takeovers.taken_over(calls[0].id, vec![leading]);
    assert_eq!(bench.calls(), Vec::new());
    assert!(bench.takeovers.finished(bench.world.now).is_some());
}

#[test]
fn when_all_have_failed_it_is_recorded_once_and_tried_again() {
    let mut bench = Bench::new();
    let mut records = 0;
    for _ in 0..200 {
        bench.takeovers.begin(&bench.world.state, &bench.world.view, bench.world.now);
        for call in bench.calls() {
            bench.takeovers.call_failed(call.id, "unavailable");
        }
        if let Some(action) = bench.takeovers.finished(bench.world.now) {
            records += 1;
            bench.world.apply(action).expect("recorded");
        }
        bench.wait(20);
    }
    assert_eq!(records, 1);
    assert!(bench.world.state.failed_operations().next().is_some());
    bench.wait(1_000);
    assert_eq!(bench.begin().len(), 2, "it goes on");
}

#[test]
fn an_appointed_leader_is_left_in_peace_until_it_reports_itself() {
    let mut bench = Bench::new();
    bench.wait(400);
    bench.lead();
    // Its report is on its way, and the record is not committed: the view still shows the loss.
    bench.wait(4);
    assert_eq!(bench.begin(), Vec::new());
    let record = bench.takeovers.finished(bench.world.now).expect("recorded once");
    assert_eq!(bench.takeovers.finished(bench.world.now), None);
    bench.world.apply(record).expect("recorded");
    bench.wait(490);
    assert_eq!(bench.begin(), Vec::new(), "the commit alone is no leader that confirms itself");
    assert_eq!(bench.takeovers.take_ended().len(), 1);
    // It never says anything: on with it.
    bench.wait(10);
    assert_eq!(bench.begin().len(), 2);
}

#[test]
fn the_loss_of_an_appointed_leader_is_not_waited_out() {
    let mut bench = Bench::before_the_loss(5, &["a", "b", "c", "d", "e"]);
    bench.world.kill(bench.lost);
    bench.judge();
    bench.lead();
    let record = bench.takeovers.finished(bench.world.now).expect("recorded");
    bench.world.apply(record).expect("recorded");
    bench.world.kill(bench.survivors[0].1);
    bench.judge();
    bench.wait(4);
    assert_eq!(bench.begin().len(), 3, "the three that are left");
}

#[test]
fn news_of_a_newer_term_ends_the_wait_for_an_appointed_leader() {
    let mut bench = Bench::new();
    bench.wait(400);
    bench.lead();
    let (replica, node) = bench.survivors[1];
    let view = bench.world.view.replica(bench.partition, replica).expect("reported");
    // Somebody campaigned since, and nobody leads.
    let report = ReplicaReport { term: Term(8), leader: None, ..view.report.clone() };
    bench.world.view.report(node, report, bench.world.now);
    bench.wait(4);
    assert_eq!(bench.begin().len(), 2);
}

#[test]
fn one_loss_is_one_outcome_and_one_measurement() {
    let mut bench = Bench::new();
    for call in bench.begin() {
        bench.takeovers.call_failed(call.id, "unavailable");
    }
    assert_eq!(bench.calls(), Vec::new());
    bench.wait(300);
    bench.lead();
    let Some(Action::RecordTakeover(record)) = bench.takeovers.finished(bench.world.now) else {
        panic!("recorded")
    };
    assert_eq!(record.groups.len(), 1, "{record:?}");
    assert!(record.groups[0].leader.is_some(), "the latest counts");
    let ended = bench.takeovers.take_ended();
    let led: Vec<_> = ended.iter().filter(|ended| ended.led).collect();
    assert_eq!((ended.len(), led.len()), (2, 1), "{ended:?}");
    assert_eq!(led[0].took, Duration::from_millis(300), "from when it was needed first");
    assert_eq!(bench.takeovers.take_ended(), Vec::new());
}

#[test]
fn a_dismissed_suspicion_leaves_no_trace_and_is_looked_at_again_soon() {
    let mut bench = Bench::before_the_loss(3, &["a", "b", "c"]);
    // The leader's session breaks; its peers still see it.
    bench.world.view.session_closed(bench.lost, bench.world.now);
    bench.wait(20);
    bench.judge();
    let mut looks = Vec::new();
    for _ in 0..50 {
        let calls = bench.begin();
        if !calls.is_empty() {
            looks.push(bench.world.now);
            bench.collect(&calls, &[5, 9]);
        }
        assert_eq!(bench.calls(), Vec::new());
        assert_eq!(bench.takeovers.finished(bench.world.now), None);
        bench.wait(20);
    }
    let gaps = looks.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(looks.len() >= 3 && gaps.max() <= Some(Duration::from_millis(300)), "{looks:?}");
    assert_eq!(bench.takeovers.take_ended(), Vec::new());
    bench.wait(300);
    // One survivor has lost it now: that is enough.
    let calls = bench.begin();
    for call in &calls {
        let (replica, _) = bench.survivors.iter().find(|(_, node)| *node == call.node).unwrap();
        let lost = call.id == calls[0].id;
        let position = GroupPosition { leader_lost: lost, ..bench.position(*replica, 5) };
        bench.takeovers.collected(call.id, vec![position]);
    }
    let calls = bench.calls();
    assert_eq!(calls.len(), 1, "it goes on to appoint one");
    order(&calls[0]);
}

#[test]
fn a_proof_that_the_node_is_gone_waits_for_no_pause_and_no_witness() {
    // The session breaks a moment before the dial is refused, and the survivors know of nothing yet.
    let mut bench = Bench::before_the_loss(3, &["a", "b", "c"]);
    bench.world.view.session_closed(bench.lost, bench.world.now);
    bench.wait(20);
    bench.judge();
    let calls = bench.begin();
    bench.collect(&calls, &[5, 9]);
    assert_eq!(bench.calls(), Vec::new(), "dismissed");
    bench.wait(2);
    bench.world.kill(bench.lost);
    bench.judge();
    let calls = bench.begin();
    assert_eq!(calls.len(), 2, "it is looked at again at once");
    bench.collect(&calls, &[5, 9]);
    assert_eq!(bench.calls().len(), 1, "one is asked to lead");

    // The proof comes while the survivors are being asked.
    let mut bench = Bench::before_the_loss(3, &["a", "b", "c"]);
    bench.world.view.session_closed(bench.lost, bench.world.now);
    bench.wait(20);
    bench.judge();
    let calls = bench.begin();
    bench.world.kill(bench.lost);
    bench.judge();
    bench.collect(&calls, &[5, 9]);
    assert_eq!(bench.calls().len(), 1, "one is asked to lead");
}

/// The leader is not heard for so long that it is suspect; its survivors still see it.
fn late_leader() -> Bench {
    let mut bench = Bench::before_the_loss(3, &["a", "b", "c"]);
    for _ in 0..40 {
        bench.wait(100);
        for (_, node) in bench.survivors.clone() {
            bench.world.view.heartbeat(node, Heartbeat::default(), bench.world.now);
        }
        bench.judge_if_new();
    }
    let liveness = &bench.world.state.node(bench.lost).expect("there").liveness;
    assert_eq!((liveness.state, liveness.by_own_account), (NodeState::Suspect, false));
    bench
}

#[test]
fn a_late_leader_that_then_says_that_it_is_stuck_needs_no_witness() {
    let stuck = |bench: &mut Bench| {
        let heartbeat = Heartbeat { disk_sync_ms: 5_000, ..Heartbeat::default() };
        for _ in 0..5 {
            bench.wait(2);
            bench.world.view.heartbeat(bench.lost, heartbeat.clone(), bench.world.now);
        }
        bench.judge();
    };
    let mut bench = late_leader();
    let calls = bench.begin();
    bench.collect(&calls, &[5, 9]);
    assert_eq!(bench.calls(), Vec::new(), "dismissed: it is merely late");
    stuck(&mut bench);
    let calls = bench.begin();
    assert_eq!(calls.len(), 2, "it is looked at again at once");
    bench.collect(&calls, &[5, 9]);
    assert_eq!(bench.calls().len(), 1, "one is asked to lead");

    // It says so while the survivors are being asked.
    let mut bench = late_leader();
    let calls = bench.begin();
    stuck(&mut bench);
    bench.collect(&calls, &[5, 9]);
    assert_eq!(bench.calls().len(), 1, "one is asked to lead");
}

#[test]
fn without_a_majority_nothing_is_done() {
    let mut bench = Bench::new();
    let other = bench.survivors[0].1;
    bench.world.kill(other);
    assert_eq!(bench.begin(), Vec::new());
}

#[test]
fn a_leader_that_reports_itself_ends_it() {
    let mut bench = Bench::new();
    bench.begin();
    bench.world.takeovers = Takeovers::new(TakeoverOptions::default());
    bench.world.step();
    assert!(bench.world.groups[&bench.partition].leader.is_some());
    bench.world.step();
    bench.takeovers.begin(&bench.world.state, &bench.world.view, bench.world.now);
    assert!(bench.takeovers.is_idle());
}

#[test]
fn groups_are_batched_by_node_and_spread_over_the_survivors() {
    let mut world = World::new(40, 3, &["a", "b", "c", "d", "e"]);
    world.settle(600);
    let victim = NodeId(1);
    let led = world.leaders()[&victim];
    world.kill(victim);
    world.step();
    let calls: Vec<_> = world.activity.iter().filter(|line| line.starts_with("Call")).collect();
    assert!(calls.len() <= 8, "one collection and one takeover for each of four nodes: {calls:#?}");
    let counts = world.leaders();
    let (most, least) = (counts.values().max(), counts.values().min());
    assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 2), "{led}: {counts:?}");
}
