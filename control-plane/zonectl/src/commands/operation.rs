//! `zonectl operation …`, and waiting for operations that other commands started.

use std::pin::pin;

use client::AdminClient;
use futures_util::TryStreamExt;
use proto::v1;

use super::Context;
use crate::{
    arguments::{OperationVerb, WaitArguments},
    failure::Failure,
    forms::OperationForm,
    tables,
};

pub async fn run(context: &Context, verb: OperationVerb) -> Result<(), Failure> {
    let admin = context.admin()?;
    match verb {
        OperationVerb::List { all, limit } => {
            let request = v1::ListOperationsRequest { include_ended: all, limit };
            let response = admin.list_operations(request).await?;
            let operations: Vec<OperationForm> =
                response.operations.into_iter().map(Into::into).collect();
            context.show(&operations, |operations| match operations.is_empty() {
                true if all => "There are no operations.".to_owned(),
                true => "No operation is running. --all shows those that have ended.".to_owned(),
                false => tables::operations(operations),
            })
        }
        OperationVerb::Watch { operation } => follow(context, &admin, operation).await,
        OperationVerb::Cancel { operation } => {
            let request = v1::CancelOperationRequest { id: operation };
            let operation: OperationForm = admin.cancel_operation(request).await?.into();
            context.show(&operation, tables::operation_line)
        }
    }
}

/// A command has started `operation`: shows it, or follows it to its end.
pub async fn started(
    context: &Context,
    admin: &AdminClient,
    operation: Option<v1::Operation>,
    wait: WaitArguments,
) -> Result<(), Failure> {
    let operation: OperationForm = operation
        .ok_or_else(|| Failure::Command("the zone did not say which operation it started".into()))?
        .into();
    if wait.wait {
        return follow(context, admin, operation.id).await;
    }
    context.show(&operation, |operation| {
        format!(
            "Accepted: {}\nFollow it with `zonectl operation watch {}`.",
            tables::operation_line(operation),
            operation.id
        )
    })
}

/// Shows each change of the operation until it has ended.
///
/// # Errors
/// If it ends in anything but success.
pub async fn follow(context: &Context, admin: &AdminClient, id: u64) -> Result<(), Failure> {
    let mut changes = pin!(admin.watch_operation(id).map_ok(OperationForm::from));
    let mut last: Option<OperationForm> = None;
    while let Some(operation) = changes.try_next().await? {
        if last.as_ref() != Some(&operation) {
            context.show_line(&operation, tables::operation_line)?;
        }
        last = Some(operation);
    }
    match last {
        Some(operation) if operation.state == "succeeded" => Ok(()),
        Some(operation) => {
            let why = operation.last_error.as_deref().unwrap_or("no error was recorded");
            Err(Failure::Command(format!("operation {id} ended as {}: {why}", operation.state)))
        }
        None => Err(Failure::Command(format!("the zone says nothing about operation {id}"))),
    }
}
