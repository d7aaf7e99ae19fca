//! What is known of one partition's group: the reports of its replicas, and what follows from them.
//!
//! Of a million groups each byte counts a million times, and so does each walk down a tree: reports are kept
//! in a short row, and [`GroupSight`] looks a group up once for all questions about it.

use std::{sync::Arc, time::Duration};

use crate::{
    ids::{NodeId, ReplicaId},
    laggards::Laggards,
    observation::{ConfirmedLeader, Rates, ReplicaPhase, ReplicaReport, ReplicaView},
    partition::Replica,
};

/// One partition's group, as its replicas' nodes report it.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupView {
    pub replicas: ReplicaViews,
    pub leaderless_since: Option<Duration>,
    pub leader: Option<ReplicaId>,
    pub laggards: Laggards,
    /// Who has reported it last.
    pub load: Option<(NodeId, Rates)>,
}

impl GroupView {
    /// This is its confirmed leader now, if any. Whether that is a change.
    pub fn turn(&mut self, leader: Option<ConfirmedLeader>, now: Duration) -> bool {
        let leader = leader.map(|leader| leader.replica.id);
        match leader {
            Some(_) => self.leaderless_since = None,
            None => drop(self.leaderless_since.get_or_insert(now)),
        }
        std::mem::replace(&mut self.leader, leader) != leader
    }
}

/// So many replicas most groups have.
const REPLICAS_USUAL: usize = 3;

/// Reports in the order of replica ids. A handful at most: nothing is gained by a tree, whose smallest node
/// has room for eleven of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReplicaViews {
    row: Vec<ReplicaView>,
}

impl ReplicaViews {
    fn position(&self, id: ReplicaId) -> Result<usize, usize> {
        self.row.binary_search_by_key(&id, |view| view.report.replica)
    }

    pub fn get(&self, id: ReplicaId) -> Option<&ReplicaView> {
        let at = self.position(id).ok()?;
        self.row.get(at)
    }

    /// In the place of an older one, if there is one.
    pub fn insert(&mut self, view: ReplicaView) {
        match self.position(view.report.replica) {
            Ok(at) => self.row[at] = view,
            Err(at) => {
                // Most groups have three, and rarely grow: room for more would stay empty.
                let room = if self.row.is_empty() { REPLICAS_USUAL } else { 1 };
                self.row.reserve_exact(room);
                self.row.insert(at, view);
            }
        }
    }

    /// What a report has in common with those that are there takes no memory of its own: mostly its group's
    /// members and range.
    pub fn share(&self, report: &mut ReplicaReport) {
        if let Some(own) = &mut report.range {
            let mut known = self.row.iter().filter_map(|view| view.report.range.as_ref());
            if let Some(same) = known.find(|range| *range == own) {
                own.clone_from(same);
            }
        }
        if let Some(own) = &mut report.membership {
            let known = self.row.iter().filter_map(|view| view.report.membership.as_ref());
            let mut known = known.map(|reported| &reported.membership);
            if let Some(same) = known.find(|membership| **membership == own.membership) {
                own.membership = Arc::clone(same);
            }
        }
    }

    pub fn remove(&mut self, id: ReplicaId) {
        if let Ok(at) = self.position(id) {
            self.row.remove(at);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, &ReplicaView)> {
        self.row.iter().map(|view| (view.report.replica, view))
    }

    pub fn get_mut(&mut self, id: ReplicaId) -> Option<&mut ReplicaView> {
        let at = self.position(id).ok()?;
        self.row.get_mut(at)
    }
}

/// A group as present sessions show it: only reports of nodes that have one count.
#[derive(Clone, Copy, Debug)]
pub struct GroupSight<'a> {
    group: Option<&'a GroupView>,
}

impl<'a> GroupSight<'a> {
    pub(crate) fn new(group: Option<&'a GroupView>) -> Self {
        Self { group }
    }

    /// What the replica's node says of it.
    pub fn replica(&self, id: ReplicaId) -> Option<&'a ReplicaView> {
        self.group?.replicas.get(id).filter(|view| view.is_current)
    }

    /// All that is reported, in the order of replica ids.
    pub fn replicas(self) -> impl Iterator<Item = (ReplicaId, &'a ReplicaView)> {
        let all = self.group.into_iter().flat_map(|group| group.replicas.iter());
        all.filter(|(_, view)| view.is_current)
    }

    /// The newest of those that say that they lead.
    pub fn leader(&self) -> Option<ConfirmedLeader> {
        let all = self.group.into_iter().flat_map(|group| group.replicas.iter());
        all.filter(|(_, view)| view.report.phase == ReplicaPhase::Live && view.report.leading)
            .filter(|(_, view)| view.is_current)
            .max_by_key(|(_, view)| view.report.term)
            .map(|(id, view)| ConfirmedLeader {
                replica: Replica { id, node: view.node },
                term: view.report.term,
            })
    }

    /// Since when the leader reports a replica as not following: nothing of its log is known, it is far
    /// behind, or it is behind and gets no further. None: it follows, as far as is known.
    pub fn standing_still_since(&self, replica: ReplicaId) -> Option<Duration> {
        let group = self.group.filter(|group| !group.laggards.is_empty())?;
        let leader = self.leader()?;
        group.laggards.since(leader.replica.id, leader.term, replica)
    }
}
