//! Operations, plans and events.

use proto::v1;
use serde::Serialize;

use super::{some_id, some_text};

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperationForm {
    pub id: u64,
    pub kind: String,
    /// `running`, `succeeded`, `failed`, `cancelled` or `unknown`.
    pub state: &'static str,
    /// What it does.
    pub summary: String,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub origin: String,
    /// The step that it is in.
    pub step: Option<String>,
    pub last_error: Option<String>,
    pub progress_percent: u32,
    /// An estimate; null: none yet.
    pub remaining_ms: Option<u64>,
    pub partition_id: Option<u64>,
    pub node_id: Option<u64>,
    pub from_node_id: Option<u64>,
    pub to_node_id: Option<u64>,
    pub started_zone_time_ms: u64,
    /// Null while it runs.
    pub ended_zone_time_ms: Option<u64>,
    /// The operation that it is a part of.
    pub parent_id: Option<u64>,
}

impl OperationForm {
    pub fn has_ended(&self) -> bool {
        matches!(self.state, "succeeded" | "failed" | "cancelled")
    }

    /// Whether both say the same to somebody who watches: the estimate alone is no news.
    pub fn looks_like(&self, other: &Self) -> bool {
        (self.state, self.progress_percent, &self.step, &self.last_error)
            == (other.state, other.progress_percent, &other.step, &other.last_error)
    }
}

impl From<v1::Operation> for OperationForm {
    fn from(operation: v1::Operation) -> Self {
        let state = match operation.state() {
            v1::OperationState::Unspecified => "unknown",
            v1::OperationState::Running => "running",
            v1::OperationState::Succeeded => "succeeded",
            v1::OperationState::Failed => "failed",
            v1::OperationState::Cancelled => "cancelled",
        };
        Self {
            id: operation.id,
            kind: operation.kind,
            state,
            summary: operation.summary,
            reason: operation.reason,
            origin: operation.origin,
            step: some_text(operation.step),
            last_error: some_text(operation.last_error),
            progress_percent: operation.progress_percent,
            remaining_ms: some_id(operation.remaining_ms),
            partition_id: some_id(operation.partition_id),
            node_id: some_id(operation.node_id),
            from_node_id: some_id(operation.from_node_id),
            to_node_id: some_id(operation.to_node_id),
            started_zone_time_ms: operation.started_zone_time_ms,
            ended_zone_time_ms: some_id(operation.ended_zone_time_ms),
            parent_id: some_id(operation.parent_id),
        }
    }
}

/// One line of `zonectl events`.
#[derive(Clone, Debug, Serialize)]
pub struct EventForm {
    /// Rises by one.
    pub sequence: u64,
    pub zone_time_ms: u64,
    /// The leader's wall clock, milliseconds since 1970, for display only.
    pub wall_time_ms: u64,
    pub kind: String,
    pub message: String,
    pub reason: Option<String>,
    pub partition_id: Option<u64>,
    pub node_id: Option<u64>,
    pub operation_id: Option<u64>,
}

impl From<v1::Event> for EventForm {
    fn from(event: v1::Event) -> Self {
        Self {
            sequence: event.sequence,
            zone_time_ms: event.zone_time_ms,
            wall_time_ms: event.wall_time_ms,
            kind: event.kind,
            message: event.message,
            reason: some_text(event.reason),
            partition_id: some_id(event.partition_id),
            node_id: some_id(event.node_id),
            operation_id: some_id(event.operation_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_says_whether_it_has_ended() {
        let form = |state: v1::OperationState| {
            OperationForm::from(v1::Operation { state: state.into(), ..v1::Operation::default() })
        };
        assert!(!form(v1::OperationState::Running).has_ended());
        assert!(form(v1::OperationState::Failed).has_ended());
        let mut later = form(v1::OperationState::Running);
        later.remaining_ms = Some(5);
        assert!(later.looks_like(&form(v1::OperationState::Running)));
        later.progress_percent = 5;
        assert!(!later.looks_like(&form(v1::OperationState::Running)));
        let json = serde_json::to_value(form(v1::OperationState::Cancelled)).unwrap();
        assert_eq!(json["state"], "cancelled");
        assert!(json["remaining_ms"].is_null() && json["last_error"].is_null());
    }
}
