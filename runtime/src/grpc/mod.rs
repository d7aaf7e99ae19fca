//! gRPC bootstrap: what every server and every client of a zone does the same way.
//!
//! - [`serve`]: a server over the network seam, with standard health and reflection, TLS if configured,
//!   and bounded connections, streams and messages.
//! - [`Channels`]: lazy, cached client channels over the network seam, with HTTP/2 keep-alive.
//! - [`detail`]: errors with a machine-readable detail.

mod channels;
pub mod detail;
mod server;
mod tls;

pub use channels::{ChannelOptions, Channels};
pub use server::{ServeError, ServerOptions, serve};
pub use tls::{TlsError, TlsFiles};

/// The largest message that a server or client accepts, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
