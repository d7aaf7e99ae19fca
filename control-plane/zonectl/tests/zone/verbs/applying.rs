//! `plan` for the live zone, `apply` and `rebalance`.

use proto::v1::OperationState;
use serde_json::{Value, json};

use super::has_fields;
use crate::support::{
    program::Zonectl,
    shared::{NODES, shared},
    zone::TestZone,
};

const PLAN: [&str; 14] = [
    "version",
    "zone_id",
    "revision",
    "by_load",
    "worst_share_before",
    "worst_share_after",
    "steps",
    "nodes",
    "obstacles",
    "held_back",
    "left_out",
    "evaluations",
    "seed",
    "effort",
];
const OUTLOOK: [&str; 8] = [
    "node_id",
    "name",
    "share_before",
    "share_after",
    "leaders_before",
    "leaders_after",
    "replicas_before",
    "replicas_after",
];

/// A plan's file that takes one leadership elsewhere.
async fn plan_of_one(zone: &TestZone, plan: &Value) -> (u64, Value) {
    let (partition, from, to) = zone.a_transfer().await;
    let replicas: Vec<u64> = zone.placements().await[&partition].replicas.keys().copied().collect();
    let step = json!({
        "partition_id": partition,
        "change": "transfer-leader",
        "from_node_id": from,
        "to_node_id": to,
        "replica_id": null,
        "leader_node_id": from,
        "target_replica_ids": replicas,
        "exchanged_with_partition_id": null,
        "reason": "for a test",
    });
    let mut plan = plan.clone();
    plan["steps"] = json!([step]);
    (partition, plan)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_shown_and_applied_exactly_once() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let plan = zonectl.json(&["plan"]).await;
    has_fields(&plan, &PLAN);
    let nodes = plan["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), NODES as usize);
    for node in nodes {
        has_fields(node, &OUTLOOK);
    }
    let text = zonectl.text(&["plan", "--seed", "3", "--effort", "1000"]).await;
    assert!(text.contains("nothing to do") || text.contains("Nothing is begun"), "{text}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plan.json");
    let file = path.to_str().unwrap();
    let (partition, plan) = plan_of_one(&zone, &plan).await;
    std::fs::write(&path, plan.to_string()).unwrap();
    let applied = zonectl.json(&["apply", file]).await;
    has_fields(&applied, &["zone_id", "operation_ids"]);
    assert_eq!(applied["zone_id"], plan["zone_id"]);
    let operation = applied["operation_ids"][0].as_u64().unwrap();
    assert_eq!(zone.ended(operation).await.state(), OperationState::Succeeded);
    // The same plan again is the same command.
    assert_eq!(zonectl.json(&["apply", file]).await, applied);
    let text = zonectl.text(&["apply", file, "--wait"]).await;
    assert!(text.starts_with("Accepted: 1 step, operation "), "{text}");
    assert!(text.contains("succeeded"), "{text}");
    zone.settled().await;

    // Another plan, whose partition somebody else leads.
    let (_, mut stale) = plan_of_one(&zone, &plan).await;
    let step = &mut stale["steps"][0];
    let (from, to) = (step["from_node_id"].clone(), step["to_node_id"].clone());
    (step["leader_node_id"], step["from_node_id"], step["to_node_id"]) = (to.clone(), to, from);
    // Turned round, the way back is the first plan: that one has been carried out, and would be accepted again.
    step["reason"] = "for another test".into();
    let partition_now = step["partition_id"].to_string();
    std::fs::write(&path, stale.to_string()).unwrap();
    let refused = zonectl.run(&["apply", file]).await;
    let named = format!("partition {partition_now}: ");
    refused.refused(1, &["nothing of the plan was begun", &named, "leads it by now", "plan again"]);
    assert!(partition > 0);

    for (change, words) in [
        (json!({"version": 2}), &["has version 2", "nothing was begun"][..]),
        (json!({"zone_id": "00000000-0000-0000-0000-000000000007"}), &["was made for zone"]),
        (json!({"steps": [{}]}), &["is not a plan", "partition_id", "nothing was begun"]),
        (json!({"steps": vec![plan["steps"][0].clone(); 1_001]}), &["1001 steps", "at most 1000"]),
        (
            json!({"steps": vec![plan["steps"][0].clone(); 2]}),
            &["is in it twice", "give each one step"],
        ),
    ] {
        let mut wrong = plan.clone();
        for (field, value) in change.as_object().unwrap() {
            wrong[field] = value.clone();
        }
        std::fs::write(&path, wrong.to_string()).unwrap();
        zonectl.run(&["apply", file]).await.refused(1, words);
    }
    std::fs::write(&path, "no plan").unwrap();
    zonectl.run(&["apply", file]).await.refused(1, &["is not a plan", "zonectl plan -o json"]);
    zonectl.run(&["apply", "/nonexistent"]).await.refused(1, &["/nonexistent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rebalance() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let fields =
        ["dry_run", "transfers", "moves", "counts", "operation_ids", "empty_nodes", "plan"];
    let shown = zonectl.json(&["rebalance", "--dry-run"]).await;
    has_fields(&shown, &fields);
    has_fields(&shown["plan"], &PLAN);
    assert_eq!(shown["dry_run"], true);
    assert_eq!(shown["operation_ids"], Value::Array(Vec::new()));
    for count in shown["counts"].as_array().unwrap() {
        has_fields(count, &["node_id", "before", "after"]);
    }
    let text = zonectl.text(&["rebalance", "--wait"]).await;
    assert!(text.contains("nothing to do") || text.contains("Accepted: "), "{text}");
    let applied = zonectl.json(&["rebalance"]).await;
    has_fields(&applied, &fields);
    assert_eq!(applied["dry_run"], false);
    let steps = applied["plan"]["steps"].as_array().unwrap().len();
    assert_eq!(applied["operation_ids"].as_array().unwrap().len(), steps);
    zone.settled().await;
}
