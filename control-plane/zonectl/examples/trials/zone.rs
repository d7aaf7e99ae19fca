//! The zone under trial: its state, probes, and processor time.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use client::{AdminClient, AdminOptions, Client, ObjectMetadata, Options};
use proto::v1;
use runtime::seams::{Environment, Moment};
use tokio::task::JoinSet;
use zonectl::{
    forms::StatusForm,
    load::{self, LoadOptions, RunningLoad},
    zone_process::{Role, ZoneProcesses},
};

use crate::processor::processor_seconds;

/// How long the zone may take to be healthy again.
const HEALTHY_WITHIN: Duration = Duration::from_secs(90);

pub struct Trial<'a> {
    pub environment: Environment,
    pub processes: &'a mut ZoneProcesses,
    pub admin: AdminClient,
    pub client: Client,
}

/// Which replica is where, and who leads: what may not change when nothing should move.
pub type Placement = BTreeMap<u64, (Vec<(u64, u64)>, u64)>;

impl<'a> Trial<'a> {
    pub async fn new(
        environment: &Environment,
        processes: &'a mut ZoneProcesses,
    ) -> anyhow::Result<Self> {
        let endpoints = processes.layout().endpoints();
        Ok(Self {
            environment: environment.clone(),
            admin: AdminClient::new(environment, &endpoints, AdminOptions::default())?,
            client: Client::connect(environment, &endpoints, Options::default()).await?,
            processes,
        })
    }

    /// A verified load that lasts until it is stopped.
    pub async fn load(&self, bucket: &str, rate: f64) -> anyhow::Result<RunningLoad> {
        let options = LoadOptions {
            rate_per_second: rate,
            duration: Duration::from_secs(3_600),
            verify: true,
            bucket: bucket.to_owned(),
            ..LoadOptions::default()
        };
        self.load_with(options).await
    }

    pub async fn load_with(&self, options: LoadOptions) -> anyhow::Result<RunningLoad> {
        let endpoints = self.processes.layout().endpoints();
        let clients =
            load::connect(&self.environment, &endpoints, &Options::default(), &options).await?;
        Ok(load::start(&self.environment, clients, options)?)
    }

    pub async fn status(&self) -> anyhow::Result<StatusForm> {
        Ok(self.admin.status().await?.into())
    }

    pub async fn wait_for(
        &self,
        what: &str,
        mut done: impl FnMut(&StatusForm) -> bool,
    ) -> anyhow::Result<Duration> {
        let began = self.environment.now();
        let mut last = String::new();
        while self.environment.now().since(began) < HEALTHY_WITHIN {
            match self.status().await {
                Ok(status) if status.from_leader && done(&status) => {
                    return Ok(self.environment.now().since(began));
                }
                Ok(status) => last = status.problems.join("; "),
                Err(error) => last = error.to_string(),
            }
            self.environment.sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{what}: not within {HEALTHY_WITHIN:?} ({last})")
    }

    pub async fn wait_healthy(&self) -> anyhow::Result<Duration> {
        self.wait_for("the zone is not healthy", |status| status.healthy).await
    }

    /// The node that leads most partitions, and which.
    pub async fn busiest(&self) -> anyhow::Result<(Role, u64, Vec<u64>)> {
        let status = self.status().await?;
        let node = status
            .nodes
            .iter()
            .max_by_key(|node| (node.leaders, node.id))
            .context("the zone has no nodes")?;
        let role = self.role(&node.name)?;
        let led = self.partitions().await?;
        let led = led.into_iter().filter(|partition| partition.leader_node_id == node.id);
        Ok((role, node.id, led.map(|partition| partition.id).collect()))
    }

    pub fn role(&self, name: &str) -> anyhow::Result<Role> {
        let mut roles = self.processes.layout().index_node_roles();
        roles.find(|role| role.name() == name).with_context(|| format!("no process is {name}"))
    }

    pub async fn partitions(&self) -> anyhow::Result<Vec<v1::PartitionSummary>> {
        Ok(self.admin.all_partitions(v1::ListPartitionsRequest::default()).await?)
    }

    pub async fn placement(&self) -> anyhow::Result<Placement> {
        let partitions = self.partitions().await?.into_iter().map(|partition| {
            let replicas = partition.replicas.iter();
            let mut replicas: Vec<(u64, u64)> =
                replicas.map(|replica| (replica.replica_id, replica.node_id)).collect();
            replicas.sort_unstable();
            (partition.id, (replicas, partition.leader_node_id))
        });
        Ok(partitions.collect())
    }

    /// For each of the partitions, the time from `since` until a write that began now was acknowledged.
    pub async fn probe(&self, partitions: &[u64], since: Moment) -> anyhow::Result<Vec<f64>> {
        let routes = self.client.routes();
        let mut probes = JoinSet::new();
        for route in routes.iter().filter(|route| partitions.contains(&route.partition.0)) {
            let mut key = route.start.to_vec();
            key.extend_from_slice(b"\0trial");
            let client = self.client.with_deadline(Duration::from_secs(30));
            let environment = self.environment.clone();
            probes.spawn(async move {
                client.put(Bytes::from(key), ObjectMetadata::default(), None).await?;
                let took = environment.now().since(since);
                Ok::<f64, client::WriteError>(took.as_secs_f64() * 1e3)
            });
        }
        let mut samples = Vec::new();
        while let Some(probe) = probes.join_next().await {
            samples.push(probe?.context("a partition did not come back")?);
        }
        Ok(samples)
    }

    /// Processor seconds that all processes of the zone have used so far.
    pub fn processor_seconds(&mut self) -> f64 {
        let roles: Vec<Role> = self.processes.layout().roles().collect();
        roles
            .into_iter()
            .filter_map(|role| self.processes.process_id(role))
            .filter_map(processor_seconds)
            .sum()
    }
}
