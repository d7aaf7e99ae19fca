//! Snapshots that do not arrive.

use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed};

use proto::v1::{SnapshotChunk, snapshot_chunk::Body};
use runtime::store::Scan;

use super::harness::{EPOCH, Zone, founder, placement};
use crate::engine::{
    host::EnsureReplica,
    keys,
    options::EngineOptions,
    snapshot_stream::SnapshotStream,
    transport::Route,
    types::{Lineage, RaftVote},
};

fn lineages(zone: &Zone, node: u64) -> BTreeSet<Lineage> {
    let store = zone.store(node);
    let mut found = BTreeSet::new();
    for family in [keys::DATA, keys::OUTCOMES] {
        for entry in store.scan(family, Scan::prefix("")) {
            found.insert(keys::lineage_of(&entry.unwrap().0).unwrap());
        }
    }
    found
}

/// A group of one with some 10 MiB, and a blank replica beside it.
async fn zone() -> Zone {
    let options = EngineOptions {
        log_entries_per_snapshot: 20,
        log_entries_kept: 5,
        ..EngineOptions::default()
    };
    let zone = Zone::simulated(2, options).await;
    zone.found(&[1]).await;
    for number in 0..200 {
        zone.put(1, &format!("key{number:03}"), &"x".repeat(50_000)).await.unwrap();
    }
    let blank = EnsureReplica { founders: Vec::new(), campaign: false, ..founder(2, &[2]) };
    zone.host(2).ensure(blank).await.unwrap();
    zone
}

fn chunks(zone: &Zone) -> Vec<SnapshotChunk> {
    let (state, reader) = zone.replica(1).view.snapshot();
    let route = Route {
        partition: super::harness::PARTITION,
        from: placement(1).replica,
        to: placement(2).replica,
        to_node: placement(2).node,
    };
    let vote = RaftVote::new_committed(1, placement(1).replica.0);
    let snapshot = crate::engine::snapshot::local(state, reader);
    SnapshotStream::new("zone", route, &vote, snapshot).map(Result::unwrap).collect()
}

async fn send(zone: &Zone, chunks: Vec<SnapshotChunk>) -> Result<(), tonic::Status> {
    let stream = futures_util::stream::iter(chunks.into_iter().map(Ok));
    zone.host(2).receive_snapshot(stream).await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn chunks_are_bounded_and_complete() {
    let zone = zone().await;
    let chunks = chunks(&zone);
    assert!(chunks.len() > 30, "{}", chunks.len());
    let mut items = 0;
    for chunk in &chunks {
        assert!(prost::Message::encoded_len(chunk) <= 256 * 1024);
        if let Some(Body::Items(some)) = &chunk.body {
            items += some.items.len() as u64;
        }
    }
    let Some(Body::Trailer(trailer)) = &chunks.last().unwrap().body else { panic!("no trailer") };
    assert_eq!(trailer.items, items);
    assert_eq!(items, 400, "keys and outcomes");
}

#[tokio::test(start_paused = true)]
async fn what_breaks_off_or_is_damaged_leaves_nothing() {
    let zone = zone().await;
    let whole = chunks(&zone);

    let mut broken = whole.clone();
    broken.truncate(10);
    assert_eq!(send(&zone, broken).await.unwrap_err().code(), tonic::Code::Aborted);
    assert_eq!(lineages(&zone, 2), BTreeSet::new());

    let mut damaged = whole.clone();
    let Some(Body::Items(items)) = &mut damaged[3].body else { panic!("no items") };
    items.items.pop();
    assert_eq!(send(&zone, damaged).await.unwrap_err().code(), tonic::Code::DataLoss);
    assert_eq!(lineages(&zone, 2), BTreeSet::new());

    let mut headless = whole.clone();
    headless.remove(0);
    assert_eq!(send(&zone, headless).await.unwrap_err().code(), tonic::Code::InvalidArgument);

    let mut foreign = whole.clone();
    let Some(Body::Header(header)) = &mut foreign[0].body else { panic!("no header") };
    header.zone_id = "another".into();
    assert_eq!(send(&zone, foreign).await.unwrap_err().code(), tonic::Code::FailedPrecondition);
    assert_eq!(zone.replica(2).report().keys, 0);

    send(&zone, whole).await.unwrap();
    assert_eq!(zone.content(2), zone.content(1));
    assert_eq!(lineages(&zone, 2).len(), 1);
    assert_eq!(zone.replica(2).report().range_epoch, EPOCH);
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_receiving_leaves_nothing() {
    let mut zone = zone().await;
    let whole = chunks(&zone);
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let receiver = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    let host = zone.host(2);
    let receiving = tokio::spawn(async move { host.receive_snapshot(receiver).await.map(|_| ()) });
    for chunk in whole.into_iter().take(12) {
        sender.send(Ok(chunk)).unwrap();
    }
    zone.eventually(|| (lineages(&zone, 2).len() == 1).then_some(())).await;
    runtime::store::synced(zone.store(2).as_ref()).await.unwrap();
    zone.crash(2);
    receiving.abort();
    zone.start(2).await;
    assert_eq!(lineages(&zone, 2), BTreeSet::new());
    assert_eq!(zone.replica(2).report().keys, 0);
}

#[tokio::test(start_paused = true)]
async fn a_learner_gets_there_although_snapshots_break_off() {
    let zone = zone().await;
    zone.network.snapshot_chunks_max.store(7, Relaxed);
    let based_on = *zone.replica(1).membership().log_id();
    zone.replica(1).add_learner(placement(2), based_on).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(zone.replica(2).report().keys, 0);
    zone.network.snapshot_chunks_max.store(0, Relaxed);
    zone.caught_up(2, 1).await;
    assert_eq!(zone.content(2), zone.content(1));
    assert_eq!(lineages(&zone, 2).len(), 1);
}
