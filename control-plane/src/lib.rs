//! A member of a zone's control plane.
//!
//! The control plane is one Raft group of 1, 3 or 5 members. Its replicated state (crate `model`) holds
//! what is intended and what was concluded; its leader alone keeps sessions with the index nodes, judges
//! them, and gives orders.
//!
//! Where to start reading:
//! - [`raft`]: the members' group, the state in memory and in the store, snapshots.
//! - [`leader`]: what runs only while this member leads: sessions, judgement, orders, takeovers.
//! - [`services`]: the gRPC services, and the conversions between the wire and the model.
//! - [`init`]: how a zone is made, once.
//!
//! **Architecture invariant**: nothing is decided here. Crate `model` decides, as pure code; this crate
//! gathers what it decides from, and carries out what it decided.
//!
//! **Architecture invariant**: an index node's data path never waits for anything here.

pub mod configuration;
mod identity;
mod init;
pub mod inspection;
mod leader;
mod member;
mod metrics;
mod raft;
mod services;

use std::{io, sync::Arc, time::Duration};

use ::runtime::{
    grpc::{self, ChannelOptions, Channels, ServeError, ServerOptions, TlsError},
    raft::FAMILY as RAFT_FAMILY,
    seams::{Environment, Listener},
    store::{Family, Store},
};
use tokio_util::sync::CancellationToken;

pub use crate::metrics::describe_metrics;
use crate::{
    configuration::Configuration,
    identity::IdentityError,
    member::Member,
    raft::group::{Group, OpenError},
};

/// How long requests under way may take once the member stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a member has stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the data directory cannot be used")]
    DataDirectory(#[from] DataDirectoryError),
    #[error("cannot listen on {address}")]
    Listen {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Group(OpenError),
    #[error("the server failed")]
    Serve(#[from] ServeError),
    /// The store failed, or an invariant broke: the process stops before it can do harm.
    #[error("the members' group has stopped: {0}")]
    GroupStopped(String),
    #[error("an invariant broke: {0}")]
    Failed(String),
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Group(OpenError),
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Load(_) => Error::DataDirectory(DataDirectoryError::Group(error)),
            OpenError::Config(_) | OpenError::Raft(_) => Error::Group(error),
        }
    }
}

/// The families that a member's store is opened with.
pub fn families() -> Vec<Family> {
    vec![RAFT_FAMILY, raft::records::MEMBER, raft::records::ZONE]
}

/// Runs a member until `shutdown` is cancelled or it fails. A leader hands over before it stops.
///
/// # Errors
/// If the data directory or the address cannot be used, or the store fails on the way.
pub async fn run(
    environment: Environment,
    store: Arc<dyn Store>,
    configuration: Configuration,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let member_id =
        identity::open(&environment, store.as_ref()).await.map_err(DataDirectoryError::Identity)?;
    let address = configuration.listen_address.clone();
    let listener = environment
        .network
        .listen(&address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    let options = ChannelOptions { tls: configuration.tls.clone(), ..ChannelOptions::default() };
    let channels = Channels::new(&environment, options)?;
    let group = Group::open(
        environment.clone(),
        Arc::clone(&store),
        member_id,
        channels.clone(),
        &configuration.raft,
    )
    .await?;
    let member = Arc::new(Member::new(environment, store, configuration, group, channels));
    tracing::info!(
        member_id = member_id.get(),
        address = member.configuration().advertised_address(),
        "member of the control plane started"
    );
    serve(&member, listener, shutdown).await
}

async fn serve(
    member: &Arc<Member>,
    listener: Box<dyn Listener>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let options = ServerOptions {
        tls: member.configuration().tls.clone(),
        service_names: services::NAMES.to_vec(),
        ..ServerOptions::default()
    };
    let stop_serving = CancellationToken::new();
    let routes = services::routes(member);
    let stopped = stop_serving.clone();
    let mut server =
        tokio::spawn(async move { grpc::serve(listener, routes, &options, stopped).await });
    let governing = tokio::spawn(leader::govern(Arc::clone(member)));

    let ended = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        failure = watch_group(member) => Err(Error::GroupStopped(failure)),
        failure = member.failed() => Err(Error::Failed(failure)),
        served = &mut server => match served {
            Ok(served) => served.map_err(Error::Serve),
            Err(error) => Err(Error::Failed(format!("the server's task ended: {error}"))),
        },
    };
    if ended.is_ok() {
        member.group().hand_over().await;
    }
    member.closing().cancel();
    stop_serving.cancel();
    // Whoever still asks for something now gets an error when the connection closes.
    if !server.is_finished() {
        let _ = member.environment().timeout(DRAIN_TIMEOUT, &mut server).await;
        server.abort();
    }
    let _ = governing.await;
    if let Err(error) = member.group().raft().shutdown().await {
        tracing::warn!(?error, "the members' group did not stop cleanly");
    }
    tracing::info!("member of the control plane stopped");
    ended
}

/// Returns why the members' group has stopped, when it has.
async fn watch_group(member: &Member) -> String {
    let mut watch = member.group().watch();
    loop {
        if let Some(failure) = member.group().failure() {
            return failure;
        }
        if !watch.changed().await {
            return "its core has ended".into();
        }
    }
}
