//! Runs programs: `zonectl`, and servers that shall end by themselves.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};
use zonectl::zone_process::Binaries;

use super::LIMIT;

/// The servers' programs.
pub fn servers() -> Binaries {
    Binaries::beside_this_program().unwrap()
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in {}", self.stdout))
    }

    /// The output as one JSON document on each line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The output for people, of a command that succeeded.
    #[track_caller]
    pub fn text(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// It failed with this code, saying these words on standard error and nothing on standard output.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in: {self:?}");
        }
    }
}

/// A program that gets nothing from the environment but what the test gives it.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs the command to its end.
pub async fn run(command: &mut Command) -> Ended {
    let child = command.spawn().unwrap();
    end_of(child).await
}

/// Waits for the end of a running program.
pub async fn end_of(child: Child) -> Ended {
    let output = tokio::time::timeout(4 * LIMIT, child.wait_with_output());
    let output = output.await.expect("the program ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("programs write text");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub fn zonectl_program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_zonectl"))
}

/// `zonectl` for a zone, with a deadline that a busy machine does not miss unless a test gives one.
pub struct Zonectl {
    endpoints: String,
    more: Vec<String>,
}

impl Zonectl {
    pub fn new(endpoints: &[String]) -> Self {
        Self { endpoints: endpoints.join(","), more: Vec::new() }
    }

    /// With more arguments for every command.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.more.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&zonectl_program());
        command.args(arguments).args(["--endpoints", &self.endpoints]).args(&self.more);
        if !arguments.contains(&"--deadline") {
            command.args(["--deadline", "60s"]);
        }
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments)).await
    }

    /// What the command says as JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> impl Future<Output = serde_json::Value> {
        let mut command = self.command(arguments);
        command.args(["-o", "json"]);
        async move { run(&mut command).await.json() }
    }

    /// What a streaming command says as JSON.
    pub async fn json_lines(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let mut command = self.command(arguments);
        command.args(["-o", "json"]);
        run(&mut command).await.json_lines()
    }

    /// What the command says to people.
    pub async fn text(&self, arguments: &[&str]) -> String {
        let mut command = self.command(arguments);
        command.args(["-o", "table"]);
        run(&mut command).await.text().to_owned()
    }
}

/// Sends SIGTERM to a program that this test has started.
pub fn terminate(child: &Child) {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let id = child.id().expect("it runs");
    kill(Pid::from_raw(i32::try_from(id).unwrap()), Signal::SIGTERM).unwrap();
}
