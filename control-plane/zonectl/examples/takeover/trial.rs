//! One loss.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use client::{AdminClient, AdminOptions, Client, ObjectMetadata, Options};
use futures_util::StreamExt;
use proto::v1;
use runtime::seams::{Environment, Moment};
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinSet};
use zonectl::{forms::StatusForm, zone_process::ZoneProcesses};

/// How long the zone may take to come to rest.
const REST_WITHIN: Duration = Duration::from_secs(600);

/// How long nothing must have been done before the next loss.
const REST: Duration = Duration::from_secs(2);

const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long a write is waited for.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// What one loss has shown, in milliseconds from `kill -9`, on this program's clock.
#[derive(Clone, Debug, Serialize)]
pub struct TrialRecord {
    /// Partitions that the dead node led.
    pub led: u64,
    /// The ledger says that the node is suspected or down.
    pub noticed_ms: Option<f64>,
    /// The ledger says who leads instead: the first and the last partition.
    pub first_decided_ms: Option<f64>,
    pub last_decided_ms: Option<f64>,
    /// When each partition acknowledged a write that began at the loss, rising.
    pub writes_ms: Vec<f64>,
    /// Writes that were not acknowledged within 30 s, or given up.
    pub failed: u64,
    /// How often each reason was given for that.
    pub errors: BTreeMap<String, u64>,
}

impl TrialRecord {
    pub fn last_write_ms(&self) -> f64 {
        self.writes_ms.last().copied().unwrap_or_default()
    }
}

fn elapsed_ms(environment: &Environment, since: Moment) -> f64 {
    environment.now().since(since).as_secs_f64() * 1e3
}

/// Kills the node that leads most, watches, and starts it again.
pub async fn run(
    environment: &Environment,
    processes: &mut ZoneProcesses,
) -> anyhow::Result<TrialRecord> {
    let endpoints = processes.layout().endpoints();
    let admin = AdminClient::new(environment, &endpoints, AdminOptions::default())?;
    let status = wait_for_rest(environment, &admin).await?;
    let node = status.nodes.iter().max_by_key(|node| (node.leaders, node.id));
    let node = node.context("the zone has no nodes")?;
    let mut roles = processes.layout().index_node_roles();
    let role = roles.find(|role| role.name() == node.name).context("an unknown node")?;
    let partitions = admin.all_partitions(v1::ListPartitionsRequest::default()).await?;
    let led: Vec<u64> = partitions
        .iter()
        .filter(|partition| partition.leader_node_id == node.id)
        .map(|partition| partition.id)
        .collect();

    let client = Client::connect(environment, &endpoints, Options::default()).await?;
    let client = client.with_deadline(WRITE_LIMIT);
    warm_up(&client, &led).await?;
    let mut events = follow(environment, admin, last_sequence(&endpoints, environment).await?);
    let since = environment.now();
    processes.kill(role)?;
    let writes = write_to_each(environment, &client, &led, since);
    let (acknowledged, errors) = collect(writes).await?;

    // What is decided is told a moment after it is done.
    environment.sleep(REST).await;
    let mut record = TrialRecord {
        led: led.len() as u64,
        noticed_ms: None,
        first_decided_ms: None,
        last_decided_ms: None,
        writes_ms: acknowledged,
        failed: errors.values().sum(),
        errors,
    };
    while let Ok((at, event)) = events.try_recv() {
        let ms = at.since(since).as_secs_f64() * 1e3;
        match event.kind.as_str() {
            "node-suspect" | "node-down" if event.node_id == node.id => {
                record.noticed_ms.get_or_insert(ms);
            }
            "leader-changed" if led.contains(&event.partition_id) => {
                record.first_decided_ms.get_or_insert(ms);
                // A later one is of the balance that follows.
                if ms <= record.last_write_ms() + REST.as_secs_f64() * 1e3 / 2.0 {
                    record.last_decided_ms = Some(ms);
                }
            }
            _ => {}
        }
    }
    processes.start(role)?;
    Ok(record)
}

/// Until everything is as it should be, and nothing has been done for a while.
async fn wait_for_rest(
    environment: &Environment,
    admin: &AdminClient,
) -> anyhow::Result<StatusForm> {
    let began = environment.now();
    let mut resting = environment.now();
    while environment.now().since(began) < REST_WITHIN {
        let status: StatusForm = admin.status().await?.into();
        if !status.healthy || !status.from_leader || status.operations.running > 0 {
            resting = environment.now();
        } else if environment.now().since(resting) >= REST {
            return Ok(status);
        }
        environment.sleep(LOOK_INTERVAL).await;
    }
    anyhow::bail!("the zone has not come to rest within {REST_WITHIN:?}")
}

/// One write to each, so that connections are open and partitions' times are known.
async fn warm_up(client: &Client, partitions: &[u64]) -> anyhow::Result<()> {
    for (partition, key) in keys(client, partitions) {
        let put = client.put(key, ObjectMetadata::default(), None).await;
        put.with_context(|| format!("partition {partition} takes no write"))?;
    }
    Ok(())
}

/// A key in each of the partitions.
fn keys(client: &Client, partitions: &[u64]) -> Vec<(u64, bytes::Bytes)> {
    let routes = client.routes().into_iter();
    let wanted = routes.filter(|route| partitions.contains(&route.partition.0));
    wanted
        .map(|route| {
            let mut key = route.start.to_vec();
            key.extend_from_slice(b"\0takeover");
            (route.partition.0, key.into())
        })
        .collect()
}

fn write_to_each(
    environment: &Environment,
    client: &Client,
    partitions: &[u64],
    since: Moment,
) -> JoinSet<Result<f64, String>> {
    let mut writes = JoinSet::new();
    for (_, key) in keys(client, partitions) {
        let (client, environment) = (client.clone(), environment.clone());
        writes.spawn(async move {
            let put = client.put(key, ObjectMetadata::default(), None).await;
            put.map(|_| elapsed_ms(&environment, since)).map_err(|error| without_digits(&error))
        });
    }
    writes
}

/// An error's text in which all numbers are alike, so that equal problems are counted together.
fn without_digits(error: &client::WriteError) -> String {
    let mut text = String::new();
    for character in error.to_string().chars() {
        match character {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            other => text.push(other),
        }
    }
    text
}

/// When each was acknowledged, rising, and why others were not.
async fn collect(
    mut writes: JoinSet<Result<f64, String>>,
) -> anyhow::Result<(Vec<f64>, BTreeMap<String, u64>)> {
    let (mut acknowledged, mut errors) = (Vec::new(), BTreeMap::new());
    while let Some(write) = writes.join_next().await {
        match write.context("a write broke down")? {
            Ok(at) => acknowledged.push(at),
            Err(message) => *errors.entry(message).or_default() += 1,
        }
    }
    acknowledged.sort_by(f64::total_cmp);
    Ok((acknowledged, errors))
}

async fn last_sequence(endpoints: &[String], environment: &Environment) -> anyhow::Result<u64> {
    let admin = AdminClient::new(environment, endpoints, AdminOptions::default())?;
    let mut events = std::pin::pin!(admin.watch_events(v1::WatchEventsRequest::default()));
    let mut last = 0;
    while let Some(event) = events.next().await {
        last = event?.sequence;
    }
    Ok(last)
}

/// Events after this one as they come, each with its moment.
fn follow(
    environment: &Environment,
    admin: AdminClient,
    after_sequence: u64,
) -> mpsc::UnboundedReceiver<(Moment, v1::Event)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let environment = environment.clone();
    tokio::spawn(async move {
        let request = v1::WatchEventsRequest { after_sequence, follow: true };
        let mut events = std::pin::pin!(admin.watch_events(request));
        while let Some(Ok(event)) = events.next().await {
            // Until nobody listens any more.
            if sender.send((environment.now(), event)).is_err() {
                return;
            }
        }
    });
    receiver
}
