//! `zonectl load`.

use super::has_fields;
use crate::support::{program::Zonectl, shared::shared};

#[tokio::test(flavor = "multi_thread")]
async fn load_reports_and_verifies() {
    let zone = shared().await;
    let zonectl = Zonectl::new(&zone.endpoints());
    let options = ["load", "--rate", "100", "--duration", "2s", "--keys", "100", "--zipf", "0.9"];
    let more = ["--delete-ratio", "0.2", "--verify", "--bucket", "verb"];
    let report = zonectl.json(&[&options[..], &more].concat()).await;
    has_fields(
        &report,
        &[
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
            "reads",
            "writes",
            "reads_found",
            "longest_read_pause",
            "longest_write_pause",
            "partitions",
            "errors",
            "verification",
        ],
    );
    assert_eq!((report["planned"].as_u64(), report["failed"].as_u64()), (Some(200), Some(0)));
    for side in ["reads", "writes"] {
        has_fields(&report[side], &["issued", "completed", "failed", "unknown", "latency"]);
        has_fields(
            &report[side]["latency"],
            &["p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms", "mean_ms"],
        );
    }
    assert_eq!(report["verification"]["passed"], true);
    assert_eq!(report["verification"]["violations"], 0);
    let text = zonectl.text(&options).await;
    for word in ["requests/s completed", "0 failed", "p99.9", "Longest write pause"] {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}
