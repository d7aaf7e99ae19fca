//! What an index node is told when it starts: one struct, passed explicitly.

use std::{path::PathBuf, time::Duration};

use runtime::{configuration::Validate, grpc::TlsFiles};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::engine::snapshot_stream::CHUNK_ITEM_BYTES_MAX;

/// Prefix of the environment variables that override the configuration file.
pub const ENVIRONMENT_PREFIX: &str = "ISOTHERM_INDEX_NODE_";

/// More threads than this would be a mistake.
const CORES_MAX: u32 = 1_024;
/// A client's attempt lasts for 300 ms.
const KEY_WAIT_MAX_MS: u64 = 200;
/// A message's bound, with some room for what goes with the items.
const SNAPSHOT_CHUNK_BYTES_MAX: u64 = CHUNK_ITEM_BYTES_MAX as u64;
/// The longest that a bound of snapshots' bytes may make a chunk take: its receiver waits twice as long.
const CHUNK_SECONDS_MAX: u64 = 5;
const MEBIBYTE: u64 = 1 << 20;
const GIBIBYTE: u64 = 1 << 30;

/// The configuration of one index node. Every key has a default but `name`, `data_directory` and
/// `control_plane_endpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// Where everything that the node keeps lives. Made if it does not exist.
    pub data_directory: PathBuf,
    /// For people; unique in the zone. 1 to 63 of [a-z0-9-.].
    pub name: String,
    /// The rack, or what else fails as one. 1 to 63 of [a-z0-9-.].
    pub fault_domain: String,
    /// host:port to listen on.
    pub listen_address: String,
    /// host:port under which clients and other nodes reach this one; empty: `listen_address`.
    pub advertised_address: String,
    /// host:port of the control plane's members: any of them will do to find the leader.
    #[serde(deserialize_with = "list")]
    pub control_plane_endpoints: Vec<String>,
    /// host:port for `/metrics`; empty: no metrics.
    pub metrics_address: String,
    /// Bytes that partitions may use here.
    pub capacity_bytes: u64,
    /// Processor cores that the node may use: so many threads serve its data, and the control plane
    /// weighs its load by them. 0: those of the machine.
    pub cores: u32,
    /// With less space left on the device, client writes and new replicas are refused.
    pub disk_reserve_bytes: u64,
    /// None: plain text.
    pub tls: Option<TlsFiles>,
    pub raft: RaftSettings,
    pub hot_keys: HotKeySettings,
    pub peers: PeerTimers,
    /// Bytes per second that one snapshot may take, so that copies leave room for requests; 0: as fast as it goes.
    pub snapshot_bytes_per_second_max: u64,
    /// Bytes of keys and values that are sent at a time: 1 to 229,376. What broke off goes on after the last whole part.
    pub snapshot_chunk_bytes_max: u64,
    /// For example `info,openraft=error`. The variable `ISOTHERM_LOG` overrides it.
    pub log_filter: String,
}

/// Settings of every partition's group. The timers are the last resort, and cheap: liveness is judged
/// for each node, not for each group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftSettings {
    pub heartbeat_interval_ms: u64,
    pub election_timeout_min_ms: u64,
    pub election_timeout_max_ms: u64,
    /// A group's log is cut after so many entries.
    pub entries_per_snapshot: u64,
    /// So many of the entries before the cut are kept, for replicas that are a little behind.
    pub entries_kept: u64,
}

/// How much of a partition's requests may be for one key. Reads and writes count apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HotKeySettings {
    /// With so many requests of a partition under way others would have to wait, and a key that has its share
    /// waits instead. While all ask for one key, it may have four times as many.
    pub partition_crowd: u32,
    /// A key's share: so many of its requests are under way in a crowd.
    pub key_share: u32,
    /// So many requests of one key may wait; more are refused at once.
    pub key_waiting_max: u32,
    /// A request that has waited for so long is refused.
    pub key_wait_max_ms: u64,
}

/// How nodes watch each other, and when they act without the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeerTimers {
    /// How often each connection is asked for a sign of life.
    pub ping_interval_ms: u64,
    /// Without a sign of life for so long, a peer counts as lost.
    pub lost_after_ms: u64,
    /// Without an acknowledgement of any control-plane leader for so long, peers appoint leaders
    /// themselves.
    pub control_plane_silence_ms: u64,
    /// What each rank among a group's survivors waits more than the one before it.
    pub takeover_rank_step_ms: u64,
    /// Without a leader, although none is known to be lost, for so long, a group counts as leaderless.
    pub leaderless_after_ms: u64,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            data_directory: PathBuf::new(),
            name: String::new(),
            fault_domain: "default".into(),
            listen_address: "127.0.0.1:7500".into(),
            advertised_address: String::new(),
            control_plane_endpoints: Vec::new(),
            metrics_address: String::new(),
            capacity_bytes: 64 * GIBIBYTE,
            cores: 0,
            disk_reserve_bytes: 256 * MEBIBYTE,
            tls: None,
            raft: RaftSettings::default(),
            hot_keys: HotKeySettings::default(),
            peers: PeerTimers::default(),
            snapshot_bytes_per_second_max: 64 * MEBIBYTE,
            snapshot_chunk_bytes_max: SNAPSHOT_CHUNK_BYTES_MAX,
            log_filter: "info,openraft=error".into(),
        }
    }
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 8_000,
            election_timeout_min_ms: 30_000,
            election_timeout_max_ms: 60_000,
            entries_per_snapshot: 5_000,
            entries_kept: 2_000,
        }
    }
}

impl Default for HotKeySettings {
    fn default() -> Self {
        Self { partition_crowd: 128, key_share: 64, key_waiting_max: 256, key_wait_max_ms: 50 }
    }
}

impl Default for PeerTimers {
    fn default() -> Self {
        Self {
            ping_interval_ms: 100,
            lost_after_ms: 700,
            control_plane_silence_ms: 2_000,
            takeover_rank_step_ms: 500,
            leaderless_after_ms: 1_000,
        }
    }
}

impl Configuration {
    /// Where others reach this node.
    pub fn reached_at(&self) -> &str {
        if self.advertised_address.is_empty() {
            &self.listen_address
        } else {
            &self.advertised_address
        }
    }
}

impl PeerTimers {
    pub fn ping_interval(&self) -> Duration {
        Duration::from_millis(self.ping_interval_ms)
    }

    pub fn lost_after(&self) -> Duration {
        Duration::from_millis(self.lost_after_ms)
    }

    pub fn control_plane_silence(&self) -> Duration {
        Duration::from_millis(self.control_plane_silence_ms)
    }

    pub fn takeover_rank_step(&self) -> Duration {
        Duration::from_millis(self.takeover_rank_step_ms)
    }

    pub fn leaderless_after(&self) -> Duration {
        Duration::from_millis(self.leaderless_after_ms)
    }
}

impl Validate for Configuration {
    fn validate(&self) -> Result<(), String> {
        if self.data_directory.as_os_str().is_empty() {
            return Err("data_directory is not set; it must name a directory".into());
        }
        label("name", &self.name)?;
        label("fault_domain", &self.fault_domain)?;
        address("listen_address", &self.listen_address)?;
        address("advertised_address", self.reached_at())?;
        let (host, port) = self.reached_at().rsplit_once(':').unwrap_or_default();
        if port == "0" || host == "0.0.0.0" || host == "[::]" {
            return Err(format!(
                "advertised_address is {}, which nobody can reach; it must be the host and port \
                 under which clients and other nodes reach this one",
                self.reached_at()
            ));
        }
        if self.control_plane_endpoints.is_empty() {
            return Err("control_plane_endpoints is empty; it must name at least one member".into());
        }
        for endpoint in &self.control_plane_endpoints {
            address("control_plane_endpoints", endpoint)?;
        }
        if !self.metrics_address.is_empty() {
            address("metrics_address", &self.metrics_address)?;
        }
        if self.capacity_bytes == 0 {
            return Err("capacity_bytes is 0; it must be at least 1".into());
        }
        if self.cores > CORES_MAX {
            return Err(format!("cores is {}; it must be at most {CORES_MAX}", self.cores));
        }
        let chunk = self.snapshot_chunk_bytes_max;
        if !(1..=SNAPSHOT_CHUNK_BYTES_MAX).contains(&chunk) {
            return Err(format!(
                "snapshot_chunk_bytes_max is {chunk}; it must be 1 to {SNAPSHOT_CHUNK_BYTES_MAX}"
            ));
        }
        let rate = self.snapshot_bytes_per_second_max;
        if rate > 0 && chunk > rate.saturating_mul(CHUNK_SECONDS_MAX) {
            return Err(format!(
                "snapshot_bytes_per_second_max is {rate}; it must be 0 or at least {}, so that a chunk of {chunk} \
                 bytes (snapshot_chunk_bytes_max) takes {CHUNK_SECONDS_MAX} s at most",
                chunk.div_ceil(CHUNK_SECONDS_MAX)
            ));
        }
        self.raft.validate()?;
        self.hot_keys.validate()?;
        self.peers.validate()
    }
}

impl RaftSettings {
    fn validate(&self) -> Result<(), String> {
        if self.heartbeat_interval_ms == 0 {
            return Err("raft.heartbeat_interval_ms is 0; it must be at least 1".into());
        }
        if self.election_timeout_min_ms <= self.heartbeat_interval_ms {
            return Err(format!(
                "raft.election_timeout_min_ms is {}; it must be more than \
                 raft.heartbeat_interval_ms, which is {}",
                self.election_timeout_min_ms, self.heartbeat_interval_ms
            ));
        }
        if self.election_timeout_max_ms <= self.election_timeout_min_ms {
            return Err(format!(
                "raft.election_timeout_max_ms is {}; it must be more than \
                 raft.election_timeout_min_ms, which is {}",
                self.election_timeout_max_ms, self.election_timeout_min_ms
            ));
        }
        if self.entries_per_snapshot == 0 {
            return Err("raft.entries_per_snapshot is 0; it must be at least 1".into());
        }
        Ok(())
    }
}

impl HotKeySettings {
    fn validate(&self) -> Result<(), String> {
        if self.partition_crowd == 0 {
            return Err("hot_keys.partition_crowd is 0; it must be at least 1".into());
        }
        if !(1..=self.partition_crowd).contains(&self.key_share) {
            return Err(format!(
                "hot_keys.key_share is {}; it must be 1 to hot_keys.partition_crowd, which is {}",
                self.key_share, self.partition_crowd
            ));
        }
        if self.key_wait_max_ms > KEY_WAIT_MAX_MS {
            return Err(format!(
                "hot_keys.key_wait_max_ms is {}; it must be at most {KEY_WAIT_MAX_MS}: clients take longer \
                 for no answer at all",
                self.key_wait_max_ms
            ));
        }
        Ok(())
    }
}

impl PeerTimers {
    fn validate(&self) -> Result<(), String> {
        let positive = [
            ("peers.ping_interval_ms", self.ping_interval_ms),
            ("peers.control_plane_silence_ms", self.control_plane_silence_ms),
            ("peers.takeover_rank_step_ms", self.takeover_rank_step_ms),
            ("peers.leaderless_after_ms", self.leaderless_after_ms),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(format!("{key} is 0; it must be at least 1"));
            }
        }
        // Fewer than three questions without an answer are one late packet, no loss.
        if self.lost_after_ms < self.ping_interval_ms.saturating_mul(3) {
            return Err(format!(
                "peers.lost_after_ms is {}; it must be at least three times \
                 peers.ping_interval_ms, which is {}",
                self.lost_after_ms, self.ping_interval_ms
            ));
        }
        Ok(())
    }
}

fn label(key: &str, value: &str) -> Result<(), String> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if (1..=63).contains(&value.len()) && value.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("{key} is {value:?}; it must be 1 to 63 of a-z, 0-9, '-' and '.'"))
}

fn address(key: &str, value: &str) -> Result<(), String> {
    let right = value
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if right { Ok(()) } else { Err(format!("{key} is {value:?}; it must be host:port")) }
}

/// A list, or a string with commas as an environment variable has it.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        List(Vec<String>),
        Text(String),
    }
    match Written::deserialize(deserializer) {
        Ok(Written::List(list)) => Ok(list),
        Ok(Written::Text(text)) => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()),
        Err(_) => Err(de::Error::custom("must be a list of host:port, or one text with commas")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Configuration {
        Configuration {
            data_directory: "/var/lib/isotherm".into(),
            name: "node-1".into(),
            control_plane_endpoints: vec!["127.0.0.1:7400".into()],
            ..Configuration::default()
        }
    }

    #[test]
    fn the_defaults_with_the_required_keys_are_sound() {
        assert_eq!(sound().validate(), Ok(()));
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let cases: [(&str, fn(&mut Configuration)); 20] = [
            ("data_directory", |c| c.data_directory = PathBuf::new()),
            ("name", |c| c.name = "Node 1".into()),
            ("name", |c| c.name = "n".repeat(64)),
            ("fault_domain", |c| c.fault_domain = String::new()),
            ("listen_address", |c| c.listen_address = "7500".into()),
            ("advertised_address", |c| c.listen_address = "0.0.0.0:7500".into()),
            ("advertised_address", |c| c.listen_address = "127.0.0.1:0".into()),
            ("control_plane_endpoints", |c| c.control_plane_endpoints.clear()),
            ("control_plane_endpoints", |c| c.control_plane_endpoints.push("x:99999".into())),
            ("metrics_address", |c| c.metrics_address = "metrics".into()),
            ("capacity_bytes", |c| c.capacity_bytes = 0),
            ("cores", |c| c.cores = CORES_MAX + 1),
            ("snapshot_chunk_bytes_max", |c| c.snapshot_chunk_bytes_max = 0),
            ("snapshot_bytes_per_second_max", |c| c.snapshot_bytes_per_second_max = 40_000),
            ("raft.election_timeout_min_ms", |c| c.raft.election_timeout_min_ms = 8_000),
            ("raft.election_timeout_max_ms", |c| c.raft.election_timeout_max_ms = 30_000),
            ("hot_keys.partition_crowd", |c| c.hot_keys.partition_crowd = 0),
            ("hot_keys.key_share", |c| c.hot_keys.key_share = 129),
            ("hot_keys.key_wait_max_ms", |c| c.hot_keys.key_wait_max_ms = 201),
            ("peers.lost_after_ms", |c| c.peers.lost_after_ms = 299),
        ];
        for (key, spoil) in cases {
            let mut configuration = sound();
            spoil(&mut configuration);
            let error = configuration.validate().expect_err(key);
            assert!(error.starts_with(key), "{key}: {error}");
        }
    }

    #[test]
    fn a_list_may_be_one_text() {
        use serde::de::{IntoDeserializer, value};
        let text: value::StrDeserializer<'_, value::Error> = "a:1, b:2,".into_deserializer();
        assert_eq!(list(text).expect("a text is a list"), ["a:1", "b:2"]);
        let number: value::U64Deserializer<value::Error> = 7_u64.into_deserializer();
        assert!(list(number).is_err());
    }
}
