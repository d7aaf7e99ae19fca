//! An operator's commands to the control plane, wherever its leader is.
//!
//! A command goes to the member that led last, follows the hint of one that does not lead, and tries the
//! others while one is gone. That is safe to repeat: each command that changes something carries an
//! idempotency key, which is drawn here if the caller gave none.

mod calls;
mod error;
mod rebalance;
mod status;
mod streams;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use proto::v1::{admin_service_client::AdminServiceClient, error_detail::Kind};
use runtime::{
    grpc::{ChannelOptions, Channels, MESSAGE_BYTES_MAX, TlsError, detail},
    seams::{Environment, Moment},
};
use tonic::{Code, Request, Response, Status, transport::Channel};

pub use error::AdminError;
use error::seconds;
pub use rebalance::Rebalanced;

use crate::{
    pacing::Backoff,
    verdict::{describe, has_connect_error},
};

/// How an [`AdminClient`] behaves.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// How long a command may take, all attempts and waits included. So long, too, a question for the
    /// zone's status looks for a leader before it is content with another member's view.
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
            None => Err(silence(limit)),
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
            if turn.is_multiple_of(self.endpoints.len()) {
                followed = 0;
                let pause = backoff.draw(&self.environment).min(self.remaining(started));
                self.environment.sleep(pause).await;
            }
            // After the pause: an attempt without any time left would only hide what was said before.
            let waited = self.environment.now().since(started);
            if self.gives_up(&problems, waited, self.options.deadline) {
                return Err(problems.into_error(waited));
            }
        }
    }

    fn gives_up(&self, problems: &Problems, waited: Duration, deadline: Duration) -> bool {
        let hopeless = problems.nobody_reached || problems.nobody_understood();
        waited >= deadline || hopeless && waited >= self.options.unreachable_after
    }
}

/// A member has not answered in time: our own word, never a server's.
#[derive(Debug, thiserror::Error)]
#[error("")]
struct Silence;

fn silence(limit: Duration) -> Status {
    let mut status = Status::deadline_exceeded(format!("no answer within {}", seconds(limit)));
    status.set_source(Arc::new(Silence));
    status
}

fn is_silence(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<Silence>())
}

/// Whether the connection broke before there was an answer: neither a server's word nor our own.
fn is_broken(status: &Status) -> bool {
    let from_server = std::error::Error::source(status).is_none();
    !from_server && !is_silence(status) && !has_connect_error(status)
}

/// So many broken connections in a row, without any answer before, are no accident: a process that dies
/// breaks its connections once, and refuses from then on.
const BROKEN_MIN: u32 = 3;

/// What each member's last attempt ended with.
struct Problems {
    by_address: BTreeMap<String, String>,
    nobody_reached: bool,
    /// Whether a server has said anything.
    answered: bool,
    /// Connections that broke, one after the other.
    broken: u32,
}

impl Default for Problems {
    fn default() -> Self {
        Self { by_address: BTreeMap::new(), nobody_reached: true, answered: false, broken: 0 }
    }
}

impl Problems {
    fn note(&mut self, address: &str, status: &Status) {
        let problem = describe(status);
        if !has_connect_error(status) {
            self.nobody_reached = false;
        }
        self.answered |= std::error::Error::source(status).is_none();
        self.broken = if is_broken(status) { self.broken.saturating_add(1) } else { 0 };
        // What a member has said is worth more than that it said nothing the next time.
        if !is_silence(status) || !self.by_address.contains_key(address) {
            self.by_address.insert(address.to_owned(), problem);
        }
    }

    /// Whether members can be dialled, but do not speak as we do.
    fn nobody_understood(&self) -> bool {
        !self.answered && self.broken >= BROKEN_MIN
    }

    fn into_error(self, waited: Duration) -> AdminError {
        let not_understood = self.nobody_understood();
        let problems: Vec<String> = self
            .by_address
            .into_iter()
            .map(|(address, problem)| format!("{address}: {problem}"))
            .collect();
        let problems = problems.join("; ");
        if self.nobody_reached {
            AdminError::Unreachable { problems }
        } else if not_understood {
            AdminError::NotUnderstood { problems }
        } else {
            AdminError::NoLeader { waited, problems }
        }
    }
}
