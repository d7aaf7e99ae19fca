//! Why a zone that could be dialled could not be talked to: what the transport says of a disagreement about
//! TLS names a symptom at best, so the other side is asked what it speaks.

use std::time::Duration;

use runtime::seams::Environment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::failure::Failure;

/// What listens at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Tls,
    PlainText,
}

/// How HTTP/2 begins, with empty settings.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Greets in plain text, and looks at the first bytes of the answer.
async fn ask(environment: &Environment, address: &str) -> Option<Speaks> {
    let asking = async {
        let mut connection = environment.network.connect(address).await.ok()?;
        connection.write_all(GREETING).await.ok()?;
        let mut answer = [0; 4];
        connection.read_exact(&mut answer).await.ok()?;
        speaks(answer)
    };
    environment.timeout(ANSWER_WITHIN, asking).await.flatten()
}

fn speaks(answer: [u8; 4]) -> Option<Speaks> {
    match answer {
        // A record of TLS: an alert, or a part of the handshake.
        [0x15 | 0x16, 3, ..] => Some(Speaks::Tls),
        // A frame of HTTP/2 with settings, which comes first.
        [0, 0, _, 4] => Some(Speaks::PlainText),
        _ => None,
    }
}

/// The failure, behind what to do about it if it is about TLS.
pub async fn explain(
    environment: &Environment,
    endpoints: &[String],
    tls: bool,
    failure: Failure,
) -> Failure {
    let Failure::Unreachable(text) = failure else { return failure };
    for address in endpoints {
        if let Some(speaks) = ask(environment, address).await {
            return Failure::Unreachable(match hint(speaks, tls, &text) {
                Some(hint) => format!("{hint} ({text})"),
                None => text,
            });
        }
    }
    Failure::Unreachable(text)
}

fn hint(speaks: Speaks, tls: bool, text: &str) -> Option<&'static str> {
    let says = |symptoms: &[&str]| symptoms.iter().any(|symptom| text.contains(symptom));
    match (speaks, tls) {
        (Speaks::Tls, false) => Some(
            "the zone's servers use TLS: give --tls-ca, --tls-certificate and --tls-key, or set \
             ZONECTL_TLS_CA, ZONECTL_TLS_CERTIFICATE and ZONECTL_TLS_KEY",
        ),
        (Speaks::PlainText, true) => Some(
            "the zone's servers do not use TLS: leave out --tls-ca, --tls-certificate and --tls-key, and \
             unset ZONECTL_TLS_CA, ZONECTL_TLS_CERTIFICATE and ZONECTL_TLS_KEY",
        ),
        (Speaks::Tls, true) if says(&["UnknownIssuer", "BadSignature"]) => Some(
            "the certificate of a server was not signed by the authority of --tls-ca: is it the authority \
             of this zone?",
        ),
        (Speaks::Tls, true) if says(&["NotValidForName", "not valid for name"]) => Some(
            "the certificate of a server is not for the address by which it was reached: use one of its \
             names in --endpoints, or give the server a certificate for this one",
        ),
        // The servers' refusal comes after the handshake, as far as this side can tell, and may be lost.
        (Speaks::Tls, true) if says(&["fatal alert", "broken pipe", "reset", "closed"]) => Some(
            "the zone's servers end the connection after the TLS handshake: was the certificate of \
             --tls-certificate signed by the authority of this zone, and is it still valid?",
        ),
        (Speaks::Tls, true) | (Speaks::PlainText, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        assert_eq!(speaks(*b"\x15\x03\x03\x00"), Some(Speaks::Tls));
        assert_eq!(speaks(*b"\x00\x00\x12\x04"), Some(Speaks::PlainText));
        assert_eq!(speaks(*b"HTTP"), None);
    }

    #[test]
    fn only_a_disagreement_gets_a_hint() {
        assert!(hint(Speaks::Tls, false, "anything").unwrap().contains("use TLS"));
        assert!(hint(Speaks::PlainText, true, "anything").unwrap().contains("do not use TLS"));
        assert_eq!(hint(Speaks::PlainText, false, "no leader"), None);
        assert_eq!(hint(Speaks::Tls, true, "no leader"), None);
        let closed = hint(Speaks::Tls, true, "operation was canceled: connection closed").unwrap();
        assert!(closed.contains("--tls-certificate"), "{closed}");
        let issuer = hint(Speaks::Tls, true, "invalid peer certificate: UnknownIssuer").unwrap();
        assert!(issuer.contains("--tls-ca"), "{issuer}");
    }
}
