//! How peers appoint a leader: collect positions, choose, take over; and if that does not do, let the
//! others disarm and the chosen one campaign.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use proto::v1::{
    CollectLogPositionsRequest, GroupLogPosition, GroupReplica, LogPosition, TakeOverGroup,
    TakeOverRequest, TakeOverResult, VoteAuthority, peer_service_client::PeerServiceClient,
    take_over_result::Outcome,
};
use runtime::grpc::MESSAGE_BYTES_MAX;
use tonic::{Status, transport::Channel};

use super::takeover::{Appointer, Case};
use crate::engine::types::{NodeId, PartitionId, Placement, ReplicaId};

/// Groups in one request.
const GROUPS_MAX: usize = 10_000;
/// How long a peer may take to say how far its logs go.
const COLLECT_LIMIT: Duration = Duration::from_millis(300);
/// How long one step of the takeover may take at a peer.
const STEP_LIMIT: Duration = Duration::from_millis(500);
/// What the request itself may take in addition.
const STEP_GRACE: Duration = Duration::from_millis(250);

/// Whom to appoint in one group, and why the others should agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Appointment {
    partition: PartitionId,
    candidate: Placement,
    survivors: Vec<Placement>,
    reason: Reason,
    membership_log: Option<LogPosition>,
}

/// What distinguishes one takeover request from another to the same node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// The replica that led hands over: it has restarted, and leads no more.
    Handover,
    /// The leader's node is lost.
    Lost(NodeId),
    Leaderless,
}

impl Reason {
    fn authority(self) -> VoteAuthority {
        match self {
            Self::Handover => VoteAuthority::Handover,
            Self::Lost(_) | Self::Leaderless => VoteAuthority::Peers,
        }
    }

    fn lost_node(self) -> u64 {
        match self {
            Self::Lost(node) => node.0,
            Self::Handover | Self::Leaderless => 0,
        }
    }
}

/// How two logs compare: greater means more.
fn log_order(position: &GroupLogPosition) -> Option<(u64, u64, u64)> {
    position.last_log.map(|log| (log.term, log.leader_id, log.index))
}

/// The survivor with the greatest log; of equals the one with the lowest replica id. None if there are
/// no positions, or if one of the survivors leads or is followed by another one: who does not hear of
/// that leader may be the one with the bad link. (If nobody but the survivors' votes says that it leads,
/// because it has restarted, then it acts itself when its turn comes.)
pub fn choose(
    case: &Case,
    positions: &BTreeMap<ReplicaId, GroupLogPosition>,
) -> Option<Appointment> {
    let mut best: Option<(Placement, &GroupLogPosition)> = None;
    for survivor in &case.survivors {
        let Some(position) = positions.get(&survivor.replica) else { continue };
        let leader = ReplicaId(position.leader_replica_id);
        let leads = leader == survivor.replica;
        let follows =
            leader != case.own && case.survivors.iter().any(|survivor| survivor.replica == leader);
        if leads || follows {
            runtime::mark!("peers: a group that is led was left alone");
            return None;
        }
        if best.is_none_or(|(_, greatest)| log_order(position) > log_order(greatest)) {
            best = Some((*survivor, position));
        }
    }
    let (candidate, position) = best?;
    let own = positions.get(&case.own);
    let led = own.is_some_and(|own| own.vote_committed && own.vote_leader_id == case.own.0);
    let reason = match case.lost {
        Some(node) => Reason::Lost(node),
        None if led => Reason::Handover,
        None => Reason::Leaderless,
    };
    runtime::mark!("peers: an appointment", reason);
    Some(Appointment {
        partition: case.partition,
        candidate,
        survivors: case.survivors.clone(),
        reason,
        membership_log: position.membership_log,
    })
}

/// Takeover groups by the node that is asked and the reason that it is given.
type Requests = BTreeMap<(NodeId, Reason), Vec<TakeOverGroup>>;

fn group(partition: PartitionId, replica: ReplicaId) -> GroupReplica {
    GroupReplica { partition_id: partition.0, replica_id: replica.0 }
}

fn ask(requests: &mut Requests, appointment: &Appointment, asked: Placement, elect: bool) {
    let Appointment { partition, candidate, reason, membership_log, .. } = appointment;
    requests.entry((asked.node, *reason)).or_default().push(TakeOverGroup {
        group: Some(group(*partition, asked.replica)),
        candidate_replica_id: candidate.replica.0,
        membership_log: *membership_log,
        elect,
    });
}

impl Appointer {
    /// Appoints a leader in each of the groups, as far as it works: what does not comes again.
    pub(super) async fn act(self: Arc<Self>, cases: Vec<Case>) {
        let positions = self.collect(&cases).await;
        let none = BTreeMap::new();
        let mut open: BTreeMap<PartitionId, Appointment> = cases
            .iter()
            .filter_map(|case| choose(case, positions.get(&case.partition).unwrap_or(&none)))
            .map(|appointment| (appointment.partition, appointment))
            .collect();

        let mut gentle = Requests::new();
        for appointment in open.values() {
            ask(&mut gentle, appointment, appointment.candidate, false);
        }
        self.take_over(gentle, &mut open).await;
        if !open.is_empty() {
            runtime::mark!("peers: the gentle way failed, and they disarmed and elected");
        }

        let mut disarm = Requests::new();
        for appointment in open.values() {
            for survivor in &appointment.survivors {
                if survivor.replica != appointment.candidate.replica {
                    ask(&mut disarm, appointment, *survivor, false);
                }
            }
        }
        self.take_over(disarm, &mut open).await;

        let mut elect = Requests::new();
        for appointment in open.values() {
            ask(&mut elect, appointment, appointment.candidate, true);
        }
        self.take_over(elect, &mut open).await;
        if !open.is_empty() {
            tracing::warn!(groups = open.len(), "no leader yet; the next survivor tries");
            runtime::mark!("peers: an appointment failed");
        }
    }

    /// How far the logs of the cases' survivors go, as far as they answer.
    async fn collect(
        &self,
        cases: &[Case],
    ) -> BTreeMap<PartitionId, BTreeMap<ReplicaId, GroupLogPosition>> {
        let mut groups: BTreeMap<NodeId, Vec<GroupReplica>> = BTreeMap::new();
        for case in cases {
            for survivor in &case.survivors {
                let asked = group(case.partition, survivor.replica);
                groups.entry(survivor.node).or_default().push(asked);
            }
        }
        let answers = join_all(groups.iter().flat_map(|(node, groups)| {
            groups.chunks(GROUPS_MAX).map(|chunk| self.collect_from(*node, chunk.to_vec()))
        }))
        .await;
        let mut positions: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for position in answers.into_iter().flatten() {
            if let Some(group) = position.group
                && position.error.is_empty()
            {
                positions
                    .entry(PartitionId(group.partition_id))
                    .or_default()
                    .insert(ReplicaId(group.replica_id), position);
            }
        }
        positions
    }

    async fn collect_from(&self, node: NodeId, groups: Vec<GroupReplica>) -> Vec<GroupLogPosition> {
        if node == self.node {
            return self.host.log_positions(&groups).await;
        }
        let asking = async {
            let request = CollectLogPositionsRequest { groups };
            let mut client = self.client(node)?;
            Ok::<_, Status>(client.collect_log_positions(request).await?.into_inner().positions)
        };
        match runtime::time::timeout(COLLECT_LIMIT, asking).await {
            Ok(Ok(positions)) => positions,
            Ok(Err(status)) => {
                tracing::debug!(peer = node.0, %status, "a peer does not say how far its logs go");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Sends the requests, and removes the groups that are led now from `open`.
    async fn take_over(&self, requests: Requests, open: &mut BTreeMap<PartitionId, Appointment>) {
        let answers = join_all(requests.into_iter().flat_map(|((node, reason), groups)| {
            let chunks: Vec<Vec<TakeOverGroup>> =
                groups.chunks(GROUPS_MAX).map(<[TakeOverGroup]>::to_vec).collect();
            chunks.into_iter().map(move |chunk| self.take_over_at(node, reason, chunk))
        }))
        .await;
        for result in answers.into_iter().flatten() {
            let Some(group) = result.group else { continue };
            tracing::debug!(
                partition = group.partition_id,
                replica = group.replica_id,
                outcome = ?result.outcome(),
                message = result.message,
                "takeover among peers"
            );
            match result.outcome() {
                Outcome::Leading | Outcome::LedElsewhere => {
                    open.remove(&PartitionId(group.partition_id));
                }
                Outcome::Unspecified
                | Outcome::Disarmed
                | Outcome::NotElected
                | Outcome::Refused => {}
            }
        }
    }

    async fn take_over_at(
        &self,
        node: NodeId,
        reason: Reason,
        groups: Vec<TakeOverGroup>,
    ) -> Vec<TakeOverResult> {
        let request = TakeOverRequest {
            fence: None,
            authority: reason.authority().into(),
            lost_node_id: reason.lost_node(),
            groups,
            timeout_ms: u64::try_from(STEP_LIMIT.as_millis()).unwrap_or(u64::MAX),
        };
        let asking = async {
            if node == self.node {
                return Ok(self.host.take_over(request).await?.results);
            }
            let mut client = self.client(node)?;
            Ok::<_, Status>(client.take_over(request).await?.into_inner().results)
        };
        match runtime::time::timeout(STEP_LIMIT + STEP_GRACE, asking).await {
            Ok(Ok(results)) => results,
            Ok(Err(status)) => {
                tracing::debug!(peer = node.0, %status, "a peer does not take over");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    fn client(&self, node: NodeId) -> Result<PeerServiceClient<Channel>, Status> {
        let address = self
            .addresses
            .get(node)
            .ok_or_else(|| Status::unavailable("the node's address is not known"))?;
        Ok(PeerServiceClient::new(self.channels.get(&address))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(id: u64) -> Placement {
        Placement { replica: ReplicaId(id), node: NodeId(10 + id) }
    }

    fn case(own: u64, lost: Option<u64>) -> Case {
        Case {
            partition: PartitionId(1),
            own: ReplicaId(own),
            lost: lost.map(NodeId),
            survivors: vec![placement(1), placement(2), placement(3)],
        }
    }

    fn at(term: u64, index: u64) -> GroupLogPosition {
        let last_log = Some(LogPosition { term, leader_id: 1, index });
        GroupLogPosition { last_log, ..GroupLogPosition::default() }
    }

    fn positions<const N: usize>(
        positions: [(u64, GroupLogPosition); N],
    ) -> BTreeMap<ReplicaId, GroupLogPosition> {
        positions.into_iter().map(|(id, position)| (ReplicaId(id), position)).collect()
    }

    #[test]
    fn the_greatest_log_is_chosen_and_of_equals_the_first() {
        let table = [
            (positions([(1, at(1, 9)), (2, at(2, 3)), (3, at(2, 2))]), Some(2)),
            (positions([(1, at(2, 3)), (2, at(2, 3)), (3, at(2, 2))]), Some(1)),
            (positions([(2, GroupLogPosition::default()), (3, at(1, 0))]), Some(3)),
            (positions([(9, at(5, 5))]), None),
        ];
        for (positions, expected) in table {
            let chosen = choose(&case(1, Some(7)), &positions);
            assert_eq!(chosen.map(|chosen| chosen.candidate.replica.0), expected);
        }
    }

    #[test]
    fn a_group_that_is_led_is_left_alone() {
        let leading = GroupLogPosition { leader_replica_id: 2, ..at(1, 1) };
        assert_eq!(choose(&case(1, Some(7)), &positions([(1, at(1, 9)), (2, leading)])), None);
        // The lost leader, whom the others have not forgotten; and one of them, whom only this node misses.
        let following = |leader| GroupLogPosition { leader_replica_id: leader, ..at(1, 1) };
        assert!(choose(&case(1, Some(7)), &positions([(2, following(7))])).is_some());
        assert!(choose(&case(1, Some(7)), &positions([(2, following(3))])).is_none());
        assert!(choose(&case(1, None), &positions([(2, following(3))])).is_none());
        // A leader that has restarted acts itself.
        assert!(choose(&case(1, None), &positions([(1, at(1, 1)), (2, following(1))])).is_some());
    }

    #[test]
    fn the_reason_is_what_the_others_can_check() {
        let led = GroupLogPosition { vote_committed: true, vote_leader_id: 1, ..at(1, 1) };
        let reason = |case: &Case, own: &GroupLogPosition| {
            choose(case, &positions([(1, own.clone())])).unwrap().reason
        };
        assert_eq!(reason(&case(1, Some(7)), &led), Reason::Lost(NodeId(7)));
        assert_eq!(reason(&case(1, None), &led), Reason::Handover);
        assert_eq!(reason(&case(1, None), &at(1, 1)), Reason::Leaderless);
    }
}
