//! The network seam over turmoil's TCP.
//!
//! Addresses are `host:port` with turmoil's host names, for example `node-1:7000`. A process listens on
//! its own host's name, on `0.0.0.0` or on `localhost`; turmoil knows one interface for each host, so
//! only the port matters.
//!
//! Everything passes the host's [`Gate`]: a frozen process neither reads nor writes, while its kernel goes
//! on taking connections into its backlog.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use runtime::{
    seams::{BoxConnection, Listener, Network},
    store::simulated::Side,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
};
use turmoil::net::{TcpListener, TcpStream};

use crate::{
    gate::Gate,
    links::{Links, Reach},
};

/// How long a dial hangs before the operating system would give up. Callers have shorter timeouts.
const DIAL_TIMEOUT: Duration = Duration::from_secs(60);

/// How soon a dial that is under way notices that its target's process has gone.
const REFUSAL_DELAY: Duration = Duration::from_millis(5);

/// The network as one host sees it.
#[derive(Clone, Debug)]
pub struct SimulatedNetwork {
    host: String,
    links: Links,
    gate: Gate,
}

impl SimulatedNetwork {
    pub fn new(host: impl Into<String>, links: Links, gate: Gate) -> Self {
        Self { host: host.into(), links, gate }
    }
}

/// A stream that passes its host's gate.
struct GatedStream {
    /// Taken only by `drop`.
    stream: Option<TcpStream>,
    peer: Arc<str>,
    gate: Gate,
}

impl GatedStream {
    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TcpStream>>> {
        ready!(self.gate.poll_passes(&self.peer, context));
        Poll::Ready(match &mut self.stream {
            Some(stream) => Ok(Pin::new(stream)),
            None => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

impl AsyncRead for GatedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_stream(context))?.poll_read(context, buffer)
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.get_mut().poll_stream(context))?.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_stream(context))?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.get_mut().poll_stream(context))?.poll_shutdown(context)
    }
}

impl Drop for GatedStream {
    /// The end of a connection is something that a peer sees, so it waits at a closed gate as well.
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        if self.gate.passes(&self.peer) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (gate, peer) = (self.gate.clone(), Arc::clone(&self.peer));
            runtime.spawn(async move {
                gate.passage(&peer).await;
                drop(stream);
            });
        }
    }
}

/// Host and port of an address.
fn split(address: &str) -> io::Result<(&str, u16)> {
    let invalid =
        || io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?} is not host:port"));
    let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
    Ok((host, port.parse().map_err(|_| invalid())?))
}

fn refused(address: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, format!("{address} refused the connection"))
}

async fn connect(network: SimulatedNetwork, address: String) -> io::Result<BoxConnection> {
    let SimulatedNetwork { host, links, gate } = network;
    let (target, _) = split(&address)?;
    let target: Arc<str> = target.into();
    gate.passage(&target).await;
    if gate.note_dial() == Some(Side::Before) {
        std::future::pending::<()>().await;
    }
    let dial = async {
        match TcpStream::connect(address.as_str()).await {
            Ok(stream) => Ok(stream),
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && links.reach(&host, &target) == Reach::Nothing =>
            {
                // The dial was lost, which the dialler cannot know.
                std::future::pending().await
            }
            Err(error) => Err(error),
        }
    };
    let refusal = async {
        loop {
            tokio::time::sleep(REFUSAL_DELAY).await;
            if links.reach(&host, &target) == Reach::MachineOnly {
                break refused(&address);
            }
        }
    };
    let dialled = tokio::select! {
        biased;
        dialled = dial => dialled,
        error = refusal => Err(error),
        () = tokio::time::sleep(DIAL_TIMEOUT) => Err(io::ErrorKind::TimedOut.into()),
    };
    let dialled = dialled.map(|stream| GatedStream {
        stream: Some(stream),
        peer: Arc::clone(&target),
        gate: gate.clone(),
    });
    gate.passage(&target).await;
    dialled.map(|stream| Box::new(stream) as BoxConnection)
}

struct SimulatedListener {
    listener: TcpListener,
    gate: Gate,
    /// What was accepted while the process was frozen.
    backlog: VecDeque<(TcpStream, SocketAddr)>,
}

impl Listener for SimulatedListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxConnection, SocketAddr)>> {
        async move {
            let (stream, address) = loop {
                if self.gate.is_frozen() {
                    tokio::select! {
                        biased;
                        () = self.gate.running() => {}
                        accepted = self.listener.accept() => self.backlog.push_back(accepted?),
                    }
                } else if let Some(accepted) = self.backlog.pop_front() {
                    break accepted;
                } else {
                    self.backlog.push_back(self.listener.accept().await?);
                }
            };
            let peer = turmoil::reverse_lookup(address.ip()).unwrap_or_default();
            let gate = self.gate.clone();
            let stream = GatedStream { stream: Some(stream), peer: peer.into(), gate };
            Ok((Box::new(stream) as BoxConnection, address))
        }
        .boxed()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Network for SimulatedNetwork {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<BoxConnection>> {
        connect(self.clone(), address.to_owned()).boxed()
    }

    fn deliveries(&self) -> Vec<Duration> {
        self.gate.deliveries()
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let port = split(address).map(|(_, port)| port);
        let gate = self.gate.clone();
        async move {
            let listener = TcpListener::bind(("0.0.0.0", port?)).await?;
            let listener = SimulatedListener { listener, gate, backlog: VecDeque::new() };
            Ok(Box::new(listener) as Box<dyn Listener>)
        }
        .boxed()
    }
}
