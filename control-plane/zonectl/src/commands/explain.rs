//! `zonectl explain …`.

use std::pin::pin;

use futures_util::TryStreamExt;
use proto::v1;

use super::{Context, node_reference, print_line};
use crate::{
    arguments::ExplainVerb,
    explanation,
    failure::Failure,
    forms::{EventForm, NodeDetailForm, NodeExplanationForm},
};

pub async fn run(context: &Context, verb: ExplainVerb) -> Result<(), Failure> {
    match verb {
        ExplainVerb::Node { node } => explain_node(context, &node).await,
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
    let request = v1::WatchEventsRequest { after_sequence: 0, follow: false };
    let mut ledger = pin!(admin.watch_events(request));
    let mut events = Vec::new();
    while let Some(event) = ledger.try_next().await? {
        if event.node_id == detail.node.id {
            events.push(EventForm::from(event));
        }
    }
    context.show(&NodeExplanationForm { detail, events }, explanation::node)
}
