//! A zone at rest: every partition has three replicas on distinct nodes and a leader, both spread evenly.

use std::sync::Arc;

use model::{
    Action, Command, Incarnation, LogPosition, NodeId, PartitionId, RangeEpoch, ReplicaId,
    Revision, Term, WallTime, ZoneState, ZoneTime,
    command::Registration,
    key_range::KeyRange,
    node::Capacity,
    observation::{Progress, ReplicaPhase, ReplicaReport, ReportedMembership},
    partition::{Membership, ObservedLeader, Partition, Replica},
    table::Record,
};
use uuid::Uuid;

type StoredRecord = (Vec<u8>, Vec<u8>);

/// The nodes alone.
fn without_partitions(nodes: u64) -> Result<ZoneState, String> {
    let mut state = ZoneState::default();
    let initialize = Action::InitializeZone {
        zone_id: Uuid::from_u128(1),
        split_keys: Vec::new(),
        replication_factor: 3,
        replace_after_ms: 0,
    };
    let registrations = (1..=nodes).map(|number| {
        Action::RegisterNode(Registration {
            zone_id: None,
            identity: Uuid::from_u128(1_000 + u128::from(number)),
            node: None,
            incarnation: Incarnation(1),
            name: format!("node-{number}"),
            address: format!("node-{number}.zone:7500"),
            // A rack for each: then no two replicas share one.
            fault_domain: format!("rack-{number}"),
            capacity: Capacity { stored_bytes: 1 << 44, cores: 16 },
            software_version: "scale".into(),
        })
    });
    for (action, revision) in std::iter::once(initialize).chain(registrations).zip(1..) {
        let command = Command::new(ZoneTime(0), WallTime(0), action);
        state.apply(Revision(revision), &command).map_err(|refusal| refusal.to_string())?;
        state.take_changes();
    }
    Ok(state)
}

/// The nodes of a partition's replicas, numbered from 0. Those that a node shares partitions with are many.
fn nodes_of(partition: u64, nodes: u64) -> [u64; 3] {
    let first = partition % nodes;
    let step = (partition / nodes) % (nodes - 1) + 1;
    let other = step % (nodes - 1) + 1;
    [first, (first + step) % nodes, (first + other) % nodes]
}

fn replicas_of(partition: u64, nodes: u64) -> Vec<Replica> {
    let replicas = (1..).zip(nodes_of(partition, nodes));
    replicas
        .map(|(number, node)| Replica {
            id: ReplicaId(partition * 3 + number),
            node: NodeId(node + 1),
        })
        .collect()
}

fn range_of(partition: u64, partitions: u64) -> Result<KeyRange, String> {
    let bound = |number: u64| {
        let is_inner = number > 0 && number < partitions;
        if is_inner { number.to_be_bytes()[4..].to_vec() } else { Vec::new() }
    };
    KeyRange::new(bound(partition), bound(partition + 1)).map_err(|error| error.to_string())
}

const LOG: LogPosition = LogPosition { term: Term(1), leader_id: 1, index: 1 };

fn membership_of(replicas: &[Replica]) -> Membership {
    Membership { log_position: LOG, voter_sets: vec![replicas.to_vec()], learners: Vec::new() }
}

fn record_of(number: u64, nodes: u64, partitions: u64) -> Result<StoredRecord, String> {
    let targets = replicas_of(number, nodes);
    let leader = targets.first().copied();
    let partition = Partition {
        range: range_of(number, partitions)?,
        range_epoch: RangeEpoch(1),
        retiring: Vec::new(),
        preferred_leader: leader.map(|leader| leader.id),
        observed: Some(membership_of(&targets)),
        leader: leader.map(|leader| ObservedLeader {
            replica: leader.id,
            node: leader.node,
            term: Term(1),
        }),
        targets,
        change: None,
    };
    let mut key = vec![Partition::TAG];
    key.extend(Partition::encode_key(&PartitionId(number + 1)));
    let value = postcard::to_stdvec(&partition).map_err(|error| error.to_string())?;
    Ok((key, value))
}

/// The whole zone.
pub fn state(nodes: u64, partitions: u64) -> Result<ZoneState, String> {
    let bare = without_partitions(nodes)?;
    let rest = bare.records().filter(|(key, _)| key.first() != Some(&Partition::TAG));
    // One after the other, so that the records never take memory beside the state.
    let mut failed = None;
    let records = (0..partitions).map_while(|number| match record_of(number, nodes, partitions) {
        Ok(record) => Some(record),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let state = ZoneState::from_records(rest.chain(records));
    failed.map_or(Ok(()), Err)?;
    state.map_err(|error| error.to_string())
}

/// All that a node reports of itself in a new session.
pub fn reports(state: &ZoneState, node: NodeId) -> Vec<ReplicaReport> {
    let partitions = state.partitions_on(node);
    let known = partitions.filter_map(|id| Some((id, state.partition(id)?)));
    known.filter_map(|(id, partition)| report(id, partition, node)).collect()
}

fn report(id: PartitionId, partition: &Partition, node: NodeId) -> Option<ReplicaReport> {
    let own = partition.target_on(node)?;
    let leader = partition.leader?;
    let leading = leader.replica == own.id;
    let others = partition.targets.iter().filter(|target| leading && target.id != own.id);
    Some(ReplicaReport {
        partition: id,
        replica: own.id,
        phase: ReplicaPhase::Live,
        term: leader.term,
        leader: Some(leader.replica),
        leading,
        last_log: Some(LOG),
        applied: Some(LOG),
        membership: partition
            .observed
            .clone()
            .map(Arc::new)
            .map(|membership| ReportedMembership { membership, committed: true }),
        // As from the wire: bytes of its own.
        range: KeyRange::new(partition.range.start(), partition.range.end()).ok(),
        range_epoch: partition.range_epoch,
        progress: others
            .map(|target| Progress { replica: target.id, matched: Some(LOG), lag_entries: 0 })
            .collect(),
        stored_bytes: 1 << 30,
        keys: 1 << 20,
        message: Box::default(),
    })
}
