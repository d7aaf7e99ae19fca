//! One member of the control plane: what its services and its leader's tasks share.

use std::sync::Arc;

use runtime::{grpc::Channels, seams::Environment, store::Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::{configuration::Configuration, leader::Reign, raft::group::Group, services::refusal};

/// What the parts of one member share.
pub struct Member {
    environment: Environment,
    store: Arc<dyn Store>,
    configuration: Configuration,
    group: Group,
    channels: Channels,
    reign: watch::Sender<Option<Arc<Reign>>>,
    failure: watch::Sender<Option<String>>,
    closing: CancellationToken,
}

impl Member {
    pub fn new(
        environment: Environment,
        store: Arc<dyn Store>,
        configuration: Configuration,
        group: Group,
        channels: Channels,
    ) -> Self {
        Self {
            environment,
            store,
            configuration,
            group,
            channels,
            reign: watch::Sender::new(None),
            failure: watch::Sender::new(None),
            closing: CancellationToken::new(),
        }
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Cancelled when the member stops: streams end then.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// The zone's id; none before `init`.
    pub fn zone_id(&self) -> Option<Uuid> {
        self.group.zone().read(model::ZoneState::zone_id)
    }

    /// This member's leadership; none unless it leads and may give orders.
    pub fn reign(&self) -> Option<Arc<Reign>> {
        self.reign.borrow().clone()
    }

    pub fn set_reign(&self, reign: Option<Arc<Reign>>) {
        self.reign.send_replace(reign);
    }

    /// This member's leadership.
    ///
    /// # Errors
    /// Where the leader is, if it is not this member.
    pub fn leading(&self) -> Result<Arc<Reign>, Status> {
        self.reign().ok_or_else(|| self.wrong_leader())
    }

    /// The answer to who needs the leader: where it is, as far as this member knows.
    pub fn wrong_leader(&self) -> Status {
        let leader = self.group.leader().filter(|leader| leader.id != self.group.member_id());
        refusal::wrong_leader(leader)
    }

    /// An invariant broke: the member must stop before it can do harm. The first reason counts.
    pub fn fail(&self, reason: String) {
        tracing::error!(reason, "this member fails");
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(reason);
            first
        });
    }

    /// Waits until the member has failed.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await;
        failed.map_or_else(|_| String::new(), |failure| failure.clone().unwrap_or_default())
    }
}
