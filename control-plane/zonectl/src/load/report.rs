//! The result of a run: as JSON with stable field names, and for people.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use client::PartitionId;
use comfy_table::Cell;
use runtime::seams::Moment;
use serde::Serialize;

use super::{
    latency::LatencyForm,
    model::Model,
    options::LoadOptions,
    pauses::{Pause, PauseTracker},
    recorder::{Figures, Recorder},
};
use crate::{
    tables::{number, table as new_table},
    text::{count, show_duration},
};

/// The result of a run. See `zonectl load --help` for the meaning of the fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadReport {
    pub rate_per_second: f64,
    pub duration_ms: u64,
    /// Until the last request had ended.
    pub elapsed_ms: u64,
    /// Requests that were due in the whole duration.
    pub planned: u64,
    pub issued: u64,
    /// Due, but not made, since too many were outstanding.
    pub shed: u64,
    pub completed: u64,
    /// Certainly not done, in spite of retries.
    pub failed: u64,
    /// Writes that may or may not have been done.
    pub unknown: u64,
    /// Completed requests in each second of `elapsed_ms`.
    pub throughput_per_second: f64,
    pub reads: RequestsForm,
    pub writes: RequestsForm,
    /// Reads that found a value.
    pub reads_found: u64,
    pub longest_read_pause: Option<PauseForm>,
    pub longest_write_pause: Option<PauseForm>,
    pub partitions: Vec<PartitionLoadForm>,
    pub errors: Vec<ErrorForm>,
    /// Null unless it was asked for.
    pub verification: Option<VerificationForm>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RequestsForm {
    pub issued: u64,
    pub completed: u64,
    pub failed: u64,
    pub unknown: u64,
    /// Of completed requests, from the moment that they were due.
    pub latency: LatencyForm,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PauseForm {
    pub pause_ms: f64,
    pub partition_id: u64,
    /// Since the start of the run.
    pub started_after_ms: f64,
    /// Whether a success ended it; otherwise the end of the run did.
    pub ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PartitionLoadForm {
    pub partition_id: u64,
    /// Completed.
    pub reads: u64,
    /// Completed.
    pub writes: u64,
    pub longest_read_pause_ms: Option<f64>,
    pub longest_write_pause_ms: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorForm {
    pub message: String,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerificationForm {
    /// No violation, and every key could be read.
    pub passed: bool,
    pub keys_checked: u64,
    pub keys_unchecked: u64,
    pub acknowledged_writes: u64,
    pub unknown_writes: u64,
    pub violations: u64,
    /// The first few violations in words.
    pub examples: Vec<String>,
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn requests(figures: &Figures) -> RequestsForm {
    RequestsForm {
        issued: figures.issued,
        completed: figures.completed,
        failed: figures.failed,
        unknown: figures.unknown,
        latency: figures.latencies.form(),
    }
}

fn pause(pause: Pause, started: Moment) -> PauseForm {
    PauseForm {
        pause_ms: milliseconds(pause.length),
        partition_id: pause.partition.0,
        started_after_ms: milliseconds(pause.started.since(started)),
        ended: pause.ended,
    }
}

fn verification(model: &Model, unchecked: u64) -> VerificationForm {
    VerificationForm {
        passed: model.violations() == 0 && unchecked == 0,
        keys_checked: (model.known_keys().len() as u64).saturating_sub(unchecked),
        keys_unchecked: unchecked,
        acknowledged_writes: model.acknowledged_writes(),
        unknown_writes: model.unknown_writes(),
        violations: model.violations(),
        examples: model.examples().to_vec(),
    }
}

fn by_partition(recorder: &Recorder) -> Vec<PartitionLoadForm> {
    let (reads, writes) = (&recorder.reads, &recorder.writes);
    let ids: BTreeSet<PartitionId> =
        reads.by_partition.keys().chain(writes.by_partition.keys()).copied().collect();
    let longest = |pauses: &PauseTracker, partition| {
        pauses.longest_of(partition).map(|pause| milliseconds(pause.length))
    };
    let form = |partition: PartitionId| PartitionLoadForm {
        partition_id: partition.0,
        reads: reads.by_partition.get(&partition).copied().unwrap_or(0),
        writes: writes.by_partition.get(&partition).copied().unwrap_or(0),
        longest_read_pause_ms: longest(&reads.pauses, partition),
        longest_write_pause_ms: longest(&writes.pauses, partition),
    };
    ids.into_iter().map(form).collect()
}

impl LoadReport {
    pub(super) fn new(
        options: &LoadOptions,
        recorder: &Recorder,
        started: Moment,
        elapsed: Duration,
        unchecked: u64,
    ) -> Self {
        let (reads, writes) = (&recorder.reads, &recorder.writes);
        let completed = reads.completed + writes.completed;
        let mut errors: Vec<ErrorForm> = recorder
            .errors
            .iter()
            .map(|(message, count)| ErrorForm { message: message.clone(), count: *count })
            .collect();
        errors.sort_by_key(|error| std::cmp::Reverse(error.count));
        Self {
            rate_per_second: options.rate_per_second,
            duration_ms: whole_milliseconds(options.duration),
            elapsed_ms: whole_milliseconds(elapsed),
            planned: options.planned(),
            issued: reads.issued + writes.issued,
            shed: recorder.shed,
            completed,
            failed: reads.failed + writes.failed,
            unknown: reads.unknown + writes.unknown,
            throughput_per_second: completed as f64 / elapsed.as_secs_f64().max(1e-9),
            reads: requests(reads),
            writes: requests(writes),
            reads_found: recorder.reads_found,
            longest_read_pause: reads.pauses.longest().map(|longest| pause(longest, started)),
            longest_write_pause: writes.pauses.longest().map(|longest| pause(longest, started)),
            partitions: by_partition(recorder),
            errors,
            verification: recorder.model.as_ref().map(|model| verification(model, unchecked)),
        }
    }

    /// Why the run counts as failed, if it does.
    pub fn failure(&self) -> Option<String> {
        match &self.verification {
            Some(verification) if verification.violations > 0 => Some(format!(
                "the verification found {}",
                count(verification.violations, "violation", "violations")
            )),
            Some(verification) if !verification.passed => Some(format!(
                "{} could not be read for the verification",
                count(verification.keys_unchecked, "key", "keys")
            )),
            Some(_) | None if self.completed == 0 => Some("no request was answered".to_owned()),
            Some(_) | None => None,
        }
    }
}

/// The report for people.
pub fn table(report: &LoadReport) -> String {
    let mut text = format!(
        "{:.0} of {:.0} requests/s completed over {}: {} completed, {} failed, {} unknown, {} shed.\n",
        report.throughput_per_second,
        report.rate_per_second,
        show_duration(Duration::from_millis(report.elapsed_ms)),
        report.completed,
        report.failed,
        report.unknown,
        report.shed,
    );
    let ms = |value: Option<f64>| match value {
        Some(value) => number(format!("{value:.2} ms")),
        None => number("–"),
    };
    let mut latencies =
        new_table(&["", "completed", "failed", "unknown", "p50", "p90", "p99", "p99.9", "max"]);
    for (name, side) in [("reads", &report.reads), ("writes", &report.writes)] {
        latencies.add_row([
            Cell::new(name),
            number(side.completed),
            number(side.failed),
            number(side.unknown),
            ms(side.latency.p50_ms),
            ms(side.latency.p90_ms),
            ms(side.latency.p99_ms),
            ms(side.latency.p99_9_ms),
            ms(side.latency.max_ms),
        ]);
    }
    let _ = writeln!(text, "{latencies}");
    for (name, pause) in
        [("read", report.longest_read_pause), ("write", report.longest_write_pause)]
    {
        if let Some(pause) = pause {
            let _ = writeln!(
                text,
                "Longest {name} pause: {:.1} ms, partition {}, {:.1} s into the run{}.",
                pause.pause_ms,
                pause.partition_id,
                pause.started_after_ms / 1e3,
                if pause.ended { "" } else { ", not over at its end" },
            );
        }
    }
    for error in report.errors.iter().take(5) {
        let _ = writeln!(text, "{} × {}", error.count, error.message);
    }
    if let Some(verification) = &report.verification {
        let _ = writeln!(
            text,
            "Verification {}: {} checked, {} acknowledged and {} unknown writes, {}.",
            if verification.passed { "passed" } else { "FAILED" },
            count(verification.keys_checked, "key", "keys"),
            verification.acknowledged_writes,
            verification.unknown_writes,
            count(verification.violations, "violation", "violations"),
        );
        for example in &verification.examples {
            let _ = writeln!(text, "  • {example}");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::recorder::{End, Side};

    fn at(milliseconds: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(milliseconds))
    }

    fn report(recorder: &Recorder) -> LoadReport {
        LoadReport::new(&LoadOptions::default(), recorder, at(100), Duration::from_secs(2), 0)
    }

    #[test]
    fn the_json_form_is_as_documented() {
        let mut recorder =
            Recorder { model: Some(Model::default()), shed: 3, ..Recorder::default() };
        recorder.begin(Side::Write, PartitionId(7), at(150));
        recorder.end(Side::Write, PartitionId(7), at(150), at(160), End::Completed);
        recorder.begin(Side::Read, PartitionId(7), at(150));
        recorder.end(Side::Read, PartitionId(7), at(150), at(160), End::Failed("gone".into()));
        let json = serde_json::to_value(report(&recorder)).unwrap();
        for field in [
            "rate_per_second",
            "duration_ms",
            "elapsed_ms",
            "planned",
            "issued",
            "shed",
            "completed",
            "failed",
            "unknown",
            "throughput_per_second",
            "reads_found",
        ] {
            assert!(json[field].is_number(), "{field}");
        }
        assert_eq!(json["throughput_per_second"], 0.5);
        assert_eq!(json["writes"]["completed"], 1);
        for quantile in ["p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms", "mean_ms"] {
            assert!(json["writes"]["latency"][quantile].is_number(), "{quantile}");
            assert!(json["reads"]["latency"][quantile].is_null(), "{quantile}");
        }
        let pause = &json["longest_write_pause"];
        assert_eq!(pause["pause_ms"], 10.0);
        assert_eq!(pause["partition_id"], 7);
        assert_eq!(pause["started_after_ms"], 50.0);
        assert_eq!(pause["ended"], true);
        assert_eq!(json["partitions"][0]["writes"], 1);
        assert_eq!(json["errors"][0]["message"], "gone");
        assert_eq!(json["verification"]["passed"], true);
    }

    #[test]
    fn a_run_fails_by_violations_unread_keys_or_no_answer_at_all() {
        let mut recorder = Recorder::default();
        assert!(report(&recorder).failure().unwrap().contains("no request"));
        recorder.begin(Side::Write, PartitionId(7), at(0));
        recorder.end(Side::Write, PartitionId(7), at(0), at(1), End::Completed);
        assert_eq!(report(&recorder).failure(), None);
        recorder.model = Some(Model::default());
        assert_eq!(report(&recorder).failure(), None);
        let unread =
            LoadReport::new(&LoadOptions::default(), &recorder, at(0), Duration::from_secs(1), 1);
        assert!(unread.failure().unwrap().contains("1 key could not be read"));
        assert!(table(&unread).contains("FAILED"));
    }
}
