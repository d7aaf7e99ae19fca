//! From the wire to the model: each conversion says what was wrong and what would be right.

use std::sync::Arc;

use model::{
    Incarnation, LogPosition, NodeId, PartitionId, RangeEpoch, ReplicaId, Term, ZoneState,
    command::Registration,
    heat::{HotKey, LoadReport},
    key_range::KeyRange,
    node::Capacity,
    observation::{
        Heartbeat, HeatReport, Progress, ReplicaPhase, ReplicaReport, ReportedMembership,
    },
    operation::SplitPoint,
    partition::{Membership, Replica},
    policy::PolicyValues,
    takeover::{GroupPosition, GroupResult, TakeOverOutcome},
};
use proto::v1;
use tonic::Status;
use uuid::Uuid;

/// The name of the field with a policy's version, which is none of its values.
pub const POLICY_VERSION: &str = "version";

/// Before the names of the fields of balance in the whole policy.
pub const BALANCE: &str = "balance.";

/// A field that can never be right as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found}: {expected}")]
pub struct Malformed {
    field: &'static str,
    found: String,
    expected: &'static str,
}

impl Malformed {
    pub fn new(field: &'static str, found: impl ToString, expected: &'static str) -> Self {
        Self { field, found: found.to_string(), expected }
    }
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Self {
        Status::invalid_argument(malformed.to_string())
    }
}

fn uuid(field: &'static str, text: &str) -> Result<Uuid, Malformed> {
    Uuid::try_parse(text)
        .map_err(|_| Malformed::new(field, format!("{text:?}"), "it must be a UUID"))
}

/// What a node says of itself when it registers. Names and addresses are checked by the model.
pub fn registration(request: v1::RegisterRequest) -> Result<Registration, Malformed> {
    let zone_id = match request.zone_id.as_str() {
        "" => None,
        text => Some(uuid("zone_id", text)?),
    };
    if request.incarnation == 0 {
        return Err(Malformed::new("incarnation", 0, "it rises at each start, from 1"));
    }
    let capacity = request.capacity.unwrap_or_default();
    Ok(Registration {
        zone_id,
        identity: uuid("identity", &request.identity)?,
        node: (request.node_id != 0).then_some(NodeId(request.node_id)),
        incarnation: Incarnation(request.incarnation),
        name: request.name,
        address: request.address,
        fault_domain: request.fault_domain,
        capacity: Capacity { stored_bytes: capacity.stored_bytes, cores: capacity.cores },
        software_version: request.software_version,
    })
}

/// A policy, and the version of the one that it was made from. Whether it is whole, and possible, the model says.
pub fn policy(policy: Option<v1::Policy>) -> Result<(u64, PolicyValues), Malformed> {
    let missing = |field, expected| Malformed::new(field, "missing", expected);
    let policy = policy.ok_or_else(|| missing("policy", "give one with all of its fields"))?;
    let given = policy.values().into_iter();
    let mut values: PolicyValues =
        given.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let version = values.remove(POLICY_VERSION).ok_or_else(|| {
        missing("policy.version", "give the version of the policy that it was made from")
    })?;
    Ok((version, values))
}

/// The fields of a policy of balance, by the names that they have in the whole. Whether they are all there, and
/// possible, the model says.
pub fn balance_policy(balance: v1::BalancePolicy) -> PolicyValues {
    let given = balance.values().into_iter();
    given.filter_map(|(name, value)| Some((format!("{BALANCE}{name}"), value?))).collect()
}

/// Finds the node that an operator means.
///
/// # Errors
/// INVALID_ARGUMENT if none or two are named, NOT_FOUND if there is none such.
pub fn node_reference(
    state: &ZoneState,
    field: &'static str,
    reference: Option<v1::NodeReference>,
) -> Result<NodeId, Status> {
    let reference = reference.unwrap_or_default();
    match (reference.id, reference.name.as_str()) {
        (0, "") => Err(Malformed::new(field, "empty", "give a node's id or its name").into()),
        (0, name) => match state.node_named(name) {
            Some((id, _)) => Ok(id),
            None => Err(Status::not_found(format!("there is no node named {name:?}"))),
        },
        (id, "") => match state.node(NodeId(id)) {
            Some(_) => Ok(NodeId(id)),
            None => Err(Status::not_found(format!("there is no node {id}"))),
        },
        (id, name) => {
            let both = format!("both {id} and {name:?}");
            Err(Malformed::new(field, both, "give a node's id or its name, not both").into())
        }
    }
}

pub fn log_position(position: v1::LogPosition) -> LogPosition {
    LogPosition { term: Term(position.term), leader_id: position.leader_id, index: position.index }
}

pub fn replica(placement: v1::ReplicaPlacement) -> Result<Replica, Malformed> {
    if placement.replica_id == 0 {
        return Err(Malformed::new("replica_id", 0, "replica ids start at 1"));
    }
    if placement.node_id == 0 {
        return Err(Malformed::new("node_id", 0, "node ids start at 1"));
    }
    Ok(Replica { id: ReplicaId(placement.replica_id), node: NodeId(placement.node_id) })
}

fn replicas(placements: Vec<v1::ReplicaPlacement>) -> Result<Vec<Replica>, Malformed> {
    let mut replicas =
        placements.into_iter().map(replica).collect::<Result<Vec<Replica>, Malformed>>()?;
    replicas.sort();
    Ok(replicas)
}

/// A membership as a replica reports it; none for a blank replica, which has none yet.
fn membership(membership: v1::Membership) -> Result<Option<ReportedMembership>, Malformed> {
    let committed = membership.committed;
    let Some(position) = membership.log_position else { return Ok(None) };
    let count = membership.voter_sets.len();
    if count == 0 {
        return Ok(None);
    }
    if count > 2 {
        return Err(Malformed::new("membership.voter_sets", count, "there are one or two"));
    }
    let voter_sets = membership
        .voter_sets
        .into_iter()
        .map(|set| replicas(set.voters))
        .collect::<Result<Vec<_>, Malformed>>()?;
    let learners = replicas(membership.learners)?;
    let membership = Membership { log_position: log_position(position), voter_sets, learners };
    let membership = Arc::new(membership);
    Ok(Some(ReportedMembership { membership, committed }))
}

pub fn range(range: v1::KeyRange) -> Result<KeyRange, Malformed> {
    KeyRange::new(&range.start, &range.end)
        .map_err(|error| Malformed::new("range", error, "its start must be less than its end"))
}

/// Where an operator wants a partition to be split.
pub fn split_point(
    point: Option<v1::split_partition_request::Point>,
) -> Result<SplitPoint, Malformed> {
    use v1::split_partition_request::Point;
    match point {
        None => Err(Malformed::new("point", "missing", "give the key to split at, or by what")),
        Some(Point::At(key)) if key.is_empty() => {
            Err(Malformed::new("at", "empty", "give the first key of the right half"))
        }
        Some(Point::At(key)) => Ok(SplitPoint::Key(key.as_ref().into())),
        Some(Point::By(by)) => match v1::SplitBy::try_from(by) {
            Ok(v1::SplitBy::Load) => Ok(SplitPoint::MiddleOfLoad),
            Ok(v1::SplitBy::Size) => Ok(SplitPoint::MiddleOfSize),
            Ok(v1::SplitBy::Unspecified) | Err(_) => {
                Err(Malformed::new("by", by, "it must be LOAD or SIZE"))
            }
        },
    }
}

/// The most nodes that a heartbeat can name: no zone has more.
const UNREACHABLE_NODES_MAX: usize = 10_000;

/// What a node says of itself.
pub fn heartbeat(heartbeat: v1::Heartbeat) -> Result<Heartbeat, Malformed> {
    let count = heartbeat.unreachable_node_ids.len();
    if count > UNREACHABLE_NODES_MAX {
        let field = "heartbeat.unreachable_node_ids";
        let found = format!("a list of {count} nodes");
        return Err(Malformed::new(field, found, "at most 10000 are allowed"));
    }
    Ok(Heartbeat {
        sequence: heartbeat.sequence,
        runtime_lag_ms: heartbeat.runtime_lag_ms,
        disk_free_bytes: heartbeat.disk_free_bytes,
        disk_below_reserve: heartbeat.disk_below_reserve,
        disk_sync_ms: heartbeat.disk_sync_ms,
        unreachable: heartbeat.unreachable_node_ids.into_iter().map(NodeId).collect(),
    })
}

/// The most partitions whose load one message can tell: several times what a node says at a time.
const HEAT_REPORTS_MAX: usize = 8_192;

/// Load as one message tells it.
pub fn heat_reports(heat: Vec<v1::HeatReport>) -> Result<Vec<v1::HeatReport>, Malformed> {
    let count = heat.len();
    if count > HEAT_REPORTS_MAX {
        let found = format!("a list of {count} partitions");
        return Err(Malformed::new("heat", found, "at most 8192 are allowed in one message"));
    }
    Ok(heat)
}

pub fn heat_report(heat: &v1::HeatReport) -> HeatReport {
    HeatReport {
        interval_ms: heat.interval_ms,
        reads: heat.reads,
        writes: heat.writes,
        bytes_read: heat.bytes_read,
        bytes_written: heat.bytes_written,
    }
}

/// The most keys that are taken in with one report.
const HOT_KEYS_MAX: usize = 4;
/// The longest beginning of a key that is.
const KEY_PREFIX_BYTES_MAX: usize = 256;

/// What a partition's leader says of its load. What is too much of the keys is left out.
pub fn load_report(report: v1::HeatReport) -> LoadReport {
    let part = |share: f64| if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let keys = report.hottest_keys.into_iter().take(HOT_KEYS_MAX);
    let hottest_keys = keys.map(|key| HotKey {
        key_prefix: key.key_prefix[..key.key_prefix.len().min(KEY_PREFIX_BYTES_MAX)].to_vec(),
        share: part(key.share),
        share_error: part(key.share_error),
    });
    LoadReport {
        term: Term(report.term),
        replica: ReplicaId(report.replica_id),
        interval_ms: report.interval_ms,
        reads: report.reads,
        writes: report.writes,
        bytes_read: report.bytes_read,
        bytes_written: report.bytes_written,
        request_cpu_us: report.request_cpu_us,
        apply_cpu_us: report.apply_cpu_us,
        shed: report.shed,
        throttled: report.throttled,
        waited_us: report.waited_us,
        stored_bytes: report.stored_bytes,
        split_left_permille: u16::try_from(report.split_left_permille).unwrap_or(0),
        hottest_keys: hottest_keys.collect(),
    }
}

fn replica_phase(phase: v1::ReplicaPhase) -> Result<ReplicaPhase, Malformed> {
    match phase {
        v1::ReplicaPhase::Live => Ok(ReplicaPhase::Live),
        v1::ReplicaPhase::Destroyed => Ok(ReplicaPhase::Destroyed),
        v1::ReplicaPhase::Failed => Ok(ReplicaPhase::Failed),
        v1::ReplicaPhase::Unspecified => {
            Err(Malformed::new("replicas.phase", "unspecified", "it must be one that is known"))
        }
    }
}

/// What a node says of one of its replicas.
pub fn replica_report(report: v1::ReplicaReport) -> Result<ReplicaReport, Malformed> {
    let phase = replica_phase(report.phase())?;
    let partition = partition_id("replicas.partition_id", report.partition_id)?;
    let replica = replica_id("replicas.replica_id", report.replica_id)?;
    let membership = report.membership.map(membership).transpose()?.flatten();
    let progress = report.progress.into_iter().map(progress);
    Ok(ReplicaReport {
        partition,
        replica,
        phase,
        term: Term(report.term),
        leader: optional_replica(report.leader_replica_id),
        leading: report.leading,
        last_log: report.last_log.map(log_position),
        applied: report.applied.map(log_position),
        membership,
        range: report.range.map(range).transpose()?,
        range_epoch: RangeEpoch(report.range_epoch),
        progress: progress.collect::<Result<Box<[_]>, Malformed>>()?,
        stored_bytes: report.stored_bytes,
        keys: report.keys,
        message: report.message.into(),
    })
}

fn progress(progress: v1::ReplicationProgress) -> Result<Progress, Malformed> {
    Ok(Progress {
        replica: replica_id("replicas.progress.replica_id", progress.replica_id)?,
        matched: progress.matched.map(log_position),
        lag_entries: progress.lag_entries,
    })
}

fn replica_id(field: &'static str, id: u64) -> Result<ReplicaId, Malformed> {
    if id == 0 {
        return Err(Malformed::new(field, 0, "replica ids start at 1"));
    }
    Ok(ReplicaId(id))
}

pub fn partition_id(field: &'static str, id: u64) -> Result<PartitionId, Malformed> {
    if id == 0 {
        return Err(Malformed::new(field, 0, "partition ids start at 1"));
    }
    Ok(PartitionId(id))
}

/// The most bytes of an idempotency key.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;

/// Checks a key before it goes into the log.
pub fn idempotency_key(key: String) -> Result<String, Malformed> {
    if key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        let found = format!("{} bytes long", key.len());
        return Err(Malformed::new("idempotency_key", found, "at most 64 bytes are allowed"));
    }
    Ok(key)
}

fn group_replica(group: Option<v1::GroupReplica>) -> Result<(PartitionId, ReplicaId), Malformed> {
    let group = group.ok_or_else(|| Malformed::new("group", "absent", "it must be there"))?;
    Ok((
        partition_id("group.partition_id", group.partition_id)?,
        replica_id("group.replica_id", group.replica_id)?,
    ))
}

fn optional_replica(id: u64) -> Option<ReplicaId> {
    (id != 0).then_some(ReplicaId(id))
}

/// A node's answer to where one group's log ends.
pub fn group_position(position: v1::GroupLogPosition) -> Result<GroupPosition, Malformed> {
    let (partition, replica) = group_replica(position.group)?;
    Ok(GroupPosition {
        partition,
        replica,
        last_log: position.last_log.map(log_position),
        vote_term: Term(position.vote_term),
        vote_leader: ReplicaId(position.vote_leader_id),
        vote_committed: position.vote_committed,
        leader: optional_replica(position.leader_replica_id),
        membership_log: position.membership_log.map(log_position),
        voters: position.voter_replica_ids.into_iter().map(ReplicaId).collect(),
        leader_lost: position.leader_lost,
        error: position.error,
    })
}

/// A node's answer to what became of one group's takeover.
pub fn group_result(result: v1::TakeOverResult) -> Result<GroupResult, Malformed> {
    use v1::take_over_result::Outcome;
    let outcome = match result.outcome() {
        Outcome::Leading => TakeOverOutcome::Leading,
        Outcome::Disarmed => TakeOverOutcome::Disarmed,
        Outcome::NotElected => TakeOverOutcome::NotElected,
        Outcome::LedElsewhere => TakeOverOutcome::LedElsewhere,
        Outcome::Refused => TakeOverOutcome::Refused,
        Outcome::Unspecified => {
            return Err(Malformed::new("outcome", "unspecified", "it must be one that is known"));
        }
    };
    let (partition, replica) = group_replica(result.group)?;
    Ok(GroupResult {
        partition,
        replica,
        outcome,
        term: Term(result.term),
        leader: optional_replica(result.leader_replica_id),
        message: result.message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_names_no_more_nodes_than_a_zone_could_have() {
        let of = |nodes: u64| v1::Heartbeat {
            unreachable_node_ids: (1..=nodes).collect(),
            ..v1::Heartbeat::default()
        };
        assert_eq!(heartbeat(of(10_000)).expect("allowed").unreachable.len(), 10_000);
        let refused = heartbeat(of(10_001)).expect_err("too many");
        assert_eq!(
            refused.to_string(),
            "heartbeat.unreachable_node_ids is a list of 10001 nodes: at most 10000 are allowed"
        );
    }
    #[test]
    fn of_load_no_more_is_taken_in_than_a_node_has_to_say() {
        let of = |count| vec![v1::HeatReport::default(); count];
        assert_eq!(heat_reports(of(8_192)).expect("allowed").len(), 8_192);
        let refused = heat_reports(of(8_193)).expect_err("too many");
        let expected = "heat is a list of 8193 partitions: at most 8192 are allowed in one message";
        assert_eq!(refused.to_string(), expected);

        let key = |share, share_error| v1::HotKey {
            key_prefix: vec![7; 1 << 20].into(),
            share,
            share_error,
        };
        let hottest_keys = vec![
            key(0.5, f64::NAN),
            key(f64::INFINITY, -1.0),
            key(2.0, 0.25),
            key(0.1, 0.1),
            key(0.1, 0.1),
        ];
        let report = load_report(v1::HeatReport { hottest_keys, ..v1::HeatReport::default() });
        assert!(report.hottest_keys.iter().all(|key| key.key_prefix == [7; 256]));
        let shares: Vec<(f64, f64)> =
            report.hottest_keys.iter().map(|key| (key.share, key.share_error)).collect();
        assert_eq!(shares, [(0.5, 0.0), (0.0, 0.0), (1.0, 0.25), (0.1, 0.1)]);
    }
}
