//! What the signals of one node say of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use planted::{Bug, is_planted};

use super::DetectorOptions;
use crate::{
    accrual::Rhythm,
    health::Ailing,
    ids::NodeId,
    node::NodeState,
    signals::{NodeSignals, SignalRound},
};

/// How a node is, by its own account and by what is remembered of it.
pub(super) struct Condition<'a> {
    /// What is wrong with it.
    pub ailing: Option<&'a Ailing>,
    /// For how long nothing has been.
    pub well_for: Option<Duration>,
    pub may_be_impaired: bool,
    /// For how long this judge has known of it.
    pub known_for: Duration,
}

impl Condition<'_> {
    /// It says so itself, and only who is heard can.
    pub fn is_stuck(&self) -> bool {
        self.ailing.is_some_and(|ailing| ailing.is_stuck)
    }
}

/// One round's verdicts.
pub(super) struct Verdicts<'a> {
    options: &'a DetectorOptions,
    round: &'a SignalRound,
    /// The judge ran late: lateness proves nothing.
    late: bool,
    losers: BTreeMap<NodeId, Vec<NodeId>>,
}

impl<'a> Verdicts<'a> {
    pub fn new(options: &'a DetectorOptions, round: &'a SignalRound, late: bool) -> Self {
        Self { options, round, late, losers: round.losers() }
    }

    /// The node's new state and why; none if it stays as it is.
    pub fn news(
        &self,
        node: &NodeSignals,
        condition: &Condition<'_>,
    ) -> Option<(NodeState, String)> {
        let before = node.state;
        let (state, evidence) = self.conclude(node, condition)?;
        let worse = state > before;
        let better = state.is_up() && state < before;
        // What it was before is forgotten.
        let forgets = before == NodeState::Up && state == before;
        // It was late, and now says itself that it is stuck: no peer has to confirm it any more.
        let confirmed = before == NodeState::Suspect
            && state == before
            && condition.is_stuck()
            && !node.by_own_account;
        (worse || better || forgets || confirmed).then_some((state, evidence))
    }

    /// What the signals say; none if they say nothing.
    fn conclude(
        &self,
        node: &NodeSignals,
        condition: &Condition<'_>,
    ) -> Option<(NodeState, String)> {
        let options = self.options;
        let is_heard = node.heartbeat_ago_us.is_some();
        let silence =
            node.heartbeat_ago().or(node.session_opened_ago()).unwrap_or(condition.known_for);
        let rhythm = node.rhythm.as_ref();
        let is_lost_by_peers =
            !self.late && is_heard && self.is_late(silence, rhythm) && self.is_lost_by_peers(node);
        if node.is_fresh(options) && !is_lost_by_peers {
            return self.condition(node, condition);
        }
        if node.is_dial_refused {
            let evidence = "its session is gone and a dial was refused: its process does not exist";
            return Some((NodeState::Down, evidence.into()));
        }
        let quiet = quiet(silence, rhythm);
        let peers = self.unreachable_for_peers(node.node);
        if !self.late && silence >= options.down_after {
            return Some((NodeState::Down, format!("{quiet}{peers}")));
        }
        // No dial has shown in time that this is its process's end.
        let is_broken = node.session_broken_ago().is_some_and(|ago| ago >= options.dial_grace);
        if !node.is_connected() && is_broken {
            return Some((NodeState::Suspect, format!("its session broke{peers}")));
        }
        let is_too_silent = if is_heard {
            is_lost_by_peers || self.is_too_silent(silence, rhythm)
        } else {
            silence >= options.first_contact
        };
        (!self.late && is_too_silent).then(|| (NodeState::Suspect, format!("{quiet}{peers}")))
    }

    /// What a node is that is heard of; none: what it is now.
    fn condition(
        &self,
        node: &NodeSignals,
        condition: &Condition<'_>,
    ) -> Option<(NodeState, String)> {
        if let Some(Ailing { words, is_stuck }) = condition.ailing
            && condition.may_be_impaired
        {
            let state = if *is_stuck { NodeState::Suspect } else { NodeState::Slow };
            return Some((state, words.clone()));
        }
        let well_for = condition.well_for.unwrap_or_default();
        let quarantine = self.quarantine(node);
        let lapses = node.lapses;
        let words = || format!("it has been well for {} ms", well_for.as_millis());
        match node.state {
            // Once more: what it was before is forgotten.
            NodeState::Up if lapses > 0 && well_for >= self.options.forgive_after => {
                Some((NodeState::Up, words()))
            }
            NodeState::Up => None,
            NodeState::Recovering if is_planted(Bug::QuarantineForEver) => None,
            NodeState::Recovering | NodeState::Slow if well_for >= quarantine => {
                Some((NodeState::Up, words()))
            }
            NodeState::Recovering => None,
            NodeState::Suspect | NodeState::Down
                if quarantine.is_zero() || !condition.may_be_impaired =>
            {
                Some((NodeState::Up, "heartbeats in a session".to_owned()))
            }
            NodeState::Slow | NodeState::Suspect | NodeState::Down => {
                let evidence = format!(
                    "it is well again, was lost or slow {lapses} times, and leads nothing until it has been \
                     well for {} s",
                    quarantine.as_secs_f64()
                );
                Some((NodeState::Recovering, evidence))
            }
        }
    }

    /// For how long the node must have been well before it counts as up.
    fn quarantine(&self, node: &NodeSignals) -> Duration {
        // Whoever was slow has to show that it is well; whoever was away once, by a restart say, not.
        if !node.state.is_impaired() && node.lapses < 2 {
            return Duration::ZERO;
        }
        let doublings = node.lapses.saturating_sub(2).min(16);
        let grown = self.options.quarantine_min.saturating_mul(1 << doublings);
        grown.min(self.options.quarantine_max)
    }

    /// Whether silence alone makes a node suspect whose heartbeats come so.
    fn is_too_silent(&self, silence: Duration, rhythm: Option<&Rhythm>) -> bool {
        let options = self.options;
        let Some(rhythm) = rhythm else { return silence >= options.suspect_after };
        silence >= options.suspect_after_max
            || silence >= options.suspect_after_min
                && rhythm.is_unusual(silence, options.phi_suspect)
    }

    /// Whether the silence is enough to believe peers that have lost the node.
    fn is_late(&self, silence: Duration, rhythm: Option<&Rhythm>) -> bool {
        let options = self.options;
        let Some(rhythm) = rhythm else { return silence > options.suspect_with_peers_after };
        silence >= options.suspect_with_peers_after_min
            && rhythm.is_unusual(silence, options.phi_suspect_with_peers)
    }

    /// Whether most of those that share a partition with the node and have a session cannot reach it: at
    /// least two, or the only one. Only who is heard has a say, and all of them count.
    fn is_lost_by_peers(&self, node: &NodeSignals) -> bool {
        let Some(peers) = &node.peers else { return false };
        let peers: BTreeSet<NodeId> = peers.iter().copied().collect();
        let losers = self.losers.get(&node.node).into_iter().flatten();
        let lost = losers.filter(|loser| {
            peers.contains(loser)
                && self.round.node(**loser).is_some_and(|loser| loser.is_fresh(self.options))
        });
        let needed = (peers.len() / 2 + 1).max(2).min(peers.len());
        needed > 0 && lost.count() >= needed
    }

    fn unreachable_for_peers(&self, id: NodeId) -> String {
        match self.losers.get(&id) {
            Some(losers) => {
                let losers: Vec<_> = losers.iter().map(ToString::to_string).collect();
                format!("; nodes {} cannot reach it either", losers.join(", "))
            }
            None => String::new(),
        }
    }
}

/// The silence in words, with what it is measured by.
fn quiet(silence: Duration, rhythm: Option<&Rhythm>) -> String {
    let quiet = format!("no heartbeat for {} ms", silence.as_millis());
    match rhythm {
        Some(rhythm) => {
            let (phi, mean_ms) = (rhythm.phi(silence), rhythm.mean_ms());
            format!("{quiet} (φ {phi:.1}, usually every {mean_ms:.0} ms)")
        }
        None => quiet,
    }
}
