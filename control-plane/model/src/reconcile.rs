//! From intent and observation to orders, for one partition.
//!
//! A pure function of levels: it looks at what is intended (committed) and what is reported (now), and
//! says what each replica shall be next, and which conclusions shall be committed. Nothing depends on
//! which event led to the call, so that no lost message or wake-up can leave a partition half way.
//!
//! **Invariants:**
//! - A replica is ordered to be destroyed only when the *committed* state shows that the group has
//!   committed a membership without it, which is exactly what is intended, and the group's leader knows
//!   of no later one.
//! - Founders are ordered with one and the same set of members, and only until the group was seen.
//! - Orders to a leader carry the membership that they are based on, as that leader reported it.
use planted::Bug;

use crate::{
    command::{Action, EndResult, GroupObservation, LeaderObservation, OperationEnd, SplitOff},
    group_view::GroupSight,
    ids::{PartitionId, ReplicaId},
    observation::{ConfirmedLeader, ReplicaPhase, ReplicaReport, ZoneView},
    operation::OperationKind,
    order::{Order, OrderKind},
    partition::{Membership, Partition, Replica},
    state::ZoneState,
};

/// A replica that is further behind does not vote yet, and does not get the leadership.
pub const LAG_ENTRIES_MAX: u64 = 1_000;

/// What is to be done about one partition, or about several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    pub orders: Vec<Order>,
    pub observations: Vec<GroupObservation>,
    pub drop_retired: Vec<(PartitionId, ReplicaId)>,
    pub ends: Vec<OperationEnd>,
}

impl Reconciled {
    pub fn extend(&mut self, other: Reconciled) {
        self.orders.extend(other.orders);
        self.observations.extend(other.observations);
        self.drop_retired.extend(other.drop_retired);
        self.ends.extend(other.ends);
    }

    /// The commands that say all of it, in the sequence in which to propose them.
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.observations.is_empty() {
            actions.push(Action::ObserveGroups { groups: self.observations.clone() });
        }
        if !self.drop_retired.is_empty() {
            actions.push(Action::DropRetired { replicas: self.drop_retired.clone() });
        }
        if !self.ends.is_empty() {
            actions.push(Action::EndOperations { ends: self.ends.clone() });
        }
        actions
    }
}

/// What is to be done about a partition now.
pub fn reconcile(state: &ZoneState, view: &ZoneView, id: PartitionId) -> Reconciled {
    let Some(partition) = state.partition(id) else { return reconcile_unknown(state, view, id) };
    if !partition.is_placed() {
        return Reconciled::default();
    }
    let sight = view.group(id);
    let group = Group { state, view, sight, id, partition, leader: sight.leader() };
    let mut reconciled = Reconciled::default();
    reconciled.observations.extend(group.observation());
    group.ensure(&mut reconciled.orders);
    group.steer(&mut reconciled.orders);
    group.retire(&mut reconciled);
    if let Some(operation) = partition.change
        && state.operation_done(operation) == Ok(())
    {
        let result = EndResult::Succeeded;
        reconciled.ends.push(OperationEnd { operation, result });
    }
    reconciled
}

/// A group that the zone does not know is a child of a split, if its id was given out: whoever has it has
/// applied that. What a group has committed is the truth, also if the operation was cancelled meanwhile.
fn reconcile_unknown(state: &ZoneState, view: &ZoneView, id: PartitionId) -> Reconciled {
    let sight = view.group(id);
    let given_out = state.zone().map_or(0, |zone| zone.counters.partition);
    let newest = sight
        .replicas()
        .filter(|(_, view)| view.report.phase == ReplicaPhase::Live)
        .filter_map(|(_, view)| {
            let range = view.report.range.clone()?;
            let reported = view.report.membership.as_ref().filter(|reported| reported.committed)?;
            Some((&reported.membership, SplitOff { range, range_epoch: view.report.range_epoch }))
        })
        .max_by_key(|(membership, split_off)| (membership.log_position, split_off.range_epoch));
    let Some((membership, split_off)) = newest.filter(|_| id.get() <= given_out) else {
        return Reconciled::default();
    };
    let leader = sight
        .leader()
        .map(|leader| LeaderObservation { replica: leader.replica.id, term: leader.term });
    let observation = GroupObservation {
        partition: id,
        membership: Some(Membership::clone(membership)),
        leader,
        split_off: Some(split_off),
    };
    Reconciled { observations: vec![observation], ..Reconciled::default() }
}

/// One partition, intended and observed.
struct Group<'a> {
    state: &'a ZoneState,
    view: &'a ZoneView,
    sight: GroupSight<'a>,
    id: PartitionId,
    partition: &'a Partition,
    leader: Option<ConfirmedLeader>,
}

impl Group<'_> {
    /// What the state does not know yet of the group; none if there is nothing.
    fn observation(&self) -> Option<GroupObservation> {
        let known = self.partition.observed.as_ref().map(|observed| observed.log_position);
        let newest = self
            .sight
            .replicas()
            .filter(|(_, view)| view.report.phase == ReplicaPhase::Live)
            .filter_map(|(_, view)| view.report.membership.as_ref())
            .filter(|reported| reported.committed)
            .map(|reported| &*reported.membership)
            .max_by_key(|membership| membership.log_position)
            .filter(|membership| known.is_none_or(|known| membership.log_position > known));
        let leader = self
            .leader
            .filter(|leader| self.partition.leader.is_none_or(|known| leader.term > known.term));
        if newest.is_none() && leader.is_none() {
            return None;
        }
        Some(GroupObservation {
            partition: self.id,
            membership: newest.cloned(),
            leader: leader
                .map(|leader| LeaderObservation { replica: leader.replica.id, term: leader.term }),
            split_off: None,
        })
    }

    /// Targets that are not on their nodes.
    fn ensure(&self, orders: &mut Vec<Order>) {
        let founding = self.partition.observed.is_none() && self.leader.is_none();
        let founders = if founding { self.partition.targets.clone() } else { Vec::new() };
        let preferred = self.partition.preferred_leader;
        for target in &self.partition.targets {
            // Only once the node has said all that it has can something be missing there.
            if (self.sight.replica(target.id).is_some() && !self.is_repeated(*target))
                || !self.view.is_complete(target.node)
                || self.is_blocked_by_older(*target)
                || (!founding && self.is_about_to_be_born(*target))
            {
                continue;
            }
            let kind = OrderKind::Ensure {
                range: self.partition.range.clone(),
                range_epoch: self.partition.range_epoch,
                founders: founders.clone(),
                campaign: founding && preferred == Some(target.id),
            };
            let observed = self.partition.observed.as_ref();
            let membership_log = observed.map(|observed| observed.log_position);
            orders.push(self.order(*target, membership_log, kind));
        }
    }

    /// What only a planted bug does: repeats the step that made a replica, as long as the operation runs
    /// that it is a step of.
    fn is_repeated(&self, target: Replica) -> bool {
        let running = self.partition.change.and_then(|change| self.state.operation(change));
        planted::is_planted(Bug::StepRepeated)
            && running.is_some_and(|operation| match operation.kind {
                OperationKind::MoveReplica(change) | OperationKind::Repair(change) => {
                    change.add == Some(target)
                }
                OperationKind::Takeover { .. }
                | OperationKind::TransferLeader { .. }
                | OperationKind::Split(_)
                | OperationKind::Drain { .. } => false,
            })
    }

    /// Whether another replica of the partition is on the target's node still: it goes first.
    fn is_blocked_by_older(&self, target: Replica) -> bool {
        self.sight.replicas().any(|(replica, view)| {
            view.node == target.node
                && replica != target.id
                && view.report.phase != ReplicaPhase::Destroyed
        })
    }

    /// Whether the node has a replica of the partition from which this one was split off, and has not applied
    /// that yet: with it comes this one.
    fn is_about_to_be_born(&self, target: Replica) -> bool {
        self.view.replicas_on(target.node).any(|(_, view)| {
            view.report.phase == ReplicaPhase::Live
                && view.report.range.as_ref().is_some_and(|range| {
                    view.report.partition != self.id
                        && view.report.range_epoch < self.partition.range_epoch
                        && range.contains(self.partition.range.start())
                })
        })
    }

    /// Orders to the leader, one step at a time.
    fn steer(&self, orders: &mut Vec<Order>) {
        let Some(leader) = self.leader else { return };
        let Some(view) = self.sight.replica(leader.replica.id) else { return };
        let Some(reported) = &view.report.membership else { return };
        let membership = &reported.membership;
        let order = |kind| self.order(leader.replica, Some(membership.log_position), kind);
        if !reported.committed {
            // A change is on its way: what it becomes will be reported.
            return;
        }
        if membership.is_exactly(&self.partition.targets) {
            if let Some(to) = self.wanted_leader(&leader, &view.report) {
                orders.push(order(OrderKind::TransferLeader { to }));
            }
            if let Some(split) = self.wanted_split(&view.report) {
                orders.push(order(split));
            }
            return;
        }
        let missing = self.learners_to_add(membership);
        if !missing.is_empty() {
            let learners = missing.into_iter().map(|learner| OrderKind::AddLearner { learner });
            orders.extend(learners.map(order));
            return;
        }
        let ready = |target: &Replica| {
            membership.contains(target.id)
                && (keeps_up(&view.report, leader.replica.id, target.id)
                    || planted::is_planted(Bug::LearnerPromotedEarly))
        };
        // Who is new has to keep up. Who votes already need not, as long as a majority does: a voter that
        // is lost for good would hold up the change for ever, and the change its replacement.
        let targets = &self.partition.targets;
        let mut new = targets.iter().filter(|target| !membership.is_full_voter(target.id));
        let up_to_date = targets.iter().filter(|target| ready(target)).count();
        let goal = if new.all(ready) && up_to_date > targets.len() / 2 {
            targets
        } else if let [_, next] = membership.voter_sets.as_slice() {
            // A joint state that was left behind is ended in any case: it needs two majorities.
            next
        } else {
            return;
        };
        if goal.iter().any(|voter| voter.id == leader.replica.id) {
            orders.push(order(OrderKind::ChangeMembers { voters: goal.clone() }));
            return;
        }
        // The leader is to go: it hands over first, so that its removal interrupts nobody.
        match self.successor(goal, membership, &view.report) {
            Some(to) => orders.push(order(OrderKind::TransferLeader { to })),
            // Whoever could lead is not there now: it is waited for.
            None if goal.iter().any(|voter| membership.is_full_voter(voter.id)) => {}
            // Nobody who stays votes yet, as where there is one replica only.
            None => orders.push(order(OrderKind::ChangeMembers { voters: goal.clone() })),
        }
    }

    /// Targets that are neither voters nor learners, and that are there to be added.
    fn learners_to_add(&self, membership: &Membership) -> Vec<Replica> {
        let outside =
            self.partition.targets.iter().filter(|target| !membership.contains(target.id));
        let there = outside.filter(|target| {
            let view = self.sight.replica(target.id);
            view.is_some_and(|view| view.report.phase == ReplicaPhase::Live)
        });
        there.copied().collect()
    }

    /// The voter to which a running transfer wants to hand over; none if it leads, or is not ready.
    fn wanted_leader(&self, leader: &ConfirmedLeader, report: &ReplicaReport) -> Option<ReplicaId> {
        let operation = self.state.operation(self.partition.change?)?;
        let OperationKind::TransferLeader { to_replica, to, .. } = operation.kind else {
            return None;
        };
        (to_replica != leader.replica.id
            && self.view.is_connected(to)
            && self.state.node(to).is_some_and(|node| node.is_up())
            && keeps_up(report, leader.replica.id, to_replica))
        .then_some(to_replica)
    }

    /// The split that is to be made, unless it was.
    fn wanted_split(&self, leaders: &ReplicaReport) -> Option<OrderKind> {
        let split = self.state.operation(self.partition.change?)?.split()?;
        let is_made = self.state.partition(split.child).is_some()
            || leaders.range_epoch != self.partition.range_epoch;
        (!is_made).then(|| OrderKind::Split {
            at: split.at.clone(),
            child: split.child,
            replicas: split.replicas.clone(),
            range_epoch: self.partition.range_epoch,
        })
    }

    /// Who of those that stay leads after a leader that is to go: an up-to-date voter of every set,
    /// preferably the preferred one, on a node that may lead.
    fn successor(
        &self,
        staying: &[Replica],
        membership: &Membership,
        report: &ReplicaReport,
    ) -> Option<ReplicaId> {
        let candidates = staying.iter().filter(|target| {
            membership.is_full_voter(target.id)
                && self.view.is_connected(target.node)
                && self.state.node(target.node).is_some_and(|node| node.is_up())
                && keeps_up(report, report.replica, target.id)
        });
        candidates
            .min_by_key(|target| {
                let eligible = self.state.node(target.node).is_some_and(|node| node.is_eligible());
                let preferred = self.partition.preferred_leader == Some(target.id);
                let leaderships = self.state.leader_count(target.node);
                (!eligible, !preferred, leaderships, target.id)
            })
            .map(|target| target.id)
    }

    /// Replicas on their way out.
    fn retire(&self, reconciled: &mut Reconciled) {
        let Some(committed) = &self.partition.observed else { return };
        let early = planted::is_planted(Bug::DestroyedBeforeRemoval);
        if !committed.is_exactly(&self.partition.targets) && !early {
            return;
        }
        for retiring in &self.partition.retiring {
            let replica = retiring.replica;
            let report = self.sight.replica(replica.id);
            let destroyed = report.is_some_and(|view| view.report.phase == ReplicaPhase::Destroyed);
            if destroyed || self.state.node(replica.node).is_none() {
                reconciled.drop_retired.push((self.id, replica.id));
            } else if self.view.is_connected(replica.node)
                && (self.leader_agrees(committed) || early)
            {
                let membership_log = Some(committed.log_position);
                reconciled.orders.push(self.order(replica, membership_log, OrderKind::Destroy));
            }
        }
    }

    /// Whether the leader's latest membership is the committed one: a change that is on its way could
    /// still take in a replica that is about to be destroyed.
    fn leader_agrees(&self, committed: &Membership) -> bool {
        let view = self.leader.and_then(|leader| self.sight.replica(leader.replica.id));
        view.and_then(|view| view.report.membership.as_ref()).is_some_and(|reported| {
            reported.committed && reported.membership.log_position == committed.log_position
        })
    }

    fn order(
        &self,
        to: Replica,
        membership_log: Option<crate::ids::LogPosition>,
        kind: OrderKind,
    ) -> Order {
        Order { node: to.node, partition: self.id, replica: to.id, membership_log, kind }
    }
}

/// Whether the leader's report says that a replica is close behind it.
pub(crate) fn keeps_up(report: &ReplicaReport, leader: ReplicaId, replica: ReplicaId) -> bool {
    replica == leader
        || report.progress.iter().any(|progress| {
            progress.replica == replica
                && progress.matched.is_some()
                && progress.lag_entries <= LAG_ENTRIES_MAX
        })
}
