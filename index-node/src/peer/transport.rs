//! The groups' way out, over the links.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use openraft::EntryPayload;
use proto::v1::{PeerFrame, RaftPayload, VotePayload, peer_frame::Body};
use serde::de::DeserializeOwned;

use super::{
    authority, dispatch::encode, link::RequestError, links::Links, snapshots::SnapshotSender,
};
use crate::engine::{
    codec,
    command::{Mutation, Operation},
    snapshot::PartitionSnapshot,
    transport::{GroupTransport, Route, TransportError, VoteAuthority},
    types::{
        AppendEntriesRequest, AppendEntriesResponse, RaftEntry, RaftVote, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};

/// Bytes of entries from which on an append is cut: the rest follows with the next one. A single entry
/// is never cut.
const APPEND_BYTES_MAX: usize = 1 << 20;

/// Carries the groups' messages over the links between nodes.
pub struct LinkTransport {
    links: Arc<Links>,
    snapshots: SnapshotSender,
}

impl LinkTransport {
    pub fn new(links: Arc<Links>, snapshots: SnapshotSender) -> Self {
        Self { links, snapshots }
    }

    fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        route: Route,
        body: Body,
        limit: Duration,
        expected: fn(Body) -> Option<RaftPayload>,
    ) -> BoxFuture<'static, Result<T, TransportError>> {
        let links = Arc::clone(&self.links);
        let frame = PeerFrame {
            request_id: 0,
            partition_id: route.partition.0,
            from_replica_id: route.from.0,
            to_replica_id: route.to.0,
            body: Some(body),
        };
        async move {
            let answer = links
                .request(route.to_node, frame, limit)
                .await
                .map_err(|error| transport_error(error, limit))?;
            let payload = expected(answer).ok_or_else(|| {
                TransportError::Unreachable("the answer is none to this request".into())
            })?;
            codec::decode(payload.format_version, &payload.data)
                .map_err(|error| TransportError::Unreachable(error.to_string()))
        }
        .boxed()
    }
}

fn transport_error(error: RequestError, limit: Duration) -> TransportError {
    match error {
        RequestError::TimedOut => TransportError::Timeout(limit),
        RequestError::NotConnected
        | RequestError::Broken
        | RequestError::Overloaded
        | RequestError::TooLarge { .. }
        | RequestError::Refused(_)
        | RequestError::Malformed => TransportError::Unreachable(error.to_string()),
    }
}

impl GroupTransport for LinkTransport {
    fn append_entries(
        &self,
        route: Route,
        mut request: AppendEntriesRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<AppendEntriesResponse, TransportError>> {
        let whole = cut(&mut request, APPEND_BYTES_MAX);
        let last_sent = request.entries.last().map(|entry| entry.log_id);
        let body = Body::AppendEntries(encode(&request));
        let answer = self.ask(route, body, limit, |body| match body {
            Body::AppendEntriesResponse(payload) => Some(payload),
            _ => None,
        });
        if whole {
            return answer;
        }
        async move {
            Ok(match answer.await? {
                AppendEntriesResponse::Success => AppendEntriesResponse::PartialSuccess(last_sent),
                other => other,
            })
        }
        .boxed()
    }

    fn vote(
        &self,
        route: Route,
        request: VoteRequest,
        vote_authority: VoteAuthority,
        limit: Duration,
    ) -> BoxFuture<'static, Result<VoteResponse, TransportError>> {
        let RaftPayload { format_version, data } = encode(&request);
        let mut payload = VotePayload { format_version, data, ..VotePayload::default() };
        authority::to_wire(vote_authority, &mut payload);
        self.ask(route, Body::Vote(payload), limit, |body| match body {
            Body::VoteResponse(payload) => Some(payload),
            _ => None,
        })
    }

    fn pre_vote(
        &self,
        route: Route,
        request: VoteRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<VoteResponse, TransportError>> {
        self.ask(route, Body::PreVote(encode(&request)), limit, |body| match body {
            Body::PreVoteResponse(payload) => Some(payload),
            _ => None,
        })
    }

    fn transfer_leader(
        &self,
        route: Route,
        request: TransferLeaderRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<TransferLeaderResponse, TransportError>> {
        self.ask(route, Body::TransferLeader(encode(&request)), limit, |body| match body {
            Body::TransferLeaderResponse(payload) => Some(payload),
            _ => None,
        })
    }

    fn install_snapshot(
        &self,
        route: Route,
        vote: RaftVote,
        snapshot: PartitionSnapshot,
    ) -> BoxFuture<'static, Result<RaftVote, TransportError>> {
        self.snapshots.send(route, vote, snapshot)
    }
}

/// Leaves so many of the entries as fit into `bytes_max`, at least one. Returns whether all do.
fn cut(request: &mut AppendEntriesRequest, bytes_max: usize) -> bool {
    let mut bytes = 0;
    let fitting = request
        .entries
        .iter()
        .take_while(|entry| {
            bytes += entry_bytes(entry);
            bytes <= bytes_max
        })
        .count()
        .max(1);
    if fitting >= request.entries.len() {
        return true;
    }
    request.entries.truncate(fitting);
    false
}

/// About what the entry takes on the wire.
fn entry_bytes(entry: &RaftEntry) -> usize {
    const OVERHEAD: usize = 128;
    match &entry.payload {
        EntryPayload::Blank => OVERHEAD,
        EntryPayload::Membership(membership) => OVERHEAD + 64 * membership.nodes().count(),
        EntryPayload::Normal(command) => match &command.operation {
            Operation::Create { range, .. } => OVERHEAD + range.start.len() + range.end.len(),
            Operation::Write(write) => {
                let value = match &write.mutation {
                    Mutation::Put { value } => value.len(),
                    Mutation::Delete => 0,
                };
                OVERHEAD + write.key.len() + value
            }
            Operation::Measure { at } => OVERHEAD + at.len(),
            Operation::Split(split) => OVERHEAD + split.at.len() + 32 * split.replicas.len(),
        },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::{
        command::{Condition, PartitionCommand, Write},
        types::log_id,
    };

    fn request(sizes: &[usize]) -> AppendEntriesRequest {
        let entries = sizes.iter().enumerate().map(|(position, size)| {
            let write = Write {
                write_id: [0; 16],
                expires_at_ms: 1,
                range_epoch: 1,
                key: Bytes::from_static(b"key"),
                mutation: Mutation::Put { value: Bytes::from(vec![0; *size]) },
                condition: Condition::None,
            };
            let index = 1 + u64::try_from(position).unwrap();
            RaftEntry {
                log_id: log_id(1, 1, index),
                payload: EntryPayload::Normal(PartitionCommand::new(1, Operation::Write(write))),
            }
        });
        AppendEntriesRequest {
            vote: RaftVote::new_committed(1, 1),
            prev_log_id: None,
            entries: entries.collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn an_append_is_cut_where_it_gets_too_large() {
        for (sizes, kept) in
            [(vec![], 0), (vec![10], 1), (vec![9_000], 1), (vec![400; 3], 1), (vec![300; 3], 2)]
        {
            let mut request = request(&sizes);
            let whole = cut(&mut request, 1_000);
            assert_eq!(request.entries.len(), kept, "{sizes:?}");
            assert_eq!(whole, kept == sizes.len(), "{sizes:?}");
        }
    }

    #[test]
    fn the_estimate_is_no_less_than_what_the_wire_takes() {
        let request = request(&[0, 5, 60_000]);
        for entry in &request.entries {
            assert!(entry_bytes(entry) >= codec::encode(entry).len());
        }
    }
}
