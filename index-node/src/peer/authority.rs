//! The authority of a vote request, between the engine and the wire.

use proto::v1;

use crate::engine::{transport::VoteAuthority, types::NodeId};

/// Writes the authority into the payload.
pub fn to_wire(authority: VoteAuthority, payload: &mut v1::VotePayload) {
    let (kind, fence, lost_node) = match authority {
        VoteAuthority::Ordinary => (v1::VoteAuthority::Unspecified, None, NodeId(0)),
        VoteAuthority::Handover => (v1::VoteAuthority::Handover, None, NodeId(0)),
        VoteAuthority::Conclusion { fence, lost_node } => {
            (v1::VoteAuthority::Conclusion, Some(fence.into()), lost_node)
        }
        VoteAuthority::Peers { lost_node } => (v1::VoteAuthority::Peers, None, lost_node),
    };
    payload.authority = kind.into();
    payload.fence = fence;
    payload.lost_node_id = lost_node.0;
}

/// Reads the authority out of the payload.
///
/// # Errors
/// A sentence, if it is none that this node knows, or a conclusion without a fence.
pub fn from_wire(payload: &v1::VotePayload) -> Result<VoteAuthority, String> {
    let lost_node = NodeId(payload.lost_node_id);
    match v1::VoteAuthority::try_from(payload.authority) {
        Ok(v1::VoteAuthority::Unspecified) => Ok(VoteAuthority::Ordinary),
        Ok(v1::VoteAuthority::Handover) => Ok(VoteAuthority::Handover),
        Ok(v1::VoteAuthority::Conclusion) => match payload.fence {
            Some(fence) => Ok(VoteAuthority::Conclusion { fence: fence.into(), lost_node }),
            None => Err("a vote by the control plane's conclusion without its fence".into()),
        },
        Ok(v1::VoteAuthority::Peers) => Ok(VoteAuthority::Peers { lost_node }),
        Err(_) => Err(format!("{} is no authority that this node knows", payload.authority)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::transport::Fence;

    #[test]
    fn every_authority_survives_the_trip() {
        let fence = Fence { zone_generation: 1, term: 2, revision: 3 };
        for authority in [
            VoteAuthority::Ordinary,
            VoteAuthority::Handover,
            VoteAuthority::Conclusion { fence, lost_node: NodeId(4) },
            VoteAuthority::Peers { lost_node: NodeId(0) },
        ] {
            let mut payload = v1::VotePayload::default();
            to_wire(authority, &mut payload);
            assert_eq!(from_wire(&payload), Ok(authority));
        }
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        let unknown = v1::VotePayload { authority: 99, ..v1::VotePayload::default() };
        assert!(from_wire(&unknown).is_err());
        let authority = v1::VoteAuthority::Conclusion.into();
        let bare = v1::VotePayload { authority, ..v1::VotePayload::default() };
        assert!(from_wire(&bare).is_err());
    }
}
