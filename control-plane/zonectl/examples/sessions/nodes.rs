//! All nodes, and what is seen of their sessions.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context;
use runtime::seams::{Clock, Environment, Moment};
use tokio::task::JoinSet;

use crate::{
    node::{SessionNode, Start},
    peers::Peers,
    requests::{RequestLog, WatchedNetwork},
};

/// How often it is told how many nodes have joined.
const TELL_INTERVAL: Duration = Duration::from_secs(2);

/// Nodes that join at the same time. How a zone takes all of them at once is another question.
const JOINING_MAX: usize = 20;

/// A leader has said welcome to a node.
#[derive(Clone, Copy, Debug)]
pub struct Welcome {
    pub at: Moment,
    /// The node, counted from 0.
    pub number: usize,
    /// Of the leader.
    pub term: u64,
}

/// What the sessions have shown.
pub struct Sightings {
    clock: Arc<dyn Clock>,
    welcomes: Mutex<Vec<Welcome>>,
    orders: AtomicU64,
}

impl Sightings {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, welcomes: Mutex::default(), orders: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Welcome>> {
        self.welcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn welcomed(&self, number: usize, term: u64) {
        self.lock().push(Welcome { at: self.clock.now(), number, term });
    }

    pub fn ordered(&self, orders: usize) {
        self.orders.fetch_add(u64::try_from(orders).unwrap_or(u64::MAX), Relaxed);
    }

    /// Those so far, since it was last cleared.
    pub fn welcomes(&self) -> Vec<Welcome> {
        self.lock().clone()
    }

    /// Orders that the nodes were given, ever.
    pub fn orders(&self) -> u64 {
        self.orders.load(Relaxed)
    }

    pub fn clear(&self) {
        self.lock().clear();
    }
}

/// All nodes. They end when this is dropped.
pub struct Nodes {
    nodes: Vec<SessionNode>,
    pub sightings: Arc<Sightings>,
    pub requests: Arc<RequestLog>,
}

impl Nodes {
    /// So many nodes, each of which has joined the zone.
    ///
    /// # Errors
    /// If one cannot be started.
    pub async fn join(
        environment: &Environment,
        endpoints: &[String],
        count: u32,
    ) -> anyhow::Result<Self> {
        let peers = Peers::default();
        let sightings = Arc::new(Sightings::new(Arc::clone(&environment.clock)));
        let requests = Arc::<RequestLog>::default();
        let mut joining = JoinSet::new();
        let mut nodes = Vec::new();
        let mut told = environment.now();
        for number in 0..usize::try_from(count)? {
            if joining.len() >= JOINING_MAX
                && let Some(joined) = joining.join_next().await
            {
                nodes.push(joined.context("a node broke down")??);
            }
            if environment.now().since(told) >= TELL_INTERVAL {
                told = environment.now();
                eprintln!("{} of {count} nodes have joined …", nodes.len());
            }
            let network = Arc::new(WatchedNetwork {
                network: Arc::clone(&environment.network),
                clock: Arc::clone(&environment.clock),
                log: Arc::clone(&requests),
                node: number,
            });
            let start = Start {
                environment: Environment { network, ..environment.clone() },
                number,
                endpoints: endpoints.to_vec(),
                peers: peers.clone(),
                sightings: Arc::clone(&sightings),
            };
            joining.spawn(start.join());
        }
        while let Some(joined) = joining.join_next().await {
            nodes.push(joined.context("a node broke down")??);
        }
        Ok(Self { nodes, sightings, requests })
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.sightings.clear();
        self.requests.clear();
    }
}
