//! The commands, one method each.

use proto::v1;

use super::{AdminClient, AdminError, Sent, Stub};

/// Reads, and changes whose repetition changes nothing.
macro_rules! plain_calls {
    ($($(#[$documentation:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        impl AdminClient {
            $(
                $(#[$documentation])*
                ///
                /// # Errors
                /// See [`AdminError`].
                pub async fn $name(
                    &self,
                    request: v1::$request,
                ) -> Result<v1::$response, AdminError> {
                    let send = |mut stub: Stub, request| -> Sent<v1::$response> {
                        Box::pin(async move { stub.$name(request).await })
                    };
                    self.call(request, self.options.attempt_timeout, send).await
                }
            )*
        }
    };
}

/// Changes with an idempotency key, drawn here if there is none.
macro_rules! keyed_calls {
    ($($(#[$documentation:meta])* $name:ident($request:ident) -> $response:ident;)*) => {
        impl AdminClient {
            $(
                $(#[$documentation])*
                ///
                /// # Errors
                /// See [`AdminError`].
                pub async fn $name(
                    &self,
                    mut request: v1::$request,
                ) -> Result<v1::$response, AdminError> {
                    if request.idempotency_key.is_empty() {
                        request.idempotency_key = self.draw_key();
                    }
                    let send = |mut stub: Stub, request| -> Sent<v1::$response> {
                        Box::pin(async move { stub.$name(request).await })
                    };
                    self.call(request, self.options.attempt_timeout, send).await
                }
            )*
        }
    };
}

plain_calls! {
    /// All nodes.
    list_nodes(ListNodesRequest) -> ListNodesResponse;
    /// One node in detail.
    get_node(GetNodeRequest) -> NodeDetail;
    /// One page of partitions.
    list_partitions(ListPartitionsRequest) -> ListPartitionsResponse;
    /// One partition in detail.
    get_partition(GetPartitionRequest) -> PartitionDetail;
    /// Load by node, and the hottest partitions.
    get_heat(GetHeatRequest) -> GetHeatResponse;
    /// What operators have decided for the whole zone.
    get_policy(GetPolicyRequest) -> GetPolicyResponse;
    /// The shadow policy, and how it does.
    get_shadow_policy(GetShadowPolicyRequest) -> GetShadowPolicyResponse;
    /// What could be done to even out the zone as it is now.
    plan_balance(PlanBalanceRequest) -> BalancePlan;
    /// Operations, newest first.
    list_operations(ListOperationsRequest) -> ListOperationsResponse;
    /// Cancels an operation.
    cancel_operation(CancelOperationRequest) -> Operation;
}

keyed_calls! {
    /// Moves a partition's leadership.
    transfer_leader(TransferLeaderRequest) -> OperationResponse;
    /// Moves one replica from a node to another.
    move_replica(MoveReplicaRequest) -> OperationResponse;
    /// Makes two partitions of one.
    split_partition(SplitPartitionRequest) -> OperationResponse;
    /// Empties a node.
    drain_node(DrainNodeRequest) -> OperationResponse;
    /// Lets a node take part in placement again.
    uncordon_node(UncordonNodeRequest) -> UncordonNodeResponse;
    /// Forgets a node for good.
    remove_node(RemoveNodeRequest) -> RemoveNodeResponse;
    /// Carries out a plan: all of it, or nothing.
    apply_plan(ApplyPlanRequest) -> ApplyPlanResponse;
    /// Lets repairs and moves go on for a while although the brake is engaged, or no longer.
    override_brake(OverrideBrakeRequest) -> OverrideBrakeResponse;
    /// Puts another policy in the place of the one that it was made from.
    set_policy(SetPolicyRequest) -> SetPolicyResponse;
    /// Plans with another policy of balance, and acts on none of it; or no longer.
    set_shadow_policy(SetShadowPolicyRequest) -> SetShadowPolicyResponse;
}

impl AdminClient {
    /// Makes the zone. Takes as long as the deadline allows: the members have to be there.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn init(&self, request: v1::InitRequest) -> Result<v1::InitResponse, AdminError> {
        let send = |mut stub: Stub, request| -> Sent<v1::InitResponse> {
            Box::pin(async move { stub.init(request).await })
        };
        match self.call(request, self.options.deadline, send).await {
            // There is no leader to be missed before there is a zone.
            Err(AdminError::NoLeader { waited, problems }) => {
                Err(AdminError::NotMade { waited, problems })
            }
            outcome => outcome,
        }
    }

    /// All partitions that match, over as many pages as it takes. `limit` of the request is the size of
    /// a page.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn all_partitions(
        &self,
        mut request: v1::ListPartitionsRequest,
    ) -> Result<Vec<v1::PartitionSummary>, AdminError> {
        let mut partitions: Vec<v1::PartitionSummary> = Vec::new();
        loop {
            let page = self.list_partitions(request.clone()).await?;
            let last = page.partitions.last().map(|partition| partition.id);
            partitions.extend(page.partitions);
            match last {
                // A page that does not get on ends the listing rather than going round for ever.
                Some(last) if page.more && last != request.after_partition_id => {
                    request.after_partition_id = last;
                }
                Some(_) | None => return Ok(partitions),
            }
        }
    }
}
