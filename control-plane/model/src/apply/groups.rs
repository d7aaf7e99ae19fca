//! What groups were seen to have committed: memberships, leaders, destroyed replicas, takeovers.

use std::collections::BTreeSet;

use super::{Applier, Draft};
use crate::{
    command::{GroupObservation, LeaderObservation, TakeoverRecord},
    event::EventKind,
    ids::{PartitionId, ReplicaId},
    operation::{OperationKind, OperationState, Origin},
    outcome::{Applied, Refusal},
    partition::{Membership, ObservedLeader, Replica},
};

impl Applier<'_> {
    pub(super) fn observe(&mut self, observation: &GroupObservation) -> Result<(), Refusal> {
        let id = observation.partition;
        if let Some(split_off) = &observation.split_off
            && self.state.partition(id).is_none()
        {
            self.adopt(observation, split_off)?;
        }
        self.partition(id)?;
        let membership = match &observation.membership {
            Some(membership) => self.check_membership(id, membership)?,
            None => None,
        };
        let moved_on = membership.is_some();
        if let Some(membership) = membership {
            self.observe_membership(id, membership);
        }
        let led = match observation.leader {
            Some(leader) => self.observe_leader(id, leader),
            None => Ok(()),
        };
        self.end_change_if_done(id);
        self.end_split_of(id);
        if moved_on { Ok(()) } else { led }
    }

    /// The membership if it is news; none if it is what is known.
    fn check_membership(
        &self,
        id: PartitionId,
        membership: &Membership,
    ) -> Result<Option<Membership>, Refusal> {
        let partition = self.partition(id)?;
        let invalid = |why: &str| Refusal::InvalidPlacement { partition: id, why: why.into() };
        if !partition.is_placed() {
            return Err(invalid("it has no replicas yet, so it cannot have a group"));
        }
        if let Some(observed) = &partition.observed
            && membership.log_position <= observed.log_position
        {
            return if membership.log_position == observed.log_position {
                Ok(None)
            } else {
                Err(Refusal::StaleObservation {
                    what: format!(
                        "the membership of partition {id} at {}",
                        membership.log_position
                    ),
                })
            };
        }
        Ok(Some(self.well_formed(id, membership)?))
    }

    /// The membership, in order, if it can be one.
    pub(super) fn well_formed(
        &self,
        id: PartitionId,
        membership: &Membership,
    ) -> Result<Membership, Refusal> {
        let invalid = |why: &str| Refusal::InvalidPlacement { partition: id, why: why.into() };
        if !(1..=2).contains(&membership.voter_sets.len())
            || membership.voter_sets.iter().any(Vec::is_empty)
        {
            return Err(invalid("a membership has one or two sets of voters, none of them empty"));
        }
        let members: BTreeSet<Replica> =
            membership.voters().into_iter().chain(membership.learners.iter().copied()).collect();
        let last = self.state.zone().map_or(0, |zone| zone.counters.replica);
        if members.iter().any(|member| member.id.get() == 0 || member.id.get() > last) {
            return Err(invalid("it names a replica that was never placed"));
        }
        if members.iter().map(|member| member.id).collect::<BTreeSet<_>>().len() != members.len() {
            return Err(invalid("it places one replica on two nodes"));
        }
        let mut membership = membership.clone();
        membership.voter_sets.iter_mut().for_each(sort);
        sort(&mut membership.learners);
        Ok(membership)
    }

    fn observe_membership(&mut self, id: PartitionId, membership: Membership) {
        let describe = |set: &Vec<Replica>| {
            let voters: Vec<_> =
                set.iter().map(|voter| format!("{} on node {}", voter.id, voter.node)).collect();
            format!("{{{}}}", voters.join(", "))
        };
        let sets: Vec<_> = membership.voter_sets.iter().map(describe).collect();
        let mut message = format!("partition {id}: voters {}", sets.join(" and "));
        if !membership.learners.is_empty() {
            message.push_str(&format!(", learners {}", describe(&membership.learners)));
        }
        let reason = format!("committed by the group at {}", membership.log_position);
        let founded = self
            .state
            .update_partition(id, |partition| partition.observed.replace(membership).is_none());
        let kind = if founded == Some(true) {
            EventKind::PartitionFounded
        } else {
            EventKind::MembersChanged
        };
        let operation = self.state.partition(id).and_then(|partition| partition.change);
        self.record(Draft { partition: Some(id), operation, ..Draft::new(kind, message, reason) });
    }

    fn observe_leader(
        &mut self,
        id: PartitionId,
        observation: LeaderObservation,
    ) -> Result<(), Refusal> {
        let partition = self.partition(id)?;
        let LeaderObservation { replica, term } = observation;
        let stale = || Refusal::StaleObservation {
            what: format!("the leadership of replica {replica} of partition {id} in term {term}"),
        };
        let before = partition.leader;
        if let Some(before) = before {
            if before.replica == replica && before.term == term {
                return Ok(());
            }
            if term <= before.term {
                return Err(stale());
            }
        }
        let node = partition.replica(replica).ok_or_else(stale)?.node;
        let operation = partition.change;
        self.state.update_partition(id, |partition| {
            partition.leader = Some(ObservedLeader { replica, node, term });
        });
        if before.is_some_and(|before| before.replica == replica) {
            // Elected again: the same leader in a new term is no change for anybody.
            return Ok(());
        }
        let reason = match before {
            Some(before) => format!(
                "elected in term {term}; before, replica {} on node {} led in term {}",
                before.replica, before.node, before.term
            ),
            None => format!("elected in term {term}, as the group's first leader"),
        };
        self.record(Draft {
            partition: Some(id),
            node: Some(node),
            operation,
            ..Draft::new(
                EventKind::LeaderChanged,
                format!("partition {id} is led by replica {replica} on node {node}"),
                reason,
            )
        });
        Ok(())
    }

    pub(super) fn drop_retired(
        &mut self,
        id: PartitionId,
        replica: ReplicaId,
    ) -> Result<(), Refusal> {
        let partition = self.partition(id)?;
        let not_retiring = Refusal::NotRetiring { partition: id, replica };
        let retiring = partition.retiring.iter().find(|retiring| retiring.replica.id == replica);
        let Some(retiring) = retiring.copied() else { return Err(not_retiring) };
        if partition.observed.as_ref().is_some_and(|observed| observed.contains(replica)) {
            return Err(not_retiring);
        }
        let node = retiring.replica.node;
        let operation = partition.change;
        self.state.update_partition(id, |partition| {
            partition.retiring.retain(|retiring| retiring.replica.id != replica);
        });
        self.record(Draft {
            partition: Some(id),
            node: Some(node),
            operation,
            ..Draft::new(
                EventKind::ReplicaDestroyed,
                format!("replica {replica} of partition {id} on node {node} is destroyed"),
                "it was out of its group, and its node has confirmed it or is gone".into(),
            )
        });
        self.end_change_if_done(id);
        Ok(())
    }

    pub(super) fn record_takeover(&mut self, record: &TakeoverRecord) -> Applied {
        let (mut refused, mut accepted) = (Vec::new(), 0);
        let known: BTreeSet<PartitionId> = record
            .groups
            .iter()
            .filter(|group| self.state.partition(group.partition).is_some())
            .map(|group| group.partition)
            .collect();
        let known: Vec<PartitionId> = known.into_iter().collect();
        if known.is_empty() {
            return Applied::Batch { accepted, operations: Vec::new(), refused };
        }
        let failed = record.groups.iter().filter(|group| group.leader.is_none()).count();
        let kind = OperationKind::Takeover { lost: record.lost, partitions: known };
        let operation = self.start_operation(kind, Origin::Takeover, record.reason.clone(), None);
        for (group, position) in record.groups.iter().zip(0..) {
            let observation = GroupObservation {
                partition: group.partition,
                membership: None,
                leader: group.leader,
                split_off: None,
            };
            match self.observe(&observation) {
                Ok(()) => accepted += 1,
                // A newer leader is known already: the takeover is history, and still recorded.
                Err(refusal) => refused.push((position, refusal)),
            }
            self.record_group(record, operation, group);
        }
        if failed == 0 {
            self.finish_operation(operation, OperationState::Succeeded, "");
        } else {
            let error = format!(
                "{failed} of {} partitions have no leader yet: it is tried again",
                record.groups.len()
            );
            self.finish_operation(operation, OperationState::Failed, &error);
        }
        Applied::Batch { accepted, operations: vec![operation], refused }
    }

    fn record_group(
        &mut self,
        record: &TakeoverRecord,
        operation: crate::ids::OperationId,
        group: &crate::command::TakeoverOutcome,
    ) {
        let id = group.partition;
        let (kind, message) = match group.leader {
            Some(leader) => (
                EventKind::Takeover,
                format!("replica {} was appointed to lead partition {id}", leader.replica),
            ),
            None => (EventKind::TakeoverFailed, format!("no replica of partition {id} could lead")),
        };
        self.record(Draft {
            partition: Some(id),
            node: record.lost,
            operation: Some(operation),
            ..Draft::new(kind, message, group.reason.clone())
        });
    }
}

fn sort(replicas: &mut Vec<Replica>) {
    replicas.sort_unstable();
    replicas.dedup();
}
