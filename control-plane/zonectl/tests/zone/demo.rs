//! `zonectl demo`: passes on a zone that keeps what it promises, and notices one that does not.

use serde_json::Value;

use crate::support::{
    program::{Ended, command, run, zonectl_program},
    zone::TestZone,
};

/// Runs the demo on a small tree, at the place of a zone that does not run.
async fn demo(place: &TestZone, more: &[&str]) -> Ended {
    let tree = place.directory().join("tree");
    std::fs::create_dir_all(tree.join("below")).unwrap();
    for number in 0..20 {
        std::fs::write(tree.join(format!("below/file-{number}")), "content").unwrap();
    }
    let port = place.processes.layout().base_port.to_string();
    let tree = tree.to_str().unwrap();
    let small = ["--keys-min", "500", "--keys-max", "500", "--outage", "2s", "--rate", "150"];
    let mut demo = command(&zonectl_program());
    demo.args(["demo", tree, "--base-port", &port, "--partitions", "8"]).args(small).args(more);
    // Where it keeps what is left after a failure.
    demo.env("TMPDIR", place.directory());
    run(&mut demo).await
}

#[tokio::test(flavor = "multi_thread")]
async fn passes() {
    let place = TestZone::prepare(3, 5).await;
    let ended = demo(&place, &["-o", "json"]).await;
    let report = ended.json();
    super::verbs::has_fields(
        &report,
        &[
            "passed",
            "keys",
            "generated_keys",
            "partitions",
            "fill_seconds",
            "fill_writes_per_second",
            "faults",
            "reads",
            "writes",
            "failed",
            "unknown",
            "wrong_answers",
            "verification",
            "seconds",
            "failures",
        ],
    );
    assert_eq!(report["passed"], true, "{ended:?}");
    assert_eq!((&report["keys"], &report["generated_keys"]), (&500.into(), &480.into()));
    assert_eq!((&report["failed"], &report["wrong_answers"]), (&0.into(), &0.into()));
    let faults = report["faults"].as_array().unwrap();
    let named: Vec<&str> = faults.iter().map(|fault| fault["fault"].as_str().unwrap()).collect();
    for word in ["kill -9 node", "drain", "control-plane leader", "control plane down"] {
        assert!(named.iter().any(|name| name.contains(word)), "{word} is not in {named:?}");
    }
    assert!(faults.iter().all(|fault| fault["recovered_ms"] != Value::Null), "{faults:?}");
    let verification = &report["verification"];
    for wrong in ["missing", "different", "unexpected"] {
        assert_eq!(verification[wrong], 0, "{verification}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_a_dropped_write() {
    let place = TestZone::prepare(3, 5).await;
    let ended = demo(&place, &["--sabotage"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let dropped = ended
        .stderr
        .lines()
        .find_map(|line| line.split_once("sabotage: ")?.1.strip_suffix(" is dropped"))
        .unwrap_or_else(|| panic!("it says which key it drops: {ended:?}"));
    for word in ["FAILED", "1 missing, 0 different, 0 unexpected", &format!("missing: {dropped}")] {
        assert!(ended.stdout.contains(word), "{word} is not in: {ended:?}");
    }
    assert!(ended.stderr.contains("did not keep what it promises"), "{ended:?}");
}
