//! Marks of what the zone's ledger tells: each kind of event, each end of each kind of operation, and the
//! reasons that tell one path of a decision from another.

use proto::v1::{Event, Operation, OperationState};

/// The marks of one event.
pub fn of_event(event: &Event) -> Vec<String> {
    let told = REASONS.iter().filter(|reason| {
        reason.kinds.contains(&event.kind.as_str()) && event.reason.contains(reason.text)
    });
    std::iter::once(format!("event: {}", event.kind))
        .chain(told.map(|reason| reason.mark.to_owned()))
        .collect()
}

/// The marks of one operation.
pub fn of_operation(operation: &Operation) -> Vec<String> {
    let end = match operation.state() {
        OperationState::Succeeded => "succeeded",
        OperationState::Failed => "failed",
        OperationState::Cancelled => "cancelled",
        OperationState::Running => "running",
        OperationState::Unspecified => "in no state",
    };
    let told = ERRORS.iter().filter(|(text, _)| operation.last_error.contains(text));
    std::iter::once(format!("operation: {}, {end}", operation.kind))
        .chain(told.map(|(_, mark)| (*mark).to_owned()))
        .collect()
}

/// A text in the reason of an event of one of these kinds.
struct Reason {
    kinds: &'static [&'static str],
    text: &'static str,
    mark: &'static str,
}

const TAKEOVERS: &[&str] = &["takeover", "takeover-failed"];
const JUDGEMENTS: &[&str] = &["node-suspect", "node-down"];
const STARTED: &[&str] = &["operation-started"];
const BRAKE: &[&str] = &["brake-engaged"];

const REASONS: &[Reason] = &[
    Reason {
        kinds: TAKEOVERS,
        text: "next candidate",
        mark: "takeover: the next candidate after the first failed",
    },
    Reason {
        kinds: TAKEOVERS,
        text: "was not elected",
        mark: "takeover: a candidate was not elected",
    },
    Reason {
        kinds: TAKEOVERS,
        text: "did not answer",
        mark: "takeover: a survivor's node did not answer",
    },
    Reason {
        kinds: TAKEOVERS,
        text: "still follows the former leader",
        mark: "takeover: a survivor still followed the former leader",
    },
    Reason { kinds: TAKEOVERS, text: " is down: ", mark: "takeover: of a node that is down" },
    Reason { kinds: TAKEOVERS, text: " is suspect: ", mark: "takeover: of a node that is suspect" },
    Reason {
        kinds: TAKEOVERS,
        text: "no leader was confirmed",
        mark: "takeover: nobody led, and no node was lost",
    },
    Reason {
        kinds: JUDGEMENTS,
        text: "no heartbeat for",
        mark: "judgement: its heartbeats stayed away",
    },
    Reason { kinds: JUDGEMENTS, text: "its session broke", mark: "judgement: its session broke" },
    Reason { kinds: JUDGEMENTS, text: "a dial was refused", mark: "judgement: a dial was refused" },
    Reason {
        kinds: JUDGEMENTS,
        text: "cannot reach it either",
        mark: "judgement: peers confirmed it",
    },
    Reason { kinds: BRAKE, text: "ran late", mark: "brake: the judge ran late" },
    Reason { kinds: BRAKE, text: "more than a third", mark: "brake: more than a third were lost" },
    Reason { kinds: BRAKE, text: "of fault domain", mark: "brake: a whole fault domain was lost" },
    Reason { kinds: STARTED, text: "has been down for", mark: "repair: of a node that was lost" },
    Reason { kinds: STARTED, text: " has failed (", mark: "repair: of a replica that failed" },
    Reason {
        kinds: STARTED,
        text: "shares fault domain",
        mark: "repair: two replicas shared a fault domain",
    },
    Reason { kinds: STARTED, text: " replicas of ", mark: "repair: a replica was missing" },
    Reason {
        kinds: STARTED,
        text: "is being drained",
        mark: "drain: the parts of a drain were begun",
    },
    Reason {
        kinds: STARTED,
        text: "may not lead",
        mark: "balance: leadership left a node that may not lead",
    },
    Reason {
        kinds: STARTED,
        text: "even leader counts",
        mark: "balance: leader counts were evened",
    },
    Reason {
        kinds: STARTED,
        text: ": leadership of partition",
        mark: "heat: leadership was moved for load",
    },
    Reason {
        kinds: STARTED,
        text: ": a replica of partition",
        mark: "heat: a replica was moved for load",
    },
    Reason {
        kinds: STARTED,
        text: "is overloaded (",
        mark: "heat: an overloaded node was relieved",
    },
    Reason {
        kinds: STARTED,
        text: " in exchange for ",
        mark: "heat: two partitions were exchanged",
    },
];

/// A text in the error that an operation ended with or waits on.
const ERRORS: &[(&str, &str)] = &[
    ("has returned with its replica", "repair: given up since the node came back"),
    ("which was to get the replica, is down", "move: given up since its target was lost"),
    ("which was to lead, is not up", "transfer: given up since its target was lost"),
    ("did not lead within", "transfer: given up after its time"),
    ("which it was a part of, has ended", "drain: its parts were cancelled with it"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_marks_its_kind_and_its_reason() {
        let event = Event {
            kind: "takeover".into(),
            reason: "node 2 is down: its session broke; next candidate: replica 4".into(),
            ..Event::default()
        };
        assert_eq!(
            of_event(&event),
            [
                "event: takeover",
                "takeover: the next candidate after the first failed",
                "takeover: of a node that is down"
            ]
        );
        let other = Event { kind: "node-up".into(), ..event };
        assert_eq!(of_event(&other), ["event: node-up"]);
    }

    #[test]
    fn an_operation_marks_its_end() {
        let operation = Operation {
            kind: "repair".into(),
            state: OperationState::Cancelled.into(),
            last_error: "node 3 has returned with its replica: no copy is needed".into(),
            ..Operation::default()
        };
        assert_eq!(
            of_operation(&operation),
            ["operation: repair, cancelled", "repair: given up since the node came back"]
        );
    }
}
