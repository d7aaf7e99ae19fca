//! `zonectl brake …`.

use proto::v1;

use super::Context;
use crate::{arguments::BrakeVerb, brake, failure::Failure, forms::BrakeForm};

pub async fn run(context: &Context, verb: BrakeVerb) -> Result<(), Failure> {
    let (duration_ms, reason) = match verb {
        BrakeVerb::Override { duration, reason } => {
            // What is longer than a number of milliseconds can say is refused for its length.
            (u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), reason)
        }
        BrakeVerb::Restore { reason } => (0, reason),
    };
    let request = v1::OverrideBrakeRequest { duration_ms, reason, idempotency_key: String::new() };
    let response = context.admin()?.override_brake(request).await?;
    let brake = BrakeForm::from(response.brake.unwrap_or_default());
    context.show(&brake, brake::line)
}
