//! How the engine behaves: what its owner configures.

use std::{sync::Arc, time::Duration};

use openraft::{Config, ConfigError, SnapshotPolicy};

use super::turns::TurnLimits;

/// The engine's settings. The defaults are for production; a simulation scales the timers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Of each group. Slow: liveness is judged per node, by others.
    pub heartbeat_interval: Duration,
    /// The last resort when nobody appoints a leader.
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    /// The longest that one message to a peer waits for its answer.
    pub request_timeout: Duration,
    /// The longest that a read waits for the confirmation of leadership.
    pub read_timeout: Duration,
    /// The longest that a write waits for its outcome.
    pub write_timeout: Duration,
    /// Client writes that may be under way on this node.
    pub writes_in_flight_max: usize,
    /// How long a request waits for a group's next leader: less than a client's attempt lasts (300 ms).
    pub leader_wait_max: Duration,
    /// Requests on this node that may wait so.
    pub leader_waits_max: usize,
    /// How many reads, and how many writes, of one key may be under way in a partition.
    pub turns: TurnLimits,
    /// How long a request waits while its key has its share: less than a client's attempt lasts.
    pub turn_wait_max: Duration,
    /// Requests on this node that may wait so.
    pub turn_waits_max: usize,
    /// Reads that may wait for confirmation, for each group.
    pub reads_waiting_max: usize,
    /// A group's log is cut after so many entries.
    pub log_entries_per_snapshot: u64,
    /// So many of the applied entries are kept all the same, for replicas that are a little behind.
    pub log_entries_kept: u64,
    /// While a snapshot is on its way, so many entries after it are kept for its receiver.
    pub log_entries_held_max: u64,
    /// How long the gentle campaign of a takeover may take.
    pub appoint_timeout: Duration,
    /// Hand-overs that the control plane orders and that are carried out at the same time: clients wait for
    /// each, and the fewer at a time the shorter.
    pub hand_overs_at_once: usize,
    /// Groups of one takeover request that are worked on at the same time.
    pub takeovers_at_once: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(8),
            election_timeout_min: Duration::from_secs(30),
            election_timeout_max: Duration::from_secs(60),
            request_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(1),
            write_timeout: Duration::from_secs(5),
            writes_in_flight_max: 8_192,
            leader_wait_max: Duration::from_millis(200),
            leader_waits_max: 4_096,
            turns: TurnLimits::default(),
            turn_wait_max: Duration::from_millis(50),
            turn_waits_max: 4_096,
            reads_waiting_max: 16_384,
            log_entries_per_snapshot: 5_000,
            log_entries_kept: 2_000,
            log_entries_held_max: 1 << 20,
            appoint_timeout: Duration::from_millis(60),
            hand_overs_at_once: 1,
            takeovers_at_once: 64,
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl EngineOptions {
    /// The settings of each group's core.
    pub(super) fn raft(&self) -> Result<Arc<Config>, ConfigError> {
        let config = Config {
            cluster_name: "partition".to_owned(),
            heartbeat_interval: milliseconds(self.heartbeat_interval),
            election_timeout_min: milliseconds(self.election_timeout_min),
            election_timeout_max: milliseconds(self.election_timeout_max),
            enable_pre_vote: Some(true),
            // A restarted leader has to be elected again.
            enable_leader_restore: Some(false),
            // Replica ids are never reused, so a log never goes back.
            allow_log_reversion: Some(false),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.log_entries_per_snapshot),
            max_in_snapshot_log_to_keep: self.log_entries_kept,
            purge_batch_size: (self.log_entries_per_snapshot / 20).clamp(1, 256),
            // With the log entries that are kept, a snapshot is sent only where they do not suffice.
            replication_lag_threshold: self.log_entries_per_snapshot,
            max_payload_entries: 512,
            api_channel_size: Some(8_192),
            notification_channel_size: Some(8_192),
            backoff: "50ms 100ms 200ms ...1s".to_owned(),
            ..Config::default()
        };
        Ok(Arc::new(config.validate()?))
    }
}
