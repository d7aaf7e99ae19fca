//! The same seed is the same run, byte for byte of its trace: in another process, in another directory, in
//! another environment, and as part of a sweep with other jobs beside it. Everything else that the
//! simulation says stands on this, so it is tested first.

use std::{collections::BTreeMap, process::Command};

use sim_tests::report::{Report, Verdict};

/// Short runs, since each seed is run five times.
const FLAGS: [&str; 2] = ["--faults-seconds", "6"];
const SEEDS: [u64; 3] = [7, 8, 9];

fn sim() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.env("NO_COLOR", "1");
    command
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("sim can be started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}

fn run(seed: u64) -> Command {
    let mut command = sim();
    command.args(["run", "--format", "json", "--seed", &seed.to_string()]).args(FLAGS);
    command
}

fn report(command: &mut Command) -> Report {
    serde_json::from_slice(&output(command)).expect("a report")
}

/// The trace hash of each seed in a sweep.
fn hashes_in_a_sweep(jobs: &str) -> BTreeMap<u64, String> {
    let seeds = format!("{}..{}", SEEDS[0], SEEDS[SEEDS.len() - 1] + 1);
    let sweep = ["sweep", "--format", "json", "--seeds", &seeds, "--jobs", jobs];
    let text = output(sim().args(sweep).args(FLAGS));
    let document: serde_json::Value = serde_json::from_slice(&text).expect("a document");
    let runs = document["runs"].as_array().expect("runs");
    let hash = |run: &serde_json::Value| {
        let report: Report = serde_json::from_value(run["report"].clone()).expect("a report");
        (report.seed, report.trace_hash)
    };
    runs.iter().map(hash).collect()
}

#[test]
fn the_same_seed_is_the_same_run() {
    let first: Vec<Report> = SEEDS.iter().map(|seed| report(&mut run(*seed))).collect();
    for report in &first {
        println!("trace hash of seed {}: {}", report.seed, report.trace_hash);
        assert_eq!(report.verdict, Verdict::Passed, "{report}");
        assert!(report.trace_lines > 10_000, "{}", report.summary());
        assert!(report.marks.len() > 20, "{:?}", report.marks);
    }
    assert_ne!(first[0].trace_hash, first[1].trace_hash);

    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    for report in &first {
        let again = output(
            run(report.seed)
                .current_dir(elsewhere.path())
                .env("ISOTHERM_LOG", "trace")
                .env("RUST_LOG", "trace")
                .env("TZ", "Pacific/Auckland")
                .env("SOMETHING_ELSE", "entirely"),
        );
        // Not only what is in the report: what is written, byte for byte.
        let again = String::from_utf8(again).expect("text");
        let expected = serde_json::to_string(report).expect("a report can be written");
        assert_eq!(again.trim_end(), expected);
    }

    let expected: BTreeMap<u64, String> =
        first.into_iter().map(|report| (report.seed, report.trace_hash)).collect();
    for jobs in ["1", "3"] {
        assert_eq!(hashes_in_a_sweep(jobs), expected, "with --jobs {jobs}");
    }
}
