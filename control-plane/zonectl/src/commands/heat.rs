//! `zonectl heat`.

use client::{AdminClient, AdminError};
use proto::v1;

use super::Context;
use crate::{
    arguments::HeatArguments,
    failure::Failure,
    forms::{HeatForm, NodeForm},
    heat,
};

/// The most partitions that the zone tells of.
pub const TOP_MAX: u32 = 64;

pub async fn run(context: &Context, arguments: &HeatArguments) -> Result<(), Failure> {
    let admin = context.admin()?;
    let nodes = admin.list_nodes(v1::ListNodesRequest {}).await?.nodes;
    let nodes: Vec<NodeForm> = nodes.into_iter().map(Into::into).collect();
    context.show(&load(&admin, &nodes, arguments.top).await?, heat::text)
}

/// Load, held against the policy. `nodes`: all of the zone.
pub async fn load(
    admin: &AdminClient,
    nodes: &[NodeForm],
    top: u32,
) -> Result<HeatForm, AdminError> {
    let policy = admin.get_policy(v1::GetPolicyRequest {}).await?.policy;
    let balance = policy.and_then(|policy| policy.balance);
    let act_above = balance.and_then(|balance| balance.act_above_permille);
    let heat = admin.get_heat(v1::GetHeatRequest { top }).await?;
    Ok(HeatForm::new(heat, nodes, act_above))
}
