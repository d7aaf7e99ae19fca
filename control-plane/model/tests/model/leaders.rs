//! Leader counts: the best possible, at the least movement, and then at rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    Action, Applied, NodeId, PartitionId,
    command::{EndResult, OperationEnd, TransferProposal},
    detector::{Detector, DetectorOptions},
    leaders::{self, EFFORT_MAX, Seat, solve, solve_within},
    node::NodeState,
    observation::Heartbeat,
    operation::Origin,
};
use proptest::prelude::*;

use crate::world::World;

#[derive(Clone, Debug)]
struct Problem {
    seats: Vec<Seat>,
    fixed: BTreeMap<NodeId, u32>,
    leading: BTreeSet<NodeId>,
}

/// How good an assignment is: seats that stay where they may not lead, then the sum of squares, then
/// the number of transfers. The least is the best.
fn cost(problem: &Problem, assigned: &[NodeId]) -> (usize, u64, usize) {
    let mut loads: BTreeMap<NodeId, u64> = problem.leading.iter().map(|node| (*node, 0)).collect();
    for (node, count) in &problem.fixed {
        *loads.entry(*node).or_default() += u64::from(*count);
    }
    for node in assigned {
        *loads.entry(*node).or_default() += 1;
    }
    let misplaced = problem
        .seats
        .iter()
        .zip(assigned)
        .filter(|(seat, node)| !seat.eligible.is_empty() && !seat.eligible.contains(node))
        .count();
    let squares = loads
        .iter()
        .filter(|(node, _)| problem.leading.contains(node))
        .map(|(_, load)| load * load)
        .sum();
    let transfers =
        problem.seats.iter().zip(assigned).filter(|(seat, node)| seat.current != **node).count();
    (misplaced, squares, transfers)
}

fn best(problem: &Problem) -> (usize, u64, usize) {
    let mut assignments: Vec<Vec<NodeId>> = vec![Vec::new()];
    for seat in &problem.seats {
        let mut choices = seat.eligible.clone();
        choices.insert(seat.current);
        assignments = assignments
            .into_iter()
            .flat_map(|assigned| {
                choices.iter().map(move |node| {
                    let mut next = assigned.clone();
                    next.push(*node);
                    next
                })
            })
            .collect();
    }
    assignments.iter().map(|assigned| cost(problem, assigned)).min().expect("at least one")
}

fn problem(nodes: u64, seats_max: usize) -> impl Strategy<Value = Problem> {
    let node = (1..=nodes).prop_map(NodeId);
    let seat = (
        proptest::collection::btree_set(node.clone(), 1..=3),
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
    );
    let leading =
        proptest::collection::btree_set(node.clone(), 1..=usize::try_from(nodes).expect("few"));
    let fixed = proptest::collection::btree_map(node, 0_u32..3, 0..2);
    (proptest::collection::vec(seat, 0..=seats_max), leading, fixed).prop_map(
        |(seats, leading, fixed)| {
            let seats = seats
                .into_iter()
                .zip(1..)
                .map(|((holders, current, preferred), id)| {
                    let list: Vec<_> = holders.iter().copied().collect();
                    Seat {
                        partition: PartitionId(id),
                        current: list[current.index(list.len())],
                        eligible: holders.intersection(&leading).copied().collect(),
                        preferred: Some(list[preferred.index(list.len())]),
                    }
                })
                .collect();
            Problem { seats, fixed, leading }
        },
    )
}

fn check(problem: &Problem, assigned: &[NodeId]) {
    for (seat, node) in problem.seats.iter().zip(assigned) {
        assert!(seat.eligible.contains(node) || *node == seat.current, "{seat:?} on {node}");
    }
}

fn moved(problem: &Problem, assigned: &[NodeId]) -> Problem {
    let seats = problem
        .seats
        .iter()
        .zip(assigned)
        .map(|(seat, node)| Seat { current: *node, ..seat.clone() })
        .collect();
    Problem { seats, ..problem.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_assignment_is_better(problem in problem(4, 7)) {
        let assigned = solve(&problem.seats, &problem.fixed, &problem.leading);
        check(&problem, &assigned);
        prop_assert_eq!(cost(&problem, &assigned), best(&problem));
    }

    #[test]
    fn what_is_balanced_stays(problem in problem(8, 60)) {
        let assigned = solve(&problem.seats, &problem.fixed, &problem.leading);
        check(&problem, &assigned);
        let next = moved(&problem, &assigned);
        prop_assert_eq!(solve(&next.seats, &next.fixed, &next.leading), assigned);
    }

    /// Carried out in any part, the rest of the plan is no longer than what is left of it.
    #[test]
    fn half_of_a_plan_is_half_of_the_way(
        problem in problem(6, 30),
        keep in proptest::collection::vec(any::<bool>(), 30),
    ) {
        let assigned = solve(&problem.seats, &problem.fixed, &problem.leading);
        let part: Vec<NodeId> = problem
            .seats
            .iter()
            .zip(&assigned)
            .zip(&keep)
            .map(|((seat, to), keep)| if *keep { *to } else { seat.current })
            .collect();
        let left = part.iter().zip(&assigned).filter(|(now, to)| now != to).count();
        let next = moved(&problem, &part);
        let rest = solve(&next.seats, &next.fixed, &next.leading);
        let (_, _, transfers) = cost(&next, &rest);
        prop_assert!(transfers <= left, "{} transfers for {} that were left", transfers, left);
    }
}

#[test]
fn a_chain_is_shifted_where_no_single_transfer_helps() {
    let node = NodeId;
    let seat = |id, current, other| Seat {
        partition: PartitionId(id),
        current: node(current),
        eligible: BTreeSet::from([node(current), node(other)]),
        preferred: None,
    };
    // Node 1 leads three, node 2 one, node 3 none; only node 2 shares partitions with both.
    let problem = Problem {
        seats: vec![seat(1, 1, 2), seat(2, 1, 2), seat(3, 2, 3), seat(4, 1, 2)],
        fixed: BTreeMap::new(),
        leading: BTreeSet::from([node(1), node(2), node(3)]),
    };
    let assigned = solve(&problem.seats, &problem.fixed, &problem.leading);
    assert_eq!(cost(&problem, &assigned), best(&problem));
    assert_eq!(assigned[2], node(3));
}

#[test]
fn among_equals_the_preferred_partition_moves() {
    let node = NodeId;
    let seat = |id, preferred| Seat {
        partition: PartitionId(id),
        current: node(1),
        eligible: BTreeSet::from([node(1), node(2)]),
        preferred: Some(node(preferred)),
    };
    let seats = vec![seat(1, 1), seat(2, 2)];
    let leading = BTreeSet::from([node(1), node(2)]);
    assert_eq!(solve(&seats, &BTreeMap::new(), &leading), vec![node(1), node(2)]);
}

/// Seats on random nodes, skewed towards the first ones, with three holders each.
fn big(nodes: u64, seats: u64, seed: u64) -> Problem {
    let mut drawn = seed;
    let mut draw = |below: u64| {
        // A linear congruential generator: any will do.
        drawn =
            drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (drawn >> 33) % below
    };
    let seats = (1..=seats)
        .map(|id| {
            let mut eligible = BTreeSet::new();
            while eligible.len() < 3 {
                let most = 1 + draw(nodes);
                eligible.insert(NodeId(1 + draw(most)));
            }
            let current = *eligible.first().expect("three");
            Seat { partition: PartitionId(id), current, eligible, preferred: None }
        })
        .collect();
    let leading = (1..=nodes).map(NodeId).collect();
    Problem { seats, fixed: BTreeMap::new(), leading }
}

#[test]
fn a_big_zone_is_solved_to_the_end_and_then_rests() {
    for (nodes, seats, seed) in [(60, 3_000, 1), (200, 6_000, 2), (9, 1_000, 3)] {
        let problem = big(nodes, seats, seed);
        let solution = solve_within(&problem.seats, &problem.fixed, &problem.leading, EFFORT_MAX);
        check(&problem, &solution.assigned);
        assert!(solution.weighed < EFFORT_MAX, "{nodes} nodes: {}", solution.weighed);
        let next = moved(&problem, &solution.assigned);
        assert_eq!(solve(&next.seats, &next.fixed, &next.leading), solution.assigned);
    }
}

#[test]
fn many_small_improvements_are_all_made() {
    // Each three nodes on their own lead 2, 1 and 0, and only a shift over the middle one helps.
    let seats: Vec<Seat> = (0..1_000)
        .flat_map(|group| {
            let first = group * 3 + 1;
            [(0, 0, 1), (1, 0, 1), (2, 1, 2)].map(|(seat, current, other)| Seat {
                partition: PartitionId(first + seat),
                current: NodeId(first + current),
                eligible: BTreeSet::from([NodeId(first + current), NodeId(first + other)]),
                preferred: None,
            })
        })
        .collect();
    let leading: BTreeSet<NodeId> = (1..=3_000).map(NodeId).collect();
    let solution = solve_within(&seats, &BTreeMap::new(), &leading, u64::MAX);
    let mut counts: BTreeMap<NodeId, u32> = BTreeMap::new();
    for node in &solution.assigned {
        *counts.entry(*node).or_default() += 1;
    }
    assert!(counts.len() == 3_000 && counts.values().all(|count| *count == 1));
    // Zones of which one plan could weigh everything are never cut short.
    let part: Vec<Seat> = seats.iter().take(600 * 3).cloned().collect();
    let leading: BTreeSet<NodeId> = (1..=1_800).map(NodeId).collect();
    let assigned = solve(&part, &BTreeMap::new(), &leading);
    assert_eq!(assigned.iter().collect::<BTreeSet<_>>().len(), 1_800);
}

#[test]
fn the_effort_is_bounded_and_what_was_found_by_then_is_an_improvement() {
    let problem = big(200, 6_000, 7);
    let unmoved: Vec<NodeId> = problem.seats.iter().map(|seat| seat.current).collect();
    let mut last = cost(&problem, &unmoved);
    for effort in [0, 1_000, 100_000, 1_000_000] {
        let solution = solve_within(&problem.seats, &problem.fixed, &problem.leading, effort);
        check(&problem, &solution.assigned);
        // What has been begun is brought to its end: one look at all moves between nodes.
        assert!(solution.weighed <= effort + 200 * 200, "{} of {effort}", solution.weighed);
        let reached = cost(&problem, &solution.assigned);
        assert!(reached <= last, "{reached:?} after {last:?}");
        last = reached;
    }
}

/// The partition's group elects its replica on a node, and says so.
fn elect(world: &mut World, partition: PartitionId, node: NodeId) {
    let group = world.groups.get_mut(&partition).expect("founded");
    let replica = group.replicas.iter().find(|(_, toy)| toy.node == node).map(|(id, _)| *id);
    group.leader = replica;
    group.term += 1;
    world.run(2);
}

/// A zone in which two more leaderships have just come to node 1, and what evens them out.
fn uneven() -> (World, TransferProposal) {
    let mut world = World::new(6, 3, &["a", "b", "c"]);
    world.settle(400);
    let elsewhere: Vec<PartitionId> = world
        .state
        .partitions()
        .iter()
        .filter(|(_, partition)| partition.leader.is_some_and(|it| it.node != NodeId(1)))
        .map(|(id, _)| *id)
        .take(2)
        .collect();
    for partition in elsewhere {
        elect(&mut world, partition, NodeId(1));
    }
    let transfer = planned(&world).first().cloned().expect("4, 1 and 1 are uneven");
    (world, transfer)
}

fn planned(world: &World) -> Vec<TransferProposal> {
    leaders::plan(&world.state, &world.view, world.now).transfers
}

fn is_planned(world: &World, transfer: &TransferProposal) -> bool {
    planned(world).iter().any(|it| (it.partition, it.to) == (transfer.partition, transfer.to))
}

/// What the judge says of a node.
#[test]
fn while_a_node_is_slow_only_what_it_leads_moves() {
    let (mut world, _) = uneven();
    for state in [NodeState::Slow, NodeState::Recovering] {
        world.conclude(NodeId(2), state);
        let transfers = planned(&world);
        let from: BTreeSet<NodeId> = transfers.iter().map(|it| it.from).collect();
        assert_eq!(from, BTreeSet::from([NodeId(2)]), "{transfers:?}");
        assert!(transfers.iter().all(|it| it.to == NodeId(3)), "the other one has enough");
    }
    world.conclude(NodeId(2), NodeState::Up);
    assert!(planned(&world).iter().all(|it| it.from == NodeId(1)));
    assert!(!planned(&world).is_empty());
}

/// The transfer is begun, and does not happen.
fn fail(world: &mut World, transfer: &TransferProposal) {
    let transfers = vec![transfer.clone()];
    let started = world.apply(Action::StartTransfers { origin: Origin::Balance, transfers });
    let Ok(Applied::Batch { operations, refused, .. }) = started else { panic!("{started:?}") };
    assert_eq!(refused, Vec::new());
    let result = EndResult::Cancelled { reason: "it did not lead in time".into() };
    let ends = vec![OperationEnd { operation: operations[0], result }];
    world.apply(Action::EndOperations { ends }).expect("a batch");
}

/// Lets zone time go on, and nothing else.
fn pass(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        world.now += Duration::from_secs(1);
        world.apply(Action::Tick).expect("a tick");
    }
    // Nobody was late in the meantime.
    world.detector = Detector::new(DetectorOptions::default(), world.now);
    for node in world.nodes.keys() {
        world.view.heartbeat(*node, Heartbeat::default(), world.now);
    }
}

#[test]
fn a_transfer_that_fails_rests_longer_each_time() {
    let (mut world, transfer) = uneven();
    for rest in [2, 4, 8, 16, 32, 60, 60] {
        assert!(is_planned(&world, &transfer));
        fail(&mut world, &transfer);
        assert!(!is_planned(&world, &transfer), "not again at once");
        assert!(world.state.wants_ticks(), "time must go on for it to end");
        pass(&mut world, rest - 1);
        assert!(!is_planned(&world, &transfer), "not within {rest} s");
        pass(&mut world, 1);
    }
    assert!(is_planned(&world, &transfer));
    assert!(!world.state.wants_ticks());
    // A success lets it start over.
    let (partition, to) = (transfer.partition, transfer.to);
    world.apply(Action::TransferLeader { partition, to }).expect("possible");
    elect(&mut world, partition, to);
    assert_eq!(world.state.partition(partition).and_then(|it| it.leader).expect("led").node, to);
    elect(&mut world, partition, NodeId(1));
    fail(&mut world, &transfer);
    pass(&mut world, 2);
    assert!(leaders::resting(&world.state).is_empty());
}

#[test]
fn no_leadership_goes_to_a_replica_that_is_not_known_to_follow() {
    let (mut world, transfer) = uneven();
    let (id, now) = (transfer.partition, world.now);
    let partition = world.state.partition(id).expect("there");
    let leader = partition.leader.expect("led").replica;
    let target = partition.target_on(transfer.to).expect("a holder").id;
    let known = world.view.replica(id, leader).expect("reported").report.clone();
    let say = |world: &mut World, matched: bool, lag_entries: u64, at: Duration| {
        let mut report = known.clone();
        for progress in report.progress.iter_mut().filter(|it| it.replica == target) {
            progress.matched = report.last_log.filter(|_| matched);
            progress.lag_entries = lag_entries;
        }
        world.now = at;
        world.view.report(transfer.from, report, at);
    };
    assert!(is_planned(&world, &transfer));
    say(&mut world, false, 5, now);
    assert!(!is_planned(&world, &transfer), "nothing of its log is known, as short as it is");
    say(&mut world, true, 1_001, now);
    assert!(!is_planned(&world, &transfer), "too far behind");
    say(&mut world, true, 0, now);
    assert!(is_planned(&world, &transfer));
    say(&mut world, true, 900, now);
    assert!(is_planned(&world, &transfer), "close enough");
    say(&mut world, true, 950, now + Duration::from_secs(10));
    assert!(!is_planned(&world, &transfer), "it gets no further");
}
