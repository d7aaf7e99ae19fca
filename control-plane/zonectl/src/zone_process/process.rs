//! One running process.

use std::{
    fmt,
    fs::OpenOptions,
    io,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{ProcessError, Role, spawner};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(ExitStatus);

impl Exit {
    pub fn success(self) -> bool {
        self.0.success()
    }

    /// Whether it ended since it was asked to.
    pub fn on_request(self) -> bool {
        self.0.success() || self.0.signal() == Some(Signal::SIGTERM as i32)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(formatter, "exit code {code}"),
            (None, Some(signal)) => write!(formatter, "signal {signal}"),
            (None, None) => write!(formatter, "{}", self.0),
        }
    }
}

/// A running process. Killed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    role: Role,
    child: Child,
    exit: Option<Exit>,
}

/// How often a process that shall end is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

impl Process {
    /// Starts the program; what it prints goes to the end of `log`.
    pub(super) fn start(
        role: Role,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> Result<Self, ProcessError> {
        let start = || -> io::Result<Child> {
            let log = OpenOptions::new().create(true).append(true).open(log)?;
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            spawner::spawn(command)
        };
        let child = start().map_err(|source| ProcessError::Start { role, source })?;
        Ok(Self { role, child, exit: None })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; none while it runs.
    pub(super) fn exit(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten().map(Exit);
        }
        self.exit
    }

    pub(super) fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        let role = self.role;
        // The number of a process that was waited for may belong to another one.
        if self.exit().is_some() {
            return Err(ProcessError::NotRunning { role });
        }
        let id = Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive"));
        kill(id, signal).map_err(|errno| ProcessError::Signal { role, source: errno.into() })
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub(super) fn kill(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGKILL)?;
        let role = self.role;
        let status = self.child.wait().map_err(|source| ProcessError::Signal { role, source })?;
        self.exit = Some(Exit(status));
        Ok(())
    }

    /// Asks it to end.
    pub(super) fn ask_to_end(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::SIGTERM)?;
        // One that is frozen could not.
        self.signal(Signal::SIGCONT)
    }

    /// Waits until it has ended, `limit` at most.
    pub(super) async fn ended(&mut self, limit: Duration) -> Option<Exit> {
        let looking = async {
            loop {
                if let Some(exit) = self.exit() {
                    return exit;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::time::timeout(limit, looking).await.ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit().is_none() {
            // It cannot be reported from here, and the kernel does it again when this process ends.
            let _ = self.kill();
        }
    }
}
