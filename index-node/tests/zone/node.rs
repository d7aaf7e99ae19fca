//! A node as a process would be: on a runtime of its own, which can be stopped or torn down.

use std::{path::PathBuf, sync::Arc, time::Duration};

use index_node::{
    Error,
    configuration::{Configuration, RaftSettings},
};
use runtime::{
    seams::Environment,
    store::rocks::{RocksOptions, RocksStore},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A runtime that is torn down has ended after this time.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// A node that can be started again on the same data directory and address.
pub struct TestNode {
    directory: TempDir,
    pub configuration: Configuration,
    running: Option<Running>,
}

struct Running {
    runtime: tokio::runtime::Runtime,
    node: tokio::task::JoinHandle<Result<(), Error>>,
    shutdown: CancellationToken,
}

/// An address where nobody listens now.
pub async fn free_address() -> String {
    let listener = Environment::production().network.listen("127.0.0.1:0").await.unwrap();
    listener.local_address().unwrap().to_string()
}

impl TestNode {
    /// Starts a new node that looks for its control plane at `control_plane`.
    pub async fn start(name: &str, control_plane: &str) -> Self {
        Self::start_with(name, control_plane, RaftSettings::default()).await
    }

    pub async fn start_with(name: &str, control_plane: &str, raft: RaftSettings) -> Self {
        // ISOTHERM_LOG shows what happens.
        runtime::telemetry::init_logging("off");
        let directory = tempfile::tempdir().unwrap();
        let configuration = Configuration {
            data_directory: directory.path().to_owned(),
            name: name.to_owned(),
            listen_address: free_address().await,
            control_plane_endpoints: vec![control_plane.to_owned()],
            // The test machine's disk is not what is tested.
            disk_reserve_bytes: 0,
            raft,
            ..Configuration::default()
        };
        let mut node = Self { directory, configuration, running: None };
        node.start_again();
        node
    }

    pub fn address(&self) -> &str {
        &self.configuration.listen_address
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Starts on the data that is there.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "the node runs already");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options = RocksOptions::new("index-node");
        let store = RocksStore::open(self.data(), &index_node::families(), options).unwrap();
        let shutdown = CancellationToken::new();
        let (configuration, stop) = (self.configuration.clone(), shutdown.clone());
        let node = runtime.spawn(async move {
            let store: Arc<RocksStore> = store;
            index_node::run(Environment::production(), store, configuration, stop).await
        });
        self.running = Some(Running { runtime, node, shutdown });
    }

    /// Tears the node down where it stands: connections break, nothing is handed over.
    pub async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            let Running { runtime, node, .. } = running;
            drop(node);
            tokio::task::spawn_blocking(move || runtime.shutdown_timeout(STOP_TIME_MAX))
                .await
                .unwrap();
        }
    }

    /// Asks the node to stop, and waits until it has.
    pub async fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        let Running { runtime, node, shutdown } = running;
        shutdown.cancel();
        node.await.unwrap().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(STOP_TIME_MAX)).await.unwrap();
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Nothing of a test outlasts it.
            tokio::task::block_in_place(|| running.runtime.shutdown_timeout(STOP_TIME_MAX));
        }
    }
}
