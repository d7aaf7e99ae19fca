//! All processes of one zone.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::TcpListener,
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::signal::Signal,
};

use super::{Binaries, Exit, Layout, ProcessError, Role, process::Process};

/// The processes of a zone, by role. All are killed when it is dropped.
#[derive(Debug)]
pub struct ZoneProcesses {
    layout: Layout,
    binaries: Binaries,
    running: BTreeMap<Role, Process>,
    // Held as long as the zone may have processes.
    _lock: Flock<File>,
}

impl ZoneProcesses {
    /// Takes possession of the data directory, which is made if need be. Starts nothing.
    ///
    /// # Errors
    /// If the layout is impossible, or another process runs a zone from the directory.
    pub fn new(layout: Layout, binaries: Binaries) -> Result<Self, ProcessError> {
        layout.check()?;
        let logs = layout.data.join("logs");
        fs::create_dir_all(&logs)
            .map_err(|source| ProcessError::Directory { path: logs.clone(), source })?;
        let lock = lock(&layout.data)?;
        Ok(Self { layout, binaries, running: BTreeMap::new(), _lock: lock })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// # Errors
    /// If one of the zone's ports is taken: the first of them.
    pub fn check_ports(&self) -> Result<(), ProcessError> {
        for (port, purpose) in self.layout.ports() {
            if let Err(source) = TcpListener::bind((self.layout.host.as_str(), port)) {
                return Err(ProcessError::PortTaken { port, purpose, source });
            }
        }
        Ok(())
    }

    /// Starts the process of the role. It may not be ready yet when this returns.
    ///
    /// # Errors
    /// If it runs already, or cannot be started.
    pub fn start(&mut self, role: Role) -> Result<(), ProcessError> {
        if self.is_running(role) {
            return Err(ProcessError::Running { role });
        }
        let program = match role {
            Role::Member(_) => &self.binaries.control_plane,
            Role::IndexNode(_) => &self.binaries.index_node,
        };
        let (program, arguments) = self.layout.command(role, program);
        let process = Process::start(role, &program, &arguments, &self.layout.log_file(role))?;
        self.running.insert(role, process);
        Ok(())
    }

    /// Starts every process that does not run.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn start_all(&mut self) -> Result<(), ProcessError> {
        let roles: Vec<Role> = self.layout.roles().collect();
        for role in roles {
            if !self.is_running(role) {
                self.start(role)?;
            }
        }
        Ok(())
    }

    fn process(&mut self, role: Role) -> Result<&mut Process, ProcessError> {
        self.running.get_mut(&role).ok_or(ProcessError::NotRunning { role })
    }

    pub fn is_running(&mut self, role: Role) -> bool {
        self.running.get_mut(&role).is_some_and(|process| process.exit().is_none())
    }

    /// The process's number; none if it does not run.
    pub fn process_id(&mut self, role: Role) -> Option<u32> {
        let process = self.running.get_mut(&role)?;
        process.exit().is_none().then(|| process.id())
    }

    /// `kill -9`. Gone when this returns.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self, role: Role) -> Result<(), ProcessError> {
        self.process(role)?.kill()?;
        self.running.remove(&role);
        Ok(())
    }

    /// `kill -9` of all that run, as nearly at once as can be.
    ///
    /// # Errors
    /// If one cannot be signalled.
    pub fn kill_all(&mut self) -> Result<(), ProcessError> {
        for process in self.running.values_mut() {
            match process.signal(Signal::SIGKILL) {
                Ok(()) | Err(ProcessError::NotRunning { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // Dropping waits until each is gone.
        self.running.clear();
        Ok(())
    }

    /// SIGSTOP: it is alive and does nothing, its connections stay open.
    ///
    /// # Errors
    /// If it does not run.
    pub fn freeze(&mut self, role: Role) -> Result<(), ProcessError> {
        self.process(role)?.signal(Signal::SIGSTOP)
    }

    /// SIGCONT: it goes on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn thaw(&mut self, role: Role) -> Result<(), ProcessError> {
        self.process(role)?.signal(Signal::SIGCONT)
    }

    /// SIGTERM, and SIGKILL if it has not ended within `grace`. How it ended; none: it was killed.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn terminate(
        &mut self,
        role: Role,
        grace: Duration,
    ) -> Result<Option<Exit>, ProcessError> {
        let process = self.process(role)?;
        process.ask_to_end()?;
        let exit = process.ended(grace).await;
        self.running.remove(&role);
        Ok(exit)
    }

    /// Ends it, cleanly if it can within `grace`, and starts it again.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn restart(&mut self, role: Role, grace: Duration) -> Result<(), ProcessError> {
        if self.is_running(role) {
            self.terminate(role, grace).await?;
        }
        self.start(role)
    }

    /// Processes that have ended by themselves since the last look.
    pub fn take_ended(&mut self) -> Vec<(Role, Exit)> {
        let ended: Vec<(Role, Exit)> = self
            .running
            .iter_mut()
            .filter_map(|(role, process)| Some((*role, process.exit()?)))
            .collect();
        for (role, _) in &ended {
            self.running.remove(role);
        }
        ended
    }

    /// SIGTERM to all, and SIGKILL to those that have not ended within `grace`. Which had to be killed.
    pub async fn stop_all(&mut self, grace: Duration) -> Vec<Role> {
        for process in self.running.values_mut() {
            // One that has just ended needs no asking, and one that cannot be asked is killed below.
            let _ = process.ask_to_end();
        }
        let started = tokio::time::Instant::now();
        let mut killed = Vec::new();
        for (role, process) in &mut self.running {
            if process.ended(grace.saturating_sub(started.elapsed())).await.is_none() {
                killed.push(*role);
            }
        }
        self.running.clear();
        killed
    }

    /// The last lines of a process's log.
    pub fn log_tail(&self, role: Role, lines: usize) -> String {
        let Ok(log) = fs::read(self.layout.log_file(role)) else { return String::new() };
        let log = String::from_utf8_lossy(&log);
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

fn lock(data: &Path) -> Result<Flock<File>, ProcessError> {
    let failed = |source: io::Error| ProcessError::Directory { path: data.to_owned(), source };
    let file = File::create(data.join("zone.lock")).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => ProcessError::Locked { path: data.to_owned() },
        other => failed(other.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zone whose programs are a shell script.
    fn zone(script: &str) -> (ZoneProcesses, tempfile::TempDir) {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let binaries = Binaries { control_plane: program.clone(), index_node: program };
        let layout = Layout::new(1, 2, 17_400, directory.path().join("data"));
        (ZoneProcesses::new(layout, binaries).unwrap(), directory)
    }

    const NODE: Role = Role::IndexNode(1);
    const SOON: Duration = Duration::from_secs(20);

    async fn logged(zone: &ZoneProcesses, role: Role, word: &str) {
        while !zone.log_tail(role, 100).contains(word) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_process_is_started_with_its_arguments_and_ended_cleanly() {
        let script = "trap 'echo bye; exit 0' TERM; echo \"$@\"; while :; do sleep 0.02; done";
        let (mut zone, _directory) = zone(script);
        zone.start(NODE).unwrap();
        assert!(matches!(zone.start(NODE), Err(ProcessError::Running { .. })));
        logged(&zone, NODE, "--control-plane-endpoints 127.0.0.1:17400").await;
        let log = zone.log_tail(NODE, 100);
        assert!(log.contains("--name node-2 --fault-domain rack-b"), "{log}");
        let exit = zone.terminate(NODE, SOON).await.unwrap().unwrap();
        assert!(exit.success() && exit.on_request());
        assert!(zone.log_tail(NODE, 1).contains("bye"));
        assert!(!zone.is_running(NODE));
    }

    #[tokio::test]
    async fn a_stubborn_process_is_killed() {
        let (mut zone, _directory) = zone("trap '' TERM; echo ready; while :; do sleep 0.02; done");
        zone.start(NODE).unwrap();
        logged(&zone, NODE, "ready").await;
        let exit = zone.terminate(NODE, Duration::from_millis(50)).await.unwrap();
        assert_eq!(exit, None);
        zone.start(NODE).unwrap();
        logged(&zone, NODE, "ready\nready").await;
        assert_eq!(zone.stop_all(Duration::from_millis(50)).await, [NODE]);
    }

    #[tokio::test]
    async fn a_killed_process_can_be_restarted() {
        let (mut zone, _directory) = zone("exec sleep 1000");
        zone.start_all().unwrap();
        let first = zone.process_id(NODE).unwrap();
        zone.kill(NODE).unwrap();
        assert!(zone.process_id(NODE).is_none());
        assert!(matches!(zone.kill(NODE), Err(ProcessError::NotRunning { .. })));
        zone.restart(NODE, SOON).await.unwrap();
        assert_ne!(zone.process_id(NODE).unwrap(), first);
        assert!(zone.take_ended().is_empty());
        zone.kill_all().unwrap();
        assert!(!zone.is_running(Role::Member(0)));
    }

    #[tokio::test]
    async fn a_frozen_process_stands_still_and_can_be_ended() {
        let (mut zone, _directory) = zone("exec sleep 1000");
        zone.start(NODE).unwrap();
        zone.freeze(NODE).unwrap();
        let status = format!("/proc/{}/stat", zone.process_id(NODE).unwrap());
        while !fs::read_to_string(&status).unwrap().contains(") T ") {
            tokio::task::yield_now().await;
        }
        zone.thaw(NODE).unwrap();
        zone.freeze(NODE).unwrap();
        let exit = zone.terminate(NODE, SOON).await.unwrap().unwrap();
        assert_eq!(exit.to_string(), "signal 15");
        assert!(exit.on_request() && !exit.success());
    }

    #[tokio::test]
    async fn a_process_that_ends_by_itself_is_noticed_once() {
        let (mut zone, _directory) = zone("echo the disk is gone; exit 3");
        zone.start(NODE).unwrap();
        let ended = loop {
            let ended = zone.take_ended();
            if !ended.is_empty() {
                break ended;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(ended[0].0, NODE);
        assert_eq!(ended[0].1.to_string(), "exit code 3");
        assert_eq!(zone.log_tail(NODE, 1), "the disk is gone");
        assert!(zone.take_ended().is_empty());
    }

    #[tokio::test]
    async fn a_dropped_zone_leaves_no_process() {
        let (mut zone, _directory) = zone("exec sleep 1000");
        zone.start(NODE).unwrap();
        let id = zone.process_id(NODE).unwrap();
        drop(zone);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn one_data_directory_belongs_to_one_zone() {
        let (zone, _directory) = zone("exit 0");
        let again = ZoneProcesses::new(zone.layout.clone(), zone.binaries.clone());
        assert!(matches!(again, Err(ProcessError::Locked { .. })));
        let (layout, binaries) = (zone.layout.clone(), zone.binaries.clone());
        drop(zone);
        ZoneProcesses::new(layout, binaries).unwrap();
    }

    #[test]
    fn a_taken_port_is_named() {
        let (mut zone, _directory) = zone("exit 0");
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        zone.layout.base_port = taken.local_addr().unwrap().port();
        let error = zone.check_ports().unwrap_err().to_string();
        assert!(error.contains(&zone.layout.base_port.to_string()), "{error}");
        assert!(error.contains("member-1") && error.contains("--base-port"), "{error}");
    }
}
