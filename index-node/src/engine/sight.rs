//! What a replica has seen of its group's leader: whom it sends clients to.
//!
//! Hints only. Who leads is decided by the core, and proven by a quorum.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use openraft::async_runtime::WatchReceiver;
use runtime::seams::Moment;

use super::{
    replica::Replica,
    types::{NodeId, Placement, ReplicaId},
};

/// What this process has seen of the group's leader. The core remembers whom it voted for, across
/// restarts; whether that one still leads it does not know.
pub(super) struct LeaderSight {
    /// The leader that was heard of last, since this process started and since its node was lost.
    heard: Option<ReplicaId>,
    /// When a leader was last known.
    pub(super) known_at: Moment,
    /// Whom the leader hands over to: it asked for votes, and may lead already. Believed until then.
    successor: Option<(ReplicaId, Moment)>,
}

impl LeaderSight {
    /// Nothing, yet.
    pub(super) fn starting_at(now: Moment) -> Self {
        Self { heard: None, known_at: now, successor: None }
    }
}

impl Replica {
    /// The replica that leads, as far as this process has seen.
    pub fn leader(&self) -> Option<Placement> {
        let (leader, membership) = {
            let metrics = self.server.borrow_watched();
            (ReplicaId(metrics.current_leader?), Arc::clone(&metrics.membership_config))
        };
        let seen =
            if leader == self.id() { self.is_leader() } else { self.sight().heard == Some(leader) };
        let node = membership.get_node(&leader.0).map(|node| node.node_id);
        seen.then_some(Placement { replica: leader, node: node.unwrap_or_default() })
    }

    /// The leader that this replica has voted for or was told of last, whether or not it was heard of
    /// since: after its node was lost, it is the one whose loss matters. None if that is itself.
    pub fn followed(&self) -> Option<Placement> {
        let metrics = self.server.borrow_watched();
        let leader = metrics.current_leader.filter(|leader| *leader != self.id().0)?;
        let node = metrics.membership_config.get_node(&leader).map(|node| node.node_id);
        Some(Placement { replica: ReplicaId(leader), node: node.unwrap_or_default() })
    }

    pub(super) fn sight(&self) -> MutexGuard<'_, LeaderSight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A leader has sent something.
    pub(super) fn hear(&self, leader: ReplicaId) {
        let mut sight = self.sight();
        sight.known_at = self.shared.environment.now();
        sight.successor = None;
        if sight.heard.replace(leader) != Some(leader) {
            drop(sight);
            self.sightings.send_modify(|count| *count += 1);
            self.shared.changes.mark(self.id());
        }
    }

    /// A quorum has elected this one since the process started. Its first message says so, and is answered only
    /// after a sync; those who wait for a leader need not wait for that.
    pub(super) fn hear_elected(&self, leader: ReplicaId) {
        tracing::debug!(partition = %self.partition(), %leader, own = %self.id(), "a replica was elected");
        if leader != self.id() {
            self.hear(leader);
        }
    }

    /// This one asks for votes since the leader hands over to it.
    pub(super) fn hear_successor(&self, successor: ReplicaId) {
        let until = self.shared.environment.now() + self.shared.options.leader_wait_max;
        self.sight().successor = Some((successor, until));
        self.sightings.send_modify(|count| *count += 1);
    }

    /// Who leads, or will in a moment: whoever is sent there waits there. Never this replica.
    pub(super) fn leader_elsewhere(&self) -> Option<Placement> {
        let others = |placement: &Placement| placement.replica != self.id();
        let successor = self.sight().successor;
        if let Some((successor, until)) = successor
            && self.shared.environment.now() <= until
        {
            let node = self.membership().get_node(&successor.0).map(|node| node.node_id);
            let placement = Placement { replica: successor, node: node.unwrap_or_default() };
            return Some(placement).filter(others);
        }
        self.leader().filter(others)
    }

    /// The node is lost: a leader there is one only when it is heard of again.
    pub(super) fn forget_leader_on(&self, node: NodeId) {
        if self.leader().is_some_and(|leader| leader.node == node && leader.replica != self.id()) {
            self.sight().heard = None;
            self.shared.changes.mark(self.id());
        }
    }

    /// For how long no leader is known; zero while one is.
    pub fn leaderless_for(&self) -> Duration {
        if self.leader().is_some() {
            return Duration::ZERO;
        }
        self.shared.environment.now().since(self.sight().known_at)
    }
}
