//! One running member of a partition's group.
//!
//! What clients ask of it is in [`requests`](super::requests), what the control plane and the peers ask in
//! [`membership`](super::membership) and [`takeover`](super::takeover), what it says of itself in
//! [`report`](super::report). Here are its parts, its start, its supervision and its end.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use openraft::{
    Config, Raft,
    alias::WatchReceiverOf,
    async_runtime::WatchReceiver,
    error::Fatal,
    metrics::{RaftDataMetrics, RaftServerMetrics},
    storage::RaftLogReader as _,
};
use runtime::{
    raft::{LogStore, RaftRuntime},
    seams::{Environment, Moment},
    store::{Store, StoreError},
};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    clock::PartitionClock,
    command::{Operation, PartitionCommand},
    heat::{Changes, Heat, StoredEstimate},
    log_hold::LogHold,
    options::EngineOptions,
    reads::{ReadGate, ReadRounds},
    records::{GroupState, ReplicaRecord},
    roll::Roll,
    sight::LeaderSight,
    snapshot_receive::Kept,
    state_machine::StateMachine,
    transport::{Campaign, GroupTransport, Network, PeerWatch},
    turns::TurnGate,
    types::{NodeId, PartitionId, Placement, RaftVote, ReplicaId, TypeConfig},
    view::GroupView,
};

/// The core of a partition's group.
pub type PartitionRaft = Raft<TypeConfig, StateMachine>;

/// How long to wait before a step that failed for want of others is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long the first election of a child takes at most before it is tried again.
const FIRST_ELECTION: Duration = Duration::from_millis(300);

/// How often a replica reports that its log has grown, if nothing else is to report.
const POSITION_INTERVAL: Duration = Duration::from_secs(5);

/// What all replicas of a node share.
pub(super) struct Shared {
    pub(super) environment: Environment,
    pub(super) store: Arc<dyn Store>,
    pub(super) node: NodeId,
    pub(super) transport: Arc<dyn GroupTransport>,
    pub(super) watch: Arc<dyn PeerWatch>,
    pub(super) options: EngineOptions,
    pub(super) raft_config: Arc<Config>,
    pub(super) changes: Changes,
    pub(super) roll: Arc<Roll>,
    pub(super) disk_below_reserve: AtomicBool,
    pub(super) writes_in_flight: Semaphore,
    /// Turns of hand-overs.
    pub(super) hand_overs: Semaphore,
    /// Requests that wait here for a partition's next leader.
    pub(super) leader_waits: Semaphore,
    /// Requests that wait here because their key has its share of what is under way.
    pub(super) turn_waits: Semaphore,
    /// Cancelled when the store failed: the process has to stop.
    pub(super) store_failed: CancellationToken,
}

/// Why a replica could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("replica {replica} of partition {partition} could not be started")]
    Raft {
        partition: PartitionId,
        replica: ReplicaId,
        #[source]
        source: Box<Fatal<TypeConfig>>,
    },
    #[error(
        "replica {replica} of partition {partition} has no state: the data directory is damaged"
    )]
    NoState { partition: PartitionId, replica: ReplicaId },
    #[error("the vote of replica {replica} of partition {partition} cannot be read")]
    Vote {
        partition: PartitionId,
        replica: ReplicaId,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub struct Replica {
    pub(super) record: ReplicaRecord,
    pub(super) shared: Arc<Shared>,
    pub(super) raft: PartitionRaft,
    /// What the core says of itself, looked at often: so it is not asked for anew each time.
    pub(super) server: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
    pub(super) data: WatchReceiverOf<TypeConfig, RaftDataMetrics<TypeConfig>>,
    pub(super) view: Arc<GroupView>,
    pub(super) clock: Arc<PartitionClock>,
    pub(super) campaign: Arc<Campaign>,
    pub(super) reads: ReadGate,
    pub(super) read_turns: TurnGate,
    pub(super) write_turns: TurnGate,
    pub(super) heat: Arc<Heat>,
    pub(super) stored: StoredEstimate,
    /// Whether the last attempt to confirm leadership failed.
    doubted: Arc<AtomicBool>,
    /// One snapshot is received at a time.
    pub(super) receiving: AtomicBool,
    /// What has come of one that broke off.
    pub(super) kept: Kept,
    failure: Mutex<Option<String>>,
    pub(super) sight: Mutex<LeaderSight>,
    /// Rises when another leader is heard of.
    pub(super) sightings: watch::Sender<u64>,
    /// How far the others were, roughly, when the last tick looked.
    standing: Mutex<Vec<Standing>>,
    position: Mutex<ReportedPosition>,
    stopping: CancellationToken,
}

/// Where the log ended when that was reported for its own sake, and when.
struct ReportedPosition {
    last_index: Option<u64>,
    at: Moment,
}

/// How far a leader knows another replica to be, so roughly that it seldom changes: who it is, whether
/// anything is known, and the order of magnitude of its lag.
type Standing = (u64, bool, u32);

/// The term in which this vote's leader was elected, as far as is known.
fn elected_in(vote: Option<RaftVote>) -> Option<u64> {
    vote.filter(RaftVote::is_committed).map(|vote| vote.leader_id().term)
}

impl Replica {
    /// Starts the replica from what the store holds.
    pub(super) async fn start(
        shared: Arc<Shared>,
        record: ReplicaRecord,
    ) -> Result<Arc<Self>, StartError> {
        let (partition, replica) = (record.partition, record.replica);
        let state = GroupState::load(shared.store.as_ref(), replica)?
            .ok_or(StartError::NoState { partition, replica })?;
        let clock_seam = Arc::clone(&shared.environment.clock);
        let clock = Arc::new(PartitionClock::new(Arc::clone(&clock_seam), state.time_ms));
        let view = Arc::new(GroupView::new(Arc::clone(&shared.store), state));
        let campaign = Arc::new(Campaign::default());
        let network = Network {
            transport: Arc::clone(&shared.transport),
            clock: clock_seam,
            partition,
            from: replica,
            campaign: Arc::clone(&campaign),
            request_timeout: shared.options.request_timeout,
        };
        let mut log = LogStore::<TypeConfig>::new(Arc::clone(&shared.store), replica.0);
        let stored_vote = log.read_vote().await.map_err(|source| StartError::Vote {
            partition,
            replica,
            source,
        })?;
        let heat = Arc::new(Heat::default());
        let state_machine = StateMachine {
            partition,
            replica,
            roll: Arc::clone(&shared.roll),
            view: Arc::clone(&view),
            clock: Arc::clone(&clock),
            heat: Arc::clone(&heat),
            processor_time: Arc::clone(&shared.environment.processor_time),
            log_hold: LogHold::default(),
            log_entries_held_max: shared.options.log_entries_held_max,
        };
        let starting =
            Raft::new(replica.0, Arc::clone(&shared.raft_config), network, log, state_machine);
        let seed = shared.environment.randomness.next_u64();
        let raft = RaftRuntime::scope(seed, Box::pin(starting))
            .await
            .map_err(|source| StartError::Raft { partition, replica, source: Box::new(source) })?;

        let stopping = CancellationToken::new();
        let doubted = Arc::new(AtomicBool::new(false));
        let reads = ReadGate::start(
            ReadRounds {
                partition,
                raft: raft.clone(),
                timeout: shared.options.read_timeout,
                waiting_max: shared.options.reads_waiting_max,
                on_round: {
                    let (doubted, shared) = (Arc::clone(&doubted), Arc::clone(&shared));
                    Box::new(move |answer| {
                        if doubted.swap(answer.is_err(), Relaxed) != answer.is_err() {
                            shared.changes.mark(replica);
                        }
                    })
                },
            },
            stopping.clone(),
        );
        let now = shared.environment.now();
        let turns = || TurnGate::new(shared.options.turns);
        let (read_turns, write_turns) = (turns(), turns());
        let this = Arc::new(Self {
            record,
            shared,
            server: raft.server_metrics(),
            data: raft.data_metrics(),
            raft,
            view,
            clock,
            campaign,
            reads,
            read_turns,
            write_turns,
            heat,
            stored: StoredEstimate::default(),
            doubted,
            receiving: AtomicBool::new(false),
            kept: Kept::default(),
            failure: Mutex::new(None),
            sight: Mutex::new(LeaderSight::starting_at(now)),
            sightings: watch::Sender::new(0),
            standing: Mutex::default(),
            position: Mutex::new(ReportedPosition { last_index: None, at: now }),
            stopping,
        });
        tokio::spawn(Arc::clone(&this).supervise(elected_in(stored_vote)));
        Ok(this)
    }

    pub fn partition(&self) -> PartitionId {
        self.record.partition
    }

    pub fn id(&self) -> ReplicaId {
        self.record.replica
    }

    /// Watches the core: reports what changes, hears of new leaders, gives a new group its range, notices the
    /// core's end. `elected_in` is the newest term of which the store says that it had a leader.
    async fn supervise(self: Arc<Self>, mut elected_in: Option<u64>) {
        let mut metrics = self.raft.server_metrics();
        loop {
            self.shared.changes.mark(self.id());
            let vote = metrics.borrow_watched().vote;
            if self::elected_in(Some(vote)) > elected_in {
                elected_in = self::elected_in(Some(vote));
                self.hear_elected(ReplicaId(vote.leader_id().node_id));
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                changed = metrics.changed() => if changed.is_err() { break },
                () = self.settle() => {}
            }
        }
        self.note_failure().await;
    }

    /// What a new leader still has to do. It returns once that is done, and never if there is nothing.
    async fn settle(&self) {
        let mut worked = false;
        while self.raft.is_leader() {
            let has_range = self.view.state().range.is_some();
            if has_range && self.leads_with_quorum() {
                break;
            }
            worked = true;
            // Once this is confirmed, what an earlier leader may have proposed is applied, too: so there
            // is one Create at most in the usual case. The state machine takes the first of several.
            let confirmed = self.reads.confirm().await.is_ok();
            let has_range = self.view.state().range.is_some();
            let done = confirmed && (has_range || self.create().await);
            if !done {
                runtime::time::sleep(RETRY_PAUSE).await;
            }
        }
        if !worked {
            std::future::pending::<()>().await;
        }
    }

    async fn note_failure(&self) {
        let state = self.raft.metrics().borrow_watched().running_state.clone();
        let message = match state {
            Err(Fatal::Stopped) | Ok(()) => "the group's core has stopped".to_owned(),
            Err(fatal) => format!("the group's core has stopped: {fatal}"),
        };
        tracing::error!(partition = %self.partition(), replica = %self.id(), message, "replica failed");
        // Was it the store? Then it is over for all replicas of this node, and nothing is to be said of this
        // one: after a start it may be as good as ever.
        if let Err(error) = runtime::store::synced(self.shared.store.as_ref()).await {
            tracing::error!(%error, "the store has failed");
            self.shared.store_failed.cancel();
            return;
        }
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        self.shared.changes.mark(self.id());
    }

    /// A command as this leader proposes it.
    pub(super) fn command(&self, now_ms: u64, operation: Operation) -> PartitionCommand {
        let checkpoint = self.view.state().digest.newest();
        PartitionCommand::new(now_ms, operation).with_checkpoint(checkpoint)
    }

    /// Proposes the range of a group that has none; whether it has one now.
    async fn create(&self) -> bool {
        let operation = Operation::Create {
            range: self.record.range.clone(),
            range_epoch: self.record.range_epoch,
        };
        let command = self.command(self.clock.now_ms(), operation);
        let limit = self.shared.options.write_timeout;
        match runtime::time::timeout(limit, self.raft.client_write(command)).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::debug!(partition = %self.partition(), %error, "no range yet");
                false
            }
            Err(_) => {
                tracing::debug!(partition = %self.partition(), "no range yet: no quorum");
                false
            }
        }
    }

    /// Tries to be elected until the group has a leader, whoever it is; gives up after a while.
    pub(super) async fn campaign_until_led(self: Arc<Self>) {
        for _ in 0..100 {
            if self.leader().is_some() {
                return;
            }
            // Pre-vote first: no term is wasted while the others are not there yet.
            let elected = self.raft.trigger().elect(true).await;
            if elected.is_err() {
                return;
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                () = runtime::time::sleep(RETRY_PAUSE) => {}
            }
        }
    }

    /// Begins to lead a group that has just been split off, if nobody else does: with the parent's leader
    /// clients come here for it.
    pub(super) async fn lead_at_once(self: Arc<Self>) {
        // Without asking before: nobody else stands, and the others vote as soon as they have it, too.
        if self.leader().is_some() || self.raft.trigger().elect(false).await.is_err() {
            return;
        }
        self.campaign_later(FIRST_ELECTION).await;
    }

    /// Stands for election if nobody leads after a while.
    pub(super) async fn campaign_later(self: Arc<Self>, wait: Duration) {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => return,
            () = runtime::time::sleep(wait) => {}
        }
        self.campaign_until_led().await;
    }

    /// The voters of the latest membership that this replica knows of.
    pub fn voters(&self) -> Vec<Placement> {
        let membership = self.membership();
        let placement = |replica| Placement {
            replica: ReplicaId(replica),
            node: membership.get_node(&replica).map(|node| node.node_id).unwrap_or_default(),
        };
        membership.voter_ids().map(placement).collect()
    }

    /// Adds the nodes that these voters are on. A node asks it of all its replicas again and again.
    pub(crate) fn add_voters_nodes(&self, nodes: &mut BTreeSet<NodeId>) {
        let metrics = self.server.borrow_watched();
        let membership = metrics.membership_config.membership();
        for voter in membership.get_joint_config().iter().flatten() {
            if let Some(node) = membership.get_node(voter) {
                nodes.insert(node.node_id);
            }
        }
    }

    /// Whether this replica believes to lead.
    pub fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    /// Confirms that this replica leads; its reports say what came of it.
    pub(super) async fn confirm(&self) -> bool {
        self.reads.confirm().await.is_ok()
    }

    /// Whether leadership was not confirmed when it was tried last.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Relaxed)
    }

    /// Why the replica has stopped by itself, if it has.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What has to be done now and then: lets partition time go on, tries again to confirm a leadership
    /// that is in doubt, and reports how far learners are.
    pub(super) fn tick(self: &Arc<Self>) {
        self.clock.now_ms();
        let is_room_short = self.shared.disk_below_reserve.load(Relaxed);
        self.kept.expire(self.shared.environment.now(), is_room_short);
        if self.leader().is_some() {
            self.sight().known_at = self.shared.environment.now();
        }
        if self.note_position() {
            self.shared.changes.mark(self.id());
        }
        if !self.is_leader() {
            return;
        }
        if self.is_doubted() {
            let this = Arc::clone(self);
            tokio::spawn(async move { this.confirm().await });
        }
        let is_changing = {
            let metrics = self.server.borrow_watched();
            let membership = metrics.membership_config.membership();
            // Joint, or with learners.
            match membership.get_joint_config().as_slice() {
                [voters] => membership.nodes().count() > voters.len(),
                _ => true,
            }
        };
        if self.note_standing() || is_changing {
            self.shared.changes.mark(self.id());
        }
    }

    /// Whether the log has grown and that has not been reported for a while.
    fn note_position(&self) -> bool {
        let now = self.shared.environment.now();
        let mut reported = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(reported.at) < POSITION_INTERVAL {
            return false;
        }
        let last = self.data.borrow_watched().last_log.map(|last| last.index);
        let has_grown = reported.last_index != last;
        *reported = ReportedPosition { last_index: last, at: now };
        has_grown
    }

    /// Whether the others' standing has changed since this was last asked. Only the data metrics show
    /// it, and the control plane hands a leadership only to a replica that it knows to be close.
    fn note_standing(&self) -> bool {
        let data = self.data.borrow_watched();
        let last = data.last_log.map_or(0, |last| last.index + 1);
        let standing = data.replication.iter().flatten().map(|(replica, matched)| {
            let lag = last.saturating_sub(matched.map_or(0, |matched| matched.index + 1));
            (*replica, matched.is_some(), lag.checked_ilog2().unwrap_or(0) / 4)
        });
        let mut before = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.clone().eq(before.iter().copied()) {
            return false;
        }
        *before = standing.collect();
        true
    }

    /// Ends the replica's part in its group, and returns when nothing of it touches the store any more.
    pub async fn stop(&self) {
        self.stopping.cancel();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(partition = %self.partition(), %error, "the core did not end cleanly");
        }
        self.view.close();
    }
}
