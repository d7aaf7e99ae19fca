//! A tally that is kept against one that is made anew.

use std::time::Duration;

use model::{
    Action, Incarnation, NodeId, PartitionId, Revision, WallTime, ZoneTime,
    command::{Command, Conclusion},
    node::NodeState,
    observation::{ReplicaPhase, ReplicaReport},
    partition_set::PartitionSet,
    tally::Tally,
};
use proptest::prelude::*;

use crate::world::{World, registration};

/// What can happen to a zone's partitions, nodes and time. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Event {
    SessionBegins(usize),
    SessionEnds(usize),
    ReportsEverything(usize),
    ReportsOne(usize, usize, ReportedAs),
    FullReportEnds(usize),
    Judged(usize, NodeState),
    NodeInNewDomain(u8),
    ReplicaMoves(usize),
    TimePasses(u8),
    EverythingAnew,
}

#[derive(Clone, Copy, Debug)]
enum ReportedAs {
    Healthy,
    Failed,
    NotLeading,
    WithLaggards,
}

fn event() -> impl Strategy<Value = Event> {
    let node = 0_usize..8;
    let judged = prop::sample::select(vec![NodeState::Up, NodeState::Suspect, NodeState::Down]);
    let reported = prop::sample::select(vec![
        ReportedAs::Healthy,
        ReportedAs::Failed,
        ReportedAs::NotLeading,
        ReportedAs::WithLaggards,
    ]);
    prop_oneof![
        1 => node.clone().prop_map(Event::SessionBegins),
        1 => node.clone().prop_map(Event::SessionEnds),
        3 => node.clone().prop_map(Event::ReportsEverything),
        3 => (node.clone(), 0_usize..30, reported)
            .prop_map(|(node, at, reported)| Event::ReportsOne(node, at, reported)),
        2 => node.clone().prop_map(Event::FullReportEnds),
        3 => (node.clone(), judged).prop_map(|(node, state)| Event::Judged(node, state)),
        1 => (1_u8..3).prop_map(Event::NodeInNewDomain),
        1 => (0_usize..30).prop_map(Event::ReplicaMoves),
        2 => (1_u8..40).prop_map(Event::TimePasses),
        1 => Just(Event::EverythingAnew),
    ]
}

/// A zone, what its nodes have to report, and the tally that is kept.
struct Kept {
    world: World,
    reports: Vec<(NodeId, ReplicaReport)>,
    tally: Tally,
    revision: u64,
}

impl Kept {
    fn new(domains: &[&str]) -> Self {
        let mut world = World::new(10, 3, domains);
        world.run(100);
        let nodes: Vec<NodeId> = world.nodes.keys().copied().collect();
        let reports = nodes
            .into_iter()
            .flat_map(|id| world.view.replicas_on(id).map(move |(_, view)| (id, view)))
            .map(|(id, view)| (id, view.report.clone()))
            .collect();
        world.change_control_plane_leader();
        let tally = Tally::unseen(&world.state);
        let revision = world.revision;
        Self { world, reports, tally, revision }
    }

    fn node(&self, at: usize) -> NodeId {
        let nodes: Vec<NodeId> = self.world.nodes.keys().copied().collect();
        nodes[at % nodes.len()]
    }

    fn report(&mut self, node: NodeId, report: ReplicaReport) {
        if self.world.view.is_connected(node) {
            self.world.view.report(node, report, self.world.now);
        }
    }

    /// Applies an action; the tally hears what it has changed.
    fn apply(&mut self, action: Action) {
        self.revision += 1;
        let command = Command::new(ZoneTime(0), WallTime(0), action);
        // What is refused changes nothing: as good as anything else.
        let _ = self.world.state.apply(Revision(self.revision), &command);
        let changes = self.world.state.take_changes();
        self.tally.add(changes.partitions);
        self.tally.add_nodes(&self.world.state, &self.world.view, changes.nodes);
    }

    fn happen(&mut self, event: Event) {
        let now = self.world.now;
        match event {
            Event::SessionBegins(at) => {
                self.world.view.session_opened(self.node(at), Incarnation(1), now);
            }
            Event::SessionEnds(at) => self.world.view.session_closed(self.node(at), now),
            Event::ReportsEverything(at) => {
                let node = self.node(at);
                let own = self.reports.iter().filter(|(from, _)| *from == node).cloned();
                for (_, report) in own.collect::<Vec<_>>() {
                    self.report(node, report);
                }
            }
            Event::ReportsOne(node, at, reported) => {
                let node = self.node(node);
                let mut own = self.reports.iter().filter(|(from, _)| *from == node).cycle();
                let Some((_, mut report)) = own.nth(at).cloned() else { return };
                match reported {
                    ReportedAs::Healthy => {}
                    ReportedAs::Failed => report.phase = ReplicaPhase::Failed,
                    ReportedAs::NotLeading => report.leading = false,
                    ReportedAs::WithLaggards => {
                        for progress in &mut report.progress {
                            progress.matched = None;
                        }
                    }
                }
                self.report(node, report);
            }
            Event::FullReportEnds(at) => {
                if self.world.view.is_connected(self.node(at)) {
                    self.world.view.full_report_end(self.node(at));
                }
            }
            Event::Judged(at, state) => {
                let (node, evidence) = (self.node(at), "the test's".to_owned());
                let Some(known) = self.world.state.node(node) else { return };
                let incarnation = known.incarnation;
                let (by_own_account, forgets) = (false, false);
                let conclusion =
                    Conclusion { node, incarnation, state, evidence, by_own_account, forgets };
                self.apply(Action::SetLiveness { conclusions: vec![conclusion], brake: None });
            }
            Event::NodeInNewDomain(number) => {
                let registration = registration(90 + u64::from(number), &format!("new-{number}"));
                self.apply(Action::RegisterNode(registration));
            }
            Event::ReplicaMoves(at) => {
                let partition = PartitionId(u64::try_from(at % 10).expect("small") + 1);
                let targets = self.world.state.partition(partition).map(|it| it.targets.clone());
                let Some(from) = targets.and_then(|targets| Some(targets.first()?.node)) else {
                    return;
                };
                let to = self.node(at / 3);
                self.apply(Action::MoveReplica { partition, from, to });
            }
            Event::TimePasses(seconds) => {
                self.world.now += Duration::from_secs(u64::from(seconds));
            }
            Event::EverythingAnew => self.tally.add_all(&self.world.state),
        }
    }

    /// As a leader does before it shows figures: a few partitions at a time, until all were looked at.
    fn catch_up(&mut self) {
        let (state, view) = (&self.world.state, &mut self.world.view);
        self.tally.add(view.take_touched(state).iter());
        let turned = view.take_turned();
        self.tally.add_nodes(state, view, turned);
        self.tally.add_lagging(view);
        for _ in 0..20 {
            self.tally.look(state, view, self.world.now, 3);
        }
        assert!(self.tally.is_complete());
    }

    fn check(&mut self) -> (usize, usize) {
        self.catch_up();
        let anew = Tally::of(&self.world.state, Some(&self.world.view), self.world.now);
        assert_eq!(self.tally.unavailable(), anew.unavailable());
        assert_eq!(self.tally.under_replicated(), anew.under_replicated());
        (anew.unavailable().len(), anew.under_replicated().len())
    }
}

proptest! {
    #[test]
    fn a_tally_that_is_kept_is_what_it_would_be_if_it_were_made_anew(
        is_crowded in any::<bool>(),
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut kept = Kept::new(if is_crowded { &["a", "a", "b", "b"] } else { &["a", "b", "c", "d"] });
        for event in events {
            kept.happen(event);
            kept.check();
        }
    }
}

#[test]
fn a_new_leader_counts_a_partition_as_soon_as_it_has_heard_of_it() {
    let mut kept = Kept::new(&["a", "b", "c", "d"]);
    let all: PartitionSet = kept.world.state.partitions().iter().map(|(id, _)| *id).collect();
    assert_eq!(kept.tally.unavailable(), &all);
    assert!(!kept.tally.is_complete());
    assert_eq!(kept.check(), (10, 0));
    for at in 0..4 {
        kept.happen(Event::SessionBegins(at));
        kept.happen(Event::ReportsEverything(at));
    }
    assert_eq!(kept.check(), (0, 0));
    kept.happen(Event::Judged(0, NodeState::Down));
    let (unavailable, under_replicated) = kept.check();
    assert!(unavailable > 0 && under_replicated > unavailable);
}
