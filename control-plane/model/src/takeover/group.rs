//! One group on its way to a leader.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    GroupPosition, GroupResult, TakeOverGroup, TakeOverOutcome, TakeoverOptions,
    need::{Need, confirmed},
};
use crate::{
    command::{LeaderObservation, TakeoverOutcome},
    ids::{LogPosition, NodeId, PartitionId, ReplicaId, Term},
    node::NodeState,
    observation::ZoneView,
    partition::Replica,
    state::ZoneState,
};

/// What is remembered of the way, for the record.
const NOTES_MAX: usize = 12;

#[derive(Clone, Debug)]
pub(super) struct Group {
    need: Need,
    stage: Stage,
    positions: BTreeMap<ReplicaId, GroupPosition>,
    candidates: Vec<ReplicaId>,
    attempt: usize,
    notes: Vec<String>,
    led: Option<(ReplicaId, Term)>,
}

#[derive(Clone, Debug)]
enum Stage {
    New,
    Collecting { waiting: BTreeSet<ReplicaId>, until: Duration },
    Gentle { waiting: BTreeSet<ReplicaId>, until: Duration },
    Disarming { waiting: BTreeSet<ReplicaId>, until: Duration },
    Electing { waiting: BTreeSet<ReplicaId>, until: Duration },
}

/// What a group wants now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    Collect(Vec<Replica>),
    TakeOver {
        timeout: Duration,
        asked: Vec<(NodeId, TakeOverGroup)>,
    },
    Led {
        leader: ReplicaId,
        term: Term,
    },
    /// There is nothing to take over, as far as can be seen now.
    Dismissed,
    /// All candidates have failed.
    Failed,
}

impl Group {
    pub fn new(need: Need) -> Self {
        let notes = vec![need.reason.clone()];
        Self {
            need,
            stage: Stage::New,
            positions: BTreeMap::new(),
            candidates: Vec::new(),
            attempt: 0,
            notes,
            led: None,
        }
    }

    pub fn partition(&self) -> PartitionId {
        self.need.partition
    }

    pub fn lost(&self) -> Option<NodeId> {
        self.need.lost
    }

    /// The survivor with this id.
    pub fn survivor(&self, id: ReplicaId) -> Option<Replica> {
        self.need.survivors.iter().find(|survivor| survivor.id == id).copied()
    }

    /// Whether any replica was asked to lead.
    pub fn has_acted(&self) -> bool {
        !self.candidates.is_empty()
    }

    pub fn deadline(&self) -> Option<Duration> {
        match &self.stage {
            Stage::New => None,
            Stage::Collecting { until, .. }
            | Stage::Gentle { until, .. }
            | Stage::Disarming { until, .. }
            | Stage::Electing { until, .. } => Some(*until),
        }
    }

    /// A leader that has reported itself.
    pub fn led_by(&self, state: &ZoneState, view: &ZoneView) -> Option<(ReplicaId, Term)> {
        let leader = confirmed(state, view, self.need.partition)?;
        Some((leader.replica.id, leader.term))
    }

    pub fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note.into());
        }
    }

    /// A survivor has said where its log ends.
    pub fn positioned(&mut self, position: GroupPosition) {
        if let Stage::Collecting { waiting, .. } = &mut self.stage
            && waiting.remove(&position.replica)
        {
            if position.error.is_empty() {
                self.positions.insert(position.replica, position);
            } else {
                let note =
                    format!("replica {} has no position: {}", position.replica, position.error);
                self.note(note);
            }
        }
    }

    /// A survivor has said what became of an order.
    pub fn answered(&mut self, result: GroupResult) {
        if let Stage::Gentle { waiting, .. }
        | Stage::Disarming { waiting, .. }
        | Stage::Electing { waiting, .. } = &mut self.stage
        {
            waiting.remove(&result.replica);
        }
        let GroupResult { replica, outcome, term, leader, message, .. } = result;
        match outcome {
            // However late it comes, it is good news.
            TakeOverOutcome::Leading => self.led = Some((replica, term)),
            TakeOverOutcome::LedElsewhere => match leader {
                Some(leader) if self.is_new_leader(leader, term) => {
                    self.led = Some((leader, term));
                }
                Some(_) | None => {
                    self.note(format!("replica {replica} still follows the former leader"));
                }
            },
            TakeOverOutcome::Disarmed => {}
            TakeOverOutcome::NotElected => {
                self.note(format!("replica {replica} was not elected: {message}"));
            }
            TakeOverOutcome::Refused => self.note(format!("replica {replica} refused: {message}")),
        }
    }

    /// Whether a survivor leads in a term that is newer than all that was collected: whoever led before
    /// is what this takeover is about.
    fn is_new_leader(&self, leader: ReplicaId, term: Term) -> bool {
        let newest = self.positions.values().map(|position| position.vote_term).max();
        newest.is_some_and(|newest| term > newest)
            && self.need.survivors.iter().any(|survivor| survivor.id == leader)
    }

    /// Whether the lost node, merely suspect when this began, is down by now, or says itself that it is
    /// stuck.
    fn is_loss_proven(&self, state: &ZoneState) -> bool {
        let node = self.need.lost.and_then(|node| state.node(node));
        node.is_some_and(|node| {
            node.liveness.state == NodeState::Down || node.liveness.by_own_account
        })
    }

    /// Whether a candidate says that it leads already, although nobody confirms it.
    fn claims_to_lead(&self, replica: ReplicaId) -> bool {
        self.positions
            .get(&replica)
            .is_some_and(|position| position.leader == Some(replica) && position.vote_committed)
    }

    /// A node did not answer.
    pub fn silent(&mut self, node: NodeId, reason: &str) {
        let survivors = self.need.survivors.iter().filter(|survivor| survivor.node == node);
        let there: Vec<_> = survivors.map(|survivor| survivor.id).collect();
        if let Stage::Collecting { waiting, .. }
        | Stage::Gentle { waiting, .. }
        | Stage::Disarming { waiting, .. }
        | Stage::Electing { waiting, .. } = &mut self.stage
        {
            waiting.retain(|replica| !there.contains(replica));
        }
        self.note(format!("node {node} did not answer: {reason}"));
    }

    /// Goes on, if what it waited for has come or took too long.
    pub fn next(
        &mut self,
        options: &TakeoverOptions,
        state: &ZoneState,
        given: &mut BTreeMap<NodeId, usize>,
        now: Duration,
    ) -> Next {
        if let Some((leader, term)) = self.led {
            return Next::Led { leader, term };
        }
        let ready =
            |waiting: &BTreeSet<ReplicaId>, until: Duration| waiting.is_empty() || now >= until;
        match &self.stage {
            Stage::New => self.collect(options, now),
            Stage::Collecting { waiting, until } if ready(waiting, *until) => {
                self.choose(options, state, given, now)
            }
            Stage::Gentle { waiting, until } if ready(waiting, *until) => {
                // Whoever leads without a quorum would not get one by an election either.
                match self.candidates.first() {
                    Some(first) if self.claims_to_lead(*first) => self.next_candidate(options, now),
                    Some(_) | None => self.disarm(options, now),
                }
            }
            Stage::Disarming { waiting, until } if ready(waiting, *until) => {
                self.elect(options, now)
            }
            Stage::Electing { waiting, until } if ready(waiting, *until) => {
                self.next_candidate(options, now)
            }
            Stage::Collecting { .. }
            | Stage::Gentle { .. }
            | Stage::Disarming { .. }
            | Stage::Electing { .. } => Next::Wait,
        }
    }

    fn collect(&mut self, options: &TakeoverOptions, now: Duration) -> Next {
        let waiting = self.need.survivors.iter().map(|survivor| survivor.id).collect();
        self.stage = Stage::Collecting {
            waiting,
            until: now + options.collect_timeout + options.answer_margin,
        };
        Next::Collect(self.need.survivors.clone())
    }

    /// Orders the candidates by what their logs hold, and asks the first.
    fn choose(
        &mut self,
        options: &TakeoverOptions,
        state: &ZoneState,
        given: &mut BTreeMap<NodeId, usize>,
        now: Duration,
    ) -> Next {
        if self.positions.is_empty() {
            self.note("no survivor said where its log ends");
            return Next::Failed;
        }
        let is_witnessed = self.positions.values().any(|position| position.leader_lost);
        if self.need.needs_witness && !is_witnessed && !self.is_loss_proven(state) {
            return Next::Dismissed;
        }
        let newest = self
            .positions
            .values()
            .filter(|position| !position.voters.is_empty())
            .max_by_key(|position| position.membership_log);
        let voters = newest.map(|position| position.voters.clone());
        let mut ranked: Vec<_> = self
            .need
            .survivors
            .iter()
            .filter_map(|survivor| Some((survivor, self.positions.get(&survivor.id)?)))
            .filter(|(survivor, _)| {
                voters.as_ref().is_none_or(|voters| voters.contains(&survivor.id))
            })
            .map(|(survivor, position)| {
                let eligible = state.node(survivor.node).is_some_and(|node| node.is_eligible());
                let leads = state.leader_count(survivor.node)
                    + given.get(&survivor.node).copied().unwrap_or(0);
                let claims = self.claims_to_lead(survivor.id);
                (Reverse(position.last_log), !claims, !eligible, leads, survivor.id, survivor.node)
            })
            .collect();
        ranked.sort_unstable();
        let described: Vec<_> = ranked
            .iter()
            .map(|(last_log, _, _, leads, replica, node)| {
                let log = last_log.0.map_or("empty".to_owned(), |position| position.to_string());
                format!("replica {replica} on node {node} with log {log}, leading {leads}")
            })
            .collect();
        self.note(format!("candidates, best first: {}", described.join("; ")));
        let voters = voters.map_or(ranked.len(), |voters| voters.len());
        self.candidates = self.electable(ranked.iter().map(|(.., replica, _)| *replica), voters);
        let Some((.., node)) = ranked.first() else {
            self.note("no voter is among the survivors");
            return Next::Failed;
        };
        *given.entry(*node).or_default() += 1;
        let first = self.candidates.first().copied();
        let asked = self.orders(false, |survivor| Some(survivor) == first);
        self.stage = Stage::Gentle {
            waiting: asked_replicas(&asked),
            until: now + options.gentle_timeout + options.answer_margin,
        };
        Next::TakeOver { timeout: options.gentle_timeout, asked }
    }

    /// Those that enough of the others can vote for: the first one, which has the longest log, and those
    /// whose logs are as long as most. A candidate that the logs of the others refuse takes their votes all
    /// the same, with the term that it stands in; and then the first one is refused in that term, and so on,
    /// round by round.
    fn electable(&self, ranked: impl Iterator<Item = ReplicaId>, voters: usize) -> Vec<ReplicaId> {
        let last_log = |replica: &ReplicaId| self.positions.get(replica)?.last_log;
        let ranked: Vec<ReplicaId> = ranked.collect();
        // Of a joint membership both sides are in it; most of either side are at least so many.
        let needed = voters.saturating_sub(1) / 2 + 1;
        let mut electable = ranked.clone();
        electable.retain(|candidate| {
            let would_vote =
                ranked.iter().filter(|voter| last_log(voter) <= last_log(candidate)).count();
            Some(candidate) == ranked.first() || would_vote >= needed
        });
        electable
    }

    fn disarm(&mut self, options: &TakeoverOptions, now: Duration) -> Next {
        let Some(candidate) = self.candidates.get(self.attempt).copied() else {
            return Next::Failed;
        };
        let asked = self.orders(false, |survivor| survivor != candidate);
        if asked.is_empty() {
            return self.elect(options, now);
        }
        self.stage = Stage::Disarming {
            waiting: asked_replicas(&asked),
            until: now + options.disarm_timeout + options.answer_margin,
        };
        Next::TakeOver { timeout: options.disarm_timeout, asked }
    }

    fn elect(&mut self, options: &TakeoverOptions, now: Duration) -> Next {
        let Some(candidate) = self.candidates.get(self.attempt).copied() else {
            return Next::Failed;
        };
        let asked = self.orders(true, |survivor| survivor == candidate);
        self.stage = Stage::Electing {
            waiting: asked_replicas(&asked),
            until: now + options.elect_timeout + options.answer_margin,
        };
        Next::TakeOver { timeout: options.elect_timeout, asked }
    }

    fn next_candidate(&mut self, options: &TakeoverOptions, now: Duration) -> Next {
        self.attempt += 1;
        if self.attempt >= self.candidates.len() {
            return Next::Failed;
        }
        let candidate = self.candidates[self.attempt];
        self.note(format!("next candidate: replica {candidate}"));
        self.disarm(options, now)
    }

    /// Orders to those survivors that are meant, towards the present candidate.
    fn orders(
        &self,
        elect: bool,
        is_meant: impl Fn(ReplicaId) -> bool,
    ) -> Vec<(NodeId, TakeOverGroup)> {
        let Some(candidate) = self.candidates.get(self.attempt).copied() else {
            return Vec::new();
        };
        self.need
            .survivors
            .iter()
            .filter(|survivor| is_meant(survivor.id))
            .map(|survivor| {
                let membership_log: Option<LogPosition> =
                    self.positions.get(&survivor.id).and_then(|position| position.membership_log);
                let order = TakeOverGroup {
                    partition: self.need.partition,
                    replica: survivor.id,
                    candidate,
                    membership_log,
                    elect,
                };
                (survivor.node, order)
            })
            .collect()
    }

    pub fn outcome(&self, leader: Option<(ReplicaId, Term)>) -> TakeoverOutcome {
        TakeoverOutcome {
            partition: self.need.partition,
            leader: leader.map(|(replica, term)| LeaderObservation { replica, term }),
            reason: self.notes.join("; "),
        }
    }
}

fn asked_replicas(asked: &[(NodeId, TakeOverGroup)]) -> BTreeSet<ReplicaId> {
    asked.iter().map(|(_, order)| order.replica).collect()
}
