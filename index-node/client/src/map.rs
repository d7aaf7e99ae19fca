//! The partition map: which partition a key belongs to, and where its replicas are.
//!
//! Pure. A full map covers the key space exactly when it is installed. Corrections from the hints of
//! index nodes may leave holes and overlaps until the next map: a key in a hole has no route, and a
//! wrong route is corrected by the node that it leads to.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use proto::v1;

use crate::{
    identifiers::{NodeId, PartitionId, RangeEpoch},
    verdict::Correction,
};

/// What the client believes of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub partition: PartitionId,
    /// First key of the range. Empty: from the lowest key.
    pub start: Bytes,
    /// First key beyond the range. Empty: to the highest key.
    pub end: Bytes,
    pub epoch: RangeEpoch,
    /// The nodes that hold a replica, in the order of their ids.
    pub replicas: Vec<NodeId>,
    /// The node believed to lead.
    pub leader: Option<NodeId>,
}

impl Route {
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && (self.end.is_empty() || key < self.end.as_ref())
    }

    /// The route to a partition as it was split off.
    pub(crate) fn split_off(child: v1::SplitOff) -> Result<Self, MapError> {
        route(v1::PartitionRoute {
            partition_id: child.partition_id,
            range: child.range,
            range_epoch: child.range_epoch,
            replicas: child.replicas,
            leader_node_id: child.leader_node_id,
        })
    }
}

/// Why a partition map cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MapError {
    #[error("partition {0} has no range")]
    NoRange(PartitionId),
    #[error("partition {0} has an empty or inverted range")]
    EmptyRange(PartitionId),
    #[error("no partition covers the key {at:?}")]
    Gap { at: Bytes },
    #[error("the partitions {0} and {1} overlap")]
    Overlap(PartitionId, PartitionId),
    #[error("there is no partition in it")]
    Empty,
    #[error("it belongs to the zone {found}, and this client to the zone {expected}")]
    OtherZone { expected: String, found: String },
}

/// The map with its corrections.
#[derive(Clone, Debug)]
pub(crate) struct RoutingMap {
    zone_id: String,
    revision: u64,
    by_start: BTreeMap<Bytes, Arc<Route>>,
    start_of: BTreeMap<PartitionId, Bytes>,
    addresses: BTreeMap<NodeId, String>,
}

/// Hints do not add addresses beyond this: a node that goes mad cannot fill the memory.
const ADDRESSES_MAX: usize = 65_536;

/// Converts one route from the wire.
fn route(wire: v1::PartitionRoute) -> Result<Route, MapError> {
    let partition = PartitionId(wire.partition_id);
    let v1::KeyRange { start, end } = wire.range.ok_or(MapError::NoRange(partition))?;
    if !end.is_empty() && start >= end {
        return Err(MapError::EmptyRange(partition));
    }
    let mut replicas: Vec<NodeId> =
        wire.replicas.iter().filter_map(|placement| NodeId::known(placement.node_id)).collect();
    replicas.sort_unstable();
    replicas.dedup();
    Ok(Route {
        partition,
        start,
        end,
        epoch: RangeEpoch(wire.range_epoch),
        replicas,
        leader: NodeId::known(wire.leader_node_id),
    })
}

fn check_cover(by_start: &BTreeMap<Bytes, Arc<Route>>) -> Result<(), MapError> {
    let mut previous: Option<&Route> = None;
    for route in by_start.values() {
        let expected = match previous {
            None => Bytes::new(),
            Some(previous) if previous.end.is_empty() || previous.end > route.start => {
                return Err(MapError::Overlap(previous.partition, route.partition));
            }
            Some(previous) => previous.end.clone(),
        };
        if route.start != expected {
            return Err(MapError::Gap { at: expected });
        }
        previous = Some(route);
    }
    match previous {
        None => Err(MapError::Empty),
        Some(last) if !last.end.is_empty() => Err(MapError::Gap { at: last.end.clone() }),
        Some(_) => Ok(()),
    }
}

impl RoutingMap {
    /// # Errors
    /// If the ranges do not cover the key space exactly.
    pub(crate) fn from_full(map: v1::PartitionMap) -> Result<Self, MapError> {
        let mut by_start: BTreeMap<Bytes, Arc<Route>> = BTreeMap::new();
        let mut start_of = BTreeMap::new();
        for wire in map.partitions {
            let route = route(wire)?;
            start_of.insert(route.partition, route.start.clone());
            let partition = route.partition;
            if let Some(other) = by_start.insert(route.start.clone(), Arc::new(route)) {
                return Err(MapError::Overlap(other.partition, partition));
            }
        }
        check_cover(&by_start)?;
        let addresses = addresses(map.nodes).collect();
        Ok(Self { zone_id: map.zone_id, revision: map.revision, by_start, start_of, addresses })
    }

    /// Applies what changed. The ids of the partitions whose routes are new.
    pub(crate) fn apply_changes(
        &mut self,
        changes: v1::PartitionMap,
    ) -> Result<Vec<PartitionId>, MapError> {
        let routes = changes.partitions.into_iter().map(route).collect::<Result<Vec<_>, _>>()?;
        let mut changed = Vec::with_capacity(routes.len());
        // All old ranges go before the new ones come: in a split, the parent's end moves first.
        for route in &routes {
            self.remove(route.partition);
        }
        for route in routes {
            changed.push(route.partition);
            self.insert(route);
        }
        self.addresses.extend(addresses(changes.nodes));
        self.revision = changes.revision;
        Ok(changed)
    }

    fn remove(&mut self, partition: PartitionId) {
        if let Some(start) = self.start_of.remove(&partition)
            && self.by_start.get(&start).is_some_and(|route| route.partition == partition)
        {
            self.by_start.remove(&start);
        }
    }

    fn insert(&mut self, route: Route) {
        self.remove(route.partition);
        self.start_of.insert(route.partition, route.start.clone());
        if let Some(displaced) = self.by_start.insert(route.start.clone(), Arc::new(route)) {
            self.start_of.remove(&displaced.partition);
        }
    }

    pub(crate) fn zone_id(&self) -> &str {
        &self.zone_id
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn has_partition(&self, partition: PartitionId) -> bool {
        self.start_of.contains_key(&partition)
    }

    /// The route of the partition that holds `key`.
    pub(crate) fn locate(&self, key: &[u8]) -> Option<&Arc<Route>> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let (_, route) = self.by_start.range::<[u8], _>(upto).next_back()?;
        route.contains(key).then_some(route)
    }

    pub(crate) fn address(&self, node: NodeId) -> Option<&str> {
        self.addresses.get(&node).map(String::as_str)
    }

    /// In key order.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_start.values()
    }

    /// A node said, or showed, that `leader` leads. Whether that is new.
    pub(crate) fn set_leader(&mut self, partition: PartitionId, leader: NodeId) -> bool {
        let Some(start) = self.start_of.get(&partition) else { return false };
        let route = self.by_start.get_mut(start).expect("every start in start_of is in by_start");
        if route.leader == Some(leader) {
            return false;
        }
        Arc::make_mut(route).leader = Some(leader);
        true
    }

    /// A node said where it, or another one, is reached.
    pub(crate) fn set_address(&mut self, node: NodeId, address: String) {
        if self.addresses.contains_key(&node) || self.addresses.len() < ADDRESSES_MAX {
            self.addresses.insert(node, address);
        }
    }

    /// A replica said what its partition's range is. Whether that is newer than what was known.
    pub(crate) fn correct_range(&mut self, correction: &Correction) -> bool {
        let Some(start) = self.start_of.get(&correction.partition) else { return false };
        let known = self.by_start.get(start).expect("every start in start_of is in by_start");
        let sane = correction.end.is_empty() || correction.start < correction.end;
        if !sane || correction.epoch <= known.epoch {
            return false;
        }
        let corrected = Route {
            start: correction.start.clone(),
            end: correction.end.clone(),
            epoch: correction.epoch,
            ..Route::clone(known)
        };
        let until = known.end.clone();
        self.insert(corrected);
        if let Some(child) = &correction.split_off {
            self.fill_hole(&correction.end, &until, child);
        }
        true
    }

    /// A child that begins where its parent's keys end now, and ends where they ended before.
    fn fill_hole(&mut self, from: &Bytes, until: &Bytes, child: &Route) {
        let fits = !from.is_empty() && child.start == from && child.end == until;
        if fits && !self.has_partition(child.partition) && self.locate(from).is_none() {
            runtime::mark!("client: a hint to a child was followed");
            self.insert(child.clone());
        }
    }

    /// The map as the wire knows it, to be kept and given to a later client.
    pub(crate) fn to_wire(&self) -> v1::PartitionMap {
        let partitions = self.by_start.values().map(|route| v1::PartitionRoute {
            partition_id: route.partition.0,
            range: Some(v1::KeyRange { start: route.start.clone(), end: route.end.clone() }),
            range_epoch: route.epoch.0,
            replicas: route
                .replicas
                .iter()
                .map(|node| v1::ReplicaPlacement { replica_id: 0, node_id: node.0 })
                .collect(),
            leader_node_id: route.leader.map_or(0, |node| node.0),
        });
        let nodes = self
            .addresses
            .iter()
            .map(|(node, address)| v1::NodeAddress { node_id: node.0, address: address.clone() });
        v1::PartitionMap {
            zone_id: self.zone_id.clone(),
            revision: self.revision,
            partitions: partitions.collect(),
            nodes: nodes.collect(),
        }
    }
}

fn addresses(nodes: Vec<v1::NodeAddress>) -> impl Iterator<Item = (NodeId, String)> {
    nodes
        .into_iter()
        .filter(|node| !node.address.is_empty())
        .filter_map(|node| Some((NodeId::known(node.node_id)?, node.address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire_route(id: u64, start: &str, end: &str, epoch: u64) -> v1::PartitionRoute {
        v1::PartitionRoute {
            partition_id: id,
            range: Some(v1::KeyRange {
                start: Bytes::copy_from_slice(start.as_bytes()),
                end: Bytes::copy_from_slice(end.as_bytes()),
            }),
            range_epoch: epoch,
            replicas: vec![
                v1::ReplicaPlacement { replica_id: 1, node_id: 2 },
                v1::ReplicaPlacement { replica_id: 2, node_id: 1 },
            ],
            leader_node_id: 1,
        }
    }

    fn wire_map(revision: u64, partitions: Vec<v1::PartitionRoute>) -> v1::PartitionMap {
        let nodes = vec![v1::NodeAddress { node_id: 1, address: "a:1".into() }];
        v1::PartitionMap { zone_id: "zone".into(), revision, partitions, nodes }
    }

    fn partition_at(map: &RoutingMap, key: &[u8]) -> Option<u64> {
        map.locate(key).map(|route| route.partition.0)
    }

    #[test]
    fn keys_are_located_by_their_range() {
        let map = wire_map(1, vec![wire_route(1, "", "m", 1), wire_route(2, "m", "", 1)]);
        let map = RoutingMap::from_full(map).unwrap();
        assert_eq!(partition_at(&map, b""), Some(1));
        assert_eq!(partition_at(&map, b"lzzz"), Some(1));
        assert_eq!(partition_at(&map, b"m"), Some(2));
        assert_eq!(partition_at(&map, b"\xff\xff"), Some(2));
        assert_eq!(map.locate(b"a").unwrap().replicas, vec![NodeId(1), NodeId(2)]);
        assert_eq!(map.address(NodeId(1)), Some("a:1"));
    }

    #[test]
    fn a_full_map_must_cover_the_key_space_exactly() {
        let full = |routes| RoutingMap::from_full(wire_map(1, routes)).map(|_| ()).unwrap_err();
        assert_eq!(full(vec![]), MapError::Empty);
        assert_eq!(full(vec![wire_route(1, "a", "", 1)]), MapError::Gap { at: Bytes::new() });
        assert_eq!(
            full(vec![wire_route(1, "", "b", 1), wire_route(2, "c", "", 1)]),
            MapError::Gap { at: Bytes::from_static(b"b") }
        );
        assert_eq!(
            full(vec![wire_route(1, "", "c", 1), wire_route(2, "b", "", 1)]),
            MapError::Overlap(PartitionId(1), PartitionId(2))
        );
        assert_eq!(
            full(vec![wire_route(1, "", "b", 1)]),
            MapError::Gap { at: Bytes::from_static(b"b") }
        );
        assert_eq!(full(vec![wire_route(1, "b", "a", 1)]), MapError::EmptyRange(PartitionId(1)));
    }

    #[test]
    fn changes_replace_routes_by_partition() {
        let mut map = RoutingMap::from_full(wire_map(1, vec![wire_route(1, "", "", 1)])).unwrap();
        // A split: partition 1 keeps the left half.
        let changes = wire_map(2, vec![wire_route(2, "m", "", 1), wire_route(1, "", "m", 2)]);
        let changed = map.apply_changes(changes).unwrap();
        assert_eq!(changed, vec![PartitionId(2), PartitionId(1)]);
        assert_eq!(map.revision(), 2);
        assert_eq!(partition_at(&map, b"a"), Some(1));
        assert_eq!(partition_at(&map, b"x"), Some(2));
        // A split whose left half is the new one.
        let changes = wire_map(3, vec![wire_route(3, "", "c", 1), wire_route(1, "c", "m", 3)]);
        map.apply_changes(changes).unwrap();
        assert_eq!(partition_at(&map, b"a"), Some(3));
        assert_eq!(partition_at(&map, b"d"), Some(1));
        assert!(check_cover(&map.by_start).is_ok());
    }

    #[test]
    fn a_correction_counts_only_if_it_is_newer() {
        let mut map = RoutingMap::from_full(wire_map(1, vec![wire_route(1, "", "", 5)])).unwrap();
        let correction = |epoch| Correction {
            partition: PartitionId(1),
            start: Bytes::new(),
            end: Bytes::from_static(b"m"),
            epoch: RangeEpoch(epoch),
            split_off: None,
        };
        assert!(!map.correct_range(&correction(5)));
        assert!(map.correct_range(&correction(6)));
        assert_eq!(partition_at(&map, b"a"), Some(1));
        assert_eq!(partition_at(&map, b"x"), None, "a hole until the next map");
        assert_eq!(map.locate(b"a").unwrap().epoch, RangeEpoch(6));
    }

    #[test]
    fn a_child_fills_the_hole_that_its_parent_leaves() {
        let child = |id, start, end| Route {
            epoch: RangeEpoch(6),
            ..route(wire_route(id, start, end, 6)).unwrap()
        };
        let correction = |split_off| Correction {
            partition: PartitionId(1),
            start: Bytes::new(),
            end: Bytes::from_static(b"m"),
            epoch: RangeEpoch(6),
            split_off: Some(split_off),
        };
        let map = || RoutingMap::from_full(wire_map(1, vec![wire_route(1, "", "", 5)])).unwrap();
        let mut split = map();
        assert!(split.correct_range(&correction(child(9, "m", ""))));
        assert_eq!((partition_at(&split, b"a"), partition_at(&split, b"x")), (Some(1), Some(9)));
        assert!(check_cover(&split.by_start).is_ok());
        for (start, end) in [("n", ""), ("a", ""), ("m", "x")] {
            let mut other = map();
            assert!(other.correct_range(&correction(child(9, start, end))));
            assert_eq!(partition_at(&other, b"n"), None, "from {start:?} to {end:?}");
        }
    }

    #[test]
    fn a_map_survives_the_trip_through_the_wire() {
        let routes = vec![wire_route(1, "", "m", 1), wire_route(2, "m", "", 4)];
        let map = RoutingMap::from_full(wire_map(9, routes)).unwrap();
        let again = RoutingMap::from_full(map.to_wire()).unwrap();
        assert_eq!(again.by_start, map.by_start);
        assert_eq!(again.revision(), 9);
        assert_eq!(again.addresses, map.addresses);
    }
}
