//! A wayward client: asks index nodes for what they must refuse, again and again while things go wrong:
//! writes that do not fit, and orders in the name of a leader that was deposed.
//!
//! Nobody well-behaved asks for this, or only in rare moments. What it writes is never written if all is
//! well, so it takes no part in the history.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use proto::v1::{
    self, Fence, GetPartitionMapRequest, PartitionMap, PartitionRoute, PutRequest, TakeOverRequest,
    Target, VoteAuthority, WriteId, error_detail::Kind, index_service_client::IndexServiceClient,
    peer_service_client::PeerServiceClient, routing_service_client::RoutingServiceClient,
};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use runtime::{
    grpc::{ChannelOptions, Channels, MESSAGE_BYTES_MAX, detail},
    seams::Environment,
};
use tonic::Status;

use crate::{
    board::{Board, Phase},
    checks::Problem,
    seed::Seed,
};

/// The pause between two requests.
const PAUSE_MS: Range<u64> = 100..900;

/// How long to wait for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// How far ahead of the partition's time a write expires that shall not be refused for its expiry.
const EXPIRES_AHEAD_MS: u64 = 20_000;

/// So much is a range epoch too high that is wrong.
const EPOCHS_BEYOND: u64 = 1_000_000;

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// The key belongs to another partition.
    Key,
    /// No partition has this range epoch, nor will have.
    Epoch,
    /// The write has expired.
    Expiry,
    /// It is no write, but a takeover of nothing under a term that ended before the first one.
    Fence,
}

/// A key that the route's partition must not take; none if it takes every key.
fn foreign_key(route: &PartitionRoute) -> Option<Bytes> {
    let range = route.range.as_ref()?;
    if !range.start.is_empty() {
        Some(Bytes::from_static(b"\x01wayward"))
    } else if !range.end.is_empty() {
        Some(range.end.clone())
    } else {
        None
    }
}

/// A key that the route's partition takes, and nobody else uses.
fn own_key(route: &PartitionRoute) -> Bytes {
    let start = route.range.as_ref().map_or(&b""[..], |range| &range.start);
    Bytes::from([start, b"\x01wayward"].concat())
}

/// Asks from the first phase with faults to its end.
///
/// # Errors
/// If no channels can be made.
pub async fn work(
    seed: Seed,
    environment: Environment,
    members: Vec<String>,
    board: Board,
) -> anyhow::Result<()> {
    let channels = Channels::new(&environment, ChannelOptions::default())?;
    let mut generator = seed.derive("wayward", 0).generator();
    let client = Wayward { environment, channels, members, board };
    client.board.reached(Phase::Faults).await;
    while client.board.phase() == Phase::Faults {
        let pause = generator.random_range(PAUSE_MS);
        client.environment.sleep(Duration::from_millis(pause)).await;
        if let Some(map) = client.map(&mut generator).await {
            client.ask(&map, &mut generator).await;
        }
    }
    Ok(())
}

struct Wayward {
    environment: Environment,
    channels: Channels,
    members: Vec<String>,
    board: Board,
}

impl Wayward {
    async fn map(&self, generator: &mut StdRng) -> Option<PartitionMap> {
        let member = self.members.choose(generator)?;
        let mut routing = RoutingServiceClient::new(self.channels.get(member))
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let call = routing.get_partition_map(GetPartitionMapRequest {});
        let answer = self.environment.timeout(CALL_TIMEOUT, Box::pin(call)).await;
        Some(answer?.ok()?.into_inner())
    }

    /// Asks a leader for something wrong.
    async fn ask(&self, map: &PartitionMap, generator: &mut StdRng) {
        let wrong = *[Wrong::Key, Wrong::Epoch, Wrong::Expiry, Wrong::Fence]
            .choose(generator)
            .expect("there is something to choose from");
        let Some(route) = map.partitions.choose(generator) else { return };
        let Some(node) = map.nodes.iter().find(|node| node.node_id == route.leader_node_id) else {
            return;
        };
        let key = match wrong {
            Wrong::Key => match foreign_key(route) {
                Some(key) => key,
                None => return,
            },
            Wrong::Epoch | Wrong::Expiry => own_key(route),
            Wrong::Fence => return self.order(&node.address).await,
        };
        // Far beyond what splits can make of it while the request is on its way.
        let beyond = if wrong == Wrong::Epoch { EPOCHS_BEYOND } else { 0 };
        let range_epoch = route.range_epoch + beyond;
        let mut expires_at_ms = 1;
        // The second time, if need be, with an expiry that fits the partition's time.
        for _ in 0..2 {
            let write_id = Bytes::copy_from_slice(&self.environment.random_bytes());
            let request = PutRequest {
                target: Some(Target { partition_id: route.partition_id, range_epoch }),
                key: key.clone(),
                value: Some(v1::ObjectMetadata::default()),
                condition: None,
                write_id: Some(WriteId { id: write_id, expires_at_ms }),
            };
            match self.put(&node.address, request).await {
                Some(Ok(version)) => {
                    self.board.report(
                        Problem::new(
                            "G3",
                            format!("a partition took a write that it has to refuse: {wrong:?}"),
                        )
                        .with_details(format!(
                            "partition {}, {:?}, as version {version}: key {key:?}, range epoch \
                             {range_epoch}, expiry {expires_at_ms} ms",
                            route.partition_id, route.range
                        )),
                    );
                    return;
                }
                Some(Err(status)) => match detail::kind_of(&status) {
                    Some(Kind::PartitionTime(time)) if wrong != Wrong::Expiry => {
                        expires_at_ms = time.now_ms + EXPIRES_AHEAD_MS;
                    }
                    _ => return,
                },
                None => return,
            }
        }
    }

    /// Gives an order that is older than all that a node can have accepted. Only to nodes that lead, and so
    /// have accepted one.
    async fn order(&self, address: &str) {
        let mut node = PeerServiceClient::new(self.channels.get(address));
        let request = TakeOverRequest {
            fence: Some(Fence { zone_generation: 1, ..Fence::default() }),
            authority: VoteAuthority::Conclusion.into(),
            ..TakeOverRequest::default()
        };
        let call = node.take_over(request);
        let answer = self.environment.timeout(CALL_TIMEOUT, Box::pin(call)).await;
        if let Some(Ok(_)) = answer {
            self.board.report(
                Problem::new("G5", "a node takes orders of a leader that was deposed")
                    .with_details(format!("the node at {address}: an order of term 0")),
            );
        }
    }

    /// The version that was written; none without an answer.
    async fn put(&self, address: &str, request: PutRequest) -> Option<Result<u64, Status>> {
        let mut node = IndexServiceClient::new(self.channels.get(address));
        let answer = self.environment.timeout(CALL_TIMEOUT, Box::pin(node.put(request))).await?;
        Some(answer.map(|answer| answer.into_inner().version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_and_foreign_keys_are_what_they_are_called() {
        for (start, end) in [("", ""), ("", "m"), ("m", ""), ("m", "n"), ("key-0003", "key-0004")] {
            let range = v1::KeyRange { start: start.into(), end: end.into() };
            let holds = |key: &Bytes| *key >= start && (end.is_empty() || *key < end);
            let route = PartitionRoute { range: Some(range), ..PartitionRoute::default() };
            assert!(holds(&own_key(&route)), "{start:?} {end:?}");
            let foreign = foreign_key(&route);
            assert_eq!(foreign.is_none(), start.is_empty() && end.is_empty());
            assert!(foreign.is_none_or(|key| !holds(&key)), "{start:?} {end:?}");
        }
    }
}
