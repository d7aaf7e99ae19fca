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
    /// Members answered, but no leader did in time. A command that changes something may still be
    /// carried out; the same command with the same idempotency key finds out.
    #[error(
        "no leader of the control plane answered within {:.1} s ({problems}). It may be electing one, \
         or have lost its majority: see `zonectl status`",
        waited.as_secs_f64()
    )]
    NoLeader { waited: Duration, problems: String },
    /// The control plane said no.
    #[error("{}", plain(.0))]
    Refused(Status),
}

impl AdminError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Unreachable { .. } | Self::NoLeader { .. } => None,
            Self::Refused(status) => Some(status.code()),
        }
    }
}

/// The server's own words, behind the kind of refusal.
fn plain(status: &Status) -> String {
    let message = match status.message() {
        "" => "no reason was given",
        message => message,
    };
    let kind = match status.code() {
        Code::InvalidArgument => "wrong argument",
        Code::NotFound => "not found",
        Code::AlreadyExists => "exists already",
        Code::FailedPrecondition => "not possible now",
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
        | Code::Unavailable
        | Code::DataLoss => return format!("{:?}: {message}", status.code()),
    };
    format!("{kind}: {message}")
}
