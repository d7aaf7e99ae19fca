//! What it costs a request to be counted and to have a turn by its key: processor time for each, without and
//! with all that is counted.
//!
//! `cargo run -p index-node --example heat_cost`. A request as a whole costs a hundred times as much at
//! least: see "Measured" in the README.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use index_node::engine::{
    heat::{Counts, Heat},
    turns::{TurnGate, TurnLimits, Turned},
};
use runtime::seams::Environment;
use tokio::sync::Semaphore;

const REQUESTS: u32 = 2_000_000;

/// Nanoseconds of the processor that a request takes, the median of seven runs.
async fn nanoseconds_each(work: impl AsyncFn(u32)) -> f64 {
    let processor_time = Environment::production().processor_time;
    let mut runs = Vec::new();
    for _ in 0..7 {
        let before = processor_time.of_thread();
        for request in 0..REQUESTS {
            work(request).await;
        }
        let used: Duration = processor_time.of_thread().saturating_sub(before);
        runs.push(used.as_secs_f64() * 1e9 / f64::from(REQUESTS));
    }
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

/// Waits once, as a request does for its quorum.
async fn answer(key: &[u8]) -> usize {
    tokio::task::yield_now().await;
    black_box(key.len())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let environment = Environment::production();
    let keys: Vec<String> = (0..1_000).map(|number| format!("bucket\0object-{number}")).collect();
    let key = |request: u32| keys[request as usize % keys.len()].as_bytes();
    let bare = nanoseconds_each(async |request| {
        answer(key(request)).await;
    })
    .await;
    println!("a request that does nothing and waits once: {bare:.0} ns");
    for (what, tracked) in [("its keys not watched", false), ("its keys watched", true)] {
        let heat = Heat::default();
        heat.track_keys(tracked);
        let counted = nanoseconds_each(async |request| {
            let key = key(request);
            let work = async { Ok(answer(key).await) };
            if heat.request(&environment, work).await.is_ok() {
                heat.read(key, key.len());
            }
        })
        .await;
        let Counts { reads, request_cpu, .. } = heat.take();
        println!(
            "the same, counted, {what}: {:.0} ns more ({reads} reads, {:.1} s of processor time told)",
            counted - bare,
            request_cpu.as_secs_f64(),
        );
    }
    for (what, others) in [("nothing else under way", 0), ("a hundred others under way", 100)] {
        let (gate, places) = (TurnGate::new(TurnLimits::default()), Semaphore::new(1));
        let others: Vec<Bytes> = (0..others).map(|it| format!("other-{it}").into()).collect();
        let mut turns = Vec::new();
        for other in &others {
            turns.push(gate.enter(other, &places, Duration::ZERO).await);
        }
        let keys: Vec<Bytes> = keys.iter().map(|key| Bytes::from(key.clone())).collect();
        let turned = nanoseconds_each(async |request| {
            let key = &keys[request as usize % keys.len()];
            let turn = gate.enter(key, &places, Duration::ZERO).await;
            assert!(matches!(turn, Turned::AtOnce(_)), "there is room");
            answer(key).await;
        })
        .await;
        println!("a turn by key, {what}: {:.0} ns more", turned - bare);
    }
    let heat = Heat::default();
    let processor_time = environment.processor_time.as_ref();
    let applied = nanoseconds_each(async |request| {
        heat.apply(processor_time, answer(key(request))).await;
    })
    .await;
    println!("a run of entries, counted: {:.0} ns more", applied - bare);
}
