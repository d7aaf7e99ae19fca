//! etcd's processes: started, killed, frozen; gone when this is dropped.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use runtime::seams::Environment;
use zonectl::zone_process::spawn;

use super::client::EtcdClient;
use crate::fault::Timers;

pub const MEMBERS: usize = 3;

/// How long the members may take to agree on a leader.
const HEALTHY_WITHIN: Duration = Duration::from_secs(60);

const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// etcd's program.
///
/// # Errors
/// A sentence that says what to install.
pub fn program() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian installs it where everybody looks; other builds may be beside it.
    let found = std::env::split_paths(&path).map(|path| path.join("etcd")).find(|it| it.is_file());
    found.ok_or_else(|| {
        "needs etcd, which is not installed: `apt-get install etcd-server` on Debian and Ubuntu"
            .into()
    })
}

#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    timers: Timers,
    data: PathBuf,
    base_port: u16,
    members: [Option<Child>; MEMBERS],
}

impl Cluster {
    /// Starts three members with data directories of their own in `data`.
    pub fn start(
        program: PathBuf,
        timers: Timers,
        data: &Path,
        base_port: u16,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(data)?;
        let mut cluster =
            Self { program, timers, data: data.to_owned(), base_port, members: [None, None, None] };
        for member in 0..MEMBERS {
            cluster.start_member(member)?;
        }
        Ok(cluster)
    }

    fn port(&self, offset: u16, member: usize) -> u16 {
        self.base_port + offset + u16::try_from(member).expect("there are three members")
    }

    pub fn endpoints(&self) -> Vec<String> {
        (0..MEMBERS).map(|member| format!("127.0.0.1:{}", self.port(50, member))).collect()
    }

    fn arguments(&self, member: usize) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.port(50, member));
        let peer = |member| format!("http://127.0.0.1:{}", self.port(60, member));
        let all: Vec<String> =
            (0..MEMBERS).map(|member| format!("etcd-{member}={}", peer(member))).collect();
        let mut arguments = vec![
            format!("--name=etcd-{member}"),
            format!("--data-dir={}", self.data.join(format!("etcd-{member}")).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={}", peer(member)),
            format!("--initial-advertise-peer-urls={}", peer(member)),
            format!("--initial-cluster={}", all.join(",")),
            "--initial-cluster-token=isotherm-failover".to_owned(),
        ];
        if self.timers == Timers::Tuned {
            arguments
                .extend(["--heartbeat-interval=10", "--election-timeout=100"].map(str::to_owned));
        }
        arguments
    }

    pub fn start_member(&mut self, member: usize) -> anyhow::Result<()> {
        let start = || -> io::Result<Child> {
            let log = self.data.join(format!("etcd-{member}.log"));
            let log = OpenOptions::new().create(true).append(true).open(log)?;
            let mut command = Command::new(&self.program);
            command.args(self.arguments(member)).stdin(Stdio::null());
            command.stdout(log.try_clone()?).stderr(log);
            spawn(command)
        };
        let child = start().with_context(|| format!("etcd-{member} cannot be started"))?;
        self.members[member] = Some(child);
        Ok(())
    }

    fn signal(&mut self, member: usize, signal: Signal) -> anyhow::Result<()> {
        let child = self.members[member].as_mut().context("the member does not run")?;
        // The number of a process that was waited for may belong to another one.
        let ended = child.try_wait()?;
        anyhow::ensure!(ended.is_none(), "etcd-{member} has ended by itself: {ended:?}");
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// `kill -9`. Gone when this returns.
    pub fn kill(&mut self, member: usize) -> anyhow::Result<()> {
        self.signal(member, Signal::SIGKILL)?;
        if let Some(mut child) = self.members[member].take() {
            child.wait()?;
        }
        Ok(())
    }

    pub fn freeze(&mut self, member: usize) -> anyhow::Result<()> {
        self.signal(member, Signal::SIGSTOP)
    }

    pub fn thaw(&mut self, member: usize) -> anyhow::Result<()> {
        self.signal(member, Signal::SIGCONT)
    }

    /// Waits until all members agree on a leader. Which one.
    pub async fn leader(
        &self,
        environment: &Environment,
        client: &EtcdClient,
    ) -> anyhow::Result<usize> {
        let began = environment.now();
        while environment.now().since(began) < HEALTHY_WITHIN {
            if let Some(leader) = agreed(client).await {
                return Ok(leader);
            }
            environment.sleep(LOOK_INTERVAL).await;
        }
        anyhow::bail!("etcd's members did not agree on a leader within {HEALTHY_WITHIN:?}")
    }
}

/// The member that all members, which all answer, call the leader.
async fn agreed(client: &EtcdClient) -> Option<usize> {
    let mut leader = None;
    let mut leaders = Vec::new();
    for member in 0..MEMBERS {
        let status = client.status(member).await.ok()?;
        if status.header.as_ref()?.member_id == status.leader {
            leader = Some(member);
        }
        leaders.push(status.leader);
    }
    let same = leaders.iter().all(|one| *one != 0 && *one == leaders[0]);
    leader.filter(|_| same)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.members.iter_mut().flatten() {
            // It cannot be reported from here, and the kernel does it again when this process ends.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
