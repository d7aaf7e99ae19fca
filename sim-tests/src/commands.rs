//! A second operator, who gives commands while things go wrong: moves, hand-overs, splits, drains and their ends,
//! plans (also such as are outrun), cancellations, changes of the policy, at times and on nodes that follow from the
//! seed, or that a scenario says.
//!
//! A command that got no answer is given again under the same idempotency key, as people's tools do. In
//! the end every node is uncordoned, so that the zone can come to rest with all of them.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
    str::FromStr,
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
use rand::{RngExt, rngs::StdRng};
use runtime::{
    grpc::{ChannelOptions, Channels, MESSAGE_BYTES_MAX},
    seams::Environment,
};
use tonic::{Code, Response, Status, transport::Channel};

use crate::{
    board::{Board, LOOK_INTERVAL, Phase},
    checks::Problem,
    faults,
    seed::Seed,
};

/// The pause between two commands.
const PAUSE_MS: Range<u64> = 100..2_500;

/// For how long a drawn command overrides the brake: long enough for a repair, shorter than most faults.
const OVERRIDE_SECONDS: u64 = 5;

/// The fields of the policy that are drawn, and their values: none that would make repairs take too long.
const FIELDS: [(&str, RangeInclusive<u64>); 3] = [
    ("changes_in_flight_zone_max", 4..=16),
    ("changes_in_flight_node_max", 2..=4),
    ("transfers_in_flight_max", 4..=16),
];

/// How long to wait for the answer to a command.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a command is given again that got no answer.
const ATTEMPTS_MAX: u32 = 4;

/// How long to wait before a command is given again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    TransferLeader {
        partition: u64,
        to: String,
    },
    MoveReplica {
        partition: u64,
        from: String,
        to: String,
    },
    Drain {
        node: String,
    },
    Uncordon {
        node: String,
    },
    Split {
        partition: u64,
        at: SplitAt,
    },
    /// A plan, and its application.
    Rebalance,
    /// Of a plan that was made a while ago: the last one that had any steps.
    ApplyStalePlan,
    /// Of the newest operation that has not ended.
    Cancel,
    OverrideBrake {
        seconds: u64,
    },
    RestoreBrake,
    /// Changes one field of the policy.
    SetPolicy {
        field: String,
        value: u64,
    },
}

/// Where a partition is to be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitAt {
    Key(String),
    Load,
    Size,
}

/// A command and its time since the start of the simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedCommand {
    pub at: Duration,
    pub command: Command,
}

impl Command {
    /// The nodes that it names.
    pub fn nodes(&self) -> Vec<&str> {
        match self {
            Command::TransferLeader { to: node, .. }
            | Command::Drain { node }
            | Command::Uncordon { node } => vec![node],
            Command::MoveReplica { from, to, .. } => vec![from, to],
            Command::Split { .. }
            | Command::Rebalance
            | Command::ApplyStalePlan
            | Command::Cancel
            | Command::OverrideBrake { .. }
            | Command::RestoreBrake
            | Command::SetPolicy { .. } => Vec::new(),
        }
    }

    /// The partition that it names.
    pub fn partition(&self) -> Option<u64> {
        match self {
            Command::TransferLeader { partition, .. } | Command::MoveReplica { partition, .. } => {
                Some(*partition)
            }
            // It may be one that a split before has made.
            Command::Split { .. }
            | Command::Drain { .. }
            | Command::Uncordon { .. }
            | Command::Rebalance
            | Command::ApplyStalePlan
            | Command::Cancel
            | Command::OverrideBrake { .. }
            | Command::RestoreBrake
            | Command::SetPolicy { .. } => None,
        }
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let own = |word: &str| word.to_owned();
        let number = |word: &str| {
            word.parse::<u64>().map_err(|_| format!("{word:?} is no partition's number: {text:?}"))
        };
        let seconds = |word: &str| {
            let given = word.parse::<u64>().ok().filter(|given| (1..=3_600).contains(given));
            given.ok_or_else(|| format!("{word:?} is no number from 1 to 3600: {text:?}"))
        };
        Ok(match words[..] {
            ["transfer", "leader", "of", partition, "to", to] => {
                Command::TransferLeader { partition: number(partition)?, to: own(to) }
            }
            ["move", "replica", "of", partition, "from", from, "to", to] => {
                let partition = number(partition)?;
                Command::MoveReplica { partition, from: own(from), to: own(to) }
            }
            ["split", partition, "at", key] => {
                Command::Split { partition: number(partition)?, at: SplitAt::Key(own(key)) }
            }
            ["split", partition, "by", "size"] => {
                Command::Split { partition: number(partition)?, at: SplitAt::Size }
            }
            ["split", partition, "by", "load"] => {
                Command::Split { partition: number(partition)?, at: SplitAt::Load }
            }
            ["drain", node] => Command::Drain { node: own(node) },
            ["uncordon", node] => Command::Uncordon { node: own(node) },
            ["rebalance"] => Command::Rebalance,
            ["apply", "a", "stale", "plan"] => Command::ApplyStalePlan,
            ["cancel"] => Command::Cancel,
            ["override", "brake", "for", given, "s"] => {
                Command::OverrideBrake { seconds: seconds(given)? }
            }
            ["restore", "brake"] => Command::RestoreBrake,
            ["set", field, "to", value] => {
                let value =
                    value.parse().map_err(|_| format!("{value:?} is no value: {text:?}"))?;
                Command::SetPolicy { field: own(field), value }
            }
            _ => {
                return Err(format!(
                    "{text:?} is no command; one is for example \"drain node-1\", \"uncordon node-1\", \
                     \"transfer leader of 2 to node-1\", \"move replica of 2 from node-1 to node-4\", \
                     \"split 2 at key-0007\", \"split 2 by size\", \"rebalance\", \"apply a stale plan\", \"cancel\", \
                     \"override brake for 10 s\", \"restore brake\" or \"set transfers_in_flight_max to 4\""
                ));
            }
        })
    }
}

impl FromStr for TimedCommand {
    type Err = String;

    /// A time and a command, for example `6.5 s  drain node-2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (at, command) = faults::timed(text)?;
        Ok(Self { at, command: command.parse()? })
    }
}

fn node(name: &str) -> Option<NodeReference> {
    Some(NodeReference { id: 0, name: name.to_owned() })
}

/// Partitions that splits may have made by the time of a drawn one, and about how many keys there are.
const SPLITS_EXPECTED: u32 = 3;
const KEYS_EXPECTED: u32 = 24;

/// Commands, and how often they are drawn, of 120 times.
fn draw(generator: &mut StdRng, nodes: &[String], partitions: u32) -> Command {
    let partition = u64::from(generator.random_range(1..=partitions));
    let from = nodes[generator.random_range(0..nodes.len())].clone();
    let to = nodes[generator.random_range(0..nodes.len())].clone();
    // One that splits have made already, perhaps.
    let divided = u64::from(generator.random_range(1..=partitions + SPLITS_EXPECTED));
    let key = format!("key-{:04}", generator.random_range(0..KEYS_EXPECTED));
    match generator.random_range(0..120_u32) {
        100..113 => Command::Split { partition: divided, at: SplitAt::Key(key) },
        113..119 => Command::Split { partition: divided, at: SplitAt::Size },
        119 => Command::Split { partition: divided, at: SplitAt::Load },
        0..30 => Command::TransferLeader { partition, to },
        30..60 => Command::MoveReplica { partition, from, to },
        60..75 => Command::Drain { node: from },
        75..84 => Command::Uncordon { node: from },
        84..86 => {
            let (field, values) = &FIELDS[generator.random_range(0..FIELDS.len())];
            let value = generator.random_range(values.clone());
            Command::SetPolicy { field: (*field).to_owned(), value }
        }
        86..91 => Command::Cancel,
        91..95 => Command::Rebalance,
        95..97 => Command::ApplyStalePlan,
        // Mostly it is not engaged, and refused.
        97 | 98 => Command::OverrideBrake { seconds: OVERRIDE_SECONDS },
        99.. => Command::RestoreBrake,
    }
}

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_is_drawn_for_every_node() {
        let nodes: Vec<String> = (1..=4).map(|number| format!("node-{number}")).collect();
        let mut generator = Seed(1).generator();
        let mut seen = BTreeSet::new();
        for _ in 0..2_000 {
            match draw(&mut generator, &nodes, 3) {
                Command::TransferLeader { partition, to } => {
                    assert!((1..=3).contains(&partition));
                    seen.insert(format!("transfer to {to}"));
                }
                Command::MoveReplica { partition, from, to } => {
                    assert!((1..=3).contains(&partition));
                    seen.insert(format!("move from {from}"));
                    seen.insert(format!("move to {to}"));
                }
                Command::Drain { node } => {
                    seen.insert(format!("drain {node}"));
                }
                Command::Uncordon { node } => {
                    seen.insert(format!("uncordon {node}"));
                }
                Command::Split { partition, at } => {
                    assert!((1..=6).contains(&partition));
                    seen.insert(match at {
                        SplitAt::Key(_) => "split at a key".to_owned(),
                        SplitAt::Load => "split by load".to_owned(),
                        SplitAt::Size => "split by size".to_owned(),
                    });
                }
                Command::Rebalance => {
                    seen.insert("rebalance".to_owned());
                }
                Command::ApplyStalePlan => {
                    seen.insert("apply a stale plan".to_owned());
                }
                Command::Cancel => {
                    seen.insert("cancel".to_owned());
                }
                Command::OverrideBrake { seconds } => {
                    assert!((1..=3_600).contains(&seconds));
                    seen.insert("override brake".to_owned());
                }
                Command::RestoreBrake => {
                    seen.insert("restore brake".to_owned());
                }
                Command::SetPolicy { field, value } => {
                    assert!(FIELDS.iter().any(|it| it.0 == field && it.1.contains(&value)));
                    seen.insert(format!("set {field}"));
                }
            }
        }
        assert_eq!(seen.len(), 5 * nodes.len() + 8 + FIELDS.len());
    }

    #[test]
    fn a_command_is_read_by_its_words() {
        let timed: TimedCommand = "6.5 s  move replica of 2 from node-1 to node-4".parse().unwrap();
        assert_eq!(timed.at, Duration::from_millis(6_500));
        assert_eq!(
            (timed.command.partition(), timed.command.nodes()),
            (Some(2), vec!["node-1", "node-4"])
        );
        for text in [
            "drain node-1",
            "uncordon node-1",
            "rebalance",
            "apply a stale plan",
            "cancel",
            "transfer leader of 1 to node-2",
            "split 3 at key-0007",
            "split 3 by size",
            "split 3 by load",
            "override brake for 10 s",
            "restore brake",
            "set balance.splits_max to 0",
        ] {
            assert!(text.parse::<Command>().is_ok(), "{text}");
        }
        for text in [
            "drain",
            "move replica of two from node-1 to node-2",
            "6 s cancel",
            "cancel all",
            "split 3",
            "split three by size",
            "override brake",
            "override brake for 0 s",
            "override brake for 3601 s",
            "set balance.splits_max to none",
            "set balance.splits_max",
        ] {
            assert!(text.parse::<Command>().is_err(), "{text}");
        }
        assert!("cancel".parse::<TimedCommand>().is_err());
    }
}
