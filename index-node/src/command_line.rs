//! The command line of `index-node`: each flag is a key of the configuration.

use std::path::PathBuf;

use clap::{Args, Parser};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  # The first node of a rack; it registers with whichever member leads.
  index-node --data-directory /var/lib/isotherm/node --name node-1 --fault-domain rack-a \\
    --listen-address 10.0.0.11:7500 --control-plane-endpoints 10.0.0.1:7400,10.0.0.2:7400,10.0.0.3:7400

  # The same from a file, with one key overridden by the environment.
  ISOTHERM_INDEX_NODE_DISK_RESERVE_BYTES=1073741824 index-node --config /etc/isotherm/node.toml

  # Behind an address of its own, with metrics and TLS.
  index-node --config node.toml --listen-address 0.0.0.0:7500 --advertised-address node-1.example:7500 \\
    --metrics-address 0.0.0.0:7600 --tls-authority ca.pem --tls-certificate node.pem --tls-key node.key

Every flag is also a key of the file (with _ for -) and a variable ISOTHERM_INDEX_NODE_<KEY> (with __
between levels: ISOTHERM_INDEX_NODE_PEERS__LOST_AFTER_MS). Flags override variables, variables the file.

Exit codes: 0 stopped when asked to, 1 failed while running, 2 configuration, 3 data directory.";

/// Keeps replicas of a zone's index partitions, and serves the keys in them.
#[derive(Debug, Parser, Serialize)]
#[command(name = "index-node", version, about, after_help = EXAMPLES)]
pub struct Flags {
    /// TOML file with the configuration.
    #[arg(long, value_name = "FILE", env = "ISOTHERM_INDEX_NODE_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where everything that the node keeps lives; made if it does not exist.
    #[arg(long, value_name = "DIRECTORY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_directory: Option<PathBuf>,
    /// For people; unique in the zone.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The rack, or what else fails as one.
    #[arg(long, value_name = "RACK")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fault_domain: Option<String>,
    /// Where to listen [default: 127.0.0.1:7500].
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen_address: Option<String>,
    /// Where others reach this node [default: the listen address].
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertised_address: Option<String>,
    /// Members of the control plane, separated by commas.
    #[arg(long, value_name = "HOST:PORT,…")]
    #[serde(skip_serializing_if = "Option::is_none")]
    control_plane_endpoints: Option<String>,
    /// Where to serve /metrics [default: nowhere].
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_address: Option<String>,
    /// Bytes that partitions may use here.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity_bytes: Option<u64>,
    /// Processor cores that the node may use [default: those of the machine].
    #[arg(long, value_name = "CORES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<u32>,
    /// With less space left on the device, writes and new replicas are refused.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_reserve_bytes: Option<u64>,
    /// Bytes per second that one snapshot may take; 0: as fast as it goes [default: 67108864].
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_bytes_per_second_max: Option<u64>,
    /// What to log, for example info,openraft=error.
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_filter: Option<String>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "TlsFlags::is_empty")]
    tls: TlsFlags,
    #[command(flatten)]
    #[serde(skip_serializing_if = "RaftFlags::is_empty")]
    raft: RaftFlags,
}

#[derive(Debug, Args, Serialize)]
struct TlsFlags {
    /// PEM file with the authority that signed everybody's certificates.
    #[arg(long = "tls-authority", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<PathBuf>,
    /// PEM file with this node's certificate chain.
    #[arg(long = "tls-certificate", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<PathBuf>,
    /// PEM file with this node's private key.
    #[arg(long = "tls-key", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
}

impl TlsFlags {
    fn is_empty(&self) -> bool {
        self.authority.is_none() && self.certificate.is_none() && self.key.is_none()
    }
}

#[derive(Debug, Args, Serialize)]
struct RaftFlags {
    /// How often each group's leader shows that it is there [default: 8000].
    #[arg(long = "raft-heartbeat-interval-ms", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_interval_ms: Option<u64>,
    /// How long a replica waits for a leader before it campaigns, at least [default: 30000].
    #[arg(long = "raft-election-timeout-min-ms", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    election_timeout_min_ms: Option<u64>,
    /// The same, at most [default: 60000].
    #[arg(long = "raft-election-timeout-max-ms", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    election_timeout_max_ms: Option<u64>,
}

impl RaftFlags {
    fn is_empty(&self) -> bool {
        self.heartbeat_interval_ms.is_none()
            && self.election_timeout_min_ms.is_none()
            && self.election_timeout_max_ms.is_none()
    }
}
