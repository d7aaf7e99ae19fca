//! What an attempt's failure means for the request.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use proto::v1::{self, error_detail::Kind};
use runtime::grpc::detail;
use tonic::{Code, Status};

use crate::{
    identifiers::{NodeId, PartitionId, RangeEpoch, Version},
    map::Route,
};

/// Why an attempt brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The asked replica does not lead. The hint names who does, as far as it knows.
    WrongLeader { hint: Option<Hint> },
    /// The key or the epoch does not fit.
    WrongRange { correction: Option<Correction> },
    /// The partition, or the replica, is not on this node.
    NotHere,
    /// The write's expiry does not fit the partition's time.
    PartitionTime { now_ms: u64 },
    /// Final.
    ConditionFailed { current_version: Option<Version> },
    /// The server did nothing, and wants to be left alone for a while.
    Overloaded { retry_after: Option<Duration> },
    /// The server did nothing; another one, or this one later, may.
    Unavailable,
    /// The node could not be dialled: nothing was sent.
    NotReached,
    /// It may have been done: there was no answer, or one that says so.
    MaybeDone { answered: bool },
    /// Final: the request can never be right. Nothing was done.
    Rejected { code: Code },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) leader: NodeId,
    /// Empty: not known.
    pub(crate) address: String,
}

/// A partition's range as a replica knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Correction {
    pub(crate) partition: PartitionId,
    pub(crate) start: Bytes,
    /// Empty: to the end of the key space.
    pub(crate) end: Bytes,
    pub(crate) epoch: RangeEpoch,
    /// The partition that was split off from it last.
    pub(crate) split_off: Option<Route>,
}

impl Verdict {
    pub(crate) fn of(status: &Status) -> Self {
        match detail::kind_of(status) {
            Some(kind) => Self::of_kind(kind, status),
            None => Self::of_code(status),
        }
    }

    fn of_kind(kind: Kind, status: &Status) -> Self {
        match kind {
            Kind::WrongLeader(wrong) => Self::WrongLeader {
                hint: wrong.leader.and_then(|leader| {
                    let v1::NodeAddress { node_id, address } = leader;
                    NodeId::known(node_id).map(|leader| Hint { leader, address })
                }),
            },
            Kind::WrongRange(wrong) => {
                // One that is malformed is none: the map tells it, too.
                let split_off = wrong.split_off.and_then(|child| Route::split_off(child).ok());
                Self::WrongRange {
                    correction: wrong.range.map(|range| Correction {
                        partition: PartitionId(wrong.partition_id),
                        start: range.start,
                        end: range.end,
                        epoch: RangeEpoch(wrong.range_epoch),
                        split_off,
                    }),
                }
            }
            Kind::UnknownReplica(_) => Self::NotHere,
            Kind::PartitionTime(time) => Self::PartitionTime { now_ms: time.now_ms },
            Kind::ConditionFailed(failed) => Self::ConditionFailed {
                current_version: (failed.current_version != 0)
                    .then_some(Version(failed.current_version)),
            },
            Kind::RetryAfter(after) => {
                Self::Overloaded { retry_after: Some(Duration::from_millis(after.retry_after_ms)) }
            }
            Kind::OutcomeUnknown(_) => Self::MaybeDone { answered: true },
            // Not for clients of the index; the code still tells what to do.
            Kind::StaleFence(_) | Kind::GuaranteeAtRisk(_) | Kind::PlanChanged(_) => {
                Self::of_code(status)
            }
        }
    }

    /// The codes mean what `common.proto` says only where a server has sent them. tonic makes statuses
    /// of its own from broken connections; those have a source, and prove nothing about the request,
    /// unless the source is a failed dial.
    fn of_code(status: &Status) -> Self {
        if has_connect_error(status) {
            return Self::NotReached;
        }
        let from_server = status.source().is_none();
        match status.code() {
            Code::Unavailable if from_server => Self::Unavailable,
            Code::ResourceExhausted if from_server => Self::Overloaded { retry_after: None },
            Code::NotFound => Self::NotHere,
            code @ (Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented)
                if from_server =>
            {
                Self::Rejected { code }
            }
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => Self::MaybeDone { answered: from_server },
        }
    }

    /// Whether the server answered at all, so that its node is alive.
    pub(crate) fn node_answered(&self) -> bool {
        match self {
            Self::WrongLeader { .. }
            | Self::WrongRange { .. }
            | Self::NotHere
            | Self::PartitionTime { .. }
            | Self::ConditionFailed { .. }
            | Self::Overloaded { .. }
            | Self::Unavailable
            | Self::Rejected { .. } => true,
            Self::MaybeDone { answered } => *answered,
            Self::NotReached => false,
        }
    }

    /// For metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::WrongLeader { .. } => "wrong_leader",
            Self::WrongRange { .. } => "wrong_range",
            Self::NotHere => "not_here",
            Self::PartitionTime { .. } => "partition_time",
            Self::ConditionFailed { .. } => "condition_failed",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable => "unavailable",
            Self::NotReached => "not_reached",
            Self::MaybeDone { .. } => "maybe_done",
            Self::Rejected { .. } => "rejected",
        }
    }
}

/// Whether the status comes from a dial that failed, so that nothing was sent.
pub(crate) fn has_connect_error(status: &Status) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = source {
        if error.downcast_ref::<tonic::ConnectError>().is_some() {
            return true;
        }
        source = error.source();
    }
    false
}

/// What tonic says of every broken connection, besides the cause.
const NO_CAUSE: &str = "transport error";

/// The status in words for people: what the server said, or what is wrong with the connection down to
/// the first cause.
pub(crate) fn describe(status: &Status) -> String {
    let mut text = match status.message() {
        "" => format!("{:?}", status.code()),
        message => message.to_owned(),
    };
    let mut source: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !cause.is_empty() && cause != NO_CAUSE && !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_counts_as_a_promise_only_from_a_server() {
        assert_eq!(Verdict::of(&Status::unavailable("elsewhere")), Verdict::Unavailable);
        let broken = Status::from_error(Box::new(std::io::Error::other("reset by peer")));
        assert_eq!(Verdict::of(&broken), Verdict::MaybeDone { answered: false });
        let mut unavailable = Status::unavailable("keep-alive timed out");
        unavailable.set_source(std::sync::Arc::new(std::io::Error::other("timed out")));
        assert_eq!(Verdict::of(&unavailable), Verdict::MaybeDone { answered: false });
    }

    #[test]
    fn a_refused_dial_proves_that_nothing_was_sent() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(tonic::ConnectError(Box::new(refused))));
        assert_eq!(Verdict::of(&status), Verdict::NotReached);
    }

    #[test]
    fn no_answer_and_unknown_outcomes_may_have_been_done() {
        for code in [Code::Unknown, Code::DeadlineExceeded, Code::Cancelled, Code::Internal] {
            let verdict = Verdict::of(&Status::new(code, "?"));
            assert_eq!(verdict, Verdict::MaybeDone { answered: true }, "{code:?}");
        }
        let unknown = detail::status(
            Code::FailedPrecondition,
            "?",
            Kind::OutcomeUnknown(v1::OutcomeUnknown {}),
        );
        assert_eq!(Verdict::of(&unknown), Verdict::MaybeDone { answered: true });
    }

    #[test]
    fn a_hint_without_a_leader_is_none() {
        let wrong = |leader| {
            let kind = Kind::WrongLeader(v1::WrongLeader { leader });
            Verdict::of(&detail::status(Code::FailedPrecondition, "no", kind))
        };
        assert_eq!(wrong(None), Verdict::WrongLeader { hint: None });
        let zero = v1::NodeAddress { node_id: 0, address: String::new() };
        assert_eq!(wrong(Some(zero)), Verdict::WrongLeader { hint: None });
    }
}
