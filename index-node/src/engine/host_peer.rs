//! What other nodes send: messages of the groups, snapshots, and the questions and orders of a takeover.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use proto::v1::{self, error_detail, frame_error::Code, snapshot_chunk::Body};
use runtime::grpc::detail;
use tonic::Status;

use super::{
    fences::FenceError,
    host::ReplicaHost,
    instruments,
    replica::Replica,
    snapshot::PartitionSnapshot,
    snapshot_receive::{ReceiveError, SnapshotReceiver},
    snapshot_stream,
    takeover::{HANDOVER_WINDOW, TakeOver},
    transport::VoteAuthority,
    types::{
        self, AppendEntriesRequest, AppendEntriesResponse, NodeId, PartitionId, RaftVote,
        ReplicaId, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};

/// Groups that one request may name.
const GROUPS_MAX: usize = 10_000;
/// The longest that a takeover request may take.
const TAKE_OVER_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// The longest that the next chunk of a snapshot may take.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a message of a group was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FrameFault {
    pub code: Code,
    pub message: String,
}

impl FrameFault {
    fn new(code: Code, message: impl Into<String>) -> Self {
        runtime::mark!("message between replicas refused", code);
        Self { code, message: message.into() }
    }

    fn stopped(error: impl std::error::Error) -> Self {
        Self::new(Code::Stopped, error.to_string())
    }
}

impl ReplicaHost {
    /// The replica that a message is for.
    fn receiver(&self, partition: PartitionId, to: ReplicaId) -> Result<Arc<Replica>, FrameFault> {
        match self.replica_by_id(to) {
            Some(replica) if replica.partition() == partition => Ok(replica),
            Some(replica) => Err(FrameFault::new(
                Code::Malformed,
                format!("replica {to} is of partition {}, not {partition}", replica.partition()),
            )),
            None if self.is_destroyed(to) => {
                Err(FrameFault::new(Code::Destroyed, format!("replica {to} was destroyed here")))
            }
            None => Err(FrameFault::new(Code::UnknownReplica, format!("replica {to} is not here"))),
        }
    }

    /// The same for a message of a group, which may be ahead of the parent's apply here: it waits a moment for
    /// that. It never makes a replica.
    async fn awaited_receiver(
        &self,
        partition: PartitionId,
        to: ReplicaId,
    ) -> Result<Arc<Replica>, FrameFault> {
        if self.replica_by_id(to).is_none() && !self.is_destroyed(to) {
            self.await_birth(|| self.replica_by_id(to).is_some()).await;
            if self.replica_by_id(to).is_some() {
                runtime::mark!("message between replicas waited for the birth of its receiver");
            }
        }
        self.receiver(partition, to)
    }

    pub async fn handle_append_entries(
        &self,
        partition: PartitionId,
        from: ReplicaId,
        to: ReplicaId,
        request: AppendEntriesRequest,
    ) -> Result<AppendEntriesResponse, FrameFault> {
        check_sender(from, &request.vote)?;
        let replica = self.awaited_receiver(partition, to).await?;
        let response = replica.raft.append_entries(request).await.map_err(FrameFault::stopped)?;
        if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
            replica.hear(from);
        }
        Ok(response)
    }

    /// A vote request with its authority, which is checked here.
    pub async fn handle_vote(
        &self,
        partition: PartitionId,
        from: ReplicaId,
        to: ReplicaId,
        request: VoteRequest,
        authority: VoteAuthority,
    ) -> Result<VoteResponse, FrameFault> {
        check_sender(from, &request.vote)?;
        let replica = self.awaited_receiver(partition, to).await?;
        let mut authority = authority;
        if let VoteAuthority::Conclusion { fence, .. } = authority
            && let Err(error) = self.accept_term(fence).await
        {
            // Of a deposed control plane's leader: an election like any other.
            tracing::info!(%partition, %error, "a conclusion does not count");
            runtime::mark!("vote: a deposed control plane's conclusion did not count");
            authority = VoteAuthority::Ordinary;
        }
        let request = replica
            .check_authority(request, authority)
            .map_err(|reason| FrameFault::new(Code::LeaderAlive, reason))?;
        if request.leadership_transfer && authority == VoteAuthority::Handover {
            replica.hear_successor(from);
        }
        replica.raft.vote(request).await.map_err(FrameFault::stopped)
    }

    pub async fn handle_pre_vote(
        &self,
        partition: PartitionId,
        from: ReplicaId,
        to: ReplicaId,
        request: VoteRequest,
    ) -> Result<VoteResponse, FrameFault> {
        check_sender(from, &request.vote)?;
        let replica = self.awaited_receiver(partition, to).await?;
        replica.raft.pre_vote(request).await.map_err(FrameFault::stopped)
    }

    /// The leader hands over: to this replica, or to another one that it shall vote for.
    pub async fn handle_transfer_leader(
        &self,
        partition: PartitionId,
        from: ReplicaId,
        to: ReplicaId,
        request: TransferLeaderRequest,
    ) -> Result<TransferLeaderResponse, FrameFault> {
        let replica = self.awaited_receiver(partition, to).await?;
        check_sender(from, request.from_leader())?;
        if !request.from_leader().is_committed() {
            let message = format!("replica {from} hands over before it was elected");
            return Err(FrameFault::new(Code::Malformed, message));
        }
        if *request.to_node_id() == to.0 {
            let until = self.shared.environment.now() + HANDOVER_WINDOW;
            replica.campaign.begin(VoteAuthority::Handover, until);
        }
        replica.raft.handle_transfer_leader(request).await.map_err(FrameFault::stopped)
    }

    /// Receives one snapshot and installs it; answers with this replica's vote.
    pub async fn receive_snapshot<S>(
        &self,
        mut chunks: S,
    ) -> Result<v1::InstallSnapshotResponse, Status>
    where
        S: Stream<Item = Result<v1::SnapshotChunk, Status>> + Send + Unpin,
    {
        let Some(Body::Header(header)) = next_chunk(&mut chunks).await? else {
            return Err(Status::invalid_argument("a snapshot starts with its header"));
        };
        self.check_snapshot_zone(&header.zone_id)?;
        let partition = PartitionId(header.partition_id);
        let to = ReplicaId(header.to_replica_id);
        let replica = self.receiver_of_snapshot(partition, to)?;
        let mut receiving = Receiving::begin(&replica)?;
        let received = async {
            // Whatever was kept is of an older transfer, or goes on now.
            let kept = replica.kept.take();
            let receiver = match header.items_before {
                0 => {
                    drop(kept);
                    SnapshotReceiver::begin(&self.shared.store, &self.lineages, header)
                }
                _ => kept.ok_or(ReceiveError::NotHere).and_then(|kept| kept.go_on(&header)),
            };
            receiving.receiver = Some(receiver.map_err(receive_status)?);
            let (vote, snapshot) = receiving.items(chunks).await?;
            install(&replica, vote, snapshot).await
        };
        let vote = received.await;
        instruments::snapshot_received(vote.is_ok());
        runtime::mark!("snapshot of a partition received", vote.is_ok());
        Ok(snapshot_stream::encode_response(&vote?))
    }

    /// What is kept of a snapshot that broke off on its way to a replica here.
    pub fn snapshot_progress(
        &self,
        request: &v1::GetSnapshotProgressRequest,
    ) -> Result<v1::GetSnapshotProgressResponse, Status> {
        self.check_snapshot_zone(&request.zone_id)?;
        let (partition, to) = (PartitionId(request.partition_id), ReplicaId(request.to_replica_id));
        let replica = self.receiver_of_snapshot(partition, to)?;
        if replica.receiving.load(Relaxed) {
            return Err(on_its_way());
        }
        Ok(replica.kept.progress(request))
    }

    fn check_snapshot_zone(&self, zone_id: &str) -> Result<(), Status> {
        if zone_id == self.zone_id {
            return Ok(());
        }
        let own = &self.zone_id;
        let message = format!("the snapshot is of zone {zone_id}, but this node is of zone {own}");
        Err(Status::failed_precondition(message))
    }

    fn receiver_of_snapshot(
        &self,
        partition: PartitionId,
        to: ReplicaId,
    ) -> Result<Arc<Replica>, Status> {
        self.receiver(partition, to).map_err(|fault| {
            let kind = error_detail::Kind::UnknownReplica(v1::UnknownReplica {
                partition_id: partition.0,
                replica_id: to.0,
                destroyed: fault.code == Code::Destroyed,
            });
            detail::status(tonic::Code::NotFound, fault.message, kind)
        })
    }

    /// Where the logs of these groups end.
    pub async fn log_positions(&self, groups: &[v1::GroupReplica]) -> Vec<v1::GroupLogPosition> {
        let positions = groups.iter().map(|group| async {
            let (partition, to) = (PartitionId(group.partition_id), ReplicaId(group.replica_id));
            match self.receiver(partition, to) {
                Ok(replica) => replica.log_position().await,
                Err(fault) => v1::GroupLogPosition {
                    group: Some(*group),
                    error: fault.message,
                    ..Default::default()
                },
            }
        });
        futures_util::future::join_all(positions).await
    }

    /// Takes over the named groups, or lets go of their lost leader. The groups are worked on in
    /// sequence, some at a time; every one has its answer in the end.
    pub async fn take_over(
        &self,
        request: v1::TakeOverRequest,
    ) -> Result<v1::TakeOverResponse, Status> {
        check_count(request.groups.len())?;
        let authority = self.authority(&request).await?;
        let timeout = Duration::from_millis(request.timeout_ms).min(TAKE_OVER_TIMEOUT_MAX);
        let results = request.groups.into_iter().map(|group| async move {
            let asked = group.group.unwrap_or_default();
            let (partition, to) = (PartitionId(asked.partition_id), ReplicaId(asked.replica_id));
            let replica = match self.receiver(partition, to) {
                Ok(replica) => replica,
                Err(fault) => return refused(asked, fault.message),
            };
            let order = TakeOver {
                candidate: ReplicaId(group.candidate_replica_id),
                based_on: group.membership_log.as_ref().map(types::from_position),
                elect: group.elect,
                authority,
                timeout,
            };
            let result = replica.take_over(order).await;
            instruments::take_over(result.outcome());
            result
        });
        let at_once = self.shared.options.takeovers_at_once;
        let results = futures_util::stream::iter(results).buffered(at_once).collect().await;
        Ok(v1::TakeOverResponse { results })
    }

    async fn authority(&self, request: &v1::TakeOverRequest) -> Result<VoteAuthority, Status> {
        let lost_node = NodeId(request.lost_node_id);
        match request.authority() {
            v1::VoteAuthority::Conclusion => {
                let fence = request.fence.ok_or_else(|| {
                    Status::invalid_argument("an order of the control plane has a fence")
                })?;
                let fence = fence.into();
                self.accept_term(fence).await.map_err(fence_status)?;
                Ok(VoteAuthority::Conclusion { fence, lost_node })
            }
            v1::VoteAuthority::Peers => Ok(VoteAuthority::Peers { lost_node }),
            // From the node of the replica that led: it has restarted, and leads no more.
            v1::VoteAuthority::Handover => Ok(VoteAuthority::Handover),
            v1::VoteAuthority::Unspecified => Err(Status::invalid_argument(
                "a takeover needs an authority: CONCLUSION, PEERS or HANDOVER",
            )),
        }
    }
}

/// Whether a leader or candidate speaks for itself.
fn check_sender(from: ReplicaId, vote: &RaftVote) -> Result<(), FrameFault> {
    let speaker = ReplicaId(vote.leader_id().node_id);
    if speaker != from {
        let message = format!("replica {from} sends a message of replica {speaker}");
        return Err(FrameFault::new(Code::Malformed, message));
    }
    Ok(())
}

fn check_count(groups: usize) -> Result<(), Status> {
    if groups > GROUPS_MAX {
        return Err(Status::invalid_argument(format!(
            "{groups} groups in one request; at most {GROUPS_MAX} are allowed"
        )));
    }
    Ok(())
}

fn refused(group: v1::GroupReplica, message: String) -> v1::TakeOverResult {
    v1::TakeOverResult {
        group: Some(group),
        outcome: v1::take_over_result::Outcome::Refused.into(),
        message,
        ..Default::default()
    }
}

/// The status of a refused fence.
pub fn fence_status(error: FenceError) -> Status {
    let message = error.to_string();
    match error {
        FenceError::Stale { highest, .. } => {
            let highest = Some(highest.into());
            let kind = error_detail::Kind::StaleFence(v1::StaleFence { highest });
            detail::status(tonic::Code::FailedPrecondition, message, kind)
        }
        FenceError::Store(_) => Status::unavailable(message),
    }
}

fn receive_status(error: ReceiveError) -> Status {
    let message = error.to_string();
    match error {
        ReceiveError::Codec(_) | ReceiveError::Malformed(_) | ReceiveError::TooLong(_) => {
            Status::invalid_argument(message)
        }
        ReceiveError::Damaged(_) => Status::data_loss(message),
        ReceiveError::Store(_) => Status::unavailable(message),
        ReceiveError::NotHere => Status::failed_precondition(message),
    }
}

async fn next_chunk<S>(chunks: &mut S) -> Result<Option<Body>, Status>
where
    S: Stream<Item = Result<v1::SnapshotChunk, Status>> + Unpin,
{
    match runtime::time::timeout(CHUNK_TIMEOUT, chunks.next()).await {
        Ok(Some(Ok(chunk))) => Ok(chunk.body),
        Ok(Some(Err(status))) => Err(status),
        Ok(None) => Err(Status::aborted("the snapshot ended before its trailer")),
        Err(_) => Err(Status::deadline_exceeded("no chunk of the snapshot came in time")),
    }
}

async fn install(
    replica: &Replica,
    vote: RaftVote,
    snapshot: PartitionSnapshot,
) -> Result<RaftVote, Status> {
    let response = replica.raft.install_full_snapshot(vote, snapshot).await;
    match response {
        Ok(response) => Ok(response.vote),
        Err(fatal) => Err(Status::unavailable(format!("the replica has stopped: {fatal}"))),
    }
}

fn on_its_way() -> Status {
    Status::aborted("another snapshot is on its way to this replica")
}

/// A replica's place for the one snapshot that it receives at a time. What breaks off, also because the call was
/// dropped with its connection, is kept.
struct Receiving<'a> {
    replica: &'a Replica,
    receiver: Option<SnapshotReceiver>,
}

impl<'a> Receiving<'a> {
    fn begin(replica: &'a Replica) -> Result<Self, Status> {
        if replica.receiving.swap(true, Relaxed) {
            return Err(on_its_way());
        }
        Ok(Self { replica, receiver: None })
    }

    /// Receives what comes after the header, and verifies it. What is not as it should be is not kept.
    async fn items<S>(&mut self, mut chunks: S) -> Result<(RaftVote, PartitionSnapshot), Status>
    where
        S: Stream<Item = Result<v1::SnapshotChunk, Status>> + Unpin,
    {
        loop {
            let body = next_chunk(&mut chunks).await?;
            let Some(mut receiver) = self.receiver.take() else {
                return Err(Status::internal("items come before there is anybody to receive them"));
            };
            match body {
                Some(Body::Items(items)) => receiver.items(items).map_err(receive_status)?,
                Some(Body::Trailer(trailer)) => {
                    return receiver.finish(&trailer).map_err(receive_status);
                }
                Some(Body::Header(_)) | None => {
                    return Err(Status::invalid_argument(
                        "after the header come items, then the trailer",
                    ));
                }
            }
            self.receiver = Some(receiver);
        }
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            let shared = &self.replica.shared;
            if !shared.disk_below_reserve.load(Relaxed) {
                self.replica.kept.keep(receiver, shared.environment.now());
            }
        }
        self.replica.receiving.store(false, Relaxed);
    }
}
