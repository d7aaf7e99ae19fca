//! `zonectl plan`: its answers are checked by name, against the problem as it is written.

#[path = "../../../../model/examples/reassignment/generate.rs"]
mod generate;
#[path = "../../../../model/tests/model/reassignment/naive.rs"]
mod naive;

use std::{fs, path::Path, process::Stdio};

use model::reassignment::form::ProblemForm;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use generate::{Shape, generate};
use naive::{Places, broken, cost};

use super::has_fields;
use crate::support::{
    program::{Ended, Zonectl, command, end_of, run, zonectl_program},
    shared::{NODES, shared},
};

const SHAPE: Shape =
    Shape { nodes: 40, replicas: 300, resources: 3, transient: 1, balances: 1, fill_percent: 65 };

async fn plan(file: &Path, arguments: &[&str]) -> Ended {
    let mut program = command(&zonectl_program());
    program.args(["plan", "--problem"]).arg(file).args(arguments);
    run(&mut program).await
}

fn write(directory: &TempDir, problem: &impl serde::Serialize) -> std::path::PathBuf {
    let file = directory.path().join("problem.json");
    fs::write(&file, serde_json::to_vec(problem).unwrap()).unwrap();
    file
}

fn places(answer: &Value) -> Places {
    let assignment = answer["assignment"].as_array().unwrap();
    assignment.iter().map(|place| place["node"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_feasible_cheaper_and_can_be_had_again() {
    let directory = TempDir::new().unwrap();
    let problem: ProblemForm = generate(SHAPE, 1);
    let file = write(&directory, &problem);
    let answer = plan(&file, &["--time-limit", "300ms", "--lanes", "2", "-o", "json"]).await.json();
    has_fields(
        &answer,
        &[
            "problem",
            "feasible",
            "nodes",
            "replicas",
            "groups",
            "resources",
            "cost_before",
            "cost_after",
            "lower_bound",
            "gap_percent",
            "violations_before",
            "violations_after",
            "broken_after",
            "search",
            "moved_replicas",
            "placed_replicas",
            "assignment",
        ],
    );
    let cost_fields = ["total", "load", "balance", "replica_moves", "group_moves", "distance"];
    has_fields(&answer["cost_before"], &cost_fields);
    has_fields(&answer["cost_after"], &cost_fields);
    has_fields(&answer["lower_bound"], &["total", "load", "balance"]);
    let rules = [
        "unplaced",
        "misplaced",
        "conflicts",
        "spread_shortfall",
        "over_capacity",
        "over_transient",
    ];
    has_fields(&answer["violations_after"], &rules);
    let search = &answer["search"];
    has_fields(search, &["rounds", "planned_rounds", "lanes", "seed", "evaluations", "elapsed_ms"]);
    has_fields(&answer["assignment"][0], &["replica", "node", "from"]);

    assert_eq!(answer["feasible"], true);
    let found = places(&answer);
    assert_eq!(broken(&problem, &found), Vec::<String>::new());
    let before = problem.replicas.iter().map(|replica| replica.node.clone()).collect();
    assert_eq!(answer["cost_before"]["total"], json!(cost(&problem, &before) as i64));
    assert_eq!(answer["cost_after"]["total"], json!(cost(&problem, &found) as i64));
    assert!(cost(&problem, &found) < cost(&problem, &before));

    let word = |name: &str| search[name].to_string();
    let (rounds, planned) = (word("rounds"), word("planned_rounds"));
    let again = ["--rounds", &rounds, "--planned-rounds", &planned, "--lanes", "2", "--seed", "1"];
    let again = plan(&file, &[&again[..], &["-o", "json"]].concat()).await.json();
    assert_eq!(again["assignment"], answer["assignment"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_what_it_brings_and_how_to_get_it_again() {
    let directory = TempDir::new().unwrap();
    let file = write(&directory, &generate(SHAPE, 2));
    let ended = plan(&file, &["--rounds", "6", "--lanes", "1"]).await;
    let text = ended.text();
    assert!(text.starts_with("FEASIBLE: "), "{text}");
    for words in [
        "40 nodes, 300 replicas in ",
        "Rules broken before: none; after: none.",
        "load above targets",
        "% above the lower bound.",
        "and ",
        "--rounds 6 --planned-rounds 6 --lanes 1 --seed 1",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert_eq!(ended.stderr, "");
}

/// Two nodes of ten, and what the replicas of two groups need.
fn small(second_capacity: u64) -> Value {
    let node = |name: &str, capacity: u64| {
        json!({
            "name": name, "fault_domain": name, "capacity": [capacity], "target": [5],
        })
    };
    json!({
        "version": 1,
        "resources": [{ "name": "bytes", "load_weight": 1 }],
        "nodes": [node("a", 10), node("b", second_capacity)],
        "groups": [{ "name": "g" }, { "name": "h" }],
        "replicas": [
            { "name": "g/1", "group": "g", "node": "a", "demand": [6] },
            { "name": "h/1", "group": "h", "demand": [6] },
        ],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_without_an_answer_is_exit_code_1_with_what_is_broken() {
    let directory = TempDir::new().unwrap();
    let file = write(&directory, &small(5));
    let ended = plan(&file, &["--rounds", "3"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.starts_with("NOT FEASIBLE: "), "{ended:?}");
    assert!(ended.stdout.contains("\n  replica h/1 has no place\n"), "{ended:?}");
    assert!(ended.stderr.contains("still breaks rules ("), "{ended:?}");
    let ended = plan(&file, &["--rounds", "3", "-o", "json"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    let broken = ["replica h/1 has no place", "group h is in 0 fault domains, not in 1"];
    assert_eq!(answer["broken_after"], json!(broken));
    assert_eq!(answer["gap_percent"], Value::Null, "a bound is of what breaks no rule");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_that_there_is_no_answer_if_nobody_reads_it_too() {
    for (second_capacity, code) in [(5, Some(1)), (10, Some(0))] {
        let mut program = command(&zonectl_program());
        program.args(["plan", "--problem", "-", "--rounds", "3"]).stdin(Stdio::piped());
        program.stdout(Stdio::piped());
        let mut child = program.spawn().unwrap();
        drop(child.stdout.take());
        let mut input = child.stdin.take().unwrap();
        input.write_all(small(second_capacity).to_string().as_bytes()).await.unwrap();
        drop(input);
        assert_eq!(child.wait().await.unwrap().code(), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_that_gives_it_again_can_be_given_to_a_shell() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a problem; exit 7");
    fs::write(&file, small(10).to_string()).unwrap();
    let ended = plan(&file, &["--rounds", "3", "--lanes", "1"]).await;
    let line = ended.text().lines().last().unwrap().trim().to_owned();
    let again = line.strip_prefix("zonectl").expect(&line);
    let mut shell = command(Path::new("sh"));
    shell.args(["-c", &format!("{}{again}", zonectl_program().display())]);
    assert_eq!(run(&mut shell).await.text().lines().next(), ended.text().lines().next());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_comes_from_standard_input_too() {
    let mut program = command(&zonectl_program());
    program.args(["plan", "--problem", "-", "--rounds", "3", "-o", "json"]).stdin(Stdio::piped());
    let mut child = program.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(small(10).to_string().as_bytes()).await.unwrap();
    drop(input);
    let answer = end_of(child).await.json();
    assert_eq!(answer["problem"], "standard input");
    assert_eq!((&answer["moved_replicas"], &answer["placed_replicas"]), (&json!(0), &json!(1)));
    let placed = json!({ "replica": "h/1", "node": "b", "from": null });
    assert_eq!(answer["assignment"][1], placed);
    assert_eq!(answer["gap_percent"], json!(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_zone_is_exported_and_planned_for() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let exported = zonectl.run(&["snapshot", "export"]).await;
    let problem: ProblemForm = serde_json::from_str(exported.text()).unwrap();
    let partitions = zonectl.json(&["partition", "list"]).await;
    let partitions = partitions.as_array().unwrap();
    assert_eq!(problem.nodes.len(), NODES as usize);
    assert_eq!(problem.groups.len(), partitions.len());
    assert_eq!(problem.replicas.len(), 3 * partitions.len());
    let resources: Vec<&str> = problem.resources.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        resources,
        [
            "reads_per_1000_s",
            "writes_per_1000_s",
            "stored_bytes",
            "bytes_per_s",
            "processor_us_per_s"
        ]
    );
    let heat = zonectl.json(&["heat"]).await;
    for (node, loaded) in problem.nodes.iter().zip(heat["nodes"].as_array().unwrap()) {
        assert_eq!(Some(node.capacity[4]), loaded["cores"].as_u64().map(|cores| cores * 1_000_000));
    }
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("zone.json");
    fs::write(&file, exported.text()).unwrap();
    let answer = plan(&file, &["--rounds", "8", "--lanes", "1", "-o", "json"]).await.json();
    assert_eq!(answer["feasible"], true);
    assert_eq!(broken(&problem, &places(&answer)), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_problem_is_refused_in_words() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("problem.json");
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut problem = small(10);
        edit(&mut problem);
        problem.to_string()
    };
    for (text, words) in [
        (String::new(), &["is not a problem", "EOF"][..]),
        ("[".repeat(100_000), &["is not a problem"]),
        ("{\"version\": 1}".into(), &["missing field"]),
        (edited(&|it| it["version"] = 2.into()), &["version is 2: it must be 1"]),
        (edited(&|it| it["nodes"][0]["capasity"] = 2.into()), &["unknown field `capasity`"]),
        (edited(&|it| it["nodes"][0]["capacity"] = json!([-1])), &["-1"]),
        (edited(&|it| it["nodes"][1]["name"] = "a".into()), &["names must be distinct"]),
        (edited(&|it| it["replicas"][0]["node"] = "c".into()), &["\"c\"", "no such node"]),
        (edited(&|it| it["replicas"][0]["demand"] = json!([1, 2])), &["it must have 1"]),
        (
            edited(&|it| it["groups"].as_array_mut().unwrap().push(json!({ "name": "i" }))),
            &["group \"i\": it has no replicas", "leave it out"],
        ),
        (
            edited(&|it| it["groups"][1]["spread_min"] = 2.into()),
            &["group \"h\": spread_min is 2: it must be at most 1", "number of its replicas"],
        ),
    ] {
        fs::write(&file, text).unwrap();
        let ended = plan(&file, &["--rounds", "1"]).await;
        ended.refused(1, words);
        assert!(ended.stderr.contains("problem.json"), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    let missing = directory.path().join("none.json");
    plan(&missing, &[]).await.refused(1, &["cannot read the problem from", "none.json"]);
    plan(directory.path(), &[]).await.refused(1, &["cannot read the problem from"]);
}
