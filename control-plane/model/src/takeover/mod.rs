//! Takeovers: giving a leader to groups that have lost theirs.
//!
//! A pure state machine. It is asked which groups need a leader ([`Takeovers::begin`]), says which calls
//! to make ([`Takeovers::calls`]), is told what became of them, and hands out a record at the end. For
//! each group, the recipe is:
//!
//! 1. *Collect* the log positions of the surviving replicas; candidates are the voters, in the order of
//!    their logs, the longest first.
//! 2. *Gently* ask the first candidate to lead.
//! 3. If it does not: *disarm* all other survivors, so that they let go of the lost leader; then the
//!    candidate *elects* itself.
//! 4. If that fails: the next candidate, again after disarming. After the last one, a pause, and all over.
//!
//! Groups are independent; calls are batched by node. Nothing here can break a group's safety: who leads
//! is decided by the votes of its majority, and a candidate with too short a log is refused.
//!
//! A takeover on mere lateness (the leader's node is suspect, not down) goes beyond step 1 only if a
//! survivor has lost the leader too. Otherwise it is dismissed without a trace, and looked at again soon.
//!
//! Between a candidate's word that it leads and its report, the view still shows a group without leader:
//! an appointed leader is left in peace for a moment, so that one loss is one takeover.

mod appointed;
mod call;
mod group;
mod need;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use planted::{Bug, is_planted};

use crate::{
    command::{Action, TakeoverOutcome, TakeoverRecord},
    ids::{NodeId, PartitionId, ReplicaId, Term},
    observation::ZoneView,
    state::ZoneState,
};
use appointed::Appointed;
pub use call::{
    Call, CallId, CallKind, GroupPosition, GroupReplica, GroupResult, TakeOverGroup,
    TakeOverOutcome,
};
use group::{Group, Next};
use need::{Looked, Lookout, Need};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeoverOptions {
    /// How long a group has no confirmed leader before it gets one, if nothing explains it sooner.
    pub leaderless_after: Duration,
    pub collect_timeout: Duration,
    /// For the candidate to lead without further ado.
    pub gentle_timeout: Duration,
    pub disarm_timeout: Duration,
    pub elect_timeout: Duration,
    /// For an answer to come back after a call's timeout.
    pub answer_margin: Duration,
    /// Before a group is tried again after all candidates failed.
    pub pause: Duration,
    /// Before a group is looked at again whose survivors still had their leader.
    pub dismissed_pause: Duration,
    /// How long an appointed leader may take to report itself before its group is taken on again.
    pub confirmation_grace: Duration,
    /// Groups at the same time. Elections share disks and processors: of a thousand begun at once nearly none
    /// ends in its time, and all begin again (measured by `make bench-takeover`: 29 s for 1,240 of them). So few
    /// that each ends before it is given up, also where a machine manages two hundred in a second.
    pub groups_max: usize,
    /// Groups that one round looks at: the others have their turn in the next ones.
    pub looks_max: usize,
    /// For how long groups that had to wait have their turn as it was found, before all are looked at again.
    pub backlog_lasts: Duration,
    /// Groups in one call.
    pub call_groups_max: usize,
    /// How long a finished group waits for others that lost the same node, to be recorded with them.
    pub record_after: Duration,
}

impl Default for TakeoverOptions {
    fn default() -> Self {
        Self {
            leaderless_after: Duration::from_millis(300),
            collect_timeout: Duration::from_millis(200),
            gentle_timeout: Duration::from_millis(100),
            disarm_timeout: Duration::from_millis(200),
            elect_timeout: Duration::from_millis(300),
            answer_margin: Duration::from_millis(30),
            pause: Duration::from_millis(300),
            dismissed_pause: Duration::from_millis(200),
            confirmation_grace: Duration::from_millis(500),
            groups_max: 32,
            looks_max: 10_000,
            backlog_lasts: Duration::from_millis(50),
            call_groups_max: 1_000,
            record_after: Duration::from_millis(250),
        }
    }
}

/// All takeovers of one leadership of the control plane.
#[derive(Clone, Debug, Default)]
pub struct Takeovers {
    options: TakeoverOptions,
    lookout: Lookout,
    groups: BTreeMap<PartitionId, Group>,
    calls: BTreeMap<CallId, (NodeId, BTreeSet<PartitionId>)>,
    last_call: u64,
    /// Until when a group is left alone.
    paused: BTreeMap<PartitionId, Duration>,
    /// Until when a group is left alone whose leader's node is merely suspect.
    dismissed: BTreeMap<PartitionId, Duration>,
    /// Groups that could not be helped, and when they were tried last. Recorded once, until the group is led again.
    failed: BTreeMap<PartitionId, Duration>,
    /// Leaders that have not reported themselves yet.
    appointed: BTreeMap<PartitionId, Appointed>,
    /// Since when a group needs a leader.
    needed_since: BTreeMap<PartitionId, Duration>,
    backlog: Backlog,
    finished: Vec<Finished>,
    ended: Vec<Ended>,
    /// Leaderships given to each node that are not committed yet: so that not all go to one.
    given: BTreeMap<NodeId, usize>,
}

/// Groups that needed a leader at the last look, and had to wait, in their turn.
#[derive(Clone, Debug, Default)]
struct Backlog {
    groups: VecDeque<PartitionId>,
    until: Duration,
}

/// What is to be recorded: one outcome for each partition and lost node, the latest.
#[derive(Clone, Debug)]
struct Finished {
    lost: Option<NodeId>,
    at: Duration,
    outcome: TakeoverOutcome,
}

/// One takeover that has come to an end: what the metrics count and measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub partition: PartitionId,
    /// Whether a replica leads; if not, all candidates have failed, and it goes on: that is said once.
    pub led: bool,
    /// From the moment at which the need was seen first.
    pub took: Duration,
}

impl Takeovers {
    pub fn new(options: TakeoverOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.groups.is_empty() && self.finished.is_empty()
    }

    /// The takeovers that have ended since the last call.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// Takes on the groups that need a leader now, the hottest first, and drops those that have one.
    pub fn begin(&mut self, state: &ZoneState, view: &ZoneView, now: Duration) {
        self.paused.retain(|_, until| *until > now);
        self.dismissed.retain(|_, until| *until > now || is_planted(Bug::DismissedForEver));
        let grace = self.options.confirmation_grace;
        self.appointed.retain(|id, appointed| appointed.holds(state, view, *id, now, grace));
        self.drop_led(state, view, now);
        if self.groups.is_empty() {
            self.given.clear();
        }
        self.begin_waiting(state, view, now);
        let free = self.options.groups_max.saturating_sub(self.groups.len());
        if free == 0 {
            return;
        }
        let TakeoverOptions { leaderless_after, looks_max, .. } = self.options;
        let Looked { mut needs, at, is_all } =
            self.lookout.look(state, view, now, leaderless_after, looks_max);
        needs.retain(|need| !self.appointed.contains_key(&need.partition));
        let needed: BTreeSet<_> = needs.iter().map(|need| need.partition).collect();
        // Who was not looked at needs a leader as before.
        self.needed_since.retain(|id, _| {
            needed.contains(id) || self.groups.contains_key(id) || !is_all && !at.contains(id)
        });
        for id in needed {
            self.needed_since.entry(id).or_insert(now);
        }
        let mut needs: Vec<_> = needs
            .into_iter()
            .filter(|need| self.may_begin(need))
            .map(|need| {
                // Who led it is gone, and what it said of its load still holds.
                let rates = view.last_rates_of(need.partition);
                let heat = rates.reads_per_second + rates.writes_per_second;
                // Whoever has failed goes behind those that were not tried, and behind those that have waited
                // longer: else the hottest would keep the others waiting for as long as nobody can lead them.
                (self.failed.get(&need.partition).copied(), heat, need)
            })
            .collect();
        needs.sort_by(|(tried, a, left), (tried_too, b, right)| {
            let turn = tried.cmp(tried_too).then(b.total_cmp(a));
            turn.then(left.partition.cmp(&right.partition))
        });
        let later = needs.split_off(free.min(needs.len()));
        for (_, _, need) in needs {
            self.groups.insert(need.partition, Group::new(need));
        }
        let groups = later.into_iter().map(|(_, _, need)| need.partition).collect();
        self.backlog = Backlog { groups, until: now + self.options.backlog_lasts };
    }

    /// Goes on with those that waited, without looking for others: if a node has led a thousand, a place
    /// becomes free a thousand times.
    fn begin_waiting(&mut self, state: &ZoneState, view: &ZoneView, now: Duration) {
        while now < self.backlog.until && self.groups.len() < self.options.groups_max {
            let Some(id) = self.backlog.groups.pop_front() else { return };
            let need = need::need(state, view, id, now, self.options.leaderless_after);
            if let Some(need) = need.filter(|need| self.may_begin(need)) {
                self.groups.insert(id, Group::new(need));
            }
        }
    }

    /// Whether nothing is under way, and nothing speaks against a try.
    fn may_begin(&self, need: &Need) -> bool {
        let id = need.partition;
        // What was mere suspicion may be certain by now.
        let is_certain = !need.needs_witness && !is_planted(Bug::DismissedForEver);
        !self.appointed.contains_key(&id)
            && !self.groups.contains_key(&id)
            && !self.paused.contains_key(&id)
            && (is_certain || !self.dismissed.contains_key(&id))
    }

    /// A leader that reported itself in the meantime ends the takeover.
    fn drop_led(&mut self, state: &ZoneState, view: &ZoneView, now: Duration) {
        let led: Vec<_> = self
            .groups
            .iter()
            .filter_map(|(id, group)| Some((*id, group.led_by(state, view)?)))
            .collect();
        for (id, (leader, term)) in led {
            if let Some(group) = self.groups.remove(&id)
                && group.has_acted()
            {
                self.finish_led(group, leader, term, now);
            }
        }
        if !self.failed.is_empty() {
            self.failed.retain(|id, _| {
                let leader = view.leader(*id);
                !leader.is_some_and(|leader| {
                    state.node(leader.replica.node).is_some_and(|node| node.is_up())
                })
            });
        }
    }

    /// The calls to make now. Each is answered with [`Takeovers::collected`],
    /// [`Takeovers::taken_over`] or [`Takeovers::call_failed`]; then ask again.
    pub fn calls(&mut self, state: &ZoneState, now: Duration) -> Vec<Call> {
        let mut batches: BTreeMap<(NodeId, BatchKind), Batch> = BTreeMap::new();
        for id in self.groups.keys().copied().collect::<Vec<_>>() {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            match group.next(&self.options, state, &mut self.given, now) {
                Next::Wait => {}
                Next::Collect(replicas) => {
                    for replica in replicas {
                        let key = (replica.node, BatchKind::Collect);
                        let batch = batches.entry(key).or_default();
                        batch.collect.push(GroupReplica { partition: id, replica: replica.id });
                    }
                }
                Next::TakeOver { timeout, asked } => {
                    let lost = group.lost();
                    for (node, order) in asked {
                        let key = (node, BatchKind::TakeOver(lost, timeout));
                        batches.entry(key).or_default().take_over.push(order);
                    }
                }
                Next::Led { leader, term } => {
                    if let Some(group) = self.groups.remove(&id) {
                        self.appointed.extend(
                            group
                                .survivor(leader)
                                .map(|replica| (id, Appointed { replica, term, at: now })),
                        );
                        self.finish_led(group, leader, term, now);
                    }
                }
                Next::Dismissed => {
                    self.groups.remove(&id);
                    self.needed_since.remove(&id);
                    self.dismissed.insert(id, now + self.options.dismissed_pause);
                }
                Next::Failed => {
                    if let Some(group) = self.groups.remove(&id) {
                        self.paused.insert(id, now + self.options.pause);
                        self.finish_failed(id, group, now);
                    }
                }
            }
        }
        batches.into_iter().flat_map(|(key, batch)| self.make_calls(key, batch)).collect()
    }

    fn make_calls(&mut self, (node, kind): (NodeId, BatchKind), batch: Batch) -> Vec<Call> {
        let size = self.options.call_groups_max.max(1);
        let (timeout, kinds): (Duration, Vec<(CallKind, BTreeSet<PartitionId>)>) = match kind {
            BatchKind::Collect => {
                let chunks = batch.collect.chunks(size).map(|groups| {
                    let ids = groups.iter().map(|group| group.partition).collect();
                    (CallKind::Collect { groups: groups.to_vec() }, ids)
                });
                (self.options.collect_timeout, chunks.collect())
            }
            BatchKind::TakeOver(lost_node, timeout) => {
                let chunks = batch.take_over.chunks(size).map(|groups| {
                    let ids = groups.iter().map(|group| group.partition).collect();
                    (CallKind::TakeOver { lost_node, groups: groups.to_vec() }, ids)
                });
                (timeout, chunks.collect())
            }
        };
        kinds
            .into_iter()
            .map(|(kind, groups)| {
                self.last_call += 1;
                let id = CallId(self.last_call);
                self.calls.insert(id, (node, groups));
                Call { id, node, kind, timeout }
            })
            .collect()
    }

    /// The answer to a [`CallKind::Collect`].
    pub fn collected(&mut self, call: CallId, positions: Vec<GroupPosition>) {
        let Some((node, mut unanswered)) = self.calls.remove(&call) else { return };
        for position in positions {
            unanswered.remove(&position.partition);
            if let Some(group) = self.groups.get_mut(&position.partition) {
                group.positioned(position);
            }
        }
        self.silent(node, &unanswered, "the answer has nothing for this group");
    }

    /// The answer to a [`CallKind::TakeOver`].
    pub fn taken_over(&mut self, call: CallId, results: Vec<GroupResult>) {
        let Some((node, mut unanswered)) = self.calls.remove(&call) else { return };
        for result in results {
            unanswered.remove(&result.partition);
            if let Some(group) = self.groups.get_mut(&result.partition) {
                group.answered(result);
            }
        }
        self.silent(node, &unanswered, "the answer has nothing for this group");
    }

    /// A call was not answered, or answered with an error as a whole.
    pub fn call_failed(&mut self, call: CallId, reason: &str) {
        let Some((node, groups)) = self.calls.remove(&call) else { return };
        self.silent(node, &groups, reason);
    }

    fn silent(&mut self, node: NodeId, groups: &BTreeSet<PartitionId>, reason: &str) {
        for id in groups {
            if let Some(group) = self.groups.get_mut(id) {
                group.silent(node, reason);
            }
        }
    }

    fn finish_led(&mut self, group: Group, leader: ReplicaId, term: Term, now: Duration) {
        let id = group.partition();
        self.failed.remove(&id);
        let since = self.needed_since.remove(&id).unwrap_or(now);
        self.ended.push(Ended { partition: id, led: true, took: now.saturating_sub(since) });
        let outcome = group.outcome(Some((leader, term)));
        self.finish(group.lost(), outcome, now);
    }

    fn finish_failed(&mut self, id: PartitionId, group: Group, now: Duration) {
        if self.failed.insert(id, now).is_none() {
            let since = self.needed_since.get(&id).copied().unwrap_or(now);
            self.ended.push(Ended { partition: id, led: false, took: now.saturating_sub(since) });
            let outcome = group.outcome(None);
            self.finish(group.lost(), outcome, now);
        }
    }

    /// Notes an outcome for the record, in place of an earlier one of the same loss.
    fn finish(&mut self, lost: Option<NodeId>, outcome: TakeoverOutcome, now: Duration) {
        let earlier = self.finished.iter_mut().find(|finished| {
            finished.lost == lost && finished.outcome.partition == outcome.partition
        });
        match earlier {
            Some(finished) => finished.outcome = outcome,
            None => self.finished.push(Finished { lost, at: now, outcome }),
        }
    }

    /// A command that records what has ended, once the others that lost the same node have ended too,
    /// or after a moment. Ask until there is none.
    pub fn finished(&mut self, now: Duration) -> Option<Action> {
        let lost = self.finished.iter().find_map(|first| {
            let others_run = self.groups.values().any(|group| group.lost() == first.lost);
            let waited = now.saturating_sub(first.at) >= self.options.record_after;
            (!others_run || waited).then_some(first.lost)
        })?;
        let mut groups = Vec::new();
        self.finished.retain(|finished| {
            if finished.lost == lost {
                groups.push(finished.outcome.clone());
            }
            finished.lost != lost
        });
        groups.sort_by_key(|outcome| outcome.partition);
        let reason = match lost {
            Some(node) => format!("the leaders on node {node} were lost"),
            None => format!(
                "no leader was confirmed for {} ms",
                self.options.leaderless_after.as_millis()
            ),
        };
        Some(Action::RecordTakeover(TakeoverRecord { lost, reason, groups }))
    }

    /// When to ask for [`Takeovers::calls`] again even if nothing is answered.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.groups.values().filter_map(Group::deadline).min()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum BatchKind {
    Collect,
    TakeOver(Option<NodeId>, Duration),
}

#[derive(Debug, Default)]
struct Batch {
    collect: Vec<GroupReplica>,
    take_over: Vec<TakeOverGroup>,
}
