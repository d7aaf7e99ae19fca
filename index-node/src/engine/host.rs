//! All replicas of this node, over one store.
//!
//! Which replicas there are is decided by records in the store, never by what is missing from an order:
//! a replica appears by [`ReplicaHost::ensure`] and goes by [`ReplicaHost::destroy`], each in one synced
//! batch, and a tombstone keeps a destroyed one from ever coming back.
//!
//! What peers send is in [`host_peer`](super::host_peer), what the control plane orders in
//! [`host_orders`](super::host_orders), what it is told of load in [`host_heat`](super::host_heat).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use openraft::EntryPayload;
use planted::Bug;
use proto::v1;
use runtime::{
    seams::{Environment, Moment},
    store::{Batch, Scan, Store, StoreError, synced},
};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    directory::Directory,
    fences::Fences,
    heat::{Changes, HeatReporter},
    keys,
    lineages::{self, Held, Lineages},
    options::EngineOptions,
    records::{self, GroupState, ReplicaRecord, Tombstone},
    replica::{Replica, Shared, StartError},
    roll::{Born, Roll},
    transport::{GroupTransport, PeerWatch},
    types::{
        KeyRange, NodeId, PartitionId, Placement, RaftEntry, RaftLogId, RaftMembership, ReplicaId,
        ReplicaNode, TypeConfig, log_id,
    },
};

/// How often partition time is looked at and slow progress is reported.
const TICK_INTERVAL: Duration = Duration::from_millis(250);

/// For how long a child has no leader before others than the parent's leader try to lead it.
const CHILD_LEADERLESS_MAX: Duration = Duration::from_secs(1);

/// What a host needs.
pub struct HostSetup {
    pub environment: Environment,
    pub store: Arc<dyn Store>,
    pub node: NodeId,
    pub zone_id: String,
    pub transport: Arc<dyn GroupTransport>,
    pub watch: Arc<dyn PeerWatch>,
    pub options: EngineOptions,
}

/// Why the replicas could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("the engine's timers do not fit each other")]
    Options(#[from] openraft::ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Why a replica was not made or not destroyed.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    #[error("replica {0} was destroyed here and never comes back")]
    Destroyed(ReplicaId),
    #[error("replica {other} of the partition is here")]
    AnotherReplica { other: ReplicaId },
    #[error("replica {replica} exists, of partition {partition}")]
    OtherPartition { replica: ReplicaId, partition: PartitionId },
    #[error("the disk is below its reserve")]
    DiskBelowReserve,
    #[error("the replica is not among its founders")]
    NotFounder,
    #[error("the range is empty")]
    EmptyRange,
    #[error("the replica votes in a membership that the order does not supersede")]
    StillVotes,
    #[error("the node is shutting down")]
    ShuttingDown,
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Default)]
pub(super) struct Replicas {
    by_partition: BTreeMap<PartitionId, Arc<Replica>>,
    by_id: BTreeMap<ReplicaId, PartitionId>,
    destroyed: BTreeMap<ReplicaId, PartitionId>,
}

pub struct ReplicaHost {
    pub(super) shared: Arc<Shared>,
    pub(super) zone_id: String,
    pub(super) lineages: Lineages,
    pub(super) fences: Fences,
    pub(super) directory: Directory,
    pub(super) replicas: RwLock<Replicas>,
    pub(super) heat: std::sync::Mutex<HeatReporter>,
    /// Held while a replica is made or destroyed.
    lifecycle: Mutex<()>,
    /// Rises with each replica that has started.
    arrivals: watch::Sender<u64>,
    stopping: CancellationToken,
}

/// A replica that shall exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsureReplica {
    pub partition: PartitionId,
    pub replica: ReplicaId,
    pub range: KeyRange,
    pub range_epoch: u64,
    /// The group's first voters; empty: the replica waits to be added to a group.
    pub founders: Vec<Placement>,
    /// Of a new group: stand for its first election.
    pub campaign: bool,
}

impl ReplicaHost {
    /// Starts every replica that the store knows of, after removing what crashes have left over.
    pub async fn open(setup: HostSetup) -> Result<Arc<Self>, HostError> {
        let HostSetup { environment, store, node, zone_id, transport, watch, options } = setup;
        let shared = Arc::new(Shared {
            raft_config: options.raft()?,
            writes_in_flight: Semaphore::new(options.writes_in_flight_max),
            hand_overs: Semaphore::new(options.hand_overs_at_once),
            leader_waits: Semaphore::new(options.leader_waits_max),
            turn_waits: Semaphore::new(options.turn_waits_max),
            environment,
            store: Arc::clone(&store),
            node,
            transport,
            watch,
            options,
            changes: Changes::default(),
            roll: Arc::new(Roll::default()),
            disk_below_reserve: AtomicBool::new(false),
            store_failed: CancellationToken::new(),
        });
        let heat = std::sync::Mutex::new(HeatReporter::new(shared.environment.now()));
        let host = Arc::new(Self {
            heat,
            lineages: Lineages::load(store.as_ref())?,
            fences: Fences::load(Arc::clone(&store))?,
            directory: Directory::load(Arc::clone(&store))?,
            zone_id,
            shared,
            replicas: RwLock::default(),
            lifecycle: Mutex::new(()),
            arrivals: watch::Sender::new(0),
            stopping: CancellationToken::new(),
        });
        host.load().await?;
        host.start_births();
        let ticking = Arc::downgrade(&host);
        let stopping = host.stopping.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => return,
                    () = runtime::time::sleep(TICK_INTERVAL) => {}
                }
                let Some(host) = ticking.upgrade() else { return };
                host.replicas().iter().for_each(|replica| replica.tick());
            }
        });
        Ok(host)
    }

    async fn load(&self) -> Result<(), HostError> {
        let store = self.shared.store.as_ref();
        let mut destroyed = BTreeMap::new();
        for entry in store.scan(keys::META, Scan::prefix(keys::TOMBSTONE_PREFIX)) {
            let (key, data) = entry?;
            let tombstone: Tombstone = records::decode(keys::META, &data)?;
            destroyed.insert(replica_of(&key)?, tombstone.partition);
        }
        let mut present = Vec::new();
        let mut held = Held::new();
        for entry in store.scan(keys::META, Scan::prefix(keys::REPLICA_PREFIX)) {
            let (_, data) = entry?;
            let record: ReplicaRecord = records::decode(keys::META, &data)?;
            if let Some(state) = GroupState::load(store, record.replica)? {
                let mut roll = self.shared.roll.lock();
                roll.add(record.partition, record.replica, state.lineage);
                held.entry(state.lineage).or_default().push(state.range);
            }
            present.push(record);
        }
        let mut batch = Batch::new();
        let unused = lineages::delete_unused(store, &held, &mut batch)?;
        if unused > 0 {
            tracing::info!(unused, "deleted lineages that no replica uses");
            runtime::mark!("start: lineages that nobody used were deleted");
            store.write(batch)?;
        }
        self.write_replicas(|replicas| replicas.destroyed = destroyed);
        for record in present {
            let replica = Replica::start(Arc::clone(&self.shared), record).await?;
            self.insert(replica);
        }
        Ok(())
    }

    fn read_replicas<T>(&self, read: impl FnOnce(&Replicas) -> T) -> T {
        read(&self.replicas.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write_replicas<T>(&self, write: impl FnOnce(&mut Replicas) -> T) -> T {
        write(&mut self.replicas.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn insert(&self, replica: Arc<Replica>) {
        self.write_replicas(|replicas| {
            replicas.by_id.insert(replica.id(), replica.partition());
            replicas.by_partition.insert(replica.partition(), replica);
        });
        self.arrivals.send_modify(|count| *count += 1);
    }

    /// Starts the children of splits as they are born.
    fn start_births(self: &Arc<Self>) {
        let host = Arc::downgrade(self);
        let (roll, stopping) = (Arc::clone(&self.shared.roll), self.stopping.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => return,
                    () = roll.births() => {}
                }
                let Some(host) = host.upgrade() else { return };
                let _lifecycle = host.lifecycle.lock().await;
                host.start_born().await;
            }
        });
    }

    /// Starts what was born. To be called with the lifecycle's lock.
    async fn start_born(&self) {
        while let Some(Born { record, parent }) = self.shared.roll.next_born() {
            if self.stopping.is_cancelled() {
                return;
            }
            let partition = record.partition;
            match Replica::start(Arc::clone(&self.shared), record).await {
                Ok(replica) => {
                    self.insert(Arc::clone(&replica));
                    self.shared.roll.started(partition);
                    let parent = self.replica(parent);
                    if let Some(parent) = &parent {
                        // Its range is another one now.
                        self.shared.changes.mark(parent.id());
                    }
                    let leads = parent.is_some_and(|parent| parent.is_leader());
                    if leads {
                        tokio::spawn(replica.lead_at_once());
                    } else {
                        tokio::spawn(replica.campaign_later(CHILD_LEADERLESS_MAX));
                    }
                }
                Err(error) => {
                    // It is on the disk, and starts with the process.
                    tracing::error!(%partition, %error, "a child could not be started");
                    self.shared.store_failed.cancel();
                    return;
                }
            }
        }
    }

    /// Waits a moment for a replica that may be about to be born. Whoever asks looks again.
    pub(super) async fn await_birth(&self, is_here: impl Fn() -> bool) {
        let Ok(_permit) = self.shared.leader_waits.try_acquire() else { return };
        let mut arrivals = self.arrivals.subscribe();
        let waiting = async {
            while !is_here() {
                if arrivals.changed().await.is_err() {
                    return;
                }
            }
        };
        // Level, not edge.
        let _ = runtime::time::timeout(self.shared.options.leader_wait_max, waiting).await;
    }

    /// The partition's replica here, also if it is just being born.
    pub async fn replica_at_once(&self, partition: PartitionId) -> Option<Arc<Replica>> {
        if self.replica(partition).is_none() && self.shared.roll.is_born(partition) {
            runtime::mark!("request: waited for the birth of its partition");
            self.await_birth(|| self.replica(partition).is_some()).await;
        }
        self.replica(partition)
    }

    /// The partition's replica here.
    pub fn replica(&self, partition: PartitionId) -> Option<Arc<Replica>> {
        self.read_replicas(|replicas| replicas.by_partition.get(&partition).cloned())
    }

    pub fn replica_by_id(&self, replica: ReplicaId) -> Option<Arc<Replica>> {
        self.read_replicas(|replicas| {
            replicas.by_partition.get(replicas.by_id.get(&replica)?).cloned()
        })
    }

    /// All replicas, in order of their partitions' ids.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.read_replicas(|replicas| replicas.by_partition.values().cloned().collect())
    }

    /// Whether the replica was destroyed here.
    pub fn is_destroyed(&self, replica: ReplicaId) -> bool {
        self.read_replicas(|replicas| replicas.destroyed.contains_key(&replica))
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    pub fn node(&self) -> NodeId {
        self.shared.node
    }

    /// The time by which the engine measures.
    pub fn now(&self) -> Moment {
        self.shared.environment.now()
    }

    pub fn zone_id(&self) -> &str {
        &self.zone_id
    }

    /// Reports of all replicas, tombstones included.
    pub fn reports(&self) -> Vec<v1::ReplicaReport> {
        let destroyed = self.read_replicas(|replicas| replicas.destroyed.clone());
        let destroyed =
            destroyed.into_iter().map(|(replica, partition)| destroyed_report(partition, replica));
        self.replicas().iter().map(|replica| replica.report()).chain(destroyed).collect()
    }

    /// The report of one replica; none if it never was here.
    pub fn report(&self, replica: ReplicaId) -> Option<v1::ReplicaReport> {
        if let Some(replica) = self.replica_by_id(replica) {
            return Some(replica.report());
        }
        let partition = self.read_replicas(|replicas| replicas.destroyed.get(&replica).copied())?;
        Some(destroyed_report(partition, replica))
    }

    /// The replicas that changed since the last call; waits for the first. For one caller only.
    pub async fn changed(&self) -> BTreeSet<ReplicaId> {
        self.shared.changes.take().await
    }

    /// Below its reserve of disk space the node refuses client writes and new replicas.
    pub fn set_disk_below_reserve(&self, below: bool) {
        self.shared.disk_below_reserve.store(below, Relaxed);
    }

    /// Cancelled when the store has failed: then the process has to stop.
    pub fn failed(&self) -> CancellationToken {
        self.shared.store_failed.clone()
    }

    /// Leaders on that node count as gone until they are heard of again. To be called when its process is
    /// a new one. (A connection that broke and came back says nothing: an idle leader is heard of only
    /// every few seconds.)
    pub fn forget_leaders_on(&self, node: NodeId) {
        for replica in self.replicas() {
            replica.forget_leader_on(node);
        }
    }

    /// To be called when this node's watch loses another node: besides
    /// [`forget_leaders_on`](Self::forget_leaders_on), checks for each group that is led here with a voter
    /// there whether its leadership still holds. What comes of it is in the reports.
    pub async fn confirm_led_with(&self, lost: NodeId) {
        self.forget_leaders_on(lost);
        let replicas = self.replicas();
        let led = replicas.iter().filter(|replica| {
            replica.is_leader() && replica.voters().iter().any(|voter| voter.node == lost)
        });
        futures_util::future::join_all(led.map(|replica| replica.confirm())).await;
    }

    /// Makes the replica, if it is not there.
    pub async fn ensure(&self, order: EnsureReplica) -> Result<(), PlacementError> {
        let _lifecycle = self.lifecycle.lock().await;
        let EnsureReplica { partition, replica, .. } = order;
        if self.stopping.is_cancelled() {
            return Err(PlacementError::ShuttingDown);
        }
        if self.is_destroyed(replica) {
            return Err(PlacementError::Destroyed(replica));
        }
        self.start_born().await;
        if let Some(present) = self.replica_by_id(replica) {
            if present.partition() != partition {
                let partition = present.partition();
                return Err(PlacementError::OtherPartition { replica, partition });
            }
            if !planted::is_planted(Bug::StepRepeated) {
                runtime::mark!("order: the replica was there already");
                return Ok(());
            }
            self.unmake(&present).await?;
        }
        if let Some(other) = self.replica(partition) {
            return Err(PlacementError::AnotherReplica { other: other.id() });
        }
        if self.shared.disk_below_reserve.load(Relaxed) {
            return Err(PlacementError::DiskBelowReserve);
        }
        if !order.range.is_proper() {
            return Err(PlacementError::EmptyRange);
        }
        let here = Placement { replica, node: self.shared.node };
        if !order.founders.is_empty() && !order.founders.contains(&here) {
            return Err(PlacementError::NotFounder);
        }

        let campaign = order.campaign;
        let record = ReplicaRecord {
            partition,
            replica,
            range: order.range,
            range_epoch: order.range_epoch,
            founders: order.founders,
        };
        self.write_new(&record)?;
        synced(self.shared.store.as_ref()).await?;

        let replica = Replica::start(Arc::clone(&self.shared), record).await?;
        self.insert(Arc::clone(&replica));
        if campaign {
            tokio::spawn(replica.campaign_until_led());
        }
        Ok(())
    }

    /// Writes the records of a replica that is to begin empty.
    fn write_new(&self, record: &ReplicaRecord) -> Result<(), PlacementError> {
        let replica = record.replica;
        let mut roll = self.shared.roll.lock();
        // Born since it was looked for: the next order finds it.
        if let Some(other) = roll.replica(record.partition) {
            return Err(PlacementError::AnotherReplica { other });
        }
        let mut batch = Batch::new();
        let lineage = self.lineages.allocate(&mut batch);
        batch.put(keys::META, keys::replica(replica), records::encode(record));
        batch.put(keys::STATE, keys::state(replica), GroupState::new(lineage).encode());
        if !record.founders.is_empty() {
            let first = first_entry(&record.founders);
            runtime::raft::bootstrap::<TypeConfig>(&mut batch, replica.0, &first);
        }
        self.shared.store.write(batch)?;
        roll.add(record.partition, replica, lineage);
        Ok(())
    }

    /// What only a planted bug does: takes a replica away as if it had never been here.
    async fn unmake(&self, replica: &Replica) -> Result<(), StoreError> {
        replica.stop().await;
        let mut batch = Batch::new();
        batch.delete(keys::META, keys::replica(replica.id()));
        batch.delete(keys::STATE, keys::state(replica.id()));
        runtime::raft::delete_group(&mut batch, replica.id().0);
        self.shared.store.write(batch)?;
        self.shared.roll.lock().remove(replica.partition(), replica.id());
        self.write_replicas(|replicas| {
            replicas.by_id.remove(&replica.id());
            replicas.by_partition.remove(&replica.partition());
        });
        Ok(())
    }

    /// Destroys the replica for good, its data included; a tombstone stays. `superseded_by` is the
    /// membership that the group has committed without it.
    pub async fn destroy(
        &self,
        partition: PartitionId,
        replica: ReplicaId,
        superseded_by: Option<RaftLogId>,
    ) -> Result<(), PlacementError> {
        let _lifecycle = self.lifecycle.lock().await;
        if self.is_destroyed(replica) {
            runtime::mark!("order: the replica was destroyed already");
            return Ok(());
        }
        self.start_born().await;
        let present = self.replica_by_id(replica);
        if let Some(present) = &present {
            if present.partition() != partition {
                let partition = present.partition();
                return Err(PlacementError::OtherPartition { replica, partition });
            }
            let membership = present.membership();
            let votes = membership.voter_ids().any(|voter| voter == replica.0);
            if votes
                && *membership.log_id() >= superseded_by
                && !planted::is_planted(Bug::DestroyedBeforeRemoval)
            {
                return Err(PlacementError::StillVotes);
            }
            present.stop().await;
        }
        self.write_tombstone(partition, replica)?;
        synced(self.shared.store.as_ref()).await?;
        self.write_replicas(|replicas| {
            replicas.by_id.remove(&replica);
            if present.is_some() {
                replicas.by_partition.remove(&partition);
            }
            replicas.destroyed.insert(replica, partition);
        });
        self.shared.changes.mark(replica);
        Ok(())
    }

    fn write_tombstone(
        &self,
        partition: PartitionId,
        replica: ReplicaId,
    ) -> Result<(), StoreError> {
        let store = self.shared.store.as_ref();
        let mut roll = self.shared.roll.lock();
        let mut batch = Batch::new();
        let tombstone = Tombstone { partition };
        batch.put(keys::META, keys::tombstone(replica), records::encode(&tombstone));
        batch.delete(keys::META, keys::replica(replica));
        if let Some(state) = GroupState::load(store, replica)? {
            roll.leave_lineage(&mut batch, replica, &state);
        }
        batch.delete(keys::STATE, keys::state(replica));
        runtime::raft::delete_group(&mut batch, replica.0);
        store.write(batch)?;
        roll.remove(partition, replica);
        Ok(())
    }

    /// Stops all replicas; their data stays.
    pub async fn shutdown(&self) {
        self.stopping.cancel();
        let _lifecycle = self.lifecycle.lock().await;
        let replicas = self.replicas();
        futures_util::future::join_all(replicas.iter().map(|replica| replica.stop())).await;
    }
}

/// The replica id in a key of the node's records.
fn replica_of(key: &[u8]) -> Result<ReplicaId, StoreError> {
    let id = key.last_chunk().ok_or_else(|| StoreError::Corrupt {
        family: keys::META.0,
        message: "a replica's key is too short".into(),
    })?;
    Ok(ReplicaId(u64::from_be_bytes(*id)))
}

/// The entry that every founder of a group starts with. It is the same on all of them, so they agree on
/// it without having talked; no leader has the id 0, so no leader can have proposed another one there.
fn first_entry(founders: &[Placement]) -> RaftEntry {
    let voters = founders.iter().map(|founder| founder.replica.0).collect();
    let nodes: BTreeMap<u64, ReplicaNode> = founders
        .iter()
        .map(|founder| (founder.replica.0, ReplicaNode { node_id: founder.node }))
        .collect();
    let membership = RaftMembership::new(vec![voters], nodes)
        .expect("every voter has a node: both come from the same founders");
    RaftEntry { log_id: log_id(0, 0, 0), payload: EntryPayload::Membership(membership) }
}

fn destroyed_report(partition: PartitionId, replica: ReplicaId) -> v1::ReplicaReport {
    v1::ReplicaReport {
        partition_id: partition.0,
        replica_id: replica.0,
        phase: v1::ReplicaPhase::Destroyed.into(),
        ..Default::default()
    }
}
