//! One node's way to one other node: a stream that is opened again whenever it breaks.
//!
//! A link is in one of three conditions. *Up*: requests go out at once. *Dialling* for the first time,
//! or again right after a break: requests wait a moment, since most breaks heal at once. *Down*: the
//! last dial failed, requests fail immediately, so that the groups look elsewhere.

use std::{
    error::Error as _,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proto::v1::{
    FrameError, PeerFrame, PeerFrames, PeerHello, ProtocolVersion, peer_frame::Body,
    peer_service_client::PeerServiceClient,
};
use runtime::{
    grpc::{Channels, MESSAGE_BYTES_MAX},
    seams::{Environment, Moment},
};
use tokio::sync::{Notify, mpsc, watch};
use tonic::{Code, Status, Streaming};

use super::{
    addresses::Addresses,
    connection_watch::ConnectionWatch,
    frames::{self, FRAME_BYTES_MAX, Outgoing},
    pending::Pending,
};
use crate::{engine::types::NodeId, place::Place};

/// Frames that may wait for the connection to take them.
const QUEUE_FRAMES: usize = 8_192;
/// How long a request waits for the first dial, or for the one after a break.
const DIAL_PATIENCE: Duration = Duration::from_millis(100);
/// How long a dial may take, with the answer to the greeting.
const DIAL_LIMIT: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    #[error("there is no connection to the node")]
    NotConnected,
    #[error("the connection broke")]
    Broken,
    #[error("no answer in time")]
    TimedOut,
    #[error("too much waits for the connection")]
    Overloaded,
    #[error("the request has {bytes} bytes, more than a frame may")]
    TooLarge { bytes: usize },
    #[error("the other side refused: {}", .0.message)]
    Refused(FrameError),
    #[error("the answer cannot be read")]
    Malformed,
}

#[derive(Clone)]
enum Condition {
    Dialling,
    Up(mpsc::Sender<Outgoing>),
    Down,
}

/// What all links of a node share.
pub struct LinkContext {
    pub environment: Environment,
    pub place: Place,
    pub addresses: Arc<Addresses>,
    pub channels: Channels,
    pub watch: Arc<ConnectionWatch>,
    pub ping_interval: Duration,
    pub lost_after: Duration,
}

/// See the module's documentation.
pub struct Link {
    to: NodeId,
    context: Arc<LinkContext>,
    condition: watch::Sender<Condition>,
    pending: Pending,
    /// Told when there is reason to dial now instead of after the backoff.
    dial_now: Notify,
    /// Milliseconds of the clock when a request was made last.
    used_ms: AtomicU64,
}

impl Link {
    pub fn new(to: NodeId, context: Arc<LinkContext>) -> Self {
        let link = Self {
            to,
            context,
            condition: watch::Sender::new(Condition::Dialling),
            pending: Pending::default(),
            dial_now: Notify::new(),
            used_ms: AtomicU64::new(0),
        };
        link.touch();
        link
    }

    /// Asks the other node something, and waits for its answer.
    ///
    /// # Errors
    /// If there is no connection, no answer within `limit`, or the other side refused.
    pub async fn request(
        &self,
        mut frame: PeerFrame,
        limit: Duration,
    ) -> Result<Body, RequestError> {
        self.touch();
        let bytes = prost::Message::encoded_len(&frame);
        if bytes > FRAME_BYTES_MAX {
            return Err(RequestError::TooLarge { bytes });
        }
        let sender = self.sender(limit.min(DIAL_PATIENCE)).await?;
        let waiting = self.pending.register();
        frame.request_id = waiting.id();
        sender.try_send(Outgoing::Frame(frame)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RequestError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => RequestError::Broken,
        })?;
        runtime::time::timeout(limit, waiting.answer()).await.unwrap_or(Err(RequestError::TimedOut))
    }

    /// There is reason to believe that the other node can be reached now.
    pub fn dial_now(&self) {
        if matches!(*self.condition.borrow(), Condition::Down) {
            self.dial_now.notify_one();
        }
    }

    /// For how long nobody has asked anything over this link.
    pub fn idle(&self) -> Duration {
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        self.context.environment.now().since(Moment::from_origin(used))
    }

    fn touch(&self) {
        let now = self.context.environment.now().since_origin().as_millis();
        self.used_ms.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    async fn sender(&self, patience: Duration) -> Result<mpsc::Sender<Outgoing>, RequestError> {
        if let Condition::Up(sender) = &*self.condition.borrow() {
            return Ok(sender.clone());
        }
        let mut condition = self.condition.subscribe();
        let settled = condition.wait_for(|condition| !matches!(condition, Condition::Dialling));
        match runtime::time::timeout(patience, settled).await {
            Ok(Ok(settled)) => match &*settled {
                Condition::Up(sender) => Ok(sender.clone()),
                Condition::Dialling | Condition::Down => Err(RequestError::NotConnected),
            },
            Ok(Err(_)) | Err(_) => Err(RequestError::NotConnected),
        }
    }

    /// Keeps the link up, and watches it, until dropped.
    pub async fn run(&self) {
        tokio::select! {
            biased;
            () = self.keep_up() => {}
            () = self.keep_watching() => {}
        }
    }

    /// Gives the link up: after [`run`](Self::run) was dropped.
    pub fn end(&self) {
        self.condition.send_replace(Condition::Down);
        self.pending.fail_all();
        self.context.watch.end(self.to);
    }

    async fn keep_up(&self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.dial().await {
                Ok(answers) => {
                    backoff = BACKOFF_MIN;
                    self.context.watch.connected(self.to);
                    let status = self.converse(answers).await;
                    self.condition.send_replace(Condition::Dialling);
                    self.pending.fail_all();
                    self.context.watch.broken(self.to, false);
                    tracing::debug!(peer = self.to.0, %status, "the connection to a peer broke");
                }
                Err(failure) => {
                    let first =
                        !matches!(self.condition.send_replace(Condition::Down), Condition::Down);
                    self.context.watch.broken(self.to, failure.refused);
                    if first {
                        let DialFailure { message, refused } = failure;
                        tracing::info!(
                            peer = self.to.0,
                            message,
                            refused,
                            "a peer cannot be reached"
                        );
                    }
                    let pause = self.context.environment.jittered(backoff);
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    tokio::select! {
                        biased;
                        () = self.dial_now.notified() => {}
                        () = runtime::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Opens the stream, greets, and waits until the other side has accepted the greeting.
    async fn dial(&self) -> Result<Streaming<PeerFrames>, DialFailure> {
        let context = &self.context;
        let address = context
            .addresses
            .get(self.to)
            .ok_or_else(|| DialFailure::vague("the node's address is not known"))?;
        let (sender, drain) = frames::queue(QUEUE_FRAMES);
        let hello = PeerHello {
            zone_id: context.place.zone_id.clone(),
            node_id: context.place.node.0,
            address: context.place.address.clone(),
            incarnation: context.place.incarnation,
            to_node_id: self.to.0,
            protocol_version: ProtocolVersion::ProtocolVersion1.into(),
        };
        sender
            .try_send(Outgoing::Hello(hello))
            .map_err(|_| DialFailure::vague("the queue is closed"))?;
        let mut client = PeerServiceClient::new(context.channels.get(&address))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        match runtime::time::timeout(DIAL_LIMIT, client.raft(drain)).await {
            Ok(Ok(response)) => {
                self.condition.send_replace(Condition::Up(sender));
                Ok(response.into_inner())
            }
            Ok(Err(status)) => {
                Err(DialFailure { refused: is_refused(&status), message: status.message().into() })
            }
            Err(_) => {
                // A channel whose connection hangs would hang the next dial too.
                context.channels.forget(&address);
                Err(DialFailure::vague("no answer to the greeting in time"))
            }
        }
    }

    /// Reads answers until the stream breaks or has been silent for too long; returns why it ended.
    async fn converse(&self, mut answers: Streaming<PeerFrames>) -> Status {
        loop {
            match runtime::time::timeout(self.context.lost_after * 2, answers.message()).await {
                Ok(Ok(Some(message))) => {
                    self.context.watch.answered(self.to);
                    for frame in message.frames {
                        self.pending.answer(frame);
                    }
                }
                Ok(Ok(None)) => return Status::new(Code::Unavailable, "the other side ended it"),
                Ok(Err(status)) => return status,
                Err(_) => {
                    if let Some(address) = self.context.addresses.get(self.to) {
                        self.context.channels.forget(&address);
                    }
                    return Status::new(Code::DeadlineExceeded, "the other side was silent");
                }
            }
        }
    }

    /// Asks for signs of life, and counts the silence.
    async fn keep_watching(&self) {
        let context = &self.context;
        context.watch.begin(self.to);
        let mut listened_at = context.environment.now();
        let mut question = 0;
        loop {
            runtime::time::sleep(context.ping_interval).await;
            let now = context.environment.now();
            // Nobody can be heard whose address is not known: that is no evidence against them.
            if context.addresses.get(self.to).is_some() {
                context.watch.listened(self.to, now.since(listened_at));
            }
            listened_at = now;
            // A full queue means that plenty is on its way whose answers are signs of life as well.
            if let Condition::Up(sender) = &*self.condition.borrow() {
                question += 1;
                let _ = sender.try_send(Outgoing::Ping(question));
            }
        }
    }
}

struct DialFailure {
    /// Nobody listens at the address: the process is gone.
    refused: bool,
    message: String,
}

impl DialFailure {
    fn vague(message: &str) -> Self {
        Self { refused: false, message: message.to_owned() }
    }
}

/// Whether the status comes of a dial that the other host refused.
pub fn is_refused(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use runtime::grpc::ChannelOptions;

    use super::*;

    #[tokio::test]
    async fn a_refused_dial_is_told_from_other_failures() {
        let environment = Environment::production();
        let channels = Channels::new(&environment, ChannelOptions::default()).unwrap();
        let listener = environment.network.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_address().unwrap().to_string();
        let greet = async || {
            let (_sender, drain) = frames::queue(1);
            PeerServiceClient::new(channels.get(&address)).raft(drain).await.unwrap_err()
        };
        drop(listener);
        assert!(is_refused(&greet().await));

        // Somebody listens there, who does not speak our language.
        let mut listener = environment.network.listen(&address).await.unwrap();
        let mute = tokio::spawn(async move {
            loop {
                drop(listener.accept().await);
            }
        });
        assert!(!is_refused(&greet().await));
        mute.abort();
        assert!(!is_refused(&Status::failed_precondition("another node")));
    }
}
