//! What a member of the control plane is told when it starts.
//!
//! Nothing here names the other members or the partitions: that is said once, by `init`, and kept in
//! the replicated state.

use std::{path::PathBuf, time::Duration};

use runtime::{configuration::Validate, grpc::TlsFiles};
use serde::{Deserialize, Serialize};

/// The prefix of the environment variables that override the configuration file.
pub const ENVIRONMENT_PREFIX: &str = "ISOTHERM_CONTROL_PLANE_";

/// The configuration of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// Everything that the member keeps. Created if it is missing.
    pub data_directory: PathBuf,
    /// host:port to listen on.
    pub listen_address: String,
    /// host:port under which members, index nodes and tools reach this member. None: the listen
    /// address.
    pub advertised_address: Option<String>,
    /// host:port for `/metrics`. None: no metrics are served.
    pub metrics_address: Option<String>,
    /// None: plain text.
    pub tls: Option<TlsFiles>,
    pub log_filter: String,
    pub raft: RaftOptions,
    pub liveness: LivenessTimers,
    pub takeover: TakeoverTimers,
}

/// The members' own group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftOptions {
    pub heartbeat_interval_ms: u64,
    /// A member that hears nothing of its leader becomes a candidate after the greater of these two, for so long it
    /// lets nobody else lead, and a random time between both: with 200 and 400 after 600 to 800 ms.
    pub election_timeout_min_ms: u64,
    pub election_timeout_max_ms: u64,
    /// A leader that no quorum has acknowledged for so long closes its sessions and gives no orders.
    pub quorum_timeout_ms: u64,
    /// After so many entries a snapshot takes the place of the log before it.
    pub snapshot_after_entries: u64,
    /// Entries that are kept although a snapshot holds them, for members that lag a little.
    pub entries_kept: u64,
}

/// How index nodes are judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LivenessTimers {
    /// How often a node sends a heartbeat.
    pub heartbeat_interval_ms: u64,
    /// A node that hears nothing from the leader for so long looks for another one. A new leader waits
    /// as long before it misses a node.
    pub session_timeout_ms: u64,
    /// Without a heartbeat for so long, a node is suspect.
    pub suspect_after_ms: u64,
    /// Without a heartbeat for so long, a node is down.
    pub down_after_ms: u64,
    /// A node that was slow, or was lost for the second time, leads nothing until it has been well for so
    /// long. Each time more doubles it; ten minutes without anything wrong, and all is forgotten.
    pub quarantine_min_ms: u64,
    /// And not longer than this.
    pub quarantine_max_ms: u64,
}

/// How leaders of partitions are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TakeoverTimers {
    /// A partition without a confirmed leader for so long gets another one.
    pub leaderless_after_ms: u64,
    /// How long a candidate has to lead before the next step is taken.
    pub candidate_timeout_ms: u64,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            data_directory: PathBuf::from("/var/lib/isotherm/control-plane"),
            listen_address: "127.0.0.1:7400".into(),
            advertised_address: None,
            metrics_address: None,
            tls: None,
            log_filter: "info,openraft=error".into(),
            raft: RaftOptions::default(),
            liveness: LivenessTimers::default(),
            takeover: TakeoverTimers::default(),
        }
    }
}

impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 50,
            election_timeout_min_ms: 200,
            election_timeout_max_ms: 400,
            quorum_timeout_ms: 500,
            snapshot_after_entries: 5_000,
            entries_kept: 5_000,
        }
    }
}

impl Default for LivenessTimers {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 100,
            session_timeout_ms: 1_000,
            suspect_after_ms: 1_500,
            down_after_ms: 10_000,
            quarantine_min_ms: 5_000,
            quarantine_max_ms: 300_000,
        }
    }
}

impl Default for TakeoverTimers {
    fn default() -> Self {
        Self { leaderless_after_ms: 300, candidate_timeout_ms: 160 }
    }
}

impl RaftOptions {
    pub fn quorum_timeout(&self) -> Duration {
        Duration::from_millis(self.quorum_timeout_ms)
    }
}

impl LivenessTimers {
    pub fn session_timeout(&self) -> Duration {
        Duration::from_millis(self.session_timeout_ms)
    }
}

impl Configuration {
    /// host:port under which others reach this member.
    pub fn advertised_address(&self) -> &str {
        self.advertised_address.as_deref().unwrap_or(&self.listen_address)
    }
}

/// Whether `address` has the shape host:port, with a port that can be dialled.
pub fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(|character: char| character.is_whitespace() || character == '/')
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn check_address(key: &str, address: &str) -> Result<(), String> {
    if is_host_and_port(address) {
        return Ok(());
    }
    Err(format!("{key} is {address:?}; it must be host:port, for example 10.0.0.7:7400"))
}

fn check_rising(timers: &[(&str, u64)]) -> Result<(), String> {
    for pair in timers.windows(2) {
        let [(lower_key, lower), (key, value)] = pair else { continue };
        if value <= lower {
            return Err(format!(
                "{key} is {value}; it must be greater than {lower_key}, which is {lower}"
            ));
        }
    }
    Ok(())
}

fn check_positive(key: &str, value: u64) -> Result<(), String> {
    if value == 0 {
        return Err(format!("{key} is 0; it must be at least 1"));
    }
    Ok(())
}

impl Validate for Configuration {
    fn validate(&self) -> Result<(), String> {
        if self.data_directory.as_os_str().is_empty() {
            return Err("data_directory is empty; it must name a directory".into());
        }
        check_address("listen_address", &self.listen_address)?;
        check_address("advertised_address", self.advertised_address())?;
        if let Some(address) = &self.metrics_address {
            check_address("metrics_address", address)?;
        }
        let raft = &self.raft;
        check_positive("raft.heartbeat_interval_ms", raft.heartbeat_interval_ms)?;
        check_rising(&[
            ("raft.heartbeat_interval_ms", raft.heartbeat_interval_ms),
            ("raft.election_timeout_min_ms", raft.election_timeout_min_ms),
            ("raft.election_timeout_max_ms", raft.election_timeout_max_ms),
        ])?;
        check_rising(&[
            ("raft.heartbeat_interval_ms", raft.heartbeat_interval_ms),
            ("raft.quorum_timeout_ms", raft.quorum_timeout_ms),
        ])?;
        check_positive("raft.snapshot_after_entries", raft.snapshot_after_entries)?;
        let liveness = &self.liveness;
        check_positive("liveness.heartbeat_interval_ms", liveness.heartbeat_interval_ms)?;
        check_rising(&[
            ("liveness.heartbeat_interval_ms", liveness.heartbeat_interval_ms),
            ("liveness.session_timeout_ms", liveness.session_timeout_ms),
        ])?;
        check_rising(&[
            ("liveness.heartbeat_interval_ms", liveness.heartbeat_interval_ms),
            ("liveness.suspect_after_ms", liveness.suspect_after_ms),
            ("liveness.down_after_ms", liveness.down_after_ms),
        ])?;
        check_positive("liveness.quarantine_min_ms", liveness.quarantine_min_ms)?;
        check_rising(&[
            ("liveness.quarantine_min_ms", liveness.quarantine_min_ms),
            ("liveness.quarantine_max_ms", liveness.quarantine_max_ms),
        ])?;
        check_positive("takeover.leaderless_after_ms", self.takeover.leaderless_after_ms)?;
        check_positive("takeover.candidate_timeout_ms", self.takeover.candidate_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Configuration)) -> String {
        let mut configuration = Configuration::default();
        change(&mut configuration);
        configuration.validate().unwrap_err()
    }

    #[test]
    fn the_defaults_are_possible() {
        Configuration::default().validate().unwrap();
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let message = refusal(|it| it.listen_address = "7400".into());
        assert!(message.contains("listen_address"), "{message}");
        let message = refusal(|it| it.metrics_address = Some("host:0".into()));
        assert!(message.contains("metrics_address"), "{message}");
        let message = refusal(|it| it.raft.election_timeout_max_ms = 100);
        assert!(message.contains("raft.election_timeout_max_ms is 100"), "{message}");
        let message = refusal(|it| it.liveness.down_after_ms = 7);
        assert!(message.contains("liveness.down_after_ms is 7"), "{message}");
        let message = refusal(|it| it.takeover.candidate_timeout_ms = 0);
        assert!(message.contains("takeover.candidate_timeout_ms"), "{message}");
    }
}
