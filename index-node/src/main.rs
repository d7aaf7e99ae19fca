//! The server `index-node`: production's seams, signals and exit codes around [`index_node::run_with_control`].

mod command_line;

use std::{error::Error, process::ExitCode, sync::Arc};

use clap::Parser;
use command_line::Flags;
use index_node::configuration::{Configuration, ENVIRONMENT_PREFIX};
use runtime::{
    configuration,
    seams::Environment,
    store::rocks::{OpenError, RocksOptions, RocksStore},
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the data directory says of whom it belongs to.
const STORE_KIND: &str = "index-node";

const EXIT_FAILED: u8 = 1;
const EXIT_CONFIGURATION: u8 = 2;
const EXIT_DATA_DIRECTORY: u8 = 3;

fn main() -> ExitCode {
    if planted::BUILT_IN {
        eprintln!("index-node: {}", planted::REFUSAL);
        return ExitCode::from(EXIT_FAILED);
    }
    let flags = Flags::parse();
    let loaded = configuration::load(flags.config.as_deref(), ENVIRONMENT_PREFIX, &flags);
    let mut configuration: Configuration = match loaded {
        Ok(configuration) => configuration,
        Err(error) => return stop(EXIT_CONFIGURATION, "the configuration cannot be used", &error),
    };
    telemetry::init_logging(&configuration.log_filter);
    if configuration.cores == 0 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        configuration.cores = u32::try_from(cores).unwrap_or(u32::MAX);
    }
    let store = match open_store(&configuration) {
        Ok(store) => store,
        Err(error) => {
            return stop(EXIT_DATA_DIRECTORY, "the data directory cannot be used", &error);
        }
    };
    match serve(configuration, store) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Node(error)) if error.is_data_directory() => {
            stop(EXIT_DATA_DIRECTORY, "the data directory cannot be used", &error)
        }
        Err(error) => stop(EXIT_FAILED, "the node has failed", &error),
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    #[error("metrics cannot be recorded: {0}")]
    Metrics(String),
    #[error(transparent)]
    Node(#[from] index_node::Error),
}

fn open_store(configuration: &Configuration) -> Result<Arc<RocksStore>, OpenError> {
    let path = configuration.data_directory.join("store");
    RocksStore::open(path, &index_node::families(), RocksOptions::new(STORE_KIND))
}

fn serve(configuration: Configuration, store: Arc<RocksStore>) -> Result<(), Failure> {
    let threads = usize::try_from(configuration.cores).unwrap_or(1).max(1);
    let data = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(threads)
        .thread_name("data")
        .build()
        .map_err(Failure::Runtime)?;
    // The session with the control plane has a thread to itself: data traffic cannot delay heartbeats.
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let control_handle = control.handle().clone();
    let ended = CancellationToken::new();
    let until_ended = ended.clone();
    let control_thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control.block_on(until_ended.cancelled()))
        .map_err(Failure::Runtime)?;

    let served = data.block_on(async {
        let environment = Environment::production();
        let shutdown = CancellationToken::new();
        tokio::spawn(watch_signals(shutdown.clone()));
        if !configuration.metrics_address.is_empty() {
            let handle = telemetry::install_metrics()
                .map_err(|error| Failure::Metrics(error.to_string()))?;
            let (environment, shutdown) = (environment.clone(), shutdown.clone());
            let address = configuration.metrics_address.clone();
            tokio::spawn(async move {
                let served =
                    telemetry::serve_metrics(environment, &address, handle, shutdown).await;
                if let Err(error) = served {
                    tracing::error!(address, %error, "metrics cannot be served");
                }
            });
        }
        index_node::run_with_control(environment, store, configuration, control_handle, shutdown)
            .await?;
        Ok(())
    });
    ended.cancel();
    if control_thread.join().is_err() {
        tracing::error!("the control thread has panicked");
    }
    served
}

/// The first signal asks for a polite end, the second one ends at once.
async fn watch_signals(shutdown: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be watched: only SIGKILL will stop this process");
        return;
    };
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if shutdown.is_cancelled() {
            tracing::warn!("stopping at once");
            std::process::exit(i32::from(EXIT_FAILED));
        }
        tracing::info!("stopping; a second signal stops at once");
        shutdown.cancel();
    }
}

/// Says what is wrong, with its causes, for whoever started the process.
fn stop(code: u8, what: &str, error: &dyn Error) -> ExitCode {
    let mut text = format!("index-node: {what}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("{text}");
    ExitCode::from(code)
}
