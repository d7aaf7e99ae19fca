//! The judge: one round of judgements on all nodes together, about ten times a second and at once when
//! a session ends or a dial has shown something.
//!
//! It also dials nodes without session. It never waits for a commit: a round that comes late makes the
//! detector brake, and so must have been late itself.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use model::{
    Action, NodeId,
    detector::{Detector, DetectorOptions},
    signal_log::{SignalLog, SignalLogOptions},
};
use tokio::sync::mpsc;

use super::{
    Reign,
    probe::{self, Dial},
};
use crate::{configuration::LivenessTimers, metrics};

/// How often the nodes are judged when nothing happens.
const INTERVAL: Duration = Duration::from_millis(100);

/// The least time between two rounds.
const SPACING: Duration = Duration::from_millis(2);
/// And so many times as long as the last one took, up to a limit: with a thousand nodes whose sessions come and
/// go, rounds without a pause would keep a member busy with nothing else.
const PAUSE_FACTOR: u32 = 3;
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How soon the next round comes while a dial is about to say more.
const URGENT_INTERVAL: Duration = Duration::from_millis(3);

/// How long to wait after a judgement that was not committed: the leader is being replaced, say.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How often a node without session is dialled.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

fn options(timers: &LivenessTimers) -> DetectorOptions {
    let suspect_after = Duration::from_millis(timers.suspect_after_ms);
    let heartbeats = |number| Duration::from_millis(timers.heartbeat_interval_ms) * number;
    DetectorOptions {
        suspect_after,
        suspect_after_min: suspect_after * 2 / 3,
        suspect_after_max: suspect_after * 2,
        // One heartbeat more than a peer may be late itself.
        suspect_with_peers_after: heartbeats(6).min(suspect_after),
        suspect_with_peers_after_min: heartbeats(3).min(suspect_after),
        down_after: Duration::from_millis(timers.down_after_ms),
        // To notice that the old leader is gone, and to find the new one.
        first_contact: timers.session_timeout() * 3,
        fresh_heartbeat: Duration::from_millis(timers.heartbeat_interval_ms * 5),
        probe_interval: PROBE_INTERVAL,
        quarantine_min: Duration::from_millis(timers.quarantine_min_ms),
        quarantine_max: Duration::from_millis(timers.quarantine_max_ms),
        ..DetectorOptions::default()
    }
}

/// What other tasks tell the judge.
enum Note {
    Dialled(NodeId, Dial),
    /// The last judgement was committed, or was not and may be proposed again.
    Proposed,
}

/// Judges in rounds while a reign lasts.
struct Judge {
    reign: Arc<Reign>,
    detector: Detector,
    dialling: BTreeSet<NodeId>,
    proposing: bool,
    is_urgent: bool,
    notes: mpsc::UnboundedSender<Note>,
}

/// Judges until the reign ends.
pub async fn run(reign: Arc<Reign>) {
    let options = options(&reign.configuration().liveness);
    // Bounded by what is under way: one note for each node that is dialled, and one proposal.
    let (notes, mut noted) = mpsc::unbounded_channel();
    let mut watch = reign.watch_connections();
    let mut judge = Judge {
        detector: Detector::new(options, reign.now()),
        reign: Arc::clone(&reign),
        dialling: BTreeSet::new(),
        proposing: false,
        is_urgent: false,
        notes,
    };
    loop {
        let started = reign.environment().now();
        judge.round();
        let took = reign.environment().now().since(started);
        ::metrics::histogram!(metrics::TICK_SECONDS).record(took.as_secs_f64());
        let pause = (took * PAUSE_FACTOR).clamp(SPACING, PAUSE_MAX);
        reign.environment().sleep(pause).await;
        tokio::select! {
            biased;
            () = reign.ended().cancelled() => return,
            Some(note) = noted.recv() => judge.take_in(note),
            _ = watch.changed() => {}
            () = reign.environment().sleep(judge.interval()) => {
                let waited = reign.environment().now().since(started);
                let lateness = waited.saturating_sub(took + pause + judge.interval());
                ::metrics::histogram!(metrics::TICK_LATENESS).record(lateness.as_secs_f64());
            }
        }
        while let Ok(note) = noted.try_recv() {
            judge.take_in(note);
        }
    }
}

impl Judge {
    /// Until the next round, if nothing happens.
    fn interval(&self) -> Duration {
        if self.is_urgent { URGENT_INTERVAL } else { INTERVAL }
    }

    fn take_in(&mut self, note: Note) {
        match note {
            Note::Proposed => self.proposing = false,
            Note::Dialled(node, dial) => {
                self.dialling.remove(&node);
                tracing::debug!(node = node.get(), ?dial, "a node without session was dialled");
                runtime::mark!("node dialled", dial);
                match dial {
                    Dial::Refused => self.reign.dial_refused(node),
                    Dial::Answered => self.reign.dial_answered(node),
                    Dial::Unclear => {}
                }
            }
        }
    }

    fn round(&mut self) {
        let reign = Arc::clone(&self.reign);
        let mut signals = reign.signals();
        let log = signals
            .get_or_insert_with(|| SignalLog::new(SignalLogOptions::default(), &self.detector));
        let (judgement, dials) = reign.zone().read(|state| {
            let round = self.detector.gather(reign.now(), state, &reign.view());
            let judgement = self.detector.judge(&round);
            log.record(round, &judgement, self.detector.memory());
            let dials: Vec<(NodeId, String)> = judgement
                .probe
                .iter()
                .filter_map(|id| Some((*id, state.node(*id)?.address.clone())))
                .collect();
            (judgement, dials)
        });
        drop(signals);
        self.is_urgent = judgement.is_urgent;
        for (node, address) in dials {
            if self.dialling.insert(node) {
                self.dial(node, address);
            }
        }
        if let Some(action) = judgement.action()
            && !self.proposing
        {
            self.propose(action);
        }
    }

    fn dial(&self, node: NodeId, address: String) {
        let (reign, notes) = (Arc::clone(&self.reign), self.notes.clone());
        tokio::spawn(async move {
            let dial = probe::dial(reign.environment(), &address).await;
            // Nobody listens when the reign has ended.
            let _ = notes.send(Note::Dialled(node, dial));
        });
    }

    fn propose(&mut self, action: Action) {
        self.proposing = true;
        let (reign, notes) = (Arc::clone(&self.reign), self.notes.clone());
        tokio::spawn(async move {
            if let Err(error) = reign.propose(action, "").await {
                // Another round concludes again, from what is committed by then.
                tracing::warn!(%error, "a judgement was not committed");
                runtime::mark!("judge: a judgement was not committed");
                // Not at once: the leader is being replaced, say.
                reign.environment().sleep(RETRY_PAUSE).await;
            }
            let _ = notes.send(Note::Proposed);
        });
    }
}
