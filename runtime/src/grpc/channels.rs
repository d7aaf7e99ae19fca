//! Client channels over the network seam.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};

use super::{TlsError, TlsFiles};
use crate::seams::{Environment, Network};

/// How a client behaves towards servers.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// None: plain text.
    pub tls: Option<TlsFiles>,
    /// How long a dial may take.
    pub connect_timeout: Duration,
    /// How often an open connection is pinged.
    pub keep_alive_interval: Duration,
    /// Without an answer to a ping for so long, a connection is closed.
    pub keep_alive_timeout: Duration,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            tls: None,
            connect_timeout: Duration::from_millis(500),
            keep_alive_interval: Duration::from_secs(2),
            keep_alive_timeout: Duration::from_secs(2),
        }
    }
}

/// Lazy channels, one for each address, shared by everybody who asks. Cheap to clone.
#[derive(Clone)]
pub struct Channels {
    shared: Arc<Shared>,
}

struct Shared {
    network: Arc<dyn Network>,
    options: ChannelOptions,
    tls: Option<ClientTlsConfig>,
    by_address: Mutex<BTreeMap<String, Channel>>,
}

/// The most addresses that are remembered: an attacker who feeds hints cannot fill the memory.
const ADDRESSES_MAX: usize = 16_384;

impl Channels {
    /// # Errors
    /// If the TLS files of the options cannot be read.
    pub fn new(environment: &Environment, options: ChannelOptions) -> Result<Self, TlsError> {
        let tls = options.tls.as_ref().map(TlsFiles::client).transpose()?;
        Ok(Self {
            shared: Arc::new(Shared {
                network: Arc::clone(&environment.network),
                options,
                tls,
                by_address: Mutex::new(BTreeMap::new()),
            }),
        })
    }

    /// The channel to `address` (host:port). It connects when it is first used, and again after the
    /// connection broke. An address that is none gives a channel whose calls fail.
    pub fn get(&self, address: &str) -> Channel {
        let mut channels = self.shared.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return channel.clone();
        }
        if channels.len() >= ADDRESSES_MAX {
            channels.clear();
        }
        let channel = self.shared.open(address);
        channels.insert(address.to_owned(), channel.clone());
        channel
    }

    /// Lets go of the channel: the next [`get`](Self::get) makes a new one.
    pub fn forget(&self, address: &str) {
        self.shared.by_address.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }
}

impl Shared {
    fn open(&self, address: &str) -> Channel {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .unwrap_or_else(|_| Endpoint::from_static("http://invalid.invalid:1"));
        let mut endpoint = endpoint
            .connect_timeout(self.options.connect_timeout)
            .http2_keep_alive_interval(self.options.keep_alive_interval)
            .keep_alive_timeout(self.options.keep_alive_timeout)
            .keep_alive_while_idle(true)
            // Attempts that time out are cancelled, and each cancellation is a local reset: without
            // this, a connection closes itself after 1,024 of them.
            .http2_max_local_error_reset_streams(None)
            .tcp_nodelay(true);
        if let Some(tls) = &self.tls {
            endpoint = match endpoint.clone().tls_config(tls.clone()) {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    tracing::error!(address, %error, "TLS cannot be set up for this address");
                    endpoint
                }
            };
        }
        let network = Arc::clone(&self.network);
        endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            let authority = uri.authority().map(|authority| authority.as_str().to_owned());
            let network = Arc::clone(&network);
            async move {
                let address = authority.ok_or(std::io::ErrorKind::InvalidInput)?;
                Ok::<_, std::io::Error>(TokioIo::new(network.connect(&address).await?))
            }
        }))
    }
}
