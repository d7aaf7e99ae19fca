//! What the entry of a split makes of a state, and when nothing.

use std::collections::BTreeMap;

use crate::engine::{
    birth::{self, Halves},
    command::{Split, SplitRefusal},
    records::{GroupState, Measuring},
    types::{
        KeyRange, Lineage, NodeId, PartitionId, Placement, RaftMembership, ReplicaId, ReplicaNode,
        StoredMembership, log_id,
    },
};

fn placement(replica: u64, node: u64) -> Placement {
    Placement { replica: ReplicaId(replica), node: NodeId(node) }
}

/// With replicas 10, 20, … on nodes 1, 2, …
fn membership(voter_sets: &[&[u64]], learners: &[u64]) -> StoredMembership {
    let all = voter_sets.iter().copied().flatten().chain(learners);
    let nodes: BTreeMap<u64, ReplicaNode> =
        all.map(|node| (node * 10, ReplicaNode { node_id: NodeId(*node) })).collect();
    let voters = voter_sets.iter().map(|set| set.iter().map(|node| node * 10).collect()).collect();
    StoredMembership::new(Some(log_id(1, 10, 4)), RaftMembership::new(voters, nodes).unwrap())
}

fn state() -> GroupState {
    GroupState {
        applied: Some(log_id(1, 10, 8)),
        membership: membership(&[&[1, 2, 3]], &[]),
        range: Some(KeyRange { start: "b".into(), end: "y".into() }),
        range_epoch: 5,
        keys: 9,
        stored_bytes: 900,
        measuring: Some(Measuring { at: "m".into(), since: 7, keys: 1, stored_bytes: 100 }),
        ..GroupState::new(Lineage(4))
    }
}

fn split() -> Split {
    Split {
        at: "m".into(),
        range_epoch: 5,
        membership_log: Some(log_id(1, 10, 4)),
        child: PartitionId(2),
        replicas: vec![placement(11, 1), placement(21, 2), placement(31, 3)],
        measured_at: 7,
        keys: 3,
        stored_bytes: 300,
    }
}

fn halves(state: &GroupState, split: &Split) -> Result<Halves, SplitRefusal> {
    birth::halves(state, ReplicaId(20), log_id(1, 10, 9), split)
}

#[test]
fn range_keys_and_bytes_are_divided_and_nothing_else_changes() {
    let Ok(Halves { parent, child }) = halves(&state(), &split()) else {
        panic!("nothing speaks against it")
    };
    assert_eq!(parent.range, Some(KeyRange { start: "b".into(), end: "m".into() }));
    assert_eq!((parent.keys, parent.stored_bytes, parent.range_epoch), (5, 500, 6));
    assert_eq!((&parent.membership, parent.lineage), (&state().membership, Lineage(4)));
    assert_eq!((child.partition, child.own), (PartitionId(2), Some(ReplicaId(21))));
    assert_eq!(child.range, KeyRange { start: "m".into(), end: "y".into() });
    assert_eq!(child.state.range.as_ref(), Some(&child.range));
    assert_eq!((child.state.keys, child.state.stored_bytes, child.state.range_epoch), (4, 400, 6));
    assert_eq!((child.state.lineage, child.base), (Lineage(4), log_id(1, 10, 9)));
    let voters = birth::plain_voters(&child.state.membership);
    assert_eq!(voters, Some(split().replicas));
}

/// The order was checked when it came; by the time of the entry it may be another group.
#[test]
fn nothing_is_split_while_the_group_changes_or_after_it_has_changed() {
    use SplitRefusal::{NotInside, NotMeasured, OtherMembers, OtherNodes, OtherRange};
    type Case = (&'static str, SplitRefusal, fn(&mut GroupState, &mut Split));
    let cases: [Case; 14] = [
        ("joint", OtherMembers, |state, _| {
            state.membership = membership(&[&[1, 2, 3], &[1, 2, 4]], &[]);
        }),
        ("joint, of the same nodes", OtherMembers, |state, _| {
            state.membership = membership(&[&[1, 2, 3], &[1, 2]], &[]);
        }),
        ("a learner", OtherMembers, |state, _| {
            state.membership = membership(&[&[1, 2, 3]], &[4]);
        }),
        ("another log position", OtherMembers, |_, split| split.membership_log = None),
        ("other nodes", OtherNodes, |_, split| split.replicas[2] = placement(41, 4)),
        ("one too few", OtherNodes, |_, split| split.replicas.truncate(2)),
        ("one node twice", OtherNodes, |_, split| split.replicas[2] = placement(31, 2)),
        ("one id twice", OtherNodes, |_, split| split.replicas[2] = placement(21, 3)),
        ("an older range", OtherRange, |_, split| split.range_epoch = 4),
        ("no range", OtherRange, |state, _| state.range = None),
        ("outside", NotInside, |_, split| split.at = "z".into()),
        ("the first key", NotInside, |_, split| split.at = "b".into()),
        ("measured for another key", NotMeasured, |state, _| {
            state.measuring =
                Some(Measuring { at: "n".into(), ..state.measuring.clone().unwrap() });
        }),
        ("more than there is", NotMeasured, |_, split| split.keys = 9),
    ];
    for (name, expected, spoil) in cases {
        let (mut state, mut split) = (state(), split());
        spoil(&mut state, &mut split);
        assert_eq!(halves(&state, &split).err(), Some(expected), "{name}");
    }
}
