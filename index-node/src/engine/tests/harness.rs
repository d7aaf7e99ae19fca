//! Hosts over simulated disks or RocksDB, joined by a network of function calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use proto::v1;
use runtime::{
    seams::{Clock, Environment, Moment, Randomness},
    store::{
        Store,
        rocks::{RocksOptions, RocksStore},
        simulated::SimulatedDisk,
    },
};
use tonic::Status;

use crate::engine::{
    FAMILIES,
    command::{Applied, Condition, Mutation},
    error::RequestError,
    host::{EnsureReplica, HostSetup, ReplicaHost},
    host_peer::FrameFault,
    options::EngineOptions,
    replica::Replica,
    requests::{Found, WriteRequest},
    snapshot::PartitionSnapshot,
    snapshot_stream::{self, SnapshotTransfer},
    transport::{Fence, GroupTransport, PeerWatch, Route, TransportError, VoteAuthority},
    types::{
        AppendEntriesRequest, AppendEntriesResponse, KeyRange, NodeId, PartitionId, Placement,
        RaftVote, ReplicaId, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
        VoteResponse,
    },
};

pub const PARTITION: PartitionId = PartitionId(7);
pub const EPOCH: u64 = 3;

/// tokio's time, which stands still unless everybody waits (`start_paused`).
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn now(&self) -> Moment {
        Moment::from_origin(self.0.elapsed())
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// Numbers that look random and are the same in every run.
struct Sequence(AtomicU64);

impl Randomness for Sequence {
    fn next_u64(&self) -> u64 {
        let step = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        let mixed = (step ^ (step >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

pub fn environment(seed: u64) -> Environment {
    Environment {
        clock: Arc::new(TokioClock(tokio::time::Instant::now())),
        randomness: Arc::new(Sequence(AtomicU64::new(seed))),
        ..Environment::production()
    }
}

/// Where the nodes' hosts are, and between which there is no connection.
#[derive(Default)]
pub struct Network {
    hosts: Mutex<BTreeMap<NodeId, Arc<ReplicaHost>>>,
    cut: Mutex<BTreeSet<NodeId>>,
    /// Snapshots that were sent in full.
    pub snapshots_sent: AtomicUsize,
    /// Snapshots end before this chunk, if it is not zero.
    pub snapshot_chunks_max: AtomicUsize,
    /// How long each chunk of a snapshot takes.
    pub snapshot_chunk_ms: AtomicU64,
}

impl Network {
    fn host(&self, from: NodeId, to: NodeId) -> Result<Arc<ReplicaHost>, TransportError> {
        if self.is_cut(from) || self.is_cut(to) {
            return Err(TransportError::Unreachable("cut".into()));
        }
        let hosts = self.hosts.lock().unwrap();
        hosts.get(&to).cloned().ok_or_else(|| TransportError::Unreachable("down".into()))
    }

    fn is_cut(&self, node: NodeId) -> bool {
        self.cut.lock().unwrap().contains(&node)
    }
}

#[derive(Clone)]
struct Link {
    network: Arc<Network>,
    from: NodeId,
}

fn fault(fault: FrameFault) -> TransportError {
    TransportError::Unreachable(format!("{:?}: {}", fault.code, fault.message))
}

impl Link {
    fn call<T, F>(
        &self,
        route: Route,
        limit: Duration,
        call: impl FnOnce(Arc<ReplicaHost>) -> F,
    ) -> BoxFuture<'static, Result<T, TransportError>>
    where
        F: Future<Output = Result<T, FrameFault>> + Send + 'static,
        T: Send + 'static,
    {
        let calling = match self.network.host(self.from, route.to_node) {
            Ok(host) => call(host),
            Err(error) => return futures_util::future::ready(Err(error)).boxed(),
        };
        let this = self.clone();
        async move {
            let answer = tokio::time::timeout(limit, calling)
                .await
                .map_err(|_| TransportError::Timeout(limit))?;
            // The way back may be cut by now.
            this.network.host(this.from, route.to_node)?;
            answer.map_err(fault)
        }
        .boxed()
    }
}

impl GroupTransport for Link {
    fn append_entries(
        &self,
        route: Route,
        request: AppendEntriesRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<AppendEntriesResponse, TransportError>> {
        let Route { partition, from, to, .. } = route;
        self.call(route, limit, |host| async move {
            host.handle_append_entries(partition, from, to, request).await
        })
    }

    fn vote(
        &self,
        route: Route,
        request: VoteRequest,
        authority: VoteAuthority,
        limit: Duration,
    ) -> BoxFuture<'static, Result<VoteResponse, TransportError>> {
        let Route { partition, from, to, .. } = route;
        self.call(route, limit, move |host| async move {
            host.handle_vote(partition, from, to, request, authority).await
        })
    }

    fn pre_vote(
        &self,
        route: Route,
        request: VoteRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<VoteResponse, TransportError>> {
        let Route { partition, from, to, .. } = route;
        self.call(route, limit, |host| async move {
            host.handle_pre_vote(partition, from, to, request).await
        })
    }

    fn transfer_leader(
        &self,
        route: Route,
        request: TransferLeaderRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<TransferLeaderResponse, TransportError>> {
        let Route { partition, from, to, .. } = route;
        self.call(route, limit, |host| async move {
            host.handle_transfer_leader(partition, from, to, request).await
        })
    }

    fn install_snapshot(
        &self,
        route: Route,
        vote: RaftVote,
        snapshot: PartitionSnapshot,
    ) -> BoxFuture<'static, Result<RaftVote, TransportError>> {
        let this = self.clone();
        async move {
            let host = this.network.host(this.from, route.to_node)?;
            let transfer =
                SnapshotTransfer::new(host.zone_id(), 0, route, &vote, snapshot, usize::MAX);
            let chunks = transfer
                .chunks()
                .map(|chunk| chunk.map_err(|error| Status::internal(error.to_string())));
            let limit = this.network.snapshot_chunks_max.load(Relaxed);
            let limit = if limit == 0 { usize::MAX } else { limit };
            let chunk_time = Duration::from_millis(this.network.snapshot_chunk_ms.load(Relaxed));
            let chunks = futures_util::stream::iter(chunks.take(limit)).then(|chunk| async {
                tokio::task::yield_now().await;
                if !chunk_time.is_zero() {
                    tokio::time::sleep(chunk_time).await;
                }
                chunk
            });
            let answer = host.receive_snapshot(Box::pin(chunks)).await;
            let answer =
                answer.map_err(|status| TransportError::Unreachable(status.to_string()))?;
            this.network.snapshots_sent.fetch_add(1, Relaxed);
            Ok(snapshot_stream::decode_response(&answer).unwrap())
        }
        .boxed()
    }
}

impl PeerWatch for Link {
    fn has_lost(&self, node: NodeId) -> bool {
        self.network.host(self.from, node).is_err()
    }
}

/// What a node keeps when its process ends.
enum Disk {
    Simulated(SimulatedDisk),
    Rocks(tempfile::TempDir),
}

pub struct Zone {
    pub network: Arc<Network>,
    disks: BTreeMap<NodeId, Disk>,
    stores: BTreeMap<NodeId, Arc<dyn Store>>,
    pub options: EngineOptions,
    starts: u64,
}

/// The placement of replica `10 * node` on the node.
pub fn placement(node: u64) -> Placement {
    Placement { replica: ReplicaId(10 * node), node: NodeId(node) }
}

pub fn whole_range() -> KeyRange {
    KeyRange { start: Bytes::from_static(b"a"), end: Bytes::from_static(b"z") }
}

pub fn founder(node: u64, founders: &[u64]) -> EnsureReplica {
    EnsureReplica {
        partition: PARTITION,
        replica: placement(node).replica,
        range: whole_range(),
        range_epoch: EPOCH,
        founders: founders.iter().map(|node| placement(*node)).collect(),
        campaign: Some(&node) == founders.first(),
    }
}

impl Zone {
    async fn with_disks(disks: BTreeMap<NodeId, Disk>, options: EngineOptions) -> Self {
        let mut zone =
            Self { network: Arc::default(), disks, stores: BTreeMap::new(), options, starts: 0 };
        for node in zone.disks.keys().copied().collect::<Vec<_>>() {
            zone.start(node.0).await;
        }
        zone
    }

    /// Nodes 1 to `nodes` on simulated disks.
    pub async fn simulated(nodes: u64, options: EngineOptions) -> Self {
        let disk = |node| (NodeId(node), Disk::Simulated(SimulatedDisk::new()));
        Self::with_disks((1..=nodes).map(disk).collect(), options).await
    }

    /// Nodes 1 to `nodes` on RocksDB.
    pub async fn rocks(nodes: u64, options: EngineOptions) -> Self {
        let disk = |node| (NodeId(node), Disk::Rocks(tempfile::tempdir().unwrap()));
        Self::with_disks((1..=nodes).map(disk).collect(), options).await
    }

    pub async fn start(&mut self, node: u64) {
        let node = NodeId(node);
        self.starts += 1;
        let environment = environment(1_000 * node.0 + self.starts);
        let store: Arc<dyn Store> = match &self.disks[&node] {
            Disk::Simulated(disk) => disk.open(&FAMILIES, &environment),
            Disk::Rocks(directory) => loop {
                let options = RocksOptions::new("index-node");
                match RocksStore::open(directory.path(), &FAMILIES, options) {
                    Ok(store) => break store,
                    // The tasks of the process before still have it.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            },
        };
        self.stores.insert(node, Arc::clone(&store));
        let link = Arc::new(Link { network: Arc::clone(&self.network), from: node });
        let host = ReplicaHost::open(HostSetup {
            environment,
            store,
            node,
            zone_id: "zone".into(),
            transport: Arc::clone(&link) as _,
            watch: link,
            options: self.options.clone(),
        })
        .await
        .unwrap();
        self.network.hosts.lock().unwrap().insert(node, host);
    }

    pub fn host(&self, node: u64) -> Arc<ReplicaHost> {
        Arc::clone(&self.network.hosts.lock().unwrap()[&NodeId(node)])
    }

    /// The node's host, if its process runs.
    pub fn running(&self, node: u64) -> Option<Arc<ReplicaHost>> {
        self.network.hosts.lock().unwrap().get(&NodeId(node)).cloned()
    }

    pub fn is_reachable(&self, node: u64) -> bool {
        !self.network.is_cut(NodeId(node))
    }

    pub fn store(&self, node: u64) -> Arc<dyn Store> {
        Arc::clone(&self.stores[&NodeId(node)])
    }

    pub fn disk(&self, node: u64) -> SimulatedDisk {
        match &self.disks[&NodeId(node)] {
            Disk::Simulated(disk) => disk.clone(),
            Disk::Rocks(_) => panic!("not simulated"),
        }
    }

    pub fn replica(&self, node: u64) -> Arc<Replica> {
        self.host(node).replica(PARTITION).unwrap()
    }

    /// `kill -9`.
    pub fn crash(&mut self, node: u64) {
        self.network.hosts.lock().unwrap().remove(&NodeId(node));
        self.stores.remove(&NodeId(node));
        self.disk(node).crash(17 * node + self.starts);
    }

    /// An orderly end.
    pub async fn stop(&mut self, node: u64) {
        let host = self.network.hosts.lock().unwrap().remove(&NodeId(node)).unwrap();
        host.shutdown().await;
        self.stores.remove(&NodeId(node));
    }

    pub fn cut(&self, node: u64) {
        self.network.cut.lock().unwrap().insert(NodeId(node));
    }

    pub fn heal(&self, node: u64) {
        self.network.cut.lock().unwrap().remove(&NodeId(node));
    }

    /// A group on these nodes, with a leader that serves.
    pub async fn found(&self, founders: &[u64]) -> u64 {
        for node in founders {
            self.host(*node).ensure(founder(*node, founders)).await.unwrap();
        }
        self.leader().await
    }

    /// The node whose replica leads with a quorum and has a range, as soon as there is one.
    pub async fn leader(&self) -> u64 {
        self.eventually(|| {
            let hosts = self.network.hosts.lock().unwrap();
            hosts
                .iter()
                .filter(|(node, _)| !self.network.is_cut(**node))
                .find(|(_, host)| {
                    host.replica(PARTITION).is_some_and(|replica| {
                        replica.leads_with_quorum() && replica.view.state().range.is_some()
                    })
                })
                .map(|(node, _)| node.0)
        })
        .await
    }

    /// Waits until the condition gives something.
    pub async fn eventually<T>(&self, condition: impl Fn() -> Option<T>) -> T {
        for _ in 0..2_000 {
            if let Some(found) = condition() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came true");
    }

    /// Waits until the node has applied as much as the leader has now.
    pub async fn caught_up(&self, node: u64, leader: u64) {
        let target = self.replica(leader).view.state().applied;
        self.eventually(|| (self.replica(node).view.state().applied >= target).then_some(())).await;
    }

    pub async fn put(&self, node: u64, key: &str, value: &str) -> Result<Applied, RequestError> {
        let replica = self.replica(node);
        replica.write(put(&replica, key, value)).await
    }

    pub async fn get(&self, node: u64, key: &str) -> Result<Option<String>, RequestError> {
        let found = self.replica(node).get(EPOCH, &Bytes::copy_from_slice(key.as_bytes())).await?;
        Ok(found.map(text))
    }

    /// The whole content as a replica has applied it, without asking anybody.
    pub fn content(&self, node: u64) -> BTreeMap<String, (String, u64)> {
        let replica = self.replica(node);
        let (state, reader) = replica.view.snapshot();
        let start = crate::engine::keys::lineage(state.lineage);
        reader
            .scan(crate::engine::keys::DATA, runtime::store::Scan::prefix(start))
            .map(|entry| {
                let (key, value) = entry.unwrap();
                let key = crate::engine::keys::without_lineage(&key);
                let stored: crate::engine::records::StoredValue =
                    crate::engine::records::decode(crate::engine::keys::DATA, &value).unwrap();
                (utf8(&key), (utf8(&stored.value), stored.version))
            })
            .collect()
    }

    /// Asks the node to take the group over from `lost`, as the control plane does.
    pub async fn appoint(&self, node: u64, lost: u64, elect: bool) -> v1::TakeOverResult {
        self.ask(node, node, lost, v1::VoteAuthority::Conclusion, elect).await
    }

    /// One `TakeOver` request for the group.
    pub async fn ask(
        &self,
        node: u64,
        candidate: u64,
        lost: u64,
        authority: v1::VoteAuthority,
        elect: bool,
    ) -> v1::TakeOverResult {
        let position = self.replica(candidate).log_position().await;
        let request = v1::TakeOverRequest {
            fence: Some(FENCE.into()),
            authority: authority.into(),
            lost_node_id: lost,
            groups: vec![v1::TakeOverGroup {
                group: Some(v1::GroupReplica {
                    partition_id: PARTITION.0,
                    replica_id: placement(node).replica.0,
                }),
                candidate_replica_id: placement(candidate).replica.0,
                membership_log: position.membership_log,
                elect,
            }],
            timeout_ms: 1_000,
        };
        self.host(node).take_over(request).await.unwrap().results.pop().unwrap()
    }
}

pub const FENCE: Fence = Fence { zone_generation: 1, term: 5, revision: 100 };

pub fn utf8(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn text(found: Found) -> String {
    utf8(&found.value)
}

static WRITES: AtomicU64 = AtomicU64::new(1);

/// A put with a write id of its own.
pub fn put(replica: &Replica, key: &str, value: &str) -> WriteRequest {
    let mut write_id = [0; 16];
    write_id[..8].copy_from_slice(&WRITES.fetch_add(1, Relaxed).to_le_bytes());
    WriteRequest {
        range_epoch: EPOCH,
        key: Bytes::copy_from_slice(key.as_bytes()),
        mutation: Mutation::Put { value: Bytes::copy_from_slice(value.as_bytes()) },
        condition: Condition::None,
        write_id,
        expires_at_ms: replica.now_ms() + 10_000,
    }
}
