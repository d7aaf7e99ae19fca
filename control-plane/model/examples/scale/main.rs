//! What the model takes for a large zone: memory, and the time of whatever a leader does once or again and
//! again. Prints a table with one column for each tenfold number of partitions, up to the given one.
//!
//! `cargo run -p model --example scale -- --partitions 1000000 --nodes 1000`
//!
//! Each column is measured in a process of its own, so that memory is what that zone alone takes. It is a
//! measurement and no test: nothing fails here because a machine is slow.

mod arguments;
mod course;
mod figures;
mod zone;

use std::process::{Command, ExitCode, Stdio};

use arguments::Arguments;
use figures::Figures;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let done = if arguments.is_single {
        course::run(arguments.nodes, arguments.partitions).map(|figures| print!("{figures}"))
    } else {
        curve(arguments)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// One process for each size, and their figures side by side.
fn curve(arguments: Arguments) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let mut columns = Vec::new();
    for partitions in arguments.sizes() {
        let output = Command::new(&program)
            .args(["--single", "--nodes", &arguments.nodes.to_string()])
            .args(["--partitions", &partitions.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("measuring {partitions} partitions: {error}"))?;
        if !output.status.success() {
            return Err(format!("measuring {partitions} partitions: {}", output.status));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        columns.push((partitions, Figures::read(&text)?));
    }
    print!("{}", figures::table(arguments.nodes, &columns));
    Ok(())
}
