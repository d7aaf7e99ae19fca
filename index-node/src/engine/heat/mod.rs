//! What a replica's load is, and what of it the control plane is told.
//!
//! - [`counts`]: the counters of one replica, which every request touches.
//! - [`hot_keys`]: which keys of a partition are asked for the most; kept for hot partitions only.
//! - [`key_sample`]: where its load falls into halves, for splits; for the same partitions.
//! - [`rates`]: when a load has changed enough for a report.
//! - [`reporter`]: which partitions to report, so that a message is bounded and nothing is lost.
//! - [`stored`]: what a replica's data takes on the disk.
//! - `host_heat`, beside this folder: one round over all replicas of a node.
//! - [`changes`]: which replicas have changed since somebody last asked.
//!
//! Deliberately not here: averages over time and comparisons with other nodes. The control plane makes them.

pub mod changes;
pub mod counts;
pub mod hot_keys;
pub mod key_sample;
pub mod rates;
pub mod reporter;
pub mod stored;

pub use changes::Changes;
pub use counts::{Counts, Heat};
pub use reporter::HeatReporter;
pub use stored::StoredEstimate;
