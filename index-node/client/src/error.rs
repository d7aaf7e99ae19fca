//! Why something could not be done, in words for people.

use std::time::Duration;

use runtime::grpc::TlsError;
use tonic::Code;

use crate::identifiers::Version;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no endpoint of the control plane was given; name at least one as host:port")]
    NoEndpoints,
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What each endpoint said last, in one text.
    #[error(
        "no member of the control plane gave a partition map within {:.1} s ({problems}). Is the zone \
         running, and are these its addresses?",
        waited.as_secs_f64()
    )]
    Unreachable { waited: Duration, problems: String },
    #[error("the zone has not been initialised yet (run `zonectl init`): {0}")]
    NotInitialized(String),
    #[error("the given partition map cannot be used")]
    Seed(#[source] crate::MapError),
}

/// Why a read failed, or a write that certainly had no effect.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RequestError {
    /// The request can never be right.
    #[error("refused as {code:?}: {message}")]
    Rejected { code: Code, message: String },
    /// No attempt succeeded in time. `last` is what the last one ended with.
    #[error(
        "no success within {:.1} s and {attempts} attempts; the last problem: {last}",
        waited.as_secs_f64()
    )]
    Deadline { waited: Duration, attempts: u32, last: String },
    /// A server broke the protocol.
    #[error("a server gave an answer that cannot be: {0}")]
    Nonsense(String),
}

/// How a write ended, other than in success.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum WriteError {
    /// The condition did not hold. The write had no effect and never will.
    #[error("the condition does not hold: {}", describe_version(*current_version))]
    ConditionFailed {
        /// The version that the key has; none: the key is absent.
        current_version: Option<Version>,
    },
    /// The write had no effect and never will.
    #[error(transparent)]
    Failed(#[from] RequestError),
    /// The write may have taken effect, or may yet, at most once and not for longer than its expiry, a
    /// minute at most.
    #[error(
        "the outcome is unknown: the write may or may not have taken effect \
         ({attempts} attempts in {:.1} s; the last problem: {last})",
        waited.as_secs_f64()
    )]
    Unknown { waited: Duration, attempts: u32, last: String },
}

fn describe_version(version: Option<Version>) -> String {
    match version {
        Some(version) => format!("the key has version {version}"),
        None => "the key is absent".to_owned(),
    }
}
