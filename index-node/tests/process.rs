//! The process `index-node`: its exit codes, and what it says when it refuses to start.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_index-node"));
    command.env_clear();
    command
}

/// A node that would start in `data`, if it found its control plane.
fn node_in(data: &Path) -> Command {
    let mut command = command();
    command
        .arg("--data-directory")
        .arg(data)
        .args(["--name", "node-1", "--listen-address", "127.0.0.1:0"])
        .args(["--advertised-address", "127.0.0.1:1"])
        .args(["--control-plane-endpoints", "127.0.0.1:1,127.0.0.1:2"]);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn refuses(command: &mut Command, code: i32, words: &[&str]) {
    let output = command.output().expect("the process starts");
    let text = text(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[test]
fn help_has_examples() {
    let output = command().arg("--help").output().expect("the process starts");
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for word in ["Examples:", "--control-plane-endpoints", "Exit codes"] {
        assert!(help.contains(word), "{word} is not in: {help}");
    }
}

#[test]
fn a_wrong_configuration_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("node.toml");
    let data = directory.path().join("data");
    refuses(&mut command(), 2, &["data_directory"]);
    refuses(node_in(&data).args(["--fault-domain", "Rack A"]), 2, &["fault_domain", "Rack A"]);
    refuses(node_in(&data).args(["--capacity-bytes", "many"]), 2, &["--capacity-bytes", "many"]);
    refuses(
        node_in(&data).env("ISOTHERM_INDEX_NODE_PEERS__LOST_AFTER_MS", "5"),
        2,
        &["peers.lost_after_ms is 5"],
    );
    fs::write(&file, "nmae = \"node-1\"\n").expect("a file");
    refuses(node_in(&data).arg("--config").arg(&file), 2, &["nmae"]);
    fs::write(&file, "[raft]\nheartbeat_interval_ms = 0\n").expect("a file");
    refuses(node_in(&data).arg("--config").arg(&file), 2, &["raft.heartbeat_interval_ms is 0"]);
    refuses(node_in(&data).args(["--config", "/nonexistent.toml"]), 2, &["/nonexistent.toml"]);
    assert!(!data.exists(), "nothing was made");
}

#[test]
fn a_data_directory_of_something_else_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, "not a directory").expect("a file");
    refuses(&mut node_in(&file), 3, &["file"]);

    let foreign = directory.path().join("foreign");
    fs::create_dir_all(foreign.join("store")).expect("a directory");
    fs::write(foreign.join("store").join("photo.jpg"), "x").expect("a file");
    refuses(&mut node_in(&foreign), 3, &["holds no Isotherm data", "name an empty directory"]);
    assert!(foreign.join("store").join("photo.jpg").exists());
}

#[test]
fn a_node_stops_when_it_is_asked_to_and_keeps_others_out_until_then() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let mut node = node_in(&data).stderr(Stdio::piped()).spawn().expect("the process starts");
    let mut lines = BufReader::new(node.stderr.take().expect("piped")).lines();
    let started = lines.by_ref().map_while(Result::ok).any(|line| line.contains("starts"));
    assert!(started, "the node has said that it starts");
    refuses(&mut node_in(&data), 3, &["in use by another process"]);

    let signalled = Command::new("kill")
        .args(["-TERM", &node.id().to_string()])
        .status()
        .expect("the signal is sent");
    assert!(signalled.success());
    for _ in lines.map_while(Result::ok) {}
    assert_eq!(node.wait().expect("the node ends").code(), Some(0));
}
