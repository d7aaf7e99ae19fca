//! One request: attempts in rounds until an answer, a final refusal, or the deadline.
//!
//! **Architecture invariant**: what an attempt's failure means is said in `verdict`, whom to ask next in
//! `candidates`, what everybody shares in `directory`; here is only the loop.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proto::v1;
use runtime::seams::Moment;
use tonic::Code;

use crate::{
    candidates::Candidates,
    client::Shared,
    directory::ProbeClaim,
    error::{RequestError, WriteError},
    identifiers::{NodeId, PartitionId},
    map::Route,
    message::{Answer, Call, Message},
    pacing::Backoff,
    verdict::{Verdict, describe},
};

/// A write's identity. Fixed from the first attempt that may have been proposed.
struct WriteIdentity {
    id: [u8; 16],
    expires_at_ms: Option<u64>,
    maybe_done: bool,
}

/// What to do after an attempt that brought no answer.
enum Next {
    /// Ask the node that was just named, or the same one again, at once.
    Go,
    /// Ask another candidate.
    Others,
    /// Wait at least this long, then ask the next candidate.
    Wait(Duration),
    /// The map is wrong: get a new one, then begin a new round.
    Refresh,
    End(WriteError),
}

/// A request that took longer than this is worth a line in the log.
const SLOW: Duration = Duration::from_millis(20);

/// A new leader is told by the watch of the map, or by hints. If neither says anything for so many
/// rounds, the map is fetched: the watch may be broken.
const ROUNDS_PER_REFRESH: u32 = 8;

pub(crate) struct Request<'a> {
    shared: &'a Shared,
    /// The request goes to the partition that holds this key.
    route_by: Bytes,
    call: Call,
    write: Option<WriteIdentity>,
    started: Moment,
    deadline: Moment,
    candidates: Candidates,
    backoff: Backoff,
    attempts: u32,
    /// Whether the next attempt is no retry that counts: it corrects the last one, or comes when the server has said.
    is_free: bool,
    rounds: u32,
    last_problem: String,
    claim: Option<ProbeClaim>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(shared: &'a Shared, route_by: Bytes, call: Call, deadline: Duration) -> Self {
        let environment = &shared.environment;
        let started = environment.now();
        let write = call.is_write().then(|| WriteIdentity {
            id: environment.random_bytes(),
            expires_at_ms: None,
            maybe_done: false,
        });
        // Only the low bits matter: where the turn over a few replicas starts.
        let turn = usize::try_from(environment.random_below(1 << 16)).unwrap_or(0);
        Self {
            shared,
            route_by,
            call,
            write,
            started,
            deadline: started + deadline,
            candidates: Candidates::starting_at(turn),
            backoff: Backoff::new(shared.options.backoff_min, shared.options.backoff_max),
            attempts: 0,
            is_free: false,
            rounds: 0,
            last_problem: "no attempt was made".to_owned(),
            claim: None,
        }
    }

    fn remaining(&self) -> Duration {
        self.deadline.since(self.shared.environment.now())
    }

    /// # Errors
    /// Reads end only in [`WriteError::Failed`].
    pub(crate) async fn run(mut self) -> Result<Answer, WriteError> {
        self.shared.budget.pay_in();
        let outcome = self.attempts_until_the_end().await;
        let outcome_name = match &outcome {
            Ok(_) => "ok",
            Err(WriteError::ConditionFailed { .. }) => "condition_failed",
            Err(WriteError::Failed(_)) => "failed",
            Err(WriteError::Unknown { .. }) => "unknown",
        };
        metrics::counter!("isotherm_client_requests_total",
            "call" => self.call.name(), "outcome" => outcome_name)
        .increment(1);
        let waited = self.waited();
        if waited > SLOW {
            tracing::debug!(
                call = self.call.name(),
                outcome = outcome_name,
                ?waited,
                attempts = self.attempts,
                rounds = self.rounds,
                last_problem = self.last_problem,
                "a request took long"
            );
        }
        outcome
    }

    async fn attempts_until_the_end(&mut self) -> Result<Answer, WriteError> {
        loop {
            if self.remaining().is_zero() {
                return Err(self.out_of_time());
            }
            let shared = self.shared;
            let directory = &shared.directory;
            let Some(route) = directory.locate(&self.route_by) else {
                self.last_problem = "no partition is known that holds the key".to_owned();
                self.refresh().await;
                continue;
            };
            let news = directory.news_of(route.partition);
            let Some(node) = self.candidates.choose(&route, |node| directory.doubtful(node)) else {
                self.wait_for_a_round(&route, news).await;
                continue;
            };
            let Some(address) = directory.address(node) else {
                self.last_problem = format!("the address of node {node} is not known");
                runtime::mark!("client: the address of a node was not known");
                self.shared.keeper.want_refresh();
                continue;
            };
            match self.attempt(&route, node, &address).await {
                Ok(answer) => return Ok(answer),
                Err(Next::Go) => self.is_free = true,
                Err(Next::Others) => {
                    // While another request probes the partition, this one does not join in with a
                    // whole round.
                    if self.claim.is_none() && directory.is_probed(route.partition) {
                        self.wait_for_a_round(&route, news).await;
                    }
                }
                Err(Next::Wait(at_least)) => {
                    let wait = at_least.min(self.remaining());
                    self.shared.environment.sleep(wait).await;
                }
                Err(Next::Refresh) => self.refresh().await,
                Err(Next::End(error)) => return Err(error),
            }
        }
    }

    /// One attempt at one node.
    async fn attempt(
        &mut self,
        route: &Arc<Route>,
        node: NodeId,
        address: &str,
    ) -> Result<Answer, Next> {
        let counts = self.attempts > 0 && !std::mem::take(&mut self.is_free);
        if counts && !self.shared.budget.take() {
            runtime::mark!("client: the budget of retries was used up");
            let wait = self.backoff.draw_longest(&self.shared.environment);
            self.shared.environment.sleep(wait.min(self.remaining())).await;
            if self.remaining().is_zero() {
                return Err(Next::Others);
            }
        }
        self.attempts += 1;
        let limit = self.shared.options.attempt_timeout.min(self.remaining());
        let began = self.shared.environment.now();
        let target = v1::Target { partition_id: route.partition.0, range_epoch: route.epoch.0 };
        let write_id = self.write_id(route.partition);
        let message = Message::new(self.call.clone(), target, write_id);
        let channel = self.shared.channels.get(address);
        let sent = Box::pin(message.send(channel, limit));
        let answer = self.shared.environment.timeout(limit, sent).await;
        let (verdict, problem) = match answer {
            Some(Ok((answer, time_ms))) => {
                self.shared.directory.note_success(route.partition, node, time_ms);
                if self.write.as_ref().is_some_and(|write| write.maybe_done) {
                    runtime::mark!("client: a retry told the outcome of a write");
                }
                count_attempt("ok");
                let took = self.shared.environment.now().since(began);
                if took > SLOW {
                    let (partition, node) = (route.partition.0, node.0);
                    tracing::debug!(partition, node, ?took, "an attempt took long");
                }
                return Ok(answer);
            }
            Some(Err(status)) => (Verdict::of(&status), describe(&status)),
            None => (Verdict::MaybeDone { answered: false }, format!("no answer within {limit:?}")),
        };
        count_attempt(verdict.name());
        tracing::debug!(
            call = self.call.name(),
            partition = route.partition.0,
            node = node.0,
            verdict = verdict.name(),
            problem,
            took = ?self.shared.environment.now().since(began),
            waited = ?self.waited(),
            "an attempt brought no answer"
        );
        self.last_problem = format!("node {node} at {address}: {problem}");
        Err(self.judge(route, node, verdict, problem))
    }

    /// What an attempt's failure means, for this request and for all.
    fn judge(&mut self, route: &Route, node: NodeId, verdict: Verdict, problem: String) -> Next {
        let directory = &self.shared.directory;
        if verdict.node_answered() {
            directory.note_alive(node);
        }
        runtime::mark!("client was told", verdict);
        match verdict {
            Verdict::WrongLeader { hint } => {
                let followed = hint.is_some_and(|hint| {
                    directory.note_hint(route.partition, &hint);
                    hint.leader != node && self.candidates.follow(hint.leader)
                });
                if followed {
                    runtime::mark!("client: a hint to the leader was followed");
                    Next::Go
                } else {
                    Next::Others
                }
            }
            Verdict::WrongRange { correction } => {
                let better = correction.is_some_and(|one| directory.correct_range(&one));
                match directory.locate(&self.route_by) {
                    // By this correction, or somebody else's.
                    Some(now) if now.partition != route.partition => {
                        self.candidates.new_round();
                        Next::Go
                    }
                    Some(now)
                        if (better || now.epoch != route.epoch)
                            && self.candidates.ask_again(node) =>
                    {
                        Next::Go
                    }
                    Some(_) | None => Next::Refresh,
                }
            }
            Verdict::NotHere => {
                self.shared.keeper.want_refresh();
                Next::Others
            }
            Verdict::PartitionTime { now_ms } => {
                directory.note_time(route.partition, now_ms);
                self.judge_time(node, now_ms)
            }
            Verdict::ConditionFailed { current_version } => {
                // Also after an attempt whose outcome is not known: the partition keeps the outcome of
                // this id until it expires, so this answer is about the write's first and only
                // application and not about a second look after it.
                Next::End(WriteError::ConditionFailed { current_version })
            }
            Verdict::Overloaded { retry_after } => {
                self.candidates.ask_again(node);
                let environment = &self.shared.environment;
                let backoff = self.backoff.draw(environment);
                // The server sets the pace, and it may be about this key alone: what all requests share is left
                // to them. The backoff slows it down as much as an empty budget would.
                self.is_free = retry_after.is_some();
                Next::Wait(
                    retry_after.map_or(backoff, |after| environment.jittered(after).max(backoff)),
                )
            }
            Verdict::Unavailable => Next::Others,
            Verdict::NotReached => {
                self.candidates.note_unreached(node);
                directory.note_unreached(node);
                Next::Others
            }
            Verdict::MaybeDone { answered } => {
                if !answered {
                    self.candidates.note_unreached(node);
                    directory.note_unreached(node);
                }
                if let Some(write) = &mut self.write {
                    write.maybe_done = true;
                }
                Next::Others
            }
            Verdict::Rejected { code } => Next::End(self.rejected(code, problem)),
        }
    }

    /// The partition refused the write's expiry, and said its time.
    fn judge_time(&mut self, node: NodeId, now_ms: u64) -> Next {
        let Some(write) = &mut self.write else {
            return Next::End(self.rejected(
                Code::Internal,
                "a read was refused for its expiry, which it does not have".to_owned(),
            ));
        };
        if !write.maybe_done {
            // No attempt was proposed: the write is free to take an expiry that fits.
            write.expires_at_ms = None;
            runtime::mark!("client: a write took another expiry");
            return if self.candidates.ask_again(node) { Next::Go } else { self.backed_off() };
        }
        if write.expires_at_ms.is_some_and(|expires| now_ms > expires) {
            // It can no longer take effect; whether it has, nobody remembers.
            runtime::mark!("client: a write expired before its outcome was learnt");
            self.last_problem = "the write expired before its outcome was learnt".to_owned();
            return Next::End(self.out_of_time());
        }
        // Too far ahead of a partition whose time stood still: the expiry must stay, so wait.
        self.candidates.ask_again(node);
        self.backed_off()
    }

    fn backed_off(&mut self) -> Next {
        Next::Wait(self.backoff.draw(&self.shared.environment))
    }

    /// The wait between two rounds: until there is news of the partition, or the backoff is over. One
    /// request at a time probes with the short backoff, the others lean on it.
    async fn wait_for_a_round(&mut self, route: &Route, news: u64) {
        let shared = self.shared;
        self.rounds += 1;
        if self.rounds.is_multiple_of(ROUNDS_PER_REFRESH) {
            shared.keeper.want_refresh();
        }
        if self.claim.as_ref().is_none_or(|claim| claim.partition() != route.partition) {
            self.claim = None;
            self.claim = shared.directory.claim(route.partition);
        }
        let short = self.backoff.draw(&shared.environment);
        let wait = match &self.claim {
            Some(_) => short,
            None => {
                runtime::mark!("client: a request leaned on the probe of another");
                self.backoff.draw_longest(&shared.environment)
            }
        };
        let wait = wait.min(self.remaining());
        tracing::debug!(
            partition = route.partition.0,
            probes = self.claim.is_some(),
            ?wait,
            waited = ?self.waited(),
            "nobody answered in this round"
        );
        let news = shared.directory.news_after(route.partition, news);
        // None: it was the backoff that ended.
        let _ = shared.environment.timeout(wait, news).await;
        self.candidates.new_round();
    }

    /// Waits for a new map, though not for ever, and begins a new round.
    async fn refresh(&mut self) {
        let shared = self.shared;
        let known = shared.directory.locate(&self.route_by);
        // None: the control plane does not answer; on with what is known.
        let limit = shared.options.attempt_timeout.min(self.remaining());
        let _ = shared.environment.timeout(limit, shared.keeper.refresh()).await;
        if shared.directory.locate(&self.route_by) == known {
            let wait = self.backoff.draw(&shared.environment);
            shared.environment.sleep(wait.min(self.remaining())).await;
        }
        self.candidates.new_round();
    }

    fn waited(&self) -> Duration {
        self.shared.environment.now().since(self.started)
    }

    fn out_of_time(&self) -> WriteError {
        let (waited, attempts) = (self.waited(), self.attempts);
        let last = self.last_problem.clone();
        if self.write.as_ref().is_some_and(|write| write.maybe_done) {
            WriteError::Unknown { waited, attempts, last }
        } else {
            WriteError::Failed(RequestError::Deadline { waited, attempts, last })
        }
    }

    /// A refusal is the end. It speaks for its own attempt only, not for an earlier one that may have
    /// been done.
    fn rejected(&self, code: Code, message: String) -> WriteError {
        if self.write.as_ref().is_some_and(|write| write.maybe_done) {
            let (waited, attempts) = (self.waited(), self.attempts);
            WriteError::Unknown { waited, attempts, last: message }
        } else {
            WriteError::Failed(RequestError::Rejected { code, message })
        }
    }

    /// The write's id and expiry for the next attempt.
    fn write_id(&mut self, partition: PartitionId) -> Option<v1::WriteId> {
        let remaining = self.remaining();
        let write = self.write.as_mut()?;
        if write.expires_at_ms.is_none() {
            write.expires_at_ms = self.shared.directory.expiry(partition, remaining);
        }
        Some(v1::WriteId {
            id: Bytes::copy_from_slice(&write.id),
            // Zero while the partition's time is not known: the leader refuses that, and says the time.
            expires_at_ms: write.expires_at_ms.unwrap_or(0),
        })
    }
}

fn count_attempt(outcome: &'static str) {
    metrics::counter!("isotherm_client_attempts_total", "outcome" => outcome).increment(1);
}
