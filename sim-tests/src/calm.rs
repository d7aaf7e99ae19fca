//! G6 from outside: while nothing is wrong with index nodes, clients and what connects them, every
//! request is answered, whatever becomes of the control plane.
//!
//! A *calm* is a time in which no index node, no client and no link of either is impaired. Members may be
//! dead, frozen or cut off meanwhile, all of them at once. Some time into a calm the partitions have
//! leaders again ([`RECOVERY`]); from then on a request that begins, and that ends before the calm does, has
//! to be answered in [`ANSWER_WITHIN`], and neither refused nor left unknown.

use std::{ops::Range, time::Duration};

use crate::{
    checks::Problem,
    history::{Operation, Outcome},
};

/// After the last fault: as long as index nodes may take to heal without a control plane (G6), and what
/// restarts and hand-overs take on top.
pub const RECOVERY: Duration = Duration::from_secs(6);

/// The longest that a request may take in a calm.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Something that begins or ends to be wrong on the way of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Begins,
    Ends,
}

/// The calms in `time`, given what began and ended when, in sequence. If more ends than has begun nobody
/// can say what was calm, and nothing was.
pub fn calms(changes: &[(Duration, Change)], time: Range<Duration>) -> Vec<Range<Duration>> {
    let mut calms = Vec::new();
    let mut wrong = 0_usize;
    let mut since = time.start;
    for (at, change) in changes {
        match change {
            Change::Begins => {
                if wrong == 0 && since < *at {
                    calms.push(since..*at);
                }
                wrong += 1;
            }
            Change::Ends => {
                let Some(left) = wrong.checked_sub(1) else { return Vec::new() };
                wrong = left;
                since = *at;
            }
        }
    }
    if wrong == 0 && since < time.end {
        calms.push(since..time.end);
    }
    calms
}

/// Whether every request in a calm was answered.
///
/// # Errors
/// With the first that was not.
pub fn check(operations: &[Operation], calms: &[Range<Duration>]) -> Result<(), Problem> {
    for calm in calms {
        let (Some(end), start) = (calm.end.checked_sub(ANSWER_WITHIN), calm.start + RECOVERY)
        else {
            continue;
        };
        let late = operations.iter().find(|operation| {
            (start..end).contains(&operation.invoked.at)
                && (matches!(operation.outcome, Outcome::Refused { .. } | Outcome::Unknown)
                    || operation.completed.is_none_or(|completed| {
                        completed.at > operation.invoked.at + ANSWER_WITHIN
                    }))
        });
        if let Some(late) = late {
            let sentence = format!(
                "a request was not answered in {ANSWER_WITHIN:?}, although nothing was wrong with index \
                 nodes and clients for {:?}",
                late.invoked.at - calm.start
            );
            return Err(Problem::new("G6", sentence).with_details(late.to_string()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::history::{Call, Stamp};

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_calm_where_nothing_is_wrong() {
        use Change::{Begins, Ends};
        let changes =
            [(seconds(3), Begins), (seconds(4), Begins), (seconds(5), Ends), (seconds(6), Ends)];
        assert_eq!(
            calms(&changes, seconds(1)..seconds(9)),
            [seconds(1)..seconds(3), seconds(6)..seconds(9)]
        );
        assert_eq!(calms(&changes[..3], seconds(1)..seconds(9)), [seconds(1)..seconds(3)]);
        assert_eq!(calms(&changes[2..], seconds(1)..seconds(9)), []);
        assert_eq!(calms(&[], seconds(1)..seconds(9)), [seconds(1)..seconds(9)]);
    }

    #[test]
    fn in_a_calm_everything_is_answered() {
        let operation = |from: u64, to: Option<u64>, outcome: Outcome| Operation {
            client: 1,
            key: Bytes::from("key"),
            call: Call::Get,
            invoked: Stamp { sequence: 1, at: seconds(from) },
            completed: to.map(|to| Stamp { sequence: 2, at: seconds(to) }),
            outcome,
        };
        let calm = [seconds(10)..seconds(30)];
        let check = |operation| super::check(&[operation], &calm);
        check(operation(20, Some(21), Outcome::Missing)).unwrap();
        let refused = || Outcome::Refused { reason: "no".into() };
        // Too early, or over its end.
        check(operation(15, Some(16), refused())).unwrap();
        check(operation(29, None, Outcome::Unknown)).unwrap();
        for wrong in [
            operation(20, Some(21), refused()),
            operation(20, Some(21), Outcome::Unknown),
            operation(20, Some(23), Outcome::Missing),
            operation(20, None, Outcome::Unknown),
        ] {
            assert_eq!(check(wrong).unwrap_err().guarantee, "G6");
        }
    }
}
