//! `zonectl`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    zonectl::run(std::env::args_os())
}
