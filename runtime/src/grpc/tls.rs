//! TLS material: the same three files for servers and for clients.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// PEM files. Peers are verified against `authority` in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificates of the authority that signed every process of the zone and every client.
    pub authority: PathBuf,
    /// This process's certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why the TLS material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the TLS file {path}", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

fn read(path: &PathBuf) -> Result<String, TlsError> {
    fs::read_to_string(path).map_err(|source| TlsError::Read { path: path.clone(), source })
}

impl TlsFiles {
    pub(super) fn server(&self) -> Result<ServerTlsConfig, TlsError> {
        Ok(ServerTlsConfig::new()
            .identity(Identity::from_pem(read(&self.certificate)?, read(&self.key)?))
            .client_ca_root(Certificate::from_pem(read(&self.authority)?)))
    }

    /// The server is verified under the host name of its address.
    pub(super) fn client(&self) -> Result<ClientTlsConfig, TlsError> {
        Ok(ClientTlsConfig::new()
            .identity(Identity::from_pem(read(&self.certificate)?, read(&self.key)?))
            .ca_certificate(Certificate::from_pem(read(&self.authority)?)))
    }
}
