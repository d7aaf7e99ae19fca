//! Why a process could not be started or controlled.

use std::{io, path::PathBuf};

use super::Role;

/// Why a process could not be started or controlled. The texts carry their causes, for people.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(
        "the program {name} is not in {}; build the whole workspace (`cargo build`), so that it is \
         beside zonectl",
        directories.iter().map(|one| one.display().to_string()).collect::<Vec<_>>().join(" or ")
    )]
    NoBinary { name: &'static str, directories: Vec<PathBuf> },
    #[error("cannot find out where zonectl itself is: {0}")]
    NoSelf(io::Error),
    #[error(
        "port {port} of 127.0.0.1, which {purpose} needs, is taken ({source}). Is another zone \
         running? Stop it, or use other ports with --base-port"
    )]
    PortTaken { port: u16, purpose: String, source: io::Error },
    #[error("{}", .0)]
    Impossible(String),
    #[error("cannot make or use the directory {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("the zone in {} is running already: another process holds its lock", path.display())]
    Locked { path: PathBuf },
    #[error("cannot start {role}: {source}")]
    Start { role: Role, source: io::Error },
    #[error("{role} is running already")]
    Running { role: Role },
    #[error("{role} is not running")]
    NotRunning { role: Role },
    #[error("cannot signal {role}: {source}")]
    Signal { role: Role, source: io::Error },
}
