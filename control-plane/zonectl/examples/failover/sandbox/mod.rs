//! What is done to the machine: an index node whose network can be cut, one whose disk can stand still (both
//! need privileges), and processors that are busy with something else.
//!
//! **Invariants.** Whatever is made is taken away again: when it is dropped, and by a caretaker that
//! outlives this program if it is killed. What cannot be made is named, with the command that failed.

mod caretaker;
mod disk;
mod namespace;
mod spinners;

pub use disk::Disk;
pub use namespace::{Direction, Namespace};
pub use spinners::Spinners;

use std::process::Command;

/// Why something cannot be done here: the command, and what it said.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// Runs a command to its end.
fn run(command: &[&str], privilege: &str) -> Result<(), Missing> {
    let line = command.join(" ");
    let failed = |what: &str| Missing(format!("needs {privilege}; `{line}`: {what}"));
    let (program, arguments) = command.split_first().ok_or_else(|| failed("nothing to run"))?;
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| failed(&format!("cannot be started ({error})")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.lines().next().unwrap_or("failed without a word")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let error = run(&["no-such-program", "-x"], "a miracle").unwrap_err().to_string();
        assert!(error.starts_with("needs a miracle; `no-such-program -x`: cannot be"), "{error}");
        let error = run(&["sh", "-c", "echo not permitted >&2; exit 1"], "root").unwrap_err();
        assert!(error.to_string().ends_with(": not permitted"), "{error}");
        run(&["true"], "nothing").unwrap();
    }
}
