//! Marks of what the harness did, and of what its clients were told.

use std::collections::BTreeSet;

use crate::{
    ambush::OperationKind,
    faults::{Fault, TimedFault},
    history::{Call, Operation, Outcome},
};

/// One mark for each kind of fault.
pub fn of_faults(faults: &[TimedFault]) -> BTreeSet<String> {
    faults.iter().map(|timed| format!("fault: {}", kind(&timed.fault))).collect()
}

/// Words that join a fault's kind with hosts and numbers.
const JOINING: [&str; 5] = ["of", "and", "to", "by", "s"];

/// The words in which a fault is written, without hosts and numbers.
fn kind(fault: &Fault) -> String {
    let hosts = fault.hosts();
    let text = fault.to_string();
    let is_number = |word: &str| {
        word.trim_start_matches('-').starts_with(|letter: char| letter.is_ascii_digit())
    };
    let words: Vec<&str> = text
        .split_whitespace()
        .filter(|word| !hosts.contains(word) && !JOINING.contains(word) && !is_number(word))
        // Which operation it is has marks of its own.
        .filter(|word| !fault.is_of_leader() || word.parse::<OperationKind>().is_err())
        .collect();
    words.join(" ")
}

/// One mark for each way in which a call of a client ended.
pub fn of_history(operations: &[Operation]) -> BTreeSet<String> {
    let marks = operations.iter().map(|operation| {
        let call = match operation.call {
            Call::Get => "get",
            Call::Put { condition: None, .. } => "put",
            Call::Put { condition: Some(_), .. } => "conditional put",
            Call::Delete { condition: None } => "delete",
            Call::Delete { condition: Some(_) } => "conditional delete",
        };
        let end = match operation.outcome {
            Outcome::Written { .. } => "written",
            Outcome::Deleted { existed: true, .. } => "deleted",
            Outcome::Deleted { existed: false, .. } => "was absent",
            Outcome::ConditionFailed { .. } => "condition failed",
            Outcome::Found { .. } => "found",
            Outcome::Missing => "absent",
            Outcome::Refused { .. } => "given up",
            Outcome::Unknown => "unknown",
        };
        format!("call: {call}, {end}")
    });
    marks.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        coverage::unlisted,
        faults::{Cast, Schedule},
        seed::Seed,
    };

    #[test]
    fn a_fault_is_marked_by_its_words() {
        for (text, expected) in [
            ("kill node-1", "kill"),
            ("power off member-2", "power off"),
            ("cut node-1 and node-2", "cut"),
            ("cut from node-1 to node-2", "cut from"),
            ("kill leader before write 4 of drain", "kill leader before write"),
            ("slow disk of node-1", "slow disk"),
        ] {
            assert_eq!(kind(&text.parse().unwrap()), expected);
        }
    }

    #[test]
    fn every_fault_that_is_drawn_is_listed() {
        let names =
            |prefix: &str, count: u32| (1..=count).map(|n| format!("{prefix}-{n}")).collect();
        #[allow(clippy::needless_update, reason = "a cast may come to have more")]
        let cast = Cast {
            members: names("member", 3),
            index_nodes: names("node", 5),
            drivers: names("client", 2),
            ..Cast::default()
        };
        let time = Duration::from_secs(4)..Duration::from_secs(24);
        for seed in 0..50 {
            let schedule = Schedule::generate(Seed(seed), &cast, time.clone());
            let marks = of_faults(&schedule.faults);
            assert_eq!(unlisted(&marks), Vec::<&str>::new());
        }
    }
}
