//! `zonectl node …`.

use proto::v1;

use super::{Context, node_reference, operation, print_line};
use crate::{
    arguments::{NodeVerb, OutputFormat},
    failure::Failure,
    forms::{NodeDetailForm, NodeForm},
    tables,
};

pub async fn run(context: &Context, verb: NodeVerb) -> Result<(), Failure> {
    let admin = context.admin()?;
    match verb {
        NodeVerb::List => {
            let response = admin.list_nodes(v1::ListNodesRequest {}).await?;
            let nodes: Vec<NodeForm> = response.nodes.into_iter().map(Into::into).collect();
            context.show(&nodes, |nodes| tables::nodes(nodes))
        }
        NodeVerb::Show { node } => {
            let request = v1::GetNodeRequest { node: node_reference(&node) };
            let detail: NodeDetailForm = admin.get_node(request).await?.into();
            context.show(&detail, tables::node_detail)
        }
        NodeVerb::Drain { node, accept_data_loss_risk, wait } => {
            let request = v1::DrainNodeRequest {
                node: node_reference(&node),
                accept_data_loss_risk,
                idempotency_key: String::new(),
            };
            let response = admin.drain_node(request).await?;
            operation::started(context, &admin, response.operation, wait).await
        }
        NodeVerb::Uncordon { node } => {
            let request = v1::UncordonNodeRequest {
                node: node_reference(&node),
                idempotency_key: String::new(),
            };
            let response = admin.uncordon_node(request).await?;
            let node = NodeForm::from(response.node.unwrap_or_default());
            context.show(&node, |node| format!("{} takes part again.", node.name))
        }
        NodeVerb::Remove { node } => {
            let request = v1::RemoveNodeRequest {
                node: node_reference(&node),
                idempotency_key: String::new(),
            };
            admin.remove_node(request).await?;
            match context.global.output {
                OutputFormat::Table => print_line(&format!("{node} is forgotten for good.")),
                OutputFormat::Json => print_line("{}"),
            }
        }
    }
}
