//! When which node asked which member something, seen on the node's own connections.
//!
//! The network seam is production's; what goes out on a connection is looked at as it passes. A request of
//! gRPC begins with one HTTP/2 frame of headers, so that counting those counts requests: those that were
//! refused as well, which no answer would show. This does not work with TLS, which the benchmark does not use.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, future::BoxFuture};
use runtime::seams::{BoxConnection, Clock, Listener, Moment, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Moment,
    /// Counted from 0.
    pub node: usize,
    /// host:port of the member.
    pub member: Arc<str>,
}

/// All requests since it was last cleared.
#[derive(Default)]
pub struct RequestLog {
    seen: Mutex<Vec<Request>>,
}

impl RequestLog {
    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Those so far, in the sequence in which they were made.
    pub fn seen(&self) -> Vec<Request> {
        self.lock().clone()
    }
}

/// The network of one node.
pub struct WatchedNetwork {
    pub network: Arc<dyn Network>,
    pub clock: Arc<dyn Clock>,
    pub log: Arc<RequestLog>,
    /// Counted from 0.
    pub node: usize,
}

impl Network for WatchedNetwork {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<BoxConnection>> {
        let connecting = self.network.connect(address);
        let (clock, log) = (Arc::clone(&self.clock), Arc::clone(&self.log));
        let (node, member) = (self.node, Arc::from(address));
        async move {
            let connection = connecting.await?;
            let frames = Frames::default();
            let watched = WatchedConnection { connection, frames, clock, log, node, member };
            Ok(Box::new(watched) as BoxConnection)
        }
        .boxed()
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        self.network.listen(address)
    }
}

/// A connection of a node to a member.
struct WatchedConnection {
    connection: BoxConnection,
    frames: Frames,
    clock: Arc<dyn Clock>,
    log: Arc<RequestLog>,
    node: usize,
    member: Arc<str>,
}

impl WatchedConnection {
    fn sent(&mut self, bytes: &[u8]) {
        for _ in 0..self.frames.take_in(bytes) {
            let member = Arc::clone(&self.member);
            self.log.lock().push(Request { at: self.clock.now(), node: self.node, member });
        }
    }
}

impl AsyncRead for WatchedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl AsyncWrite for WatchedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.connection).poll_write(context, bytes))?;
        self.sent(&bytes[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.connection).poll_write_vectored(context, slices))?;
        let mut left = sent;
        for slice in slices {
            let length = slice.len().min(left);
            self.sent(&slice[..length]);
            left -= length;
        }
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

/// What a client of HTTP/2 sends before its first frame, in bytes (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;
/// What comes before a frame's payload: three bytes of length, one of type, five more (section 4.1).
const HEADER_BYTES: usize = 9;
/// The type of a frame that begins a request (section 6.2).
const HEADERS: u8 = 1;

/// Finds the frames in what a client sends, however it is cut.
struct Frames {
    /// Bytes to pass over: of the preface, or of a payload.
    skip: usize,
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE_BYTES, header: [0; HEADER_BYTES], header_bytes: 0 }
    }
}

impl Frames {
    /// How many requests begin in the next bytes.
    fn take_in(&mut self, mut bytes: &[u8]) -> usize {
        let mut requests = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..][..taken].copy_from_slice(&bytes[..taken]);
            self.header_bytes += taken;
            bytes = &bytes[taken..];
            if self.header_bytes == HEADER_BYTES {
                let [high, middle, low, kind, ..] = self.header;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.header_bytes = 0;
                requests += usize::from(kind == HEADERS);
            }
        }
        requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: u8 = 0;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn requests_are_counted_however_the_bytes_are_cut() {
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        sent.extend(frame(4, &[]));
        sent.extend(frame(HEADERS, &[HEADERS; 30]));
        sent.extend(frame(DATA, &[HEADERS; 70_000]));
        sent.extend(frame(HEADERS, b"x"));
        for step in [1, 2, 7, 9, 24, 1_000, sent.len()] {
            let mut frames = Frames::default();
            let requests: usize = sent.chunks(step).map(|bytes| frames.take_in(bytes)).sum();
            assert_eq!(requests, 2, "in steps of {step}");
        }
    }

    #[tokio::test]
    async fn a_request_is_logged_with_its_node_and_member() {
        use tokio::io::AsyncWriteExt;

        let environment = runtime::seams::Environment::production();
        let log = Arc::<RequestLog>::default();
        let network = WatchedNetwork {
            network: environment.network,
            clock: environment.clock,
            log: Arc::clone(&log),
            node: 7,
        };
        let mut listener = network.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_address().unwrap().to_string();
        let (connection, accepted) =
            futures_util::future::join(network.connect(&address), listener.accept()).await;
        let (mut connection, _accepted) = (connection.unwrap(), accepted.unwrap());
        connection.write_all(&[0; PREFACE_BYTES]).await.unwrap();
        assert!(log.seen().is_empty());
        connection.write_all(&frame(HEADERS, b"x")).await.unwrap();
        let (one, two) = (frame(DATA, b"xy"), frame(HEADERS, b"z"));
        let slices = [IoSlice::new(&one), IoSlice::new(&two)];
        assert_eq!(connection.write_vectored(&slices).await.unwrap(), one.len() + two.len());
        let seen = log.seen();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|request| request.node == 7 && *request.member == *address));
        log.clear();
        assert!(log.seen().is_empty());
    }
}
