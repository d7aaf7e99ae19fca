//! Snapshots that do not arrive.

use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed, time::Duration};

use proto::v1::{GetSnapshotProgressResponse, SnapshotChunk, SnapshotHeader, snapshot_chunk::Body};
use runtime::store::Scan;

use super::harness::{EPOCH, Zone, founder, placement};
use crate::engine::{
    host::EnsureReplica,
    keys,
    options::EngineOptions,
    snapshot_stream::SnapshotTransfer,
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

/// A snapshot of the group as it is now.
fn transfer(zone: &Zone, id: u64) -> SnapshotTransfer {
    let (state, reader) = zone.replica(1).view.snapshot();
    let route = Route {
        partition: super::harness::PARTITION,
        from: placement(1).replica,
        to: placement(2).replica,
        to_node: placement(2).node,
    };
    let vote = RaftVote::new_committed(1, placement(1).replica.0);
    let snapshot = crate::engine::snapshot::local(state, reader, None);
    SnapshotTransfer::new("zone", id, route, &vote, snapshot, usize::MAX)
}

fn chunks(zone: &Zone) -> Vec<SnapshotChunk> {
    transfer(zone, 0).chunks().map(Result::unwrap).collect()
}

fn kept(zone: &Zone, transfer: &SnapshotTransfer) -> GetSnapshotProgressResponse {
    zone.host(2).snapshot_progress(&transfer.progress_request()).unwrap()
}

/// The header, and the chunks after those that are kept.
fn rest(transfer: &SnapshotTransfer, kept: &GetSnapshotProgressResponse) -> Vec<SnapshotChunk> {
    let rest = transfer.rest(kept).expect("whole chunks are kept, and undamaged");
    rest.map(Result::unwrap).collect()
}

/// Sends the beginning of it; the connection breaks then.
async fn break_off(zone: &Zone, transfer: &SnapshotTransfer, chunks: usize) {
    let some = transfer.chunks().take(chunks).map(Result::unwrap).collect();
    assert_eq!(send(zone, some).await.unwrap_err().code(), tonic::Code::Aborted);
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
async fn what_broke_off_goes_on_where_it_was() {
    let zone = zone().await;
    let (sent, content) = (transfer(&zone, 7), zone.content(1));
    break_off(&zone, &sent, 10).await;
    let first = kept(&zone, &sent);
    assert!((1..400).contains(&first.items), "{first:?}");
    assert_eq!(kept(&zone, &transfer(&zone, 8)), GetSnapshotProgressResponse::default());
    // What is written meanwhile is no part of it.
    zone.put(1, "key000", "later").await.unwrap();

    let mut some = rest(&sent, &first);
    some.truncate(6);
    assert_eq!(send(&zone, some).await.unwrap_err().code(), tonic::Code::Aborted);
    let second = kept(&zone, &sent);
    assert!(second.items > first.items, "{second:?}");
    assert_eq!(lineages(&zone, 2).len(), 1);

    send(&zone, rest(&sent, &second)).await.unwrap();
    assert_eq!(zone.content(2), content);
    assert_eq!(lineages(&zone, 2).len(), 1);
    assert_eq!(kept(&zone, &sent), GetSnapshotProgressResponse::default());
}

#[tokio::test(start_paused = true)]
async fn only_where_a_chunk_ends_it_goes_on() {
    let zone = zone().await;
    let sent = transfer(&zone, 7);
    assert!(sent.rest(&GetSnapshotProgressResponse { items: 1, crc32: 0 }).is_none());
    break_off(&zone, &sent, 10).await;
    let kept = kept(&zone, &sent);
    assert!(sent.rest(&kept).is_some());
    for other in [
        GetSnapshotProgressResponse { items: kept.items + 1, ..kept },
        GetSnapshotProgressResponse { crc32: kept.crc32 ^ 1, ..kept },
    ] {
        assert!(sent.rest(&other).is_none(), "{other:?}");
    }
    assert!(transfer(&zone, 7).rest(&kept).is_none(), "another has not come so far");
}

#[tokio::test(start_paused = true)]
async fn a_header_is_bounded() {
    let zone = zone().await;
    let mut whole = chunks(&zone);
    let Some(Body::Header(header)) = &mut whole[0].body else { panic!("no header") };
    header.group_state = vec![0; 300 * 1024].into();
    let refused = send(&zone, whole).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("at most 262144"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_on_a_disk_that_is_low() {
    let zone = zone().await;
    let sent = transfer(&zone, 7);
    break_off(&zone, &sent, 10).await;
    assert!(kept(&zone, &sent).items > 0);
    zone.host(2).set_disk_below_reserve(true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(lineages(&zone, 2), BTreeSet::new());
    break_off(&zone, &sent, 10).await;
    assert_eq!(lineages(&zone, 2), BTreeSet::new());
    assert_eq!(kept(&zone, &sent), GetSnapshotProgressResponse::default());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_rest_of_what_is_kept_is_refused_and_nothing_stays() {
    let zone = zone().await;
    let sent = transfer(&zone, 7);
    let cases: [fn(&mut SnapshotHeader); 4] = [
        |header| header.items_before += 1,
        |header| header.transfer_id = 8,
        |header| header.from_replica_id = 3,
        |header| header.group_state = header.meta.clone(),
    ];
    for case in cases {
        break_off(&zone, &sent, 10).await;
        let mut other = rest(&sent, &kept(&zone, &sent));
        let Some(Body::Header(header)) = &mut other[0].body else { panic!("no header") };
        case(header);
        let refused = send(&zone, other).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
        assert_eq!(lineages(&zone, 2), BTreeSet::new());
        assert_eq!(kept(&zone, &sent), GetSnapshotProgressResponse::default());
    }
    // Damage in what is kept would show at the end, as everywhere.
    break_off(&zone, &sent, 10).await;
    let mut damaged = rest(&sent, &kept(&zone, &sent));
    damaged.remove(1);
    assert_eq!(send(&zone, damaged).await.unwrap_err().code(), tonic::Code::DataLoss);
    assert_eq!(lineages(&zone, 2), BTreeSet::new());
    let mut foreign = sent.progress_request();
    foreign.zone_id = "another".into();
    let refused = zone.host(2).snapshot_progress(&foreign).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test(start_paused = true)]
async fn what_broke_off_is_let_go_of_if_nobody_goes_on_with_it() {
    let zone = zone().await;
    let sent = transfer(&zone, 7);
    break_off(&zone, &sent, 10).await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert!(kept(&zone, &sent).items > 0);
    assert_eq!(lineages(&zone, 2).len(), 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(kept(&zone, &sent), GetSnapshotProgressResponse::default());
    assert_eq!(lineages(&zone, 2), BTreeSet::new());
    // One that begins anew takes the place of what is kept.
    break_off(&zone, &sent, 10).await;
    send(&zone, chunks(&zone)).await.unwrap();
    assert_eq!(lineages(&zone, 2).len(), 1);
    assert_eq!(zone.content(2), zone.content(1));
}

/// A server drops the call when its connection breaks.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_breaks_off() {
    let zone = zone().await;
    let sent = transfer(&zone, 7);
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let receiver = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    let host = zone.host(2);
    let receiving = tokio::spawn(async move { host.receive_snapshot(receiver).await.map(|_| ()) });
    for chunk in sent.chunks().take(12) {
        sender.send(Ok(chunk.unwrap())).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = zone.host(2).snapshot_progress(&sent.progress_request());
    assert_eq!(asked.unwrap_err().code(), tonic::Code::Aborted, "it is on its way still");
    receiving.abort();
    tokio::time::sleep(Duration::from_secs(1)).await;
    send(&zone, rest(&sent, &kept(&zone, &sent))).await.unwrap();
    assert_eq!(zone.content(2), zone.content(1));
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
