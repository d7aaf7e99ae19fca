//! What cannot be planned for is refused, and precisely.

use model::{
    balance::{BalancePolicy, NodeView},
    balance::{Change, PartitionView, Planner, Running},
};

use super::zone::Layout;

const LAYOUT: Layout =
    Layout { nodes: 9, domains: 3, partitions: 20, replicas: 3, sizes: 1, load_percent: 50 };

fn refusal(edit: impl Fn(&mut PartitionView)) -> String {
    let mut zone = LAYOUT.spread(1);
    let mut planner = Planner::new(zone.snapshot.clone()).unwrap();
    let partition = &mut zone.snapshot.partitions[0];
    edit(partition);
    let told = planner.apply(Change::Partition { index: 0, partition: partition.clone() });
    let fresh = Planner::new(zone.snapshot).map(|_| ()).unwrap_err();
    assert_eq!(told.unwrap_err(), fresh);
    fresh.to_string()
}

#[test]
fn partitions_that_make_no_sense_are_refused() {
    assert_eq!(
        refusal(|view| view.nodes[1] = 99),
        "partition 1: a replica is on node 99: there are 9 nodes"
    );
    assert_eq!(
        refusal(|view| view.nodes[2] = view.nodes[0]),
        "partition 1: two replicas are on node 1: they must be on distinct nodes"
    );
    assert_eq!(
        refusal(|view| view.replica_count = 8),
        "partition 1: replica_count is 8: it must be 1 to 7"
    );
    assert_eq!(refusal(|view| view.leader = 3), "partition 1: replica 3 leads: it has 3 replicas");
    assert_eq!(
        refusal(|view| view.leader_heat[0] = u64::MAX),
        "partition 1: leader_heat of \"reads/s\" is 18446744073709551615: it must be at most 1125899906842624"
    );
    assert_eq!(
        refusal(|view| view.split_left_permille = 1_000),
        "partition 1: split_left_permille is 1000: it must be at most 999"
    );
    assert_eq!(
        refusal(|view| view.running = Running::Move { from: 0, to: 9 }),
        "partition 1: the destination of a move is on node 9: there are 9 nodes"
    );
}

#[test]
fn changes_leave_no_gaps() {
    let mut planner = Planner::new(LAYOUT.spread(1).snapshot).unwrap();
    let node = NodeView::default();
    let error = planner.apply(Change::Node { index: 10, node: node.clone() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "node 10 is changed: the next one is 9, so it must be at most that"
    );
    planner.apply(Change::Node { index: 9, node }).unwrap();
    assert_eq!(planner.nodes().len(), 10);
}

#[test]
fn policies_that_cannot_be_followed_are_refused() {
    let refusal = |policy: BalancePolicy| policy.check().unwrap_err().to_string();
    let sound = BalancePolicy::default;
    assert_eq!(sound().check(), Ok(()));
    assert_eq!(
        refusal(BalancePolicy { stop_at_permille: 1_100, ..sound() }),
        "stop_at_permille is 1100: it must be 1000 to 1050"
    );
    assert_eq!(refusal(BalancePolicy { version: 2, ..sound() }), "version is 2: it must be 1");
    let written = serde_json::to_string(&sound()).unwrap();
    assert_eq!(serde_json::from_str::<BalancePolicy>(&written).unwrap(), sound());
    let error = serde_json::from_str::<BalancePolicy>("{\"cooldown\": 5}").unwrap_err();
    assert!(error.to_string().starts_with("unknown field `cooldown`"), "{error}");
}
