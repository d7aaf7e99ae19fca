//! What a snapshot must be like to be planned for, and precisely what is wrong with one that is not.

use crate::ids::PartitionId;

use super::snapshot::{
    Amounts, DEPARTURES_MAX, DIMENSION_NAMES, NO_LEADER, NodeView, PartitionView, REPLICAS_MAX,
    Running,
};

pub const NODES_MAX: usize = 100_000;
pub const PARTITIONS_MAX: usize = 20_000_000;
/// Every amount is at most this, so that sums over a zone stay exact.
pub const AMOUNT_MAX: u64 = 1 << 50;

/// What is wrong with a snapshot or a change of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSnapshot {
    #[error("there are {found} {what}: there must be at most {max}")]
    Count { what: &'static str, found: usize, max: usize },
    #[error("{item}: {field} of \"{dimension}\" is {found}: it must be at most {AMOUNT_MAX}")]
    Amount { item: String, field: &'static str, dimension: &'static str, found: u64 },
    #[error("partition {partition}: {what} is on node {found}: there are {nodes} nodes")]
    NoNode { partition: PartitionId, what: &'static str, found: u32, nodes: usize },
    #[error(
        "partition {partition}: two replicas are on node {node}: they must be on distinct nodes"
    )]
    SameNode { partition: PartitionId, node: u32 },
    #[error("partition {partition}: {field} is {found}: it must be {min} to {REPLICAS_MAX}")]
    Replicas { partition: PartitionId, field: &'static str, found: u8, min: u8 },
    #[error("partition {partition}: replica {found} leads: it has {replicas} replicas")]
    Leader { partition: PartitionId, found: u8, replicas: u8 },
    #[error(
        "partition {partition}: it has {found} departures: it must have at most {DEPARTURES_MAX}"
    )]
    Departures { partition: PartitionId, found: usize },
    #[error("partition {partition}: {field} is {found}: it must be at most {max}")]
    Share { partition: PartitionId, field: &'static str, found: u16, max: u16 },
    #[error("{what} {found} is changed: the next one is {next}, so it must be at most that")]
    Gap { what: &'static str, found: usize, next: usize },
}

pub(super) fn check_count(
    what: &'static str,
    found: usize,
    max: usize,
) -> Result<(), InvalidSnapshot> {
    if found <= max { Ok(()) } else { Err(InvalidSnapshot::Count { what, found, max }) }
}

pub(super) fn check_next(
    what: &'static str,
    found: usize,
    next: usize,
) -> Result<(), InvalidSnapshot> {
    if found <= next { Ok(()) } else { Err(InvalidSnapshot::Gap { what, found, next }) }
}

pub(super) fn check_node(node: &NodeView) -> Result<(), InvalidSnapshot> {
    check_amounts(|| format!("node {}", node.id), "capacity", &node.capacity)
}

pub(super) fn check_partition(
    partition: &PartitionView,
    node_count: usize,
) -> Result<(), InvalidSnapshot> {
    let (id, replicas) = (partition.id, partition.replica_count);
    let fields =
        [("replica_count", replicas, 1), ("replicas_wanted", partition.replicas_wanted, 0)];
    for (field, found, min) in fields {
        if found < min || usize::from(found) > REPLICAS_MAX {
            return Err(InvalidSnapshot::Replicas { partition: id, field, found, min });
        }
    }
    if partition.leader >= replicas && partition.leader != NO_LEADER {
        return Err(InvalidSnapshot::Leader { partition: id, found: partition.leader, replicas });
    }
    let is_node = |what: &'static str, found: u32| {
        if (found as usize) < node_count {
            return Ok(());
        }
        Err(InvalidSnapshot::NoNode { partition: id, what, found, nodes: node_count })
    };
    for (replica, node) in partition.replicas().iter().enumerate() {
        is_node("a replica", *node)?;
        if partition.replicas()[..replica].contains(node) {
            return Err(InvalidSnapshot::SameNode { partition: id, node: *node });
        }
    }
    if let Running::Move { from, to } = partition.running {
        is_node("the source of a move", from)?;
        is_node("the destination of a move", to)?;
    }
    let shares = [
        ("split_left_permille", partition.split_left_permille, 999),
        ("hottest_key_permille", partition.hottest_key_permille, 1_000),
        ("noise_permille", partition.noise_permille, 1_000),
    ];
    for (field, found, max) in shares {
        if found > max {
            return Err(InvalidSnapshot::Share { partition: id, field, found, max });
        }
    }
    if partition.departures.len() > DEPARTURES_MAX {
        let found = partition.departures.len();
        return Err(InvalidSnapshot::Departures { partition: id, found });
    }
    // Departures may name nodes that are no longer listed: nothing goes there anyway.
    let item = || format!("partition {id}");
    check_amounts(item, "leader_heat", &partition.leader_heat)?;
    check_amounts(item, "follower_heat", &partition.follower_heat)
}

fn check_amounts(
    item: impl Fn() -> String,
    field: &'static str,
    amounts: &Amounts,
) -> Result<(), InvalidSnapshot> {
    match amounts.iter().zip(DIMENSION_NAMES).find(|(amount, _)| **amount > AMOUNT_MAX) {
        None => Ok(()),
        Some((found, dimension)) => {
            Err(InvalidSnapshot::Amount { item: item(), field, dimension, found: *found })
        }
    }
}
