//! Errors with a machine-readable detail.
//!
//! The detail is a [`proto::v1::ErrorDetail`] inside the standard `google.rpc.Status` of the
//! `grpc-status-details-bin` trailer, so that every gRPC library can read it.

use prost::Message;
use proto::v1::{ErrorDetail, error_detail::Kind};
use tonic::{Code, Status};

/// The type URL under which the detail travels.
pub const TYPE_URL: &str = "type.googleapis.com/zone.v1.ErrorDetail";

/// A status that carries `kind`.
pub fn status(code: Code, message: impl Into<String>, kind: Kind) -> Status {
    let message = message.into();
    let detail = ErrorDetail { kind: Some(kind) };
    let envelope = tonic_types::Status {
        code: code as i32,
        message: message.clone(),
        details: vec![prost_types::Any {
            type_url: TYPE_URL.to_owned(),
            value: detail.encode_to_vec(),
        }],
    };
    Status::with_details(code, message, envelope.encode_to_vec().into())
}

/// The detail that the status carries; none if it carries none, or one that cannot be read.
pub fn kind_of(status: &Status) -> Option<Kind> {
    let envelope = tonic_types::Status::decode(status.details()).ok()?;
    let any = envelope.details.into_iter().find(|any| any.type_url == TYPE_URL)?;
    ErrorDetail::decode(any.value.as_slice()).ok()?.kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{NodeAddress, WrongLeader};

    #[test]
    fn a_detail_survives_the_trip() {
        let leader = NodeAddress { node_id: 7, address: "node-7:7000".into() };
        let kind = Kind::WrongLeader(WrongLeader { leader: Some(leader) });
        let sent = status(Code::FailedPrecondition, "not the leader", kind.clone());
        assert_eq!(kind_of(&sent), Some(kind));
        assert_eq!(sent.code(), Code::FailedPrecondition);
    }

    #[test]
    fn garbage_is_no_detail() {
        assert_eq!(kind_of(&Status::internal("plain")), None);
        let garbage = Status::with_details(Code::Internal, "x", vec![0xff; 9].into());
        assert_eq!(kind_of(&garbage), None);
    }
}
