//! `zonectl policy …`.

use std::fs;

use serde_json::Value;

use super::has_fields;
use crate::support::{
    eventually,
    program::{Zonectl, command, run, zonectl_program},
    shared::shared,
};

const SHADOW: [&str; 6] =
    ["is_set", "reason", "set_zone_time_ms", "set_wall_time_ms", "changes", "comparison"];

const CHANGE: [&str; 4] = ["field", "from", "to", "unit"];

#[tokio::test(flavor = "multi_thread")]
async fn policy_show_diff_and_set() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let text = zonectl.text(&["policy", "show"]).await;
    let words =
        ["Policy, version ", "replace_after_ms", "balance.act_above_permille", "fixed", "default"];
    for word in words {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    let policy = zonectl.json(&["policy", "show"]).await;
    let version = policy["version"].as_u64().unwrap();
    has_fields(
        &policy,
        &[
            "version",
            "replication_factor",
            "replace_after_ms",
            "placement_settle_ms",
            "changes_in_flight_zone_max",
            "changes_in_flight_node_max",
            "transfers_in_flight_max",
            "transfer_timeout_ms",
            "events_max",
            "events_age_max_ms",
            "ended_operations_max",
            "idempotency_keys_max",
            "idempotency_age_max_ms",
            "balance",
        ],
    );
    has_fields(
        &policy["balance"],
        &[
            "act_above_permille",
            "act_after_ms",
            "stop_at_permille",
            "count_above_permille",
            "overload_permille",
            "stored_max_permille",
            "idle_permille",
            "weight_reads",
            "weight_writes",
            "weight_bytes",
            "weight_processor",
            "weight_stored_bytes",
            "moves_zone_max",
            "moves_node_max",
            "moves_fault_domain_max",
            "transfers_max",
            "splits_max",
            "plan_bytes_max",
            "gain_min_permille",
            "noise_permille",
            "gain_per_bytes_permille",
            "move_overhead_ppm",
            "move_bytes_per_s",
            "move_processor_us",
            "cooldown_ms",
            "reversal_ban_ms",
            "reversal_ban_overload_ms",
            "reversal_window_ms",
            "reversal_gain_permille",
            "split_load_permille",
            "hot_key_permille",
            "hot_key_load_permille",
        ],
    );

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.json");
    let name = file.to_str().unwrap();
    let write = |policy: &Value| fs::write(&file, policy.to_string()).unwrap();
    write(&policy);
    let same = zonectl.text(&["policy", "diff", name]).await;
    assert!(same.starts_with("Nothing differs"), "{same}");

    let mut wanted = policy.clone();
    wanted["transfers_in_flight_max"] = 7.into();
    wanted["balance"]["cooldown_ms"] = 60_000.into();
    write(&wanted);
    let ended = zonectl.run(&["policy", "diff", name]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stdout.contains("2 fields of the policy, version "), "{ended:?}");
    let differs = zonectl.run(&["policy", "diff", name, "-o", "json"]).await;
    let differs: Value = serde_json::from_str(&differs.stdout).unwrap();
    has_fields(&differs, &["version", "file_version", "changes"]);
    let change = &differs["changes"][1];
    has_fields(change, &CHANGE);
    assert_eq!((&change["field"], &change["unit"]), (&"balance.cooldown_ms".into(), &"ms".into()));
    assert_eq!((&change["from"], &change["to"]), (&30_000.into(), &60_000.into()));
    assert!(differs["changes"][0]["unit"].is_null());

    let dry = zonectl.json(&["policy", "set", name, "--dry-run"]).await;
    has_fields(&dry, &["version", "dry_run", "changes"]);
    assert_eq!((&dry["version"], &dry["dry_run"]), (&(version + 1).into(), &true.into()));
    assert_eq!(zonectl.json(&["policy", "show"]).await, policy, "nothing has changed");

    let set = ["policy", "set", name, "--reason", "the test says so"];
    let done = zonectl.text(&set).await;
    assert!(
        done.starts_with(&format!("The policy is version {}; 2 fields", version + 1)),
        "{done}"
    );
    // The file was made from the version before.
    let stale = format!("the policy is version {}, not {version}", version + 1);
    zonectl.run(&set).await.refused(1, &[&stale]);
    let now = zonectl.json(&["policy", "show"]).await;
    assert_eq!(
        (&now["transfers_in_flight_max"], &now["version"]),
        (&7.into(), &(version + 1).into())
    );
    let events = zone.events().await;
    let told = events.iter().rfind(|event| event.kind == "policy-changed").unwrap();
    assert_eq!(told.reason, "the test says so");
    let words = "transfers_in_flight_max 16 → 7, balance.cooldown_ms 30000 → 60000";
    assert!(told.message.ends_with(words), "{told:?}");

    // From standard input, and field by field.
    let mut from_input = zonectl.command(&["policy", "diff", "-"]);
    let back = zonectl
        .json(&[
            "policy",
            "set",
            "transfers_in_flight_max=16",
            "cooldown_ms=30000",
            "--reason",
            "back again",
        ])
        .await;
    assert_eq!(back["changes"].as_array().unwrap().len(), 2, "{back}");
    write(&zonectl.json(&["policy", "show"]).await);
    from_input.stdin(fs::File::open(&file).unwrap());
    assert!(run(&mut from_input).await.text().starts_with("Nothing differs"));
    zone.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_policy_is_refused_with_the_place() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let policy = zonectl.run(&["policy", "show", "-o", "json"]).await.stdout;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.json");
    let name = file.to_str().unwrap();
    for (from, to, words) in [
        (
            "\"events_max\": 20000",
            "\"events_max\": \"many\"",
            "events_max has to be a whole number",
        ),
        ("\"events_max\"", "\"event_max\"", "there is no field \"event_max\""),
        ("\"events_max\": 20000,", "", "events_max is missing"),
        ("{", "{{", "line 1 column 2"),
    ] {
        assert!(policy.contains(from), "{from}");
        fs::write(&file, policy.replacen(from, to, 1)).unwrap();
        let set = zonectl.run(&["policy", "set", name, "--reason", "r"]).await;
        set.refused(1, &[name, "is no policy", words, "line "]);
        zonectl.run(&["policy", "diff", name]).await.refused(2, &[name, words]);
    }
    fs::write(&file, policy.replacen("\"events_max\": 20000", "\"events_max\": 1", 1)).unwrap();
    let words = "events_max is 1: it must be 1000 to 200000";
    zonectl.run(&["policy", "set", name, "--dry-run"]).await.refused(1, &[words]);
    zonectl.run(&["policy", "diff", name]).await.refused(2, &[words]);
    let other = zonectl.run(&["policy", "set", "replication_factor=5", "--reason", "r"]).await;
    other.refused(1, &["replication_factor is 3 and cannot become 5"]);
    zonectl.run(&["policy", "set", "/nonexistent", "--dry-run"]).await.refused(1, &["cannot read"]);
    for (field, words) in [
        ("frobs_max=1", "there is no field \"frobs_max\""),
        ("replace_after_ms=5m", "a whole number, in ms"),
    ] {
        let mut set = command(&zonectl_program());
        run(set.args(["policy", "set", field, "--dry-run"])).await.refused(2, &[words]);
    }
    assert_eq!(zonectl.run(&["policy", "show", "-o", "json"]).await.stdout, policy);
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_shadow() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let none = zonectl.json(&["policy", "shadow", "show"]).await;
    has_fields(&none, &SHADOW);
    assert_eq!((&none["is_set"], none["reason"].is_null()), (&false.into(), true));
    let before = zonectl.json(&["policy", "show"]).await;
    let set =
        ["policy", "shadow", "set", "act_above_permille=1200", "--reason", "is calmer better"];
    let done = zonectl.json(&set).await;
    has_fields(&done, &["is_set", "changes"]);
    assert_eq!(done["changes"][0]["field"], "balance.act_above_permille");
    let shown = eventually("a plan by both policies", async || {
        let shown = zonectl.json(&["policy", "shadow", "show"]).await;
        shown["comparison"]["plans"].as_u64().is_some_and(|plans| plans > 1).then_some(shown)
    })
    .await;
    has_fields(&shown, &SHADOW);
    assert_eq!(shown["reason"], "is calmer better");
    let comparison = &shown["comparison"];
    has_fields(
        comparison,
        &[
            "began_zone_time_ms",
            "planned_zone_time_ms",
            "plans",
            "better",
            "equal",
            "worse",
            "active",
            "shadow",
        ],
    );
    for policy in ["active", "shadow"] {
        has_fields(
            &comparison[policy],
            &[
                "transfers",
                "moves",
                "splits",
                "bytes",
                "worst_share_max",
                "worst_share_mean",
                "worst_share_last",
            ],
        );
    }
    let text = zonectl.text(&["policy", "shadow", "show"]).await;
    for words in ["is calmer better", "act_above_permille: 1050 ‰ → 1200 ‰", "worst share, mean"]
    {
        assert!(text.contains(words), "{words} is not in: {text}");
    }
    assert_eq!(zonectl.json(&["policy", "show"]).await, before, "the zone's own is as it was");
    for (field, code, words) in [
        ("replace_after_ms=5", 2, "only fields of balance"),
        ("splits_max=99999999", 1, "balance.splits_max is 99999999: it must be 0 to 1000000"),
    ] {
        let refused = zonectl.run(&["policy", "shadow", "set", field, "--reason", "r"]).await;
        refused.refused(code, &[words]);
    }
    let cleared = zonectl.text(&["policy", "shadow", "clear", "--reason", "seen enough"]).await;
    assert_eq!(cleared.trim_end(), "No shadow policy is planned with any more.");
    let text = zonectl.text(&["policy", "shadow", "show"]).await;
    assert_eq!(text.trim_end(), "There is no shadow policy.");
    let events = zone.events().await;
    let reason =
        |kind: &str| events.iter().rfind(|event| event.kind == kind).unwrap().reason.clone();
    assert_eq!(reason("shadow-policy-set"), "is calmer better");
    assert_eq!(reason("shadow-policy-cleared"), "seen enough");
}
