//! What one hot key does to the other keys of its partition, without turns by key and with them.
//!
//! `cargo run -p index-node --example hot_key`. One node, one partition with one replica, RocksDB with fsync,
//! called without a wire. Two thousand writers want the same key as often as they can, and come again when they
//! are told to; twenty others write and read keys of their own, ten milliseconds apart.

mod alone;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use index_node::engine::{
    FAMILIES,
    command::{Condition, Mutation},
    error::RequestError,
    host::{EnsureReplica, HostSetup, ReplicaHost},
    options::EngineOptions,
    replica::Replica,
    requests::WriteRequest,
    turns::TurnLimits,
    types::{KeyRange, NodeId, PartitionId, Placement, ReplicaId},
};
use runtime::{
    seams::Environment,
    store::rocks::{RocksOptions, RocksStore},
};
use tokio::task::JoinSet;

use crate::alone::Nobody;

const HOT_WRITERS: u64 = 2_000;
const OTHERS: u64 = 20;
const PAUSE: Duration = Duration::from_millis(10);
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);
const PARTITION: PartitionId = PartitionId(1);
const EPOCH: u64 = 1;

/// What was counted, from the end of the warm-up on.
#[derive(Default)]
struct Tally {
    counts: AtomicU64,
    hot_done: AtomicU64,
    hot_refused: AtomicU64,
    others_refused: AtomicU64,
}

struct Load {
    environment: Environment,
    replica: Arc<Replica>,
    tally: Tally,
}

impl Load {
    fn write(&self, key: &Bytes) -> WriteRequest {
        WriteRequest {
            range_epoch: EPOCH,
            key: key.clone(),
            mutation: Mutation::Put { value: Bytes::from_static(&[7; 256]) },
            condition: Condition::None,
            write_id: self.environment.random_bytes(),
            expires_at_ms: self.replica.now_ms() + 30_000,
        }
    }

    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(self.tally.counts.load(Relaxed), Relaxed);
    }

    async fn hot(&self) {
        let key = Bytes::from_static(b"hot");
        loop {
            match self.replica.write(self.write(&key)).await {
                Ok(_) => self.count(&self.tally.hot_done),
                Err(
                    RequestError::Throttled { retry_after, .. }
                    | RequestError::Exhausted { retry_after, .. },
                ) => {
                    self.count(&self.tally.hot_refused);
                    runtime::time::sleep(self.environment.jittered(retry_after)).await;
                }
                Err(error) => eprintln!("a write of the hot key: {error}"),
            }
        }
    }

    /// Writes and reads its key until `end`: how long each took.
    async fn other(&self, number: u64) -> (Vec<Duration>, Vec<Duration>) {
        let key = Bytes::from(format!("key-{number}"));
        let (mut writes, mut reads) = (Vec::new(), Vec::new());
        let end = self.environment.now() + WARM_UP + MEASURED;
        while self.environment.now() < end {
            let counts = self.tally.counts.load(Relaxed) > 0;
            let began = self.environment.now();
            if self.replica.write(self.write(&key)).await.is_err() {
                self.count(&self.tally.others_refused);
            }
            let written = self.environment.now();
            if self.replica.get(EPOCH, &key).await.is_err() {
                self.count(&self.tally.others_refused);
            }
            if counts {
                writes.push(written.since(began));
                reads.push(self.environment.now().since(written));
            }
            runtime::time::sleep(PAUSE).await;
        }
        (writes, reads)
    }
}

async fn host(environment: &Environment, directory: &Path, turns: TurnLimits) -> Arc<ReplicaHost> {
    let options = RocksOptions::new("index-node");
    let store = RocksStore::open(directory, &FAMILIES, options).expect("a store");
    let host = ReplicaHost::open(HostSetup {
        environment: environment.clone(),
        store,
        node: NodeId(1),
        zone_id: "zone".to_owned(),
        transport: Arc::new(Nobody),
        watch: Arc::new(Nobody),
        options: EngineOptions { turns, ..EngineOptions::default() },
    })
    .await
    .expect("a host");
    let founder = Placement { replica: ReplicaId(1), node: NodeId(1) };
    host.ensure(EnsureReplica {
        partition: PARTITION,
        replica: founder.replica,
        range: KeyRange { start: Bytes::new(), end: Bytes::new() },
        range_epoch: EPOCH,
        founders: vec![founder],
        campaign: true,
    })
    .await
    .expect("a replica");
    host
}

/// The host's replica, as soon as it leads.
async fn leading(host: &ReplicaHost) -> Arc<Replica> {
    let replica = host.replica(PARTITION).expect("it was made");
    while replica.get(EPOCH, &Bytes::from_static(b"hot")).await.is_err() {
        runtime::time::sleep(PAUSE).await;
    }
    replica
}

fn milliseconds(mut all: Vec<Duration>) -> String {
    all.sort_unstable();
    let at = |percent: usize| {
        let index = (all.len() * percent / 100).min(all.len().saturating_sub(1));
        all.get(index).map_or(0.0, |found| found.as_secs_f64() * 1e3)
    };
    format!("p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms", at(50), at(99), at(100))
}

async fn measure(what: &str, turns: TurnLimits, hot_writers: u64) {
    let environment = Environment::production();
    let directory = tempfile::tempdir().expect("a directory");
    let host = host(&environment, directory.path(), turns).await;
    let replica = leading(&host).await;
    let load = Arc::new(Load { environment, replica, tally: Tally::default() });
    let mut hot = JoinSet::new();
    for _ in 0..hot_writers {
        let load = Arc::clone(&load);
        hot.spawn(async move { load.hot().await });
    }
    let mut others = JoinSet::new();
    for number in 0..OTHERS {
        let load = Arc::clone(&load);
        others.spawn(async move { load.other(number).await });
    }
    runtime::time::sleep(WARM_UP).await;
    load.tally.counts.store(1, Relaxed);
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for (written, read) in others.join_all().await {
        writes.extend(written);
        reads.extend(read);
    }
    hot.shutdown().await;
    host.shutdown().await;
    let seconds = MEASURED.as_secs();
    let tally = &load.tally;
    println!("{what}:");
    println!("  other keys' writes: {}", milliseconds(writes));
    println!("  other keys' reads:  {}", milliseconds(reads));
    println!(
        "  hot key: {} writes/s done, {} refused/s; of the others {} refused",
        tally.hot_done.load(Relaxed) / seconds,
        tally.hot_refused.load(Relaxed) / seconds,
        tally.others_refused.load(Relaxed),
    );
}

#[tokio::main]
async fn main() {
    let unlimited =
        TurnLimits { crowd: usize::MAX, of_one_key: usize::MAX, ..TurnLimits::default() };
    let usual = TurnLimits::default();
    for round in 1..=3 {
        println!("round {round}");
        measure("no hot key", usual, 0).await;
        measure("a hot key, no turns by key", unlimited, HOT_WRITERS).await;
        measure("a hot key, turns by key", usual, HOT_WRITERS).await;
    }
}
