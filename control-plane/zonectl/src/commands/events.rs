//! `zonectl events`.

use std::pin::pin;

use futures_util::TryStreamExt;
use proto::v1;

use super::Context;
use crate::{arguments::EventsArguments, failure::Failure, forms::EventForm, tables};

pub async fn run(context: &Context, arguments: &EventsArguments) -> Result<(), Failure> {
    let admin = context.admin()?;
    let request =
        v1::WatchEventsRequest { after_sequence: arguments.after, follow: arguments.follow };
    let mut events = pin!(admin.watch_events(request).map_ok(EventForm::from));
    while let Some(event) = events.try_next().await? {
        context.show_line(&event, tables::event_line)?;
    }
    Ok(())
}
