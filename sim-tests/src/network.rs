//! The network seam over turmoil's TCP.
//!
//! Addresses are `host:port` with turmoil's host names, for example `node-1:7000`. A process listens on
//! its own host's name, on `0.0.0.0` or on `localhost`; turmoil knows one interface for each host, so
//! only the port matters.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use runtime::seams::{BoxConnection, Listener, Network};
use turmoil::net::{TcpListener, TcpStream};

use crate::links::{Links, Reach};

/// How long a dial hangs before the operating system would give up. Callers have shorter timeouts.
const DIAL_TIMEOUT: Duration = Duration::from_secs(60);

/// How soon a dial that is under way notices that its target's process has gone.
const REFUSAL_DELAY: Duration = Duration::from_millis(5);

/// The network as one host sees it.
#[derive(Clone, Debug)]
pub struct SimulatedNetwork {
    host: String,
    links: Links,
}

impl SimulatedNetwork {
    pub fn new(host: impl Into<String>, links: Links) -> Self {
        Self { host: host.into(), links }
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

async fn connect(host: String, links: Links, address: String) -> io::Result<BoxConnection> {
    let (target, _) = split(&address)?;
    let target = target.to_owned();
    let dial = async {
        match TcpStream::connect(address.as_str()).await {
            Ok(stream) => Ok(Box::new(stream) as BoxConnection),
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
    tokio::select! {
        biased;
        connection = dial => connection,
        error = refusal => Err(error),
        () = tokio::time::sleep(DIAL_TIMEOUT) => Err(io::ErrorKind::TimedOut.into()),
    }
}

struct SimulatedListener(TcpListener);

impl Listener for SimulatedListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxConnection, SocketAddr)>> {
        async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxConnection, peer))
        }
        .boxed()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Network for SimulatedNetwork {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<BoxConnection>> {
        connect(self.host.clone(), self.links.clone(), address.to_owned()).boxed()
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let port = split(address).map(|(_, port)| port);
        async move {
            let listener = TcpListener::bind(("0.0.0.0", port?)).await?;
            Ok(Box::new(SimulatedListener(listener)) as Box<dyn Listener>)
        }
        .boxed()
    }
}
