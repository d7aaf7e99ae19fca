//! Judges a recorded log of signals again, with the failure detector as it is now, and shows what it finds:
//!
//! ```text
//! zonectl explain signals > signals.jsonl
//! cargo run -p model --example replay -- signals.jsonl
//! ```
//!
//! Where it finds something else than was found then, it says so: what a change of the detector would have
//! meant for what has really happened. Exit code 1 then, 2 if this is no such log.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::ExitCode,
};

use model::{
    detector::Judgement,
    signal_log::{Entry, REPLAY_ROUNDS_MAX, replay},
};

/// Longer than any line of a zone of a thousand nodes.
const LINE_BYTES_MAX: usize = 4 << 20;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: replay FILE, which `zonectl explain signals` has written");
        return ExitCode::from(2);
    };
    match read(&path).and_then(|entries| judge_again(&entries)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(different) => {
            println!("{different} rounds are judged otherwise now.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("replay: {path}: {error}");
            ExitCode::from(2)
        }
    }
}

fn read(path: &str) -> Result<Vec<Entry>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut entries = Vec::new();
    for (line, number) in BufReader::new(file).lines().zip(1_u32..) {
        let line = line.map_err(|error| format!("line {number}: {error}"))?;
        if line.len() > LINE_BYTES_MAX || entries.len() > REPLAY_ROUNDS_MAX {
            return Err(format!("line {number}: more than a log of signals has"));
        }
        let entry = serde_json::from_str(&line);
        entries.push(entry.map_err(|error| format!("line {number}: {error}"))?);
    }
    Ok(entries)
}

/// Prints what is found and was found; how often that is not the same.
fn judge_again(entries: &[Entry]) -> Result<usize, String> {
    let found = replay(entries.iter().cloned()).map_err(|error| error.to_string())?;
    let recorded = entries.iter().filter_map(|entry| match entry {
        Entry::Round { round, judgement } => Some((round.at(), judgement)),
        Entry::Begin { .. } => None,
    });
    let mut different = 0;
    for ((at, then), now) in recorded.zip(&found) {
        let seconds = at.as_secs_f64();
        for line in words(now) {
            println!("{seconds:12.3} s  {line}");
        }
        if then != now {
            different += 1;
            for line in words(then) {
                println!("{seconds:12.3} s  then: {line}");
            }
        }
    }
    println!("{} rounds judged again.", found.len());
    Ok(different)
}

fn words(judgement: &Judgement) -> Vec<String> {
    let conclusions = judgement.conclusions.iter().map(|conclusion| {
        format!("node {} is {}: {}", conclusion.node, conclusion.state, conclusion.evidence)
    });
    let brake = judgement.brake.iter().map(|brake| {
        let word = if brake.engaged { "engaged" } else { "released" };
        format!("the brake is {word}: {}", brake.reason)
    });
    conclusions.chain(brake).collect()
}
