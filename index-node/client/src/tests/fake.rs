//! A fake control plane and fake index nodes: real servers with scripted answers.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use proto::v1::{
    self,
    error_detail::Kind,
    index_service_server::{IndexService, IndexServiceServer},
    routing_service_server::{RoutingService, RoutingServiceServer},
};
use runtime::{grpc::detail, seams::Environment};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request, Response, Status, service::Routes};

use crate::{Client, Options};

/// A server that stops when it is dropped.
pub(super) struct Server {
    pub(super) address: String,
    _stop: DropGuard,
}

pub(super) async fn serve(routes: Routes) -> Server {
    let environment = Environment::production();
    let listener = environment.network.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap().to_string();
    let stop = CancellationToken::new();
    let options = runtime::grpc::ServerOptions::default();
    let stopped = stop.clone();
    tokio::spawn(async move {
        runtime::grpc::serve(listener, routes, &options, stopped).await.unwrap();
    });
    Server { address, _stop: stop.drop_guard() }
}

/// An address that nobody listens on.
pub(super) async fn dead_address() -> String {
    let environment = Environment::production();
    let listener = environment.network.listen("127.0.0.1:0").await.unwrap();
    listener.local_address().unwrap().to_string()
}

/// What a node does with the next request.
pub(super) enum Behaviour {
    /// Answers with this error and does nothing.
    Refuse(Status),
    /// Does nothing and never answers.
    Silent,
    /// Does it, and never answers.
    DoneButSilent,
}

/// One request as the node saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) call: &'static str,
    pub(super) epoch: u64,
    pub(super) write_id: Option<v1::WriteId>,
}

/// One replica of one partition, by the documented protocol.
pub(super) struct Partition {
    pub(super) id: u64,
    pub(super) epoch: u64,
    pub(super) start: Bytes,
    pub(super) end: Bytes,
    pub(super) time_ms: u64,
    pub(super) script: VecDeque<Behaviour>,
    /// What it does when the script is over; none: its duty.
    pub(super) then: Option<fn() -> Behaviour>,
    pub(super) seen: Vec<Seen>,
    pub(super) data: BTreeMap<Bytes, v1::Item>,
    outcomes: BTreeMap<(u64, Bytes), Result<u64, Status>>,
    index: u64,
}

#[derive(Clone)]
pub(super) struct Node(Arc<Mutex<Partition>>);

impl Node {
    pub(super) fn of(id: u64, start: &'static str, end: &'static str) -> Self {
        Self(Arc::new(Mutex::new(Partition {
            id,
            epoch: 1,
            start: start.into(),
            end: end.into(),
            time_ms: 1_000_000,
            script: VecDeque::new(),
            then: None,
            seen: Vec::new(),
            data: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            index: 0,
        })))
    }

    pub(super) fn whole() -> Self {
        Self::of(1, "", "")
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Partition> {
        self.0.lock().unwrap()
    }

    pub(super) fn then(self, behaviour: fn() -> Behaviour) -> Self {
        self.state().then = Some(behaviour);
        self
    }

    pub(super) fn script(self, script: impl IntoIterator<Item = Behaviour>) -> Self {
        self.state().script = script.into_iter().collect();
        self
    }

    pub(super) async fn serve(&self) -> Server {
        serve(Routes::new(IndexServiceServer::new(self.clone()))).await
    }

    /// Notes the request, and plays the script. Whether the answer is to be kept back.
    async fn receive(&self, seen: Seen) -> Result<bool, Status> {
        let behaviour = {
            let mut state = self.state();
            state.seen.push(seen);
            let next = state.script.pop_front();
            next.or_else(|| state.then.map(|then| then()))
        };
        match behaviour {
            None => Ok(false),
            Some(Behaviour::DoneButSilent) => Ok(true),
            Some(Behaviour::Refuse(status)) => Err(status),
            Some(Behaviour::Silent) => std::future::pending().await,
        }
    }
}

impl Partition {
    fn check(&self, target: Option<&v1::Target>, key: &[u8]) -> Result<(), Status> {
        let target = target.unwrap();
        let inside = key >= self.start.as_ref() && (self.end.is_empty() || key < self.end.as_ref());
        if target.partition_id != self.id {
            return Err(not_here());
        }
        if target.range_epoch != self.epoch || !inside {
            return Err(wrong_range(self.id, self.epoch, &self.start, &self.end));
        }
        Ok(())
    }

    fn write(
        &mut self,
        key: &Bytes,
        value: Option<v1::ObjectMetadata>,
        condition: Option<v1::Condition>,
        write_id: Option<v1::WriteId>,
    ) -> Result<u64, Status> {
        let write_id = write_id.unwrap();
        assert_eq!(write_id.id.len(), 16);
        let expires = write_id.expires_at_ms;
        if expires < self.time_ms || expires > self.time_ms + 60_000 {
            return Err(partition_time(self.time_ms));
        }
        let outcome_key = (expires, write_id.id);
        if let Some(outcome) = self.outcomes.get(&outcome_key) {
            return outcome.clone();
        }
        self.index += 1;
        let version = self.index;
        let current = self.data.get(key).map_or(0, |item| item.version);
        let holds = match condition.and_then(|condition| condition.kind) {
            None => true,
            Some(v1::condition::Kind::Absent(_)) => current == 0,
            Some(v1::condition::Kind::VersionEquals(expected)) => current == expected,
        };
        let outcome = if holds { Ok(version) } else { Err(condition_failed(current)) };
        if holds {
            match value {
                Some(value) => {
                    let item = v1::Item { key: key.clone(), value: Some(value), version };
                    self.data.insert(key.clone(), item);
                }
                None => {
                    self.data.remove(key);
                }
            }
        }
        self.outcomes.insert(outcome_key, outcome.clone());
        outcome
    }
}

pub(super) fn wrong_leader(leader: u64, address: &str) -> Status {
    let leader = Some(v1::NodeAddress { node_id: leader, address: address.into() });
    let kind = Kind::WrongLeader(v1::WrongLeader { leader });
    detail::status(Code::FailedPrecondition, "this replica does not lead", kind)
}

pub(super) fn no_leader() -> Status {
    wrong_leader(0, "")
}

fn not_here() -> Status {
    let kind = Kind::UnknownReplica(v1::UnknownReplica::default());
    detail::status(Code::NotFound, "no such partition here", kind)
}

fn wrong_range(partition_id: u64, range_epoch: u64, start: &Bytes, end: &Bytes) -> Status {
    let range = Some(v1::KeyRange { start: start.clone(), end: end.clone() });
    let kind =
        Kind::WrongRange(v1::WrongRange { partition_id, range, range_epoch, split_off: None });
    detail::status(Code::FailedPrecondition, "the range has changed", kind)
}

pub(super) fn partition_time(now_ms: u64) -> Status {
    let kind = Kind::PartitionTime(v1::PartitionTime { now_ms });
    detail::status(Code::FailedPrecondition, "the expiry does not fit", kind)
}

/// What a node says that has too much to do for this key.
pub(super) fn retry_after(retry_after_ms: u64) -> Status {
    let kind = Kind::RetryAfter(v1::RetryAfter { retry_after_ms });
    detail::status(Code::ResourceExhausted, "too many requests of this key", kind)
}

fn condition_failed(current_version: u64) -> Status {
    let kind = Kind::ConditionFailed(v1::ConditionFailed { current_version });
    detail::status(Code::Aborted, "the condition does not hold", kind)
}

async fn answer<T>(kept_back: bool, answer: T) -> Result<Response<T>, Status> {
    if kept_back {
        return std::future::pending().await;
    }
    Ok(Response::new(answer))
}

#[tonic::async_trait]
impl IndexService for Node {
    async fn put(
        &self,
        request: Request<v1::PutRequest>,
    ) -> Result<Response<v1::PutResponse>, Status> {
        let v1::PutRequest { target, key, value, condition, write_id } = request.into_inner();
        let epoch = target.as_ref().unwrap().range_epoch;
        let kept_back =
            self.receive(Seen { call: "put", epoch, write_id: write_id.clone() }).await?;
        let response = {
            let mut state = self.state();
            state.check(target.as_ref(), &key)?;
            let version = state.write(&key, value, condition, write_id)?;
            v1::PutResponse { version, partition_time_ms: state.time_ms }
        };
        answer(kept_back, response).await
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let v1::GetRequest { target, key } = request.into_inner();
        let epoch = target.as_ref().unwrap().range_epoch;
        let kept_back = self.receive(Seen { call: "get", epoch, write_id: None }).await?;
        let response = {
            let state = self.state();
            state.check(target.as_ref(), &key)?;
            let item = state.data.get(&key).cloned();
            v1::GetResponse { item, partition_time_ms: state.time_ms }
        };
        answer(kept_back, response).await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let v1::DeleteRequest { target, key, condition, write_id } = request.into_inner();
        let epoch = target.as_ref().unwrap().range_epoch;
        let kept_back =
            self.receive(Seen { call: "delete", epoch, write_id: write_id.clone() }).await?;
        let response = {
            let mut state = self.state();
            state.check(target.as_ref(), &key)?;
            let existed = state.data.contains_key(&key);
            let version = state.write(&key, None, condition, write_id)?;
            v1::DeleteResponse { version, existed, partition_time_ms: state.time_ms }
        };
        answer(kept_back, response).await
    }

    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let v1::ListRequest { target, prefix, start_after, limit } = request.into_inner();
        let epoch = target.as_ref().unwrap().range_epoch;
        let kept_back = self.receive(Seen { call: "list", epoch, write_id: None }).await?;
        let response = {
            let state = self.state();
            if target.unwrap().range_epoch != state.epoch {
                return Err(wrong_range(state.id, state.epoch, &state.start, &state.end));
            }
            let matching = state.data.values().filter(|item| {
                item.key.starts_with(&prefix) && (start_after.is_empty() || item.key > start_after)
            });
            let limit = usize::try_from(limit).unwrap();
            let mut items: Vec<v1::Item> = matching.take(limit + 1).cloned().collect();
            let more_here = items.len() > limit;
            items.truncate(limit);
            let covered_to = if more_here {
                [items.last().unwrap().key.as_ref(), &[0]].concat().into()
            } else {
                state.end.clone()
            };
            v1::ListResponse { items, covered_to, more_here, partition_time_ms: state.time_ms }
        };
        answer(kept_back, response).await
    }
}

/// A fake member: gives the map that it was last given.
#[derive(Clone)]
pub(super) struct Member {
    map: Arc<watch::Sender<Option<v1::PartitionMap>>>,
    /// Its watch says nothing.
    quiet: bool,
}

impl Member {
    pub(super) fn with(map: v1::PartitionMap) -> Self {
        Self { map: Arc::new(watch::Sender::new(Some(map))), quiet: false }
    }

    pub(super) fn uninitialized() -> Self {
        Self { map: Arc::new(watch::Sender::new(None)), quiet: false }
    }

    pub(super) fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    pub(super) fn change(&self, map: v1::PartitionMap) {
        self.map.send_replace(Some(map));
    }

    pub(super) async fn serve(&self) -> Server {
        serve(Routes::new(RoutingServiceServer::new(self.clone()))).await
    }
}

#[tonic::async_trait]
impl RoutingService for Member {
    async fn get_partition_map(
        &self,
        _: Request<v1::GetPartitionMapRequest>,
    ) -> Result<Response<v1::PartitionMap>, Status> {
        let map = self.map.borrow().clone();
        map.map(Response::new).ok_or_else(|| Status::failed_precondition("not initialised"))
    }

    type WatchPartitionMapStream =
        Pin<Box<dyn Stream<Item = Result<v1::PartitionMapUpdate, Status>> + Send>>;

    async fn watch_partition_map(
        &self,
        _: Request<v1::WatchPartitionMapRequest>,
    ) -> Result<Response<Self::WatchPartitionMapStream>, Status> {
        if self.quiet {
            return Ok(Response::new(Box::pin(futures_util::stream::pending())));
        }
        let updates = tokio_stream::wrappers::WatchStream::new(self.map.subscribe())
            .map(|map| Ok(v1::PartitionMapUpdate { full: true, map }));
        Ok(Response::new(Box::pin(updates)))
    }
}

/// A route of partition `id` over the nodes 1 to `replicas`.
pub(super) fn route(
    id: u64,
    start: &'static str,
    end: &'static str,
    replicas: impl IntoIterator<Item = u64>,
    leader: u64,
) -> v1::PartitionRoute {
    v1::PartitionRoute {
        partition_id: id,
        range: Some(v1::KeyRange { start: start.into(), end: end.into() }),
        range_epoch: 1,
        replicas: replicas
            .into_iter()
            .map(|node_id| v1::ReplicaPlacement { replica_id: 10 + node_id, node_id })
            .collect(),
        leader_node_id: leader,
    }
}

pub(super) fn map(
    revision: u64,
    partitions: Vec<v1::PartitionRoute>,
    addresses: &[&str],
) -> v1::PartitionMap {
    let nodes = (1..).zip(addresses);
    let nodes =
        nodes.map(|(node_id, address)| v1::NodeAddress { node_id, address: (*address).into() });
    v1::PartitionMap { zone_id: "zone".into(), revision, partitions, nodes: nodes.collect() }
}

pub(super) fn options() -> Options {
    Options {
        attempt_timeout: Duration::from_millis(100),
        deadline: Duration::from_secs(20),
        ..Options::default()
    }
}

pub(super) async fn connect(member: &Server, options: Options) -> Client {
    let endpoints = [member.address.clone()];
    Client::connect(&Environment::production(), &endpoints, options).await.unwrap()
}

/// One partition over the given nodes, of which the first is believed to lead, and a client.
pub(super) async fn zone_of(addresses: &[&str], options: Options) -> (Client, Server, Member) {
    let count = u64::try_from(addresses.len()).unwrap();
    let member = Member::with(map(1, vec![route(1, "", "", 1..=count, 1)], addresses));
    let server = member.serve().await;
    (connect(&server, options).await, server, member)
}
