//! One index node, as far as its session goes: the agent of the server `index-node`, the executor of orders,
//! and a host of replicas behind them.
//!
//! What differs from the server: the disk is in memory, and messages of the groups are calls (see
//! [`peers`](crate::peers)). What is left out: serving clients and peers (there are none), takeover among
//! peers, and the measuring of the disk and of late tasks a hundred times a second, which a thousand nodes
//! on a few processors would be busy with alone. At the node's address somebody listens, so that a dial
//! finds that its process is alive, and nobody talks.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use index_node::{
    agent::{Agent, Contact, Registrar, Registration, Signs, watch_disk},
    configuration::Configuration,
    engine::{
        host::{HostSetup, ReplicaHost},
        options::EngineOptions,
    },
    orders::{self, EngineOrders, OrderBatch, OrderSink},
    peer::ConnectionWatch,
};
use runtime::{
    grpc::{ChannelOptions, Channels},
    seams::{Environment, Listener},
    store::simulated::SimulatedDisk,
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{nodes::Sightings, peers::Peers};

/// Refusals of orders that may wait for the session.
const REFUSALS_WAITING_MAX: usize = 1_024;

/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Nodes are spread over so many racks.
const RACKS: usize = 20;

/// What a node is started with.
pub struct Start {
    /// Of the node alone: its network notes what the node asks for.
    pub environment: Environment,
    /// Counted from 0.
    pub number: usize,
    /// The control plane's members.
    pub endpoints: Vec<String>,
    pub peers: Peers,
    pub sightings: Arc<Sightings>,
}

/// A node that has joined the zone. It ends when this is dropped.
pub struct SessionNode {
    _tasks: JoinSet<()>,
}

impl Start {
    /// Registers, however long it takes, and begins to hold a session.
    pub async fn join(self) -> anyhow::Result<SessionNode> {
        let Self { environment, number, endpoints, peers, sightings } = self;
        let settings = Configuration::default();
        let listener = environment.network.listen("127.0.0.1:0").await?;
        let registration = registration(&environment, number, listener.local_address()?);
        let mut registrar = Registrar::new(registration, endpoints);
        let channels = Channels::new(&environment, ChannelOptions::default())?;
        let contact = Arc::new(Contact::new(Arc::clone(&environment.clock)));
        let registered = registrar.register(&environment, &channels).await;

        let store = SimulatedDisk::new().open(&index_node::families(), &environment);
        let watch = Arc::new(ConnectionWatch::new(
            settings.peers.ping_interval(),
            settings.peers.lost_after(),
        ));
        let setup = HostSetup {
            environment: environment.clone(),
            store: Arc::clone(&store),
            node: registered.node,
            zone_id: registered.zone_id,
            transport: Arc::new(peers.clone()),
            watch: Arc::<ConnectionWatch>::clone(&watch),
            options: EngineOptions::default(),
        };
        let host = ReplicaHost::open(setup).await.context("a node's replicas cannot be opened")?;
        peers.add(registered.node, &host);

        let mut tasks = JoinSet::new();
        let (told, batches) = orders::sink();
        let (executed, due) = orders::sink();
        let (refusing, refusals) = mpsc::channel(REFUSALS_WAITING_MAX);
        let signs = Arc::new(Signs::default());
        tasks.spawn(answer_dials(environment.clone(), listener));
        tasks.spawn(pass_on(batches, executed, number, sightings));
        tasks.spawn(orders::execute(Arc::new(EngineOrders(Arc::clone(&host))), due, refusing));
        tasks.spawn(watch_disk(
            environment.clone(),
            store,
            Arc::clone(&host),
            Arc::clone(&signs),
            settings.disk_reserve_bytes,
        ));
        let agent = Agent {
            environment,
            channels,
            registrar,
            host,
            watch,
            orders: told,
            refusals,
            contact,
            signs,
        };
        tasks.spawn(agent.run());
        Ok(SessionNode { _tasks: tasks })
    }
}

/// What the node says of itself.
fn registration(environment: &Environment, number: usize, address: SocketAddr) -> Registration {
    Registration {
        identity: environment.random_uuid(),
        known: None,
        incarnation: 1,
        name: format!("node-{}", number + 1),
        address: address.to_string(),
        fault_domain: format!("rack-{}", number % RACKS + 1),
        capacity_bytes: Configuration::default().capacity_bytes,
        cores: 1,
    }
}

/// Accepts whoever dials, and hangs up.
async fn answer_dials(environment: Environment, mut listener: Box<dyn Listener>) {
    loop {
        if listener.accept().await.is_err() {
            environment.sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Hands what the session was told on to the executor, and notes when a leader has said welcome: from then
/// on there is a session.
async fn pass_on(
    mut batches: mpsc::Receiver<OrderBatch>,
    executed: OrderSink,
    number: usize,
    sightings: Arc<Sightings>,
) {
    while let Some(batch) = batches.recv().await {
        if let Some(fence) = batch.welcome {
            sightings.welcomed(number, fence.term);
        }
        sightings.ordered(batch.orders.len());
        executed.give(batch);
    }
}
