//! What the engine counts and measures.

use std::time::Duration;

use metrics::{Unit, describe_counter, describe_histogram};

use super::error::RequestError;

/// Describes every metric of the engine.
pub fn describe() {
    describe_counter!(
        "isotherm_index_requests_total",
        "Requests of clients, by method and outcome"
    );
    describe_counter!(
        "isotherm_index_requests_throttled_total",
        "Requests that had to wait because their key had its share of what was under way, or were refused for that, by kind"
    );
    describe_histogram!(
        "isotherm_index_request_duration_seconds",
        Unit::Seconds,
        "From a request's arrival to its answer, by method"
    );
    describe_counter!(
        "isotherm_index_read_rounds_total",
        "Rounds to a quorum that confirmed reads, by outcome"
    );
    describe_counter!("isotherm_index_reads_confirmed_total", "Reads that rounds have confirmed");
    describe_counter!(
        "isotherm_index_snapshots_received_total",
        "Snapshots that other replicas have sent, by outcome"
    );
    describe_counter!(
        "isotherm_index_takeovers_total",
        "What this node did for takeovers, group by group, by outcome"
    );
}

fn outcome<T>(answer: &Result<T, RequestError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(RequestError::Invalid(_)) => "invalid",
        Err(RequestError::UnknownPartition { .. }) => "unknown_partition",
        Err(RequestError::WrongLeader { .. }) => "wrong_leader",
        Err(RequestError::WrongRange { .. }) => "wrong_range",
        Err(RequestError::Expiry { .. }) => "expiry",
        Err(RequestError::ConditionFailed { .. }) => "condition_failed",
        Err(RequestError::Exhausted { .. }) => "exhausted",
        Err(RequestError::Throttled { .. }) => "throttled",
        Err(RequestError::Unavailable { .. }) => "unavailable",
        Err(RequestError::OutcomeUnknown { .. }) => "outcome_unknown",
    }
}

pub(super) fn request<T>(
    method: &'static str,
    answer: &Result<T, RequestError>,
    duration: Duration,
) {
    let outcome = outcome(answer);
    metrics::counter!("isotherm_index_requests_total", "method" => method, "outcome" => outcome)
        .increment(1);
    metrics::histogram!("isotherm_index_request_duration_seconds", "method" => method)
        .record(duration);
}

/// A request of a key that has its share. `kind`: `reads` or `writes`.
pub(super) fn throttled(kind: &'static str) {
    metrics::counter!("isotherm_index_requests_throttled_total", "kind" => kind).increment(1);
}

pub(super) fn read_round(answer: &Result<(), RequestError>, reads: usize) {
    let outcome = outcome(answer);
    metrics::counter!("isotherm_index_read_rounds_total", "outcome" => outcome).increment(1);
    if answer.is_ok() {
        metrics::counter!("isotherm_index_reads_confirmed_total").increment(reads as u64);
    }
}

pub(super) fn snapshot_received(installed: bool) {
    let outcome = if installed { "installed" } else { "failed" };
    metrics::counter!("isotherm_index_snapshots_received_total", "outcome" => outcome).increment(1);
}

pub(super) fn take_over(outcome: proto::v1::take_over_result::Outcome) {
    use proto::v1::take_over_result::Outcome;
    let outcome = match outcome {
        Outcome::Unspecified => "unspecified",
        Outcome::Leading => "leading",
        Outcome::Disarmed => "disarmed",
        Outcome::NotElected => "not_elected",
        Outcome::LedElsewhere => "led_elsewhere",
        Outcome::Refused => "refused",
    };
    metrics::counter!("isotherm_index_takeovers_total", "outcome" => outcome).increment(1);
}
