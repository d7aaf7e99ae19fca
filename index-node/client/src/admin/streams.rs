//! Watching operations and events, across changes of the leader.

use futures_util::{Stream, stream};
use proto::v1;
use tonic::{Status, Streaming};

use super::{AdminClient, AdminError, Judgement, Sent, Stub, judge};

/// Whether the watch can go on at another member.
fn can_go_on(status: &Status) -> bool {
    match judge(status) {
        Judgement::Refused => false,
        Judgement::Elsewhere { .. }
        | Judgement::Later(_)
        | Judgement::Unreached
        | Judgement::Lost => true,
    }
}

fn has_ended(operation: &v1::Operation) -> bool {
    match operation.state() {
        v1::OperationState::Unspecified | v1::OperationState::Running => false,
        v1::OperationState::Succeeded
        | v1::OperationState::Failed
        | v1::OperationState::Cancelled => true,
    }
}

impl AdminClient {
    async fn open_events(
        &self,
        request: v1::WatchEventsRequest,
    ) -> Result<Streaming<v1::Event>, AdminError> {
        let send = |mut stub: Stub, request| -> Sent<Streaming<v1::Event>> {
            Box::pin(async move { stub.watch_events(request).await })
        };
        self.call(request, self.options.attempt_timeout, send).await
    }

    async fn open_operation(&self, id: u64) -> Result<Streaming<v1::Operation>, AdminError> {
        let send = |mut stub: Stub, request| -> Sent<Streaming<v1::Operation>> {
            Box::pin(async move { stub.watch_operation(request).await })
        };
        let request = v1::WatchOperationRequest { id };
        self.call(request, self.options.attempt_timeout, send).await
    }

    /// What the failure detector saw and found lately: one JSON document for each line.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn signal_log(&self) -> Result<Vec<String>, AdminError> {
        let send = |mut stub: Stub, request| -> Sent<Streaming<v1::SignalLogLine>> {
            Box::pin(async move { stub.get_signal_log(request).await })
        };
        let request = v1::GetSignalLogRequest {};
        let mut stream = self.call(request, self.options.attempt_timeout, send).await?;
        let mut lines = Vec::new();
        while let Some(line) = stream.message().await.map_err(AdminError::Refused)? {
            lines.push(line.json);
        }
        Ok(lines)
    }

    /// Events after the given one, oldest first; with `follow` for ever. Goes on at the next leader when
    /// one is lost: no event comes twice.
    pub fn watch_events(
        &self,
        request: v1::WatchEventsRequest,
    ) -> impl Stream<Item = Result<v1::Event, AdminError>> + Send + '_ {
        let open: Option<Streaming<v1::Event>> = None;
        stream::try_unfold((self, request, open), |(client, mut request, mut open)| async move {
            loop {
                let mut events = match open.take() {
                    Some(events) => events,
                    None => client.open_events(request).await?,
                };
                match events.message().await {
                    Ok(Some(event)) if event.sequence <= request.after_sequence => {
                        open = Some(events);
                    }
                    Ok(Some(event)) => {
                        request.after_sequence = event.sequence;
                        return Ok(Some((event, (client, request, Some(events)))));
                    }
                    Ok(None) if !request.follow => return Ok(None),
                    Ok(None) => client.pause().await,
                    Err(status) if can_go_on(&status) => client.pause().await,
                    Err(status) => return Err(AdminError::Refused(status)),
                }
            }
        })
    }

    /// The operation now and each change of it, until it has ended. Goes on at the next leader when one
    /// is lost.
    pub fn watch_operation(
        &self,
        id: u64,
    ) -> impl Stream<Item = Result<v1::Operation, AdminError>> + Send + '_ {
        enum Watch {
            Closed,
            Open(Streaming<v1::Operation>),
            Ended,
        }
        stream::try_unfold((self, Watch::Closed), move |(client, mut watch)| async move {
            loop {
                let mut changes = match watch {
                    Watch::Ended => return Ok(None),
                    Watch::Open(changes) => changes,
                    Watch::Closed => client.open_operation(id).await?,
                };
                match changes.message().await {
                    Ok(Some(operation)) => {
                        let next =
                            if has_ended(&operation) { Watch::Ended } else { Watch::Open(changes) };
                        return Ok(Some((operation, (client, next))));
                    }
                    Ok(None) => client.pause().await,
                    Err(status) if can_go_on(&status) => client.pause().await,
                    Err(status) => return Err(AdminError::Refused(status)),
                }
                watch = Watch::Closed;
            }
        })
    }

    /// Between the end of a watch and the next one.
    async fn pause(&self) {
        let pause = self.environment.jittered(std::time::Duration::from_millis(100));
        self.environment.sleep(pause).await;
    }
}
