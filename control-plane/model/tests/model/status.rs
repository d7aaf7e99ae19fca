//! Figures for people.

use std::time::Duration;

use model::{
    Action, LogPosition, NodeId, ZoneState,
    observation::{Heartbeat, ReplicaPhase},
    progress,
    status::{self, PartitionCounts, Role},
    tally::Tally,
};

use crate::world::World;

fn figures(world: &World) -> status::Figures {
    status::figures(&world.state, Some(&world.view), world.now)
}

#[test]
fn a_zone_that_is_as_it_should_be_has_no_problems_on_any_member() {
    let mut world = World::new(8, 3, &["a", "b", "c"]);
    world.settle(400);
    let whole = PartitionCounts { total: 8, available: 8, under_replicated: 0, unavailable: 0 };
    let leaders_view = figures(&world);
    assert_eq!(leaders_view.problems, Vec::<String>::new());
    assert_eq!(leaders_view.partitions, whole);
    let followers_view = status::figures(&world.state, None, world.now);
    assert_eq!(followers_view, leaders_view);
    for node in world.nodes.keys() {
        let node = status::node(&world.state, Some(&world.view), *node).expect("known");
        assert_eq!(node.replicas, 8);
        assert!((2..=3).contains(&node.leaders), "{node:?}");
    }
    for (id, record) in world.state.partitions().iter() {
        let partition =
            status::partition(&world.state, Some(&world.view), *id, world.now).expect("known");
        assert!(partition.available && !partition.under_replicated);
        assert_eq!(partition.leader, record.leader.map(|leader| leader.node));
        let roles: Vec<_> = status::replicas(&world.state, Some(&world.view), *id)
            .iter()
            .map(|replica| replica.role)
            .collect();
        assert_eq!(roles.iter().filter(|role| **role == Role::Leader).count(), 1, "{roles:?}");
        assert_eq!(roles.iter().filter(|role| **role == Role::Voter).count(), 2, "{roles:?}");
    }
}

#[test]
fn problems_are_told_worst_first() {
    assert!(figures_of_nothing()[0].contains("zonectl init"));
    let mut world = World::new(8, 3, &["a", "b", "c", "d"]);
    let waiting = figures(&world);
    assert_eq!(waiting.partitions.unavailable, 8);
    assert!(waiting.problems[0].contains("not placed yet"), "{:?}", waiting.problems);
    world.settle(400);

    world.kill(NodeId(1));
    world.kill(NodeId(2));
    world.run(10);
    let figures = figures(&world);
    let problems = &figures.problems;
    assert!(figures.partitions.unavailable > 0 && figures.partitions.available > 0);
    assert!(problems[0].contains("unavailable"), "{problems:#?}");
    assert!(problems[1].contains("brake"), "{problems:#?}");
    assert!(problems[2].contains("node 1 (node-1) is down"), "{problems:#?}");
    assert!(problems[2].contains("if it is not back in"), "{problems:#?}");
    assert!(problems.iter().any(|problem| problem.contains("fewer healthy")), "{problems:#?}");
}

fn figures_of_nothing() -> Vec<String> {
    status::figures(&ZoneState::default(), None, std::time::Duration::ZERO).problems
}

#[test]
fn a_full_disk_and_a_failed_replica_are_named() {
    let mut world = World::new(4, 3, &["a", "b", "c"]);
    world.settle(400);
    let low = Heartbeat { disk_below_reserve: true, ..Heartbeat::default() };
    world.view.heartbeat(NodeId(2), low, world.now);
    let (id, partition) = world.state.partitions().first().expect("some");
    let (id, victim) = (*id, partition.targets[0]);
    let mut report = world.view.replica(id, victim.id).expect("reported").report.clone();
    report.phase = ReplicaPhase::Failed;
    report.message = "checksums differ".into();
    world.view.report(victim.node, report, world.now);
    let figures = figures(&world);
    let said = |words: &str| figures.problems.iter().any(|problem| problem.contains(words));
    assert!(said("too little disk space"), "{:#?}", figures.problems);
    assert!(said("has failed: checksums differ"), "{:#?}", figures.problems);
    assert_eq!(figures.partitions.under_replicated, 1);
    let replicas = status::replicas(&world.state, Some(&world.view), id);
    assert!(replicas.iter().any(|replica| replica.role == Role::Failed));
}

#[test]
fn a_voter_that_does_not_follow_for_long_is_no_healthy_replica() {
    let mut world = World::new(4, 3, &["a", "b", "c"]);
    world.settle(400);
    let (id, partition) = world.state.partitions().first().expect("some");
    let (id, leader) = (*id, partition.leader.expect("led"));
    let laggard = partition.targets.iter().find(|target| target.id != leader.replica);
    let laggard = *laggard.expect("three");
    let healthy = world.view.replica(id, leader.replica).expect("reported").report.clone();
    let at = world.now;
    let say = |world: &mut World, seconds: u64, matched: Option<u64>, lag_entries: u64| {
        let mut report = healthy.clone();
        let last = report.last_log.expect("some");
        for progress in report.progress.iter_mut().filter(|it| it.replica == laggard.id) {
            progress.matched = matched.map(|index| LogPosition { index, ..last });
            progress.lag_entries = lag_entries;
        }
        world.now = at + Duration::from_secs(seconds);
        world.view.report(leader.node, report, world.now);
    };
    let counted = |world: &mut World, seconds: u64| {
        world.now = at + Duration::from_secs(seconds);
        let figures = figures(world);
        let said = figures.problems.iter().any(|it| it.contains("has not followed its leader"));
        let counted = figures.partitions.under_replicated;
        assert_eq!(said, counted == 1, "{:?}", figures.problems);
        let one = status::partition(&world.state, Some(&world.view), id, world.now);
        assert_eq!(one.expect("known").under_replicated, said);
        said
    };
    // Nothing is known of its log.
    say(&mut world, 0, None, 9);
    assert!(!counted(&mut world, 30));
    assert!(counted(&mut world, 31));
    say(&mut world, 32, Some(500), 3);
    assert!(!counted(&mut world, 100), "a few entries are not worth a word");
    // Close behind, and getting on: it follows. Then it stands still.
    for step in 0..20 {
        say(&mut world, 100 + step * 5, Some(500 + step), 200);
        assert!(!counted(&mut world, 104 + step * 5));
    }
    assert!(counted(&mut world, 230));
    // Far behind for long is too little, however fast it gets on.
    for step in 0..10 {
        say(&mut world, 300 + step * 5, Some(5_000 + step), 50_000);
        assert_eq!(counted(&mut world, 304 + step * 5), step * 5 + 4 > 30);
    }
    say(&mut world, 400, Some(60_000), 0);
    assert!(!counted(&mut world, 500));
}

#[test]
fn progress_goes_from_nothing_to_all() {
    let mut world = World::new(16, 3, &["a", "b", "c", "d"]);
    world.settle(400);
    let node = NodeId(2);
    let outcome = world.apply(Action::DrainNode { node, accept_data_loss_risk: false });
    let Ok(model::Applied::Operation(drain)) = outcome else { panic!("{outcome:?}") };
    let mut last = 0;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        world.step();
        let progress =
            progress::progress(&world.state, Some(&world.view), drain).expect("remembered");
        assert!(progress.percent >= last, "{progress:?}");
        assert!(!progress.step.is_empty());
        last = progress.percent;
        for (id, _) in world.state.running_operations() {
            let part = progress::progress(&world.state, Some(&world.view), id).expect("running");
            assert!(part.percent < 100, "{part:?}");
            seen.insert(part.step);
            assert!(progress::progress(&world.state, None, id).is_some());
        }
    }
    assert_eq!(last, 100);
    assert!(seen.len() > 4, "{seen:?}");
}

#[test]
fn a_zone_too_large_to_walk_over_has_its_figures_from_the_tally() {
    let mut world = World::new(8, 3, &["a", "b", "c"]);
    world.settle(400);
    let tally = Tally::unseen(&world.state);
    let (state, view, now) = (&world.state, &world.view, world.now);
    assert_eq!(status::figures_by(state, view, &tally, now), figures(&world));
    let unseen = status::figures_of(state, Some(view), &tally, now);
    assert_eq!(unseen.partitions.unavailable, 8);
    assert!(unseen.problems[0].starts_with("8 partitions are unavailable"), "{unseen:?}");
    let seen = Tally::of(state, Some(view), now);
    assert_eq!(status::figures_of(state, Some(view), &seen, now), figures(&world));
}
