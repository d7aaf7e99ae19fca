//! `zonectl dev up`.

use std::process::Stdio;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use super::has_fields;
use crate::support::{
    LIMIT,
    program::{Zonectl, command, end_of, run, terminate, zonectl_program},
    zone::TestZone,
};

/// Starts `zonectl dev up`; it and the first line that it says when it is ready.
async fn up(output: &str, arguments: &[&str]) -> (Child, String) {
    let mut command = command(&zonectl_program());
    command.args(["dev", "up", "-o", output]).args(arguments).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(3 * LIMIT, lines.next_line()).await.expect("it is ready");
    // Kept open: a program whose reader has gone ends.
    child.stdout = Some(lines.into_inner().into_inner());
    (child, line.unwrap().expect("it says that it is ready"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_brought_up_stopped_and_started_again() {
    // Only the place and the ports of it are used.
    let place = TestZone::prepare(1, 3).await;
    let port = place.processes.layout().base_port.to_string();
    let data = place.directory().join("dev").display().to_string();
    let shape = ["--members", "1", "--index-nodes", "3", "--partitions", "2"];
    let place_arguments = ["--data", &data, "--base-port", &port];
    let arguments = [&shape[..], &place_arguments].concat();

    let (child, ready) = up("json", &arguments).await;
    let ready: Value = serde_json::from_str(&ready).unwrap();
    has_fields(&ready, &["zone_id", "endpoints", "data_directory", "processes"]);
    assert_eq!(ready["data_directory"], *data);
    let processes = ready["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 4);
    for process in processes {
        has_fields(process, &["name", "process_id", "address", "metrics_address", "log_file"]);
    }
    let endpoints: Vec<String> = serde_json::from_value(ready["endpoints"].clone()).unwrap();
    let zonectl = Zonectl::new(&endpoints);
    assert_eq!(zonectl.json(&["status"]).await["healthy"], true);
    zonectl.text(&["put", "kept", "--payload", "over restarts"]).await;

    // Ports and directory belong to this zone as long as it runs.
    let again = run(command(&zonectl_program()).args(["dev", "up"]).args(&arguments)).await;
    again.refused(1, &["running already"]);
    let elsewhere = place.directory().join("elsewhere").display().to_string();
    let taken = ["--data", &elsewhere, "--base-port", &port];
    let taken = run(command(&zonectl_program()).args(["dev", "up"]).args(taken)).await;
    taken.refused(1, &[&*format!("port {port}"), "member-1", "--base-port"]);

    terminate(&child);
    let ended = end_of(child).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    zonectl.run(&["status", "--deadline", "300ms"]).await.refused(3, &[]);

    let other = ["--members", "3", "--index-nodes", "3", "--partitions", "2"];
    let other = [&other[..], &place_arguments].concat();
    let other = run(command(&zonectl_program()).args(["dev", "up"]).args(other)).await;
    other.refused(1, &["--members 1 --index-nodes 3", "another --data"]);

    let (child, restarted) = up("table", &arguments).await;
    assert_eq!(restarted, "The zone is ready.");
    assert_eq!(zonectl.json(&["status"]).await["zone_id"], ready["zone_id"]);
    assert_eq!(zonectl.json(&["get", "kept"]).await["user_payload"], "over restarts");
    terminate(&child);
    assert_eq!(end_of(child).await.code, Some(0));
}
