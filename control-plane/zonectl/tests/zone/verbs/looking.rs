//! Verbs that only look: `status`, `node list|show`, `partition list|show`, `operation list`, `events`.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{BRAKE, EVENT, NODE, OPERATION, PARTITION, and, has_fields};
use crate::support::{
    LIMIT,
    program::{Zonectl, terminate},
    shared::{NODES, shared},
};

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

#[track_caller]
fn contains(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let status = zonectl.json(&["status"]).await;
    has_fields(
        &status,
        &[
            "healthy",
            "problems",
            "zone_id",
            "revision",
            "from_leader",
            "control_plane",
            "nodes",
            "partitions",
            "operations",
            "brake",
            "replication_factor",
        ],
    );
    assert_eq!(status["healthy"], true);
    assert!(list(&status["problems"]).is_empty());
    assert!(status["revision"].as_u64().unwrap() > 0);
    assert_eq!(status["replication_factor"], 3);
    let control_plane = &status["control_plane"];
    has_fields(control_plane, &["leader", "term", "members"]);
    let members = list(&control_plane["members"]);
    assert_eq!(members.len(), 3);
    for member in members {
        has_fields(member, &["id", "address", "state", "lag_entries"]);
        let expected = if member["id"] == control_plane["leader"] { "leader" } else { "follower" };
        assert_eq!(member["state"], expected);
    }
    let nodes = list(&status["nodes"]);
    assert_eq!(nodes.len(), NODES as usize);
    for node in nodes {
        has_fields(node, &NODE);
        assert_eq!(
            (&node["state"], &node["administrative_state"]),
            (&"up".into(), &"active".into())
        );
    }
    let leaders: u64 = nodes.iter().map(|node| node["leaders"].as_u64().unwrap()).sum();
    let replicas: u64 = nodes.iter().map(|node| node["replicas"].as_u64().unwrap()).sum();
    assert_eq!((leaders, replicas), (8, 24));
    let counts = serde_json::json!({
        "total": 8, "available": 8, "under_replicated": 0, "unavailable": 0
    });
    assert_eq!(status["partitions"], counts);
    has_fields(&status["operations"], &["running", "failed"]);
    has_fields(&status["brake"], &BRAKE);
    assert_eq!(status["brake"]["engaged"], false);

    let text = zonectl.text(&["status"]).await;
    assert!(text.lines().next().unwrap().starts_with("HEALTHY"), "{text}");
    contains(&text, &[status["zone_id"].as_str().unwrap(), "8 partitions", "node-1", "leader"]);
    zonectl.json(&["status", "--wait-healthy", "10s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaders_view_comes_from_whichever_member_is_asked() {
    let mut zone = shared().await;
    for role in zone.processes.layout().member_roles() {
        let zonectl = Zonectl::new(&[zone.address(role)]);
        assert_eq!(zonectl.json(&["status"]).await["from_leader"], true, "{role}");
    }
    // Right after the leader's death too: no member's belief that the dead one leads is an answer.
    let former = zone.leader().await;
    zone.processes.kill(former).unwrap();
    let status = Zonectl::new(&zone.endpoints()).json(&["status"]).await;
    assert_eq!(status["from_leader"], true);
    let address = zone.address(former);
    let members = list(&status["control_plane"]["members"]);
    let dead = members.iter().find(|member| member["address"] == *address).unwrap();
    assert_ne!(dead["id"], status["control_plane"]["leader"]);
    zone.processes.start(former).unwrap();
    zone.settled().await;
}

/// What `node show` has besides.
const DETAIL: [&str; 7] = [
    "identity",
    "evidence",
    "partition_ids",
    "led_partition_ids",
    "in_state_for_ms",
    "lapses",
    "signals",
];

#[tokio::test(flavor = "multi_thread")]
async fn node_list_and_show() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let nodes = zonectl.json(&["node", "list"]).await;
    assert_eq!(list(&nodes).len(), NODES as usize);
    for node in list(&nodes) {
        has_fields(node, &NODE);
    }
    let node = &list(&nodes)[0];
    let (id, name) = (node["id"].to_string(), node["name"].as_str().unwrap());
    let by_id = zonectl.json(&["node", "show", &id]).await;
    has_fields(&by_id, &and(&NODE, &DETAIL));
    has_fields(
        &by_id["signals"],
        &[
            "has_session",
            "since_heartbeat_ms",
            "disk_sync_ms",
            "runtime_lag_ms",
            "disk_free_bytes",
            "cannot_reach_node_ids",
            "unreachable_for_node_ids",
            "dial_refused",
            "phi",
        ],
    );
    let by_name = zonectl.json(&["node", "show", name]).await;
    assert_eq!(by_id["identity"], by_name["identity"]);
    assert_eq!(list(&by_id["partition_ids"]).len() as u64, by_id["replicas"].as_u64().unwrap());
    assert_eq!(list(&by_id["led_partition_ids"]).len() as u64, by_id["leaders"].as_u64().unwrap());

    contains(&zonectl.text(&["node", "list"]).await, &["node-1", "node-5", "rack-a", "up"]);
    let identity = by_id["identity"].as_str().unwrap();
    contains(&zonectl.text(&["node", "show", name]).await, &[name, identity, "evidence"]);
    for output in ["table", "json"] {
        let unknown = zonectl.run(&["node", "show", "nobody", "-o", output]).await;
        unknown.refused(1, &["no node named \"nobody\""]);
        let unknown = zonectl.run(&["node", "show", "4711", "-o", output]).await;
        unknown.refused(1, &["no node 4711"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_node() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let explained = zonectl.json(&["explain", "node", "node-1"]).await;
    has_fields(&explained, &and(&and(&NODE, &DETAIL), &["events"]));
    let signals = &explained["signals"];
    assert_eq!(signals["has_session"], true);
    assert!(signals["since_heartbeat_ms"].as_u64().unwrap() < 60_000);
    assert!(signals["disk_free_bytes"].as_u64().unwrap() > 0);
    assert!(signals["phi"].is_null() || signals["phi"].as_f64().unwrap() >= 0.0);
    let events = list(&explained["events"]);
    assert!(events.iter().all(|event| event["node_id"] == explained["id"]));
    assert!(events.iter().any(|event| event["kind"] == "node-registered"), "{events:?}");
    let text = zonectl.text(&["explain", "node", "node-1"]).await;
    contains(&text, &["node-1 (node ", "has been ", "disk sync", "node-registered"]);
    zonectl.run(&["explain", "node", "nobody"]).await.refused(1, &["no node named \"nobody\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_partition() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let explained = zonectl.json(&["explain", "partition", "1"]).await;
    let more = ["membership", "replica_views", "retiring", "operations"];
    let why = ["led_because", "places", "events"];
    has_fields(&explained, &and(&and(&PARTITION, &more), &why));
    let places = list(&explained["places"]);
    assert_eq!(places.len(), 3);
    let fields = [
        "replica_id",
        "node_id",
        "node_name",
        "node_state",
        "fault_domain",
        "role",
        "lag_entries",
        "placed_by",
    ];
    for place in places {
        has_fields(place, &fields);
        assert_eq!(place["node_name"], format!("node-{}", place["node_id"]));
    }
    let events = list(&explained["events"]);
    assert!(events.iter().all(|event| event["partition_id"] == 1), "{events:?}");
    let because = &explained["led_because"];
    assert_eq!(because["kind"], "leader-changed");
    assert_eq!(because["node_id"], explained["leader_node_id"]);
    let text = zonectl.text(&["explain", "partition", "1"]).await;
    contains(
        &text,
        &["Partition 1, from ", "is led by node-", "Why there:", "What the ledger has"],
    );
    zonectl.run(&["explain", "partition", "4711"]).await.refused(1, &["4711"]);
}

/// A log that can be judged again: where the detector began, and round by round what it saw and found.
#[tokio::test(flavor = "multi_thread")]
async fn explain_signals() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let log = zonectl.text(&["explain", "signals"]).await;
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["begin"]["format"].as_u64().unwrap() > 0, "{}", lines[0]);
    assert!(lines.len() > 1);
    assert!(lines[1..].iter().all(|line| line["round"]["judgement"].is_object()));
}

#[tokio::test(flavor = "multi_thread")]
async fn partition_list_and_show() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let partitions = zonectl.json(&["partition", "list"]).await;
    let partitions = list(&partitions);
    assert_eq!(partitions.len(), 8);
    for (partition, next) in partitions.iter().zip(partitions[1..].iter()) {
        has_fields(partition, &PARTITION);
        assert_eq!(partition["end_key"], next["start_key"]);
    }
    let first = &partitions[0];
    let id = first["id"].to_string();
    let shown = zonectl.json(&["partition", "show", &id]).await;
    let more = ["membership", "replica_views", "retiring", "operations"];
    has_fields(&shown, &and(&PARTITION, &more));
    for view in list(&shown["replica_views"]) {
        has_fields(
            view,
            &["replica_id", "node_id", "role", "term", "applied_index", "lag_entries", "message"],
        );
    }
    has_fields(
        &shown["membership"],
        &["log_term", "log_index", "committed", "voter_sets", "learners"],
    );
    let leader = first["leader_node_id"].to_string();
    let held = zonectl.json(&["partition", "list", "--node", &leader]).await;
    let on_node = |partition: &&Value| {
        let replicas = list(&partition["replicas"]);
        replicas.iter().any(|replica| replica["node_id"] == first["leader_node_id"])
    };
    assert_eq!(list(&held).len(), partitions.iter().filter(on_node).count());
    assert!(list(&zonectl.json(&["partition", "list", "--problems"]).await).is_empty());

    contains(&zonectl.text(&["partition", "list"]).await, &["(lowest)", "(highest)", "leader"]);
    contains(&zonectl.text(&["partition", "show", &id]).await, &["Voters on nodes", "voter"]);
    let none = zonectl.text(&["partition", "list", "--problems"]).await;
    contains(&none, &["Every partition is as it should be."]);
    zonectl.run(&["partition", "show", "99"]).await.refused(1, &["no partition 99"]);
    zonectl.run(&["partition", "show", "0"]).await.refused(1, &["partition_id is 0", "start at 1"]);
    let unknown = ["partition", "list", "--node", "nobody"];
    zonectl.run(&unknown).await.refused(1, &["no node named"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_list() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    assert!(list(&zonectl.json(&["operation", "list"]).await).is_empty());
    let (partition, _, to) = zone.a_transfer().await;
    let (partition, to) = (partition.to_string(), to.to_string());
    zonectl.text(&["partition", "transfer-leader", &partition, "--to", &to, "--wait"]).await;
    let all = zonectl.json(&["operation", "list", "--all"]).await;
    assert!(!list(&all).is_empty());
    for operation in list(&all) {
        has_fields(operation, &OPERATION);
    }
    let one = zonectl.json(&["operation", "list", "--all", "--limit", "1"]).await;
    assert_eq!(list(&one).len(), 1);
    contains(
        &zonectl.text(&["operation", "list", "--all"]).await,
        &["transfer-leader", "operator"],
    );
    contains(&zonectl.text(&["operation", "list"]).await, &["No operation is running", "--all"]);
    zonectl.run(&["operation", "watch", "99999"]).await.refused(1, &["no operation 99999"]);
    zonectl.run(&["operation", "cancel", "99999"]).await.refused(1, &["no operation 99999"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let events = zonectl.json_lines(&["events"]).await;
    for event in &events {
        has_fields(event, &EVENT);
    }
    let kinds: BTreeSet<&str> =
        events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    for kind in ["zone-initialized", "node-registered", "leader-changed"] {
        assert!(kinds.contains(kind), "{kind} is not in {kinds:?}");
    }
    let after = zonectl.json_lines(&["events", "--after", "5"]).await;
    assert_eq!(after[0]["sequence"], 6);
    contains(&zonectl.text(&["events"]).await, &["zone-initialized", "asked by `init`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let last = zone.events().await.last().unwrap().sequence.to_string();
    let mut following =
        zonectl.command(&["events", "--follow", "--after", &last, "-o", "json"]).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let (partition, _, to) = zone.a_transfer().await;
    let transfer =
        ["partition", "transfer-leader", &partition.to_string(), "--to", &to.to_string()];
    zonectl.text(&transfer).await;
    let ended = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the stream goes on");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["kind"] == "operation-ended" {
                return event;
            }
        }
    };
    let event = tokio::time::timeout(LIMIT, ended).await.expect("the transfer's end is told");
    assert_eq!(event["partition_id"], partition);
    terminate(&following);
    following.wait().await.unwrap();
}
