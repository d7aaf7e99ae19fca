//! Gives the commands of the second operator.
//!
//! A command that got no answer is given again under the same idempotency key, as people's tools do. In
//! the end every node is uncordoned, so that the zone can come to rest with all of them.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::v1::{
    ApplyPlanRequest, BalancePlan, CancelOperationRequest, DrainNodeRequest, GetPolicyRequest,
    ListOperationsRequest, MoveReplicaRequest, NodeReference, OperationResponse,
    OverrideBrakeRequest, PlanBalanceRequest, SetPolicyRequest, SplitBy, SplitPartitionRequest,
    TransferLeaderRequest, UncordonNodeRequest, admin_service_client::AdminServiceClient,
    split_partition_request::Point,
};
use rand::RngExt;
use runtime::{
    grpc::{ChannelOptions, Channels, MESSAGE_BYTES_MAX},
    seams::Environment,
};
use tonic::{Code, Response, Status, transport::Channel};

use super::{Command, SplitAt, TimedCommand, draw};
use crate::{
    board::{Board, LOOK_INTERVAL, Phase},
    checks::Problem,
    seed::Seed,
};

/// The pause between two commands.
const PAUSE_MS: Range<u64> = 100..2_500;

/// How long to wait for the answer to a command.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a command is given again that got no answer.
const ATTEMPTS_MAX: u32 = 4;

/// How long to wait before a command is given again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What became of a command.
enum Given {
    /// With the number of what it has become, an operation or another version of the policy.
    Accepted(Option<u64>),
    Refused,
    ToNobody,
}

/// Who gives the commands.
struct Commander {
    environment: Environment,
    channels: Channels,
    members: Vec<String>,
    board: Board,
    /// What was asked of the policy, by key: asked again, it is the same, although the policy is another by then.
    policies: Mutex<BTreeMap<String, SetPolicyRequest>>,
    /// The last plan that had any steps, and for which command each plan is that may have to be applied again.
    plans: Mutex<Plans>,
}

#[derive(Default)]
struct Plans {
    last: Option<BalancePlan>,
    by_key: BTreeMap<String, BalancePlan>,
}

/// Gives commands from the first phase with faults to its end, those that are written down or else drawn
/// ones; then ends all drains.
///
/// # Errors
/// If no channels can be made.
pub async fn work(
    seed: Seed,
    environment: Environment,
    members: Vec<String>,
    nodes: Vec<String>,
    partitions: u32,
    written: Option<Vec<TimedCommand>>,
    board: Board,
) -> anyhow::Result<()> {
    let channels = Channels::new(&environment, ChannelOptions::default())?;
    let (policies, plans) = (Mutex::default(), Mutex::default());
    let commander = Commander { environment, channels, members, board, policies, plans };
    let mut generator = seed.derive("commands", 0).generator();
    commander.board.reached(Phase::Faults).await;
    commander.board.client_starts();
    let is_drawn = written.is_none();
    let mut written = written.into_iter().flatten().peekable();
    let mut number = 0_u64;
    let mut accepted = Vec::new();
    while commander.board.phase() == Phase::Faults {
        let command = if is_drawn {
            let pause = generator.random_range(PAUSE_MS);
            commander.environment.sleep(Duration::from_millis(pause)).await;
            draw(&mut generator, &nodes, partitions)
        } else {
            let now = turmoil::sim_elapsed().unwrap_or_default();
            let Some(due) = written.next_if(|next| next.at <= now) else {
                commander.environment.sleep(LOOK_INTERVAL).await;
                continue;
            };
            due.command
        };
        number += 1;
        let key = format!("command-{number}");
        if let Given::Accepted(Some(operation)) = commander.give(&command, &key).await {
            accepted.push((command, key, operation));
        }
    }
    // Much has happened since, and a node's name may mean another node.
    for (command, key, operation) in accepted {
        commander.give_again(&command, &key, operation).await;
    }
    for name in nodes {
        let command = Command::Uncordon { node: name };
        loop {
            // What was refused stays refused under its key.
            number += 1;
            match commander.give(&command, &format!("command-{number}")).await {
                Given::Accepted(_) => break,
                Given::Refused | Given::ToNobody => {}
            }
            commander.environment.sleep(RETRY_PAUSE).await;
        }
    }
    commander.board.client_ends();
    Ok(())
}

impl Commander {
    /// Gives a command, and again while there is no answer.
    async fn give(&self, command: &Command, key: &str) -> Given {
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                self.environment.sleep(RETRY_PAUSE).await;
            }
            for member in &self.members {
                match self.ask(member, command, key).await {
                    Ok(operation) => {
                        tracing::info!(?command, "command accepted");
                        if let Some(operation) = operation {
                            self.give_again(command, key, operation).await;
                        }
                        return Given::Accepted(operation);
                    }
                    // Not the leader, or no answer: another member, or later.
                    Err(status) if is_elsewhere(&status) => {}
                    Err(status) => {
                        tracing::info!(?command, %status, "command refused");
                        self.check_refusal(command, &status);
                        return Given::Refused;
                    }
                }
            }
        }
        tracing::info!(?command, "nobody took the command");
        Given::ToNobody
    }

    /// Gives a command again that was accepted. It must not be carried out again (G8).
    async fn give_again(&self, command: &Command, key: &str, accepted: u64) {
        for member in &self.members {
            match self.ask(member, command, key).await {
                Ok(again) if again == Some(accepted) => return,
                Err(status) if is_elsewhere(&status) => {}
                answer => {
                    self.board.report(
                        Problem::new("G8", "a command was not remembered by its idempotency key")
                            .with_details(format!(
                                "{command:?} was operation {accepted}, and given again: {answer:?}"
                            )),
                    );
                    return;
                }
            }
        }
    }

    /// A refusal has to say what was wrong, not that something went wrong.
    fn check_refusal(&self, command: &Command, status: &Status) {
        let is_proper = matches!(
            status.code(),
            Code::FailedPrecondition
                | Code::ResourceExhausted
                | Code::NotFound
                | Code::AlreadyExists
                | Code::InvalidArgument
                | Code::Aborted
        );
        if !is_proper || status.message().is_empty() {
            self.board.report(
                Problem::new("G10", "a command was refused without a proper reason")
                    .with_details(format!("{command:?}: {status}")),
            );
        }
    }

    /// The plan of the command with this key: the same whenever it is given. A new one is made only once.
    async fn plan(
        &self,
        admin: &mut AdminServiceClient<Channel>,
        key: &str,
        is_new: bool,
    ) -> Result<Option<BalancePlan>, Status> {
        let plan = {
            let plans = self.plans();
            let known = plans.by_key.get(key).cloned();
            if is_new { known } else { known.or_else(|| plans.last.clone()) }
        };
        let plan = match plan {
            Some(plan) => plan,
            None if !is_new => return Ok(None),
            None => admin.plan_balance(PlanBalanceRequest::default()).await?.into_inner(),
        };
        let mut plans = self.plans();
        plans.by_key.insert(key.to_owned(), plan.clone());
        if !plan.steps.is_empty() {
            plans.last = Some(plan.clone());
        }
        Ok(Some(plan))
    }

    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the operation (of several, the first), or of the version of the policy, that the command has
    /// become, if any.
    async fn ask(&self, member: &str, command: &Command, key: &str) -> Result<Option<u64>, Status> {
        let mut admin: AdminServiceClient<Channel> =
            AdminServiceClient::new(self.channels.get(member))
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let idempotency_key = key.to_owned();
        let asking = async {
            match command.clone() {
                Command::TransferLeader { partition, to } => {
                    let to = node(&to);
                    let partition_id = partition;
                    admin
                        .transfer_leader(TransferLeaderRequest {
                            partition_id,
                            to,
                            idempotency_key,
                        })
                        .await
                        .map(operation_of)
                }
                Command::MoveReplica { partition, from, to } => {
                    let (from, to) = (node(&from), node(&to));
                    let partition_id = partition;
                    admin
                        .move_replica(MoveReplicaRequest {
                            partition_id,
                            from,
                            to,
                            idempotency_key,
                        })
                        .await
                        .map(operation_of)
                }
                Command::Split { partition, at } => {
                    let point = match at {
                        SplitAt::Key(key) => Point::At(key.into_bytes().into()),
                        SplitAt::Load => Point::By(SplitBy::Load.into()),
                        SplitAt::Size => Point::By(SplitBy::Size.into()),
                    };
                    let (partition_id, point) = (partition, Some(point));
                    let request = SplitPartitionRequest { partition_id, point, idempotency_key };
                    admin.split_partition(request).await.map(operation_of)
                }
                Command::Drain { node: name } => {
                    let node = node(&name);
                    let request =
                        DrainNodeRequest { node, accept_data_loss_risk: false, idempotency_key };
                    admin.drain_node(request).await.map(operation_of)
                }
                Command::Uncordon { node: name } => {
                    let request = UncordonNodeRequest { node: node(&name), idempotency_key };
                    admin.uncordon_node(request).await.map(|_| None)
                }
                Command::Rebalance | Command::ApplyStalePlan => {
                    let is_new = matches!(command, Command::Rebalance);
                    let Some(plan) = self.plan(&mut admin, key, is_new).await? else {
                        return Ok(None);
                    };
                    let (zone_id, steps) = (plan.zone_id, plan.steps);
                    let request = ApplyPlanRequest { zone_id, steps, idempotency_key };
                    let applied = admin.apply_plan(request).await?.into_inner();
                    Ok(applied.operation_ids.first().copied())
                }
                Command::OverrideBrake { seconds } => {
                    let reason = "what is lost will not come back soon".to_owned();
                    let duration_ms = seconds * 1_000;
                    let request = OverrideBrakeRequest { duration_ms, reason, idempotency_key };
                    admin.override_brake(request).await.map(|_| None)
                }
                Command::RestoreBrake => {
                    let (duration_ms, reason) = (0, String::new());
                    let request = OverrideBrakeRequest { duration_ms, reason, idempotency_key };
                    admin.override_brake(request).await.map(|_| None)
                }
                Command::SetPolicy { field, value } => {
                    let request = self.policy_request(&mut admin, &field, value, key).await?;
                    admin.set_policy(request).await.map(|answer| Some(answer.into_inner().version))
                }
                Command::Cancel => {
                    let request = ListOperationsRequest { include_ended: false, limit: 1 };
                    let listed = admin.list_operations(request).await?.into_inner();
                    let Some(newest) = listed.operations.first() else { return Ok(None) };
                    let request = CancelOperationRequest { id: newest.id };
                    admin.cancel_operation(request).await.map(|_| None)
                }
            }
        };
        match self.environment.timeout(CALL_TIMEOUT, asking).await {
            Some(answer) => answer,
            None => Err(Status::deadline_exceeded("no answer in time")),
        }
    }
}

impl Commander {
    /// The policy with one field changed, as it was when this was asked for first.
    async fn policy_request(
        &self,
        admin: &mut AdminServiceClient<Channel>,
        field: &str,
        value: u64,
        key: &str,
    ) -> Result<SetPolicyRequest, Status> {
        let known = || self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(request) = known().get(key) {
            return Ok(request.clone());
        }
        let mut policy = admin.get_policy(GetPolicyRequest {}).await?.into_inner().policy;
        if let Some(policy) = &mut policy
            && !policy.set_value(field, value)
        {
            return Err(Status::invalid_argument(format!("there is no field {field}")));
        }
        let (reason, idempotency_key) = ("the operator tries it".to_owned(), key.to_owned());
        let request = SetPolicyRequest { policy, reason, dry_run: false, idempotency_key };
        known().insert(key.to_owned(), request.clone());
        Ok(request)
    }
}

fn node(name: &str) -> Option<NodeReference> {
    Some(NodeReference { id: 0, name: name.to_owned() })
}

fn operation_of(answer: Response<OperationResponse>) -> Option<u64> {
    answer.into_inner().operation.map(|operation| operation.id)
}

/// Whether another member may know better, or the same one later.
fn is_elsewhere(status: &Status) -> bool {
    let not_leading = matches!(
        runtime::grpc::detail::kind_of(status),
        Some(proto::v1::error_detail::Kind::WrongLeader(_))
    );
    not_leading
        || matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
        )
}
