//! One index node, from its data directory to its end: brings the parts together.
//!
//! Production and simulation enter by the same [`run`]; they differ in the seams, and in where the
//! agent's tasks run.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::FutureExt;
use planted::Bug;
use proto::v1::{
    index_service_server::{self, IndexServiceServer},
    peer_service_server::{self, PeerServiceServer},
};
use runtime::{
    grpc::{self, ChannelOptions, Channels, MESSAGE_BYTES_MAX, ServerOptions, TlsError},
    seams::{Environment, Listener},
    store::{Store, StoreError},
};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    agent::{Agent, Contact, Registrar, Registration, Signs, watch_disk, watch_lag, watch_syncs},
    configuration::Configuration,
    engine::{
        host::{HostError, HostSetup, ReplicaHost},
        node_records::{self, NodeRecords, RecordsError},
        options::EngineOptions,
        service::IndexApi,
        turns::TurnLimits,
        types::NodeId,
    },
    handover,
    orders::{self, EngineOrders},
    peer::{
        Addresses, Appointer, ConnectionWatch, LinkContext, LinkTransport, Links, PeerApi,
        SnapshotLimits, SnapshotSender,
    },
    place::Place,
    telemetry,
};

/// How often it is looked which peers share a partition with this node.
const NEIGHBOURS_INTERVAL: Duration = Duration::from_millis(500);
/// Refusals of orders that may wait for the session.
const REFUSALS_WAITING_MAX: usize = 1_024;
/// The longest that requests may wait for other nodes at the end.
const SETTLE_LIMIT: Duration = Duration::from_millis(300);
/// The longest that requests under way may take after that.
const LAST_REQUESTS_LIMIT: Duration = Duration::from_secs(2);

/// Why a node could not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the data directory cannot be used")]
    Records(#[source] RecordsError),
    #[error("the partitions in the data directory cannot be opened")]
    Host(#[source] HostError),
    #[error("cannot listen on {address}")]
    Listen {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    #[error("the server failed")]
    Serve(#[source] grpc::ServeError),
    #[error("the store failed")]
    Store(#[source] StoreError),
    #[error("the store failed while serving; the node has stopped before it could do harm")]
    StoreGone,
    #[error("a part of the node has stopped: {0}")]
    Part(String),
}

impl Error {
    /// Whether the data directory is at fault, so that starting again cannot help.
    pub fn is_data_directory(&self) -> bool {
        match self {
            Self::Records(_) | Self::Host(_) => true,
            Self::Listen { .. }
            | Self::Tls(_)
            | Self::Serve(_)
            | Self::Store(_)
            | Self::StoreGone
            | Self::Part(_) => false,
        }
    }
}

/// Runs an index node until `shutdown`, on the calling runtime.
///
/// # Errors
/// If it cannot start, or its store or server fails.
pub async fn run(
    environment: Environment,
    store: Arc<dyn Store>,
    configuration: Configuration,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let control = tokio::runtime::Handle::current();
    run_with_control(environment, store, configuration, control, shutdown).await
}

/// The same; what must not be delayed by data traffic runs on `control`.
///
/// # Errors
/// As [`run`].
pub async fn run_with_control(
    environment: Environment,
    store: Arc<dyn Store>,
    configuration: Configuration,
    control: tokio::runtime::Handle,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    telemetry::describe();
    if planted::is_planted(Bug::WipedDiskVotes) {
        NodeRecords::name_for_identity(store.as_ref(), &configuration.name)
            .map_err(Error::Store)?;
    }
    let records =
        NodeRecords::open(Arc::clone(&store), &environment).await.map_err(Error::Records)?;
    let incarnation = records.begin_incarnation().await.map_err(Error::Store)?;
    let address = configuration.listen_address.clone();
    let listener = environment
        .network
        .listen(&address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    tracing::info!(
        identity = %records.identity(),
        incarnation,
        listen_address = configuration.listen_address,
        "index node {} starts",
        configuration.name
    );

    let contact = Arc::new(Contact::new(Arc::clone(&environment.clock)));
    let registrar = registrar(&configuration, &records, incarnation);
    let start = Start { environment, store, configuration, control, shutdown, contact };
    let Some((registrar, place)) = start.find_place(&records, registrar, incarnation).await? else {
        return Ok(());
    };
    let node = start.open(place).await?;
    node.serve(start, listener, registrar).await
}

fn registrar(configuration: &Configuration, records: &NodeRecords, incarnation: u64) -> Registrar {
    let known = records.registration().map(|known| (known.zone_id, known.node_id));
    let registration = Registration {
        identity: records.identity(),
        known,
        incarnation,
        name: configuration.name.clone(),
        address: configuration.reached_at().to_owned(),
        fault_domain: configuration.fault_domain.clone(),
        capacity_bytes: configuration.capacity_bytes,
        cores: configuration.cores.max(1),
    };
    Registrar::new(registration, configuration.control_plane_endpoints.clone())
}

/// What a node is started with.
struct Start {
    environment: Environment,
    store: Arc<dyn Store>,
    configuration: Configuration,
    control: tokio::runtime::Handle,
    shutdown: CancellationToken,
    contact: Arc<Contact>,
}

/// The parts that exist once the node knows its place in a zone.
struct Node {
    place: Place,
    host: Arc<ReplicaHost>,
    watch: Arc<ConnectionWatch>,
    addresses: Arc<Addresses>,
    links: Arc<Links>,
    channels: Channels,
    /// Ends what serves peers and clients: later than `shutdown`, after leaderships were handed over.
    stop: CancellationToken,
}

impl Start {
    fn channel_options(&self) -> ChannelOptions {
        ChannelOptions { tls: self.configuration.tls.clone(), ..ChannelOptions::default() }
    }

    fn channels(&self) -> Result<Channels, Error> {
        Ok(Channels::new(&self.environment, self.channel_options())?)
    }

    /// The node's place in its zone: known from an earlier start, or given by the control plane now,
    /// however long that takes. None if the node is stopped meanwhile.
    async fn find_place(
        &self,
        records: &NodeRecords,
        mut registrar: Registrar,
        incarnation: u64,
    ) -> Result<Option<(Registrar, Place)>, Error> {
        let known = match records.registration() {
            Some(known) => known,
            None => {
                let channels = self.channels()?;
                let registered = tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => return Ok(None),
                    registered = registrar.register(&self.environment, &channels) => registered,
                };
                let registration = node_records::Registration {
                    zone_id: registered.zone_id,
                    node_id: registered.node,
                };
                records.set_registration(registration.clone()).await.map_err(Error::Store)?;
                tracing::info!(
                    zone = registration.zone_id,
                    node = %registration.node_id,
                    "joined a zone"
                );
                registration
            }
        };
        let place = Place {
            zone_id: known.zone_id,
            node: known.node_id,
            incarnation,
            address: self.configuration.reached_at().to_owned(),
        };
        Ok(Some((registrar, place)))
    }

    fn engine_options(&self) -> EngineOptions {
        let Configuration { raft, hot_keys, .. } = &self.configuration;
        let requests = |count| usize::try_from(count).unwrap_or(usize::MAX);
        EngineOptions {
            heartbeat_interval: Duration::from_millis(raft.heartbeat_interval_ms),
            election_timeout_min: Duration::from_millis(raft.election_timeout_min_ms),
            election_timeout_max: Duration::from_millis(raft.election_timeout_max_ms),
            log_entries_per_snapshot: raft.entries_per_snapshot,
            log_entries_kept: raft.entries_kept,
            turns: TurnLimits::new(
                requests(hot_keys.partition_crowd),
                requests(hot_keys.key_share),
                requests(hot_keys.key_waiting_max),
            ),
            turn_wait_max: Duration::from_millis(hot_keys.key_wait_max_ms),
            ..EngineOptions::default()
        }
    }

    /// Opens every replica that is here, with its way to its peers.
    async fn open(&self, place: Place) -> Result<Node, Error> {
        let timers = &self.configuration.peers;
        let watch = Arc::new(ConnectionWatch::new(timers.ping_interval(), timers.lost_after()));
        let addresses = Arc::new(Addresses::default());
        let stop = CancellationToken::new();
        let links = Arc::new(Links::new(
            LinkContext {
                environment: self.environment.clone(),
                place: place.clone(),
                addresses: Arc::clone(&addresses),
                channels: self.channels()?,
                watch: Arc::clone(&watch),
                ping_interval: timers.ping_interval(),
                lost_after: timers.lost_after(),
            },
            stop.clone(),
        ));
        let Configuration { snapshot_bytes_per_second_max, snapshot_chunk_bytes_max, .. } =
            self.configuration;
        let limits = SnapshotLimits {
            bytes_per_second_max: snapshot_bytes_per_second_max,
            chunk_bytes_max: usize::try_from(snapshot_chunk_bytes_max).unwrap_or(usize::MAX),
        };
        let snapshots = SnapshotSender::new(
            self.environment.clone(),
            &place.zone_id,
            Arc::clone(&addresses),
            self.channels()?,
            limits,
        );
        let setup = HostSetup {
            environment: self.environment.clone(),
            store: Arc::clone(&self.store),
            node: place.node,
            zone_id: place.zone_id.clone(),
            transport: Arc::new(LinkTransport::new(Arc::clone(&links), snapshots)),
            watch: Arc::<ConnectionWatch>::clone(&watch),
            options: self.engine_options(),
        };
        let host = ReplicaHost::open(setup).await.map_err(Error::Host)?;
        addresses.open(Arc::downgrade(&host));
        let channels = self.channels()?;
        Ok(Node { place, host, watch, addresses, links, channels, stop })
    }
}

impl Node {
    /// Serves until the node is stopped or fails.
    async fn serve(
        self,
        start: Start,
        listener: Box<dyn Listener>,
        registrar: Registrar,
    ) -> Result<(), Error> {
        let mut parts = JoinSet::new();
        let serving = self.start_server(&start, listener);
        let mut agent = self.start_parts(&start, registrar, &mut parts)?;
        tracing::info!(
            zone = self.place.zone_id,
            node = %self.place.node,
            replicas = self.host.replicas().len(),
            "serving"
        );

        let mut serving = Box::pin(serving);
        let outcome = tokio::select! {
            biased;
            () = start.shutdown.cancelled() => Ok(()),
            () = self.host.failed().cancelled_owned() => Err(Error::StoreGone),
            served = &mut serving => Err(match served {
                Ok(Ok(())) => Error::Part("the server has ended".into()),
                Ok(Err(error)) => Error::Serve(error),
                Err(error) => Error::Part(error.to_string()),
            }),
            Some(ended) = parts.join_next() => Err(part(ended)),
            ended = &mut agent => Err(part(ended)),
        };

        if outcome.is_ok() {
            tracing::info!("stopping: handing leaderships over");
            handover::hand_over(&self.host, &self.watch).await;
            // What was proposed here is committed by others: they are still to be heard.
            let settled = self.host.requests_settled();
            if runtime::time::timeout(SETTLE_LIMIT, settled).await.is_err() {
                tracing::warn!("requests still wait for other nodes");
            }
        }
        agent.abort();
        self.stop.cancel();
        if outcome.is_ok() {
            // Requests under way may finish, but not for ever.
            let _ = runtime::time::timeout(LAST_REQUESTS_LIMIT, &mut serving).await;
        }
        parts.shutdown().await;
        self.host.shutdown().await;
        tracing::info!("stopped");
        outcome
    }

    /// The gRPC server, on a task of its own.
    fn start_server(
        &self,
        start: &Start,
        listener: Box<dyn Listener>,
    ) -> JoinHandle<Result<(), grpc::ServeError>> {
        let peers = PeerApi::new(
            self.place.clone(),
            Arc::clone(&self.host),
            Arc::clone(&self.links),
            Arc::clone(&self.watch),
            self.stop.clone(),
        );
        let index = IndexServiceServer::new(IndexApi::new(Arc::clone(&self.host)))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let peers = PeerServiceServer::new(peers)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let options = ServerOptions {
            tls: start.configuration.tls.clone(),
            service_names: vec![
                index_service_server::SERVICE_NAME,
                peer_service_server::SERVICE_NAME,
            ],
            ..ServerOptions::default()
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let routes = Routes::new(index).add_service(peers);
            grpc::serve(listener, routes, &options, stop).await
        })
    }

    /// Everything that runs beside the server. None of it ends by itself.
    fn start_parts(
        &self,
        start: &Start,
        registrar: Registrar,
        parts: &mut JoinSet<()>,
    ) -> Result<JoinHandle<()>, Error> {
        let (environment, host) = (&start.environment, &self.host);
        let signs = Arc::new(Signs::default());
        let (sink, batches) = orders::sink();
        let (refusing, refusals) = mpsc::channel(REFUSALS_WAITING_MAX);
        let engine = Arc::new(EngineOrders(Arc::clone(host)));
        parts.spawn(orders::execute(engine, batches, refusing));
        parts.spawn(watch_lag(environment.clone(), Arc::clone(&signs)));
        let store = Arc::clone(&start.store);
        parts.spawn(watch_syncs(environment.clone(), store, Arc::clone(&signs)));
        parts.spawn(watch_disk(
            environment.clone(),
            Arc::clone(&start.store),
            Arc::clone(host),
            Arc::clone(&signs),
            start.configuration.disk_reserve_bytes,
        ));
        parts.spawn(keep_neighbours(self.place.node, Arc::clone(host), Arc::clone(&self.links)));
        parts.spawn(confirm_after_losses(Arc::clone(host), Arc::clone(&self.watch)));
        parts.spawn(telemetry::observe(
            environment.clone(),
            Arc::clone(host),
            Arc::clone(&self.watch),
            Arc::clone(&start.contact),
        ));
        let appointer = Appointer {
            environment: environment.clone(),
            host: Arc::clone(host),
            node: self.place.node,
            watch: Arc::clone(&self.watch),
            addresses: Arc::clone(&self.addresses),
            channels: self.channels.clone(),
            contact: Arc::clone(&start.contact),
            timers: start.configuration.peers.clone(),
        };
        parts.spawn(Arc::new(appointer).run());

        let agent = Agent {
            environment: environment.clone(),
            channels: start.channels()?,
            registrar,
            host: Arc::clone(host),
            watch: Arc::clone(&self.watch),
            orders: sink,
            refusals,
            contact: Arc::clone(&start.contact),
            signs,
        };
        Ok(start.control.spawn(agent.run().boxed()))
    }
}

/// A part ends only with the node; this one ended before.
fn part(ended: Result<(), JoinError>) -> Error {
    Error::Part(match ended {
        Ok(()) => "a task has ended".into(),
        Err(error) => error.to_string(),
    })
}

/// Keeps a link to every node that shares a partition with this one, until dropped.
async fn keep_neighbours(own: NodeId, host: Arc<ReplicaHost>, links: Arc<Links>) {
    loop {
        let mut neighbours: BTreeSet<NodeId> = BTreeSet::new();
        for replica in host.replicas() {
            replica.add_voters_nodes(&mut neighbours);
        }
        neighbours.retain(|node| *node != own && *node != NodeId::default());
        links.keep(&neighbours);
        runtime::time::sleep(NEIGHBOURS_INTERVAL).await;
    }
}

/// Whenever a peer is lost, lets the groups that are led here find out whether they still have a
/// quorum, until dropped. Of several losses none waits for another.
async fn confirm_after_losses(host: Arc<ReplicaHost>, watch: Arc<ConnectionWatch>) {
    let mut changes = watch.subscribe();
    let mut lost: BTreeSet<NodeId> = BTreeSet::new();
    let mut confirming = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            changed = changes.changed() => if changed.is_err() { return },
            Some(_) = confirming.join_next() => continue,
        }
        let now: BTreeSet<NodeId> = watch.lost().into_iter().collect();
        for node in now.difference(&lost).copied() {
            let host = Arc::clone(&host);
            confirming.spawn(async move { host.confirm_led_with(node).await });
        }
        lost = now;
    }
}
