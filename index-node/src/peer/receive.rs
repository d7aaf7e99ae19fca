//! The answering end of a peer's stream.
//!
//! Each frame is handed to its group in the sequence of arrival, and answered whenever the group has
//! finished with it: a slow group holds up nobody else. Handing over means polling the handler once,
//! in which it puts the request into its group's queue; so requests of one group keep their sequence
//! without a task for each. Beyond a bound on what is under way, requests are turned away at once, so
//! that signs of life still pass.

use std::sync::Arc;

use futures_util::{
    Stream, StreamExt,
    future::{BoxFuture, poll_immediate},
    stream::FuturesUnordered,
};
use proto::v1::{FrameError, PeerFrame, PeerFrames, frame_error::Code, peer_frame::Body};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    connection_watch::ConnectionWatch,
    frames::{BATCH_FRAMES_MAX, Outgoing},
};
use crate::engine::types::NodeId;

/// Requests of one peer that may be under way.
const UNDER_WAY_MAX: usize = 4_096;

/// What answers a request frame.
pub trait FrameHandler: Send + Sync + 'static {
    /// The body of the answer. The first poll hands the request over; see the module's documentation.
    fn handle(&self, frame: PeerFrame) -> BoxFuture<'static, Body>;
}

/// One peer's stream.
pub struct Reception {
    pub from: NodeId,
    pub handler: Arc<dyn FrameHandler>,
    pub watch: Arc<ConnectionWatch>,
    pub shutdown: CancellationToken,
}

impl Reception {
    /// Answers requests until either side ends the stream.
    pub async fn run(
        self,
        mut requests: impl Stream<Item = Result<PeerFrames, Status>> + Unpin,
        answers: mpsc::Sender<Outgoing>,
    ) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                Some(answer) = under_way.next(), if !under_way.is_empty() => {
                    // The queue is full when the peer does not read: then nothing more is taken on.
                    if answers.send(Outgoing::Frame(answer)).await.is_err() {
                        return;
                    }
                }
                message = requests.next() => {
                    let Some(Ok(message)) = message else { return };
                    self.watch.asked(self.from);
                    if message.ping != 0
                        && answers.send(Outgoing::Pong(message.ping)).await.is_err()
                    {
                        return;
                    }
                    if message.frames.len() > BATCH_FRAMES_MAX {
                        tracing::warn!(peer = self.from.0, "a peer sent too many frames at once");
                        return;
                    }
                    for frame in message.frames {
                        if let Some(answer) = self.take_on(frame, &mut under_way).await
                            && answers.send(Outgoing::Frame(answer)).await.is_err()
                        {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Hands the request over; answers it if that can be done at once.
    async fn take_on(
        &self,
        frame: PeerFrame,
        under_way: &mut FuturesUnordered<BoxFuture<'static, PeerFrame>>,
    ) -> Option<PeerFrame> {
        let envelope = PeerFrame {
            request_id: frame.request_id,
            partition_id: frame.partition_id,
            from_replica_id: frame.to_replica_id,
            to_replica_id: frame.from_replica_id,
            body: None,
        };
        if under_way.len() >= UNDER_WAY_MAX {
            let message = format!("{UNDER_WAY_MAX} requests of this node are under way already");
            return Some(PeerFrame { body: Some(fault(Code::Overloaded, message)), ..envelope });
        }
        let mut handling = self.handler.handle(frame);
        match poll_immediate(&mut handling).await {
            Some(body) => Some(PeerFrame { body: Some(body), ..envelope }),
            None => {
                under_way.push(Box::pin(async move {
                    PeerFrame { body: Some(handling.await), ..envelope }
                }));
                None
            }
        }
    }
}

/// The answer to a request that was not carried out.
pub fn fault(code: Code, message: impl Into<String>) -> Body {
    Body::Error(FrameError { code: code.into(), message: message.into() })
}
