//! When a zone at rest is looked at again, and when not.

use model::{
    balance::{BalancePolicy, NodeView, PROCESSOR, PartitionView},
    ids::NodeId,
};

use super::{
    checker::worst,
    properties::{settle, step},
    zone::{Layout, Zone},
};

const EVEN: Layout =
    Layout { nodes: 9, domains: 9, partitions: 270, replicas: 3, sizes: 1, load_percent: 40 };

fn resting() -> Zone {
    let mut zone = EVEN.skewed(3);
    assert!(settle(&mut zone, &BalancePolicy::default(), 400) < 400);
    assert!(zone.snapshot.memory.rest.is_some());
    zone
}

fn changes(zone: &Zone) -> usize {
    zone.transfers + zone.moves
}

/// Steps so many rounds of ten seconds; the changes that were made in them.
fn steps(zone: &mut Zone, rounds: usize) -> usize {
    let before = changes(zone);
    for _ in 0..rounds {
        step(zone, &BalancePolicy::default());
    }
    changes(zone) - before
}

/// Multiplies the heat of what a node leads.
fn heat_up(zone: &mut Zone, node: u32, percent: u64) {
    for view in &mut zone.snapshot.partitions {
        if view.leader_node() == Some(node) {
            for amount in &mut view.leader_heat[..=PROCESSOR] {
                *amount = *amount * percent / 100;
            }
        }
    }
}

#[test]
fn time_alone_changes_nothing() {
    let mut zone = resting();
    // More than two days.
    assert_eq!(steps(&mut zone, 20_000), 0);
}

#[test]
fn a_node_that_stands_out_for_a_moment_is_left_alone_and_one_that_goes_on_is_relieved() {
    let mut zone = resting();
    let heat: Vec<_> = zone.snapshot.partitions.iter().map(|view| view.leader_heat).collect();
    for _ in 0..5 {
        heat_up(&mut zone, 2, 140);
        assert_eq!(steps(&mut zone, 3), 0);
        for (view, heat) in zone.snapshot.partitions.iter_mut().zip(&heat) {
            view.leader_heat = *heat;
        }
        assert_eq!(steps(&mut zone, 1), 0);
    }
    heat_up(&mut zone, 2, 140);
    assert!(steps(&mut zone, 10) > 0);
}

#[test]
fn a_new_node_ends_the_rest_and_gets_its_share() {
    let mut zone = resting();
    let node = NodeView { id: NodeId(10), fault_domain: 9, ..zone.snapshot.nodes[0].clone() };
    zone.snapshot.nodes.push(node);
    assert!(steps(&mut zone, 200) > 0);
    assert_eq!(steps(&mut zone, 200), 0);
    let after = worst(&zone.snapshot, &BalancePolicy::default());
    assert!(after <= 1.05, "{after}");
    assert!(zone.snapshot.partitions.iter().any(|view| view.leader_node() == Some(9)));
}

#[test]
fn another_load_ends_the_rest_of_a_zone_that_could_not_be_made_even() {
    // A single large piece that nothing else makes up for.
    let mut zone = Layout { partitions: 9, replicas: 1, ..EVEN }.spread(1);
    zone.snapshot.partitions[0].leader_heat[PROCESSOR] *= 4;
    assert!(settle(&mut zone, &BalancePolicy::default(), 400) < 400);
    steps(&mut zone, 10);
    let rest = zone.snapshot.memory.rest.clone().unwrap();
    assert!(rest.worst_share_permille() > 1_500, "{rest:?}");
    assert_eq!(steps(&mut zone, 500), 0);
    for view in &mut zone.snapshot.partitions {
        for amount in &mut view.leader_heat[..=PROCESSOR] {
            *amount = *amount * 7 / 5;
        }
    }
    let made = (0..10).map(|_| step(&mut zone, &BalancePolicy::default()));
    let since: Vec<_> = made.filter_map(|plan| plan.memory.rest).map(|rest| rest.since).collect();
    assert!(since.last().unwrap() > &rest.since, "it was looked at again");
    assert!(zone.snapshot.memory.rest.as_ref().unwrap().load[PROCESSOR] > rest.load[PROCESSOR]);
}

#[test]
fn a_load_that_goes_elsewhere_ends_the_rest_although_it_is_as_much_and_as_uneven() {
    // A single large piece again, which is another one later.
    let mut zone = Layout { partitions: 9, replicas: 1, ..EVEN }.spread(1);
    zone.snapshot.partitions[0].leader_heat[PROCESSOR] *= 4;
    assert!(settle(&mut zone, &BalancePolicy::default(), 400) < 400);
    steps(&mut zone, 10);
    assert_eq!(steps(&mut zone, 100), 0);
    let from = zone.snapshot.partitions[0].leader_node();
    let other = zone.snapshot.partitions.iter().position(|view| view.leader_node() != from);
    let rest = zone.snapshot.memory.rest.clone().unwrap();
    let large = zone.snapshot.partitions[0].leader_heat;
    let small = std::mem::replace(&mut zone.snapshot.partitions[other.unwrap()].leader_heat, large);
    zone.snapshot.partitions[0].leader_heat = small;
    steps(&mut zone, 10);
    let again = zone.snapshot.memory.rest.clone().unwrap();
    assert!(again.since > rest.since, "it was looked at again");
}

#[test]
fn what_was_too_little_to_matter_begins_to_only_when_it_is_another_load() {
    // A hair's breadth below the 2 % from which on load matters; stored bytes are spread all the same.
    let mut zone = Layout { load_percent: 2, ..EVEN }.skewed(3);
    assert!(settle(&mut zone, &BalancePolicy::default(), 400) < 400);
    let rest = zone.snapshot.memory.rest.clone().expect("it is spread");
    let idle = rest.capacity[PROCESSOR] * u64::from(BalancePolicy::default().idle_permille) / 1_000;
    assert!(rest.load[PROCESSOR] < idle && idle - rest.load[PROCESSOR] < idle / 100, "{rest:?}");
    heat_up(&mut zone, 2, 150);
    let load = |zone: &Zone| -> u64 {
        let views = zone.snapshot.partitions.iter();
        let of =
            |view: &PartitionView| view.leader_heat[PROCESSOR] + 2 * view.follower_heat[PROCESSOR];
        views.map(of).sum()
    };
    assert!(load(&zone) > idle, "{} of {idle}", load(&zone));
    assert_eq!(steps(&mut zone, 100), 0, "it is the same load still");
    for node in 0..9 {
        heat_up(&mut zone, node, 140);
    }
    assert!(steps(&mut zone, 10) > 0);
}
