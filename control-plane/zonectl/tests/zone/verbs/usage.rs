//! What every verb has in common: help, wrong usage, and a zone that cannot be reached.

use crate::support::program::{Zonectl, command, run, zonectl_program};

const VERBS: [&[&str]; 27] = [
    &["status"],
    &["init", "--members", "127.0.0.1:1"],
    &["node", "list"],
    &["node", "show", "1"],
    &["node", "drain", "1"],
    &["node", "uncordon", "1"],
    &["node", "remove", "1"],
    &["partition", "list"],
    &["partition", "show", "1"],
    &["partition", "transfer-leader", "1", "--to", "2"],
    &["partition", "move", "1", "--from", "1", "--to", "2"],
    &["partition", "split", "1", "--at", "photos/m"],
    &["plan"],
    &["rebalance"],
    &["snapshot", "export"],
    &["explain", "partition", "1"],
    &["operation", "list"],
    &["operation", "watch", "1"],
    &["operation", "cancel", "1"],
    &["brake", "override", "--for", "1m", "--reason", "r"],
    &["brake", "restore"],
    &["policy", "show"],
    &["policy", "shadow", "show"],
    &["policy", "shadow", "clear", "--reason", "r"],
    &["policy", "shadow", "set", "splits_max=1", "--reason", "r"],
    &["policy", "set", "splits_max=1", "--reason", "r"],
    &["events"],
];

const DATA_VERBS: [&[&str]; 5] =
    [&["put", "k"], &["get", "k"], &["delete", "k"], &["list"], &["load", "--duration", "1s"]];

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_cannot_be_reached_is_exit_code_3() {
    // Nobody listens there.
    let nowhere = Zonectl::new(&["127.0.0.1:1".into(), "127.0.0.1:2".into()]);
    for verb in VERBS.iter().chain(&DATA_VERBS) {
        for output in ["table", "json"] {
            let arguments = [*verb, &["--deadline", "300ms", "-o", output]].concat();
            let ended = nowhere.run(&arguments).await;
            ended.refused(3, &["zonectl: ", "127.0.0.1:1", "refused"]);
            assert_eq!(ended.stdout, "", "{verb:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_exit_code_2_and_names_what_is_wrong() {
    for (arguments, word) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["status", "--endpoints", "nonsense"], "host:port"),
        (&["status", "--deadline", "soon"], "--deadline"),
        (&["status", "--deadline", "0s"], "--deadline"),
        (&["status", "-o", "xml"], "xml"),
        (&["node"], "Usage"),
        (&["node", "show"], "<NODE>"),
        (&["partition", "show", "seven"], "seven"),
        (&["partition", "move", "7", "--from", "1"], "--to"),
        (&["partition", "transfer-leader", "7"], "--to"),
        (&["partition", "split", "7"], "--at"),
        (&["partition", "split", "7", "--at", "k", "--by", "size"], "--by"),
        (&["partition", "split", "7", "--by", "name"], "name"),
        (&["partition", "split", "7", "--at", ""], "lowest key"),
        (&["operation", "list", "--limit", "0"], "--limit"),
        (&["operation", "watch", "last"], "last"),
        (&["brake", "override", "--for", "0s", "--reason", "r"], "brake restore"),
        (&["brake", "override", "--for", "1m"], "--reason"),
        (&["init", "--partitions", "0"], "--partitions"),
        (&["init", "--replace-after", "0s"], "--replace-after"),
        (&["init", "--partitions", "2", "--split-keys-file", "x"], "--split-keys-file"),
        (&["put", "k", "--if-absent", "--if-version", "3"], "--if-version"),
        (&["put", "k", "--bucket", "a\\x00b", "--escaped"], "NUL"),
        (&["get", "k\\", "--escaped"], "lone backslash"),
        (&["list", "--prefix", "x"], "--bucket"),
        (&["load", "--rate", "0"], "--rate"),
        (&["load", "--read-ratio", "2"], "--read-ratio"),
        (&["load", "--value-bytes", "1"], "--value-bytes"),
        (&["dev", "up", "--index-nodes", "0"], "--index-nodes"),
        (&["dev", "up", "--index-nodes", "2", "--data", "/nonexistent"], "--replication-factor"),
        (&["demo", "--keys-min", "5", "--keys-max", "4"], "--keys-min"),
        (&["policy", "set", "splits_max=1"], "--reason"),
        (&["policy", "set", "frobs_max=1", "--reason", "r"], "frobs_max"),
        (&["policy", "diff", "/nonexistent"], "/nonexistent"),
        (&["plan", "--rounds", "1"], "--problem"),
        (&["plan", "--problem", "p", "--effort", "1"], "--effort"),
        (&["plan", "--effort", "0"], "--effort"),
        (&["apply"], "<PLAN>"),
        (&["plan", "--problem", "p", "--rounds", "1", "--time-limit", "1s"], "--time-limit"),
        (&["completions", "tcl"], "tcl"),
    ] {
        let ended = run(command(&zonectl_program()).args(arguments)).await;
        ended.refused(2, &[word]);
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_is_an_answer_with_examples() {
    let verbs = [
        &[][..],
        &["init"],
        &["status"],
        &["node"],
        &["partition"],
        &["plan"],
        &["policy"],
        &["apply"],
        &["snapshot"],
        &["rebalance"],
        &["operation"],
        &["events"],
        &["put"],
        &["get"],
        &["delete"],
        &["list"],
        &["dev"],
        &["load"],
        &["demo"],
        &["completions"],
    ];
    for verb in verbs {
        let ended = run(command(&zonectl_program()).args(verb).arg("--help")).await;
        let help = ended.text();
        assert!(help.contains("Examples:") && help.contains("Usage:"), "{verb:?}: {help}");
    }
    let version = run(command(&zonectl_program()).arg("--version")).await;
    assert!(version.text().starts_with("zonectl "), "{version:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_are_written_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = run(command(&zonectl_program()).args(["completions", shell])).await;
        let script = ended.text();
        assert!(script.contains("transfer-leader"), "{shell}: {script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_come_from_the_environment_unless_they_are_given() {
    let mut nowhere = command(&zonectl_program());
    nowhere.env("ZONECTL_ENDPOINTS", "127.0.0.1:3").args(["status", "--deadline", "300ms"]);
    run(&mut nowhere).await.refused(3, &["127.0.0.1:3"]);
    nowhere.args(["--endpoints", "127.0.0.1:4"]);
    run(&mut nowhere).await.refused(3, &["127.0.0.1:4"]);
}
