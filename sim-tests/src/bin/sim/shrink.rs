//! Shrinks what goes wrong in a run that fails, and writes it down.

use sim_tests::{
    report::{Verdict, exit},
    scenario::Scenario,
    seed::Seed,
};

use super::{
    arguments::ShrinkArguments,
    case::{COMMAND, Case},
    child, planted_bugs,
};

pub fn shrink(arguments: &ShrinkArguments) -> anyhow::Result<u8> {
    let seed = arguments.seed;
    let whole = child::run(&Case { scenario: None, seed }.flags(&arguments.zone))?.report;
    let Verdict::Violated(problem) = &whole.verdict else {
        println!("{}\nThere is nothing to shrink.", whole.summary());
        return Ok(exit::PASSED);
    };
    let path = arguments.out.clone().unwrap_or_else(|| format!("seed-{seed}.toml").into());
    let options = arguments.zone.options(Seed(seed));
    let scenario = |faults: &[String]| Scenario {
        expect: problem.guarantee.clone(),
        ..Scenario::of_run(problem.sentence.clone(), seed, &options, faults.to_vec())
    };
    println!("seed {seed} violates {problem}");
    let mut runs = 0;
    let faults: Vec<String> = whole.faults.iter().map(|fault| fault.trim().to_owned()).collect();
    let smallest = sim_tests::shrink::shrink(&faults, |fewer| {
        scenario(fewer).write(&path)?;
        let mut flags = vec!["--scenario".to_owned(), path.display().to_string()];
        flags.extend(planted_bugs::flags(arguments.zone.planted));
        let report = child::run(&flags)?.report;
        let fails = scenario(fewer).is_met_by(&report);
        runs += 1;
        println!(
            "  run {runs}: {} faults: {}",
            fewer.len(),
            if fails { "fails" } else { "passes" }
        );
        Ok::<_, anyhow::Error>(fails)
    })?;
    scenario(&smallest).write(&path)?;
    println!("{} of {} faults are left after {runs} runs:", smallest.len(), faults.len());
    for fault in &smallest {
        println!("  {fault}");
    }
    println!("written to {}; to reproduce:", path.display());
    println!("  {COMMAND} --scenario {}", path.display());
    Ok(exit::VIOLATED)
}
