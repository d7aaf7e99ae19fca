//! `zonectl explain …`.

use std::pin::pin;

use client::AdminClient;
use futures_util::TryStreamExt;
use proto::v1;

use super::{Context, node_reference, print_line};
use crate::{
    arguments::ExplainVerb,
    explanation,
    failure::Failure,
    forms::{
        EventForm, NodeDetailForm, NodeExplanationForm, NodeForm, OperationForm,
        PartitionDetailForm, PartitionExplanationForm,
    },
};

/// Operations that are looked at, the newest.
const OPERATIONS_MAX: u32 = 1_000;

pub async fn run(context: &Context, verb: ExplainVerb) -> Result<(), Failure> {
    match verb {
        ExplainVerb::Node { node } => explain_node(context, &node).await,
        ExplainVerb::Partition { partition } => explain_partition(context, partition).await,
        ExplainVerb::Signals => {
            for line in context.admin()?.signal_log().await? {
                print_line(&line)?;
            }
            Ok(())
        }
    }
}

async fn explain_node(context: &Context, node: &str) -> Result<(), Failure> {
    let admin = context.admin()?;
    let request = v1::GetNodeRequest { node: node_reference(node) };
    let detail: NodeDetailForm = admin.get_node(request).await?.into();
    let id = detail.node.id;
    let events = events(&admin, |event| event.node_id == id).await?;
    context.show(&NodeExplanationForm { detail, events }, explanation::node)
}

async fn explain_partition(context: &Context, partition: u64) -> Result<(), Failure> {
    let admin = context.admin()?;
    let request = v1::GetPartitionRequest { partition_id: partition };
    let detail: PartitionDetailForm = admin.get_partition(request).await?.into();
    let nodes = admin.list_nodes(v1::ListNodesRequest {}).await?.nodes;
    let nodes: Vec<NodeForm> = nodes.into_iter().map(Into::into).collect();
    let request = v1::ListOperationsRequest { include_ended: true, limit: OPERATIONS_MAX };
    let operations = admin.list_operations(request).await?.operations;
    let operations: Vec<OperationForm> = operations.into_iter().map(Into::into).collect();
    let events = events(&admin, |event| event.partition_id == partition).await?;
    let form = PartitionExplanationForm::new(detail, &nodes, operations, events);
    context.show(&form, explanation::partition)
}

/// What the ledger has, oldest first.
async fn events(
    admin: &AdminClient,
    is_meant: impl Fn(&v1::Event) -> bool,
) -> Result<Vec<EventForm>, Failure> {
    let request = v1::WatchEventsRequest { after_sequence: 0, follow: false };
    let mut ledger = pin!(admin.watch_events(request));
    let mut events = Vec::new();
    while let Some(event) = ledger.try_next().await? {
        if is_meant(&event) {
            events.push(EventForm::from(event));
        }
    }
    Ok(events)
}
