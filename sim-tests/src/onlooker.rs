//! The onlooker: asks all members, again and again while things go wrong, how the zone is, and checks what
//! must be true of it at every moment.
//!
//! What depends on when answers arrive is a violation only if it lasts: an answer can be a second old.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::join_all;
use proto::v1::{
    AdministrativeState, GetPartitionMapRequest, GetPartitionRequest, GetZoneStatusRequest,
    ListOperationsRequest, NodeState, PartitionDetail, PartitionMap, ZoneStatus,
    admin_service_client::AdminServiceClient, routing_service_client::RoutingServiceClient,
};
use runtime::{
    grpc::{ChannelOptions, Channels, MESSAGE_BYTES_MAX},
    seams::{Environment, Moment},
};

use crate::{
    board::{Board, Phase},
    checks::{self, Problem},
};

/// How long between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// How long to wait for an answer, and so how old one can be.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a deposed leader may go on, and many nodes be lost without a brake: the age of an answer, and
/// what it takes to notice.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a slow node may lead while all others are well: a few transfers, some of which fail.
const SLOW_LEADER_PATIENCE: Duration = Duration::from_secs(6);

/// How long a voter may be shown without any data: index nodes report where their logs end every five
/// seconds.
const EMPTY_VOTER_PATIENCE: Duration = Duration::from_secs(8);

/// Looks until the zone has settled.
///
/// # Errors
/// If no channels can be made.
pub async fn watch(
    environment: Environment,
    members: Vec<String>,
    board: Board,
) -> anyhow::Result<()> {
    let channels = Channels::new(&environment, ChannelOptions::default())?;
    let onlooker = Onlooker { environment, channels, members };
    let mut memory = Memory::default();
    board.reached(Phase::Faults).await;
    while board.phase() < Phase::Verifying {
        let look = onlooker.look(&memory).await;
        for problem in memory.take_in(onlooker.environment.now(), &look) {
            board.report(problem);
        }
        onlooker.environment.sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// What was seen at one moment.
#[derive(Default)]
struct Look {
    /// Of each member that answered.
    statuses: Vec<(String, ZoneStatus)>,
    maps: Vec<(String, PartitionMap)>,
    /// Of partitions that have changed since the beginning, or are about to.
    details: Vec<PartitionDetail>,
}

struct Onlooker {
    environment: Environment,
    channels: Channels,
    members: Vec<String>,
}

impl Onlooker {
    fn admin(&self, member: &str) -> AdminServiceClient<tonic::transport::Channel> {
        AdminServiceClient::new(self.channels.get(member))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Asks every member at once, none longer than its time.
    async fn look(&self, memory: &Memory) -> Look {
        let asked = join_all(self.members.iter().map(|member| async move {
            let mut admin = self.admin(member);
            let mut routing = RoutingServiceClient::new(self.channels.get(member))
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
            let both = async {
                let status = admin.get_zone_status(GetZoneStatusRequest {}).await?.into_inner();
                let map = routing.get_partition_map(GetPartitionMapRequest {}).await?.into_inner();
                Ok::<_, tonic::Status>((status, map))
            };
            let answer = self.environment.timeout(CALL_TIMEOUT, Box::pin(both)).await;
            answer.and_then(Result::ok).map(|(status, map)| (member.clone(), status, map))
        }))
        .await;
        let mut look = Look::default();
        for (member, status, map) in asked.into_iter().flatten() {
            look.statuses.push((member.clone(), status));
            look.maps.push((member, map));
        }
        look.details = self.details(memory, &look).await;
        look
    }

    /// At first of all partitions, then of those with replicas that were added or are about to be.
    async fn details(&self, memory: &Memory, look: &Look) -> Vec<PartitionDetail> {
        let leader = look.statuses.iter().find(|(_, status)| status.from_leader);
        let Some((leader, _)) = leader else { return Vec::new() };
        let mut admin = self.admin(leader);
        let call = admin.list_operations(ListOperationsRequest::default());
        let running = self.environment.timeout(CALL_TIMEOUT, Box::pin(call)).await;
        let running = running.and_then(Result::ok).map(tonic::Response::into_inner);
        let changed = running
            .iter()
            .flat_map(|running| &running.operations)
            .filter(|operation| operation.to_node_id != 0 && operation.partition_id != 0)
            .map(|operation| operation.partition_id);
        let wanted: BTreeSet<u64> =
            memory.partitions_with_added_replicas(look).into_iter().chain(changed).collect();
        let asked = join_all(wanted.into_iter().map(|partition_id| async move {
            let mut admin = self.admin(leader);
            let call = admin.get_partition(GetPartitionRequest { partition_id });
            let answer = self.environment.timeout(CALL_TIMEOUT, Box::pin(call)).await;
            answer.and_then(Result::ok).map(tonic::Response::into_inner)
        }))
        .await;
        asked.into_iter().flatten().collect()
    }
}

/// What the onlooker remembers from look to look.
#[derive(Default)]
struct Memory {
    /// The highest term that a leader of the control plane spoke of.
    term: Option<u64>,
    /// Members that lead in an older term, by their own words, and since when they have said so each time.
    deposed: BTreeMap<String, Moment>,
    /// Since when many nodes are lost and nothing brakes.
    unbraked_since: Option<Moment>,
    /// Slow nodes that lead although all others are well, and since when.
    slow_leaders: BTreeMap<u64, Moment>,
    /// The replicas of the first look, the founders: partition and node by replica id.
    founders: BTreeMap<u64, (u64, u64)>,
    /// All replicas ever seen.
    replicas: BTreeMap<u64, (u64, u64)>,
    /// Replicas that were seen where they belong.
    present: BTreeSet<u64>,
    /// Voters without data, and since when.
    empty_voters: BTreeMap<u64, Moment>,
}

impl Memory {
    fn take_in(&mut self, now: Moment, look: &Look) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (member, map) in &look.maps {
            let checked = checks::check_partition_map(map);
            problems.extend(checked.err().map(|problem| problem.with_details(member.clone())));
        }
        problems.extend(self.deposed_leader(now, look));
        problems.extend(self.missing_brake(now, look));
        problems.extend(self.slow_leader(now, look));
        problems.extend(self.reused_replica(look));
        problems.extend(self.unfit_voter(now, look));
        problems.extend(failed_replica(look));
        problems
    }

    /// G1: a leader of the control plane ends its reign when another has begun one. One that was frozen
    /// may still say that it leads when it goes on, but not for long.
    fn deposed_leader(&mut self, now: Moment, look: &Look) -> Option<Problem> {
        let leaders: BTreeMap<&str, u64> = look
            .statuses
            .iter()
            .filter(|(_, status)| status.from_leader)
            .filter_map(|(member, status)| Some((member.as_str(), status.control_plane.as_ref()?)))
            .map(|(member, control_plane)| (member, control_plane.term))
            .collect();
        let newest = leaders.values().max().copied();
        self.term = self.term.max(newest);
        let newest = self.term?;
        self.deposed
            .retain(|member, _| leaders.get(member.as_str()).is_some_and(|it| *it < newest));
        leaders.iter().filter(|(_, term)| **term < newest).find_map(|(member, term)| {
            let since = *self.deposed.entry((*member).to_owned()).or_insert(now);
            (now.since(since) >= PATIENCE).then(|| {
                let sentence = format!(
                    "{member} has said for {PATIENCE:?} that it leads the control plane in term {term}, \
                     although there is a leader of term {newest}"
                );
                Problem::new("G1", sentence)
            })
        })
    }

    /// G7: when several nodes and more than a third are not up, the control plane brakes.
    fn missing_brake(&mut self, now: Moment, look: &Look) -> Option<Problem> {
        let leader = look.statuses.iter().find(|(_, status)| status.from_leader);
        let unbraked = leader.and_then(|(_, status)| {
            let active: Vec<_> = status
                .nodes
                .iter()
                .filter(|node| node.administrative_state() == AdministrativeState::Active)
                .collect();
            let is_lost = |node: &&&proto::v1::NodeSummary| {
                matches!(node.state(), NodeState::Suspect | NodeState::Down)
            };
            let lost = active.iter().filter(is_lost).count();
            let brakes = status.brake.as_ref().is_some_and(|brake| brake.engaged);
            (lost >= 2 && lost * 3 > active.len() && !brakes).then_some((lost, active.len()))
        });
        let Some((lost, active)) = unbraked else {
            self.unbraked_since = None;
            return None;
        };
        let since = *self.unbraked_since.get_or_insert(now);
        (now.since(since) >= PATIENCE).then(|| {
            Problem::new(
                "G7",
                format!(
                    "{lost} of {active} nodes have been lost for {PATIENCE:?}, without a brake"
                ),
            )
        })
    }

    /// G9: leaderships move off a slow node if there is somewhere to go.
    fn slow_leader(&mut self, now: Moment, look: &Look) -> Option<Problem> {
        let leader = look.statuses.iter().find(|(_, status)| status.from_leader);
        let slow: BTreeMap<u64, &str> = leader
            .filter(|(_, status)| {
                let brakes = status.brake.as_ref().is_some_and(|brake| brake.engaged);
                let mut others = status.nodes.iter().filter(|node| node.state() != NodeState::Slow);
                let is_well = |node: &proto::v1::NodeSummary| {
                    node.state() == NodeState::Up
                        && node.administrative_state() == AdministrativeState::Active
                };
                !brakes && others.all(is_well)
            })
            .into_iter()
            .flat_map(|(_, status)| &status.nodes)
            .filter(|node| node.state() == NodeState::Slow && node.leaders > 0)
            .map(|node| (node.id, node.name.as_str()))
            .collect();
        self.slow_leaders.retain(|id, _| slow.contains_key(id));
        slow.into_iter().find_map(|(id, name)| {
            let since = *self.slow_leaders.entry(id).or_insert(now);
            (now.since(since) >= SLOW_LEADER_PATIENCE).then(|| {
                let sentence = format!(
                    "{name} has been slow for {SLOW_LEADER_PATIENCE:?} and leads, although all others are well"
                );
                Problem::new("G9", sentence)
            })
        })
    }

    /// G2: a replica id belongs to one partition on one node, for ever.
    fn reused_replica(&mut self, look: &Look) -> Option<Problem> {
        for (_, map) in &look.maps {
            for route in &map.partitions {
                for replica in &route.replicas {
                    let place = (route.partition_id, replica.node_id);
                    let known = *self.replicas.entry(replica.replica_id).or_insert(place);
                    if known != place {
                        return Some(Problem::new(
                            "G2",
                            format!(
                                "replica id {} was given to partition {} on node {}, and is one of \
                                 partition {} on node {} now",
                                replica.replica_id, known.0, known.1, place.0, place.1
                            ),
                        ));
                    }
                }
            }
        }
        if self.founders.is_empty() {
            self.founders = self.replicas.clone();
        }
        None
    }

    fn partitions_with_added_replicas(&self, look: &Look) -> Vec<u64> {
        let mut partitions: Vec<u64> = look
            .maps
            .iter()
            .flat_map(|(_, map)| &map.partitions)
            .filter(|route| {
                let mut replicas = route.replicas.iter();
                replicas.any(|replica| !self.founders.contains_key(&replica.replica_id))
            })
            .map(|route| route.partition_id)
            .collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    }

    /// G2: whoever is added votes only when it has what the others have. G5: whoever votes is not
    /// destroyed.
    fn unfit_voter(&mut self, now: Moment, look: &Look) -> Option<Problem> {
        let mut problem = None;
        for detail in &look.details {
            let partition = detail.summary.as_ref().map_or(0, |summary| summary.id);
            let voters: BTreeSet<u64> = detail
                .membership
                .iter()
                .flat_map(|membership| &membership.voter_sets)
                .flat_map(|set| &set.voters)
                .map(|voter| voter.replica_id)
                .collect();
            for view in &detail.replicas {
                let Some(placement) = &view.placement else { continue };
                let (id, node) = (placement.replica_id, placement.node_id);
                // Its node is there and says that it has no such replica.
                if voters.contains(&id) && self.present.contains(&id) && view.role == "absent" {
                    problem = Some(Problem::new(
                        "G5",
                        format!(
                            "replica {id} of partition {partition} on node {node} is gone, and its \
                             group has not committed its removal"
                        ),
                    ));
                }
                // What it says of itself: a replica that knows nothing calls itself a learner.
                let shown = ["voter", "learner"].contains(&view.role.as_str());
                if shown || view.role == "leader" {
                    self.present.insert(id);
                }
                let added = voters.contains(&id) && !self.founders.contains_key(&id);
                if !shown || !added || view.applied_index > 0 {
                    self.empty_voters.remove(&id);
                    continue;
                }
                let since = *self.empty_voters.entry(id).or_insert(now);
                if now.since(since) >= EMPTY_VOTER_PATIENCE {
                    problem = Some(Problem::new(
                        "G2",
                        format!(
                            "replica {id} of partition {partition} on node {node} votes, and has had \
                             nothing of the partition for {EMPTY_VOTER_PATIENCE:?}"
                        ),
                    ));
                }
            }
        }
        problem
    }
}

/// A replica that has stopped by itself, for another reason than its disk: by an assertion, or because it
/// has come to another state than its peers.
fn failed_replica(look: &Look) -> Option<Problem> {
    let leaders = look.statuses.iter().filter(|(_, status)| status.from_leader);
    let mut sentences = leaders.flat_map(|(_, status)| &status.problems);
    let sentence = sentences.find(|sentence| {
        let by_its_disk = ["the simulated device failed", "checksum: the record says"];
        sentence.contains("has failed:") && !by_its_disk.iter().any(|it| sentence.contains(it))
    })?;
    let kind = if sentence.contains("have come to different states") {
        "replicas differ"
    } else {
        "a replica stopped by itself"
    };
    Some(Problem::new("G2", kind).with_details(sentence.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{
        Brake, ControlPlaneStatus, KeyRange, Membership, NodeSummary, PartitionRoute,
        PartitionSummary, ReplicaPlacement, ReplicaView, VoterSet,
    };

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    fn leader(term: u64, lost: usize, braked: bool) -> ZoneStatus {
        let nodes = (0..5).map(|number| NodeSummary {
            state: if number < lost { NodeState::Down } else { NodeState::Up }.into(),
            administrative_state: AdministrativeState::Active.into(),
            ..NodeSummary::default()
        });
        ZoneStatus {
            from_leader: true,
            nodes: nodes.collect(),
            control_plane: Some(ControlPlaneStatus { term, ..ControlPlaneStatus::default() }),
            brake: Some(Brake { engaged: braked, ..Brake::default() }),
            ..ZoneStatus::default()
        }
    }

    fn statuses(statuses: Vec<ZoneStatus>) -> Look {
        let members = (1..).map(|number| format!("member-{number}"));
        Look { statuses: members.zip(statuses).collect(), ..Look::default() }
    }

    fn map(replicas: &[(u64, u64)]) -> Look {
        let replicas = replicas
            .iter()
            .map(|(replica_id, node_id)| ReplicaPlacement {
                replica_id: *replica_id,
                node_id: *node_id,
            })
            .collect();
        let route = PartitionRoute {
            partition_id: 1,
            range: Some(KeyRange::default()),
            replicas,
            ..PartitionRoute::default()
        };
        let map = PartitionMap { partitions: vec![route], ..PartitionMap::default() };
        Look { maps: vec![("member-1".to_owned(), map)], ..Look::default() }
    }

    fn detail(replica_id: u64, votes: bool, role: &str, applied_index: u64) -> Look {
        Look {
            details: vec![PartitionDetail {
                summary: Some(PartitionSummary::default()),
                membership: Some(Membership {
                    voter_sets: vec![VoterSet {
                        voters: votes
                            .then_some(ReplicaPlacement { replica_id, node_id: 2 })
                            .into_iter()
                            .collect(),
                    }],
                    ..Membership::default()
                }),
                replicas: vec![ReplicaView {
                    placement: Some(ReplicaPlacement { replica_id, node_id: 2 }),
                    role: role.to_owned(),
                    applied_index,
                    ..ReplicaView::default()
                }],
                ..PartitionDetail::default()
            }],
            ..Look::default()
        }
    }

    #[test]
    fn a_deposed_leader_may_go_on_for_a_moment_only() {
        let mut memory = Memory::default();
        let both = || statuses(vec![leader(3, 0, false), leader(4, 0, false)]);
        assert!(memory.take_in(at(0), &statuses(vec![leader(3, 0, false)])).is_empty());
        assert!(memory.take_in(at(5), &both()).is_empty());
        assert!(memory.take_in(at(7), &both()).is_empty());
        assert_eq!(memory.take_in(at(8), &both())[0].guarantee, "G1");
        assert!(memory.take_in(at(9), &statuses(vec![leader(4, 0, false)])).is_empty());
    }

    #[test]
    fn many_lost_nodes_need_a_brake_soon() {
        let mut memory = Memory::default();
        for (second, lost, braked, fails) in [
            (0, 2, false, false),
            (2, 2, false, false),
            (3, 2, true, false),
            (4, 2, false, false),
            (6, 1, false, false),
            (7, 2, false, false),
            (10, 2, false, true),
        ] {
            let problems = memory.take_in(at(second), &statuses(vec![leader(1, lost, braked)]));
            assert_eq!(!problems.is_empty(), fails, "{second}: {problems:?}");
        }
    }

    #[test]
    fn a_replica_id_stays_where_it_is() {
        let mut memory = Memory::default();
        assert!(memory.take_in(at(0), &map(&[(1, 1), (2, 2)])).is_empty());
        assert!(memory.take_in(at(1), &map(&[(1, 1), (3, 3)])).is_empty());
        assert_eq!(memory.partitions_with_added_replicas(&map(&[(1, 1), (3, 3)])), [1]);
        assert!(memory.partitions_with_added_replicas(&map(&[(1, 1), (2, 2)])).is_empty());
        assert_eq!(Memory::default().partitions_with_added_replicas(&map(&[(1, 1)])), [1]);
        assert_eq!(memory.take_in(at(2), &map(&[(1, 1), (2, 3)]))[0].guarantee, "G2");
        assert_eq!(Memory::default().take_in(at(0), &map(&[(1, 1), (2, 1)]))[0].guarantee, "G4");
    }

    #[test]
    fn a_replica_fails_with_its_disk_only() {
        let seen = |sentence: &str| {
            let status = ZoneStatus { problems: vec![sentence.to_owned()], ..leader(1, 0, false) };
            failed_replica(&statuses(vec![status])).map(|problem| problem.sentence)
        };
        assert_eq!(seen("the brake is engaged"), None);
        assert_eq!(seen("replica 1 has failed: sync: the simulated device failed"), None);
        let differs = "replica 1 has failed: this one and the leader have come to different states";
        assert_eq!(seen(differs).as_deref(), Some("replicas differ"));
        let stopped = seen("replica 1 has failed: entries 3 to 7 are missing");
        assert_eq!(stopped.as_deref(), Some("a replica stopped by itself"));
    }

    #[test]
    fn a_voter_is_there() {
        let mut memory = Memory::default();
        memory.take_in(at(0), &map(&[(1, 1)]));
        assert!(memory.take_in(at(0), &detail(1, true, "absent", 0)).is_empty());
        assert!(memory.take_in(at(0), &detail(1, true, "voter", 5)).is_empty());
        let problems = memory.take_in(at(1), &detail(1, true, "absent", 0));
        assert_eq!(problems[0].guarantee, "G5");
        assert!(memory.take_in(at(1), &detail(1, false, "absent", 0)).is_empty());
        assert!(memory.take_in(at(1), &detail(1, true, "unknown", 0)).is_empty());
    }

    #[test]
    fn an_added_voter_has_data() {
        let mut memory = Memory::default();
        memory.take_in(at(0), &map(&[(1, 1)]));
        let seen = |replica, votes, applied| detail(replica, votes, "learner", applied);
        for (second, look, fails) in [
            (0, seen(1, true, 0), false),
            (9, seen(1, true, 0), false),
            (10, seen(2, false, 0), false),
            (20, seen(2, true, 0), false),
            (25, seen(2, true, 7), false),
            (26, seen(2, true, 0), false),
            (34, seen(2, true, 0), true),
        ] {
            let problems = memory.take_in(at(second), &look);
            assert_eq!(!problems.is_empty(), fails, "{second}: {problems:?}");
        }
    }
}
