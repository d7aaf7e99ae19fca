//! The routing client.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use runtime::{grpc::Channels, seams::Environment};
use tokio::task::AbortHandle;

use crate::{
    connect,
    directory::Directory,
    error::{ConnectError, RequestError, WriteError},
    identifiers::{PartitionId, Version},
    keeper::Keeper,
    map::Route,
    message::{Answer, Call},
    options::Options,
    pacing::RetryBudget,
    request::Request,
    values::{Condition, Deleted, Item, ObjectMetadata},
};

/// Reads, writes and lists keys of the index. Cheap to clone; all clones share one map, one set of
/// connections and one retry budget.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) deadline: Duration,
}

pub(crate) struct Shared {
    pub(crate) environment: Environment,
    pub(crate) options: Options,
    pub(crate) channels: Channels,
    pub(crate) directory: Arc<Directory>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) budget: RetryBudget,
    tasks: Vec<AbortHandle>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Client {
    /// A client of the zone whose control plane has members at `endpoints` (host:port each). With a seed
    /// map in the options this returns at once, otherwise as soon as a member gave the map.
    ///
    /// # Errors
    /// If no member gave a map in time, or the zone was not initialised yet.
    pub async fn connect(
        environment: &Environment,
        endpoints: &[String],
        mut options: Options,
    ) -> Result<Self, ConnectError> {
        if endpoints.is_empty() {
            return Err(ConnectError::NoEndpoints);
        }
        let channels = Channels::new(environment, options.channels.clone())?;
        let directory = Arc::new(Directory::new(environment.clone()));
        let keeper = Arc::new(Keeper::new(
            environment.clone(),
            channels.clone(),
            endpoints.to_vec(),
            Arc::clone(&directory),
        ));
        match options.seed_map.take() {
            Some(map) => directory.seed(map).map_err(ConnectError::Seed)?,
            None => connect::first_map(environment, &keeper, &options).await?,
        }
        let tasks = vec![
            tokio::spawn(Arc::clone(&keeper).keep_watching()).abort_handle(),
            tokio::spawn(Arc::clone(&keeper).keep_refreshing()).abort_handle(),
        ];
        let deadline = options.deadline;
        let shared = Arc::new(Shared {
            environment: environment.clone(),
            options,
            channels,
            directory,
            keeper,
            budget: RetryBudget::full(),
            tasks,
        });
        Ok(Self { shared, deadline })
    }

    /// The same client, whose requests may take this long.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline }
    }

    /// Reads one key. Linearizable.
    ///
    /// # Errors
    /// If no attempt succeeded before the deadline, or the key is impossible.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Item>, RequestError> {
        let key = key.into();
        match self.read(key.clone(), Call::Get { key }).await? {
            Answer::Get { item } => Ok(item),
            other => Err(other.unexpected()),
        }
    }

    /// Writes one key, if `condition` holds. Takes effect at most once. The key's new version.
    ///
    /// # Errors
    /// See [`WriteError`]: the condition did not hold, it failed, or nobody knows.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: ObjectMetadata,
        condition: Option<Condition>,
    ) -> Result<Version, WriteError> {
        let key = key.into();
        let call = Call::Put { key: key.clone(), value, condition };
        match self.write(key, call).await? {
            Answer::Put { version } => Ok(version),
            other => Err(other.unexpected().into()),
        }
    }

    /// Deletes one key, if `condition` holds. Takes effect at most once. Deleting an absent key
    /// succeeds.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn delete(
        &self,
        key: impl Into<Bytes>,
        condition: Option<Condition>,
    ) -> Result<Deleted, WriteError> {
        let key = key.into();
        let call = Call::Delete { key: key.clone(), condition };
        match self.write(key, call).await? {
            Answer::Delete(deleted) => Ok(deleted),
            other => Err(other.unexpected().into()),
        }
    }

    pub(crate) async fn read(&self, route_by: Bytes, call: Call) -> Result<Answer, RequestError> {
        let request = Request::new(&self.shared, route_by, call, self.deadline);
        match Box::pin(request.run()).await {
            Ok(answer) => Ok(answer),
            Err(WriteError::Failed(error)) => Err(error),
            Err(other) => {
                Err(RequestError::Nonsense(format!("a read ended like a write: {other}")))
            }
        }
    }

    async fn write(&self, key: Bytes, call: Call) -> Result<Answer, WriteError> {
        let request = Request::new(&self.shared, key, call, self.deadline);
        Box::pin(request.run()).await
    }

    /// The partition that holds the key, as far as this client knows.
    pub fn partition_of(&self, key: &[u8]) -> Option<PartitionId> {
        self.route_of(key).map(|route| route.partition)
    }

    /// Where the key's partition is, as far as this client knows.
    pub fn route_of(&self, key: &[u8]) -> Option<Arc<Route>> {
        self.shared.directory.locate(key)
    }

    /// All partitions in key order, as far as this client knows.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        self.shared.directory.routes()
    }

    /// The map to keep for a later client's [`Options::seed_map`].
    pub fn partition_map(&self) -> Option<proto::v1::PartitionMap> {
        self.shared.directory.to_wire()
    }

    /// The revision of the newest map that a member gave; 0: only a seed is known.
    pub fn map_revision(&self) -> u64 {
        self.shared.directory.revision()
    }
}
