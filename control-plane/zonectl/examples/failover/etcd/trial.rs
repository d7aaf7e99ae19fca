//! One trial with etcd, from its preparation to its verification.

use std::time::Duration;

use bytes::Bytes;
use runtime::seams::Environment;

use super::{client::EtcdClient, cluster::Cluster, load::EtcdLoad};
use crate::{
    fault::Fault,
    noise::MachineNoise,
    probe,
    record::TrialRecord,
    trial::{LEAD, TAIL},
};

/// How long the leader stays frozen at least, as an index node does.
const HELD_AT_LEAST: Duration = Duration::from_secs(3);

pub async fn run(
    environment: &Environment,
    cluster: &mut Cluster,
    fault: Fault,
    trial: u32,
    rate_per_second: f64,
) -> anyhow::Result<TrialRecord> {
    let began = environment.now();
    let client = EtcdClient::new(environment, cluster.endpoints())?;
    cluster.leader(environment, &client).await?;
    let run = format!("{}-{}", fault.name(), environment.random_uuid());
    let load = EtcdLoad::start(environment, &client, rate_per_second, run);
    environment.sleep(LEAD).await;
    let leader = cluster.leader(environment, &client).await?;

    let freezes = matches!(fault, Fault::EtcdFreeze | Fault::EtcdTunedFreeze);
    let (since, wall_time_ms) = (environment.now(), environment.wall_ms());
    if freezes {
        cluster.freeze(leader)?;
    } else {
        cluster.kill(leader)?;
    }
    // As our own probes: by a client that many share.
    let put = {
        let client = client.clone();
        move || {
            let client = client.clone();
            let (key, value) = (Bytes::from_static(b"probe"), Bytes::from_static(b"probe"));
            async move { client.put(key, value).await.is_ok() }
        }
    };
    let at = probe::first_success(environment, put).await;
    // etcd is not divided: all of it is one partition.
    let again = probe::again(environment, 0, since, at);
    if freezes {
        let left = HELD_AT_LEAST.saturating_sub(environment.now().since(since));
        environment.sleep(left).await;
        cluster.thaw(leader)?;
    } else {
        cluster.start_member(leader)?;
    }
    cluster.leader(environment, &client).await?;
    environment.sleep(TAIL).await;
    let figures = load.finish().await?;
    Ok(TrialRecord {
        fault,
        trial,
        wall_time_ms,
        noticed_ms: None,
        decided_ms: None,
        carried_out_ms: None,
        again: vec![again],
        completed: figures.completed,
        failed: figures.failed,
        unknown: figures.unknown,
        shed: 0,
        longest_wait_ms: figures.longest_wait.as_secs_f64() * 1e3,
        longest_pause_ms: figures.longest_pause().as_secs_f64() * 1e3,
        acknowledged_writes: figures.acknowledged.len() as u64,
        lost: figures.lost.len() as u64,
        lost_examples: figures.lost.iter().take(20).cloned().collect(),
        errors: figures.errors(),
        events: Vec::new(),
        machine: MachineNoise::default(),
        took_seconds: environment.now().since(began).as_secs_f64(),
    })
}
