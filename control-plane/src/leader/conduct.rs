//! The conductor: closes the gap between intent and observation.
//!
//! It reconciles the partitions that something has happened to (and now and then all that are not
//! settled): sends their nodes what they shall be, and commits what their groups are seen to have
//! become. Between that it lets the planner plan. It is level-triggered throughout: a round that is
//! lost is made up by the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use model::{
    Action, Applied, Fence, PartitionId, Revision, ZoneState, ZoneView,
    agenda::Agenda,
    balancer::Balancer,
    heat::summary::Summarizer,
    partition_set::PartitionSet,
    plan::{self, PlanOptions},
    reconcile::{Reconciled, reconcile},
};
use planted::Bug;

use super::{Reign, figures, orders::OrderBook};
use crate::raft::{group::ProposeError, view::MapChange};

/// How long a round waits for news at most.
const INTERVAL: Duration = Duration::from_millis(100);
/// The least time between two rounds: news that come together are handled together.
const SPACING: Duration = Duration::from_millis(5);
/// The same while partitions wait that the rounds before had no room for.
const BACKLOG_SPACING: Duration = Duration::from_millis(1);
/// How often every partition that is not settled is looked at.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is planned.
const PLAN_INTERVAL: Duration = Duration::from_millis(200);
/// The same when something has changed about a node: somebody may wait for what follows from it.
const PLAN_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// After how long without a proposal zone time must be carried on, if somebody waits for it.
const TICK_AFTER: Duration = Duration::from_millis(500);
/// How long to wait after an action that was not committed: the leader is being replaced, say.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Partitions that one round reconciles, so that its commands stay small.
const PARTITIONS_PER_ROUND_MAX: usize = 2_000;
/// How often the gauges are set.
const FIGURES_INTERVAL: Duration = Duration::from_secs(1);

/// What the conductor remembers while a reign lasts.
struct Conductor {
    reign: Arc<Reign>,
    book: OrderBook,
    seen: Revision,
    /// Partitions that wait for the next rounds.
    agenda: Agenda,
    swept_at: Option<Duration>,
    plan_clock: PlanClock,
    figures_at: Option<Duration>,
    summarizer: Summarizer,
}

/// Conducts until the reign ends. Neither waits for the other: who leads is in the ledger at once, however much there
/// is to be decided first.
pub async fn run(reign: Arc<Reign>) {
    tokio::join!(announce(&reign), conduct(&reign));
}

async fn conduct(reign: &Arc<Reign>) {
    let mut observed = reign.watch();
    let mut published = reign.zone().subscribe();
    let mut conductor = Conductor {
        reign: Arc::clone(reign),
        book: OrderBook::default(),
        seen: Revision(0),
        agenda: Agenda::default(),
        swept_at: None,
        plan_clock: PlanClock::default(),
        figures_at: None,
        summarizer: Summarizer::default(),
    };
    while !reign.ended().is_cancelled() {
        conductor.round().await;
        if conductor.has_backlog() {
            reign.environment().sleep(BACKLOG_SPACING).await;
            continue;
        }
        reign.environment().sleep(SPACING).await;
        let interval = conductor.plan_clock.interval().min(INTERVAL);
        tokio::select! {
            biased;
            () = reign.ended().cancelled() => {}
            _ = observed.changed() => {}
            _ = published.changed() => {}
            () = reign.environment().sleep(interval) => {}
        }
    }
}

/// Writes into the ledger who leads now, as soon as there is a zone: once, however often an answer is lost.
async fn announce(reign: &Reign) {
    let (member, term) = (reign.member_id(), reign.term());
    let address = reign.configuration().advertised_address().to_owned();
    let action = Action::AnnounceLeader { member, address, term };
    let key = format!("control-plane-leader-{member}-{term}");
    let mut published = reign.zone().subscribe();
    while !reign.ended().is_cancelled() {
        if !reign.zone().read(ZoneState::is_initialized) {
            tokio::select! {
                biased;
                () = reign.ended().cancelled() => return,
                alive = published.changed() => if alive.is_err() { return },
            }
            continue;
        }
        match reign.propose(action.clone(), &key).await {
            Ok(_) => return,
            Err(ProposeError::Refused(refusal)) => {
                tracing::warn!(%refusal, "the ledger does not say who leads");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "who leads was not committed to the ledger yet");
                reign.environment().sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Whether `interval` has passed since `last`; if so, now is the new last time.
fn is_due(last: &mut Option<Duration>, interval: Duration, now: Duration) -> bool {
    let due = last.is_none_or(|last| now.saturating_sub(last) >= interval);
    if due {
        *last = Some(now);
    }
    due
}

/// When it is planned.
#[derive(Debug, Default)]
struct PlanClock {
    planned_at: Option<Duration>,
    /// Whether something has changed about a node since then.
    has_changed: bool,
}

impl PlanClock {
    /// Something has changed about a node: a command, say, or its health.
    fn note_change(&mut self) {
        self.has_changed = true;
    }

    fn interval(&self) -> Duration {
        if self.has_changed { PLAN_INTERVAL_MIN } else { PLAN_INTERVAL }
    }

    /// Whether it is time; if so, it is planned now.
    fn is_due(&mut self, now: Duration) -> bool {
        let interval = self.interval();
        let due = is_due(&mut self.planned_at, interval, now);
        if due {
            self.has_changed = false;
        }
        due
    }
}

/// Whether a planted bug lets the conductor sleep through a change: of a group that exists.
fn is_overslept(state: &ZoneState, id: PartitionId) -> bool {
    planted::is_planted(Bug::WakeUpLost)
        && state.partition(id).is_some_and(|partition| partition.observed.is_some())
}

/// Keeps the tally right: tells it what has happened, and lets it look at as many partitions as a round can.
fn count(
    reign: &Reign,
    state: &ZoneState,
    view: &mut ZoneView,
    touched: &PartitionSet,
    change: Option<&MapChange>,
    now: Duration,
) {
    let mut nodes = view.take_turned();
    let mut tally = reign.tally();
    tally.add(touched.iter());
    match change {
        Some(change) => {
            tally.add(change.partitions.iter().copied());
            nodes.extend(&change.nodes);
        }
        None => tally.add_all(state),
    }
    if !nodes.is_empty() || change.is_none() {
        tally.add_nodes(state, view, nodes);
    }
    tally.look(state, view, now, PARTITIONS_PER_ROUND_MAX);
}

/// What load wants to be elsewhere. No lock is held for the zone while it is planned: heartbeats would wait for it.
fn balance(reign: &Reign, balancer: &mut Balancer) -> Vec<Action> {
    if !reign.sighted(|sight| balancer.look(sight)) {
        return Vec::new();
    }
    let Some(plan) = balancer.plan() else { return Vec::new() };
    reign.sighted(|sight| balancer.propose(sight, &plan))
}

impl Conductor {
    async fn round(&mut self) {
        let now = self.reign.now();
        let (partitions, reconciled, fence) = self.reconcile(now);
        let reign = Arc::clone(&self.reign);
        self.book.send_directory(reign.sessions(), now);
        let actions = reconciled.actions();
        self.book.send(reign.sessions(), fence, &partitions, reconciled.orders, now);
        let mut committed = true;
        for action in actions.into_iter().chain(self.note_refusals()) {
            committed &= self.propose(action).await;
        }
        if !committed {
            self.agenda.add(partitions);
            reign.environment().sleep(RETRY_PAUSE).await;
        } else if self.plan_clock.is_due(self.reign.now()) {
            self.plan().await;
        }
        if self.reign.quiet_for() >= TICK_AFTER && self.reign.zone().read(ZoneState::wants_ticks) {
            self.propose(Action::Tick).await;
        }
        self.summarize_heat().await;
        if is_due(&mut self.figures_at, FIGURES_INTERVAL, now) {
            let report = self.reign.balancer().await.report().cloned();
            figures::record(&self.reign, report.as_ref());
        }
    }

    /// Whether partitions wait that nothing new needs to happen to.
    fn has_backlog(&self) -> bool {
        !self.agenda.is_empty() || !self.reign.tally().is_complete()
    }

    /// Reconciles what has been touched since the last round.
    fn reconcile(&mut self, now: Duration) -> (BTreeSet<PartitionId>, Reconciled, Fence) {
        let reign = Arc::clone(&self.reign);
        let sweep = is_due(&mut self.swept_at, SWEEP_INTERVAL, now);
        reign.zone().changes_after(self.seen, |state, change| {
            self.seen = state.revision();
            let mut view = reign.view();
            let touched = view.take_touched(state);
            count(&reign, state, &mut view, &touched, change.as_ref(), now);
            self.agenda.add(touched.iter());
            let addresses_changed = match change {
                Some(mut change) => {
                    change.partitions.retain(|id| !is_overslept(state, *id));
                    self.agenda.add(change.partitions);
                    !change.nodes.is_empty()
                }
                None => {
                    self.agenda.add_all();
                    true
                }
            };
            if sweep && !planted::is_planted(Bug::WakeUpLost) {
                self.agenda.add_unsettled();
                self.agenda.add(self.book.outstanding());
            }
            let partitions = self.agenda.take(state, PARTITIONS_PER_ROUND_MAX);
            if addresses_changed {
                self.plan_clock.note_change();
                let nodes = state.nodes().iter();
                self.book.set_addresses(nodes.map(|(id, node)| (*id, node.address.as_str())));
            }
            let mut reconciled = Reconciled::default();
            for partition in &partitions {
                reconciled.extend(reconcile(state, &view, *partition));
            }
            (partitions, reconciled, reign.fence_of(state))
        })
    }

    /// Writes down what is known of load, for the next leader. What is not committed now is so half a minute
    /// later.
    async fn summarize_heat(&mut self) {
        let reign = Arc::clone(&self.reign);
        let summary = reign.zone().read(|state| {
            let heat = reign.heat();
            state
                .zone()
                .and_then(|_| self.summarizer.round(&heat, state.heat_summary(), reign.now()))
        });
        if let Some(summary) = summary
            && self.propose(Action::SummarizeHeat { summary }).await
        {
            runtime::mark!("heat: a summary was written down");
        }
    }

    async fn plan(&mut self) {
        let reign = Arc::clone(&self.reign);
        let actions = {
            let mut balancer = reign.balancer().await;
            let mut actions = reign.zone().read(|state| {
                let leads_by_heat = balancer.leads_by_heat(state);
                let options = PlanOptions { leads_by_heat, ..PlanOptions::default() };
                plan::plan(state, &reign.view(), reign.now(), &options)
            });
            actions.extend(balance(&reign, &mut balancer));
            actions
        };
        for action in actions {
            if !self.propose(action).await {
                return;
            }
        }
    }

    /// What nodes have refused is noted in the operations that wait for it.
    fn note_refusals(&self) -> Vec<Action> {
        let refusals: BTreeMap<PartitionId, String> = self.reign.take_refusals();
        self.reign.zone().read(|state| {
            refusals
                .into_iter()
                .filter_map(|(partition, error)| {
                    let operation = state.partition(partition)?.change?;
                    let news = state.operation(operation)?.last_error != error;
                    news.then_some(Action::NoteOperationError { operation, error })
                })
                .collect()
        })
    }

    /// Whether the action was committed; what was refused of it is made up for by later rounds.
    async fn propose(&self, action: Action) -> bool {
        tracing::debug!(?action, "proposing");
        match self.reign.propose(action, "").await {
            Ok(Applied::Batch { refused, .. }) => {
                for (position, refusal) in refused {
                    tracing::info!(position, %refusal, "one item of a batch was refused");
                    runtime::mark!("planned item refused", refusal);
                }
                true
            }
            Ok(_) => true,
            Err(ProposeError::Refused(refusal)) => {
                tracing::info!(%refusal, "an action was refused");
                runtime::mark!("planned item refused", refusal);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "an action was not committed");
                runtime::mark!("conductor: an action was not committed");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_node_is_planned_for_at_once_but_not_in_every_round() {
        let mut clock = PlanClock::default();
        let mut is_due = |change: bool, ms: u64| {
            if change {
                clock.note_change();
            }
            clock.is_due(Duration::from_millis(ms))
        };
        assert!(is_due(false, 0));
        assert!(!is_due(false, 199));
        assert!(is_due(false, 200));
        assert!(is_due(true, 220), "a command does not wait for its turn");
        assert!(!is_due(true, 225), "many changes are planned for together");
        assert!(!is_due(false, 239));
        assert!(is_due(false, 240), "what came in between is not forgotten");
        assert!(!is_due(false, 439));
        assert!(is_due(false, 440));
    }
}
