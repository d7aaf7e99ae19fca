//! What is kept of the reports.

use std::sync::Arc;

use model::{
    NodeId, PartitionId,
    ids::RangeEpoch,
    key_range::KeyRange,
    observation::{HeatReport, ReplicaPhase, ReplicaReport, ReportedMembership},
};

use crate::world::World;

/// The same report as it comes from the wire: all that it says has bytes of its own.
fn from_wire(report: &ReplicaReport, range: &KeyRange) -> ReplicaReport {
    let membership = report.membership.as_ref().map(|reported| ReportedMembership {
        membership: Arc::new((*reported.membership).clone()),
        committed: reported.committed,
    });
    let range = KeyRange::new(range.start(), range.end()).expect("a range");
    ReplicaReport { membership, range: Some(range), ..report.clone() }
}

#[test]
fn what_the_reports_of_a_group_have_in_common_is_kept_once() {
    let mut world = World::new(4, 3, &["a", "b", "c"]);
    world.settle(400);
    let (id, range) = (PartitionId(1), KeyRange::new([1], [2]).expect("a range"));
    let sent: Vec<_> = world
        .view
        .replicas(id)
        .map(|(_, view)| (view.node, from_wire(&view.report, &range)))
        .collect();
    for (node, report) in &sent {
        world.view.report(*node, from_wire(report, &range), world.now);
    }
    let kept: Vec<_> = world.view.replicas(id).map(|(_, view)| &view.report).collect();
    assert_eq!(kept.len(), 3);
    for (kept, (_, sent)) in kept.iter().zip(&sent) {
        assert_eq!(*kept, sent);
    }
    let ranges = kept.iter().filter_map(|report| report.range.as_ref());
    assert!(ranges.map(|range| range.start().as_ptr()).is_sorted_by(|one, other| one == other));
    let members = kept.iter().filter_map(|report| report.membership.as_ref());
    let members = members.map(|reported| Arc::as_ptr(&reported.membership));
    assert!(members.is_sorted_by(|one, other| one == other));
}

#[test]
fn the_load_of_a_partition_is_whose_who_reported_it_last() {
    let mut world = World::new(4, 3, &["a", "b", "c"]);
    world.settle(400);
    let id = PartitionId(1);
    let heat = |reads| HeatReport { interval_ms: 2_000, reads, ..HeatReport::default() };
    world.view.heat(NodeId(1), id, &heat(200));
    world.view.heat(NodeId(2), id, &heat(180));
    world.view.heat(NodeId(2), id, &HeatReport { interval_ms: 0, ..heat(999) });
    let reads_on = |world: &World, node| world.view.rates_on(NodeId(node)).reads_per_second;
    assert_eq!(world.view.rates_of(id).reads_per_second, 90.0);
    assert_eq!((reads_on(&world, 1), reads_on(&world, 2)), (0.0, 90.0));
    world.view.session_closed(NodeId(2), world.now);
    assert_eq!(world.view.rates_of(id).reads_per_second, 0.0);
    assert_eq!(reads_on(&world, 2), 0.0);
    assert_eq!(world.view.last_rates_of(id).reads_per_second, 90.0);
}

/// What a node gets by a snapshot instead of the log brings no child with it, and nobody reports what is missing.
#[test]
fn what_a_node_lacks_is_looked_at_again_when_what_it_might_have_come_with_has_moved_on() {
    let mut world = World::new(4, 3, &["a", "b", "c"]);
    world.settle(400);
    let (node, id) = (NodeId(1), PartitionId(1));
    let replica = world.state.partition(id).and_then(|it| it.target_on(node)).expect("it has one");
    let own = world.view.replica(id, replica.id).expect("it was reported").report.clone();
    let touched = |world: &mut World, report: &ReplicaReport| {
        world.view.take_touched(&world.state);
        world.view.report(node, report.clone(), world.now);
        world.view.take_touched(&world.state).iter().count()
    };
    assert_eq!(touched(&mut world, &own), 1, "the same is no news of others");
    let before = ReplicaReport { range: Some(KeyRange::full()), ..own.clone() };
    assert_eq!(touched(&mut world, &before), 1);
    let after = |epochs| RangeEpoch(own.range_epoch.0 + epochs);
    let split = ReplicaReport { range_epoch: after(1), ..own.clone() };
    assert_eq!(touched(&mut world, &split), 4);
    assert_eq!(touched(&mut world, &split), 1);
    let again = ReplicaReport { range_epoch: after(2), ..own.clone() };
    assert_eq!(touched(&mut world, &again), 1, "nothing else starts in its range");
    let wide = ReplicaReport { range_epoch: after(3), ..before };
    assert_eq!(touched(&mut world, &wide), 1);
    let destroyed = ReplicaReport { phase: ReplicaPhase::Destroyed, ..wide };
    assert_eq!(touched(&mut world, &destroyed), 4);
    assert_eq!(touched(&mut world, &destroyed), 1);
}
