//! `zonectl load` and `zonectl demo`.

use std::time::Duration;

use clap::Args;

pub const LOAD_HELP: &str = "\
Examples:
  zonectl load --rate 1000 --duration 30s
  zonectl load --rate 500 --duration 1m --read-ratio 0.5 --zipf 0.99 --verify
  zonectl load --rate 5000 --duration 10s --connections 4 -o json

Requests start when they are due, whether earlier ones were answered or not,
and their latency counts from then. What cannot start since too many are
outstanding is counted as shed. Failed means: certainly not done, in spite of
retries; unknown means: a write that may or may not have been done. A pause is
the longest time in which a partition completed nothing although something was
waiting for it.

JSON:
  rate_per_second, duration_ms, elapsed_ms, planned, issued, shed, completed,
  failed, unknown, throughput_per_second, reads_found,
  reads, writes {issued, completed, failed, unknown,
    latency {p50_ms, p90_ms, p99_ms, p99_9_ms, max_ms, mean_ms}},
  longest_read_pause, longest_write_pause {pause_ms, partition_id,
    started_after_ms, ended} or null,
  partitions[] {partition_id, reads, writes, longest_read_pause_ms,
    longest_write_pause_ms}, errors[] {message, count},
  verification {passed, keys_checked, keys_unchecked, acknowledged_writes,
    unknown_writes, violations, examples[]} or null

The exit code is 1 if the verification found a violation, or if nothing at all
was answered.";

pub const DEMO_HELP: &str = "\
Examples:
  zonectl demo
  zonectl demo /home --keys-max 50000 -o json
  zonectl demo --sabotage              one acknowledged write is dropped: the exit code must be 1

The demo kills the index node that leads most partitions and lets it come back, drains another, kills the
control plane's leader, and stops the whole control plane for ten seconds. Exit code 0 only if every
affected partition acknowledged writes again within 5 s of its fault, no request failed, and every key
and value is what was acknowledged (where the outcome of a write is unknown, either value).

JSON: passed, keys, generated_keys, partitions, fill_seconds, fill_writes_per_second, faults[] {fault,
affected_partitions, recovered_ms, failed, unknown, longest_request_ms, note}, reads, writes, failed,
unknown, wrong_answers, verification {compared, unknown, missing, different, unexpected, examples[]},
seconds, failures[].";

#[derive(Clone, Debug, Args)]
pub struct LoadArguments {
    /// Requests per second that are started.
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// For how long requests are started.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    pub duration: Duration,
    /// How many different keys.
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: u32,
    /// The share of reads, 0 to 1.
    #[arg(long, default_value_t = 0.5)]
    pub read_ratio: f64,
    /// The share of deletes among the writes, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub delete_ratio: f64,
    /// How skewed: 0 is uniform, 0.99 is usual for caches.
    #[arg(long, default_value_t = 0.0)]
    pub zipf: f64,
    /// Check every answer while it runs, and every key at the end.
    #[arg(long)]
    pub verify: bool,
    /// Connections to each node.
    #[arg(long, default_value_t = 1)]
    pub connections: u32,
    /// Requests that may be outstanding; what is due beyond that is shed.
    #[arg(long, default_value_t = 4_096)]
    pub outstanding: u32,
    /// Ends the buckets that the keys are in; a run with the same word uses the same keys.
    #[arg(long, default_value = "load")]
    pub bucket: String,
}
