//! The server `control-plane`: command line, data directory, signals.
//!
//! Exit codes: 0 stopped as asked, 1 failed while running, or not meant to run at all; 2 impossible
//! configuration, 3 unusable data directory.

use std::{error::Error, fs, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Parser};
use control_plane::configuration::{Configuration, ENVIRONMENT_PREFIX};
use runtime::{
    configuration,
    seams::Environment,
    store::{
        Store,
        rocks::{RocksOptions, RocksStore},
    },
    telemetry,
};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const EXAMPLES: &str = "\
Examples:
  control-plane --data-directory /var/lib/isotherm/control-plane --listen-address 10.0.0.7:7400
  control-plane --config /etc/isotherm/control-plane.toml --log-filter debug
  ISOTHERM_CONTROL_PLANE_RAFT__HEARTBEAT_INTERVAL_MS=100 control-plane --config member.toml

A new member waits for `zonectl init`. Everything else about the zone is kept in its replicated state.";

/// A member of a zone's control plane.
#[derive(Parser, Serialize)]
#[command(version, about, after_help = EXAMPLES)]
struct Flags {
    /// Configuration file (TOML); variables ISOTHERM_CONTROL_PLANE_* override it, flags override both
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Where the member keeps its state; created if it is missing
    #[arg(long, value_name = "DIRECTORY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_directory: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:7400]
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen_address: Option<String>,
    /// How others reach this member [default: the listen address]
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertised_address: Option<String>,
    /// Where to serve /metrics [default: nowhere]
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_address: Option<String>,
    /// Which log lines to write [default: info,openraft=error]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_filter: Option<String>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "TlsFlags::is_empty")]
    tls: TlsFlags,
    #[command(flatten)]
    raft: RaftFlags,
    #[command(flatten)]
    liveness: LivenessFlags,
}

#[derive(Args, Serialize)]
struct TlsFlags {
    /// PEM file with the authority that signed every peer's certificate
    #[arg(long = "tls-authority", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<PathBuf>,
    /// PEM file with this member's certificate chain
    #[arg(long = "tls-certificate", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<PathBuf>,
    /// PEM file with this member's private key
    #[arg(long = "tls-key", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
}

impl TlsFlags {
    fn is_empty(&self) -> bool {
        self.authority.is_none() && self.certificate.is_none() && self.key.is_none()
    }
}

#[derive(Args, Serialize)]
struct RaftFlags {
    /// How often the members' leader shows that it is there [default: 50]
    #[arg(long = "raft-heartbeat-interval-ms", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_interval_ms: Option<u64>,
    /// After how long without a leader a member stands for election, at the earliest [default: 250]
    #[arg(long = "raft-election-timeout-min-ms", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    election_timeout_min_ms: Option<u64>,
    /// And at the latest [default: 500]
    #[arg(long = "raft-election-timeout-max-ms", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    election_timeout_max_ms: Option<u64>,
}

#[derive(Args, Serialize)]
struct LivenessFlags {
    /// How often index nodes send a heartbeat [default: 100]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_interval_ms: Option<u64>,
    /// After how long without a word index nodes look for another leader [default: 1000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    session_timeout_ms: Option<u64>,
    /// After how long without a heartbeat an index node is suspect [default: 1500]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    suspect_after_ms: Option<u64>,
    /// After how long without a heartbeat an index node is down [default: 10000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    down_after_ms: Option<u64>,
    /// How long a node leads nothing that was slow or was lost a second time [default: 5000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine_min_ms: Option<u64>,
    /// And how long at most, as it doubles each time [default: 300000]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine_max_ms: Option<u64>,
}

const FAILED: u8 = 1;
const CONFIGURATION_IMPOSSIBLE: u8 = 2;
const DATA_DIRECTORY_UNUSABLE: u8 = 3;

/// The error and everything beneath it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn fail(code: u8, what: &str, error: &dyn Error) -> ExitCode {
    eprintln!("control-plane: {what}: {}", chain(error));
    ExitCode::from(code)
}

fn open_store(configuration: &Configuration) -> Result<Arc<dyn Store>, Box<dyn Error>> {
    let path = configuration.data_directory.join("store");
    fs::create_dir_all(&path)?;
    Ok(RocksStore::open(&path, &control_plane::families(), RocksOptions::new("control-plane"))?)
}

/// Cancels `shutdown` at the first SIGTERM or SIGINT, and ends the process at the second.
fn watch_signals(shutdown: CancellationToken) -> Result<(), std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for attempt in 0..2 {
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if attempt == 0 {
                tracing::info!("stopping: handing leadership over first");
                shutdown.cancel();
            }
        }
        std::process::exit(i32::from(FAILED));
    });
    Ok(())
}

async fn serve(configuration: Configuration, store: Arc<dyn Store>) -> Result<(), Box<dyn Error>> {
    let environment = Environment::production();
    let shutdown = CancellationToken::new();
    watch_signals(shutdown.clone())?;
    if let Some(address) = configuration.metrics_address.clone() {
        let handle = telemetry::install_metrics()?;
        control_plane::describe_metrics();
        let (environment, shutdown) = (environment.clone(), shutdown.clone());
        tokio::spawn(async move {
            let served = telemetry::serve_metrics(environment, &address, handle, shutdown).await;
            if let Err(error) = served {
                tracing::error!(address, %error, "metrics cannot be served");
            }
        });
    }
    control_plane::run(environment, store, configuration, shutdown).await?;
    Ok(())
}

fn main() -> ExitCode {
    if planted::BUILT_IN {
        eprintln!("control-plane: {}", planted::REFUSAL);
        return ExitCode::from(FAILED);
    }
    let flags = Flags::parse();
    let loaded = configuration::load(flags.config.as_deref(), ENVIRONMENT_PREFIX, &flags);
    let configuration: Configuration = match loaded {
        Ok(configuration) => configuration,
        Err(error) => {
            return fail(CONFIGURATION_IMPOSSIBLE, "the configuration cannot be used", &error);
        }
    };
    telemetry::init_logging(&configuration.log_filter);
    let store = match open_store(&configuration) {
        Ok(store) => store,
        Err(error) => {
            let what = format!(
                "the data directory {} cannot be used",
                configuration.data_directory.display()
            );
            return fail(DATA_DIRECTORY_UNUSABLE, &what, error.as_ref());
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, "the runtime cannot start", &error),
    };
    match runtime.block_on(serve(configuration, store)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<control_plane::Error>() {
            Some(control_plane::Error::DataDirectory(_)) => {
                fail(DATA_DIRECTORY_UNUSABLE, "the data directory cannot be used", error.as_ref())
            }
            _ => fail(FAILED, "stopped", error.as_ref()),
        },
    }
}
