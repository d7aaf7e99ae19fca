//! Keeps the partition map fresh: one task watches it at some member, another one fetches it whenever a
//! request found it wrong. Requests never wait for the control plane unless they have no route at all.

use std::{sync::Arc, time::Duration};

use proto::v1::{self, routing_service_client::RoutingServiceClient};
use runtime::{
    grpc::{Channels, MESSAGE_BYTES_MAX},
    seams::Environment,
};
use tokio::sync::{Notify, watch};
use tonic::{Code, Status, transport::Channel};

use crate::{directory::Directory, map::MapError, pacing::Backoff, verdict::describe};

/// How long one member may take to give the map, or to begin to.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1);

/// Refreshes asked for within this time are one.
const REFRESH_GATHER: Duration = Duration::from_millis(10);

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Why a member gave no map.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the zone has not been initialised")]
    NotInitialized,
    #[error("{}", describe(.0))]
    Status(Status),
    #[error("its partition map cannot be used: {0}")]
    Map(#[from] MapError),
}

impl From<Status> for FetchError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::FailedPrecondition => Self::NotInitialized,
            _ => Self::Status(status),
        }
    }
}

pub(crate) struct Keeper {
    pub(crate) environment: Environment,
    pub(crate) channels: Channels,
    pub(crate) endpoints: Vec<String>,
    pub(crate) directory: Arc<Directory>,
    refresh_wanted: Notify,
    refreshed: watch::Sender<u64>,
}

impl Keeper {
    pub(crate) fn new(
        environment: Environment,
        channels: Channels,
        endpoints: Vec<String>,
        directory: Arc<Directory>,
    ) -> Self {
        Self {
            environment,
            channels,
            endpoints,
            directory,
            refresh_wanted: Notify::new(),
            refreshed: watch::Sender::new(0),
        }
    }

    fn member(&self, address: &str) -> RoutingServiceClient<Channel> {
        // A whole map can be larger than an ordinary message.
        RoutingServiceClient::new(self.channels.get(address))
            .max_decoding_message_size(MAP_BYTES_MAX)
    }

    /// Where the turn over the endpoints starts: clients spread over the members.
    pub(crate) fn first_turn(&self) -> usize {
        let count = u64::try_from(self.endpoints.len()).unwrap_or(1).max(1);
        usize::try_from(self.environment.random_below(count)).unwrap_or(0)
    }

    /// Fetches and installs the map of one member.
    pub(crate) async fn fetch(&self, address: &str) -> Result<(), FetchError> {
        let mut member = self.member(address);
        let call = member.get_partition_map(v1::GetPartitionMapRequest {});
        let answer = self.environment.timeout(FETCH_TIMEOUT, call).await;
        let map = answer.ok_or(FetchError::Timeout(FETCH_TIMEOUT))??.into_inner();
        Ok(self.directory.install(map)?)
    }

    /// Asks for a fresh map, without waiting for it.
    pub(crate) fn want_refresh(&self) {
        self.refresh_wanted.notify_one();
    }

    /// Asks for a fresh map and waits until there was a try to get one, or any news.
    pub(crate) async fn refresh(&self) {
        let mut refreshed = self.refreshed.subscribe();
        refreshed.mark_unchanged();
        self.want_refresh();
        tokio::select! {
            biased;
            // An error would mean that the keeper is gone; it is borrowed here.
            _ = refreshed.changed() => {}
            () = self.directory.any_news() => {}
        }
    }

    /// The refreshing task: one fetch at a time for everybody who asks.
    pub(crate) async fn keep_refreshing(self: Arc<Self>) {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let mut turn = self.first_turn();
        loop {
            self.refresh_wanted.notified().await;
            self.environment.sleep(self.environment.jittered(REFRESH_GATHER)).await;
            let mut succeeded = false;
            for _ in 0..self.endpoints.len() {
                let address = &self.endpoints[turn % self.endpoints.len()];
                match self.fetch(address).await {
                    Ok(()) => {
                        succeeded = true;
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(address, %error, "no partition map from this member");
                        turn = turn.wrapping_add(1);
                    }
                }
            }
            metrics::counter!("isotherm_client_map_refreshes_total",
                "outcome" => if succeeded { "ok" } else { "failed" })
            .increment(1);
            self.refreshed.send_modify(|count| *count += 1);
            runtime::mark!("client: refresh of the map", succeeded);
            if succeeded {
                backoff.reset();
            } else {
                self.environment.sleep(backoff.draw(&self.environment)).await;
            }
        }
    }

    /// The watching task: follows the changes at one member, and goes to the next when that fails.
    pub(crate) async fn keep_watching(self: Arc<Self>) {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let mut turn = self.first_turn();
        loop {
            let address = &self.endpoints[turn % self.endpoints.len()];
            let mut updates = 0;
            match self.watch_one(address, &mut updates).await {
                Ok(()) => tracing::debug!(address, "the watch of the partition map ended"),
                Err(error) => {
                    tracing::debug!(address, %error, "the watch of the partition map broke");
                    runtime::mark!("client: the watch of the map broke");
                }
            }
            if updates > 0 {
                backoff.reset();
            }
            turn = turn.wrapping_add(1);
            self.environment.sleep(backoff.draw(&self.environment)).await;
        }
    }

    async fn watch_one(&self, address: &str, updates: &mut u64) -> Result<(), FetchError> {
        let request = v1::WatchPartitionMapRequest { after_revision: self.directory.revision() };
        let mut member = self.member(address);
        let call = member.watch_partition_map(request);
        let answer = self.environment.timeout(FETCH_TIMEOUT, call).await;
        let mut stream = answer.ok_or(FetchError::Timeout(FETCH_TIMEOUT))??.into_inner();
        // No limit from here on: a quiet map sends nothing, and a dead connection is noticed by its
        // keep-alive.
        while let Some(update) = stream.message().await? {
            let Some(map) = update.map else { continue };
            if update.full {
                self.directory.install(map)?;
            } else {
                self.directory.apply_changes(map)?;
            }
            *updates += 1;
        }
        Ok(())
    }
}

/// The largest partition map that is accepted, in bytes. A route takes some hundred.
const MAP_BYTES_MAX: usize = 64 * MESSAGE_BYTES_MAX;
