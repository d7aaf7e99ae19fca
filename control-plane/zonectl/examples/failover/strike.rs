//! What each fault does to the zone: done, watched, undone.

use std::time::Duration;

use anyhow::Context;
use proto::v1;
use runtime::seams::Moment;
use zonectl::zone_process::Role;

use crate::{
    fault::Fault,
    probe,
    record::Again,
    sandbox::{Direction, Spinners},
    succession::{Succession, succession},
    zone::{Victim, Zone, node_reference},
};

/// How long an index node stays frozen, cut off or without its disk, at least.
const HELD_AT_LEAST: Duration = Duration::from_secs(3);

/// How long the processors are busy, and a disk stands still, to see whether what follows from it stays small.
const MINUTE: Duration = Duration::from_secs(60);

/// How long the whole control plane stays down: long enough for every node to find that nobody is there.
const DOWN_FOR: Duration = Duration::from_secs(5);

/// How long an index node that was asked to end may take.
const GRACE: Duration = Duration::from_secs(15);

/// Whom it will be done to, found out before the load starts.
#[derive(Debug)]
pub enum Target {
    Nobody,
    IndexNode(Victim),
    Leader(Role),
}

/// What a fault has shown by itself; requests are another matter.
#[derive(Debug)]
pub struct Struck {
    pub since: Moment,
    pub again: Vec<Again>,
    /// Where the control plane's leader was lost, so that the ledger cannot be followed meanwhile.
    pub succession: Option<Succession>,
    pub carried_out_ms: Option<f64>,
}

impl Struck {
    fn new(since: Moment, again: Vec<Again>) -> Self {
        Self { since, again, succession: None, carried_out_ms: None }
    }
}

impl Target {
    pub async fn choose(zone: &Zone, fault: Fault) -> anyhow::Result<Self> {
        match fault {
            Fault::Nothing | Fault::Saturate | Fault::ControlPlaneDown => Ok(Self::Nobody),
            Fault::KillIndexNode
            | Fault::FreezeIndexNode
            | Fault::Leave
            | Fault::Drain
            | Fault::ControlPlaneDownAndKill => Ok(Self::IndexNode(zone.busiest().await?)),
            Fault::CutOutgoing | Fault::CutIncoming | Fault::CutBothWays => {
                Ok(Self::IndexNode(zone.leading(cut_role(zone)).await?))
            }
            Fault::StallDisk | Fault::StallDiskLong => {
                let (role, _) = zone.disk.as_ref().context("no node has a disk of its own")?;
                Ok(Self::IndexNode(zone.leading(*role).await?))
            }
            Fault::KillLeader => Ok(Self::Leader(zone.control_plane_leader().await?)),
            Fault::EtcdKill | Fault::EtcdFreeze | Fault::EtcdTunedKill | Fault::EtcdTunedFreeze => {
                anyhow::bail!("{} is not for the zone", fault.title())
            }
        }
    }

    fn victim(&self) -> anyhow::Result<&Victim> {
        match self {
            Self::IndexNode(victim) => Ok(victim),
            Self::Nobody | Self::Leader(_) => anyhow::bail!("there is no index node to hit"),
        }
    }

    /// Whether the event says that the fault was noticed.
    pub fn notices(&self, event: &v1::Event) -> bool {
        match self {
            Self::IndexNode(victim) => {
                matches!(event.kind.as_str(), "node-suspect" | "node-down")
                    && event.node_id == victim.node_id
            }
            Self::Nobody | Self::Leader(_) => false,
        }
    }

    /// Whether the event says what was decided.
    pub fn decides(&self, event: &v1::Event) -> bool {
        match self {
            Self::IndexNode(victim) => {
                matches!(event.kind.as_str(), "takeover" | "leader-changed")
                    && victim.led.contains(&event.partition_id)
            }
            Self::Leader(_) | Self::Nobody => false,
        }
    }
}

/// The node that can be cut off: the last one.
pub fn cut_role(zone: &Zone) -> Role {
    Role::IndexNode(zone.processes.layout().index_nodes.saturating_sub(1))
}

/// Does it, watches until what was hit works again, and undoes it.
pub async fn strike(zone: &mut Zone, fault: Fault, target: &Target) -> anyhow::Result<Struck> {
    match fault {
        Fault::Nothing => nothing(zone).await,
        Fault::KillIndexNode => kill_index_node(zone, target).await,
        Fault::KillLeader => kill_leader(zone, target).await,
        Fault::FreezeIndexNode => {
            let role = target.victim()?.role;
            let since = zone.environment.now();
            zone.processes.freeze(role)?;
            let again = held(zone, target, since, HELD_AT_LEAST).await;
            zone.processes.thaw(role)?;
            again
        }
        Fault::Saturate => {
            let since = zone.environment.now();
            let spinners = Spinners::start().context("the processors cannot be made busy")?;
            zone.environment.sleep(MINUTE).await;
            drop(spinners);
            Ok(Struck::new(since, Vec::new()))
        }
        Fault::Leave => leave(zone, target).await,
        Fault::Drain => drain(zone, target).await,
        Fault::ControlPlaneDown => control_plane_down(zone, None).await,
        Fault::ControlPlaneDownAndKill => control_plane_down(zone, Some(target.victim()?)).await,
        Fault::CutOutgoing => cut(zone, target, Direction::Outgoing).await,
        Fault::CutIncoming => cut(zone, target, Direction::Incoming).await,
        Fault::CutBothWays => cut(zone, target, Direction::Both).await,
        Fault::StallDisk | Fault::StallDiskLong => {
            let lasting = if fault == Fault::StallDisk { HELD_AT_LEAST } else { MINUTE };
            let since = zone.environment.now();
            let (_, disk) = zone.disk.as_ref().context("there is no disk to freeze")?;
            disk.freeze()?;
            let again = held(zone, target, since, lasting).await;
            disk.thaw()?;
            again
        }
        Fault::EtcdKill | Fault::EtcdFreeze | Fault::EtcdTunedKill | Fault::EtcdTunedFreeze => {
            anyhow::bail!("{} is not for the zone", fault.title())
        }
    }
}

async fn probe(zone: &Zone, victim: &Victim, since: Moment) -> anyhow::Result<Vec<Again>> {
    probe::acknowledged_again(&zone.environment, &zone.client, &victim.led, since).await
}

async fn nothing(zone: &Zone) -> anyhow::Result<Struck> {
    let since = zone.environment.now();
    zone.environment.sleep(HELD_AT_LEAST).await;
    Ok(Struck::new(since, Vec::new()))
}

async fn kill_index_node(zone: &mut Zone, target: &Target) -> anyhow::Result<Struck> {
    let victim = target.victim()?;
    let since = zone.environment.now();
    zone.processes.kill(victim.role)?;
    let again = probe(zone, victim, since).await?;
    // One that comes back at once would not have been missed.
    zone.wait_for("the death is not noticed", |status| {
        status.nodes.iter().any(|node| node.id == victim.node_id && node.state != "up")
    })
    .await?;
    zone.processes.start(victim.role)?;
    Ok(Struck::new(since, again))
}

async fn kill_leader(zone: &mut Zone, target: &Target) -> anyhow::Result<Struck> {
    let Target::Leader(role) = target else { anyhow::bail!("there is no leader to hit") };
    // What the successor commits comes after it, however fast this program hears of it.
    let after_sequence = zone.events.last_sequence();
    let since = zone.environment.now();
    zone.processes.kill(*role)?;
    let layout = zone.processes.layout();
    let succession =
        Some(succession(&zone.environment, layout, *role, after_sequence, since).await?);
    // The index nodes find the new leader.
    zone.environment.sleep(Duration::from_secs(1)).await;
    zone.processes.start(*role)?;
    Ok(Struck { succession, ..Struck::new(since, Vec::new()) })
}

/// Watches while it lasts, for a while at least.
async fn held(
    zone: &Zone,
    target: &Target,
    since: Moment,
    lasting: Duration,
) -> anyhow::Result<Struck> {
    let again = probe(zone, target.victim()?, since).await?;
    let left = lasting.saturating_sub(zone.environment.now().since(since));
    zone.environment.sleep(left).await;
    Ok(Struck::new(since, again))
}

async fn cut(zone: &Zone, target: &Target, direction: Direction) -> anyhow::Result<Struck> {
    let namespace = zone.namespace.as_ref().context("there is no link to cut")?;
    let since = zone.environment.now();
    namespace.cut(direction)?;
    let again = held(zone, target, since, HELD_AT_LEAST).await;
    namespace.heal();
    again
}

async fn leave(zone: &mut Zone, target: &Target) -> anyhow::Result<Struck> {
    let role = target.victim()?.role;
    let since = zone.environment.now();
    let exit = zone.processes.terminate(role, GRACE).await?;
    let carried_out_ms = Some(zone.environment.now().since(since).as_secs_f64() * 1e3);
    let clean = exit.is_some_and(zonectl::zone_process::Exit::success);
    anyhow::ensure!(clean, "{role} was asked to end and ended otherwise: {exit:?}");
    zone.environment.sleep(Duration::from_secs(1)).await;
    zone.processes.start(role)?;
    Ok(Struck { carried_out_ms, ..Struck::new(since, Vec::new()) })
}

async fn drain(zone: &Zone, target: &Target) -> anyhow::Result<Struck> {
    let node = Some(node_reference(target.victim()?.node_id));
    let since = zone.environment.now();
    let request = v1::DrainNodeRequest { node: node.clone(), ..Default::default() };
    let operation = zone.admin.drain_node(request).await?.operation;
    zone.finish(operation).await?;
    let carried_out_ms = Some(zone.environment.now().since(since).as_secs_f64() * 1e3);
    zone.admin.uncordon_node(v1::UncordonNodeRequest { node, ..Default::default() }).await?;
    Ok(Struck { carried_out_ms, ..Struck::new(since, Vec::new()) })
}

async fn control_plane_down(zone: &mut Zone, victim: Option<&Victim>) -> anyhow::Result<Struck> {
    let members: Vec<Role> = zone.processes.layout().member_roles().collect();
    let mut since = zone.environment.now();
    for member in &members {
        zone.processes.kill(*member)?;
    }
    zone.environment.sleep(DOWN_FOR).await;
    let mut again = Vec::new();
    if let Some(victim) = victim {
        since = zone.environment.now();
        zone.processes.kill(victim.role)?;
        again = probe(zone, victim, since).await?;
    }
    for member in &members {
        zone.processes.start(*member)?;
    }
    if let Some(victim) = victim {
        zone.processes.start(victim.role)?;
    }
    Ok(Struck::new(since, again))
}
