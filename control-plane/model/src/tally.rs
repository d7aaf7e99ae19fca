//! Which partitions are not as they should be, kept right partition by partition: what is wrong with a million
//! partitions must be at hand every second, and nobody can walk over all of them as often.
//!
//! A tally is told what has happened, looks at the partitions that it can concern, some at a time, and is right
//! about each as soon as it has looked. Whatever a look depends on leads to the next one: the partition's record and
//! reports, its nodes' records and sessions, the zone's fault domains; and time, for replicas that do not follow.
//! [`Tally::of`] looks at all at once.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    agenda::Agenda,
    ids::{NodeId, PartitionId},
    node::{Administrative, NodeState},
    observation::ZoneView,
    partition::Partition,
    partition_set::PartitionSet,
    state::ZoneState,
    status,
};

/// Partitions that are not as they should be.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    unavailable: PartitionSet,
    under_replicated: PartitionSet,
    domains: OpenDomains,
    agenda: Agenda,
}

/// Fault domains with a node that could take a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenDomains(BTreeSet<String>);

impl OpenDomains {
    pub fn of(state: &ZoneState) -> Self {
        let open = state.nodes().iter().filter(|(_, node)| {
            node.administrative == Administrative::Active && node.liveness.state != NodeState::Down
        });
        Self(open.map(|(_, node)| node.fault_domain.clone()).collect())
    }

    /// Whether one of them has no replica of the partition.
    pub fn has_room_for(&self, state: &ZoneState, partition: &Partition) -> bool {
        let targets = partition.targets.iter().filter_map(|target| state.node(target.node));
        let used: BTreeSet<&str> = targets.map(|node| node.fault_domain.as_str()).collect();
        self.0.iter().any(|domain| !used.contains(domain.as_str()))
    }
}

impl Tally {
    /// Of all partitions, as they are now. Walks over the whole zone.
    pub fn of(state: &ZoneState, view: Option<&ZoneView>, now: Duration) -> Self {
        let mut tally = Self { domains: OpenDomains::of(state), ..Self::default() };
        for (id, partition) in state.partitions().iter() {
            tally.judge(state, view, *id, partition, now);
        }
        tally
    }

    /// Of partitions of which nothing was reported yet: none has a leader that anybody confirms, and nothing else
    /// speaks against them. Each is looked at in its turn.
    pub fn unseen(state: &ZoneState) -> Self {
        let unavailable = state.partitions().iter().map(|(id, _)| *id).collect();
        let domains = OpenDomains::of(state);
        let mut tally = Self { unavailable, domains, ..Self::default() };
        tally.agenda.add_all();
        tally
    }

    /// Something has happened to these: their records have changed, or a report has come.
    pub fn add(&mut self, partitions: impl IntoIterator<Item = PartitionId>) {
        self.agenda.add(partitions);
    }

    /// All may have changed: each is looked at in its turn, and until then is what it was.
    pub fn add_all(&mut self, state: &ZoneState) {
        self.unavailable.retain(|id| state.partition(id).is_some());
        self.under_replicated.retain(|id| state.partition(id).is_some());
        self.agenda.add_all();
    }

    /// These nodes' records have changed, or their sessions: all partitions on them are affected, and if a fault
    /// domain is open now that was not, or the other way round, those that are crowded.
    pub fn add_nodes(
        &mut self,
        state: &ZoneState,
        view: &ZoneView,
        nodes: impl IntoIterator<Item = NodeId>,
    ) {
        let (mut affected, mut replicas) = (BTreeSet::new(), 0);
        for node in nodes {
            replicas += usize::try_from(state.target_count(node)).unwrap_or(usize::MAX);
            if replicas > state.partitions().len() {
                // So many nodes at once: it is less work to look at everything in its turn.
                self.agenda.add_all();
                affected.clear();
                break;
            }
            affected.extend(state.partitions_on(node));
            affected.extend(view.reported_by(node));
        }
        let domains = OpenDomains::of(state);
        if domains != self.domains {
            self.domains = domains;
            affected.extend(state.crowded());
        }
        self.agenda.add(affected);
    }

    /// Looks at some of those that something has happened to.
    pub fn look(
        &mut self,
        state: &ZoneState,
        view: &ZoneView,
        now: Duration,
        partitions_max: usize,
    ) {
        for id in self.agenda.take(state, partitions_max) {
            match state.partition(id) {
                Some(partition) => self.judge(state, Some(view), id, partition, now),
                None => {
                    self.unavailable.remove(id);
                    self.under_replicated.remove(id);
                }
            }
        }
    }

    /// Those with a replica that does not follow its leader: time alone makes that a problem.
    pub fn add_lagging(&mut self, view: &ZoneView) {
        self.agenda.add(view.lagging().iter());
    }

    /// It has looked at everything that has happened.
    pub fn is_complete(&self) -> bool {
        self.agenda.is_empty()
    }

    fn judge(
        &mut self,
        state: &ZoneState,
        view: Option<&ZoneView>,
        id: PartitionId,
        partition: &Partition,
        now: Duration,
    ) {
        let is_available = status::leader_of(state, view, id, partition).is_some();
        let lacks_replicas = status::lacks_replicas(state, view, id, partition, now)
            || state.crowded().contains(&id) && self.domains.has_room_for(state, partition);
        for (set, is_in) in
            [(&mut self.unavailable, !is_available), (&mut self.under_replicated, lacks_replicas)]
        {
            if is_in {
                set.insert(id);
            } else if !set.is_empty() {
                set.remove(id);
            }
        }
    }

    /// Partitions without a leader that somebody confirms.
    pub fn unavailable(&self) -> &PartitionSet {
        &self.unavailable
    }

    /// Partitions with fewer healthy replicas than intended, or two in a fault domain where others are open.
    pub fn under_replicated(&self) -> &PartitionSet {
        &self.under_replicated
    }
}
