//! What a leader goes through with one zone, measured step by step.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use model::{
    Action, Command, Incarnation, NodeId, Revision, WallTime, ZoneState, ZoneTime, ZoneView,
    agenda::Agenda,
    detector::{Detector, DetectorOptions},
    observation::Heartbeat,
    plan::{self, PlanOptions},
    reconcile::{Reconciled, reconcile},
    status,
    takeover::{TakeoverOptions, Takeovers},
    tally::Tally,
};

use crate::{figures::Figures, zone};

/// Partitions that one pass reconciles, as the conductor does.
const PARTITIONS_PER_PASS: usize = 2_000;

/// Above this, a step's time is the processor's: what others do on the machine does not count then. Below,
/// the kernel's account of it is too coarse, and it is the wall clock's.
const ACCOUNTED_MIN: Duration = Duration::from_millis(50);

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn timed<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let (used, started) = (processor_time(), Instant::now());
    let output = run();
    let elapsed = started.elapsed();
    let used = processor_time().zip(used).map(|(now, before)| now.saturating_sub(before));
    (used.filter(|_| elapsed >= ACCOUNTED_MIN).unwrap_or(elapsed), output)
}

/// What this thread has had of a processor; none where the kernel does not say.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn milliseconds(took: Duration) -> String {
    format!("{:.2} ms", took.as_secs_f64() * 1_000.0)
}

/// What this process has in memory.
fn resident() -> Result<String, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes
        .and_then(|kilobytes| kilobytes.trim().parse().ok())
        .ok_or("/proc/self/status does not say how much is resident")?;
    Ok(format!("{} MiB", kilobytes / 1_024))
}

/// A leader at work.
struct Leader {
    state: ZoneState,
    view: ZoneView,
    detector: Detector,
    takeovers: Takeovers,
    agenda: Agenda,
    tally: Tally,
    now: Duration,
    revision: u64,
}

/// All figures of one size.
///
/// # Errors
/// In words, if the zone cannot be made.
pub fn run(nodes: u64, partitions: u64) -> Result<Figures, String> {
    let mut figures = Figures::default();
    let now = Duration::from_secs(1);
    let state = zone::state(nodes, partitions)?;
    let mut leader = Leader {
        tally: Tally::unseen(&state),
        agenda: Agenda::default(),
        state,
        view: ZoneView::new(now),
        detector: Detector::new(DetectorOptions::default(), now),
        takeovers: Takeovers::new(TakeoverOptions::default()),
        now,
        revision: nodes + 1,
    };
    figures.add("memory: state", resident()?);
    leader.begin(&mut figures);
    figures.add("memory: state and view", resident()?);
    leader.idle(&mut figures);
    leader.lose(NodeId(1), &mut figures)?;
    figures.add("memory: after all that", resident()?);
    leader.snapshot(&mut figures)?;
    Ok(figures)
}

impl Leader {
    fn heartbeats(&mut self, but: Option<NodeId>) {
        let ids: Vec<NodeId> = self.state.nodes().iter().map(|(id, _)| *id).collect();
        for id in ids.into_iter().filter(|id| Some(*id) != but) {
            self.view.heartbeat(id, Heartbeat::default(), self.now);
        }
    }

    fn judge(&mut self) -> Option<Action> {
        let round = self.detector.gather(self.now, &self.state, &self.view);
        self.detector.judge(&round).action()
    }

    fn take_over(&mut self) -> usize {
        self.takeovers.begin(&self.state, &self.view, self.now);
        self.takeovers.calls(&self.state, self.now).len()
    }

    fn plan(&self) -> Vec<Action> {
        plan::plan(&self.state, &self.view, self.now, &PlanOptions::default())
    }

    /// One pass over what has changed, and the number of orders and conclusions.
    fn reconcile(&mut self) -> usize {
        self.agenda.add(self.view.take_touched(&self.state).iter());
        let mut reconciled = Reconciled::default();
        for partition in self.agenda.take(&self.state, PARTITIONS_PER_PASS) {
            reconciled.extend(reconcile(&self.state, &self.view, partition));
        }
        reconciled.orders.len() + reconciled.actions().len()
    }

    /// Counts some of what is not as it should be.
    fn count(&mut self) {
        let turned = self.view.take_turned();
        if !turned.is_empty() {
            self.tally.add_nodes(&self.state, &self.view, turned);
        }
        self.tally.look(&self.state, &self.view, self.now, PARTITIONS_PER_PASS);
    }

    /// All nodes find the new leader and report all that they have; then it decides for the first time.
    fn begin(&mut self, figures: &mut Figures) {
        let ids: Vec<NodeId> = self.state.nodes().iter().map(|(id, _)| *id).collect();
        let (mut reporting, mut reported) = (Duration::ZERO, 0_u32);
        // Some at a time: made beforehand, and not all in memory at once.
        for ids in ids.chunks(50) {
            let all: Vec<_> = ids.iter().map(|id| (*id, zone::reports(&self.state, *id))).collect();
            let count: usize = all.iter().map(|(_, reports)| reports.len()).sum();
            reported = reported.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            let (took, ()) = timed(|| {
                for (id, reports) in all {
                    self.view.session_opened(id, Incarnation(1), self.now);
                    for report in reports {
                        self.view.report(id, report, self.now);
                    }
                    self.view.full_report_end(id);
                }
            });
            reporting += took;
        }
        let rate = f64::from(reported) / reporting.as_secs_f64();
        figures.add("new leader: all reports", milliseconds(reporting));
        figures.add("new leader: reports per second", format!("{rate:.0}"));
        self.heartbeats(None);
        self.now += Duration::from_millis(100);
        let (judging, _) = timed(|| self.judge());
        let (taking_over, _) = timed(|| self.take_over());
        let (planning, _) = timed(|| self.plan());
        let (reconciling, found) = timed(|| {
            self.agenda.add_all();
            self.agenda.add_unsettled();
            let mut found = self.reconcile();
            while !self.agenda.is_empty() {
                found += self.reconcile();
            }
            found
        });
        let (counting, ()) = timed(|| {
            while !self.tally.is_complete() {
                self.count();
            }
        });
        figures.add("new leader: first round of the judge", milliseconds(judging));
        figures.add("new leader: first look for takeovers", milliseconds(taking_over));
        figures.add("new leader: first plan", milliseconds(planning));
        figures.add("new leader: all partitions reconciled", milliseconds(reconciling));
        figures.add("new leader: orders and conclusions", found.to_string());
        figures.add("new leader: all partitions counted", milliseconds(counting));
        let all = reporting + judging + taking_over + planning + reconciling + counting;
        figures.add("new leader: all of it", milliseconds(all));
    }

    /// What it does again and again while nothing happens.
    fn idle(&mut self, figures: &mut Figures) {
        for _ in 0..30 {
            self.now += Duration::from_millis(100);
            self.heartbeats(None);
            black_box(self.judge());
        }
        self.now += Duration::from_millis(100);
        self.heartbeats(None);
        let (gathering, round) = timed(|| self.detector.gather(self.now, &self.state, &self.view));
        let (judging, _) = timed(|| self.detector.judge(&round));
        figures.add("idle: signals of a round", milliseconds(gathering));
        figures.add("idle: judgement of a round", milliseconds(judging));
        let (taking_over, _) = timed(|| self.take_over());
        figures.add("idle: look for takeovers", milliseconds(taking_over));
        let (reconciling, _) = timed(|| {
            self.agenda.add_unsettled();
            self.reconcile()
        });
        figures.add("idle: reconciling", milliseconds(reconciling));
        let (planning, actions) = timed(|| self.plan());
        figures.add("idle: plan", milliseconds(planning));
        figures.add("idle: actions planned", actions.len().to_string());
        let (counting, _) = timed(|| {
            self.count();
            black_box(status::figures_by(&self.state, &self.view, &self.tally, self.now))
        });
        figures.add("idle: figures for people", milliseconds(counting));
    }

    /// A node's process is gone: from the refused dial to the first calls.
    fn lose(&mut self, lost: NodeId, figures: &mut Figures) -> Result<(), String> {
        let led = self.state.partitions_led_by(lost).count();
        self.now += Duration::from_millis(100);
        self.heartbeats(Some(lost));
        let (closing, ()) = timed(|| {
            self.view.session_closed(lost, self.now);
            self.view.dial_refused(lost, self.now);
        });
        let (judging, action) = timed(|| self.judge());
        let action = action.ok_or("the judge does not notice the loss")?;
        self.revision += 1;
        let (applying, outcome) = timed(|| {
            let command = Command::new(ZoneTime(1), WallTime(0), action);
            let outcome = self.state.apply(Revision(self.revision), &command);
            black_box(self.state.take_changes());
            outcome
        });
        outcome.map_err(|refusal| refusal.to_string())?;
        let (taking_over, calls) = timed(|| self.take_over());
        figures.add("loss: leaderships", led.to_string());
        figures.add("loss: what is known is updated", milliseconds(closing));
        figures.add("loss: to the conclusion", milliseconds(judging));
        figures.add("loss: applied", milliseconds(applying));
        figures.add("loss: to the first calls", milliseconds(taking_over));
        figures.add("loss: calls", calls.to_string());
        let (again, _) = timed(|| self.take_over());
        figures.add("loss: another look for takeovers", milliseconds(again));
        let (planning, _) = timed(|| self.plan());
        figures.add("loss: plan", milliseconds(planning));
        let (counting, counted) = timed(|| {
            self.tally.add_nodes(&self.state, &self.view, [lost]);
            while !self.tally.is_complete() {
                self.count();
            }
            status::figures_by(&self.state, &self.view, &self.tally, self.now)
        });
        figures.add("loss: figures for people", milliseconds(counting));
        figures.add("loss: unavailable", counted.partitions.unavailable.to_string());
        Ok(())
    }

    fn snapshot(&self, figures: &mut Figures) -> Result<(), String> {
        let (writing, records) = timed(|| self.state.records().collect::<Vec<_>>());
        let bytes: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
        let (reading, state) = timed(|| ZoneState::from_records(records));
        let state = state.map_err(|error| error.to_string())?;
        if state.partitions().len() != self.state.partitions().len() {
            return Err("the snapshot lacks partitions".into());
        }
        figures.add("snapshot: size", format!("{} MiB", bytes >> 20));
        figures.add("snapshot: written", milliseconds(writing));
        figures.add("snapshot: read", milliseconds(reading));
        Ok(())
    }
}
