//! What the demo does to the zone, one after the other.

use std::time::Duration;

use futures_util::TryStreamExt;
use proto::v1;

use super::{report::FaultReport, stage::Stage, workload::Counts};
use crate::{
    failure::Failure,
    forms::StatusForm,
    text::{count, show_duration},
    zone_process::Role,
};

/// How long the zone may take to be healthy again after a fault was repaired.
const HEALTHY_WITHIN: Duration = Duration::from_secs(60);
/// Traffic before the next fault.
const CALM: Duration = Duration::from_secs(2);
/// How long a killed index node stays away.
const AWAY: Duration = Duration::from_secs(4);

/// A fault under way.
struct Window {
    name: String,
    affected: usize,
    before: Counts,
    recovered: Option<Duration>,
}

fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// To the tenth of a second, which is how often such things are looked at.
fn roughly(duration: Duration) -> String {
    let tenths = duration.as_secs_f64() * 10.0;
    show_duration(Duration::from_millis(100 * tenths.round() as u64))
}

fn node_role(stage: &Stage<'_>, name: &str) -> Result<Role, Failure> {
    stage
        .zone
        .layout()
        .index_node_roles()
        .find(|role| role.name() == name)
        .ok_or_else(|| Failure::Command(format!("no process runs the node {name}")))
}

fn leader_role(stage: &Stage<'_>, status: &StatusForm) -> Result<Role, Failure> {
    let leader = status.control_plane.leader;
    let address = status
        .control_plane
        .members
        .iter()
        .find(|member| Some(member.id) == leader)
        .map(|member| member.address.clone())
        .ok_or_else(|| Failure::Command("the control plane has no leader".into()))?;
    let layout = stage.zone.layout();
    layout
        .member_roles()
        .find(|role| layout.address(*role) == address)
        .ok_or_else(|| Failure::Command(format!("no process listens at {address}")))
}

impl Stage<'_> {
    /// All faults. Each begins when the zone is healthy, and ends when it is so again.
    pub(super) async fn faults(&mut self, outage: Duration) -> Result<Vec<FaultReport>, Failure> {
        let mut reports = Vec::new();
        self.calm().await?;
        reports.push(self.kill_busiest_node().await?);
        self.calm().await?;
        reports.push(self.drain_a_node().await?);
        self.calm().await?;
        reports.push(self.kill_leader().await?);
        self.calm().await?;
        reports.push(self.control_plane_down(outage).await?);
        self.calm().await?;
        Ok(reports)
    }

    async fn calm(&self) -> Result<(), Failure> {
        self.wait_healthy().await?;
        self.environment.sleep(CALM).await;
        Ok(())
    }

    async fn wait_healthy(&self) -> Result<Duration, Failure> {
        self.wait_for("the zone is not healthy", HEALTHY_WITHIN, |status| status.healthy).await
    }

    fn open(&self, name: String, affected: usize) -> Window {
        self.workload.longest.send_replace(Duration::ZERO);
        Window { name, affected, before: self.workload.counters.look(), recovered: None }
    }

    fn close(&self, window: Window, note: String) -> FaultReport {
        let after = self.workload.counters.look();
        let report = FaultReport {
            fault: window.name,
            affected_partitions: window.affected,
            recovered_ms: window.recovered.map(whole_milliseconds),
            failed: after.failed - window.before.failed,
            unknown: after.unknown - window.before.unknown,
            longest_request_ms: whole_milliseconds(*self.workload.longest.borrow()),
            note,
        };
        let recovered = match report.recovered_ms {
            Some(ms) => show_duration(Duration::from_millis(ms)),
            None => "not in time".to_owned(),
        };
        self.display.note(&format!("{}: {recovered}; {}", report.fault, report.note));
        report
    }

    async fn kill_busiest_node(&mut self) -> Result<FaultReport, Failure> {
        let status = self.status().await?;
        let busiest = status
            .nodes
            .iter()
            .max_by_key(|node| (node.leaders, std::cmp::Reverse(node.id)))
            .ok_or_else(|| Failure::Command("the zone has no nodes".into()))?;
        let role = node_role(self, &busiest.name)?;
        let id = busiest.id;
        let led = self.led_by(id).await?;
        let name = format!("kill -9 {role} (leads {})", led.len());
        self.display.phase(&name);

        let mut window = self.open(name, led.len());
        let began = self.environment.now();
        self.zone.kill(role)?;
        window.recovered = self.probe(&led, began).await;
        let gone = |status: &StatusForm| {
            status.nodes.iter().any(|node| node.id == id && node.state != "up")
        };
        self.wait_for("the death is not noticed", HEALTHY_WITHIN, gone).await?;
        self.environment.sleep(AWAY).await;
        self.zone.start(role)?;
        let healthy = self.wait_healthy().await?;
        Ok(self.close(window, format!("came back; healthy {} later", roughly(healthy))))
    }

    async fn drain_a_node(&mut self) -> Result<FaultReport, Failure> {
        let status = self.status().await?;
        let fullest = status
            .nodes
            .iter()
            .max_by_key(|node| (node.replicas, node.leaders, node.id))
            .ok_or_else(|| Failure::Command("the zone has no nodes".into()))?;
        let led = self.led_by(fullest.id).await?;
        let name = format!(
            "drain {} ({})",
            fullest.name,
            count(fullest.replicas.into(), "replica", "replicas")
        );
        let node = Some(v1::NodeReference { id: fullest.id, name: String::new() });
        self.display.phase(&name);

        let mut window = self.open(name, led.len());
        let began = self.environment.now();
        let request = v1::DrainNodeRequest { node: node.clone(), ..Default::default() };
        let operation = self.admin.drain_node(request).await?.operation.unwrap_or_default();
        window.recovered = self.probe(&led, began).await;
        let last = self
            .admin
            .watch_operation(operation.id)
            .try_fold(operation, |_, operation| async move { Ok(operation) })
            .await?;
        if last.state() != v1::OperationState::Succeeded {
            let problem = format!("the drain did not succeed: {}", last.last_error);
            return Err(Failure::Command(problem));
        }
        let took = self.environment.now().since(began);
        let request = v1::UncordonNodeRequest { node, ..Default::default() };
        self.admin.uncordon_node(request).await?;
        self.wait_healthy().await?;
        Ok(self.close(window, format!("empty after {}", roughly(took))))
    }

    async fn kill_leader(&mut self) -> Result<FaultReport, Failure> {
        let status = self.status().await?;
        let role = leader_role(self, &status)?;
        let former = status.control_plane.leader;
        let all: Vec<u64> = self.probe_keys().into_keys().collect();
        let name = format!("kill -9 {role} (control-plane leader)");
        self.display.phase(&name);

        let mut window = self.open(name, all.len());
        let began = self.environment.now();
        self.zone.kill(role)?;
        window.recovered = self.probe(&all, began).await;
        let elected = |status: &StatusForm| status.control_plane.leader != former;
        self.wait_for("nobody else leads", HEALTHY_WITHIN, elected).await?;
        let elected = self.environment.now().since(began);
        self.zone.start(role)?;
        self.wait_healthy().await?;
        Ok(self.close(window, format!("another leads after {}", roughly(elected))))
    }

    async fn control_plane_down(&mut self, outage: Duration) -> Result<FaultReport, Failure> {
        let all: Vec<u64> = self.probe_keys().into_keys().collect();
        let name = format!("control plane down for {}", show_duration(outage));
        self.display.phase(&name);

        let mut window = self.open(name, all.len());
        let began = self.environment.now();
        let members: Vec<Role> = self.zone.layout().member_roles().collect();
        for role in &members {
            self.zone.kill(*role)?;
        }
        window.recovered = self.probe(&all, began).await;
        let acknowledged = self.workload.counters.look().writes;
        self.environment.sleep(outage.saturating_sub(self.environment.now().since(began))).await;
        // The traffic went on throughout, and so did the probes.
        let later = self.environment.now();
        let still = self.probe(&all, later).await;
        window.recovered = window.recovered.zip(still).map(|(first, last)| first.max(last));
        let written = self.workload.counters.look().writes - acknowledged;
        for role in &members {
            self.zone.start(*role)?;
        }
        let healthy = self.wait_healthy().await?;
        let healthy = roughly(healthy);
        Ok(self.close(window, format!("{written} writes meanwhile; healthy {healthy} after")))
    }
}
