//! The failure detector: from signals to conclusions, all nodes of a round together, and the brake that
//! follows from them (G7).
//!
//! - *Suspect*: no heartbeat for longer than its heartbeats' way of coming explains ([`crate::accrual`]), or
//!   its session broke and a dial does not say more, or its heartbeat is late and most of the nodes that share
//!   partitions with it cannot reach it either. And by its own
//!   account, if a sync of its disk or its tasks' turn does not come to an end while others' do: then it
//!   cannot hand over. Leadership may move; data stays.
//! - *Down*: its session is gone and a dial was refused (the process does not exist), or silence for
//!   long. Repair starts later, by `replace_after`.
//! - *Up* again: only by heartbeats in a session.
//! - *Slow*: it is heard, but by what it says of itself it is much worse than its peers, or short of disk
//!   space: leadership moves off it in order. *Recovering*: well again after that, or after it was lost again
//!   and again, but not for long enough. Never more than a third of the nodes are either: what strikes so
//!   many is no node's own trouble.
//!
//! When the judge itself ran late, lateness proves nothing: such a round concludes nothing from it, and
//! brakes.
//!
//! **Architecture invariant:** a round is a function of the detector's memory and of one [`SignalRound`]; it
//! sees neither the state nor the view. So what was recorded can be judged again ([`crate::signal_log`]).
//!
//! [`options`] has the limits, [`verdict`] what signals say of one node, [`brake`] what follows from all of
//! them.

mod brake;
mod options;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use planted::{Bug, is_planted};
use serde::{Deserialize, Serialize};

use crate::{
    command::{Action, BrakeChange, Conclusion},
    health::{Ailing, Usual},
    ids::NodeId,
    node::NodeState,
    observation::ZoneView,
    signals::{NodeSignals, SignalRound},
    state::ZoneState,
};
pub use options::DetectorOptions;
use verdict::{Condition, Verdicts};

/// For how long a session counts as just broken.
pub const REDIAL_FOR: Duration = Duration::from_millis(100);

/// Nodes that are dialled within one [`DetectorOptions::probe_interval`], of those whose session has just broken and
/// of the others without session each. A new leader has no session with anybody at first: dialling a thousand nodes
/// ten times a second would keep it from taking their sessions.
pub const PROBED_AT_ONCE_MAX: usize = 100;

/// Judges in rounds. One for each leadership.
#[derive(Clone, Debug)]
pub struct Detector {
    options: DetectorOptions,
    last_round_at: Duration,
    memory: Memory,
}

/// What a detector knows from its earlier rounds. Together with a round's signals it decides all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// When the brake's cause was last there, and what it was.
    cause: Option<(Duration, String)>,
    /// When this judge first saw each node: before that, its silence means nothing.
    known_since: BTreeMap<NodeId, Duration>,
    probed_at: BTreeMap<NodeId, Duration>,
    /// Since when each node has been heard of without anything being wrong with it.
    well_since: BTreeMap<NodeId, Duration>,
}

impl Memory {
    /// About what it takes.
    pub fn bytes(&self) -> usize {
        let moments = self.known_since.len() + self.probed_at.len() + self.well_since.len();
        let cause = self.cause.as_ref().map_or(0, |(_, reason)| reason.len());
        size_of::<Self>() + cause + moments * size_of::<(NodeId, Duration)>()
    }
}

/// What a round has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Changes only, in the order of node ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conclusions: Vec<Conclusion>,
    /// None: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brake: Option<BrakeChange>,
    /// Nodes to dial now: without session, so that a refusal proves that the process is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probe: Vec<NodeId>,
    /// A dial is about to say more: the next round should come soon.
    #[serde(default)]
    pub is_urgent: bool,
}

impl Judgement {
    /// The command that commits it; none if nothing has changed.
    pub fn action(&self) -> Option<Action> {
        if self.conclusions.is_empty() && self.brake.is_none() {
            return None;
        }
        let conclusions = self.conclusions.clone();
        Some(Action::SetLiveness { conclusions, brake: self.brake.clone() })
    }

    /// Nothing is to be done for it.
    pub fn is_quiet(&self) -> bool {
        self.action().is_none() && self.probe.is_empty() && !self.is_urgent
    }
}

impl Detector {
    pub fn new(options: DetectorOptions, now: Duration) -> Self {
        Self { options, last_round_at: now, memory: Memory::default() }
    }

    /// One that goes on where another was.
    pub fn resumed(options: DetectorOptions, memory: Memory) -> Self {
        Self { memory, ..Self::new(options, Duration::ZERO) }
    }

    pub fn options(&self) -> &DetectorOptions {
        &self.options
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What the next round looks at, if it is now.
    pub fn gather(&self, now: Duration, state: &ZoneState, view: &ZoneView) -> SignalRound {
        let since_last = now.saturating_sub(self.last_round_at);
        SignalRound::gather(&self.options, since_last, now, state, view)
    }

    /// One round: all nodes together.
    pub fn judge(&mut self, round: &SignalRound) -> Judgement {
        let now = round.at();
        self.last_round_at = now;
        let late = round.since_last() > self.options.round_max;
        self.get_to_know(round);
        let ailments = self.ailments(round);
        let verdicts = Verdicts::new(&self.options, round, late);
        let mut impaired_left = impaired_max(round);
        let mut judgement = Judgement::default();
        let mut states = BTreeMap::new();
        for node in &round.nodes {
            let well_since = self.memory.well_since.get(&node.node);
            let condition = Condition {
                ailing: ailments.get(&node.node),
                well_for: well_since.map(|since| now.saturating_sub(*since)),
                may_be_impaired: impaired_left > 0 || node.is_impaired(),
                known_for: now.saturating_sub(
                    self.memory.known_since.get(&node.node).copied().unwrap_or(now),
                ),
            };
            let judged = verdicts.news(node, &condition);
            states.insert(node.node, judged.as_ref().map_or(node.state, |(state, _)| *state));
            if let Some((state, evidence)) = judged {
                let by_own_account = state == NodeState::Suspect && condition.is_stuck();
                if (state.is_impaired() || by_own_account) && !node.is_impaired() {
                    impaired_left = impaired_left.saturating_sub(1);
                }
                judgement.conclusions.push(Conclusion {
                    node: node.node,
                    incarnation: node.incarnation,
                    state,
                    evidence,
                    by_own_account,
                    forgets: state == NodeState::Up && node.state == state,
                });
            }
        }
        judgement.brake = self.brake(round, &states, late);
        judgement.probe = self.probes(round);
        judgement.is_urgent = round.nodes.iter().any(has_just_broken);
        judgement
    }

    /// A node that registers during a leadership is granted its time from then on.
    fn get_to_know(&mut self, round: &SignalRound) {
        let known_since = &mut self.memory.known_since;
        let is_first = known_since.is_empty();
        let since = if is_first { round.watching_since() } else { round.at() };
        known_since.retain(|id, _| round.node(*id).is_some());
        for node in &round.nodes {
            known_since.entry(node.node).or_insert(since);
        }
    }

    /// What is wrong with each node that is heard of; remembers since when nothing is.
    fn ailments(&mut self, round: &SignalRound) -> BTreeMap<NodeId, Ailing> {
        let fresh: Vec<&NodeSignals> =
            round.nodes.iter().filter(|node| node.is_fresh(&self.options)).collect();
        let usual = Usual::of(fresh.iter().map(|node| &node.health));
        let low = fresh.iter().filter(|node| node.is_disk_below_reserve).count();
        let is_low_unusual = 2 * low < fresh.len();
        let mut ailments = BTreeMap::new();
        let mut well = BTreeSet::new();
        for node in fresh {
            let ailment = if node.is_disk_below_reserve && is_low_unusual {
                let words = "its disk has less space left than its reserve".to_owned();
                Some(Ailing { words, is_stuck: false })
            } else {
                node.health.ailment(&usual, node.state == NodeState::Slow)
            };
            match ailment {
                Some(ailment) => drop(ailments.insert(node.node, ailment)),
                None => drop(well.insert(node.node)),
            }
        }
        let well_since = &mut self.memory.well_since;
        well_since.retain(|id, _| well.contains(id));
        for id in well {
            well_since.entry(id).or_insert(round.at());
        }
        ailments
    }

    /// Whom to dial now, in the order of ids: of the nodes whose session has just broken, and of the others
    /// without session, those that were dialled longest ago or never. Neither have to wait for the other kind.
    fn probes(&mut self, round: &SignalRound) -> Vec<NodeId> {
        let probed_at = &mut self.memory.probed_at;
        probed_at.retain(|id, _| round.node(*id).is_some_and(|node| !node.is_connected()));
        let (broken, silent): (Vec<&NodeSignals>, Vec<&NodeSignals>) = round
            .nodes
            .iter()
            .filter(|node| !node.is_connected())
            .partition(|node| has_just_broken(node));
        let mut probes = Vec::new();
        for (nodes, interval) in
            [(broken, self.options.redial_interval), (silent, self.options.probe_interval)]
        {
            let mut recent = 0;
            let mut due = Vec::new();
            for node in nodes {
                let last = probed_at.get(&node.node).copied();
                let ago = last.map(|at| round.at().saturating_sub(at));
                let is_recent = ago.is_some_and(|ago| ago < self.options.probe_interval);
                recent += usize::from(is_recent);
                if ago.is_none_or(|ago| ago >= interval) {
                    due.push((last, node.node, is_recent));
                }
            }
            due.sort_unstable();
            for (_, node, is_recent) in due {
                if !is_recent && recent >= PROBED_AT_ONCE_MAX {
                    continue;
                }
                recent += usize::from(!is_recent);
                probed_at.insert(node, round.at());
                probes.push(node);
            }
        }
        probes.sort_unstable();
        probes
    }
}

/// How many nodes more may be judged slow, stuck or recovering: a third of those that are to serve in all,
/// and one at least.
fn impaired_max(round: &SignalRound) -> usize {
    if is_planted(Bug::EverybodySlow) {
        return usize::MAX;
    }
    let active = round.nodes.iter().filter(|node| node.is_active).count();
    let impaired = round.nodes.iter().filter(|node| node.is_impaired()).count();
    (active / 3).max(1).saturating_sub(impaired)
}

/// Whether the node's session broke a moment ago, and whether its process is gone is not known yet.
fn has_just_broken(node: &NodeSignals) -> bool {
    !node.is_connected()
        && !node.is_dial_refused
        && node.session_broken_ago().is_some_and(|ago| ago < REDIAL_FOR)
}
