//! `zonectl heat`.

use proto::v1;
use serde_json::Value;

use super::has_fields;
use crate::support::{eventually, program::Zonectl, shared::shared};

const RATES: [&str; 5] =
    ["reads_per_second", "writes_per_second", "bytes_per_second", "cpu_cores", "shed_per_second"];

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

/// The figures are right within what averages, samples and a machine under test allow: who has load, and which
/// key is hot, can be told for sure.
#[tokio::test(flavor = "multi_thread")]
async fn heat() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let load = ["load", "--rate", "400", "--duration", "15s", "--keys", "1", "--bucket", "heat"];
    // Keys are told of as long as they are hot.
    let hottest = eventually("the hottest key is told", async || {
        let heat = zonectl.json(&["heat", "--top", "64"]).await;
        let keys = heat["partitions"][0]["hottest_keys"].as_array()?;
        let is_told = keys.first().is_some_and(|key| key["share"].as_f64().unwrap() > 0.5);
        let text = zonectl.text(&["heat"]).await;
        (is_told && text.contains("heat/")).then_some((heat, text))
    });
    let (_, (heat, text)) = tokio::join!(zonectl.json(&load), hottest);
    has_fields(
        &heat,
        &[
            "even",
            "act_above_share",
            "most_loaded",
            "max_to_mean",
            "least_even",
            "hottest_node_id",
            "balance",
            "nodes",
            "partitions",
        ],
    );
    has_fields(
        &heat["balance"],
        &[
            "state",
            "worst_share",
            "transfers",
            "moves",
            "splits",
            "waiting",
            "obstacles",
            "realised_gain",
        ],
    );
    // Long averages may have too little to tell yet.
    assert_eq!(heat["max_to_mean"].is_null(), heat["least_even"].is_null());
    let reads = |node: &&Value| node["short_term"]["reads_per_second"].as_f64().unwrap();
    let busiest = list(&heat["nodes"]).iter().max_by(|a, b| reads(a).total_cmp(&reads(b)));
    let leader = &heat["partitions"][0]["leader_node_id"];
    assert_eq!(busiest.map(|node| &node["node_id"]), Some(leader), "one key is one node's");
    let (limit, worst) = (&heat["act_above_share"], &heat["balance"]["worst_share"]);
    assert_eq!(*limit, 1.05);
    assert_eq!(heat["even"].as_bool(), worst.as_f64().map(|worst| worst <= 1.05), "{heat}");
    for node in list(&heat["nodes"]) {
        has_fields(
            node,
            &[
                "node_id",
                "name",
                "leaders",
                "cores",
                "short_term",
                "long_term",
                "to_mean",
                "reported",
                "processor_share",
                "stored_share",
                "stored_bytes",
                "capacity_bytes",
            ],
        );
        has_fields(&node["short_term"], &RATES);
        has_fields(&node["long_term"], &RATES);
        assert_eq!(node["reported"], true);
        assert!(node["capacity_bytes"].as_u64().unwrap() > 0, "{node}");
        assert!(node["processor_share"].as_f64().unwrap() >= 0.0, "{node}");
    }
    let partitions = list(&heat["partitions"]);
    assert!(partitions.len() <= 64);
    for partition in partitions {
        has_fields(
            partition,
            &[
                "partition_id",
                "leader_node_id",
                "short_term",
                "long_term",
                "stored_bytes",
                "waiting",
                "throttled_per_second",
                "hottest_keys",
            ],
        );
        has_fields(&partition["short_term"], &RATES);
        has_fields(&partition["long_term"], &RATES);
    }
    let key = &partitions[0]["hottest_keys"][0];
    has_fields(key, &["key_prefix", "share", "share_error"]);
    // Four bytes that spread the load generator's buckets come first.
    assert!(key["key_prefix"].as_str().unwrap().contains("-heat/key-"), "{key}");
    let processor_time = partitions[0]["short_term"]["cpu_cores"].as_f64().unwrap();
    assert!(processor_time > 0.0, "work takes time: {}", partitions[0]);

    // What one key asks for is little for the nodes' cores: whether it is judged depends on the machine.
    let judgement = text.split(':').next().unwrap();
    assert!(["IDLE", "EVEN", "UNEVEN", "NOT JUDGED YET"].contains(&judgement), "{text}");
    assert!(text.contains("█"), "{text}");
    zonectl.run(&["heat", "--top", "65"]).await.refused(2, &["64"]);
    let refused = zone.admin().get_heat(v1::GetHeatRequest { top: 65 }).await.unwrap_err();
    assert!(refused.to_string().contains("top is 65: it must be at most 64"), "{refused}");
}
