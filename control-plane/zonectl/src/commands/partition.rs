//! `zonectl partition …`.

use proto::v1::{self, split_partition_request::Point};

use super::{Context, node_reference, operation};
use crate::{
    arguments::{PartitionVerb, SplitBy, SplitKey},
    failure::Failure,
    forms::{PartitionDetailForm, PartitionForm},
    tables,
};

/// Partitions of one page.
pub const PAGE: u32 = 10_000;

pub async fn run(context: &Context, verb: PartitionVerb) -> Result<(), Failure> {
    let admin = context.admin()?;
    match verb {
        PartitionVerb::List { node, problems } => {
            let request = v1::ListPartitionsRequest {
                node: node.as_deref().and_then(node_reference),
                only_problems: problems,
                limit: PAGE,
                after_partition_id: 0,
            };
            let partitions = admin.all_partitions(request).await?;
            let partitions: Vec<PartitionForm> = partitions.into_iter().map(Into::into).collect();
            context.show(&partitions, |partitions| match (partitions.is_empty(), problems) {
                (true, true) => "Every partition is as it should be.".to_owned(),
                (true, false) => "There is no such partition.".to_owned(),
                (false, _) => tables::partitions(partitions),
            })
        }
        PartitionVerb::Show { partition } => {
            let request = v1::GetPartitionRequest { partition_id: partition };
            let detail: PartitionDetailForm = admin.get_partition(request).await?.into();
            context.show(&detail, tables::partition_detail)
        }
        PartitionVerb::TransferLeader { partition, to, wait } => {
            let request = v1::TransferLeaderRequest {
                partition_id: partition,
                to: node_reference(&to),
                idempotency_key: String::new(),
            };
            let response = admin.transfer_leader(request).await?;
            operation::started(context, &admin, response.operation, wait).await
        }
        PartitionVerb::Move { partition, from, to, wait } => {
            let request = v1::MoveReplicaRequest {
                partition_id: partition,
                from: node_reference(&from),
                to: node_reference(&to),
                idempotency_key: String::new(),
            };
            let response = admin.move_replica(request).await?;
            operation::started(context, &admin, response.operation, wait).await
        }
        PartitionVerb::Split { partition, at, wait } => {
            let by = at.by.map(|by| match by {
                SplitBy::Load => v1::SplitBy::Load,
                SplitBy::Size => v1::SplitBy::Size,
            });
            let point = match (at.at, by) {
                (Some(SplitKey(key)), _) => Some(Point::At(key.into())),
                (None, by) => by.map(|by| Point::By(by.into())),
            };
            let request = v1::SplitPartitionRequest {
                partition_id: partition,
                point,
                idempotency_key: String::new(),
            };
            let response = admin.split_partition(request).await?;
            operation::started(context, &admin, response.operation, wait).await
        }
    }
}
