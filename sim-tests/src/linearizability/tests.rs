//! The checker's own tests: histories whose verdict is known, and tiny random ones on which it has to
//! agree with a checker that tries everything.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::history::{Call, Condition, Recorder, Stamp, ValueId};

/// One operation, from `invoked` to `completed`; later numbers are later.
fn operation(
    key: &'static str,
    call: Call,
    outcome: Outcome,
    invoked: u64,
    completed: u64,
) -> Operation {
    let stamp = |sequence| Stamp { sequence, at: Duration::from_millis(sequence) };
    Operation {
        client: 0,
        key: Bytes::from_static(key.as_bytes()),
        call,
        invoked: stamp(invoked),
        completed: (outcome != Outcome::Unknown).then(|| stamp(completed)),
        outcome,
    }
}

fn put(value: u64, version: u64, invoked: u64, completed: u64) -> Operation {
    let call = Call::Put { value: ValueId(value), condition: None };
    operation("k", call, Outcome::Written { version }, invoked, completed)
}

fn lost_put(value: u64, invoked: u64) -> Operation {
    let call = Call::Put { value: ValueId(value), condition: None };
    operation("k", call, Outcome::Unknown, invoked, 0)
}

fn put_if(
    condition: Condition,
    value: u64,
    outcome: Outcome,
    invoked: u64,
    completed: u64,
) -> Operation {
    let call = Call::Put { value: ValueId(value), condition: Some(condition) };
    operation("k", call, outcome, invoked, completed)
}

fn delete(version: u64, existed: bool, invoked: u64, completed: u64) -> Operation {
    let call = Call::Delete { condition: None };
    operation("k", call, Outcome::Deleted { version, existed }, invoked, completed)
}

fn lost_delete(invoked: u64) -> Operation {
    operation("k", Call::Delete { condition: None }, Outcome::Unknown, invoked, 0)
}

fn found(value: u64, version: u64, invoked: u64, completed: u64) -> Operation {
    let outcome = Outcome::Found { value: ValueId(value), version };
    operation("k", Call::Get, outcome, invoked, completed)
}

fn missing(invoked: u64, completed: u64) -> Operation {
    operation("k", Call::Get, Outcome::Missing, invoked, completed)
}

fn passes(history: &[Operation]) -> bool {
    match check(history) {
        Verdict::Linearizable => true,
        Verdict::NotLinearizable(_) => false,
        Verdict::Undecided { .. } => panic!("small histories are decided"),
    }
}

#[test]
fn what_may_happen_passes() {
    let written = |version| Outcome::Written { version };
    let failed = |current_version| Outcome::ConditionFailed { current_version };
    let histories = [
        ("nothing at all", vec![]),
        ("one after another", vec![missing(1, 2), put(7, 3, 3, 4), found(7, 3, 5, 6)]),
        (
            "a read beside a write sees either",
            vec![put(7, 3, 1, 9), missing(2, 3), found(7, 3, 4, 5)],
        ),
        ("a lost write may have happened", vec![lost_put(7, 1), found(7, 4, 5, 6)]),
        ("a lost write may happen late", vec![lost_put(7, 1), missing(2, 3), found(7, 4, 5, 6)]),
        ("a lost write may never have happened", vec![lost_put(7, 1), missing(2, 3)]),
        ("a lost delete", vec![put(7, 1, 1, 2), lost_delete(3), found(7, 1, 4, 5), missing(6, 7)]),
        ("a delete of nothing", vec![delete(2, false, 1, 2), missing(3, 4), put(7, 3, 5, 6)]),
        (
            "a lost write explains a failed condition",
            vec![lost_put(7, 1), put_if(Condition::Absent, 8, failed(5), 2, 3), found(7, 5, 4, 5)],
        ),
        (
            "compare and set",
            vec![
                put_if(Condition::Absent, 1, written(4), 1, 2),
                put_if(Condition::VersionEquals(4), 2, written(6), 3, 4),
                put_if(Condition::VersionEquals(4), 3, failed(6), 5, 6),
                found(2, 6, 7, 8),
            ],
        ),
        (
            "a lost conditional write is seen by a condition on its version",
            vec![
                put_if(Condition::Absent, 1, Outcome::Unknown, 1, 0),
                put_if(Condition::VersionEquals(3), 2, written(9), 3, 4),
            ],
        ),
    ];
    for (name, history) in histories {
        assert!(passes(&history), "{name}: {:?}", check(&history));
    }
}

#[test]
fn what_must_not_happen_is_found() {
    let written = |version| Outcome::Written { version };
    let failed = |current_version| Outcome::ConditionFailed { current_version };
    let histories = [
        ("an acknowledged write is lost", vec![put(7, 3, 1, 2), missing(3, 4)]),
        ("a stale read", vec![put(1, 3, 1, 2), put(2, 4, 3, 4), found(1, 3, 5, 6)]),
        ("a read goes backwards", vec![put(1, 3, 1, 20), found(1, 3, 2, 3), missing(4, 5)]),
        ("a value that nobody wrote", vec![put(1, 3, 1, 2), found(9, 3, 3, 4)]),
        ("a write takes effect twice", vec![put(1, 3, 1, 2), found(1, 5, 3, 4)]),
        (
            "a lost write takes effect twice",
            vec![lost_put(1, 1), found(1, 3, 2, 3), put(2, 4, 4, 5), found(1, 6, 6, 7)],
        ),
        ("a write from the future", vec![found(1, 3, 1, 2), put(1, 3, 3, 4)]),
        ("a lost write from the future", vec![found(1, 3, 1, 2), lost_put(1, 3)]),
        ("versions fall", vec![put(1, 5, 1, 2), put(2, 4, 3, 4)]),
        (
            "versions fall across a delete",
            vec![put(1, 5, 1, 2), delete(6, true, 3, 4), put(2, 6, 5, 6)],
        ),
        ("a delete found nothing", vec![put(1, 5, 1, 2), delete(6, false, 3, 4)]),
        ("a delete found something", vec![delete(6, true, 3, 4)]),
        ("a deleted key returns", vec![put(1, 5, 1, 2), delete(6, true, 3, 4), found(1, 5, 5, 6)]),
        ("two creators", {
            let create = |value, version, invoked, completed| {
                put_if(Condition::Absent, value, written(version), invoked, completed)
            };
            vec![create(1, 3, 1, 9), create(2, 4, 2, 8)]
        }),
        (
            "two winners of one comparison",
            vec![
                put(1, 3, 1, 2),
                put_if(Condition::VersionEquals(3), 2, written(4), 3, 9),
                put_if(Condition::VersionEquals(3), 3, written(5), 4, 8),
            ],
        ),
        ("a condition failed that held", vec![put_if(Condition::Absent, 1, failed(0), 1, 2)]),
        (
            "a condition failed by a version that nobody wrote",
            vec![put(1, 3, 1, 2), put_if(Condition::Absent, 2, failed(4), 3, 4)],
        ),
        (
            "a lost conditional write without its condition",
            vec![
                put(1, 3, 1, 2),
                put_if(Condition::Absent, 2, Outcome::Unknown, 3, 0),
                found(2, 4, 5, 6),
            ],
        ),
    ];
    for (name, history) in histories {
        assert!(!passes(&history), "{name}");
    }
}

#[test]
fn what_was_refused_must_have_no_effect() {
    let refused = Outcome::Refused { reason: "wrong range".into() };
    let call = Call::Put { value: ValueId(1), condition: None };
    let refused = operation("k", call, refused, 1, 2);
    assert!(passes(&[refused.clone(), missing(3, 4)]));
    assert!(!passes(&[refused, found(1, 3, 3, 4)]));
}

#[test]
fn keys_are_independent_and_the_bad_one_is_named() {
    let other = Operation { key: Bytes::from_static(b"other"), ..put(5, 2, 1, 2) };
    let lost = Operation { key: Bytes::from_static(b"other"), ..missing(3, 4) };
    assert!(passes(&[put(7, 3, 1, 2), other.clone(), found(7, 3, 3, 4)]));
    let verdict = check(&[put(7, 3, 1, 2), other, found(7, 3, 3, 4), lost.clone()]);
    let Verdict::NotLinearizable(counterexample) = verdict else { panic!("{verdict:?}") };
    assert_eq!(counterexample.key, "other");
    assert_eq!(counterexample.stuck_at, lost);
    assert_eq!(counterexample.explained, 1);
}

#[test]
fn a_search_that_gives_up_says_so() {
    let mut history: Vec<Operation> = (0..40).map(|n| lost_put(n, n + 1)).collect();
    history.push(found(1_000, 99, 100, 101));
    assert_eq!(check_within(&history, 1_000), Verdict::Undecided { key: Bytes::from_static(b"k") });
}

#[test]
fn a_long_history_is_checked_quickly() {
    // Eight clients with overlapping operations, every tenth write unanswered.
    let mut history = Vec::new();
    for round in 0..1_000_u64 {
        let from = round * 20;
        let (value, written) = (round + 1, round + 1);
        if round % 10 == 0 {
            history.push(lost_put(value, from + 1));
        } else {
            history.push(put(value, written, from + 1, from + 12));
        }
        for client in 0..6 {
            history.push(found(value, written, from + 3 + client, from + 13 + client));
        }
    }
    assert!(passes(&history));
    history.push(found(3, 3, 100_000, 100_001));
    assert!(!passes(&history));
}

#[test]
fn the_recorder_stamps_events_in_their_sequence() {
    let recorder = Recorder::new();
    let at = Duration::from_secs(1);
    let first = recorder.invoke(1, Bytes::from_static(b"k"), Call::Get, at);
    let second = recorder.invoke(2, Bytes::from_static(b"k"), Call::Get, at);
    recorder.complete(second, Outcome::Missing, at);
    let operations = recorder.operations();
    assert_eq!(operations[0].outcome, Outcome::Unknown);
    assert_eq!(operations[0].completed, None);
    assert!(operations[0].invoked < operations[1].invoked);
    assert!(operations[1].invoked < operations[1].completed.expect("completed"));
    recorder.complete(first, Outcome::Missing, at);
    assert!(recorder.operations()[0].completed > operations[1].completed);
}

/// A register with nothing left open: what the key holds, and the version of its last write.
#[derive(Clone, Copy)]
struct Concrete {
    value: Option<u64>,
    version: u64,
}

/// Every state that `operation` can lead to, with every version that an unseen write can have had.
fn outcomes_of(here: Concrete, operation: &Operation, versions: u64) -> Vec<Concrete> {
    let holds = |condition: Option<Condition>| match condition {
        None => true,
        Some(Condition::Absent) => here.value.is_none(),
        Some(Condition::VersionEquals(version)) => here.value.is_some() && here.version == version,
    };
    let written = |value: Option<u64>| -> Vec<Concrete> {
        (here.version + 1..=versions).map(|version| Concrete { value, version }).collect()
    };
    let current = if here.value.is_some() { here.version } else { 0 };
    match (operation.call, &operation.outcome) {
        (Call::Get, Outcome::Missing) if here.value.is_none() => vec![here],
        (Call::Get, Outcome::Found { value, version })
            if here.value == Some(value.0) && here.version == *version =>
        {
            vec![here]
        }
        (Call::Put { value, condition }, Outcome::Written { version }) if holds(condition) => {
            let mut all = written(Some(value.0));
            all.retain(|state| state.version == *version);
            all
        }
        (Call::Put { value, condition }, Outcome::Unknown) if holds(condition) => {
            written(Some(value.0))
        }
        (Call::Delete { condition }, Outcome::Deleted { version, existed })
            if holds(condition) && *existed == here.value.is_some() =>
        {
            let mut all = written(None);
            all.retain(|state| state.version == *version);
            all
        }
        (Call::Delete { condition }, Outcome::Unknown) if holds(condition) => written(None),
        (
            Call::Put { condition: Some(condition), .. }
            | Call::Delete { condition: Some(condition) },
            Outcome::ConditionFailed { current_version },
        ) if !holds(Some(condition)) && *current_version == current => vec![here],
        _ => vec![],
    }
}

/// Tries every sequence of all answered operations and any unanswered ones.
fn try_everything(here: Concrete, left: &[&Operation], versions: u64) -> bool {
    if left.iter().all(|operation| operation.outcome == Outcome::Unknown) {
        return true;
    }
    (0..left.len()).any(|index| {
        let operation = left[index];
        let too_early = left
            .iter()
            .any(|other| other.completed.is_some_and(|completed| completed < operation.invoked));
        if too_early {
            return false;
        }
        let mut rest = left.to_vec();
        rest.remove(index);
        outcomes_of(here, operation, versions)
            .into_iter()
            .any(|next| try_everything(next, &rest, versions))
    })
}

fn condition() -> impl Strategy<Value = Option<Condition>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Condition::Absent)),
        1 => (1..6_u64).prop_map(|version| Some(Condition::VersionEquals(version))),
    ]
}

/// What one client does, before it is known what the register answers.
#[derive(Clone, Debug)]
struct Intention {
    call: Call,
    invoked: u64,
    effective: u64,
    completed: u64,
    answered: bool,
    /// With some probability the answer is not the register's but an invented one.
    invented: Option<Outcome>,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        (1..6_u64).prop_map(|version| Outcome::Written { version }),
        (1..6_u64, any::<bool>())
            .prop_map(|(version, existed)| Outcome::Deleted { version, existed }),
        (0..6_u64).prop_map(|current_version| Outcome::ConditionFailed { current_version }),
        (0..5_u64, 1..6_u64)
            .prop_map(|(value, version)| Outcome::Found { value: ValueId(value), version }),
        Just(Outcome::Missing),
    ]
}

fn intention(number: u64) -> impl Strategy<Value = Intention> {
    let call = prop_oneof![
        3 => condition().prop_map(move |condition| Call::Put { value: ValueId(number), condition }),
        1 => condition().prop_map(|condition| Call::Delete { condition }),
        3 => Just(Call::Get),
    ];
    let times = (0..30_u64, 0..8_u64, 0..8_u64);
    let invented = prop_oneof![4 => Just(None), 1 => outcome().prop_map(Some)];
    (call, times, prop_oneof![4 => Just(true), 1 => Just(false)], invented).prop_map(
        |(call, (invoked, until_effect, until_answer), answered, invented)| Intention {
            call,
            invoked,
            effective: invoked + until_effect,
            completed: invoked + until_effect + until_answer,
            answered,
            invented,
        },
    )
}

fn fits(call: Call, outcome: &Outcome) -> bool {
    matches!(
        (call, outcome),
        (Call::Get, Outcome::Found { .. } | Outcome::Missing)
            | (Call::Put { .. }, Outcome::Written { .. })
            | (Call::Delete { .. }, Outcome::Deleted { .. })
            | (
                Call::Put { condition: Some(_), .. } | Call::Delete { condition: Some(_) },
                Outcome::ConditionFailed { .. },
            )
    )
}

/// Runs the intentions against a real register, in the sequence of their effects.
fn carry_out(mut intentions: Vec<Intention>) -> Vec<Operation> {
    intentions.sort_by_key(|intention| intention.effective);
    let mut here = Concrete { value: None, version: 0 };
    let mut history = Vec::new();
    for (position, intention) in intentions.into_iter().enumerate() {
        let current = if here.value.is_some() { here.version } else { 0 };
        let (condition, value) = match intention.call {
            Call::Put { value, condition } => (condition, Some(value)),
            Call::Delete { condition } => (condition, None),
            Call::Get => (None, None),
        };
        let holds = match condition {
            None => true,
            Some(Condition::Absent) => current == 0,
            Some(Condition::VersionEquals(version)) => current == version,
        };
        let truth = match intention.call {
            Call::Get => here.value.map_or(Outcome::Missing, |value| Outcome::Found {
                value: ValueId(value),
                version: here.version,
            }),
            _ if !holds => Outcome::ConditionFailed { current_version: current },
            Call::Put { .. } | Call::Delete { .. } => {
                let existed = here.value.is_some();
                let version = here.version + 1;
                here = Concrete { value: value.map(|value| value.0), version };
                match value {
                    Some(_) => Outcome::Written { version },
                    None => Outcome::Deleted { version, existed },
                }
            }
        };
        let told = intention.invented.filter(|outcome| fits(intention.call, outcome));
        let outcome = if intention.answered { told.unwrap_or(truth) } else { Outcome::Unknown };
        // Spread out, so that no two events share a stamp.
        let spread = |time: u64, last: u64| time * 100 + position as u64 * 2 + last;
        let (invoked, completed) = (spread(intention.invoked, 0), spread(intention.completed, 1));
        history.push(operation("k", intention.call, outcome, invoked, completed));
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_search_agrees_with_trying_everything(
        intentions in (1..=6_usize).prop_flat_map(|count| {
            (0..count as u64).map(intention).collect::<Vec<_>>()
        })
    ) {
        let history = carry_out(intentions);
        let operations: Vec<&Operation> = history.iter().collect();
        // Versions go up to 5 in what was invented; unseen writes need room beyond.
        let expected = try_everything(Concrete { value: None, version: 0 }, &operations, 12);
        prop_assert_eq!(passes(&history), expected, "{:#?}", history);
    }
}
