//! Load, as the leader has heard of it: which partitions are hot, and which nodes.
//!
//! Start reading at [`ZoneHeat`].
//!
//! - `average`: averages that forget, exact for a report of any length.
//! - `cell`, `cells`: what is kept of one partition, in little more than 100 bytes, and of all of them.
//! - `hottest`: the hottest partitions, without a walk over all.
//! - [`evenness`]: how evenly load is spread over nodes.
//! - [`summary`]: what of it is replicated, so that the next leader is not blind.
//!
//! Load belongs to a partition, and a partition to the node that leads it: where leadership moves, the load
//! moves along at once, in one place and out of the other, and is never counted twice. A node's sums are the
//! sums of what it leads. They are kept up with each report, which is possible because all averages forget at
//! the same pace: a sum of averages is the average of the sum.
//!
//! A node says nothing of a partition whose load has not changed, so until it does the load counts as it was
//! reported last. That ends with the node's session.
//!
//! Deliberately not here: what is to be done about it, which a planner decides; and replicas that do not
//! lead, of which only the node's processor time counts.

mod average;
mod cell;
mod cells;
pub mod evenness;
mod hottest;
mod node;
pub mod summary;
mod zone;

pub use node::NodeLoad;
pub use summary::Summary;
pub use zone::{HotKey, LoadReport, PartitionLoad, ZoneHeat};

/// How many of the hottest partitions can be asked for.
pub const HOTTEST_MAX: usize = 64;

/// Load per second. As processor time has no unit left then, it is told in cores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub reads_per_second: f64,
    pub writes_per_second: f64,
    /// Read and written.
    pub bytes_per_second: f64,
    /// The requests' own work, where the partition is led.
    pub request_cpu_cores: f64,
    /// Applying entries: as much on each of the partition's replicas.
    pub apply_cpu_cores: f64,
}

/// In the sequence of the fields of [`Rates`].
const DIMENSIONS: usize = 5;

impl Rates {
    pub(crate) fn from_array(rates: [f64; DIMENSIONS]) -> Self {
        let [reads, writes, bytes, request_cpu, apply_cpu] = rates;
        Self {
            reads_per_second: reads,
            writes_per_second: writes,
            bytes_per_second: bytes,
            request_cpu_cores: request_cpu,
            apply_cpu_cores: apply_cpu,
        }
    }

    pub(crate) fn to_array(self) -> [f64; DIMENSIONS] {
        [
            self.reads_per_second,
            self.writes_per_second,
            self.bytes_per_second,
            self.request_cpu_cores,
            self.apply_cpu_cores,
        ]
    }

    pub fn cpu_cores(&self) -> f64 {
        self.request_cpu_cores + self.apply_cpu_cores
    }

    /// One figure to compare partitions by, in requests per second: 16 KiB, or 50 µs of a processor, weigh
    /// like a request.
    pub fn weight(&self) -> f64 {
        self.reads_per_second
            + self.writes_per_second
            + self.bytes_per_second / 16_384.0
            + self.cpu_cores() / 50e-6
    }
}
