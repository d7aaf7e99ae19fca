//! What clients ask of a replica.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use openraft::{
    async_runtime::{Instant as _, WatchReceiver},
    error::{ClientWriteError, ForwardReason, ForwardToLeader, RaftError},
};
use planted::Bug;
use runtime::store::{Scan, StoreError};
use std::sync::atomic::Ordering::Relaxed;

use super::{
    command::{
        Applied, Condition, Mutation, Operation, PartitionCommand, PartitionOutcome, Write,
        WriteId, WriteOutcome,
    },
    error::RequestError,
    instruments, keys,
    records::{self, GroupState, StoredValue},
    replica::Replica,
    turns::{Turn, TurnGate, Turned},
    types::{KeyRange, Lineage, NodeId, Placement, ReplicaId, TypeConfig},
};

/// How far ahead of partition time a write may expire.
pub const EXPIRY_AHEAD_MAX_MS: u64 = 60_000;
/// A page of a list ends before it has more bytes than this.
pub const LIST_BYTES_MAX: usize = 1024 * 1024;
/// A quorum that has acknowledged a leader so lately lets it take writes: much less than a lease lasts.
const ACKNOWLEDGED_LATELY: Duration = Duration::from_millis(500);
/// What one item of a page costs besides its key and value, at most.
const ITEM_OVERHEAD_BYTES: usize = 32;

/// A client's write, well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRequest {
    pub range_epoch: u64,
    pub key: Bytes,
    pub mutation: Mutation,
    pub condition: Condition,
    pub write_id: WriteId,
    pub expires_at_ms: u64,
}

/// A key with its value and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub key: Bytes,
    pub value: Bytes,
    pub version: u64,
}

/// A client's question for keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    pub range_epoch: u64,
    pub prefix: Bytes,
    pub start_after: Bytes,
    pub limit: usize,
}

/// One page of the answer. See `ListResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    pub items: Vec<Found>,
    pub covered_to: Bytes,
    pub more_here: bool,
}

/// What became of one attempt to put a command into the log.
enum Proposed {
    Applied(PartitionOutcome),
    /// Nothing: no quorum has confirmed this leadership yet, or not for long.
    Unconfirmed,
}

impl Replica {
    /// Partition time now, for answers.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Writes one key, and answers when the outcome is known: a write id that was applied before gives
    /// the outcome of then.
    pub async fn write(&self, request: WriteRequest) -> Result<Applied, RequestError> {
        if self.shared.disk_below_reserve.load(Relaxed) {
            return Err(RequestError::Exhausted {
                problem: "the node's disk is below its reserve: it refuses writes",
                retry_after: Duration::from_secs(1),
            });
        }
        let key = request.key.clone();
        // A write is large: it is not to be moved along with all that waits for it.
        let work = Box::pin(self.do_write(request));
        self.heat.request(&self.shared.environment, Some(&key), work).await
    }

    async fn do_write(&self, request: WriteRequest) -> Result<Applied, RequestError> {
        self.await_leading().await?;
        let state = self.view.state();
        self.check_range(&state, request.range_epoch, &request.key)?;
        let key = request.key.clone();
        let _turn = self.turn(&self.write_turns, "writes", &key).await?;
        let now_ms = self.clock.now_ms();
        let problem = if request.expires_at_ms == 0 {
            Some("a write needs an expiry")
        } else if request.expires_at_ms < now_ms && !planted::is_planted(Bug::ExpiredWriteApplied) {
            Some("the write has expired")
        } else if request.expires_at_ms > now_ms.saturating_add(EXPIRY_AHEAD_MAX_MS) {
            Some("the write's expiry is more than 60 s ahead")
        } else {
            None
        };
        if let Some(problem) = problem {
            runtime::mark!("write refused", problem);
            return Err(RequestError::Expiry { problem, now_ms });
        }
        let Ok(_permit) = self.shared.writes_in_flight.try_acquire() else {
            return Err(RequestError::Exhausted {
                problem: "too many writes are under way on this node",
                retry_after: Duration::from_millis(20),
            });
        };

        let bytes = request.key.len()
            + match &request.mutation {
                Mutation::Put { value } => value.len(),
                Mutation::Delete => 0,
            };
        let write = Write {
            write_id: request.write_id,
            expires_at_ms: request.expires_at_ms,
            range_epoch: request.range_epoch,
            key: request.key,
            mutation: request.mutation,
            condition: request.condition,
        };
        let outcome = self.propose(self.command(now_ms, Operation::Write(write))).await?;
        self.heat.wrote(&key, bytes);
        match outcome {
            PartitionOutcome::Write(WriteOutcome::Applied(applied)) => Ok(applied),
            PartitionOutcome::Write(WriteOutcome::ConditionFailed { current_version }) => {
                Err(RequestError::ConditionFailed { current_version })
            }
            PartitionOutcome::Write(WriteOutcome::WrongRange { range, range_epoch }) => {
                Err(self.wrong_range(range, range_epoch))
            }
            PartitionOutcome::Write(WriteOutcome::Expired { now_ms }) => {
                Err(RequestError::Expiry { problem: "the write has expired", now_ms })
            }
            PartitionOutcome::Nothing
            | PartitionOutcome::Created
            | PartitionOutcome::Measured
            | PartitionOutcome::Split(_) => Err(RequestError::OutcomeUnknown {
                problem: "the entry was answered as another one".to_owned(),
            }),
        }
    }

    pub(super) async fn propose(
        &self,
        command: PartitionCommand,
    ) -> Result<PartitionOutcome, RequestError> {
        match self.propose_once(command.clone()).await? {
            Proposed::Applied(outcome) => return Ok(outcome),
            // A leader has to have been heard by a quorum before it takes writes.
            Proposed::Unconfirmed => self.confirm_soon().await?,
        }
        match self.propose_once(command).await? {
            Proposed::Applied(outcome) => Ok(outcome),
            Proposed::Unconfirmed => Err(RequestError::Unavailable {
                partition: self.partition(),
                problem: "no quorum has confirmed the leadership for long".to_owned(),
            }),
        }
    }

    async fn propose_once(&self, command: PartitionCommand) -> Result<Proposed, RequestError> {
        let unknown = |problem: String| RequestError::OutcomeUnknown { problem };
        let limit = self.shared.options.write_timeout;
        let proposal = runtime::time::timeout(limit, self.raft.client_write(command));
        match proposal.await {
            Ok(Ok(response)) => Ok(Proposed::Applied(response.data)),
            Ok(Err(RaftError::APIError(error))) => match error {
                // The only refusals that come before the entry is in the log.
                ClientWriteError::ForwardToLeader(forward) => match forward.reason {
                    ForwardReason::LeaseExpired => Ok(Proposed::Unconfirmed),
                    ForwardReason::LeadershipTransfer => Err(self.await_successor().await),
                    // By now this replica follows, or votes for somebody.
                    ForwardReason::NotLeader if forward.leader_id.is_none() => {
                        Err(self.await_successor().await)
                    }
                    ForwardReason::NotLeader => Err(self.forwarded(forward)),
                },
                ClientWriteError::LogEntryDiscarded(_) => {
                    runtime::mark!("write: a new leader discarded its entry");
                    Err(unknown("the leader changed while it was under way".to_owned()))
                }
                ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_) => Err(unknown(error.to_string())),
            },
            Ok(Err(RaftError::Fatal(fatal))) => Err(unknown(fatal.to_string())),
            Err(_) => {
                runtime::mark!("write: not committed in time");
                Err(unknown(format!("it was not committed within {limit:?}")))
            }
        }
    }

    /// Returns when a quorum has heard of this leadership, which does not take long.
    async fn confirm_soon(&self) -> Result<(), RequestError> {
        let limit = self.shared.options.leader_wait_max;
        // By its first message already; until what it leads is applied, for which reads have to wait, it takes
        // two syncs more.
        let heard = async {
            let mut metrics = self.raft.data_metrics();
            loop {
                let acknowledged = metrics.borrow_watched().last_quorum_acked;
                if acknowledged.is_some_and(|at| at.elapsed() < ACKNOWLEDGED_LATELY) {
                    return;
                }
                if metrics.changed().await.is_err() {
                    // The core has stopped: the other half says so.
                    return std::future::pending().await;
                }
            }
        };
        let confirmed = runtime::time::timeout(limit, async {
            tokio::select! {
                biased;
                () = heard => Ok(()),
                confirmed = self.reads.confirm() => confirmed,
            }
        });
        runtime::mark!("write: waited until a quorum had confirmed the leadership");
        confirmed.await.unwrap_or_else(|_| {
            Err(RequestError::Unavailable {
                partition: self.partition(),
                problem: format!("no quorum has confirmed the leadership within {limit:?}"),
            })
        })
    }

    fn forwarded(&self, forward: ForwardToLeader<TypeConfig>) -> RequestError {
        let leader = forward.leader_id.map(|replica| Placement {
            replica: ReplicaId(replica),
            node: forward.leader_node.map_or(NodeId(0), |node| node.node_id),
        });
        RequestError::WrongLeader { partition: self.partition(), leader }
    }

    fn check_range(
        &self,
        state: &GroupState,
        range_epoch: u64,
        key: &[u8],
    ) -> Result<(), RequestError> {
        match &state.range {
            None => Err(RequestError::Unavailable {
                partition: self.partition(),
                problem: "the group has no range yet".to_owned(),
            }),
            Some(range) if state.range_epoch == range_epoch && range.contains(key) => Ok(()),
            Some(_) if planted::is_planted(Bug::RangeCheckMissing) => Ok(()),
            Some(range) => Err(self.wrong_range(Some(range.clone()), state.range_epoch)),
        }
    }

    fn wrong_range(&self, range: Option<KeyRange>, range_epoch: u64) -> RequestError {
        RequestError::WrongRange {
            partition: self.partition(),
            range,
            range_epoch,
            split_off: self.view.split_off(),
            node: self.shared.node,
        }
    }

    fn unreadable(&self, error: StoreError) -> RequestError {
        tracing::error!(partition = %self.partition(), %error, "a read failed");
        RequestError::Unavailable { partition: self.partition(), problem: error.to_string() }
    }

    /// A turn for this key: at once, unless the partition is crowded and the key has its share.
    async fn turn<'a>(
        &'a self,
        gate: &'a TurnGate,
        kind: &'static str,
        key: &'a Bytes,
    ) -> Result<Turn<'a>, RequestError> {
        let limit = self.shared.options.turn_wait_max;
        match gate.enter(key, &self.shared.turn_waits, limit).await {
            Turned::AtOnce(turn) => Ok(turn),
            Turned::Waited(turn) => {
                runtime::mark!("request: waited for the turn of its key");
                self.note_throttled(kind);
                Ok(turn)
            }
            Turned::Refused { under_way } => {
                self.note_throttled(kind);
                Err(RequestError::Throttled {
                    partition: self.partition(),
                    key: key.clone(),
                    kind,
                    under_way,
                    retry_after: limit,
                })
            }
        }
    }

    fn note_throttled(&self, kind: &'static str) {
        self.heat.throttled();
        instruments::throttled(kind);
    }

    /// Whether a quorum confirms that this replica leads, which it does as far as it knows.
    async fn confirm_leadership(&self) -> Result<(), RequestError> {
        if planted::is_planted(Bug::CutOffLeaderReads) {
            return Ok(());
        }
        match self.reads.confirm().await {
            Err(RequestError::WrongLeader { leader, .. })
                if leader.is_none() || self.is_leader() =>
            {
                Err(self.await_successor().await)
            }
            confirmed => confirmed,
        }
    }

    /// Reads one key.
    pub async fn get(&self, range_epoch: u64, key: &Bytes) -> Result<Option<Found>, RequestError> {
        let work = self.do_get(range_epoch, key);
        self.heat.request(&self.shared.environment, Some(key), work).await
    }

    async fn do_get(&self, range_epoch: u64, key: &Bytes) -> Result<Option<Found>, RequestError> {
        // What another replica has to answer is refused without a round to the quorum.
        self.await_leading().await?;
        let _turn = self.turn(&self.read_turns, "reads", key).await?;
        self.confirm_leadership().await?;
        let stored: Option<StoredValue> = self.view.read(|state, reader| {
            self.check_range(state, range_epoch, key)?;
            records::read(reader, keys::DATA, &keys::data(state.lineage, key))
                .map_err(|error| self.unreadable(error))
        })?;
        let found = stored.map(|stored| Found {
            key: key.clone(),
            value: stored.value,
            version: stored.version,
        });
        self.heat.read(key, key.len() + found.as_ref().map_or(0, |found| found.value.len()));
        Ok(found)
    }

    /// Lists keys in order.
    pub async fn list(&self, query: &ListQuery) -> Result<ListPage, RequestError> {
        self.heat.request(&self.shared.environment, None, self.do_list(query)).await
    }

    async fn do_list(&self, query: &ListQuery) -> Result<ListPage, RequestError> {
        self.await_leading().await?;
        self.confirm_leadership().await?;
        let (state, reader) = self.view.snapshot();
        let Some(range) = &state.range else {
            return Err(RequestError::Unavailable {
                partition: self.partition(),
                problem: "the group has no range yet".to_owned(),
            });
        };
        let Some(bounds) = ListBounds::new(range, query) else {
            return Err(self.wrong_range(Some(range.clone()), state.range_epoch));
        };
        if state.range_epoch != query.range_epoch {
            return Err(self.wrong_range(Some(range.clone()), state.range_epoch));
        }

        let mut page = ListPage { covered_to: bounds.go_on_at.clone(), ..ListPage::default() };
        let mut bytes = 0;
        for entry in reader.scan(keys::DATA, bounds.scan(state.lineage)) {
            let (full_key, record) = entry.map_err(|error| self.unreadable(error))?;
            let key = keys::without_lineage(&full_key);
            if planted::is_planted(Bug::ListSkipsKey)
                && !query.start_after.is_empty()
                && key == bounds.start
            {
                continue;
            }
            let stored: StoredValue =
                records::decode(keys::DATA, &record).map_err(|error| self.unreadable(error))?;
            let item_bytes = key.len() + stored.value.len() + ITEM_OVERHEAD_BYTES;
            let full = page.items.len() >= query.limit
                || (bytes + item_bytes > LIST_BYTES_MAX && !page.items.is_empty());
            if full {
                page.covered_to = key;
                page.more_here = true;
                break;
            }
            bytes += item_bytes;
            page.items.push(Found { key, value: stored.value, version: stored.version });
        }
        self.heat.listed(bytes);
        Ok(page)
    }
}

/// The keys of one partition that a question asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ListBounds {
    start: Bytes,
    /// Empty: to the end of the key space.
    end: Bytes,
    /// Where the answer goes on after this partition; empty: nowhere.
    go_on_at: Bytes,
}

impl ListBounds {
    /// None if nothing of the question can be in the range.
    fn new(range: &KeyRange, query: &ListQuery) -> Option<Self> {
        let mut start = range.start.clone().max(query.prefix.clone());
        if !query.start_after.is_empty() {
            let mut successor = BytesMut::from(query.start_after.as_ref());
            successor.extend_from_slice(&[0]);
            start = start.max(successor.freeze());
        }
        if !range.contains(&start) {
            return None;
        }
        let prefix_end = runtime::store::prefix_end(&query.prefix).unwrap_or_default();
        let partition_ends_first =
            !range.end.is_empty() && (prefix_end.is_empty() || range.end < prefix_end);
        let (end, go_on_at) = if partition_ends_first {
            (range.end.clone(), range.end.clone())
        } else {
            (prefix_end, Bytes::new())
        };
        Some(Self { start, end, go_on_at })
    }

    fn scan(&self, lineage: Lineage) -> Scan {
        let end = if self.end.is_empty() {
            keys::lineage(Lineage(lineage.0 + 1))
        } else {
            keys::data(lineage, &self.end)
        };
        // A start behind the end of the prefix: an empty range, not an inverted one.
        let start = keys::data(lineage, &self.start).min(end.clone());
        Scan::range(start, end)
    }
}
