//! `zonectl operation …`, and waiting for operations that other commands started.

use std::{io::IsTerminal, pin::pin, time::Duration};

use client::AdminClient;
use futures_util::TryStreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use proto::v1;

use super::Context;
use crate::{
    arguments::{OperationVerb, OutputFormat, WaitArguments},
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

/// Shows how the operation goes until it has ended: on a terminal one line that is refreshed, elsewhere a
/// line for each change that means something to people, in JSON every change.
///
/// # Errors
/// If it ends in anything but success.
pub async fn follow(context: &Context, admin: &AdminClient, id: u64) -> Result<(), Failure> {
    let live = live_line(context);
    let mut changes = pin!(admin.watch_operation(id).map_ok(OperationForm::from));
    let mut last: Option<OperationForm> = None;
    while let Some(operation) = changes.try_next().await? {
        let news = last.as_ref().is_none_or(|last| match context.global.output {
            OutputFormat::Json => *last != operation,
            OutputFormat::Table => !last.looks_like(&operation),
        });
        if live.is_hidden() || operation.has_ended() {
            live.finish_and_clear();
            if news {
                context.show_line(&operation, tables::operation_line)?;
            }
        } else {
            live.set_message(tables::operation_line(&operation));
        }
        last = Some(operation);
    }
    live.finish_and_clear();
    match last {
        Some(operation) if operation.state == "succeeded" => Ok(()),
        Some(operation) => {
            let why = operation.last_error.as_deref().unwrap_or("no error was recorded");
            Err(Failure::Command(format!("operation {id} ended as {}: {why}", operation.state)))
        }
        None => Err(Failure::Command(format!("the zone says nothing about operation {id}"))),
    }
}

/// A line that is refreshed in place; hidden where people do not look at a terminal.
fn live_line(context: &Context) -> ProgressBar {
    let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    if !terminal || context.global.output != OutputFormat::Table {
        return ProgressBar::hidden();
    }
    let live = ProgressBar::new_spinner();
    live.set_style(
        ProgressStyle::with_template("{spinner} {wide_msg} ({elapsed})")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    live.enable_steady_tick(Duration::from_millis(100));
    live
}
