//! Logs, and metrics on `/metrics`.

use std::{fs::OpenOptions, io, net::SocketAddr, path::Path, time::Duration};

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::seams::{BoxConnection, Environment, Listener};

/// Buckets of every histogram whose name ends in `_seconds`, from 100 µs to 30 s.
const SECONDS_BUCKETS: [f64; 17] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// How often old samples are dropped.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Writes logs to standard error, filtered by `filter` (for example `info,openraft=warn`) unless the
/// variable `ISOTHERM_LOG` says otherwise. A filter that cannot be read is taken as `info`.
pub fn init_logging(filter: &str) {
    // A second call, in a test, say, leaves the first one in force.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter_of(filter))
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .try_init();
}

/// The same, to the end of a file.
///
/// # Errors
/// If the file cannot be opened.
pub fn init_logging_to(filter: &str, path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    // As above.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter_of(filter))
        .with_writer(file)
        .with_ansi(false)
        .try_init();
    Ok(())
}

fn filter_of(filter: &str) -> EnvFilter {
    let filter = std::env::var("ISOTHERM_LOG").unwrap_or_else(|_| filter.to_owned());
    EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Makes this process's metrics recordable.
///
/// # Errors
/// If the process has a recorder already.
pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(
            metrics_exporter_prometheus::Matcher::Suffix("_seconds".into()),
            &SECONDS_BUCKETS,
        )?
        .install_recorder()
}

struct MetricsListener(Box<dyn Listener>);

impl axum::serve::Listener for MetricsListener {
    type Io = BoxConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_address()
    }
}

/// Serves `/metrics` at `address` until `shutdown`.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn serve_metrics(
    environment: Environment,
    address: &str,
    handle: PrometheusHandle,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let listener = MetricsListener(environment.network.listen(address).await?);
    let upkeep = handle.clone();
    let stopped = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = stopped.cancelled() => break,
                () = tokio::time::sleep(UPKEEP_INTERVAL) => upkeep.run_upkeep(),
            }
        }
    });
    let router = Router::new().route("/metrics", get(move || async move { handle.render() }));
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
