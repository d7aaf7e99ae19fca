//! `zonectl rebalance`.

use proto::v1;

use super::{Context, operation};
use crate::{arguments::RebalanceArguments, failure::Failure, forms::RebalanceForm, tables};

pub async fn run(context: &Context, arguments: &RebalanceArguments) -> Result<(), Failure> {
    let admin = context.admin()?;
    let request =
        v1::RebalanceLeadersRequest { dry_run: arguments.dry_run, idempotency_key: String::new() };
    let nodes = admin.list_nodes(v1::ListNodesRequest {}).await?.nodes;
    let response = admin.rebalance_leaders(request).await?;
    let plan = RebalanceForm::new(arguments.dry_run, response, nodes);
    context.show(&plan, tables::rebalance)?;
    if arguments.wait.wait {
        for id in plan.operation_ids {
            operation::follow(context, &admin, id).await?;
        }
    }
    Ok(())
}
