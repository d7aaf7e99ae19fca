//! Plan and apply in one.

use proto::v1;
use runtime::grpc::detail;
use tonic::Status;

use super::{AdminClient, AdminError, Kind};

/// How often it is planned, if the zone changes between a plan and its application.
const ATTEMPTS_MAX: u32 = 3;

/// What a rebalance has begun.
#[derive(Clone, Debug)]
pub struct Rebalanced {
    pub plan: v1::BalancePlan,
    /// One for each step.
    pub operation_ids: Vec<u64>,
}

impl AdminClient {
    /// Plans for the zone as it is now, and carries the plan out. When the zone has changed meanwhile, it is planned
    /// again, some times.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn rebalance(&self) -> Result<Rebalanced, AdminError> {
        let mut attempt = 1;
        loop {
            let plan = self.plan_balance(v1::PlanBalanceRequest::default()).await?;
            if plan.steps.is_empty() {
                return Ok(Rebalanced { plan, operation_ids: Vec::new() });
            }
            let request = v1::ApplyPlanRequest {
                zone_id: plan.zone_id.clone(),
                steps: plan.steps.clone(),
                idempotency_key: String::new(),
            };
            match self.apply_plan(request).await {
                Ok(v1::ApplyPlanResponse { operation_ids }) => {
                    return Ok(Rebalanced { plan, operation_ids });
                }
                Err(AdminError::Refused(status))
                    if is_outrun(&status) && attempt < ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_outrun(status: &Status) -> bool {
    matches!(detail::kind_of(status), Some(Kind::PlanChanged(_)))
}
