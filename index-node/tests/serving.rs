//! Nodes that serve partitions, over real gRPC and real stores, with and without a control plane.

mod zone;

use index_node::configuration::RaftSettings;
use proto::v1::{
    AddLearner, ChangeMembers, DestroyReplica, EnsureReplica, KeyRange, Order, ReplicaPhase,
    ReplicaPlacement, order::Kind,
};
use zone::{clients::Clients, control_plane::ControlPlane, eventually, node::TestNode};

const PARTITION: u64 = 1;

fn placement(node: u64) -> ReplicaPlacement {
    ReplicaPlacement { replica_id: replica_on(node), node_id: node }
}

/// The tests put replica 10 + n on node n.
fn replica_on(node: u64) -> u64 {
    10 + node
}

fn order(node: u64, kind: Kind) -> Order {
    Order {
        partition_id: PARTITION,
        replica_id: replica_on(node),
        membership_log: None,
        kind: Some(kind),
    }
}

fn ensure(node: u64, founders: &[u64]) -> Order {
    let ensure = EnsureReplica {
        range: Some(KeyRange::default()),
        range_epoch: 1,
        founders: founders.iter().map(|founder| placement(*founder)).collect(),
        campaign: founders.first() == Some(&node),
    };
    order(node, Kind::Ensure(ensure))
}

struct Zone {
    control_plane: ControlPlane,
    nodes: Vec<TestNode>,
}

impl Zone {
    async fn start(nodes: usize, raft: RaftSettings) -> Self {
        let control_plane = ControlPlane::start(5).await;
        let mut zone = Self { control_plane, nodes: Vec::new() };
        for number in 1..=nodes {
            zone.add(&format!("node-{number}"), raft.clone()).await;
        }
        zone
    }

    /// Nodes get the ids 1, 2, 3, … in the sequence in which they are added.
    async fn add(&mut self, name: &str, raft: RaftSettings) {
        let address = &self.control_plane.address;
        let node = TestNode::start_with(name, address, raft).await;
        eventually("the node is in session", async || {
            let id = self.control_plane.node_id(node.address())?;
            self.control_plane.is_in_session(id).then_some(())
        })
        .await;
        self.nodes.push(node);
    }

    /// A partition whose first voters are on nodes 1 to `founders`.
    async fn found(&self, founders: u64) {
        let all: Vec<u64> = (1..=founders).collect();
        for node in &all {
            let fence = self.control_plane.fence(1);
            self.control_plane.order(*node, fence, vec![ensure(*node, &all)]).await;
        }
        self.reported_leader().await;
    }

    /// The node that reports to lead.
    async fn reported_leader(&self) -> u64 {
        eventually("a leader is reported", async || {
            self.control_plane.leader(PARTITION).map(|(_, node)| node)
        })
        .await
    }

    fn addresses(&self) -> Vec<&str> {
        self.nodes.iter().map(TestNode::address).collect()
    }

    fn node(&mut self, id: u64) -> &mut TestNode {
        &mut self.nodes[usize::try_from(id).unwrap() - 1]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_survives_its_leader_without_a_control_plane() {
    let mut zone = Zone::start(3, RaftSettings::default()).await;
    zone.found(3).await;
    let mut clients = Clients::new();
    let first = clients.put(&zone.addresses(), PARTITION, "a", "one").await;
    assert_eq!(clients.get(&zone.addresses(), PARTITION, "a").await, Some("one".into()));

    let leader = zone.reported_leader().await;
    zone.control_plane.stop();
    zone.node(leader).kill().await;
    let second = clients.put(&zone.addresses(), PARTITION, "a", "two").await;
    assert!(second > first);
    assert_eq!(clients.get(&zone.addresses(), PARTITION, "a").await, Some("two".into()));

    // The old leader comes back, still without a control plane, and the second one dies.
    zone.node(leader).start_again();
    for key in 0..20 {
        clients.put(&zone.addresses(), PARTITION, &format!("k{key}"), "three").await;
    }
    let mut second_leader = 0;
    for node in 1..=3 {
        let address = zone.node(node).address().to_owned();
        if clients.get_at(&address, PARTITION, "a").await.is_ok() {
            second_leader = node;
        }
    }
    assert_ne!(second_leader, 0, "somebody leads");
    zone.node(second_leader).kill().await;
    clients.put(&zone.addresses(), PARTITION, "b", "four").await;
    assert_eq!(clients.get(&zone.addresses(), PARTITION, "a").await, Some("two".into()));
    assert_eq!(clients.get(&zone.addresses(), PARTITION, "k19").await, Some("three".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_start_again_without_a_control_plane() {
    let mut zone = Zone::start(3, RaftSettings::default()).await;
    zone.found(3).await;
    let mut clients = Clients::new();
    for key in 0..50 {
        clients.put(&zone.addresses(), PARTITION, &format!("k{key}"), "kept").await;
    }
    zone.control_plane.stop();
    for node in 1..=3 {
        zone.node(node).kill().await;
    }
    for node in 1..=3 {
        zone.node(node).start_again();
    }
    for key in 0..50 {
        let value = clients.get(&zone.addresses(), PARTITION, &format!("k{key}")).await;
        assert_eq!(value, Some("kept".into()));
    }
    clients.put(&zone.addresses(), PARTITION, "after", "written").await;

    // The control plane returns: the nodes register again, each as a new incarnation of itself.
    let control_plane = zone.control_plane.restart(6).await;
    control_plane.forget_reports();
    eventually("a leader is reported again", async || control_plane.leader(PARTITION)).await;
    for node in 1..=3 {
        eventually("the node is in session", async || {
            control_plane.is_in_session(node).then_some(())
        })
        .await;
        assert_eq!(control_plane.incarnation(node), 2);
        assert_eq!(control_plane.remembered_fence(node).unwrap().term, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_asked_to_stop_hands_its_leaderships_over() {
    let mut zone = Zone::start(3, RaftSettings::default()).await;
    zone.found(3).await;
    let mut clients = Clients::new();
    clients.put(&zone.addresses(), PARTITION, "a", "one").await;
    let leader = zone.reported_leader().await;
    zone.node(leader).stop().await;
    let others: Vec<String> = (1..=3)
        .filter(|node| *node != leader)
        .map(|node| zone.node(node).address().to_owned())
        .collect();
    // The first attempt already: whoever leads now leads since before the node ended.
    let mut led = false;
    for address in &others {
        led |= clients.get_at(address, PARTITION, "a").await.is_ok_and(|value| value.is_some());
    }
    assert!(led, "one of the others leads");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_moves_by_snapshot_over_the_wire() {
    let raft =
        RaftSettings { entries_per_snapshot: 50, entries_kept: 10, ..RaftSettings::default() };
    let mut zone = Zone::start(3, raft.clone()).await;
    zone.found(3).await;
    let mut clients = Clients::new();
    for key in 0..300 {
        let value = "x".repeat(2_000);
        clients.put(&zone.addresses(), PARTITION, &format!("k{key:03}"), &value).await;
    }
    zone.add("node-4", raft).await;
    let control_plane = zone.control_plane.clone();
    let fence = control_plane.fence(2);
    control_plane.order(4, fence, vec![ensure(4, &[])]).await;
    eventually("the new replica is there", async || control_plane.report(4, replica_on(4))).await;

    let leader = zone.reported_leader().await;
    let learner = AddLearner { learner: Some(placement(4)) };
    let mut add = order(leader, Kind::AddLearner(learner));
    add.membership_log = control_plane.membership_log(leader, replica_on(leader));
    control_plane.order(leader, fence, vec![add]).await;
    eventually("the new replica has everything", async || {
        let report = control_plane.report(4, replica_on(4))?;
        (report.keys == 300).then_some(())
    })
    .await;

    // The new one instead of one that does not lead.
    let gone = (1..=3).find(|node| *node != leader).unwrap();
    let kept: Vec<u64> = (1..=4).filter(|node| *node != gone).collect();
    let voters = kept.iter().map(|node| placement(*node)).collect();
    let mut change = order(leader, Kind::ChangeMembers(ChangeMembers { voters }));
    change.membership_log = eventually("the learner is in the membership", async || {
        let membership = control_plane.report(leader, replica_on(leader))?.membership?;
        let learns = membership.learners.contains(&placement(4)) && membership.committed;
        learns.then_some(membership.log_position).flatten()
    })
    .await
    .into();
    let fence = control_plane.fence(3);
    control_plane.order(leader, fence, vec![change]).await;
    let membership_log = eventually("the membership is the new one", async || {
        let membership = control_plane.report(leader, replica_on(leader))?.membership?;
        let [set] = membership.voter_sets.as_slice() else { return None };
        let has_new = set.voters.contains(&placement(4)) && !set.voters.contains(&placement(gone));
        (has_new && membership.committed).then_some(membership.log_position).flatten()
    })
    .await;
    let mut destroy = order(gone, Kind::Destroy(DestroyReplica {}));
    destroy.membership_log = Some(membership_log);
    let fence = control_plane.fence(4);
    control_plane.order(gone, fence, vec![destroy]).await;
    eventually("the old replica is destroyed", async || {
        let report = control_plane.report(gone, replica_on(gone))?;
        (report.phase() == ReplicaPhase::Destroyed).then_some(())
    })
    .await;
    // And never comes back, whatever is ordered.
    control_plane.take_refusals();
    let fence = control_plane.fence(5);
    control_plane.order(gone, fence, vec![ensure(gone, &[])]).await;
    let refusal = eventually("it is refused", async || control_plane.take_refusals().pop()).await;
    assert!(refusal.1.message.contains("destroyed"), "{}", refusal.1.message);
    assert_eq!(clients.get(&zone.addresses(), PARTITION, "k299").await, Some("x".repeat(2_000)));
    eventually("the load is reported as heat", async || {
        // A single read is no change worth a report at once.
        clients.get(&zone.addresses(), PARTITION, "k299").await?;
        let (reads, writes) = control_plane.heat();
        (reads > 0 && writes >= 300).then_some(())
    })
    .await;
}
