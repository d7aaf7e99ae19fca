//! One member's part in the members' group: proposing, knowing who leads, handing leadership over.

use std::{sync::Arc, time::Duration};

use model::{Applied, Command, MemberId, Refusal, Term};
use openraft::{
    BasicNode, Config, Instant, LinearizerOption, LogIdOptionExt, RaftMetrics, ServerState,
    SnapshotPolicy,
    alias::WatchReceiverOf,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError},
};
use planted::Bug;
use runtime::{
    grpc::Channels,
    raft::{LogStore, RaftRuntime},
    seams::Environment,
    store::Store,
};

use super::{
    Answer, GROUP, Proposal, Raft, TypeConfig,
    network::MemberNetwork,
    state_machine::{GenerationCounter, LoadError, ZoneStateMachine},
    view::Zone,
};
use crate::configuration::RaftOptions;

/// After so long the outcome of a proposal counts as unknown.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a quorum may take to confirm that this member leads.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one successor may take to win its election.
const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(500);

/// Why the group could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the zone's state cannot be read")]
    Load(#[from] LoadError),
    #[error("the timers of Raft are impossible: {0}")]
    Config(#[from] openraft::ConfigError),
    #[error("Raft cannot start")]
    Raft(#[from] openraft::errors::Fatal<TypeConfig>),
}

/// Another member, as this one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: MemberId,
    pub address: String,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was done.
    #[error("this member does not lead")]
    NotLeader { leader: Option<Peer> },
    /// The state of the zone forbids it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It may or may not take effect.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
}

fn not_leader(forward: ForwardToLeader<TypeConfig>) -> ProposeError {
    let leader = forward.leader_id.zip(forward.leader_node);
    let leader = leader.map(|(id, node)| Peer { id: MemberId(id), address: node.addr });
    ProposeError::NotLeader { leader }
}

/// One other member, from the leader's point of view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replication {
    pub lag_entries: u64,
    /// Since when it has not answered; none: it never has.
    pub silent_for: Option<Duration>,
}

/// One member's handle to the group. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    raft: Raft,
    zone: Arc<Zone>,
    generations: Arc<GenerationCounter>,
    environment: Environment,
    member_id: MemberId,
    quorum_timeout: Duration,
}

fn config(options: &RaftOptions) -> Result<Config, openraft::ConfigError> {
    Config {
        cluster_name: "control-plane".into(),
        heartbeat_interval: options.heartbeat_interval_ms,
        election_timeout_min: options.election_timeout_min_ms,
        election_timeout_max: options.election_timeout_max_ms,
        enable_pre_vote: Some(true),
        // Without it, under a partial partition, an old leader's heartbeats can keep a connected
        // quorum from electing; it must be at least twice the longest election timeout.
        quorum_loss_probe_interval: Some(options.election_timeout_max_ms * 2),
        // A restarted leader must campaign like everybody else: its lease is gone.
        enable_leader_restore: Some(false),
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_after_entries),
        // A snapshot on its way does not hold back purging: keep what a receiver will need next.
        max_in_snapshot_log_to_keep: options.entries_kept,
        ..Config::default()
    }
    .validate()
}

/// Wakes when something about the group changes: who leads, how far it is.
pub struct GroupWatch(WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>);

impl GroupWatch {
    /// Waits for the next change; false when the group's core has ended.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Group {
    /// Joins the group as far as the store knows it. A member with an empty store belongs to none and
    /// votes for nobody.
    ///
    /// # Errors
    /// If the store cannot be read, or Raft cannot start from what it holds.
    pub async fn open(
        environment: Environment,
        store: Arc<dyn Store>,
        member_id: MemberId,
        channels: Channels,
        options: &RaftOptions,
    ) -> Result<Self, OpenError> {
        let config = Arc::new(config(options)?);
        let state_machine = ZoneStateMachine::open(Arc::clone(&store))?;
        let (zone, generations) = (state_machine.zone(), state_machine.generations());
        let network = MemberNetwork::new(member_id.get(), environment.clone(), channels);
        let log = LogStore::new(store, GROUP);
        let seed = environment.randomness.next_u64();
        let raft = Raft::new(member_id.get(), config, network, log, state_machine);
        let raft = RaftRuntime::scope(seed, raft).await?;
        let quorum_timeout = options.quorum_timeout();
        Ok(Self { raft, zone, generations, environment, member_id, quorum_timeout })
    }

    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    pub fn generations(&self) -> &GenerationCounter {
        &self.generations
    }

    pub fn member_id(&self) -> MemberId {
        self.member_id
    }

    /// Commits and applies a command.
    ///
    /// # Errors
    /// See [`ProposeError`]: only its first two kinds promise that nothing was done.
    pub async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        let write = self.raft.client_write(Proposal(command));
        let written = self.environment.timeout(PROPOSE_TIMEOUT, write).await;
        let Some(written) = written else {
            return Err(ProposeError::Unknown("it was not committed in time".into()));
        };
        match written {
            Ok(response) => match response.data {
                Answer::Outcome(outcome) => Ok(outcome?),
                Answer::Nothing => unreachable!("an entry with a command answers with its outcome"),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(not_leader(forward))
            }
            Err(error) => Err(ProposeError::Unknown(error.to_string())),
        }
    }

    /// Returns when a quorum has confirmed, after this was called, that this member leads, and everything
    /// that was committed before is applied here. A member that was frozen believes to lead until it hears
    /// otherwise.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] if it does not lead, or nobody confirms it.
    pub async fn confirm(&self) -> Result<(), ProposeError> {
        let option =
            LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(CONFIRM_TIMEOUT);
        let confirming = async {
            let linearizer = match self.raft.get_read_linearizer(option).await {
                Ok(linearizer) => linearizer,
                Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                    return Err(not_leader(forward));
                }
                Err(error) => {
                    tracing::debug!(%error, "nobody confirms that this member leads");
                    return Err(ProposeError::NotLeader { leader: None });
                }
            };
            match linearizer.try_await_ready(&self.raft, Some(CONFIRM_TIMEOUT)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(ProposeError::NotLeader { leader: None }),
            }
        };
        let confirmed = self.environment.timeout(CONFIRM_TIMEOUT, confirming).await;
        confirmed.unwrap_or(Err(ProposeError::NotLeader { leader: None }))
    }

    /// Makes the group: the first membership. Does nothing if exactly this was done before.
    ///
    /// # Errors
    /// If this member belongs to a group already, or Raft has stopped.
    pub async fn initialize(&self, members: &[Peer]) -> Result<(), String> {
        let members: std::collections::BTreeMap<u64, BasicNode> = members
            .iter()
            .map(|member| (member.id.get(), BasicNode::new(member.address.clone())))
            .collect();
        self.raft.initialize(members).await.map_err(|error| error.to_string())
    }

    /// Whether this member belongs to a group.
    pub async fn is_initialized(&self) -> bool {
        self.raft.is_initialized().await.unwrap_or(false)
    }

    /// The members, in the order of their ids.
    pub fn members(&self) -> Vec<Peer> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        membership
            .nodes()
            .map(|(id, node)| Peer { id: MemberId(*id), address: node.addr.clone() })
            .collect()
    }

    /// Who leads, as far as this member knows.
    pub fn leader(&self) -> Option<Peer> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let id = metrics.current_leader?;
        let node = metrics.membership_config.membership().get_node(&id)?;
        Some(Peer { id: MemberId(id), address: node.addr.clone() })
    }

    pub fn term(&self) -> Term {
        Term(self.raft.metrics().borrow_watched().current_term)
    }

    pub fn watch(&self) -> GroupWatch {
        GroupWatch(self.raft.metrics())
    }

    /// Why the group's core has stopped; none while it runs.
    pub fn failure(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.running_state.as_ref().err().map(ToString::to_string)
    }

    /// The term in which this member leads, if it may give orders: a quorum has acknowledged it a
    /// moment ago, and it has applied the first entry of its own term, so that it knows everything
    /// that former leaders have decided.
    pub fn reigning_term(&self) -> Option<Term> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader || metrics.running_state.is_err() {
            return None;
        }
        let applied = metrics.last_applied.as_ref()?;
        if applied.leader_id.term != metrics.current_term
            || applied.leader_id.node_id != self.member_id.get()
        {
            return None;
        }
        let alone = metrics.membership_config.membership().voter_ids().count() == 1;
        let acknowledged = metrics
            .last_quorum_acked
            .is_some_and(|acknowledged| acknowledged.elapsed() < self.quorum_timeout);
        let stays = planted::is_planted(Bug::DeposedLeaderStays);
        (alone || acknowledged || stays).then_some(Term(metrics.current_term))
    }

    /// How far a member has got, if this one leads.
    pub fn replication(&self, member: MemberId) -> Option<Replication> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref()?.get(&member.get())?;
        let last = metrics.last_log_index.map_or(0, |index| index + 1);
        let silent_for = metrics
            .heartbeat
            .as_ref()
            .and_then(|heartbeat| heartbeat.get(&member.get()).copied().flatten())
            .map(|heard| heard.elapsed());
        let matched = matched.as_ref().map_or(0, |matched| matched.index + 1);
        Some(Replication { lag_entries: last.saturating_sub(matched), silent_for })
    }

    /// Hands leadership to the member that is furthest, if this one leads; tries the others if it
    /// does not take it.
    pub async fn hand_over(&self) {
        for successor in self.successors() {
            tracing::info!(successor, "handing leadership over");
            if self.raft.trigger().transfer_leader(successor).await.is_err() {
                return;
            }
            let mut metrics = self.raft.server_metrics();
            let handed_over = async {
                while metrics.borrow_watched().state == ServerState::Leader {
                    if metrics.changed().await.is_err() {
                        return;
                    }
                }
            };
            if self.environment.timeout(HAND_OVER_TIMEOUT, handed_over).await.is_some() {
                return;
            }
        }
    }

    /// The other voters, those that are furthest first; nobody unless this member leads.
    fn successors(&self) -> Vec<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) =
            metrics.replication.as_ref().filter(|_| metrics.state == ServerState::Leader)
        else {
            return Vec::new();
        };
        let membership = metrics.membership_config.membership();
        let mut voters: Vec<(Option<u64>, u64)> = membership
            .voter_ids()
            .filter(|id| *id != self.member_id.get())
            .map(|id| (replication.get(&id).and_then(|matched| matched.index()), id))
            .collect();
        voters.sort_by(|left, right| right.cmp(left));
        voters.into_iter().map(|(_, id)| id).collect()
    }
}
