//! How the control plane gets another leader, as it is seen from outside.

use std::time::Duration;

use anyhow::Context;
use client::AdminClient;
use futures_util::TryStreamExt;
use proto::v1;
use runtime::seams::{Environment, Moment};
use zonectl::{
    forms::StatusForm,
    zone_process::{Layout, Role},
};

/// How long it is looked for a leader at a time.
const STATUS_WITHIN: Duration = Duration::from_millis(30);

/// How long the control plane may be without a leader.
const SUCCESSION_WITHIN: Duration = Duration::from_secs(60);

/// How often a new leader is asked for what it has committed.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How the control plane got another leader.
#[derive(Clone, Copy, Debug)]
pub struct Succession {
    /// Until another member answered as the leader.
    pub answered_ms: f64,
    /// Until it had committed that it leads, and so decides.
    pub committed_ms: f64,
}

/// The member that leads the control plane, and its id.
pub fn leader(status: &StatusForm, layout: &Layout) -> anyhow::Result<(Role, u64)> {
    let control_plane = &status.control_plane;
    let leader = control_plane.leader.context("the control plane has no leader")?;
    let member = control_plane.members.iter().find(|member| member.id == leader);
    let address = &member.context("the leader is no member")?.address;
    let role = layout.member_roles().find(|role| layout.address(*role) == *address);
    Ok((role.with_context(|| format!("no process listens at {address}"))?, leader))
}

/// What the ledger holds by now; nothing where there is no leader to ask.
pub async fn events_after(admin: &AdminClient, after_sequence: u64) -> Vec<v1::Event> {
    let request = v1::WatchEventsRequest { after_sequence, follow: false };
    admin.watch_events(request).try_collect().await.unwrap_or_default()
}

/// Whether another member than the lost one answers as the leader now.
async fn is_led_by_another(admin: &AdminClient, lost: u64) -> bool {
    let status = admin.status_within(STATUS_WITHIN).await;
    let leader = |status: &v1::ZoneStatus| status.control_plane.as_ref().map(|it| it.leader);
    status.is_ok_and(|status| status.from_leader && leader(&status) != Some(lost))
}

/// Asks everybody again and again, from the moment at which the member was lost. A watch of events would come
/// back too late: it waits between attempts. What the successor commits comes after `after_sequence`, however
/// fast this program hears of it.
pub async fn succession(
    environment: &Environment,
    admin: &AdminClient,
    lost: u64,
    after_sequence: u64,
    since: Moment,
) -> anyhow::Result<Succession> {
    let elapsed_ms = || environment.now().since(since).as_secs_f64() * 1e3;
    let limit_ms = SUCCESSION_WITHIN.as_secs_f64() * 1e3;
    while !is_led_by_another(admin, lost).await {
        anyhow::ensure!(elapsed_ms() < limit_ms, "no other member leads for {SUCCESSION_WITHIN:?}");
    }
    let answered_ms = elapsed_ms();
    loop {
        let events = events_after(admin, after_sequence).await;
        if events.iter().any(|event| event.kind == "control-plane-leader") {
            return Ok(Succession { answered_ms, committed_ms: elapsed_ms() });
        }
        anyhow::ensure!(elapsed_ms() < limit_ms, "the new leader has committed nothing");
        environment.sleep(LOOK_INTERVAL).await;
    }
}
