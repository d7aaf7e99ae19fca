//! `zonectl init`.

use proto::v1;

use super::{Context, split_keys};
use crate::{
    arguments::InitArguments,
    failure::Failure,
    forms::InitForm,
    text::{count, show_duration},
};

pub async fn run(context: &Context, arguments: InitArguments) -> Result<(), Failure> {
    let members =
        if arguments.members.is_empty() { &context.global.endpoints } else { &arguments.members };
    let replace_after_ms = u64::try_from(arguments.replace_after.as_millis()).unwrap_or(u64::MAX);
    if replace_after_ms == 0 {
        let problem = "--replace-after is 0; it must be at least 1ms, and minutes do well";
        return Err(Failure::Usage(problem.into()));
    }
    let request = v1::InitRequest {
        member_addresses: members.clone(),
        split_keys: split_keys(&arguments.split)?,
        replication_factor: arguments.replication_factor,
        replace_after_ms,
    };
    let response = context.admin()?.init(request).await?;
    context.show(&InitForm::from(response), |zone| {
        format!(
            "Zone {} is made: {} of {} replicas each, on {} of the control plane. A lost node is \
             replaced after {}. See `zonectl status`.",
            zone.zone_id,
            count(zone.partitions.into(), "partition", "partitions"),
            arguments.replication_factor,
            count(members.len() as u64, "member", "members"),
            show_duration(arguments.replace_after),
        )
    })
}
