//! Dialling a node whose session broke: a refused dial proves that its process is gone.
//!
//! Anything else proves nothing: a dial that succeeds may reach a process that is stuck, one that gets
//! no answer may be the network's fault.

use std::{io, time::Duration};

use runtime::seams::Environment;

/// How long a dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_millis(500);

/// What a dial has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// Somebody listens.
    Answered,
    /// The host answers that nobody listens: the process is gone.
    Refused,
    /// Nothing is known.
    Unclear,
}

/// Dials once.
pub async fn dial(environment: &Environment, address: &str) -> Dial {
    match environment.timeout(DIAL_TIMEOUT, environment.network.connect(address)).await {
        Some(Ok(_)) => Dial::Answered,
        Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Dial::Refused,
        Some(Err(_)) | None => Dial::Unclear,
    }
}
