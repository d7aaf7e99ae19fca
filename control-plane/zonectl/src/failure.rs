//! Why a command failed, in plain words, and with which exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the command failed |
//! | 2 | wrong usage |
//! | 3 | the zone could not be reached |
//! | 130 | two Ctrl-C have ended a search without an answer |

use std::io;

use client::{AdminError, ConnectError, RequestError, WriteError};
use runtime::grpc::TlsError;

use crate::zone_process::ProcessError;

/// The command failed.
pub const COMMAND: u8 = 1;
/// The command line was wrong.
pub const USAGE: u8 = 2;
/// The zone could not be reached.
pub const UNREACHABLE: u8 = 3;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was wrong, and what would be right.
    #[error("{0}")]
    Command(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("{what}: {source}")]
    Io {
        /// What was being done, for example "cannot read split-keys.txt".
        what: String,
        source: io::Error,
    },
    /// The reader of standard output is gone.
    #[error("nobody reads the output any more")]
    OutputClosed,
    /// What was compared is not the same; what differs was shown.
    #[error("they differ")]
    Different,
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command(_) | Self::Io { .. } | Self::Different => COMMAND,
            Self::Usage(_) => USAGE,
            Self::Unreachable(_) => UNREACHABLE,
            Self::OutputClosed => 0,
        }
    }

    /// An error of the file system or the network while doing `what`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// An error while writing to standard output.
    pub fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Io { what: "cannot write the output".into(), source: error },
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Unreachable { .. }
            | AdminError::NotUnderstood { .. }
            | AdminError::NoLeader { .. } => Self::Unreachable(error.to_string()),
            AdminError::NotMade { .. } | AdminError::Refused(_) => Self::Command(error.to_string()),
        }
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        let TlsError::Read { source, .. } = &error;
        Self::Command(format!("{error}: {source}"))
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable { .. } => Self::Unreachable(error.to_string()),
            ConnectError::NoEndpoints => Self::Usage(error.to_string()),
            ConnectError::Tls(error) => error.into(),
            ConnectError::NotInitialized(_) | ConnectError::Seed(_) => {
                Self::Command(error.to_string())
            }
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Command(error.to_string())
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::Command(error.to_string())
    }
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        Self::Command(error.to_string())
    }
}
