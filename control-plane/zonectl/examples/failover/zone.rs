//! The zone that everything is done to: its processes, who leads what, and whether it is well.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use client::{AdminClient, AdminOptions, Client, Options};
use futures_util::TryStreamExt;
use proto::v1;
use runtime::seams::Environment;
use zonectl::{
    forms::StatusForm,
    load::{self, LoadOptions, RunningLoad},
    zone_process::{Role, ZoneProcesses},
};

use crate::{
    events::EventLog,
    sandbox::{Disk, Namespace},
    succession,
};

/// How long the zone may take to be healthy again.
const HEALTHY_WITHIN: Duration = Duration::from_secs(120);

/// How often the state of the zone is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How often it is looked whether something is being done.
const CALM_LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub struct Zone {
    pub environment: Environment,
    pub processes: ZoneProcesses,
    pub admin: Arc<AdminClient>,
    pub client: Client,
    pub events: EventLog,
    /// The last index node runs in it.
    pub namespace: Option<Namespace>,
    /// One index node keeps its data on it, once it was needed.
    pub disk: Option<(Role, Disk)>,
}

/// An index node and what it leads.
#[derive(Clone, Debug)]
pub struct Victim {
    pub role: Role,
    pub node_id: u64,
    pub led: Vec<u64>,
}

impl Zone {
    /// Of a zone that is up.
    pub async fn new(
        environment: &Environment,
        processes: ZoneProcesses,
        namespace: Option<Namespace>,
    ) -> anyhow::Result<Self> {
        let endpoints = processes.layout().endpoints();
        let admin = AdminClient::new(environment, &endpoints, AdminOptions::default())?;
        let admin = Arc::new(admin);
        let watcher = AdminClient::new(environment, &endpoints, AdminOptions::default())?;
        Ok(Self {
            environment: environment.clone(),
            client: Client::connect(environment, &endpoints, Options::default()).await?,
            events: EventLog::start(environment.clone(), watcher),
            admin,
            processes,
            namespace,
            disk: None,
        })
    }

    /// A load that lasts until it is stopped; every answer and, in the end, every key is verified.
    pub async fn load(&self, options: LoadOptions) -> anyhow::Result<RunningLoad> {
        let options =
            LoadOptions { duration: Duration::from_secs(24 * 3_600), verify: true, ..options };
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
    ) -> anyhow::Result<()> {
        let began = self.environment.now();
        let mut last = String::new();
        while self.environment.now().since(began) < HEALTHY_WITHIN {
            match self.status().await {
                Ok(status) if status.from_leader && done(&status) => return Ok(()),
                Ok(status) => last = status.problems.join("; "),
                Err(error) => last = error.to_string(),
            }
            self.environment.sleep(LOOK_INTERVAL).await;
        }
        anyhow::bail!("{what}: not within {HEALTHY_WITHIN:?} ({last})")
    }

    /// Until everything is as it should be and nothing is being done.
    pub async fn wait_healthy(&self) -> anyhow::Result<()> {
        self.wait_for("the zone is not healthy", |status| {
            status.healthy && status.operations.running == 0
        })
        .await
    }

    /// Until everything has been as it should be, and nothing was being done, for so long.
    pub async fn wait_calm(&self, lasting: Duration) -> anyhow::Result<()> {
        let mut since = self.environment.now();
        while self.environment.now().since(since) < lasting {
            self.environment.sleep(CALM_LOOK_INTERVAL).await;
            let status = self.status().await?;
            if !status.healthy || status.operations.running > 0 {
                self.wait_healthy().await?;
                since = self.environment.now();
            }
        }
        Ok(())
    }

    async fn partitions(&self) -> anyhow::Result<Vec<v1::PartitionSummary>> {
        Ok(self.admin.all_partitions(v1::ListPartitionsRequest::default()).await?)
    }

    async fn victim(&self, role: Role, node_id: u64) -> anyhow::Result<Victim> {
        let led = self.partitions().await?.into_iter();
        let led = led.filter(|partition| partition.leader_node_id == node_id);
        Ok(Victim { role, node_id, led: led.map(|partition| partition.id).collect() })
    }

    /// The node that leads most partitions.
    pub async fn busiest(&self) -> anyhow::Result<Victim> {
        let status = self.status().await?;
        let node = status.nodes.iter().max_by_key(|node| (node.leaders, node.id));
        let node = node.context("the zone has no nodes")?;
        let mut roles = self.processes.layout().index_node_roles();
        let role = roles.find(|role| role.name() == node.name);
        self.victim(role.with_context(|| format!("no process is {}", node.name))?, node.id).await
    }

    /// A certain node, which is made to lead something first if it does not.
    pub async fn leading(&self, role: Role) -> anyhow::Result<Victim> {
        let status = self.status().await?;
        let node = status.nodes.iter().find(|node| node.name == role.name());
        let node_id = node.with_context(|| format!("the zone has no {role}"))?.id;
        self.admin.rebalance().await?;
        self.wait_healthy().await?;
        let victim = self.victim(role, node_id).await?;
        if !victim.led.is_empty() {
            return Ok(victim);
        }
        let partitions = self.partitions().await?;
        let held = partitions
            .iter()
            .find(|partition| partition.replicas.iter().any(|replica| replica.node_id == node_id));
        let partition_id = held.with_context(|| format!("{role} holds no replica"))?.id;
        let to = Some(node_reference(node_id));
        let request = v1::TransferLeaderRequest { partition_id, to, ..Default::default() };
        let operation = self.admin.transfer_leader(request).await?.operation;
        self.finish(operation).await?;
        self.victim(role, node_id).await
    }

    /// The member that leads the control plane, and its id.
    pub async fn control_plane_leader(&self) -> anyhow::Result<Role> {
        succession::leader(&self.status().await?, self.processes.layout())
    }

    /// Follows an operation to its end.
    pub async fn finish(&self, operation: Option<v1::Operation>) -> anyhow::Result<()> {
        let operation = operation.context("no operation was started")?;
        let last = self
            .admin
            .watch_operation(operation.id)
            .try_fold(operation, |_, operation| async move { Ok(operation) })
            .await?;
        let ended = last.state() == v1::OperationState::Succeeded;
        anyhow::ensure!(ended, "{} did not succeed: {}", last.summary, last.last_error);
        Ok(())
    }

    /// Undoes what would keep processes from ending.
    pub fn release(&self) {
        if let Some(namespace) = &self.namespace {
            namespace.heal();
        }
        if let Some((_, disk)) = &self.disk {
            // That it was not frozen is the ordinary case.
            let _ = disk.thaw();
        }
    }
}

pub fn node_reference(id: u64) -> v1::NodeReference {
    v1::NodeReference { id, name: String::new() }
}

impl Drop for Zone {
    fn drop(&mut self) {
        // Before the processes are killed and waited for: on a disk that stands still they cannot end.
        self.release();
    }
}
