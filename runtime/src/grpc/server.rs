//! A gRPC server over the network seam.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{
        Server,
        server::{Connected, TcpConnectInfo},
    },
};

use super::{TlsError, TlsFiles};
use crate::seams::{BoxConnection, Listener};

/// How a server behaves towards its clients.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// None: plain text.
    pub tls: Option<TlsFiles>,
    /// The services of which the health service knows, by their full names. It always knows the whole
    /// server, by the empty name.
    pub service_names: Vec<&'static str>,
    /// Requests that one connection may have under way.
    pub streams_per_connection_max: u32,
    /// Without an answer to a ping for so long, a connection is closed.
    pub keep_alive_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            tls: None,
            service_names: Vec::new(),
            streams_per_connection_max: 4_096,
            keep_alive_timeout: Duration::from_secs(5),
        }
    }
}

/// Why a server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the gRPC server failed")]
    Transport(#[from] tonic::transport::Error),
    #[error("the reflection service cannot be built")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A connection with what tonic wants to know of it.
struct ServerConnection {
    stream: BoxConnection,
    peer: SocketAddr,
}

impl Connected for ServerConnection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: Some(self.peer) }
    }
}

impl AsyncRead for ServerConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ServerConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// How long to wait after `accept` failed (too many open files, say) before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<ServerConnection>> {
    futures_util::stream::unfold(listener, |mut listener| async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    return Some((Ok(ServerConnection { stream, peer }), listener));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    crate::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// Serves `routes`, with reflection and the standard health service (every service that the options name
/// is SERVING), until `shutdown` is cancelled; then requests under way may finish, and this returns.
pub async fn serve(
    listener: Box<dyn Listener>,
    routes: Routes,
    options: &ServerOptions,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    for name in options.service_names.iter().chain(&[""]) {
        health_reporter.set_service_status(name, tonic_health::ServingStatus::Serving).await;
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;

    let mut server = Server::builder()
        .max_concurrent_streams(options.streams_per_connection_max)
        .http2_keepalive_interval(Some(options.keep_alive_timeout))
        .http2_keepalive_timeout(Some(options.keep_alive_timeout))
        .http2_max_pending_accept_reset_streams(Some(1_024))
        .http2_max_local_error_reset_streams(None);
    if let Some(tls) = &options.tls {
        server = server.tls_config(tls.server()?)?;
    }
    server
        .add_routes(routes.add_service(health).add_service(reflection))
        .serve_with_incoming_shutdown(incoming(listener), shutdown.cancelled_owned())
        .await?;
    Ok(())
}
