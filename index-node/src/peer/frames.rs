//! Frames on their way out, in batches.
//!
//! Whatever waits in the queue at the moment when the connection can take more goes out together; a
//! batch never waits for more to come. So an idle connection adds no delay, and a busy one amortises
//! the cost of a message over up to a thousand frames.

use std::collections::VecDeque;

use futures_util::{Stream, stream};
use prost::Message;
use proto::v1::{PeerFrame, PeerFrames, PeerHello};
use tokio::sync::mpsc;

/// The most frames in one message.
pub const BATCH_FRAMES_MAX: usize = 1_024;
/// The most bytes of frames in one message, unless a single frame is larger.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// The most bytes of one frame. Together with a batch's worth of others it stays below what a message
/// may have.
pub const FRAME_BYTES_MAX: usize = 2 << 20;

/// What is sent to the other side.
#[derive(Debug)]
pub enum Outgoing {
    Hello(PeerHello),
    Frame(PeerFrame),
    Ping(u64),
    Pong(u64),
}

/// A bounded queue of outgoing frames, and the stream of messages that drains it. The stream ends when
/// all senders are gone.
pub fn queue(capacity: usize) -> (mpsc::Sender<Outgoing>, impl Stream<Item = PeerFrames> + Send) {
    let (sender, receiver) = mpsc::channel(capacity);
    let drain =
        stream::unfold((receiver, Backlog::default()), |(mut receiver, mut backlog)| async {
            if backlog.waiting.is_empty() {
                let mut drained = Vec::new();
                if receiver.recv_many(&mut drained, BATCH_FRAMES_MAX).await == 0 {
                    return None;
                }
                backlog.waiting = drained.into();
            }
            let message = backlog.next_message();
            Some((message, (receiver, backlog)))
        });
    (sender, drain)
}

/// What was taken from the queue and has not been sent.
#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Outgoing>,
}

impl Backlog {
    /// As much of what waits as fits into one message; at least one frame.
    fn next_message(&mut self) -> PeerFrames {
        let mut message = PeerFrames::default();
        let mut bytes = 0;
        while let Some(outgoing) = self.waiting.pop_front() {
            match outgoing {
                Outgoing::Hello(hello) => message.hello = Some(hello),
                // Of several questions only the last one needs an answer, and the other way round.
                Outgoing::Ping(number) => message.ping = number,
                Outgoing::Pong(number) => message.pong = number,
                Outgoing::Frame(frame) => {
                    let length = frame.encoded_len();
                    if !message.frames.is_empty() && bytes + length > BATCH_BYTES_MAX {
                        self.waiting.push_front(Outgoing::Frame(frame));
                        break;
                    }
                    bytes += length;
                    message.frames.push(frame);
                }
            }
        }
        metrics::counter!("isotherm_node_peer_messages_total").increment(1);
        metrics::counter!("isotherm_node_peer_frames_total")
            .increment(u64::try_from(message.frames.len()).unwrap_or(u64::MAX));
        message
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::StreamExt;
    use proto::v1::{RaftPayload, peer_frame::Body};

    use super::*;

    fn frame(request_id: u64, bytes: usize) -> Outgoing {
        let payload = RaftPayload { format_version: 1, data: Bytes::from(vec![7; bytes]) };
        Outgoing::Frame(PeerFrame {
            request_id,
            body: Some(Body::AppendEntries(payload)),
            ..PeerFrame::default()
        })
    }

    fn ids(message: &PeerFrames) -> Vec<u64> {
        message.frames.iter().map(|frame| frame.request_id).collect()
    }

    #[tokio::test]
    async fn what_waits_goes_out_together_and_in_sequence() {
        let (sender, drain) = queue(2_048);
        let mut drain = std::pin::pin!(drain);
        for id in 0..3 {
            sender.send(frame(id, 10)).await.unwrap();
        }
        sender.send(Outgoing::Ping(4)).await.unwrap();
        sender.send(Outgoing::Ping(5)).await.unwrap();
        let message = drain.next().await.unwrap();
        assert_eq!(ids(&message), [0, 1, 2]);
        assert_eq!(message.ping, 5);

        sender.send(frame(3, 10)).await.unwrap();
        assert_eq!(ids(&drain.next().await.unwrap()), [3]);
        drop(sender);
        assert!(drain.next().await.is_none());
    }

    #[tokio::test]
    async fn a_message_is_bounded_by_frames_and_by_bytes() {
        let (sender, drain) = queue(4_096);
        let mut drain = std::pin::pin!(drain);
        for id in 0..1_500 {
            sender.send(frame(id, 10)).await.unwrap();
        }
        assert_eq!(drain.next().await.unwrap().frames.len(), BATCH_FRAMES_MAX);
        assert_eq!(drain.next().await.unwrap().frames.len(), 1_500 - BATCH_FRAMES_MAX);

        for id in 0..3 {
            sender.send(frame(id, 600 << 10)).await.unwrap();
        }
        for id in 0..3 {
            assert_eq!(ids(&drain.next().await.unwrap()), [id]);
        }
    }
}
