//! Why an operator's command was not carried out, in words for people.

use std::time::Duration;

use tonic::{Code, Status};

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No member could be dialled.
    #[error(
        "no member of the control plane can be reached ({problems}). Is the zone running, and are \
         these its addresses?"
    )]
    Unreachable { problems: String },
    /// Members can be dialled, and break every connection at once.
    #[error(
        "what listens there ends every connection at once ({problems}). Is it a member of the control \
         plane, and do both sides use TLS, or neither?"
    )]
    NotUnderstood { problems: String },
    /// Members answered, but no leader did in time. A command that changes something may still be
    /// carried out; the same command with the same idempotency key finds out.
    #[error(
        "no leader of the control plane answered within {} ({problems}). It may be electing one, or \
         have lost its majority: see `zonectl status`",
        seconds(*.waited)
    )]
    NoLeader { waited: Duration, problems: String },
    /// Members answered, but the zone was not made in time. The same `init` once more goes on with it.
    #[error("the zone was not made within {} ({problems})", seconds(*.waited))]
    NotMade { waited: Duration, problems: String },
    /// The control plane said no.
    #[error("{}", plain(.0))]
    Refused(Status),
}

impl AdminError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Unreachable { .. }
            | Self::NotUnderstood { .. }
            | Self::NoLeader { .. }
            | Self::NotMade { .. } => None,
            Self::Refused(status) => Some(status.code()),
        }
    }
}

/// For people: `850 ms`, `2.5 s`, `3 s`.
pub(super) fn seconds(duration: Duration) -> String {
    let tenths = duration.as_millis().saturating_add(50) / 100;
    match (tenths / 10, tenths % 10) {
        (0, _) => format!("{} ms", duration.as_millis()),
        (whole, 0) => format!("{whole} s"),
        (whole, tenths) => format!("{whole}.{tenths} s"),
    }
}

/// The server's own words, behind the kind of refusal where they do not name it themselves.
fn plain(status: &Status) -> String {
    let message = match status.message() {
        "" => "no reason was given",
        message => message,
    };
    let kind = match status.code() {
        Code::InvalidArgument => "wrong argument",
        Code::NotFound | Code::AlreadyExists => return message.to_owned(),
        Code::FailedPrecondition | Code::Unavailable => "not possible now",
        Code::PermissionDenied | Code::Unauthenticated => "not allowed",
        Code::ResourceExhausted => "too much",
        Code::Unimplemented => "this server does not know the command",
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::DataLoss => return format!("{:?}: {message}", status.code()),
    };
    format!("{kind}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_for_people() {
        for (milliseconds, text) in [
            (0, "0 ms"),
            (300, "300 ms"),
            (949, "949 ms"),
            (3_002, "3 s"),
            (2_540, "2.5 s"),
            (61_000, "61 s"),
        ] {
            assert_eq!(seconds(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn nothing_is_said_twice() {
        let there = Status::already_exists("the zone is initialised already, as z");
        assert_eq!(AdminError::Refused(there).to_string(), "the zone is initialised already, as z");
        let missing = Status::not_found("there is no node 7");
        assert_eq!(AdminError::Refused(missing).to_string(), "there is no node 7");
        let now = Status::failed_precondition("node 7 is up");
        assert_eq!(AdminError::Refused(now).to_string(), "not possible now: node 7 is up");
    }
}
