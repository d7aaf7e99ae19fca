//! A sweep's end for programs. What is here is documented in `sim sweep --help`, and stays.

use serde::Serialize;
use sim_tests::report::Report;

use super::results::{Ended, Outcome, Results, Totals, milliseconds};
use crate::arguments::ZoneArguments;

#[derive(Serialize)]
struct Document<'a> {
    seeds: Seeds,
    scenarios: &'a [String],
    build: &'a str,
    ended: Ended,
    totals: Totals,
    wall_ms: u64,
    simulated_ms: u64,
    seeds_per_minute: Option<f64>,
    coverage: Coverage<'a>,
    runs: Vec<Run<'a>>,
}

#[derive(Serialize)]
struct Seeds {
    from: u64,
    to: u64,
}

#[derive(Serialize)]
struct Coverage<'a> {
    reached: Vec<Reached<'a>>,
    never: Vec<&'a str>,
    never_and_seldom: Vec<&'a str>,
}

#[derive(Serialize)]
struct Reached<'a> {
    mark: &'a str,
    runs: usize,
}

#[derive(Serialize)]
struct Run<'a> {
    scenario: Option<&'a str>,
    seed: u64,
    outcome: Outcome,
    wall_ms: u64,
    reproduce: String,
    report: &'a Report,
}

pub fn json(results: &Results, zone: &ZoneArguments) -> serde_json::Result<String> {
    let marks = results.marks();
    let never = results.never_reached();
    let names = |seldom: bool| {
        let these = never.iter().filter(|mark| mark.seldom.is_some() == seldom);
        these.map(|mark| mark.name).collect()
    };
    let runs = results.runs().map(|done| Run {
        scenario: done.case.scenario.as_deref(),
        seed: done.case.seed,
        outcome: done.outcome,
        wall_ms: done.wall_ms,
        reproduce: done.case.reproduction(zone),
        report: &done.report,
    });
    serde_json::to_string(&Document {
        seeds: Seeds { from: results.seeds.start, to: results.seeds.end },
        scenarios: &results.scenarios,
        build: &results.build,
        ended: results.ended,
        totals: results.totals(),
        wall_ms: milliseconds(results.wall),
        simulated_ms: milliseconds(results.simulated_now()),
        seeds_per_minute: results.seeds_per_minute(),
        coverage: Coverage {
            reached: marks.into_iter().map(|(mark, runs)| Reached { mark, runs }).collect(),
            never: names(false),
            never_and_seldom: names(true),
        },
        runs: runs.collect(),
    })
}
