//! Carrying out takeovers: the calls that the model's state machine wants, with their deadlines.
//!
//! The conclusion that a node is lost is committed before this acts on it: the model looks at the
//! committed state. Each call stands for itself, so that one silent node holds up nobody else.

use std::{sync::Arc, time::Duration};

use model::{
    Action, Fence, NodeId,
    takeover::{
        Call, CallId, CallKind, Ended, GroupPosition, GroupResult, TakeoverOptions, Takeovers,
    },
};
use proto::v1::{
    CollectLogPositionsRequest, TakeOverRequest, VoteAuthority,
    peer_service_client::PeerServiceClient,
};
use runtime::grpc::MESSAGE_BYTES_MAX;
use tokio::sync::mpsc;
use tonic::{Status, transport::Channel};

use super::Reign;
use crate::{
    configuration::TakeoverTimers,
    metrics,
    services::{from_wire, to_wire},
};

/// How long to wait for news at most.
const INTERVAL: Duration = Duration::from_millis(20);

/// After a step that took so long, there is a pause of the same length: news come in hundreds in a second
/// when very many groups have to be looked at.
const LONG_STEP: Duration = Duration::from_millis(2);

fn options(timers: &TakeoverTimers) -> TakeoverOptions {
    TakeoverOptions {
        leaderless_after: Duration::from_millis(timers.leaderless_after_ms),
        gentle_timeout: Duration::from_millis(timers.candidate_timeout_ms),
        ..TakeoverOptions::default()
    }
}

/// What became of a call.
enum Answer {
    Collected(CallId, Vec<GroupPosition>),
    TakenOver(CallId, Vec<GroupResult>),
    Failed(CallId, String),
}

/// Takes over while a reign lasts.
struct Driver {
    reign: Arc<Reign>,
    takeovers: Takeovers,
    answers: mpsc::UnboundedSender<Answer>,
}

/// Takes over until the reign ends.
pub async fn run(reign: Arc<Reign>) {
    // Bounded by the calls under way, which the model bounds.
    let (answers, mut answered) = mpsc::unbounded_channel();
    let mut observed = reign.watch();
    let mut published = reign.zone().subscribe();
    let mut driver = Driver {
        takeovers: Takeovers::new(options(&reign.configuration().takeover)),
        reign: Arc::clone(&reign),
        answers,
    };
    loop {
        let started = reign.now();
        driver.step();
        let took = reign.now().saturating_sub(started);
        if took >= LONG_STEP {
            reign.environment().sleep(took.min(INTERVAL)).await;
        }
        let wait = driver.wait();
        tokio::select! {
            biased;
            () = reign.ended().cancelled() => return,
            Some(answer) = answered.recv() => driver.take_in(answer),
            _ = published.changed() => {}
            _ = observed.changed() => {}
            () = reign.environment().sleep(wait) => {}
        }
        while let Ok(answer) = answered.try_recv() {
            driver.take_in(answer);
        }
    }
}

impl Driver {
    fn wait(&self) -> Duration {
        let until = self.takeovers.next_deadline();
        let until = until.map(|deadline| deadline.saturating_sub(self.reign.now()));
        // Never in a busy loop, even if the model's deadline has passed already.
        until.map_or(INTERVAL, |wait| wait.clamp(Duration::from_millis(1), INTERVAL))
    }

    fn take_in(&mut self, answer: Answer) {
        match answer {
            Answer::Collected(call, positions) => self.takeovers.collected(call, positions),
            Answer::TakenOver(call, results) => self.takeovers.taken_over(call, results),
            Answer::Failed(call, reason) => self.takeovers.call_failed(call, &reason),
        }
    }

    fn step(&mut self) {
        let reign = Arc::clone(&self.reign);
        let now = reign.now();
        let (calls, fence) = reign.zone().read(|state| {
            self.takeovers.begin(state, &reign.view(), now);
            let calls = self.takeovers.calls(state, now);
            let calls: Vec<(Call, Option<String>)> = calls
                .into_iter()
                .map(|call| {
                    let address = state.node(call.node).map(|node| node.address.clone());
                    (call, address)
                })
                .collect();
            (calls, reign.fence_of(state))
        });
        for ended in self.takeovers.take_ended() {
            measure(&ended);
        }
        for (call, address) in calls {
            self.call(call, address, fence);
        }
        while let Some(record) = self.takeovers.finished(now) {
            self.record(record);
        }
    }

    fn call(&self, call: Call, address: Option<String>, fence: Fence) {
        tracing::debug!(?call, "takeover");
        runtime::mark!("take-over asked", call.kind);
        let (reign, answers) = (Arc::clone(&self.reign), self.answers.clone());
        tokio::spawn(async move {
            let id = call.id;
            let answer = match address {
                Some(address) => make(&reign, call, &address, fence).await,
                None => Err(Status::not_found("the node is not part of the zone any more")),
            };
            // Nobody listens when the reign has ended.
            let _ = answers.send(answer.unwrap_or_else(|status| {
                Answer::Failed(id, format!("{:?}: {}", status.code(), status.message()))
            }));
        });
    }

    /// Commits what a takeover did; the next step does not wait for it.
    fn record(&self, record: Action) {
        let reign = Arc::clone(&self.reign);
        tokio::spawn(async move {
            if let Err(error) = reign.propose(record, "").await {
                tracing::warn!(%error, "the record of a takeover was not committed");
                runtime::mark!("take-over: its record was not committed");
            }
        });
    }
}

/// Counts a takeover, and measures one that gave the partition a leader: always both together.
fn measure(ended: &Ended) {
    let outcome = if ended.led { "led" } else { "failed" };
    ::metrics::counter!(metrics::TAKEOVERS, "outcome" => outcome).increment(1);
    if ended.led {
        ::metrics::histogram!(metrics::TAKEOVER_SECONDS).record(ended.took.as_secs_f64());
    }
}

fn client(reign: &Reign, address: &str) -> PeerServiceClient<Channel> {
    PeerServiceClient::new(reign.channels().get(address))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Makes one call, within its time.
async fn make(reign: &Reign, call: Call, address: &str, fence: Fence) -> Result<Answer, Status> {
    let Call { id, node, kind, timeout } = call;
    let mut client = client(reign, address);
    let made = async {
        match kind {
            CallKind::Collect { groups } => {
                let groups = groups.into_iter().map(to_wire::group_replica).collect();
                let request = CollectLogPositionsRequest { groups };
                let answer = client.collect_log_positions(request).await?.into_inner();
                let positions = answer.positions.into_iter().map(from_wire::group_position);
                let positions = positions.collect::<Result<Vec<_>, _>>();
                Ok(Answer::Collected(id, positions.map_err(Status::from)?))
            }
            CallKind::TakeOver { lost_node, groups } => {
                let request = TakeOverRequest {
                    fence: Some(to_wire::fence(fence)),
                    authority: VoteAuthority::Conclusion.into(),
                    lost_node_id: lost_node.map_or(0, NodeId::get),
                    groups: groups.into_iter().map(to_wire::take_over_group).collect(),
                    // So that the answer is here before the call counts as failed.
                    timeout_ms: model::ids::millis(timeout * 4 / 5),
                };
                let answer = client.take_over(request).await?.into_inner();
                let results = answer.results.into_iter().map(from_wire::group_result);
                let results = results.collect::<Result<Vec<_>, _>>();
                Ok(Answer::TakenOver(id, results.map_err(Status::from)?))
            }
        }
    };
    reign.environment().timeout(timeout, made).await.unwrap_or_else(|| {
        // The connection may be dead without a word: the next call makes a new one.
        reign.channels().forget(address);
        Err(Status::deadline_exceeded(format!("node {node} did not answer in time")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::Recorded;

    #[test]
    fn each_takeover_is_counted_once_and_measured_where_it_is_counted() {
        let recorded = Recorded::default();
        ::metrics::with_local_recorder(&recorded, || {
            let ended = |led| Ended {
                partition: model::PartitionId(1),
                led,
                took: Duration::from_millis(40),
            };
            measure(&ended(true));
            measure(&ended(false));
            measure(&ended(true));
        });
        assert_eq!(recorded.counter("isotherm_control_plane_takeovers_total{outcome=led}"), 2);
        assert_eq!(recorded.counter("isotherm_control_plane_takeovers_total{outcome=failed}"), 1);
        assert_eq!(recorded.samples(metrics::TAKEOVER_SECONDS), [0.04, 0.04]);
    }
}
