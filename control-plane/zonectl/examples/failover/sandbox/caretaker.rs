//! A shell that waits for the end of this program, and then clears up.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

/// Runs its script when it is dropped, or when this program ends in whatever way: then the pipe that it
/// reads from is closed. It has a process group of its own, so that Ctrl-C does not reach it.
#[derive(Debug)]
pub(super) struct Caretaker {
    shell: Child,
}

impl Caretaker {
    pub(super) fn new(script: &str) -> io::Result<Self> {
        Self::after("", script)
    }

    /// The same shell does something first: what it starts can then be ended by the script.
    pub(super) fn after(first: &str, script: &str) -> io::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", &format!("{first}\nread -r nothing\n{script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }
}

impl Drop for Caretaker {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // There is nobody left to tell.
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_clears_up_when_it_is_dropped_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cleared");
        let caretaker = Caretaker::new(&format!("touch '{}'", path.display())).unwrap();
        assert!(!path.exists());
        drop(caretaker);
        assert!(path.exists());
    }
}
