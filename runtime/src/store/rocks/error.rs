//! Why a data directory cannot be used, in words for whoever started the process.

use std::{io, path::PathBuf};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot {action} the data directory {path}")]
    Io {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is not a directory: name a directory for the data, or a new path to create one"
    )]
    NotADirectory { path: PathBuf },
    #[error(
        "{path} is not empty and holds no Isotherm data (the file ISOTHERM is missing): \
         name an empty directory, or a new path to create one"
    )]
    Foreign { path: PathBuf },
    #[error(
        "{path} holds the data of a process of kind {found}, not {expected}: \
         name the directory that belongs to this process"
    )]
    WrongKind { path: PathBuf, found: String, expected: &'static str },
    #[error(
        "{path} has data format {found}, but this release reads formats up to {supported}: \
         start the release that wrote it, or a newer one"
    )]
    TooNew { path: PathBuf, found: u32, supported: u32 },
    #[error(
        "{path} is in use by another process: stop that process first \
         (two processes on one data directory would destroy it)"
    )]
    Locked { path: PathBuf },
    #[error(
        "{path} has lost data that had been synced: its log ends at sequence {found}, but writes \
         through {synced} had been durable. The disk or someone removed or damaged files. Keep the \
         directory for analysis and start with a new one: this process then joins as a new one and \
         gets its data from the other replicas"
    )]
    LostWrites { path: PathBuf, synced: u64, found: u64 },
    #[error(
        "{path} is corrupt: {message}. Keep the directory for analysis and start with a new one: \
         this process then joins as a new one and gets its data from the other replicas"
    )]
    Corrupt { path: PathBuf, message: String },
    #[error("cannot open the database in {path}: {message}")]
    Engine { path: PathBuf, message: String },
    #[error("{path} is not opened: this process is ending")]
    Ending { path: PathBuf },
}
