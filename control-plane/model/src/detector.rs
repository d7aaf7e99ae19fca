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

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use planted::{Bug, is_planted};

use crate::{
    accrual::Rhythm,
    command::{Action, BrakeChange, Conclusion},
    health::{Ailing, Usual},
    ids::NodeId,
    node::{Administrative, Liveness, Node, NodeState},
    observation::{NodeView, ZoneView},
    partition::Partition,
    state::ZoneState,
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectorOptions {
    /// Silence after which a node is suspect of which is not known yet how its heartbeats come.
    pub suspect_after: Duration,
    /// Where it is known, silence of such a φ makes it suspect: 12 is one chance in a million million that
    /// the heartbeat is merely late. Nobody confirms it, so it has to be sure.
    pub phi_suspect: f64,
    /// But not sooner than this, however regular its heartbeats are: a process may pause.
    pub suspect_after_min: Duration,
    /// And then whatever φ is, however irregular they are.
    pub suspect_after_max: Duration,
    /// The same for a node that its peers have lost too, and of which is not known yet how its heartbeats
    /// come: more than what one of them may be late itself.
    pub suspect_with_peers_after: Duration,
    /// Where it is known, silence of such a φ: less than without peers, who confirm it.
    pub phi_suspect_with_peers: f64,
    /// But not sooner than this: two heartbeats may be lost on the way.
    pub suspect_with_peers_after_min: Duration,
    /// Silence after which a node is down.
    pub down_after: Duration,
    /// Silence that a node is granted at the start of a leadership, to find the new leader.
    pub first_contact: Duration,
    /// A heartbeat at most so old shows that a node is up.
    pub fresh_heartbeat: Duration,
    /// From one round to the next; more than this, and the judge was late.
    pub round_max: Duration,
    /// How long the brake's cause must be gone before it is released.
    pub brake_hold: Duration,
    /// How often a node without session is dialled.
    pub probe_interval: Duration,
    /// For how long a broken session waits for a dial to say whether the process is gone: where that is so, one
    /// conclusion is enough.
    pub dial_grace: Duration,
    /// How often such a node is dialled for [`REDIAL_FOR`]: a process that ends loses its connections a moment
    /// before it stops listening.
    pub redial_interval: Duration,
    /// How long a slow node must have been well before it counts as up; and a node that was lost for the
    /// second time. Each time more doubles it.
    pub quarantine_min: Duration,
    /// And not longer than this.
    pub quarantine_max: Duration,
    /// After how long without anything being wrong with it a node's lapses are forgotten.
    pub forgive_after: Duration,
}

impl Default for DetectorOptions {
    fn default() -> Self {
        Self {
            suspect_after: Duration::from_millis(1_500),
            phi_suspect: 12.0,
            suspect_after_min: Duration::from_secs(1),
            suspect_after_max: Duration::from_secs(3),
            suspect_with_peers_after: Duration::from_millis(600),
            phi_suspect_with_peers: 8.0,
            suspect_with_peers_after_min: Duration::from_millis(300),
            down_after: Duration::from_secs(10),
            first_contact: Duration::from_secs(3),
            fresh_heartbeat: Duration::from_millis(500),
            round_max: Duration::from_millis(500),
            brake_hold: Duration::from_secs(5),
            probe_interval: Duration::from_millis(500),
            dial_grace: Duration::from_millis(20),
            redial_interval: Duration::from_millis(5),
            quarantine_min: Duration::from_secs(5),
            quarantine_max: Duration::from_secs(300),
            forgive_after: Duration::from_secs(600),
        }
    }
}

/// Judges in rounds. One for each leadership.
#[derive(Clone, Debug)]
pub struct Detector {
    options: DetectorOptions,
    last_round_at: Duration,
    /// When the brake's cause was last there, and what it was.
    cause: Option<(Duration, String)>,
    /// When this judge first saw each node: before that, its silence means nothing.
    known_since: BTreeMap<NodeId, Duration>,
    probed_at: BTreeMap<NodeId, Duration>,
    /// Since when each node has been heard of without anything being wrong with it.
    well_since: BTreeMap<NodeId, Duration>,
}

/// What a round has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Changes only, in the order of node ids.
    pub conclusions: Vec<Conclusion>,
    /// None: as it is.
    pub brake: Option<BrakeChange>,
    /// Nodes to dial now: without session, so that a refusal proves that the process is gone.
    pub probe: Vec<NodeId>,
    /// A dial is about to say more: the next round should come soon.
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
}

impl Detector {
    pub fn new(options: DetectorOptions, now: Duration) -> Self {
        Self {
            options,
            last_round_at: now,
            cause: None,
            known_since: BTreeMap::new(),
            probed_at: BTreeMap::new(),
            well_since: BTreeMap::new(),
        }
    }

    /// One round: all nodes together.
    pub fn judge(&mut self, now: Duration, state: &ZoneState, view: &ZoneView) -> Judgement {
        let round = now.saturating_sub(self.last_round_at);
        self.last_round_at = now;
        let late = round > self.options.round_max;
        // A node that registers during a leadership is granted its time from then on.
        let first_round = self.known_since.is_empty();
        self.known_since.retain(|id, _| state.nodes().contains(id));
        for (id, _) in state.nodes().iter() {
            let since = if first_round { view.started_at() } else { now };
            self.known_since.entry(*id).or_insert(since);
        }
        let ailments = self.ailments(now, state, view);
        let mut impaired_left = impaired_max(state);
        let mut judgement = Judgement::default();
        let mut states = BTreeMap::new();
        for (id, node) in state.nodes().iter() {
            let known_since = self.known_since.get(id).copied().unwrap_or(now);
            let signals = Signals { view: view.node(*id), known_since, now };
            let condition = Condition {
                ailing: ailments.get(id),
                well_for: self.well_since.get(id).map(|since| now.saturating_sub(*since)),
                may_be_impaired: impaired_left > 0 || node.is_impaired(),
            };
            let judged = self.judge_node(*id, node, &signals, &condition, late, state, view);
            states.insert(*id, judged.as_ref().map_or(node.liveness.state, |(state, _)| *state));
            if let Some((state, evidence)) = judged {
                let by_own_account = state == NodeState::Suspect && condition.is_stuck();
                let forgets = state == NodeState::Up && node.liveness.state == state;
                if (state.is_impaired() || by_own_account) && !node.is_impaired() {
                    impaired_left = impaired_left.saturating_sub(1);
                }
                let incarnation = node.incarnation;
                judgement.conclusions.push(Conclusion {
                    node: *id,
                    incarnation,
                    state,
                    evidence,
                    by_own_account,
                    forgets,
                });
            }
        }
        judgement.brake = self.brake(now, state, &states, late.then_some(round));
        judgement.probe = self.probes(now, state, view);
        judgement.is_urgent =
            view.nodes().any(|(_, node)| node.session.is_none() && has_just_broken(node, now));
        judgement
    }

    /// The node's new state and why; none if it stays as it is.
    fn judge_node(
        &self,
        id: NodeId,
        node: &Node,
        signals: &Signals<'_>,
        condition: &Condition<'_>,
        late: bool,
        zone: &ZoneState,
        view: &ZoneView,
    ) -> Option<(NodeState, String)> {
        let before = node.liveness.state;
        let (state, evidence) = self.conclude(id, node, signals, condition, late, zone, view)?;
        let worse = state > before;
        let better = state.is_up() && state < before;
        // What it was before is forgotten.
        let forgets = before == NodeState::Up && state == before;
        // It was late, and now says itself that it is stuck: no peer has to confirm it any more.
        let confirmed = before == NodeState::Suspect
            && state == before
            && condition.is_stuck()
            && !node.liveness.by_own_account;
        (worse || better || forgets || confirmed).then_some((state, evidence))
    }

    /// What is wrong with each node that is heard of; remembers since when nothing is.
    fn ailments(
        &mut self,
        now: Duration,
        state: &ZoneState,
        view: &ZoneView,
    ) -> BTreeMap<NodeId, Ailing> {
        let fresh: BTreeMap<NodeId, &NodeView> = view
            .nodes()
            .filter(|(id, node)| state.nodes().contains(id) && self.is_fresh(node, now))
            .collect();
        let usual = Usual::of(fresh.values().map(|node| &node.health));
        let low = fresh.values().filter(|node| node.heartbeat.disk_below_reserve).count();
        let is_low_unusual = 2 * low < fresh.len();
        let mut ailments = BTreeMap::new();
        for (id, node) in &fresh {
            let is_slow =
                state.node(*id).is_some_and(|node| node.liveness.state == NodeState::Slow);
            let ailment = if node.heartbeat.disk_below_reserve && is_low_unusual {
                let words = "its disk has less space left than its reserve".to_owned();
                Some(Ailing { words, is_stuck: false })
            } else {
                node.health.ailment(&usual, is_slow)
            };
            ailments.extend(ailment.map(|ailment| (*id, ailment)));
        }
        self.well_since.retain(|id, _| fresh.contains_key(id) && !ailments.contains_key(id));
        for id in fresh.keys().filter(|id| !ailments.contains_key(id)) {
            self.well_since.entry(*id).or_insert(now);
        }
        ailments
    }

    fn is_fresh(&self, node: &NodeView, now: Duration) -> bool {
        let heard = node.last_heartbeat_at.map(|at| now.saturating_sub(at));
        node.session.is_some() && heard.is_some_and(|ago| ago <= self.options.fresh_heartbeat)
    }

    /// For how long the node must have been well before it counts as up.
    fn quarantine(&self, node: &Node) -> Duration {
        let Liveness { state, lapses, .. } = node.liveness;
        // Whoever was slow has to show that it is well; whoever was away once, by a restart say, not.
        if !state.is_impaired() && lapses < 2 {
            return Duration::ZERO;
        }
        let doublings = lapses.saturating_sub(2).min(16);
        let grown = self.options.quarantine_min.saturating_mul(1 << doublings);
        grown.min(self.options.quarantine_max)
    }

    /// What a node is that is heard of; none: what it is now.
    fn condition(&self, node: &Node, condition: &Condition<'_>) -> Option<(NodeState, String)> {
        if let Some(Ailing { words, is_stuck }) = condition.ailing
            && condition.may_be_impaired
        {
            let state = if *is_stuck { NodeState::Suspect } else { NodeState::Slow };
            return Some((state, words.clone()));
        }
        let well_for = condition.well_for.unwrap_or_default();
        let quarantine = self.quarantine(node);
        let Liveness { state, lapses, .. } = node.liveness;
        let words = format!("it has been well for {} ms", well_for.as_millis());
        match state {
            // Once more: what it was before is forgotten.
            NodeState::Up if lapses > 0 && well_for >= self.options.forgive_after => {
                Some((NodeState::Up, words))
            }
            NodeState::Up => None,
            NodeState::Recovering if is_planted(Bug::QuarantineForEver) => None,
            NodeState::Recovering | NodeState::Slow if well_for >= quarantine => {
                Some((NodeState::Up, words))
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

    /// What the signals say; none if they say nothing.
    fn conclude(
        &self,
        id: NodeId,
        node: &Node,
        signals: &Signals<'_>,
        condition: &Condition<'_>,
        late: bool,
        zone: &ZoneState,
        view: &ZoneView,
    ) -> Option<(NodeState, String)> {
        let options = &self.options;
        let silence = signals.silence();
        let rhythm = signals.rhythm();
        let is_lost_by_peers = !late
            && signals.heard()
            && self.is_late(silence, rhythm.as_ref())
            && self.is_lost_by_peers(id, zone, view, signals.now);
        if signals.view.is_some_and(|view| view.session.is_some())
            && signals.heard()
            && silence <= options.fresh_heartbeat
            && !is_lost_by_peers
        {
            return self.condition(node, condition);
        }
        if signals.refused() {
            let evidence = "its session is gone and a dial was refused: its process does not exist";
            return Some((NodeState::Down, evidence.into()));
        }
        let quiet = quiet(silence, rhythm.as_ref());
        let peers = unreachable_for_peers(id, view);
        if !late && silence >= options.down_after {
            return Some((NodeState::Down, format!("{quiet}{peers}")));
        }
        if signals.broken(options.dial_grace) {
            return Some((NodeState::Suspect, format!("its session broke{peers}")));
        }
        let is_too_silent = if signals.heard() {
            is_lost_by_peers || self.is_too_silent(silence, rhythm.as_ref())
        } else {
            silence >= options.first_contact
        };
        (!late && is_too_silent).then(|| (NodeState::Suspect, format!("{quiet}{peers}")))
    }

    /// Whether silence alone makes a node suspect whose heartbeats come so.
    fn is_too_silent(&self, silence: Duration, rhythm: Option<&Rhythm>) -> bool {
        let options = &self.options;
        let Some(rhythm) = rhythm else { return silence >= options.suspect_after };
        silence >= options.suspect_after_max
            || silence >= options.suspect_after_min
                && rhythm.is_unusual(silence, options.phi_suspect)
    }

    /// Whether the silence is enough to believe peers that have lost the node.
    fn is_late(&self, silence: Duration, rhythm: Option<&Rhythm>) -> bool {
        let options = &self.options;
        let Some(rhythm) = rhythm else { return silence > options.suspect_with_peers_after };
        silence >= options.suspect_with_peers_after_min
            && rhythm.is_unusual(silence, options.phi_suspect_with_peers)
    }

    /// Whether most of those that share a partition with the node and have a session cannot reach it: at
    /// least two, or the only one. Only who is heard has a say, and all of them count.
    fn is_lost_by_peers(
        &self,
        id: NodeId,
        zone: &ZoneState,
        view: &ZoneView,
        now: Duration,
    ) -> bool {
        if losers(id, view).next().is_none() {
            return false;
        }
        let partitions = zone.partitions_on(id).filter_map(|partition| zone.partition(partition));
        let peers: BTreeSet<NodeId> = partitions
            .flat_map(Partition::nodes)
            .filter(|peer| *peer != id && view.is_connected(*peer))
            .collect();
        let lost = losers(id, view).filter(|(peer, node)| {
            let heard = node
                .last_heartbeat_at
                .is_some_and(|heard| now.saturating_sub(heard) <= self.options.fresh_heartbeat);
            heard && peers.contains(peer)
        });
        let needed = (peers.len() / 2 + 1).max(2).min(peers.len());
        needed > 0 && lost.count() >= needed
    }

    /// The brake, if it changes.
    fn brake(
        &mut self,
        now: Duration,
        state: &ZoneState,
        states: &BTreeMap<NodeId, NodeState>,
        late: Option<Duration>,
    ) -> Option<BrakeChange> {
        if is_planted(Bug::BrakeRemoved) {
            return None;
        }
        let cause = match late {
            Some(round) => Some(format!(
                "the judge ran late: {} ms from one round to the next, and {} ms are the limit",
                round.as_millis(),
                self.options.round_max.as_millis()
            )),
            None => too_many_lost(state, states),
        };
        if let Some(reason) = cause {
            self.cause = Some((now, reason));
        }
        let engaged = state.brake().is_some();
        if engaged && self.cause.is_none() {
            // A new leader did not see the cause: it holds the brake as if it had just gone.
            self.cause = Some((now, String::new()));
        }
        let (seen_at, reason) = self.cause.as_ref()?;
        let gone_for = now.saturating_sub(*seen_at);
        if gone_for < self.options.brake_hold {
            return (!engaged).then(|| BrakeChange { engaged: true, reason: reason.clone() });
        }
        if !engaged {
            self.cause = None;
            return None;
        }
        // The cause is kept until the release is committed.
        let reason = format!("its cause has been gone for {} ms", gone_for.as_millis());
        Some(BrakeChange { engaged: false, reason })
    }

    fn probe_interval(&self, id: NodeId, now: Duration, view: &ZoneView) -> Duration {
        let is_news = view.node(id).is_some_and(|node| has_just_broken(node, now));
        if is_news { self.options.redial_interval } else { self.options.probe_interval }
    }

    fn probes(&mut self, now: Duration, state: &ZoneState, view: &ZoneView) -> Vec<NodeId> {
        self.probed_at.retain(|id, _| state.nodes().contains(id) && !view.is_connected(*id));
        let mut probes = Vec::new();
        for (id, _) in state.nodes().iter().filter(|(id, _)| !view.is_connected(**id)) {
            let due = self
                .probed_at
                .get(id)
                .is_none_or(|at| now.saturating_sub(*at) >= self.probe_interval(*id, now, view));
            if due {
                self.probed_at.insert(*id, now);
                probes.push(*id);
            }
        }
        probes
    }
}

/// How a node is, by its own account.
struct Condition<'a> {
    /// What is wrong with it.
    ailing: Option<&'a Ailing>,
    /// For how long nothing has been.
    well_for: Option<Duration>,
    may_be_impaired: bool,
}

impl Condition<'_> {
    /// It says so itself, and only who is heard can.
    fn is_stuck(&self) -> bool {
        self.ailing.is_some_and(|ailing| ailing.is_stuck)
    }
}

/// How many nodes more may be judged slow, stuck or recovering: a third of those that are to serve in all, and one at
/// least.
fn impaired_max(state: &ZoneState) -> usize {
    if is_planted(Bug::EverybodySlow) {
        return usize::MAX;
    }
    let nodes = || state.nodes().iter().map(|(_, node)| node);
    let active = nodes().filter(|node| node.administrative == Administrative::Active).count();
    let impaired = nodes().filter(|node| node.is_impaired()).count();
    (active / 3).max(1).saturating_sub(impaired)
}

/// For how long a session counts as just broken.
pub const REDIAL_FOR: Duration = Duration::from_millis(100);

/// Whether the node's session broke a moment ago, and whether its process is gone is not known yet.
fn has_just_broken(node: &NodeView, now: Duration) -> bool {
    let broken_for = node.session_broken_at.map(|at| now.saturating_sub(at));
    node.dial_refused_at.is_none() && broken_for.is_some_and(|since| since < REDIAL_FOR)
}

/// What is known of one node now.
struct Signals<'a> {
    view: Option<&'a NodeView>,
    known_since: Duration,
    now: Duration,
}

impl Signals<'_> {
    /// Whether this leader ever had a heartbeat of the node.
    fn heard(&self) -> bool {
        self.view.is_some_and(|view| view.last_heartbeat_at.is_some())
    }

    fn silence(&self) -> Duration {
        let heartbeat = self.view.and_then(|view| view.last_heartbeat_at);
        let opened = self.view.and_then(|view| view.session).map(|session| session.opened_at);
        let last = heartbeat.or(opened).unwrap_or(self.known_since);
        self.now.saturating_sub(last)
    }

    fn rhythm(&self) -> Option<Rhythm> {
        self.view.and_then(|view| view.arrivals.rhythm())
    }

    fn refused(&self) -> bool {
        self.view.is_some_and(|view| view.session.is_none() && view.dial_refused_at.is_some())
    }

    /// Whether its session broke, and no dial has shown in time that this is its process's end.
    fn broken(&self, grace: Duration) -> bool {
        self.view.is_some_and(|view| {
            let broken_for = view.session_broken_at.map(|at| self.now.saturating_sub(at));
            view.session.is_none() && broken_for.is_some_and(|since| since >= grace)
        })
    }
}

/// Connected nodes that say that they cannot reach the node.
fn losers(id: NodeId, view: &ZoneView) -> impl Iterator<Item = (NodeId, &NodeView)> {
    view.nodes().filter(move |(peer, node)| {
        *peer != id && node.session.is_some() && node.heartbeat.unreachable.contains(&id)
    })
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

fn unreachable_for_peers(id: NodeId, view: &ZoneView) -> String {
    let peers: Vec<_> = losers(id, view).map(|(peer, _)| peer.to_string()).collect();
    if peers.is_empty() {
        String::new()
    } else {
        format!("; nodes {} cannot reach it either", peers.join(", "))
    }
}

/// Why the brake must be engaged for what is lost; none if it need not. Nodes that an operator wants
/// empty do not count: their loss has been spoken for.
fn too_many_lost(state: &ZoneState, states: &BTreeMap<NodeId, NodeState>) -> Option<String> {
    let active =
        state.nodes().iter().filter(|(_, node)| node.administrative == Administrative::Active);
    let (mut lost, mut total) = (BTreeSet::new(), 0_usize);
    let mut domains: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (id, node) in active {
        total += 1;
        let domain = domains.entry(node.fault_domain.as_str()).or_default();
        domain.1 += 1;
        if states.get(id).is_some_and(|state| !state.is_up()) {
            lost.insert(*id);
            domain.0 += 1;
        }
    }
    if lost.len() < 2 {
        return None;
    }
    let nodes: Vec<_> = lost.iter().map(ToString::to_string).collect();
    let nodes = nodes.join(", ");
    if lost.len() * 3 > total {
        return Some(format!(
            "nodes {nodes} are suspect or down: {} of {total}, more than a third",
            lost.len()
        ));
    }
    // A domain of one node is no domain to lose: the third counts for it.
    let (domain, (_, size)) = domains.iter().find(|(_, (lost, size))| *size > 1 && lost == size)?;
    Some(format!("nodes {nodes} are suspect or down: all {size} of fault domain {domain:?}"))
}
