//! `AdminService`: operators' commands and questions.
//!
//! Commands are proposed as they are: the model checks them against the state in which they take
//! effect. Questions are answered from the leader's applied state and its view of the sessions.

use std::sync::Arc;

use model::{
    Action, Applied, NodeId, OperationId, PartitionId, ZoneState, operation::Origin,
    policy::check_change, reason::check_reason, repair,
};
use proto::v1::{self, admin_service_server::AdminService};
use tonic::{Request, Response, Status};

use super::{
    figures, from_wire, heat,
    once::Once,
    plans, refusal,
    streams::{self, UpdateStream},
    to_wire,
};
use crate::{init, leader::Reign, member::Member};

/// Partitions in one answer, unless the caller says otherwise.
const PARTITIONS_DEFAULT: u32 = 1_000;
const PARTITIONS_MAX: u32 = 10_000;
/// Operations in one answer, unless the caller says otherwise.
const OPERATIONS_DEFAULT: u32 = 100;
const OPERATIONS_MAX: u32 = 1_000;
/// Partitions that are called hot in one answer, unless the caller says otherwise.
const HOTTEST_DEFAULT: u32 = 10;
const HOTTEST_MAX: u32 = 64;

/// The service of one member.
pub struct AdminApi {
    member: Arc<Member>,
}

impl AdminApi {
    pub fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    /// Finds a node that an operator names.
    fn node(
        &self,
        field: &'static str,
        reference: Option<v1::NodeReference>,
    ) -> Result<NodeId, Status> {
        self.member.group().zone().read(|state| {
            initialized(state)?;
            from_wire::node_reference(state, field, reference)
        })
    }

    /// Carries out a command that starts, or ends, one operation; answers with it.
    async fn operate(
        &self,
        reign: &Reign,
        once: &Once,
        action: impl FnOnce() -> Result<Action, Status>,
    ) -> Result<v1::OperationResponse, Status> {
        match once.carry_out(reign, action).await? {
            Applied::Operation(id) => {
                let operation = figures::operation(reign, id).ok_or_else(|| no_such_operation(id));
                Ok(v1::OperationResponse { operation: Some(operation?) })
            }
            applied => Err(unexpected(&applied)),
        }
    }
}

fn initialized(state: &ZoneState) -> Result<(), Status> {
    if state.is_initialized() {
        return Ok(());
    }
    Err(refusal::status(&model::Refusal::NotInitialized))
}

fn no_such_operation(id: OperationId) -> Status {
    refusal::status(&model::Refusal::NoSuchOperation { operation: id })
}

fn unexpected(applied: &Applied) -> Status {
    Status::internal(format!("the command was answered with {applied:?}"))
}

fn limit(field: &'static str, given: u32, default: u32, max: u32) -> Result<usize, Status> {
    let limit = match given {
        0 => default,
        given if given <= max => given,
        given => {
            return Err(Status::invalid_argument(format!(
                "{field} is {given}: it must be at most {max}"
            )));
        }
    };
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

#[tonic::async_trait]
impl AdminService for AdminApi {
    async fn init(
        &self,
        request: Request<v1::InitRequest>,
    ) -> Result<Response<v1::InitResponse>, Status> {
        Ok(Response::new(init::init(&self.member, request).await?))
    }

    async fn get_zone_status(
        &self,
        _request: Request<v1::GetZoneStatusRequest>,
    ) -> Result<Response<v1::ZoneStatus>, Status> {
        Ok(Response::new(figures::zone_status(&self.member)))
    }

    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let reign = self.member.leading()?;
        Ok(Response::new(v1::ListNodesResponse { nodes: figures::nodes(&reign) }))
    }

    async fn get_node(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::NodeDetail>, Status> {
        let reign = self.member.leading()?;
        let id = self.node("node", request.into_inner().node)?;
        let detail = figures::node_detail(&reign, id);
        detail.map(Response::new).ok_or_else(|| no_such_node(id))
    }

    async fn list_partitions(
        &self,
        request: Request<v1::ListPartitionsRequest>,
    ) -> Result<Response<v1::ListPartitionsResponse>, Status> {
        let reign = self.member.leading()?;
        let request = request.into_inner();
        let limit = limit("limit", request.limit, PARTITIONS_DEFAULT, PARTITIONS_MAX)?;
        let node = match request.node {
            Some(reference) => Some(self.node("node", Some(reference))?),
            None => None,
        };
        let selection = figures::PartitionSelection {
            node,
            only_problems: request.only_problems,
            after: PartitionId(request.after_partition_id),
            limit,
        };
        Ok(Response::new(figures::partitions(&reign, &selection)))
    }

    async fn get_partition(
        &self,
        request: Request<v1::GetPartitionRequest>,
    ) -> Result<Response<v1::PartitionDetail>, Status> {
        let reign = self.member.leading()?;
        let id = from_wire::partition_id("partition_id", request.into_inner().partition_id)?;
        let detail = figures::partition_detail(&reign, id);
        detail
            .map(Response::new)
            .ok_or_else(|| refusal::status(&model::Refusal::NoSuchPartition { partition: id }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::OperationResponse>, Status> {
        let reign = self.member.leading()?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let once = Once::of("transfer", &request, key)?;
        let answer = self.operate(&reign, &once, || {
            let partition = from_wire::partition_id("partition_id", request.partition_id)?;
            Ok(Action::TransferLeader { partition, to: self.node("to", request.to)? })
        });
        Ok(Response::new(answer.await?))
    }

    async fn move_replica(
        &self,
        request: Request<v1::MoveReplicaRequest>,
    ) -> Result<Response<v1::OperationResponse>, Status> {
        let reign = self.member.leading()?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let once = Once::of("move", &request, key)?;
        let answer = self.operate(&reign, &once, || {
            let partition = from_wire::partition_id("partition_id", request.partition_id)?;
            let from = self.node("from", request.from)?;
            let to = self.node("to", request.to)?;
            // How much room there is, only the sessions tell.
            let room =
                reign.zone().read(|state| repair::check_room(state, &reign.view(), partition, to));
            room.map_err(|refused| refusal::status(&refused))?;
            Ok(Action::MoveReplica { partition, from, to })
        });
        Ok(Response::new(answer.await?))
    }

    async fn split_partition(
        &self,
        request: Request<v1::SplitPartitionRequest>,
    ) -> Result<Response<v1::OperationResponse>, Status> {
        let reign = self.member.leading()?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let once = Once::of("split", &request, key)?;
        let answer = self.operate(&reign, &once, || {
            let partition = from_wire::partition_id("partition_id", request.partition_id)?;
            let at = from_wire::split_point(request.point)?;
            let reason = format!("an operator asked for it: at {at}");
            Ok(Action::SplitPartition { partition, at, origin: Origin::Operator, reason })
        });
        Ok(Response::new(answer.await?))
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::OperationResponse>, Status> {
        let reign = self.member.leading()?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let once = Once::of("drain", &request, key)?;
        let accept_data_loss_risk = request.accept_data_loss_risk;
        let answer = self.operate(&reign, &once, || {
            let node = self.node("node", request.node)?;
            if !accept_data_loss_risk {
                // Which nodes are there now, and with how much room, only the sessions tell.
                let room =
                    reign.zone().read(|state| repair::check_drain_room(state, &reign.view(), node));
                room.map_err(|refused| refusal::status(&refused))?;
            }
            Ok(Action::DrainNode { node, accept_data_loss_risk })
        });
        Ok(Response::new(answer.await?))
    }

    async fn uncordon_node(
        &self,
        request: Request<v1::UncordonNodeRequest>,
    ) -> Result<Response<v1::UncordonNodeResponse>, Status> {
        let reign = self.member.leading()?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let once = Once::of("uncordon", &request, key)?;
        let reference = request.node.clone();
        once.carry_out(&reign, || {
            Ok(Action::UncordonNode { node: self.node("node", request.node)? })
        })
        .await?;
        let node = self.node("node", reference).ok().and_then(|node| figures::node(&reign, node));
        Ok(Response::new(v1::UncordonNodeResponse { node }))
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let reign = self.member.leading()?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let once = Once::of("remove", &request, key)?;
        let mut removed = None;
        once.carry_out(&reign, || {
            let node = self.node("node", request.node)?;
            removed = Some(node);
            Ok(Action::RemoveNode { node })
        })
        .await?;
        // None: the same command has removed it before.
        if let Some(node) = removed {
            reign.forget_node(node);
        }
        Ok(Response::new(v1::RemoveNodeResponse {}))
    }

    async fn plan_balance(
        &self,
        request: Request<v1::PlanBalanceRequest>,
    ) -> Result<Response<v1::BalancePlan>, Status> {
        let reign = self.member.leading()?;
        self.member.group().zone().read(initialized)?;
        Ok(Response::new(plans::plan(&reign, request.into_inner()).await?))
    }

    async fn apply_plan(
        &self,
        request: Request<v1::ApplyPlanRequest>,
    ) -> Result<Response<v1::ApplyPlanResponse>, Status> {
        let reign = self.member.leading()?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        // What is only for people is no part of what is asked for.
        for step in &mut request.steps {
            step.effect = None;
        }
        let once = Once::of("apply-plan", &request, key)?;
        match once.carry_out(&reign, || plans::action(&reign, request)).await? {
            Applied::Operations(ids) => {
                if !ids.is_empty() {
                    runtime::mark!("plan: an operator's plan was carried out");
                }
                let operation_ids = ids.into_iter().map(OperationId::get).collect();
                Ok(Response::new(v1::ApplyPlanResponse { operation_ids }))
            }
            applied => Err(unexpected(&applied)),
        }
    }

    async fn override_brake(
        &self,
        request: Request<v1::OverrideBrakeRequest>,
    ) -> Result<Response<v1::OverrideBrakeResponse>, Status> {
        let reign = self.member.leading()?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let once = Once::of("override-brake", &request, key)?;
        once.carry_out(&reign, || {
            let v1::OverrideBrakeRequest { duration_ms: for_ms, reason, .. } = request;
            // Before it goes into the log: there is no limit to what a caller may send as a reason.
            let possible = model::brake::check_override(for_ms, &reason);
            possible.map_err(|refused| refusal::status(&refused))?;
            Ok(Action::OverrideBrake { for_ms, reason })
        })
        .await?;
        Ok(Response::new(v1::OverrideBrakeResponse { brake: Some(figures::brake(&reign)) }))
    }

    async fn get_policy(
        &self,
        _request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        let reign = self.member.leading()?;
        let policy = reign.zone().read(|state| initialized(state).map(|()| to_wire::policy(state)));
        Ok(Response::new(v1::GetPolicyResponse { policy: policy? }))
    }

    async fn set_policy(
        &self,
        request: Request<v1::SetPolicyRequest>,
    ) -> Result<Response<v1::SetPolicyResponse>, Status> {
        let reign = self.member.leading()?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let once = Once::of("set-policy", &request, key)?;
        let v1::SetPolicyRequest { policy, reason, dry_run, .. } = request;
        if dry_run {
            let (expected_version, values) = from_wire::policy(policy)?;
            let change = reign.zone().read(|state| check_change(state, expected_version, &values));
            let version = change.map_err(|refused| refusal::status(&refused))?.version;
            return Ok(Response::new(v1::SetPolicyResponse { version }));
        }
        let applied = once.carry_out(&reign, || {
            let (expected_version, values) = from_wire::policy(policy)?;
            // Before it goes into the log: there is no limit to what a caller may send as a reason.
            check_reason(&reason).map_err(|refused| refusal::status(&refused))?;
            Ok(Action::SetPolicy { expected_version, values, reason })
        });
        match applied.await? {
            Applied::PolicySet { version } => Ok(Response::new(v1::SetPolicyResponse { version })),
            applied => Err(unexpected(&applied)),
        }
    }

    async fn set_shadow_policy(
        &self,
        request: Request<v1::SetShadowPolicyRequest>,
    ) -> Result<Response<v1::SetShadowPolicyResponse>, Status> {
        let reign = self.member.leading()?;
        let mut request = request.into_inner();
        let key = std::mem::take(&mut request.idempotency_key);
        let once = Once::of("set-shadow-policy", &request, key)?;
        once.carry_out(&reign, || {
            // Before it goes into the log: there is no limit to what a caller may send as a reason.
            check_reason(&request.reason).map_err(|refused| refusal::status(&refused))?;
            let balance = request.balance.map(from_wire::balance_policy);
            Ok(Action::SetShadowPolicy { balance, reason: request.reason })
        })
        .await?;
        Ok(Response::new(v1::SetShadowPolicyResponse {}))
    }

    async fn get_shadow_policy(
        &self,
        _request: Request<v1::GetShadowPolicyRequest>,
    ) -> Result<Response<v1::GetShadowPolicyResponse>, Status> {
        let reign = self.member.leading()?;
        let comparison = reign.balancer().await.comparison().copied();
        let shadow = reign.zone().read(|state| {
            initialized(state).map(|()| to_wire::shadow_policy(state, comparison.as_ref()))
        });
        Ok(Response::new(shadow?))
    }

    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsResponse>, Status> {
        let reign = self.member.leading()?;
        let request = request.into_inner();
        let limit = limit("limit", request.limit, OPERATIONS_DEFAULT, OPERATIONS_MAX)?;
        let operations = figures::operations(&reign, request.include_ended, limit);
        Ok(Response::new(v1::ListOperationsResponse { operations }))
    }

    type WatchOperationStream = UpdateStream<v1::Operation>;

    async fn watch_operation(
        &self,
        request: Request<v1::WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let reign = self.member.leading()?;
        let id = OperationId(request.into_inner().id);
        let first = figures::operation(&reign, id).ok_or_else(|| no_such_operation(id))?;
        Ok(Response::new(streams::operation(&self.member, reign, id, first)))
    }

    async fn cancel_operation(
        &self,
        request: Request<v1::CancelOperationRequest>,
    ) -> Result<Response<v1::Operation>, Status> {
        let reign = self.member.leading()?;
        let operation = OperationId(request.into_inner().id);
        let action = Action::CancelOperation { operation };
        let proposed = reign.propose(action, "").await;
        match proposed.map_err(|error| refusal::propose_status(&error))? {
            Applied::Operation(id) => figures::operation(&reign, id)
                .map(Response::new)
                .ok_or_else(|| no_such_operation(id)),
            applied => Err(unexpected(&applied)),
        }
    }

    type WatchEventsStream = UpdateStream<v1::Event>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let reign = self.member.leading()?;
        let request = request.into_inner();
        let after = model::EventSequence(request.after_sequence);
        Ok(Response::new(streams::events(&self.member, reign, after, request.follow)))
    }

    type GetSignalLogStream = UpdateStream<v1::SignalLogLine>;

    async fn get_signal_log(
        &self,
        _request: Request<v1::GetSignalLogRequest>,
    ) -> Result<Response<Self::GetSignalLogStream>, Status> {
        let reign = self.member.leading()?;
        // Copied while the judge waits, and written while it goes on.
        let log = reign.signals().clone();
        let entries: Vec<_> = log.iter().flat_map(|log| log.entries()).collect();
        let lines = entries.into_iter().map(|entry| match serde_json::to_string(&entry) {
            Ok(json) => Ok(v1::SignalLogLine { json }),
            Err(error) => Err(Status::internal(format!("a line cannot be written: {error}"))),
        });
        Ok(Response::new(Box::pin(futures_util::stream::iter(lines))))
    }

    async fn get_heat(
        &self,
        request: Request<v1::GetHeatRequest>,
    ) -> Result<Response<v1::GetHeatResponse>, Status> {
        let reign = self.member.leading()?;
        let top = limit("top", request.into_inner().top, HOTTEST_DEFAULT, HOTTEST_MAX)?;
        self.member.group().zone().read(initialized)?;
        Ok(Response::new(heat::heat(&reign, top).await))
    }
}

fn no_such_node(id: NodeId) -> Status {
    refusal::status(&model::Refusal::NoSuchNode { node: id })
}
