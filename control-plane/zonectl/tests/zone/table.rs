//! The table in `README.md` beside this file is true and complete.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory};
use zonectl::arguments::Arguments;

const TABLE: &str = include_str!("README.md");

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zone")
}

/// Whatever is in backquotes.
fn quoted() -> impl Iterator<Item = &'static str> {
    TABLE.split('`').skip(1).step_by(2)
}

#[track_caller]
fn is_named(what: &str) {
    assert!(quoted().any(|word| word == what), "{what} is not in the table");
}

#[test]
fn every_test_in_it_exists() {
    let mut tests = 0;
    for path in quoted().filter(|word| word.contains("::") && !word.contains("module::")) {
        let (module, test) = path.rsplit_once("::").expect("it contains ::");
        let file = here().join(format!("{}.rs", module.replace("::", "/")));
        let text = fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{path}: {} cannot be read: {error}", file.display()));
        assert!(text.contains(&format!("async fn {test}()")), "{path} does not exist");
        tests += 1;
    }
    assert!(tests > 100, "only {tests} tests were found in the table");
}

#[test]
fn every_rpc_is_in_it() {
    let directory = here().join("../../../../proto/zone/v1");
    let mut calls = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut service = "";
        for line in text.lines() {
            let mut words = line.trim_start().split([' ', '(']);
            match words.next() {
                Some("service") => service = words.next().unwrap(),
                Some("rpc") => {
                    is_named(&format!("{service}.{}", words.next().unwrap()));
                    calls += 1;
                }
                Some(_) | None => {}
            }
        }
    }
    assert!(calls > 20, "only {calls} calls were found");
}

#[test]
fn every_verb_is_in_it() {
    fn check(path: &str, command: &Command) {
        let mut verbs = command.get_subcommands().filter(|it| it.get_name() != "help").peekable();
        if verbs.peek().is_none() {
            return is_named(path);
        }
        for verb in verbs {
            check(&format!("{path} {}", verb.get_name()), verb);
        }
    }
    check("zonectl", &Arguments::command());
}

#[test]
fn every_runbook_is_in_it() {
    let runbooks = here().join("../../../../runbooks");
    let pages = fs::read_dir(runbooks).unwrap().map(|entry| entry.unwrap().file_name());
    let pages = pages.map(|name| name.into_string().unwrap());
    let pages: Vec<String> =
        pages.filter(|name| name.ends_with(".md") && name != "README.md").collect();
    assert!(pages.len() >= 5, "{pages:?}");
    for page in pages {
        is_named(&page);
    }
}
