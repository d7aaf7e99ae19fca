//! When each partition acknowledges writes again.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use client::{Client, ObjectMetadata};
use runtime::seams::{Environment, Moment};
use tokio::task::JoinSet;

use crate::record::Again;

/// Writes to one partition begin so far apart until one is acknowledged: a single one would show its own
/// retries instead of the partition.
pub const INTERVAL: Duration = Duration::from_millis(10);

/// Writes to one partition that wait at the same time, at most.
pub const OUTSTANDING_MAX: usize = 10;

/// How long it is waited for. Longer than any goal; a partition that takes longer has failed.
pub const LIMIT: Duration = Duration::from_secs(20);

/// For each of the partitions the time from `since` until a write that began now, or later, was
/// acknowledged; how long it was waited for if none was.
pub async fn acknowledged_again(
    environment: &Environment,
    client: &Client,
    partitions: &[u64],
    since: Moment,
) -> anyhow::Result<Vec<Again>> {
    let mut probes = JoinSet::new();
    for route in client.routes().iter().filter(|route| partitions.contains(&route.partition.0)) {
        let partition_id = route.partition.0;
        let mut key = route.start.to_vec();
        key.extend_from_slice(b"\0probe");
        let (client, key) = (client.with_deadline(LIMIT), Bytes::from(key));
        let environment = environment.clone();
        probes.spawn(async move {
            let put = move || {
                let (client, key) = (client.clone(), key.clone());
                async move { client.put(key, ObjectMetadata::default(), None).await.is_ok() }
            };
            let at = first_success(&environment, put).await;
            again(&environment, partition_id, since, at)
        });
    }
    let mut all = Vec::new();
    while let Some(probe) = probes.join_next().await {
        all.push(probe.context("a probe broke down")?);
    }
    all.sort_by_key(|again| again.partition_id);
    Ok(all)
}

/// When a partition was first seen to work again, if it was.
pub fn again(
    environment: &Environment,
    partition_id: u64,
    since: Moment,
    at: Option<Moment>,
) -> Again {
    let again_ms = at.unwrap_or_else(|| environment.now()).since(since).as_secs_f64() * 1e3;
    Again { partition_id, again_ms, gave_up: at.is_none() }
}

/// Begins an attempt every now and then, until one of them succeeds: when that was.
pub async fn first_success<F>(environment: &Environment, attempt: impl Fn() -> F) -> Option<Moment>
where
    F: Future<Output = bool> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    let probing = async {
        loop {
            if attempts.len() < OUTSTANDING_MAX {
                attempts.spawn(attempt());
            }
            let next = environment.timeout(INTERVAL, attempts.join_next()).await;
            if let Some(Some(Ok(true))) = next {
                return environment.now();
            }
            if matches!(next, Some(Some(_))) {
                // A failure may come at once, and so would the next.
                environment.sleep(Duration::from_millis(1)).await;
            }
        }
    };
    environment.timeout(LIMIT, probing).await
}
