//! Nodes that may not join: by hand on the wire, and as real processes.

use proto::v1::{NodeCapacity, ProtocolVersion, RegisterRequest};
use tonic::Code;
use zonectl::zone_process::{Role, ZoneProcesses};

use crate::support::{
    eventually, program,
    scripted::ScriptedControlPlane,
    shared::shared,
    wire::{Wire, refused},
    zone::TestZone,
};

/// What node 1 says when it registers again, as far as the zone shows it.
async fn known(zone: &TestZone) -> RegisterRequest {
    use crate::support::wire::node_id;
    let request = proto::v1::GetNodeRequest { node: node_id(1) };
    let detail = zone.admin().get_node(request).await.unwrap();
    let summary = detail.summary.unwrap();
    RegisterRequest {
        protocol_version: ProtocolVersion::ProtocolVersion1.into(),
        zone_id: zone.status().await.zone_id.unwrap(),
        identity: detail.identity,
        node_id: summary.id,
        incarnation: summary.incarnation,
        name: summary.name,
        address: summary.address,
        fault_domain: summary.fault_domain,
        capacity: Some(NodeCapacity { stored_bytes: summary.capacity_bytes, cores: 1 }),
        software_version: summary.software_version,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_wire() {
    let zone = shared().await;
    let wire = Wire::new();
    let before = zone.fingerprint().await;
    let right = known(&zone).await;
    let fresh = || wire.environment.random_uuid().to_string();
    let with = |change: &dyn Fn(&mut RegisterRequest)| {
        let mut request = right.clone();
        change(&mut request);
        request
    };
    // A newcomer: nothing is known of it yet.
    let new = |change: &dyn Fn(&mut RegisterRequest)| {
        let mut request = with(&|it| {
            it.zone_id.clear();
            it.node_id = 0;
            it.identity = fresh();
        });
        change(&mut request);
        request
    };
    let mut node = wire.node(&zone.address(zone.leader().await));
    for (code, words, request) in [
        (
            Code::FailedPrecondition,
            &["belongs to zone", "its own zone"][..],
            with(&|it| it.zone_id = fresh()),
        ),
        (Code::FailedPrecondition, &["identity", "not"], with(&|it| it.identity = fresh())),
        (Code::FailedPrecondition, &["node id 4711"], with(&|it| it.node_id = 4_711)),
        (
            Code::FailedPrecondition,
            &["identity", "not known in this zone"],
            with(&|it| {
                it.node_id = 0;
                it.identity = fresh();
            }),
        ),
        (
            Code::FailedPrecondition,
            &["protocol version 2", "version 1"],
            with(&|it| it.protocol_version = 2),
        ),
        (Code::FailedPrecondition, &["protocol version 0"], with(&|it| it.protocol_version = 0)),
        (
            Code::AlreadyExists,
            &[&*right.name, "belongs to node 1", "is up", "choose another name"],
            new(&|_| {}),
        ),
        (Code::InvalidArgument, &["identity", "UUID"], with(&|it| it.identity = "me".into())),
        (Code::InvalidArgument, &["zone_id", "UUID"], with(&|it| it.zone_id = "here".into())),
        (Code::InvalidArgument, &["incarnation is 0"], with(&|it| it.incarnation = 0)),
        (Code::InvalidArgument, &["name", "1 to 63"], new(&|it| it.name.clear())),
        (Code::InvalidArgument, &["name", "1 to 63"], new(&|it| it.name = "n".repeat(64))),
        (Code::InvalidArgument, &["name", "Node_1"], new(&|it| it.name = "Node_1".into())),
        (Code::InvalidArgument, &["fault_domain"], new(&|it| it.fault_domain = "rack a".into())),
        (Code::InvalidArgument, &["address", "host:port"], new(&|it| it.address = "here".into())),
        (Code::InvalidArgument, &["capacity.stored_bytes"], new(&|it| it.capacity = None)),
        (
            Code::InvalidArgument,
            &["software_version"],
            new(&|it| it.software_version = "v".repeat(129)),
        ),
        (Code::InvalidArgument, &["zone_id"], with(&|it| it.zone_id.clear())),
    ] {
        let shown = format!("{request:?}");
        let answer = node.register(request).await;
        let status = refused(answer, code, words);
        assert!(!status.message().is_empty(), "{shown}");
    }
    assert_eq!(zone.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_incarnation() {
    let mut zone = shared().await;
    // After a start, the incarnation of before is an old one.
    zone.processes.restart(Role::IndexNode(0), crate::support::LIMIT).await.unwrap();
    let status = zone.settled().await;
    let node = status.nodes.iter().find(|node| node.name == "node-1").unwrap();
    assert!(node.incarnation >= 2);
    let before = zone.fingerprint().await;
    let request = proto::v1::GetNodeRequest { node: crate::support::wire::node_id(node.id) };
    let identity = zone.admin().get_node(request).await.unwrap().identity;
    let old = RegisterRequest {
        identity,
        node_id: node.id,
        name: node.name.clone(),
        address: node.address.clone(),
        incarnation: node.incarnation - 1,
        ..known(&zone).await
    };
    let answer = Wire::new().node(&zone.address(zone.leader().await)).register(old).await;
    let words = [&*format!("incarnation {}", node.incarnation - 1), "older", "another process"];
    refused(answer, Code::FailedPrecondition, &words);
    assert_eq!(zone.fingerprint().await, before);
}

/// Waits until the process says so in its log, and looks that it still runs.
async fn says(processes: &mut ZoneProcesses, role: Role, words: &[&str]) {
    eventually(&format!("{role} to say {words:?}"), async || {
        let log = processes.log_tail(role, 1_000);
        words.iter().all(|word| log.contains(word)).then_some(())
    })
    .await;
    assert!(processes.is_running(role), "it tries again until the operator has helped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_zone() {
    let zone = shared().await;
    let before = zone.fingerprint().await;
    // A sixth node, which another control plane has taken before.
    let other_zone = "9d3f7a52-16a4-4a3c-8a3e-0c9f0f1d2b3c";
    let mut place = TestZoneBeside::new(&zone);
    let mut elsewhere = place.elsewhere();
    let address = elsewhere.layout().endpoints()[0].clone();
    let control_plane = ScriptedControlPlane::start(&address, other_zone, 1).await;
    elsewhere.start(STRANGER).unwrap();
    control_plane.in_session().await;
    elsewhere.terminate(STRANGER, crate::support::LIMIT).await.unwrap();
    drop(elsewhere);
    let mut here = place.here();
    here.start(STRANGER).unwrap();
    says(&mut here, STRANGER, &["refuses this node", other_zone, "its own zone"]).await;
    here.kill(STRANGER).unwrap();
    assert_eq!(zone.fingerprint().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_the_name_of_another() {
    let zone = shared().await;
    let before = zone.fingerprint().await;
    let mut place = TestZoneBeside::new(&zone);
    let mut here = place.here();
    // The sixth node's process, under the name of the first one.
    let mut arguments = here.layout().arguments(STRANGER);
    let name = arguments.iter().position(|it| it == "--name").unwrap() + 1;
    arguments[name] = "node-1".into();
    drop(here);
    let mut command = program::command(&program::servers().index_node);
    let mut child = command.args(&arguments).spawn().unwrap();
    let log = child.stderr.take().unwrap();
    let reading = async {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let mut lines = BufReader::new(log).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("it goes on");
            if line.contains("refuses this node") {
                return line;
            }
        }
    };
    let line = tokio::time::timeout(crate::support::LIMIT, reading).await.expect("it is refused");
    for word in ["node-1", "belongs to node", "choose another name"] {
        assert!(line.contains(word), "{word} is not in: {line}");
    }
    child.kill().await.unwrap();
    here = place.here();
    drop(here);
    assert_eq!(zone.fingerprint().await, before);
}

/// A sixth index node.
const STRANGER: Role = Role::IndexNode(5);

/// Where a process beside the shared zone lives.
struct TestZoneBeside<'a> {
    zone: &'a TestZone,
    name: String,
}

impl<'a> TestZoneBeside<'a> {
    fn new(zone: &'a TestZone) -> Self {
        let name = format!("stranger-{}", zone.environment.random_uuid());
        Self { zone, name }
    }

    /// The stranger with the endpoints of the shared zone.
    fn here(&mut self) -> ZoneProcesses {
        self.zone.beside(&self.name, 6, &[])
    }

    /// The stranger with the endpoint of another control plane.
    fn elsewhere(&mut self) -> ZoneProcesses {
        let mut layout = self.here().layout().clone();
        layout.members = 1;
        // Ports of the shared zone's block that it does not use.
        layout.base_port += 50;
        ZoneProcesses::new(layout, program::servers()).unwrap()
    }
}
