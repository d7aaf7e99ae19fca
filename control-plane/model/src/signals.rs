//! All that one round of the detector looks at, gathered from the committed state and the leader's view and
//! from nothing else: so a round can be written down, and judged again later ([`crate::signal_log`]).
//!
//! Times are whole microseconds, and averages whole microseconds too, so that what is read again is what was
//! written. What it deliberately is not: a view. It says nothing of partitions, but for who shares some with a
//! node that others cannot reach.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    accrual::Rhythm,
    detector::DetectorOptions,
    health::HealthFigures,
    ids::{Incarnation, NodeId},
    node::{Administrative, Node, NodeState},
    observation::{NodeView, ZoneView},
    partition::Partition,
    state::ZoneState,
};

/// One round's input. All nodes of the zone, in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRound {
    /// Since the leader's monotonic origin.
    pub at_us: u64,
    /// Since the round before.
    pub since_last_us: u64,
    /// When the leader began to look: since its origin, too.
    pub watching_since_us: u64,
    pub is_brake_engaged: bool,
    pub nodes: Vec<NodeSignals>,
}

/// What is known of one node. Moments are said as how long ago they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSignals {
    pub node: NodeId,
    // What is committed.
    pub incarnation: Incarnation,
    pub state: NodeState,
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_own_account: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lapses: u32,
    /// No operator wants it empty.
    pub is_active: bool,
    pub fault_domain: String,
    // What its session shows.
    /// It has a session, opened so long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_opened_ago_us: Option<u64>,
    /// Its last heartbeat, of any session of this leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ago_us: Option<u64>,
    /// It has no session since the last one broke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_broken_ago_us: Option<u64>,
    /// It has no session, and a dial was refused since.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_dial_refused: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_disk_below_reserve: bool,
    #[serde(default)]
    pub health: HealthFigures,
    /// How its heartbeats come, if enough of them have come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rhythm: Option<Rhythm>,
    /// Other nodes of the zone that it cannot reach, as it says, in the order of their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<NodeId>,
    /// Nodes with a session that share a partition with it, in the order of their ids. Only where it matters:
    /// it is late, and somebody cannot reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<NodeId>>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde wants it.
fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde wants it.
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Whole microseconds, rounded down.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl SignalRound {
    /// Gathers what a round with these options looks at.
    pub fn gather(
        options: &DetectorOptions,
        since_last: Duration,
        now: Duration,
        state: &ZoneState,
        view: &ZoneView,
    ) -> Self {
        let mut nodes: Vec<NodeSignals> = state
            .nodes()
            .iter()
            .map(|(id, node)| NodeSignals::gather(*id, node, now, state, view.node(*id)))
            .collect();
        let lost: BTreeSet<NodeId> =
            nodes.iter().flat_map(|node| node.unreachable.iter().copied()).collect();
        for node in nodes.iter_mut().filter(|node| lost.contains(&node.node)) {
            if node.may_be_lost(options) {
                node.peers = Some(peers(node.node, state, view));
            }
        }
        Self {
            at_us: micros(now),
            since_last_us: micros(since_last),
            watching_since_us: micros(view.started_at()),
            is_brake_engaged: state.engaged_brake().is_some(),
            nodes,
        }
    }

    pub fn at(&self) -> Duration {
        Duration::from_micros(self.at_us)
    }

    pub fn since_last(&self) -> Duration {
        Duration::from_micros(self.since_last_us)
    }

    pub fn watching_since(&self) -> Duration {
        Duration::from_micros(self.watching_since_us)
    }

    /// The node's signals, if it is part of the zone.
    pub fn node(&self, id: NodeId) -> Option<&NodeSignals> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.node).ok()?;
        self.nodes.get(at)
    }

    /// For each node that somebody with a session cannot reach: who says so.
    pub fn losers(&self) -> BTreeMap<NodeId, Vec<NodeId>> {
        let mut losers: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for node in &self.nodes {
            for lost in &node.unreachable {
                losers.entry(*lost).or_default().push(node.node);
            }
        }
        losers
    }
}

impl NodeSignals {
    fn gather(
        id: NodeId,
        node: &Node,
        now: Duration,
        state: &ZoneState,
        view: Option<&NodeView>,
    ) -> Self {
        let ago = |at: Option<Duration>| at.map(|at| micros(now.saturating_sub(at)));
        let session = view.and_then(|view| view.session);
        let is_connected = session.is_some();
        // Only who has a session has a say.
        let unreachable: BTreeSet<NodeId> = view
            .filter(|_| is_connected)
            .into_iter()
            .flat_map(|view| &view.heartbeat.unreachable)
            .copied()
            .filter(|lost| *lost != id && state.nodes().contains(lost))
            .collect();
        Self {
            node: id,
            incarnation: node.incarnation,
            state: node.liveness.state,
            by_own_account: node.liveness.by_own_account,
            lapses: node.liveness.lapses,
            is_active: node.administrative == Administrative::Active,
            fault_domain: node.fault_domain.clone(),
            session_opened_ago_us: ago(session.map(|session| session.opened_at)),
            heartbeat_ago_us: ago(view.and_then(|view| view.last_heartbeat_at)),
            session_broken_ago_us: ago(view.and_then(|view| view.session_broken_at)),
            is_dial_refused: !is_connected
                && view.is_some_and(|view| view.dial_refused_at.is_some()),
            is_disk_below_reserve: view.is_some_and(|view| view.heartbeat.disk_below_reserve),
            health: view.map(|view| view.health.figures()).unwrap_or_default(),
            rhythm: view.and_then(|view| view.arrivals.rhythm()),
            unreachable: unreachable.into_iter().collect(),
            peers: None,
        }
    }

    pub fn is_connected(&self) -> bool {
        self.session_opened_ago_us.is_some()
    }

    /// For how long no heartbeat has come; none if none ever has.
    pub fn heartbeat_ago(&self) -> Option<Duration> {
        self.heartbeat_ago_us.map(Duration::from_micros)
    }

    pub fn session_opened_ago(&self) -> Option<Duration> {
        self.session_opened_ago_us.map(Duration::from_micros)
    }

    /// Since when it has no session any more.
    pub fn session_broken_ago(&self) -> Option<Duration> {
        self.session_broken_ago_us.map(Duration::from_micros)
    }

    /// It has a session, and its last heartbeat is at most so old as to show that it is up.
    pub fn is_fresh(&self, options: &DetectorOptions) -> bool {
        self.is_connected()
            && self.heartbeat_ago().is_some_and(|ago| ago <= options.fresh_heartbeat)
    }

    /// Heard of as one that is to lead nothing for what it says of itself.
    pub fn is_impaired(&self) -> bool {
        self.state.is_impaired() || self.by_own_account
    }

    /// Whether what peers say could change what the node counts as. Who they are takes a walk over all of
    /// its partitions.
    fn may_be_lost(&self, options: &DetectorOptions) -> bool {
        let least = options.suspect_with_peers_after_min.min(options.suspect_with_peers_after);
        self.heartbeat_ago().is_some_and(|ago| ago >= least)
            && (self.state.is_up() || self.is_fresh(options))
    }
}

fn peers(id: NodeId, state: &ZoneState, view: &ZoneView) -> Vec<NodeId> {
    let partitions = state.partitions_on(id).filter_map(|partition| state.partition(partition));
    let peers: BTreeSet<NodeId> = partitions.flat_map(Partition::nodes).collect();
    peers.into_iter().filter(|peer| *peer != id && view.is_connected(*peer)).collect()
}
