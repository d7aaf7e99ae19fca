//! An operator's commands to the control plane, wherever its leader is.
//!
//! A command goes to the member that led last, follows the hint of one that does not lead, and tries the
//! others while one is gone. That is safe to repeat: each command that changes something carries an
//! idempotency key, which is drawn here if the caller gave none.

mod calls;
mod error;
mod streams;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use proto::v1::{self, admin_service_client::AdminServiceClient, error_detail::Kind};
use runtime::{
    grpc::{ChannelOptions, Channels, MESSAGE_BYTES_MAX, TlsError, detail},
    seams::{Environment, Moment},
};
use tonic::{Code, Request, Response, Status, transport::Channel};

pub use error::AdminError;

use crate::{
    pacing::Backoff,
    verdict::{describe, has_connect_error},
};

/// How an [`AdminClient`] behaves.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// How long a command may take, all attempts and waits included.
    pub deadline: Duration,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// When no member could be dialled for so long, the command gives up before its deadline.
    pub unreachable_after: Duration,
    pub channels: ChannelOptions,
}

impl Default for AdminOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(3),
            unreachable_after: Duration::from_secs(2),
            channels: ChannelOptions::default(),
        }
    }
}

/// Makes an operator's calls.
pub struct AdminClient {
    environment: Environment,
    options: AdminOptions,
    channels: Channels,
    endpoints: Vec<String>,
    /// The address that led last.
    leader: Mutex<Option<String>>,
}

type Stub = AdminServiceClient<Channel>;
type Sent<A> = BoxFuture<'static, Result<Response<A>, Status>>;

/// What an attempt's failure means for the command.
enum Judgement {
    /// Another member leads; empty: nobody knows which.
    Elsewhere { address: String },
    /// The member asks for a pause.
    Later(Duration),
    /// The member could not be dialled.
    Unreached,
    /// The member did not answer, or cannot serve now.
    Lost,
    /// The answer is no.
    Refused,
}

fn judge(status: &Status) -> Judgement {
    match detail::kind_of(status) {
        Some(Kind::WrongLeader(wrong)) => {
            let address = wrong.leader.map(|leader| leader.address).unwrap_or_default();
            return Judgement::Elsewhere { address };
        }
        Some(Kind::RetryAfter(after)) => {
            return Judgement::Later(Duration::from_millis(after.retry_after_ms));
        }
        Some(_) | None => {}
    }
    if has_connect_error(status) {
        return Judgement::Unreached;
    }
    let from_server = std::error::Error::source(status).is_none();
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
            Judgement::Lost
        }
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => {
            if from_server {
                Judgement::Refused
            } else {
                Judgement::Lost
            }
        }
    }
}

/// How many hints in a row are followed without a wait.
const HINTS_FOLLOWED_MAX: u32 = 3;

impl AdminClient {
    /// # Errors
    /// If the TLS files of the options cannot be read.
    ///
    /// # Panics
    /// If there is no endpoint.
    pub fn new(
        environment: &Environment,
        endpoints: &[String],
        options: AdminOptions,
    ) -> Result<Self, TlsError> {
        assert!(!endpoints.is_empty(), "an admin client needs at least one endpoint");
        Ok(Self {
            environment: environment.clone(),
            channels: Channels::new(environment, options.channels.clone())?,
            options,
            endpoints: endpoints.to_vec(),
            leader: Mutex::new(None),
        })
    }

    /// The endpoints that were given.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    fn stub(&self, address: &str) -> Stub {
        AdminServiceClient::new(self.channels.get(address))
            .max_decoding_message_size(16 * MESSAGE_BYTES_MAX)
    }

    fn leader(&self) -> Option<String> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember_leader(&self, address: Option<&str>) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = address.map(str::to_owned);
    }

    fn draw_key(&self) -> String {
        self.environment.random_uuid().to_string()
    }

    fn remaining(&self, started: Moment) -> Duration {
        self.options.deadline.saturating_sub(self.environment.now().since(started))
    }

    async fn attempt<Q, A>(
        &self,
        address: &str,
        message: Q,
        limit: Duration,
        send: impl Fn(Stub, Request<Q>) -> Sent<A>,
    ) -> Result<A, Status> {
        // The limit is kept here and not sent along: the answer of a stream may outlive it.
        let sent = send(self.stub(address), Request::new(message));
        match self.environment.timeout(limit, sent).await {
            Some(answer) => answer.map(Response::into_inner),
            None => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
        }
    }

    /// Makes the call at the leader.
    async fn call<Q: Clone, A>(
        &self,
        message: Q,
        attempt_timeout: Duration,
        send: impl Fn(Stub, Request<Q>) -> Sent<A>,
    ) -> Result<A, AdminError> {
        let started = self.environment.now();
        let mut problems = Problems::default();
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let mut turn = 0;
        let mut followed = 0;
        let mut named = self.leader();
        loop {
            let address = named.take().unwrap_or_else(|| {
                let address = self.endpoints[turn % self.endpoints.len()].clone();
                turn += 1;
                address
            });
            let limit = attempt_timeout.min(self.remaining(started));
            let status = match self.attempt(&address, message.clone(), limit, &send).await {
                Ok(answer) => {
                    self.remember_leader(Some(&address));
                    return Ok(answer);
                }
                Err(status) => status,
            };
            self.remember_leader(None);
            problems.note(&address, &status);
            match judge(&status) {
                Judgement::Refused => return Err(AdminError::Refused(status)),
                Judgement::Elsewhere { address: leader } => {
                    if !leader.is_empty() && leader != address && followed < HINTS_FOLLOWED_MAX {
                        followed += 1;
                        named = Some(leader);
                        continue;
                    }
                }
                Judgement::Later(pause) => {
                    let pause = pause.min(self.remaining(started));
                    self.environment.sleep(pause).await;
                }
                Judgement::Unreached | Judgement::Lost => {}
            }
            let waited = self.environment.now().since(started);
            if waited >= self.options.deadline
                || problems.nobody_reached && waited >= self.options.unreachable_after
            {
                return Err(problems.into_error(waited));
            }
            if turn.is_multiple_of(self.endpoints.len()) {
                followed = 0;
                let pause = backoff.draw(&self.environment).min(self.remaining(started));
                self.environment.sleep(pause).await;
            }
        }
    }

    /// The zone as its leader sees it; if no leader answers, as the best informed member does.
    ///
    /// # Errors
    /// If no member answers.
    pub async fn status(&self) -> Result<v1::ZoneStatus, AdminError> {
        let started = self.environment.now();
        let mut problems = Problems::default();
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            let mut best: Option<v1::ZoneStatus> = None;
            let known = self.leader();
            for address in known.iter().chain(&self.endpoints) {
                let limit = STATUS_TIMEOUT.min(self.remaining(started));
                let send = |mut stub: Stub, request| -> Sent<v1::ZoneStatus> {
                    Box::pin(async move { stub.get_zone_status(request).await })
                };
                let message = v1::GetZoneStatusRequest {};
                match self.attempt(address, message, limit, send).await {
                    Ok(status) if status.from_leader => {
                        self.remember_leader(Some(address));
                        return Ok(status);
                    }
                    Ok(status) => {
                        let better =
                            best.as_ref().is_none_or(|best| best.revision < status.revision);
                        if better {
                            best = Some(status);
                        }
                    }
                    Err(status) => match judge(&status) {
                        Judgement::Refused => return Err(AdminError::Refused(status)),
                        Judgement::Elsewhere { .. }
                        | Judgement::Later(_)
                        | Judgement::Unreached
                        | Judgement::Lost => problems.note(address, &status),
                    },
                }
            }
            if let Some(best) = best {
                return Ok(best);
            }
            let waited = self.environment.now().since(started);
            if waited >= self.options.deadline
                || problems.nobody_reached && waited >= self.options.unreachable_after
            {
                return Err(problems.into_error(waited));
            }
            let pause = backoff.draw(&self.environment).min(self.remaining(started));
            self.environment.sleep(pause).await;
        }
    }
}

/// How long one member may take to give its status before the next one is asked.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// What each member's last attempt ended with.
struct Problems {
    by_address: BTreeMap<String, String>,
    nobody_reached: bool,
}

impl Default for Problems {
    fn default() -> Self {
        Self { by_address: BTreeMap::new(), nobody_reached: true }
    }
}

impl Problems {
    fn note(&mut self, address: &str, status: &Status) {
        if !matches!(judge(status), Judgement::Unreached) {
            self.nobody_reached = false;
        }
        self.by_address.insert(address.to_owned(), describe(status));
    }

    fn into_error(self, waited: Duration) -> AdminError {
        let problems: Vec<String> = self
            .by_address
            .into_iter()
            .map(|(address, problem)| format!("{address}: {problem}"))
            .collect();
        let problems = problems.join("; ");
        if self.nobody_reached {
            AdminError::Unreachable { problems }
        } else {
            AdminError::NoLeader { waited, problems }
        }
    }
}
