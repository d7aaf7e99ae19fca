//! `zonectl init`, and everything before it.

use serde_json::Value;
use zonectl::zone_process::Role;

use super::has_fields;
use crate::support::{eventually, program::Zonectl, wire::Wire, zone::TestZone};

/// One member that runs and belongs to no zone.
async fn uninitialized() -> (TestZone, Zonectl) {
    let mut zone = TestZone::prepare(1, 1).await;
    zone.processes.start(Role::Member(0)).unwrap();
    let mut member = Wire::new().member(&zone.endpoints()[0]);
    eventually("the member", async || {
        member.identify(proto::v1::IdentifyRequest {}).await.ok().map(drop)
    })
    .await;
    let zonectl = Zonectl::new(&zone.endpoints());
    (zone, zonectl)
}

#[tokio::test(flavor = "multi_thread")]
async fn before_init_every_verb_says_what_to_do() {
    let (_zone, zonectl) = uninitialized().await;
    let text = zonectl.text(&["status"]).await;
    assert!(text.starts_with("NOT INITIALISED") && text.contains("zonectl init"), "{text}");
    let status = zonectl.json(&["status"]).await;
    assert_eq!((&status["healthy"], &status["zone_id"]), (&Value::Bool(false), &Value::Null));
    for verb in [&["put", "k"][..], &["get", "k"], &["delete", "k"], &["list"]] {
        zonectl.run(verb).await.refused(1, &["not been initialised", "zonectl init"]);
    }
    let waiting = ["status", "--wait-healthy", "100ms"];
    zonectl.run(&waiting).await.refused(1, &["did not become healthy within 100ms"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_made_once_and_impossible_ones_never() {
    let (zone, zonectl) = uninitialized().await;
    let file = zone.directory().join("keys.txt");
    let path = file.to_str().unwrap();
    let member = &*zone.endpoints()[0];
    for (lines, words) in [
        ("b\na\n", &["line 2", "ascend"][..]),
        ("a\na\n", &["line 2", "ascend"]),
        ("a\nb\\\n", &["line 2", "lone backslash"]),
    ] {
        std::fs::write(&file, lines).unwrap();
        let ended = zonectl.run(&["init", "--split-keys-file", path]).await;
        ended.refused(1, &[&[path], words].concat());
    }
    let missing = ["init", "--split-keys-file", "/nonexistent/keys"];
    zonectl.run(&missing).await.refused(1, &["cannot read", "/nonexistent/keys"]);
    let even = ["init", "--members", &format!("{member},127.0.0.1:1")];
    zonectl.run(&even).await.refused(1, &["wrong argument", "2 members", "1, 3 or 5"]);
    for factor in ["0", "2", "4", "7"] {
        let ended = zonectl.run(&["init", "--replication-factor", factor]).await;
        ended.refused(1, &["wrong argument", "replication factor", factor, "1, 3 or 5"]);
    }
    let dead = ["init", "--members", &format!("{member},127.0.0.1:1,127.0.0.1:2")];
    let ended = zonectl.run(&[&dead[..], &["--deadline", "5s"]].concat()).await;
    ended.refused(
        1,
        &["was not made", "127.0.0.1:1 cannot be reached", "start it, or leave it out"],
    );
    assert_eq!(zonectl.json(&["status"]).await["zone_id"], Value::Null, "nothing was made");

    std::fs::write(&file, "photos/\nphotos/m\\x00\nx\n").unwrap();
    let made = zonectl.json(&["init", "--split-keys-file", path]).await;
    has_fields(&made, &["zone_id", "partitions"]);
    assert_eq!(made["partitions"], 4);
    let zone_id = made["zone_id"].as_str().unwrap();
    zonectl.run(&["init"]).await.refused(1, &["initialised already", zone_id]);
    let status = zonectl.json(&["status"]).await;
    assert_eq!(status["zone_id"], zone_id);
    assert_eq!(status["partitions"]["total"], 4);
    assert_eq!(status["partitions"]["unavailable"], 4, "there are no nodes");
    let partitions = zonectl.json(&["partition", "list"]).await;
    let starts: Vec<&str> =
        partitions.as_array().unwrap().iter().map(|it| it["start_key"].as_str().unwrap()).collect();
    assert_eq!(starts, ["", "photos\\x00", "photos\\x00m\\x00", "x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_what_was_made() {
    let (_zone, zonectl) = uninitialized().await;
    let text = zonectl.text(&["init", "--partitions", "2", "--replace-after", "90s"]).await;
    for word in ["2 partitions", "3 replicas", "1 member", "1 min 30 s", "zonectl status"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}
