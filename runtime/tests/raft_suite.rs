//! openraft's own suite for log stores, over both stores.

mod raft_support;
mod store_support;

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use raft_support::{Log, StateMachine, Types};
use runtime::{raft, store::contract::Machine};
use store_support::{RocksMachine, SimulatedMachine};

/// Builds each log as another group of one store.
struct Builder<M> {
    machine: M,
    next_group: AtomicU64,
}

impl<M> Builder<M> {
    fn on(machine: M) -> Self {
        Self { machine, next_group: AtomicU64::new(1) }
    }
}

impl<M: Machine + Send + Sync> StoreBuilder<Types, Log, StateMachine> for Builder<M> {
    async fn build(&self) -> Result<((), Log, StateMachine), StorageError<Types>> {
        let group = self.next_group.fetch_add(1, Ordering::Relaxed);
        Ok(((), Log::new(self.machine.store(), group), StateMachine::default()))
    }
}

#[tokio::test]
async fn the_log_on_rocksdb_passes_the_suite() {
    let builder = Builder::on(RocksMachine::new(&[raft::FAMILY]));
    Suite::test_all(builder).await.expect("passed");
}

#[tokio::test(start_paused = true)]
async fn the_log_on_the_simulated_disk_passes_the_suite() {
    let builder = Builder::on(SimulatedMachine::new(&[raft::FAMILY]));
    Suite::test_all(builder).await.expect("passed");
}
