//! Leader counts: the best possible, at the least movement, and then at rest.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    NodeId, PartitionId,
    leaders::{Seat, solve},
};
use proptest::prelude::*;

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
