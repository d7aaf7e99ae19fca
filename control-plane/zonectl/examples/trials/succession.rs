//! How the control plane gets another leader, as it is seen from outside.

use std::time::Duration;

use anyhow::Context;
use client::{AdminClient, AdminError, AdminOptions};
use futures_util::TryStreamExt;
use proto::v1;
use runtime::seams::{Environment, Moment};
use tokio::sync::oneshot;
use zonectl::{
    forms::StatusForm,
    zone_process::{Layout, Role},
};

/// How long a member may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(30);

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

/// The member that leads the control plane.
pub fn leader(status: &StatusForm, layout: &Layout) -> anyhow::Result<Role> {
    let control_plane = &status.control_plane;
    let leader = control_plane.leader.context("the control plane has no leader")?;
    let member = control_plane.members.iter().find(|member| member.id == leader);
    let address = &member.context("the leader is no member")?.address;
    let role = layout.member_roles().find(|role| layout.address(*role) == *address);
    role.with_context(|| format!("no process listens at {address}"))
}

/// What the ledger holds by now, as a leader says.
pub async fn events_after(
    admin: &AdminClient,
    after_sequence: u64,
) -> Result<Vec<v1::Event>, AdminError> {
    let request = v1::WatchEventsRequest { after_sequence, follow: false };
    admin.watch_events(request).try_collect().await
}

/// How one member is asked: it answers at once, or is asked again.
fn briefly() -> AdminOptions {
    AdminOptions {
        deadline: ANSWER_WITHIN,
        attempt_timeout: ANSWER_WITHIN,
        unreachable_after: ANSWER_WITHIN,
        ..AdminOptions::default()
    }
}

/// Asks the members that are left again and again, from the moment at which their leader was lost. What the successor
/// commits comes after `after_sequence`, however fast this program hears of it.
///
/// It is asked from a thread of its own: where a thousand sessions share this program's runtime, an answer would wait
/// for its turn there.
pub async fn succession(
    environment: &Environment,
    layout: &Layout,
    lost: Role,
    after_sequence: u64,
    since: Moment,
) -> anyhow::Result<Succession> {
    let left = layout.member_roles().filter(|role| *role != lost);
    let left: Vec<String> = left.map(|role| layout.address(role)).collect();
    let (environment, (told, hears)) = (environment.clone(), oneshot::channel());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let watched = runtime.context("no runtime to watch from").and_then(|runtime| {
            runtime.block_on(watch(&environment, &left, after_sequence, since))
        });
        // Nobody waits for it any more if this program is being ended.
        let _ = told.send(watched);
    });
    hears.await.context("whoever watched has ended")?
}

/// Only a leader answers at all.
async fn watch(
    environment: &Environment,
    left: &[String],
    after_sequence: u64,
    since: Moment,
) -> anyhow::Result<Succession> {
    let elapsed_ms = || environment.now().since(since).as_secs_f64() * 1e3;
    let limit_ms = SUCCESSION_WITHIN.as_secs_f64() * 1e3;
    let one =
        |address: &String| AdminClient::new(environment, std::slice::from_ref(address), briefly());
    // Each by itself: what one does not answer delays nothing that another one says.
    let members = left.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    let mut answered_ms = None;
    while elapsed_ms() < limit_ms {
        for member in &members {
            let Ok(events) = events_after(member, after_sequence).await else { continue };
            let answered_ms = *answered_ms.get_or_insert_with(elapsed_ms);
            if events.iter().any(|event| event.kind == "control-plane-leader") {
                return Ok(Succession { answered_ms, committed_ms: elapsed_ms() });
            }
        }
        environment.sleep(LOOK_INTERVAL).await;
    }
    match answered_ms {
        None => anyhow::bail!("no other member leads for {SUCCESSION_WITHIN:?}"),
        Some(_) => anyhow::bail!("the new leader has committed nothing"),
    }
}
