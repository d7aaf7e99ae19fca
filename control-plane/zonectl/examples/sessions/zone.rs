//! The control plane's processes, and what they say of the zone.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use client::{AdminClient, AdminOptions};
use proto::v1;
use runtime::seams::Environment;
use zonectl::{
    commands::even_split_keys,
    dev::GRACE,
    forms::StatusForm,
    zone_process::{Binaries, Layout, Role, ZoneProcesses},
};

use crate::{
    nodes::Nodes,
    options::Arguments,
    processor::processor_seconds,
    succession::{self, events_after},
};

const MEMBERS: u32 = 3;

const REPLICATION_FACTOR: u32 = 3;

/// Longer than a run lasts: nothing is copied meanwhile.
const REPLACE_AFTER_MS: u64 = 3_600_000;

/// How long the control plane may take to be there.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long the zone may take to be as it should be.
const HEALTHY_WITHIN: Duration = Duration::from_secs(300);

/// How long it has to have been so.
const CALM_FOR: Duration = Duration::from_secs(2);

/// How often it is looked whether it is; the answer names every node.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How often it is told that it is not yet.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

pub struct Zone {
    pub environment: Environment,
    pub processes: ZoneProcesses,
    pub admin: AdminClient,
    /// How many nodes have joined.
    nodes: usize,
}

/// Who leads the control plane.
#[derive(Clone, Copy, Debug)]
pub struct Leader {
    pub role: Role,
    pub term: u64,
}

impl Zone {
    /// A zone without nodes.
    pub async fn start(
        environment: &Environment,
        arguments: &Arguments,
        data: PathBuf,
    ) -> anyhow::Result<Self> {
        // The one index node of the layout is never started: the nodes are in this process.
        let mut layout = Layout::new(MEMBERS, 1, arguments.base_port, data);
        if let Some(filter) = &arguments.log_filter {
            layout.member_arguments = vec!["--log-filter".to_owned(), filter.clone()];
        }
        let endpoints = layout.endpoints();
        let members: Vec<Role> = layout.member_roles().collect();
        let mut processes = ZoneProcesses::new(layout, Binaries::beside_this_program()?)?;
        processes.check_ports()?;
        for role in members {
            processes.start(role)?;
        }
        let patient = AdminOptions {
            deadline: READY_WITHIN,
            unreachable_after: READY_WITHIN,
            ..AdminOptions::default()
        };
        let request = v1::InitRequest {
            member_addresses: endpoints.clone(),
            split_keys: even_split_keys(arguments.partitions),
            replication_factor: REPLICATION_FACTOR,
            replace_after_ms: REPLACE_AFTER_MS,
        };
        AdminClient::new(environment, &endpoints, patient)?.init(request).await?;
        let admin = AdminClient::new(environment, &endpoints, AdminOptions::default())?;
        Ok(Self { environment: environment.clone(), processes, admin, nodes: 0 })
    }

    /// Makes so many nodes join, and waits until the zone is as it should be.
    pub async fn join(&mut self, count: u32) -> anyhow::Result<Nodes> {
        eprintln!("{count} nodes join a zone of {MEMBERS} members …");
        let endpoints = self.processes.layout().endpoints();
        let began = self.environment.now();
        let nodes = Nodes::join(&self.environment, &endpoints, count).await?;
        self.nodes = nodes.count();
        self.wait_calm().await?;
        eprintln!(
            "{count} nodes are in session, and were given {} orders: {:.1} s.",
            nodes.sightings.orders(),
            self.environment.now().since(began).as_secs_f64()
        );
        Ok(nodes)
    }

    async fn status(&self) -> anyhow::Result<StatusForm> {
        Ok(self.admin.status().await?.into())
    }

    /// Waits until everything has been as it should be, and nothing was being done, for a while. Says who
    /// leads.
    pub async fn wait_calm(&self) -> anyhow::Result<Leader> {
        let began = self.environment.now();
        let (mut calm_since, mut told) = (None, began);
        let mut last = String::new();
        while self.environment.now().since(began) < HEALTHY_WITHIN {
            let status = self.status().await;
            let now = self.environment.now();
            match &status {
                Ok(status) if self.is_calm(status) => {
                    if now.since(*calm_since.get_or_insert(now)) >= CALM_FOR {
                        return self.led_by(status);
                    }
                }
                Ok(status) => {
                    calm_since = None;
                    last = self.describe(status);
                }
                Err(error) => {
                    calm_since = None;
                    last = error.to_string();
                }
            }
            if calm_since.is_none() && now.since(told) >= TELL_INTERVAL {
                told = now;
                eprintln!("{last} …");
            }
            self.environment.sleep(LOOK_INTERVAL).await;
        }
        anyhow::bail!("the zone is not as it should be within {HEALTHY_WITHIN:?}: {last}")
    }

    fn nodes_up(status: &StatusForm) -> usize {
        status.nodes.iter().filter(|node| node.state == "up").count()
    }

    fn is_calm(&self, status: &StatusForm) -> bool {
        status.healthy
            && status.from_leader
            && status.operations.running == 0
            && Self::nodes_up(status) == self.nodes
    }

    fn describe(&self, status: &StatusForm) -> String {
        let partitions = &status.partitions;
        let problem = status.problems.first().map_or_else(String::new, |it| format!("; {it}"));
        format!(
            "{} of {} nodes up, {} of {} partitions available, {} operations{problem}",
            Self::nodes_up(status),
            self.nodes,
            partitions.available,
            partitions.total,
            status.operations.running,
        )
    }

    /// Who leads now, whatever else is the case.
    pub async fn leader(&self) -> anyhow::Result<Leader> {
        self.led_by(&self.status().await?)
    }

    fn led_by(&self, status: &StatusForm) -> anyhow::Result<Leader> {
        let role = succession::leader(status, self.processes.layout())?;
        Ok(Leader { role, term: status.control_plane.term })
    }

    /// The last event in the ledger.
    pub async fn last_sequence(&self) -> anyhow::Result<u64> {
        let events = events_after(&self.admin, 0).await?;
        Ok(events.last().map_or(0, |event| event.sequence))
    }

    /// Processor seconds that a member has used so far.
    pub fn processor_seconds(&mut self, role: Role) -> anyhow::Result<f64> {
        let id = self.processes.process_id(role).with_context(|| format!("{role} has ended"))?;
        processor_seconds(id).with_context(|| format!("{role} has ended"))
    }

    /// Ends all processes.
    pub async fn stop(mut self) {
        for role in self.processes.stop_all(GRACE).await {
            eprintln!("{role} did not end when it was asked to, and was killed");
        }
    }
}
