//! `zonectl snapshot …`.

use client::AdminClient;
use proto::v1;

use super::{Context, heat, json, partition::PAGE, print_line};
use crate::{
    arguments::SnapshotVerb,
    failure::Failure,
    forms::{NodeForm, PartitionForm, StatusForm},
    snapshot,
};

/// How often the zone is read before it is said to change too fast.
const ATTEMPTS_MAX: usize = 10;

pub async fn run(context: &Context, verb: SnapshotVerb) -> Result<(), Failure> {
    let SnapshotVerb::Export = verb;
    let admin = context.admin()?;
    for _ in 0..ATTEMPTS_MAX {
        let before = status(&admin).await?;
        let nodes = admin.list_nodes(v1::ListNodesRequest {}).await?.nodes;
        let nodes: Vec<NodeForm> = nodes.into_iter().map(Into::into).collect();
        let request = v1::ListPartitionsRequest {
            node: None,
            only_problems: false,
            limit: PAGE,
            after_partition_id: 0,
        };
        let partitions = admin.all_partitions(request).await?;
        let load = heat::load(&admin, &nodes, heat::TOP_MAX).await?;
        // Nothing was committed meanwhile: both are of one state.
        if status(&admin).await?.revision == before.revision {
            let partitions: Vec<PartitionForm> = partitions.into_iter().map(Into::into).collect();
            let factor = before.replication_factor;
            let problem =
                snapshot::problem(&nodes, &partitions, &load, factor).map_err(Failure::Command)?;
            return print_line(&json(&problem, true)?);
        }
    }
    Err(Failure::Command(
        "the zone changed each time while it was read: try again when `zonectl operation list` shows less"
            .into(),
    ))
}

async fn status(admin: &AdminClient) -> Result<StatusForm, Failure> {
    Ok(admin.status().await?.into())
}
