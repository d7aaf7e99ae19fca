//! What every command takes: where the zone is, and how to talk to it.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use runtime::grpc::TlsFiles;

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Members of the control plane, host:port each; any of them will do.
    #[arg(
        long,
        global = true,
        env = "ZONECTL_ENDPOINTS",
        value_delimiter = ',',
        value_parser = endpoint,
        default_value = "127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402"
    )]
    pub endpoints: Vec<String>,
    /// What the output is for: people or programs.
    #[arg(short, long, global = true, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
    /// How long a command, or one request of it, may take, for example 500ms or 1m.
    #[arg(long, global = true, value_parser = humantime::parse_duration, default_value = "10s")]
    pub deadline: Duration,
    #[command(flatten)]
    pub tls: TlsArguments,
}

/// For zones whose servers use TLS, all three or none. A server is verified under the host name or the
/// address by which it is reached.
#[derive(Clone, Debug, Default, Args)]
pub struct TlsArguments {
    /// PEM file with the authority that signed the certificates of the zone's servers.
    #[arg(long, global = true, env = "ZONECTL_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file with a certificate (chain) for this command, signed by the same authority.
    #[arg(long, global = true, env = "ZONECTL_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    #[arg(long, global = true, env = "ZONECTL_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

impl TlsArguments {
    /// None: plain text.
    ///
    /// # Errors
    /// If some of the three files are given and others are not: which.
    pub fn files(&self) -> Result<Option<TlsFiles>, String> {
        let (authority, certificate, key) = (&self.tls_ca, &self.tls_certificate, &self.tls_key);
        if let (Some(authority), Some(certificate), Some(key)) = (authority, certificate, key) {
            return Ok(Some(TlsFiles {
                authority: authority.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            }));
        }
        let files = [
            (authority, "--tls-ca (or ZONECTL_TLS_CA)"),
            (certificate, "--tls-certificate (or ZONECTL_TLS_CERTIFICATE)"),
            (key, "--tls-key (or ZONECTL_TLS_KEY)"),
        ];
        let missing: Vec<&str> =
            files.iter().filter(|(file, _)| file.is_none()).map(|(_, name)| *name).collect();
        if missing.len() == files.len() {
            return Ok(None);
        }
        Err(format!("TLS needs three files: give {} as well", missing.join(" and ")))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Json,
}

/// An address as people write it.
pub fn endpoint(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is no address; host:port is, for example 127.0.0.1:7400");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || port == 0 || text.contains(['/', ' ']) {
        return Err(wrong());
    }
    Ok(text.to_owned())
}
