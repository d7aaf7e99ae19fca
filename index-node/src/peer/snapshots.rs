//! Snapshots on their way to another node.
//!
//! Memory is bounded by a few chunks for each transfer, and transfers by a few for each node; a transfer
//! may take as long as it needs, but not pause. Snapshots have connections of their own, so that they do
//! not hold up the groups' messages.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use prost::Message;
use proto::v1::{SnapshotChunk, peer_service_client::PeerServiceClient};
use runtime::grpc::{Channels, MESSAGE_BYTES_MAX};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::addresses::Addresses;
use crate::engine::{
    snapshot::PartitionSnapshot,
    snapshot_stream::{self, SnapshotStream},
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

/// Sends snapshots. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotSender {
    zone_id: Arc<str>,
    addresses: Arc<Addresses>,
    channels: Channels,
    bytes_per_second_max: u64,
    sending: Arc<Semaphore>,
}

impl SnapshotSender {
    /// `bytes_per_second_max` bounds each transfer; 0: no bound. `channels` should serve nothing else.
    pub fn new(
        zone_id: &str,
        addresses: Arc<Addresses>,
        channels: Channels,
        bytes_per_second_max: u64,
    ) -> Self {
        Self {
            zone_id: zone_id.into(),
            addresses,
            channels,
            bytes_per_second_max,
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
        async move {
            let _turn = sender.sending.acquire().await.map_err(|_| unreachable("stopping"))?;
            let address = sender
                .addresses
                .get(route.to_node)
                .ok_or_else(|| unreachable("the node's address is not known"))?;
            let chunks = SnapshotStream::new(&sender.zone_id, route, &vote, snapshot);
            sender.stream(&address, chunks).await
        }
        .boxed()
    }

    async fn stream(
        &self,
        address: &str,
        chunks: SnapshotStream,
    ) -> Result<RaftVote, TransportError> {
        let (queue, outgoing) = mpsc::channel(CHUNKS_WAITING_MAX);
        let mut client = PeerServiceClient::new(self.channels.get(address))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let mut answer = Box::pin(client.install_snapshot(ReceiverStream::new(outgoing)));
        let mut feeding = Box::pin(self.feed(chunks, queue));
        // The answer comes early if the receiver refuses; normally only after the last chunk.
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            fed = &mut feeding => {
                fed?;
                runtime::time::timeout(INSTALL_LIMIT, answer)
                    .await
                    .map_err(|_| TransportError::Timeout(INSTALL_LIMIT))?
            }
        };
        let response = answered.map_err(|status| unreachable(status.message()))?.into_inner();
        snapshot_stream::decode_response(&response).map_err(|error| unreachable(&error.to_string()))
    }

    async fn feed(
        &self,
        chunks: SnapshotStream,
        queue: mpsc::Sender<SnapshotChunk>,
    ) -> Result<(), TransportError> {
        for chunk in chunks {
            let chunk = chunk.map_err(|error| unreachable(&error.to_string()))?;
            let pause = self.pause_after(chunk.encoded_len());
            match runtime::time::timeout(CHUNK_LIMIT, queue.send(chunk)).await {
                Ok(Ok(())) => {}
                // The call has ended; its answer says why.
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(TransportError::Timeout(CHUNK_LIMIT)),
            }
            if !pause.is_zero() {
                runtime::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    /// How long to wait after so many bytes, to stay below the bound.
    fn pause_after(&self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        match bytes.saturating_mul(1_000_000).checked_div(self.bytes_per_second_max) {
            Some(microseconds) => Duration::from_micros(microseconds),
            None => Duration::ZERO,
        }
    }
}

fn unreachable(message: &str) -> TransportError {
    TransportError::Unreachable(message.to_owned())
}
