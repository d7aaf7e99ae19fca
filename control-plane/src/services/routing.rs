//! `RoutingService`: the partition map, from any member's own applied state.

use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use futures_util::Stream;
use model::{NodeId, PartitionId, Revision, ZoneState};
use proto::v1::{
    GetPartitionMapRequest, PartitionMap, PartitionMapUpdate, WatchPartitionMapRequest,
    routing_service_server::RoutingService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::to_wire;
use crate::{member::Member, raft::view::MapChange};

/// Updates that wait for a slow watcher; while it is full, changes gather into the next update.
const UPDATES_WAITING_MAX: usize = 4;

/// The service of one member.
pub struct RoutingApi {
    member: Arc<Member>,
}

impl RoutingApi {
    pub fn new(member: Arc<Member>) -> Self {
        Self { member }
    }
}

fn not_initialized() -> Status {
    Status::failed_precondition("the zone is not initialised yet: run `init` first")
}

/// The map of the given partitions and nodes, and of the nodes that their routes name.
fn map_of(
    state: &ZoneState,
    partitions: impl Iterator<Item = PartitionId>,
    mut nodes: BTreeSet<NodeId>,
) -> Option<PartitionMap> {
    let zone_id = state.zone_id()?;
    let mut routes = Vec::new();
    for id in partitions {
        let Some(partition) = state.partition(id) else { continue };
        let route = to_wire::route(id, partition);
        nodes.extend(route.replicas.iter().map(|replica| NodeId(replica.node_id)));
        nodes.extend(Some(NodeId(route.leader_node_id)).filter(|node| node.get() != 0));
        routes.push(route);
    }
    let nodes = nodes
        .into_iter()
        .filter_map(|id| state.node(id).map(|node| to_wire::node_address(id, node)))
        .collect();
    Some(PartitionMap {
        zone_id: zone_id.to_string(),
        revision: state.revision().get(),
        partitions: routes,
        nodes,
    })
}

fn full_map(state: &ZoneState) -> Option<PartitionMap> {
    map_of(state, state.partitions_in_key_order().map(|(id, _)| id), BTreeSet::new())
}

/// What a watcher that has the map of `revision` lacks; none if nothing.
fn update(
    state: &ZoneState,
    revision: Revision,
    change: Option<MapChange>,
) -> Option<PartitionMapUpdate> {
    match change {
        // A revision that lies ahead is not of this zone's history.
        Some(change) if revision <= state.revision() && revision.get() > 0 => {
            if change.partitions.is_empty() && change.nodes.is_empty() {
                return None;
            }
            let map = map_of(state, change.partitions.into_iter(), change.nodes)?;
            Some(PartitionMapUpdate { full: false, map: Some(map) })
        }
        Some(_) | None => Some(PartitionMapUpdate { full: true, map: Some(full_map(state)?) }),
    }
}

/// Sends updates until the watcher goes or the member closes.
async fn watch(
    member: Arc<Member>,
    mut revision: Revision,
    updates: mpsc::Sender<Result<PartitionMapUpdate, Status>>,
) {
    let zone = Arc::clone(member.group().zone());
    let mut published = zone.subscribe();
    loop {
        published.mark_unchanged();
        let update = zone.changes_after(revision, |state, change| update(state, revision, change));
        if let Some(update) = update {
            revision = Revision(update.map.as_ref().map_or(0, |map| map.revision));
            let sent = tokio::select! {
                biased;
                () = member.closing().cancelled() => break,
                sent = updates.send(Ok(update)) => sent,
            };
            if sent.is_err() {
                return;
            }
        }
        tokio::select! {
            biased;
            () = member.closing().cancelled() => break,
            () = updates.closed() => return,
            changed = published.changed() => if changed.is_err() { break },
        }
    }
    let _ = updates.try_send(Err(Status::unavailable("this member stops: watch at another one")));
}

#[tonic::async_trait]
impl RoutingService for RoutingApi {
    async fn get_partition_map(
        &self,
        _request: Request<GetPartitionMapRequest>,
    ) -> Result<Response<PartitionMap>, Status> {
        let map = self.member.group().zone().read(full_map);
        map.map(Response::new).ok_or_else(not_initialized)
    }

    type WatchPartitionMapStream =
        Pin<Box<dyn Stream<Item = Result<PartitionMapUpdate, Status>> + Send>>;

    async fn watch_partition_map(
        &self,
        request: Request<WatchPartitionMapRequest>,
    ) -> Result<Response<Self::WatchPartitionMapStream>, Status> {
        if !self.member.group().zone().read(ZoneState::is_initialized) {
            return Err(not_initialized());
        }
        let after = Revision(request.into_inner().after_revision);
        let (sender, receiver) = mpsc::channel(UPDATES_WAITING_MAX);
        tokio::spawn(watch(Arc::clone(&self.member), after, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
