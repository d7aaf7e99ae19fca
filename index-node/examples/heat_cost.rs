//! What it costs a request to be counted and to have a turn by its key: processor time for each, without and
//! with all that is counted, and held against the cheapest whole request: a read that one node answers alone.
//!
//! `make bench-model` runs it, or `cargo run -p index-node --example heat_cost`.

mod alone;

use std::{hint::black_box, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use index_node::engine::{
    FAMILIES,
    heat::{Counts, Heat},
    host::{EnsureReplica, HostSetup, ReplicaHost},
    options::EngineOptions,
    service::IndexApi,
    turns::{TurnGate, TurnLimits, Turned},
    types::{KeyRange, NodeId, PartitionId, Placement, ReplicaId},
};
use proto::v1::{
    self, index_service_client::IndexServiceClient, index_service_server::IndexServiceServer,
};
use runtime::{
    seams::Environment,
    store::rocks::{RocksOptions, RocksStore},
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::transport::{Server, server::TcpIncoming};

use crate::alone::Nobody;

const REQUESTS: u32 = 2_000_000;
/// Of whole requests, and how many keys there are.
const WHOLE_REQUESTS: u32 = 20_000;
const KEYS: u32 = 1_000;
/// Reads that are under way at the same time.
const AT_ONCE: usize = 16;
/// What counting may cost, as a part of a request.
const GOAL: f64 = 0.01;

type Failure = Box<dyn std::error::Error>;

/// A node with one partition, of which it has the only replica.
async fn node(directory: &std::path::Path) -> Result<IndexApi, Failure> {
    let (partition, node) = (PartitionId(1), NodeId(1));
    let here = Placement { replica: ReplicaId(10), node };
    let store = RocksStore::open(directory, &FAMILIES, RocksOptions::new("index-node"))?;
    let host = ReplicaHost::open(HostSetup {
        environment: Environment::production(),
        store,
        node,
        zone_id: "zone".into(),
        transport: Arc::new(Nobody),
        watch: Arc::new(Nobody),
        options: EngineOptions::default(),
    })
    .await?;
    host.ensure(EnsureReplica {
        partition,
        replica: here.replica,
        range: KeyRange { start: Bytes::new(), end: Bytes::new() },
        range_epoch: 1,
        founders: vec![here],
        campaign: true,
    })
    .await?;
    Ok(IndexApi::new(host))
}

fn target() -> Option<v1::Target> {
    Some(v1::Target { partition_id: 1, range_epoch: 1 })
}

fn object(number: u32) -> Bytes {
    format!("bucket\0object-{}", number % KEYS).into()
}

/// Serves on a thread of its own until `asked` ends, and says how much processor time that thread has used when asked.
fn serve(
    directory: &std::path::Path,
    listener: std::net::TcpListener,
    mut asked: mpsc::UnboundedReceiver<oneshot::Sender<Duration>>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?);
        let service = IndexServiceServer::new(node(directory).await?);
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        while let Some(answer) = asked.recv().await {
            // Who asks waits for it.
            let _ = answer.send(Environment::production().processor_time.of_thread());
        }
        Ok(())
    })
}

/// Nanoseconds of the processor that a whole read takes on the node that answers it, [`AT_ONCE`] at a time: over a
/// connection, from a group of one, whose leader nobody else has to confirm.
async fn whole_request_ns() -> Result<f64, Failure> {
    let directory = tempfile::tempdir()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (asking, asked) = mpsc::unbounded_channel();
    let path = directory.path().to_owned();
    let server = std::thread::spawn(move || {
        serve(&path, listener, asked).expect("a node of one's own");
    });
    let mut client = IndexServiceClient::connect(format!("http://{address}")).await?;
    let get = |number| v1::GetRequest { target: target(), key: object(number) };
    let mut attempts = 0;
    // Until the group is led, it refuses.
    let partition_time_ms = loop {
        match client.get(get(0)).await {
            Ok(answer) => break answer.into_inner().partition_time_ms,
            Err(refused) if attempts == 500 => return Err(refused.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        attempts += 1;
    };
    for number in 0..KEYS {
        let id = u128::from(number).to_le_bytes().to_vec().into();
        let request = v1::PutRequest {
            target: target(),
            key: object(number),
            value: Some(v1::ObjectMetadata::default()),
            condition: None,
            write_id: Some(v1::WriteId { id, expires_at_ms: partition_time_ms + 30_000 }),
        };
        client.put(request).await?;
    }
    let used = async || -> Result<Duration, Failure> {
        let (answer, used) = oneshot::channel();
        asking.send(answer)?;
        Ok(used.await?)
    };
    let mut runs = Vec::new();
    for _ in 0..7 {
        let before = used().await?;
        let mut reads = futures_util::stream::iter(0..WHOLE_REQUESTS)
            .map(|number| {
                let mut client = client.clone();
                async move { client.get(get(number)).await }
            })
            .buffer_unordered(AT_ONCE);
        while let Some(answer) = reads.next().await {
            black_box(answer?);
        }
        let used = used().await?.saturating_sub(before);
        runs.push(used.as_secs_f64() * 1e9 / f64::from(WHOLE_REQUESTS));
    }
    drop(asking);
    server.join().map_err(|_| "the node's thread has panicked")?;
    runs.sort_by(f64::total_cmp);
    Ok(runs[runs.len() / 2])
}

/// Nanoseconds of the processor that a request takes, the median of seven runs.
async fn nanoseconds_each(work: impl AsyncFn(u32)) -> f64 {
    let processor_time = Environment::production().processor_time;
    let mut runs = Vec::new();
    for _ in 0..7 {
        let before = processor_time.of_thread();
        for request in 0..REQUESTS {
            work(request).await;
        }
        let used: Duration = processor_time.of_thread().saturating_sub(before);
        runs.push(used.as_secs_f64() * 1e9 / f64::from(REQUESTS));
    }
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

/// Waits once, as a request does for its quorum.
async fn answer(key: &[u8]) -> usize {
    tokio::task::yield_now().await;
    black_box(key.len())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let environment = Environment::production();
    let keys: Vec<String> = (0..1_000).map(|number| format!("bucket\0object-{number}")).collect();
    let key = |request: u32| keys[request as usize % keys.len()].as_bytes();
    let bare = nanoseconds_each(async |request| {
        answer(key(request)).await;
    })
    .await;
    println!("a request that does nothing and waits once: {bare:.0} ns");
    let mut most = 0_f64;
    for (what, tracked) in [("its keys not watched", false), ("its keys watched", true)] {
        let heat = Heat::default();
        heat.track_keys(tracked);
        let counted = nanoseconds_each(async |request| {
            let key = key(request);
            let work = async { Ok(answer(key).await) };
            if heat.request(&environment, Some(key), work).await.is_ok() {
                heat.read(key, key.len());
            }
        })
        .await;
        let Counts { reads, request_cpu, .. } = heat.take();
        most = most.max(counted - bare);
        println!(
            "the same, counted, {what}: {:.0} ns more ({reads} reads, {:.1} s of processor time told)",
            counted - bare,
            request_cpu.as_secs_f64(),
        );
    }
    for (what, others) in [("nothing else under way", 0), ("a hundred others under way", 100)] {
        let (gate, places) = (TurnGate::new(TurnLimits::default()), Semaphore::new(1));
        let others: Vec<Bytes> = (0..others).map(|it| format!("other-{it}").into()).collect();
        let mut turns = Vec::new();
        for other in &others {
            turns.push(gate.enter(other, &places, Duration::ZERO).await);
        }
        let keys: Vec<Bytes> = keys.iter().map(|key| Bytes::from(key.clone())).collect();
        let turned = nanoseconds_each(async |request| {
            let key = &keys[request as usize % keys.len()];
            let turn = gate.enter(key, &places, Duration::ZERO).await;
            assert!(matches!(turn, Turned::AtOnce(_)), "there is room");
            answer(key).await;
        })
        .await;
        println!("a turn by key, {what}: {:.0} ns more", turned - bare);
    }
    let heat = Heat::default();
    let processor_time = environment.processor_time.as_ref();
    let applied = nanoseconds_each(async |request| {
        heat.apply(processor_time, answer(key(request))).await;
    })
    .await;
    println!("a run of entries, counted: {:.0} ns more", applied - bare);
    let whole = whole_request_ns().await?;
    println!(
        "a whole read that one node answers alone: {:.1} µs of its processor time; counting it is {:.2} % of that \
         (goal: at most {:.0} %)",
        whole / 1e3,
        most / whole * 100.0,
        GOAL * 100.0,
    );
    Ok(())
}
