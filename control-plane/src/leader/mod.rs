//! What runs only while this member leads: a *reign*.
//!
//! A reign begins when this member leads, a quorum acknowledges it, and it has applied the first entry
//! of its own term; so it knows everything that former leaders have decided, before it says a word. It
//! ends when any of this ends. Everything in it starts empty: sessions, observations, timers.
//!
//! - [`sessions`]: the open sessions. [`probe`]: dialling nodes whose session broke.
//! - [`reign`]: what the tasks of one reign share: proposing, observing.
//! - [`judge`]: are the nodes there? [`takeover`]: giving leaders to partitions that have lost theirs.
//! - [`conduct`], [`orders`]: closing the gap between intent and observation; planning.
//! - [`figures`], [`load_gauges`]: what the leader's gauges show, of the zone and by node.
//!
//! The three loops run beside each other: none waits for what another has proposed.

mod conduct;
mod figures;
mod judge;
mod load_gauges;
mod orders;
mod probe;
mod reign;
pub mod sessions;
mod takeover;

use std::{sync::Arc, time::Duration};

use model::Term;
use tokio::task::JoinSet;

use crate::{member::Member, metrics};

pub use reign::Reign;

/// How often a leader looks whether a quorum still acknowledges it.
const QUORUM_POLL: Duration = Duration::from_millis(25);

/// Begins and ends this member's reigns, until the member closes.
pub async fn govern(member: Arc<Member>) {
    let mut watch = member.group().watch();
    ::metrics::gauge!(metrics::LEADER).set(0.0);
    loop {
        let Some(term) = member.group().reigning_term() else {
            ::metrics::gauge!(metrics::TERM).set(member.group().term().get() as f64);
            metrics::set_revision(member.group().zone().read(model::ZoneState::revision));
            tokio::select! {
                biased;
                () = member.closing().cancelled() => return,
                alive = watch.changed() => if !alive { return },
                () = member.environment().sleep(QUORUM_POLL) => {}
            }
            continue;
        };
        reign(&member, term).await;
        if member.closing().is_cancelled() {
            return;
        }
    }
}

/// One reign, from beginning to end.
async fn reign(member: &Arc<Member>, term: Term) {
    tracing::info!(term = term.get(), "this member leads the control plane");
    ::metrics::gauge!(metrics::LEADER).set(1.0);
    ::metrics::gauge!(metrics::TERM).set(term.get() as f64);
    let reign = Arc::new(Reign::new(member, term));
    member.set_reign(Some(Arc::clone(&reign)));
    let mut tasks = JoinSet::new();
    tasks.spawn(judge::run(Arc::clone(&reign)));
    tasks.spawn(takeover::run(Arc::clone(&reign)));
    tasks.spawn(conduct::run(Arc::clone(&reign)));
    let reason = tokio::select! {
        biased;
        reason = lasting(member, term) => reason,
        Some(ended) = tasks.join_next() => {
            // None of them ends before the reign does, unless an invariant broke.
            let problem = ended.err().map_or_else(|| "it ended".into(), |error| error.to_string());
            member.fail(format!("a task of the leader failed: {problem}"));
            "one of its tasks failed"
        }
    };
    // First nobody finds it any more, then its tasks stop: no order leaves after this.
    member.set_reign(None);
    reign.ended().cancel();
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            member.fail(format!("a task of the leader failed: {error}"));
        }
    }
    ::metrics::gauge!(metrics::LEADER).set(0.0);
    figures::clear(&reign);
    tracing::info!(term = term.get(), reason, "this member does not lead any more");
    runtime::mark!("reign ended", reason);
}

/// Waits until this member may not give orders in this term any more; says why.
async fn lasting(member: &Member, term: Term) -> &'static str {
    let mut watch = member.group().watch();
    loop {
        match member.group().reigning_term() {
            Some(current) if current == term => {}
            Some(_) => return "its term ended",
            None => return "a quorum does not acknowledge it, or another member leads",
        }
        tokio::select! {
            biased;
            () = member.closing().cancelled() => return "it stops",
            alive = watch.changed() => if !alive { return "its group has stopped" },
            () = member.environment().sleep(QUORUM_POLL) => {}
        }
    }
}
