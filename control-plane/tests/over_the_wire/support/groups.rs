//! The partitions' groups, played: all replicas of all nodes share this one world, in which an order
//! is carried out at once. Whoever dies in it takes its leaderships along.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use proto::v1::{self, order::Kind, split_partition::Point};

/// Shared by all played nodes of a test.
#[derive(Clone, Default)]
pub struct Groups {
    inner: Arc<Mutex<World>>,
}

#[derive(Default)]
pub struct World {
    pub groups: BTreeMap<u64, Group>,
    /// Nodes whose process runs.
    pub alive: BTreeSet<u64>,
    /// Nodes that do not take a leadership.
    pub refusing: BTreeSet<u64>,
    /// Nodes whose disk is below its reserve.
    pub low_on_disk: BTreeSet<u64>,
    /// Nodes that make no replicas.
    pub without_room: BTreeSet<u64>,
    /// Reads per second by partition, which whoever leads tells of.
    pub reads: BTreeMap<u64, u64>,
    /// Reports of load that nodes send besides.
    pub claims: Vec<(u64, v1::HeatReport)>,
    /// Every order that any node got.
    pub orders: Vec<(u64, v1::Order)>,
}

/// One partition's group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Replicas that exist on disk, by id, with their nodes.
    pub replicas: BTreeMap<u64, u64>,
    pub destroyed: BTreeMap<u64, u64>,
    pub voters: BTreeMap<u64, u64>,
    pub learners: BTreeMap<u64, u64>,
    pub leader: Option<u64>,
    pub term: u64,
    pub index: u64,
    pub membership_index: u64,
    pub range: v1::KeyRange,
    pub range_epoch: u64,
}

impl Groups {
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.inner.lock().expect("no test panics with it")
    }
}

impl Group {
    fn position(&self, index: u64) -> v1::LogPosition {
        v1::LogPosition { term: 1, leader_id: 0, index }
    }

    fn change_members(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        self.index += 1;
        self.membership_index = self.index;
    }

    /// The right half.
    fn split(&mut self, at: &bytes::Bytes, replicas: BTreeMap<u64, u64>) -> Self {
        self.index += 1;
        let end = std::mem::replace(&mut self.range.end, at.clone());
        self.range_epoch += 1;
        let home = self.leader.and_then(|leader| self.voters.get(&leader)).copied();
        Self {
            leader: replicas.iter().find(|(_, node)| Some(**node) == home).map(|(id, _)| *id),
            voters: replicas.clone(),
            replicas,
            learners: BTreeMap::new(),
            range: v1::KeyRange { start: at.clone(), end },
            membership_index: self.index,
            destroyed: BTreeMap::new(),
            term: self.term + 1,
            ..self.clone()
        }
    }

    fn membership(&self) -> v1::Membership {
        v1::Membership {
            log_position: Some(self.position(self.membership_index)),
            voter_sets: vec![v1::VoterSet { voters: placements(&self.voters) }],
            learners: placements(&self.learners),
            committed: true,
        }
    }
}

fn placements(replicas: &BTreeMap<u64, u64>) -> Vec<v1::ReplicaPlacement> {
    let placement = |(replica, node): (&u64, &u64)| v1::ReplicaPlacement {
        replica_id: *replica,
        node_id: *node,
    };
    replicas.iter().map(placement).collect()
}

impl World {
    /// Carries out one order that a node got.
    pub fn obey(&mut self, node: u64, order: &v1::Order) {
        self.orders.push((node, order.clone()));
        if self.without_room.contains(&node) && matches!(order.kind, Some(Kind::Ensure(_))) {
            return;
        }
        let group = self.groups.entry(order.partition_id).or_default();
        let replica = order.replica_id;
        match order.kind.as_ref().expect("a kind") {
            Kind::Ensure(ensure) => {
                assert!(!group.destroyed.contains_key(&replica), "destroyed replicas never return");
                if group.replicas.insert(replica, node).is_some() || ensure.founders.is_empty() {
                    return;
                }
                let founders =
                    ensure.founders.iter().map(|founder| (founder.replica_id, founder.node_id));
                let founders: BTreeMap<u64, u64> = founders.collect();
                if !group.voters.is_empty() {
                    assert_eq!(group.voters, founders, "all founders are told the same");
                }
                group.voters = founders;
                group.range = ensure.range.clone().unwrap_or_default();
                group.range_epoch = ensure.range_epoch;
            }
            Kind::AddLearner(add) => {
                let learner = add.learner.expect("a learner");
                if group.leader == Some(replica) && !group.voters.contains_key(&learner.replica_id)
                {
                    group.change_members(|group| {
                        group.learners.insert(learner.replica_id, learner.node_id);
                    });
                }
            }
            Kind::ChangeMembers(change) => {
                let voters =
                    change.voters.iter().map(|voter| (voter.replica_id, voter.node_id)).collect();
                if group.leader == Some(replica) {
                    group.change_members(|group| {
                        group.voters = voters;
                        group.learners.clear();
                    });
                }
            }
            Kind::TransferLeader(transfer) => {
                if group.leader == Some(replica) {
                    group.term += 1;
                    group.leader = Some(transfer.to_replica_id);
                }
            }
            Kind::Split(split) => {
                let Some(Point::At(at)) = &split.point else { panic!("a key is named") };
                let replicas =
                    split.replicas.iter().map(|own| (own.replica_id, own.node_id)).collect();
                let leads = group.leader == Some(replica) && group.range_epoch == split.range_epoch;
                if leads {
                    let mut child = group.split(at, replicas);
                    child.replicas.retain(|_, node| !self.without_room.contains(node));
                    self.groups.insert(split.child_partition_id, child);
                }
            }
            Kind::Destroy(_) => {
                assert!(!group.voters.contains_key(&replica), "a voter is never destroyed");
                group.replicas.remove(&replica);
                group.destroyed.insert(replica, node);
            }
        }
        self.elect_founders(order.partition_id);
    }

    /// A new group elects its first leader once a majority of its founders is there.
    fn elect_founders(&mut self, partition: u64) {
        let alive = &self.alive;
        let Some(group) = self.groups.get_mut(&partition) else { return };
        let present = group
            .voters
            .iter()
            .filter(|(id, node)| group.replicas.contains_key(id) && alive.contains(node));
        let present: Vec<u64> = present.map(|(id, _)| *id).collect();
        if group.leader.is_none() && group.term == 0 && present.len() * 2 > group.voters.len() {
            group.term = 1;
            group.index = 1;
            group.leader = present.first().copied();
        }
    }

    /// A control plane's or a peer's appointment.
    pub fn take_over(&mut self, node: u64, wanted: &v1::TakeOverGroup) -> v1::TakeOverResult {
        use v1::take_over_result::Outcome;
        let id = wanted.group.expect("a group");
        let alive = self.alive.clone();
        let group = self.groups.entry(id.partition_id).or_default();
        let voters = group.voters.values().filter(|voter| alive.contains(voter)).count();
        let outcome = if group.replicas.get(&id.replica_id) != Some(&node) {
            Outcome::Refused
        } else if wanted.candidate_replica_id != id.replica_id {
            Outcome::Disarmed
        } else if voters * 2 > group.voters.len() && !self.refusing.contains(&node) {
            group.term += 1;
            group.leader = Some(id.replica_id);
            Outcome::Leading
        } else {
            Outcome::NotElected
        };
        v1::TakeOverResult {
            group: Some(id),
            outcome: outcome.into(),
            term: group.term,
            leader_replica_id: group.leader.unwrap_or(0),
            message: String::new(),
        }
    }

    pub fn log_position(&self, id: &v1::GroupReplica) -> v1::GroupLogPosition {
        let mut position = v1::GroupLogPosition { group: Some(*id), ..Default::default() };
        match self.groups.get(&id.partition_id) {
            Some(group) if group.replicas.contains_key(&id.replica_id) => {
                position.last_log = Some(group.position(group.index));
                position.vote_term = group.term;
                position.vote_leader_id = group.leader.unwrap_or(0);
                position.vote_committed = true;
                position.leader_replica_id = group.leader.unwrap_or(0);
                position.membership_log = Some(group.position(group.membership_index));
                position.voter_replica_ids = group.voters.keys().copied().collect();
                position.leader_lost = group
                    .leader
                    .and_then(|leader| group.voters.get(&leader))
                    .is_none_or(|node| !self.alive.contains(node));
            }
            _ => position.error = "no such replica here".into(),
        }
        position
    }

    /// What a node would report of all its replicas.
    pub fn reports(&self, node: u64) -> Vec<v1::ReplicaReport> {
        let mut reports = Vec::new();
        for (partition, group) in &self.groups {
            for (replica, _) in group.replicas.iter().filter(|(_, on)| **on == node) {
                let leading = group.leader == Some(*replica);
                let known =
                    group.voters.contains_key(replica) || group.learners.contains_key(replica);
                let others = group.voters.keys().chain(group.learners.keys());
                let progress =
                    others.filter(|other| *other != replica).map(|other| v1::ReplicationProgress {
                        replica_id: *other,
                        matched: Some(group.position(group.index)),
                        lag_entries: 0,
                    });
                reports.push(v1::ReplicaReport {
                    partition_id: *partition,
                    replica_id: *replica,
                    phase: v1::ReplicaPhase::Live.into(),
                    term: group.term,
                    leader_replica_id: group.leader.unwrap_or(0),
                    leading,
                    last_log: Some(group.position(group.index)),
                    applied: Some(group.position(group.index)),
                    membership: (known && group.term > 0).then(|| group.membership()),
                    range: Some(group.range.clone()),
                    range_epoch: group.range_epoch,
                    progress: if leading { progress.collect() } else { Vec::new() },
                    stored_bytes: 4_096,
                    keys: 10,
                    message: String::new(),
                });
            }
            for (replica, _) in group.destroyed.iter().filter(|(_, on)| **on == node) {
                reports.push(v1::ReplicaReport {
                    partition_id: *partition,
                    replica_id: *replica,
                    phase: v1::ReplicaPhase::Destroyed.into(),
                    ..Default::default()
                });
            }
        }
        reports
    }

    /// Two partitions that one node leads.
    pub fn led_together(&self) -> Option<(u64, u64)> {
        let leader = |group: &Group| group.replicas.get(&group.leader?).copied();
        let mut led = BTreeMap::new();
        self.groups.iter().find_map(|(partition, group)| {
            let other = led.insert(leader(group)?, *partition)?;
            Some((other, *partition))
        })
    }

    /// What a node would tell of the load of the last second.
    pub fn heat(&mut self, node: u64) -> Vec<v1::HeatReport> {
        let claims = self.claims.iter().filter(|(from, _)| *from == node);
        let mut heat: Vec<_> = claims.map(|(_, claim)| claim.clone()).collect();
        self.claims.retain(|(from, _)| *from != node);
        heat.extend(self.reads.iter().filter_map(|(partition, reads)| {
            let group = self.groups.get(partition)?;
            let leader = group.leader.filter(|it| group.replicas.get(it) == Some(&node))?;
            Some(v1::HeatReport {
                partition_id: *partition,
                replica_id: leader,
                term: group.term,
                interval_ms: 1_000,
                reads: *reads,
                ..Default::default()
            })
        }));
        heat
    }

    /// How many groups each node leads.
    pub fn leaders(&self) -> BTreeMap<u64, usize> {
        let mut leaders = BTreeMap::new();
        for group in self.groups.values() {
            let node = group.leader.and_then(|leader| group.replicas.get(&leader));
            if let Some(node) = node {
                *leaders.entry(*node).or_default() += 1;
            }
        }
        leaders
    }
}
