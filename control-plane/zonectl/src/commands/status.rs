//! `zonectl status`.

use std::time::Duration;

use client::{AdminClient, AdminError};
use runtime::seams::Environment;

use super::Context;
use crate::{arguments::StatusArguments, failure::Failure, forms::StatusForm, tables};

/// How often a waiting command looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The longest that one look of a waiting command takes.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

pub async fn run(context: &Context, arguments: &StatusArguments) -> Result<(), Failure> {
    let admin = context.admin()?;
    let status = match arguments.wait_healthy {
        None => admin.status().await?.into(),
        Some(limit) => wait_healthy(&context.environment, &admin, limit).await?,
    };
    context.show(&status, tables::status)?;
    match arguments.wait_healthy {
        Some(limit) if !status.healthy => {
            let waited = humantime::format_duration(limit);
            Err(Failure::Command(format!("the zone did not become healthy within {waited}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Asks until the zone is healthy by its leader's account, or `limit` is over. The last status.
///
/// # Errors
/// If nobody can be reached when the time is over.
pub async fn wait_healthy(
    environment: &Environment,
    admin: &AdminClient,
    limit: Duration,
) -> Result<StatusForm, AdminError> {
    let started = environment.now();
    loop {
        let left = limit.saturating_sub(environment.now().since(started));
        // A look takes no longer than what is left, and always long enough to be answered.
        let outcome = admin.status_within(left.clamp(LOOK_INTERVAL, LOOK_WITHIN)).await;
        let over = environment.now().since(started) >= limit;
        match outcome {
            Ok(status) if over || status.healthy && status.from_leader => return Ok(status.into()),
            Err(error) if over => return Err(error),
            Ok(_) | Err(_) => environment.sleep(LOOK_INTERVAL).await,
        }
    }
}
