//! Snapshots on their way to another node.
//!
//! Memory is bounded by a few chunks for each transfer, and transfers by a few for each node; a transfer
//! may take as long as it needs, but not pause. Snapshots have connections of their own, so that they do
//! not hold up the groups' messages.
//!
//! A transfer that breaks off goes on where it was, as long as the receiver's process lives and keeps what it has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use prost::Message;
use proto::v1::{
    GetSnapshotProgressResponse, SnapshotChunk, peer_service_client::PeerServiceClient,
};
use runtime::{
    grpc::{Channels, MESSAGE_BYTES_MAX},
    seams::Environment,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use super::addresses::Addresses;
use crate::engine::{
    snapshot::PartitionSnapshot,
    snapshot_stream::{self, SnapshotStream, SnapshotTransfer},
    transport::{Route, TransportError},
    types::RaftVote,
};

/// Snapshots that one node sends at the same time.
const SENDING_MAX: usize = 4;
/// Chunks that wait for the connection to take them.
const CHUNKS_WAITING_MAX: usize = 2;
/// The longest that one chunk may take.
const CHUNK_LIMIT: Duration = Duration::from_secs(10);
/// The longest that the receiver may take to verify and install after the last chunk.
const INSTALL_LIMIT: Duration = Duration::from_secs(60);
/// How long the receiver may take to say how far it has come.
const PROGRESS_LIMIT: Duration = Duration::from_secs(2);
/// The pause before the receiver of a transfer that broke off is asked, and asked again.
const RESUME_PAUSE: Duration = Duration::from_millis(500);
/// A transfer that broke off is given up if it could not go on for so long: less than the receiver keeps what it has,
/// and longer than it takes to notice that a connection is dead.
const RESUME_WITHIN: Duration = Duration::from_secs(20);

/// Sends snapshots. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotSender {
    environment: Environment,
    zone_id: Arc<str>,
    addresses: Arc<Addresses>,
    channels: Channels,
    limits: SnapshotLimits,
    sending: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug)]
pub struct SnapshotLimits {
    /// Of each transfer; 0: no bound.
    pub bytes_per_second_max: u64,
    /// Of the items in one chunk.
    pub chunk_bytes_max: usize,
}

/// Why an attempt to send a snapshot has failed.
enum Failure {
    /// On its way: another attempt may go on.
    BrokenOff(String),
    /// The receiver does not want it, or it cannot be read.
    Final(String),
}

impl Failure {
    fn of(status: &Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            // What the receiver says of the snapshot itself, or of its replica.
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::DataLoss
            | Code::ResourceExhausted
            | Code::Unimplemented => Self::Final(message),
            _ => Self::BrokenOff(message),
        }
    }
}

impl SnapshotSender {
    /// `channels` should serve nothing else.
    pub fn new(
        environment: Environment,
        zone_id: &str,
        addresses: Arc<Addresses>,
        channels: Channels,
        limits: SnapshotLimits,
    ) -> Self {
        Self {
            environment,
            zone_id: zone_id.into(),
            addresses,
            channels,
            limits,
            sending: Arc::new(Semaphore::new(SENDING_MAX)),
        }
    }

    /// Streams the snapshot to the replica of the route, and answers with its vote.
    pub fn send(
        &self,
        route: Route,
        vote: RaftVote,
        snapshot: PartitionSnapshot,
    ) -> BoxFuture<'static, Result<RaftVote, TransportError>> {
        let sender = self.clone();
        // 0 would be one that cannot go on.
        let id = sender.environment.random_below(u64::MAX) + 1;
        let chunk_bytes_max = sender.limits.chunk_bytes_max;
        async move {
            let transfer =
                SnapshotTransfer::new(&sender.zone_id, id, route, &vote, snapshot, chunk_bytes_max);
            let mut kept = GetSnapshotProgressResponse::default();
            let mut got_further_at = sender.environment.now();
            loop {
                let turn = sender.sending.acquire().await.map_err(|_| unreachable("stopping"))?;
                let broken = match sender.attempt(route, &transfer, kept).await {
                    Ok(vote) => return Ok(vote),
                    Err(Failure::Final(message)) => return Err(unreachable(&message)),
                    Err(Failure::BrokenOff(message)) => message,
                };
                // Others go on meanwhile.
                drop(turn);
                let before = kept.items;
                kept = match sender.kept_of(route, &transfer).await {
                    // A fresh snapshot is better than the whole of an old one.
                    Some(kept) if kept.items > 0 && transfer.rest(&kept).is_some() => kept,
                    _ => return Err(unreachable(&broken)),
                };
                let now = sender.environment.now();
                if kept.items > before {
                    got_further_at = now;
                } else if now.since(got_further_at) >= RESUME_WITHIN {
                    return Err(unreachable(&broken));
                }
                runtime::mark!("snapshot of a partition goes on where it broke off");
                tracing::info!(
                    partition = route.partition.0,
                    to = route.to.0,
                    items = kept.items,
                    broken,
                    "a snapshot that broke off goes on"
                );
            }
        }
        .boxed()
    }

    fn client(&self, route: Route) -> Option<PeerServiceClient<Channel>> {
        let address = self.addresses.get(route.to_node)?;
        let client = PeerServiceClient::new(self.channels.get(&address))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Some(client)
    }

    /// What the receiver has kept of a transfer that broke off; none if it does not say so in time.
    async fn kept_of(
        &self,
        route: Route,
        transfer: &SnapshotTransfer,
    ) -> Option<GetSnapshotProgressResponse> {
        let asking = async {
            loop {
                self.environment.sleep(self.environment.jittered(RESUME_PAUSE)).await;
                let mut client = self.client(route)?;
                let asked = client.get_snapshot_progress(transfer.progress_request());
                match runtime::time::timeout(PROGRESS_LIMIT, asked).await {
                    Ok(Ok(kept)) => return Some(kept.into_inner()),
                    Ok(Err(status)) => {
                        // Aborted: it does not know yet that the last attempt has ended.
                        if let Failure::Final(_) = Failure::of(&status) {
                            return None;
                        }
                    }
                    Err(_) => {}
                }
            }
        };
        self.environment.timeout(RESUME_WITHIN, asking).await.flatten()
    }

    async fn attempt(
        &self,
        route: Route,
        transfer: &SnapshotTransfer,
        kept: GetSnapshotProgressResponse,
    ) -> Result<RaftVote, Failure> {
        let mut client = self
            .client(route)
            .ok_or_else(|| Failure::Final("the node's address is not known".to_owned()))?;
        let chunks = match kept.items {
            0 => transfer.chunks(),
            _ => transfer
                .rest(&kept)
                .ok_or_else(|| Failure::Final("the receiver has kept something else".to_owned()))?,
        };
        let (queue, outgoing) = mpsc::channel(CHUNKS_WAITING_MAX);
        // Whoever was never reached has nothing of it.
        let has_taken = Arc::new(AtomicBool::new(kept.items > 0));
        let taken = Arc::clone(&has_taken);
        let outgoing = ReceiverStream::new(outgoing).inspect(move |_| taken.store(true, Relaxed));
        let mut answer = Box::pin(client.install_snapshot(outgoing));
        let mut feeding = Box::pin(self.feed(chunks, queue));
        // The answer comes early if the receiver refuses; normally only after the last chunk.
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            fed = &mut feeding => {
                fed?;
                runtime::time::timeout(INSTALL_LIMIT, answer).await.map_err(|_| {
                    Failure::Final(format!("it was not installed within {INSTALL_LIMIT:?}"))
                })?
            }
        };
        let answered = answered.map_err(|status| match Failure::of(&status) {
            Failure::BrokenOff(message) if !has_taken.load(Relaxed) => Failure::Final(message),
            // Others have taken its turn; what it has kept is there still.
            Failure::Final(message)
                if kept.items > 0 && status.code() == Code::ResourceExhausted =>
            {
                Failure::BrokenOff(message)
            }
            failure => failure,
        });
        let response = answered?.into_inner();
        snapshot_stream::decode_response(&response)
            .map_err(|error| Failure::Final(error.to_string()))
    }

    async fn feed(
        &self,
        mut chunks: SnapshotStream<'_>,
        queue: mpsc::Sender<SnapshotChunk>,
    ) -> Result<(), Failure> {
        let next = |chunks: &mut SnapshotStream<'_>| {
            chunks.next().transpose().map_err(|error| Failure::Final(error.to_string()))
        };
        let mut waiting = next(&mut chunks)?;
        let mut owed = Duration::ZERO;
        while let Some(chunk) = waiting {
            owed += self.time_for(chunk.encoded_len());
            match runtime::time::timeout(CHUNK_LIMIT, queue.send(chunk)).await {
                Ok(Ok(())) => {}
                // The call has ended; its answer says why.
                Ok(Err(_)) => return Ok(()),
                Err(_) => {
                    return Err(Failure::BrokenOff(format!(
                        "no chunk was taken in {CHUNK_LIMIT:?}"
                    )));
                }
            }
            // Timers are no finer.
            if owed >= Duration::from_millis(1) {
                runtime::time::sleep(std::mem::take(&mut owed)).await;
            }
            waiting = next(&mut chunks)?;
        }
        Ok(())
    }

    /// How long so many bytes should take, to stay below the bound.
    fn time_for(&self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        match bytes.saturating_mul(1_000_000).checked_div(self.limits.bytes_per_second_max) {
            Some(microseconds) => Duration::from_micros(microseconds),
            None => Duration::ZERO,
        }
    }
}

fn unreachable(message: &str) -> TransportError {
    TransportError::Unreachable(message.to_owned())
}
