//! `zonectl`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    if planted::BUILT_IN {
        eprintln!("zonectl: {}", planted::REFUSAL);
        return ExitCode::FAILURE;
    }
    zonectl::run(std::env::args_os())
}
