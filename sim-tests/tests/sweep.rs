//! Sweeps: what they say, how they end, and how they go on. Short runs of small zones.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// A small zone, and not for long.
const SMALL: [&str; 8] =
    ["--faults-seconds", "2", "--members", "1", "--index-nodes", "3", "--partitions", "1"];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.arg("sweep").args(arguments);
    command
}

fn sweep(arguments: &[&str]) -> Output {
    command(arguments).args(SMALL).output().expect("sim can be started")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(output), errors(output)))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_sweep_goes_on_where_another_one_ended() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = shown(&directory.path().join("state"));
    let json = ["--state", &state, "--format", "json", "--seeds"];
    let first = document(&sweep(&[&json[..], &["0..2"]].concat()));
    assert_eq!(first["totals"]["passed"], 2, "{first}");
    assert_eq!(first["ended"], "finished");

    // As a crash leaves it.
    let kept = std::fs::read_to_string(&state).expect("the state");
    std::fs::write(&state, &kept[..kept.len() - 30]).expect("written");
    let second = sweep(&[&json[..], &["0..3"]].concat());
    assert!(errors(&second).contains("1 of 3 seeds were done before"), "{}", errors(&second));
    let second = document(&second);
    assert_eq!(second["totals"]["passed"], 3, "{second}");
    for number in 0..2 {
        assert_eq!(first["runs"][number]["report"], second["runs"][number]["report"]);
    }
    let reached = second["coverage"]["reached"].as_array().expect("marks");
    assert!(reached.len() > 30, "{reached:?}");

    // Other options: other results.
    let other = command(&["--seeds", "0..1", "--state", &state]).output().expect("started");
    assert_eq!(other.status.code(), Some(4));
    assert!(errors(&other).contains("other options"), "{}", errors(&other));
}

#[test]
fn a_time_limit_ends_a_sweep_cleanly() {
    let output = sweep(&["--seeds", "0..1000", "--time-limit", "1s", "--jobs", "1"]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("of 1000 done"), "{text}");
    assert!(text.contains("by the time limit"), "{text}");
    assert!(!text.contains("0 of 1000 done"), "{text}");
}

#[test]
fn a_seed_that_takes_too_long_is_told() {
    let output =
        sweep(&["--seeds", "0..1", "--seed-limit", "10ms", "--format", "junit", "--jobs", "1"]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    for part in [
        "<?xml version=\"1.0\"",
        "tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\"",
        "<testcase name=\"seed 0\" classname=\"sim.drawn\"",
        "<error message=\"harness: it did not end within 10ms",
        "to reproduce:\n  cargo run --bin sim -- run --trace --seed 0",
        "</testsuites>",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn a_violation_comes_first_with_the_command_that_shows_it() {
    let broken = ["--sabotage", "acknowledge-before-sync", "--faults-seconds", "6"];
    let small = ["--members", "3", "--index-nodes", "3", "--partitions", "2"];
    let arguments = [&["--seeds", "1..5"][..], &broken[..], &small[..]].concat();
    let output = command(&arguments).output().expect("sim can be started");
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("━━━ seed "), "{text}");
    for part in ["FAILED", "violated: ", "the last events:", "to reproduce:", "violated, "] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn an_interrupted_sweep_keeps_its_state_and_ends_its_children() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = directory.path().join("state");
    let shown = shown(&state);
    let mut running = command(&["--seeds", "0..1000", "--state", &shown])
        .args(SMALL)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sim can be started");
    // When its state has a result, the sweep is in full swing.
    let is_under_way =
        || std::fs::read_to_string(&state).is_ok_and(|text| text.lines().count() > 1);
    while !is_under_way() {
        assert!(running.try_wait().expect("it can be asked").is_none(), "it has ended by itself");
        std::thread::yield_now();
    }
    let asked = Command::new("kill").args(["-INT", &running.id().to_string()]).status();
    assert!(asked.expect("kill can be started").success());
    let output = running.wait_with_output().expect("it ends");
    let text = text(&output);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("it was interrupted"), "{text}");

    let resumed = sweep(&["--seeds", "0..2", "--state", &shown]);
    assert_eq!(resumed.status.code(), Some(0), "{}", errors(&resumed));
    assert!(errors(&resumed).contains("were done before"), "{}", errors(&resumed));
}

#[test]
fn a_scenario_is_found_by_name_from_anywhere_and_takes_other_seeds() {
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sim"))
            .args(["run", "--format", "json", "--scenario", "one-bad-link-deposes-nobody"])
            .args(arguments)
            .current_dir(elsewhere.path())
            .output()
            .expect("sim can be started");
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output), errors(&output));
        document(&output)
    };
    let (own, other) = (run(&[]), run(&["--seed", "77"]));
    assert_eq!(own["seed"], 5);
    assert_eq!(other["seed"], 77);
    assert_eq!(own["faults"], other["faults"]);
    assert_ne!(own["trace_hash"], other["trace_hash"]);
}

#[test]
fn everything_there_is_can_be_listed() {
    let list = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sim"))
            .arg("list")
            .args(arguments)
            .output()
            .expect("sim can be started");
        assert_eq!(output.status.code(), Some(0));
        output
    };
    let people = text(&list(&[]));
    for part in [
        "scenarios (",
        "lost-for-good",
        "faults (",
        "power off",
        "sabotages (",
        "acknowledge-before-sync",
        "marks (",
        "snapshot of a partition installed",
    ] {
        assert!(people.contains(part), "{part:?} is missing in:\n{people}");
    }
    let scenarios = document(&list(&["scenarios", "--format", "json"]));
    let scenarios = scenarios["scenarios"].as_array().expect("a list");
    assert!(scenarios.iter().all(|scenario| scenario["what"].as_str().is_some()), "{scenarios:?}");
}
