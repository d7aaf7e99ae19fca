//! Confirms, before a read is answered, that this replica still leads.
//!
//! A read is confirmed by a round of messages to a quorum that began after the read came in. One round
//! serves everybody who waits when it begins, so the cost of a round is shared by many reads. Leadership
//! is never taken from a lease: an appointed leader may lead before an old lease ends.

use std::time::Duration;

use openraft::{LinearizerOption, error::LinearizableReadError, error::RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    error::RequestError,
    instruments,
    replica::PartitionRaft,
    types::{NodeId, PartitionId, Placement, ReplicaId, TypeConfig},
};

type Answer = Result<(), RequestError>;

/// Where reads wait for the next round.
pub struct ReadGate {
    partition: PartitionId,
    waiting: mpsc::Sender<oneshot::Sender<Answer>>,
}

/// What the rounds need.
pub struct ReadRounds {
    pub partition: PartitionId,
    pub raft: PartitionRaft,
    pub timeout: Duration,
    /// Reads that may share a round.
    pub waiting_max: usize,
    /// Told of each round's end: whether leadership was confirmed.
    pub on_round: Box<dyn Fn(&Answer) + Send + Sync>,
}

impl ReadGate {
    /// Starts the rounds; they end with `stopping`.
    pub fn start(rounds: ReadRounds, stopping: CancellationToken) -> Self {
        let (waiting, receiver) = mpsc::channel(rounds.waiting_max);
        let partition = rounds.partition;
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = rounds.run(receiver) => {}
            }
        });
        Self { partition, waiting }
    }

    /// Whether a quorum confirmed, after this was called, that this replica leads; and everything that
    /// was committed before is applied here.
    pub async fn confirm(&self) -> Answer {
        let (sender, receiver) = oneshot::channel();
        match self.waiting.try_send(sender) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(RequestError::Exhausted {
                    problem: "too many reads wait for confirmation",
                    retry_after: Duration::from_millis(20),
                });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(self.stopped()),
        }
        receiver.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    fn stopped(&self) -> RequestError {
        RequestError::Unavailable {
            partition: self.partition,
            problem: "the replica has stopped".to_owned(),
        }
    }
}

impl ReadRounds {
    async fn run(&self, mut waiting: mpsc::Receiver<oneshot::Sender<Answer>>) {
        let mut round = Vec::new();
        // Everybody who is here when the round begins shares it.
        while waiting.recv_many(&mut round, self.waiting_max).await > 0 {
            let answer = self.round().await;
            (self.on_round)(&answer);
            instruments::read_round(&answer, round.len());
            if round.len() > 1 {
                runtime::mark!("read: one round confirmed several reads");
            }
            for waiter in round.drain(..) {
                // It may have stopped waiting.
                let _ = waiter.send(answer.clone());
            }
        }
    }

    async fn round(&self) -> Answer {
        let option =
            LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(self.timeout);
        let confirmation =
            runtime::time::timeout(self.timeout, self.raft.get_read_linearizer(option)).await;
        let linearizer = match confirmation {
            Ok(Ok(linearizer)) => linearizer,
            Ok(Err(error)) => return Err(self.refusal(error)),
            Err(_) => return Err(self.unavailable("leadership was not confirmed in time")),
        };
        match linearizer.try_await_ready(&self.raft, Some(self.timeout)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.unavailable("applying what is committed takes too long")),
            Err(fatal) => Err(self.unavailable(&fatal.to_string())),
        }
    }

    fn refusal(
        &self,
        error: RaftError<TypeConfig, LinearizableReadError<TypeConfig>>,
    ) -> RequestError {
        match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
                RequestError::WrongLeader {
                    partition: self.partition,
                    leader: forward.leader_id.map(|replica| Placement {
                        replica: ReplicaId(replica),
                        node: forward.leader_node.map_or(NodeId(0), |node| node.node_id),
                    }),
                }
            }
            RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => {
                runtime::mark!("read: no quorum confirmed the leadership");
                self.unavailable("no quorum confirmed the leadership")
            }
            RaftError::Fatal(fatal) => self.unavailable(&fatal.to_string()),
        }
    }

    fn unavailable(&self, problem: &str) -> RequestError {
        RequestError::Unavailable { partition: self.partition, problem: problem.to_owned() }
    }
}
