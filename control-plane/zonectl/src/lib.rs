//! The operator's tool, as a library: the binary `zonectl` is a few lines around [`run`].
//!
//! - [`arguments`]: what can be said on the command line.
//! - [`commands`]: one function for each verb.
//! - [`forms`]: the JSON forms. Their field names are stable.
//! - [`snapshot`]: a zone as a problem for `zonectl plan`.
//! - [`tables`]: what people see instead.
//! - [`explanation`]: what `zonectl explain` prints.
//! - [`brake`]: the brake in a line.
//! - [`heat`]: load, in a sentence, bars and tables.
//! - [`live_plan`], [`plan`]: what `zonectl plan` prints, for the zone and for a problem in a file.
//! - [`policy`]: the zone's policy in tables, and what a change of it changes; [`shadow`]: the shadow policy.
//! - [`failure`]: why a command failed, in plain words, and the exit code for it.
//! - `diagnosis`: whether it failed because the two sides do not agree about TLS.
//! - [`zone_process`]: a zone's processes on this machine: start, kill, freeze, restart one by its role.
//! - [`dev`]: `zonectl dev up`.
//! - [`demo`]: `zonectl demo`, what `make run` runs.
//! - [`load`]: the load generator, with its report and its verification.
//!
//! The zone's processes, the load generator and the object helpers are also for tests and benchmarks.
//!
//! **Architecture invariant**: the wire's types are converted in [`forms`] and nowhere shown to users.

pub mod arguments;
pub mod brake;
pub mod commands;
pub mod demo;
pub mod dev;
mod diagnosis;
pub mod explanation;
pub mod failure;
pub mod forms;
pub mod heat;
pub mod live_plan;
pub mod load;
pub mod plan;
pub mod policy;
pub mod shadow;
pub mod snapshot;
pub mod tables;
pub mod text;
pub mod zone_process;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use arguments::Arguments;
use failure::Failure;

/// Parses the command line, carries the command out, and says what failed.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, everything else is wrong usage; clap knows which.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::USAGE } else { 0 });
        }
    };
    runtime::telemetry::init_logging("warn");
    let executor = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("zonectl: cannot start: {error}");
            return ExitCode::from(failure::COMMAND);
        }
    };
    let outcome = executor.block_on(commands::dispatch(arguments));
    executor.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has enough: not a failure of ours.
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        // It has been said on standard output.
        Err(failure @ Failure::Different) => ExitCode::from(failure.exit_code()),
        Err(failure) => {
            eprintln!("zonectl: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
