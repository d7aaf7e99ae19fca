//! What all requests of a client share: the partition map, partition times, and who is in doubt.
//!
//! **News.** A request that waits for its partition is woken when something has happened that makes
//! another attempt worth while: another leader, another range, or a success of somebody else.
//!
//! **Doubt.** A node that did not answer is in doubt for a moment: requests ask it last, except for one
//! in each moment, which finds out. Any answer of the node clears it.
//!
//! **Probing.** Of the requests that wait for one partition, one at a time holds the claim to probe it
//! with the short backoff.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::v1;
use runtime::seams::{Environment, Moment};
use tokio::sync::watch;

use crate::{
    identifiers::{NodeId, PartitionId},
    map::{MapError, Route, RoutingMap},
    partition_time::PartitionTimes,
    verdict::{Correction, Hint},
};

/// How long a node stays in doubt before one request tries it again.
const DOUBT: Duration = Duration::from_millis(200);

pub(crate) struct Directory {
    environment: Environment,
    state: Mutex<State>,
    /// Rises with every news of any partition.
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    map: Option<RoutingMap>,
    /// Whether the map came from a member, and not from a seed.
    confirmed: bool,
    times: PartitionTimes,
    /// Nodes in doubt, each until when.
    doubts: BTreeMap<NodeId, Moment>,
    /// Counts each partition's news since it first had some.
    news: BTreeMap<PartitionId, u64>,
    probed: BTreeSet<PartitionId>,
}

impl State {
    fn note_news(&mut self, partition: PartitionId) {
        *self.news.entry(partition).or_default() += 1;
    }
}

impl Directory {
    pub(crate) fn new(environment: Environment) -> Self {
        Self { environment, state: Mutex::default(), news: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Installs a map that was kept from an earlier run. The first map of a member replaces it, whatever
    /// zone it is of.
    pub(crate) fn seed(&self, map: v1::PartitionMap) -> Result<(), MapError> {
        let map = RoutingMap::from_full(map)?;
        self.state().map = Some(map);
        Ok(())
    }

    /// Installs a member's full map, unless it is older than the one that is known.
    pub(crate) fn install(&self, map: v1::PartitionMap) -> Result<(), MapError> {
        let map = RoutingMap::from_full(map)?;
        let mut guard = self.state();
        let state = &mut *guard;
        if let (Some(known), true) = (&state.map, state.confirmed) {
            if known.zone_id() != map.zone_id() {
                return Err(MapError::OtherZone {
                    expected: known.zone_id().to_owned(),
                    found: map.zone_id().to_owned(),
                });
            }
            if map.revision() < known.revision() {
                return Ok(());
            }
        }
        for route in map.routes() {
            let known = state.map.as_ref().and_then(|known| known.locate(&route.start));
            if known.is_none_or(|known| known != route) {
                *state.news.entry(route.partition).or_default() += 1;
            }
        }
        state.news.retain(|partition, _| map.has_partition(*partition));
        state.times.retain(|partition| map.has_partition(partition));
        state.map = Some(map);
        state.confirmed = true;
        drop(guard);
        self.announce();
        Ok(())
    }

    /// Applies a member's changes. Those up to the known revision are known already.
    pub(crate) fn apply_changes(&self, changes: v1::PartitionMap) -> Result<(), MapError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(map) = &mut state.map else { return Err(MapError::Empty) };
        if changes.zone_id != map.zone_id() {
            return Err(MapError::OtherZone {
                expected: map.zone_id().to_owned(),
                found: changes.zone_id,
            });
        }
        if changes.revision <= map.revision() {
            return Ok(());
        }
        for partition in map.apply_changes(changes)? {
            state.note_news(partition);
        }
        drop(guard);
        self.announce();
        Ok(())
    }

    /// The revision of the last map from a member; 0: none.
    pub(crate) fn revision(&self) -> u64 {
        let state = self.state();
        state.map.as_ref().filter(|_| state.confirmed).map_or(0, RoutingMap::revision)
    }

    pub(crate) fn to_wire(&self) -> Option<v1::PartitionMap> {
        self.state().map.as_ref().map(RoutingMap::to_wire)
    }

    pub(crate) fn locate(&self, key: &[u8]) -> Option<Arc<Route>> {
        self.state().map.as_ref()?.locate(key).cloned()
    }

    pub(crate) fn routes(&self) -> Vec<Arc<Route>> {
        self.state().map.as_ref().map(|map| map.routes().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        Some(self.state().map.as_ref()?.address(node)?.to_owned())
    }

    /// A replica named the leader. A node in doubt is not believed to lead on hearsay.
    pub(crate) fn note_hint(&self, partition: PartitionId, hint: &Hint) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(map) = &mut state.map else { return };
        if !hint.address.is_empty() {
            map.set_address(hint.leader, hint.address.clone());
        }
        let believed =
            !state.doubts.contains_key(&hint.leader) && map.set_leader(partition, hint.leader);
        if believed {
            state.note_news(partition);
            drop(guard);
            self.announce();
        }
    }

    /// `node` answered as the partition's leader.
    pub(crate) fn note_success(&self, partition: PartitionId, node: NodeId, time_ms: u64) {
        let now = self.environment.now();
        let mut guard = self.state();
        let state = &mut *guard;
        state.times.note(partition, time_ms, now);
        state.doubts.remove(&node);
        let moved = state.map.as_mut().is_some_and(|map| map.set_leader(partition, node));
        if moved || state.probed.contains(&partition) {
            state.note_news(partition);
            drop(guard);
            self.announce();
        }
    }

    pub(crate) fn note_time(&self, partition: PartitionId, time_ms: u64) {
        let now = self.environment.now();
        self.state().times.note(partition, time_ms, now);
    }

    pub(crate) fn expiry(&self, partition: PartitionId, remaining: Duration) -> Option<u64> {
        let now = self.environment.now();
        self.state().times.expiry(partition, remaining, now)
    }

    /// Whether the map is better now than it was.
    pub(crate) fn correct_range(&self, correction: &Correction) -> bool {
        let mut guard = self.state();
        let state = &mut *guard;
        let corrected = state.map.as_mut().is_some_and(|map| map.correct_range(correction));
        if corrected {
            state.note_news(correction.partition);
            drop(guard);
            self.announce();
        }
        corrected
    }

    /// The node answered something, so it is alive.
    pub(crate) fn note_alive(&self, node: NodeId) {
        self.state().doubts.remove(&node);
    }

    /// The node did not answer.
    pub(crate) fn note_unreached(&self, node: NodeId) {
        let until = self.environment.now() + DOUBT;
        self.state().doubts.insert(node, until);
    }

    /// Whether the node should rather not be asked now. When its time of doubt is over, one caller is
    /// told no, and with that finds out for everybody.
    pub(crate) fn doubtful(&self, node: NodeId) -> bool {
        let now = self.environment.now();
        match self.state().doubts.get_mut(&node) {
            None => false,
            Some(until) if now < *until => true,
            Some(until) => {
                *until = now + DOUBT;
                false
            }
        }
    }

    /// A number that has changed when there was news of the partition.
    pub(crate) fn news_of(&self, partition: PartitionId) -> u64 {
        self.state().news.get(&partition).copied().unwrap_or(0)
    }

    /// Waits until there is news of the partition since `seen`.
    pub(crate) async fn news_after(&self, partition: PartitionId, seen: u64) {
        let mut receiver = self.news.subscribe();
        while self.news_of(partition) == seen {
            if receiver.changed().await.is_err() {
                // The sender lives in this directory: it is not closed while somebody waits here.
                return;
            }
        }
    }

    /// Waits until there is any news.
    pub(crate) async fn any_news(&self) {
        // An error would mean that the sender is gone; it lives in this directory.
        let _ = self.news.subscribe().changed().await;
    }

    /// The claim to probe the partition, if nobody holds it.
    pub(crate) fn claim(self: &Arc<Self>, partition: PartitionId) -> Option<ProbeClaim> {
        let claimed = self.state().probed.insert(partition);
        claimed.then(|| ProbeClaim { directory: Arc::clone(self), partition })
    }

    /// Whether somebody is probing the partition.
    pub(crate) fn is_probed(&self, partition: PartitionId) -> bool {
        self.state().probed.contains(&partition)
    }
}

/// Held by the request that probes a partition; let go of when it is dropped.
pub(crate) struct ProbeClaim {
    directory: Arc<Directory>,
    partition: PartitionId,
}

impl ProbeClaim {
    pub(crate) fn partition(&self) -> PartitionId {
        self.partition
    }
}

impl Drop for ProbeClaim {
    fn drop(&mut self) {
        self.directory.state().probed.remove(&self.partition);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn directory(revision: u64) -> Arc<Directory> {
        let directory = Directory::new(Environment::production());
        directory.install(map("zone", revision)).unwrap();
        Arc::new(directory)
    }

    fn map(zone: &str, revision: u64) -> v1::PartitionMap {
        let placement = |node_id| v1::ReplicaPlacement { replica_id: node_id, node_id };
        v1::PartitionMap {
            zone_id: zone.into(),
            revision,
            partitions: vec![v1::PartitionRoute {
                partition_id: 1,
                range: Some(v1::KeyRange::default()),
                range_epoch: revision,
                replicas: vec![placement(1), placement(2)],
                leader_node_id: 1,
            }],
            nodes: Vec::new(),
        }
    }

    #[test]
    fn an_older_map_changes_nothing() {
        let directory = directory(5);
        directory.install(map("zone", 4)).unwrap();
        directory.apply_changes(map("zone", 5)).unwrap();
        assert_eq!(directory.locate(b"k").unwrap().epoch.0, 5);
        directory.apply_changes(map("zone", 6)).unwrap();
        assert_eq!(directory.revision(), 6);
    }

    #[test]
    fn another_zones_map_is_refused_unless_ours_was_only_a_seed() {
        let directory = directory(5);
        assert!(matches!(directory.install(map("other", 9)), Err(MapError::OtherZone { .. })));
        let seeded = Directory::new(Environment::production());
        seeded.seed(map("old", 70)).unwrap();
        assert_eq!(seeded.revision(), 0, "a seed is asked for anew");
        seeded.install(map("new", 2)).unwrap();
        assert_eq!(seeded.revision(), 2);
    }

    #[test]
    fn hearsay_does_not_make_a_doubtful_node_the_leader() {
        let directory = directory(1);
        directory.note_unreached(NodeId(2));
        let hint = Hint { leader: NodeId(2), address: "b:2".into() };
        directory.note_hint(PartitionId(1), &hint);
        assert_eq!(directory.locate(b"k").unwrap().leader, Some(NodeId(1)));
        assert_eq!(directory.address(NodeId(2)).as_deref(), Some("b:2"));
        directory.note_alive(NodeId(2));
        directory.note_hint(PartitionId(1), &hint);
        assert_eq!(directory.locate(b"k").unwrap().leader, Some(NodeId(2)));
    }

    #[test]
    fn one_request_at_a_time_probes() {
        let directory = directory(1);
        let claim = directory.claim(PartitionId(1)).unwrap();
        assert!(directory.claim(PartitionId(1)).is_none());
        assert!(directory.is_probed(PartitionId(1)));
        drop(claim);
        assert!(directory.claim(PartitionId(1)).is_some());
    }

    #[tokio::test]
    async fn a_success_is_news_to_those_who_wait() {
        let directory = directory(1);
        let seen = directory.news_of(PartitionId(1));
        let _claim = directory.claim(PartitionId(1));
        let waiting = {
            let directory = Arc::clone(&directory);
            tokio::spawn(async move { directory.news_after(PartitionId(1), seen).await })
        };
        directory.note_success(PartitionId(1), NodeId(1), 7);
        waiting.await.unwrap();
        assert_eq!(directory.expiry(PartitionId(9), Duration::ZERO), None);
        assert!(directory.locate(&Bytes::from_static(b"k")).is_some());
    }
}
