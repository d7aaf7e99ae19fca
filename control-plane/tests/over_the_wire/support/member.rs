//! A member that can be started, stopped, killed and wiped.

use std::{path::PathBuf, sync::Arc, time::Duration};

use control_plane::configuration::Configuration;
use proto::v1::{
    admin_service_client::AdminServiceClient, member_service_client::MemberServiceClient,
    node_service_client::NodeServiceClient, routing_service_client::RoutingServiceClient,
};
use runtime::{
    seams::Environment,
    store::{
        Store,
        rocks::{RocksOptions, RocksStore},
    },
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::free_address;

/// One member: its data directory and address stay when it is restarted.
pub struct TestMember {
    pub address: String,
    configuration: Configuration,
    directory: TempDir,
    running: Option<Running>,
}

struct Running {
    runtime: Option<Runtime>,
    shutdown: CancellationToken,
    ended: tokio::sync::oneshot::Receiver<Result<(), control_plane::Error>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl TestMember {
    pub fn new(change: &dyn Fn(&mut Configuration)) -> Self {
        let address = free_address();
        let mut configuration =
            Configuration { listen_address: address.clone(), ..Configuration::default() };
        change(&mut configuration);
        let directory = TempDir::new().expect("a temporary directory");
        let mut member = Self { address, configuration, directory, running: None };
        member.start();
        member
    }

    fn store_path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn open_store(&self) -> Arc<dyn Store> {
        let options = RocksOptions::new("control-plane");
        let families = control_plane::families();
        // The tasks of a killed predecessor may hold it for a moment.
        for _ in 0..500 {
            match RocksStore::open(self.store_path(), &families, options.clone()) {
                Ok(store) => return store,
                Err(runtime::store::rocks::OpenError::Locked { .. }) => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("the store cannot be opened: {error}"),
            }
        }
        panic!("the store stays locked");
    }

    pub fn start(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let store = self.open_store();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let shutdown = CancellationToken::new();
        let (end, ended) = tokio::sync::oneshot::channel();
        let member = control_plane::run(
            Environment::production(),
            store,
            self.configuration.clone(),
            shutdown.clone(),
        );
        runtime.spawn(async move {
            let _ = end.send(member.await);
        });
        self.running = Some(Running { runtime: Some(runtime), shutdown, ended });
    }

    /// Stops it as a signal would.
    pub async fn stop(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.shutdown.cancel();
        let ended = (&mut running.ended).await.expect("it ends by itself");
        ended.expect("it stops cleanly");
    }

    /// Stops it in the middle of everything.
    pub fn kill(&mut self) {
        drop(self.running.take().expect("it runs"));
    }

    /// Loses its disk.
    pub fn wipe(&mut self) {
        assert!(self.running.is_none(), "it runs");
        drop(self.open_store());
        std::fs::remove_dir_all(self.store_path()).expect("its directory");
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub fn channel(&self) -> Channel {
        channel(&self.address)
    }

    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel())
    }

    pub fn nodes(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel())
    }

    pub fn routing(&self) -> RoutingServiceClient<Channel> {
        RoutingServiceClient::new(self.channel())
    }

    pub fn members(&self) -> MemberServiceClient<Channel> {
        MemberServiceClient::new(self.channel())
    }
}

/// A lazy channel to an address.
pub fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
}
