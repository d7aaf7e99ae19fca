//! The load generator.
//!
//! **Open loop.** Requests start when they are due, whether earlier ones were answered or not, and their
//! latency counts from the moment that they were due. So a pause of the zone is charged to everybody who
//! would have been served in it (no "coordinated omission"). What cannot start, since too many requests
//! are outstanding, is counted as shed and never silently delayed.
//!
//! - [`LoadOptions`]: what load, checked.
//! - [`start`]: runs it against clients; [`RunningLoad`] shows how it goes.
//! - [`pace`]: says when requests are due, for loads that are no [`LoadOptions`].
//! - [`LoadReport`]: the result. Its JSON field names are stable.
//! - [`Model`]: what may be read back, given what was written: the verification.
//! - [`PauseTracker`]: the longest time in which a partition completed nothing that it should have.
//!
//! Everything is bounded: in time by the duration and the clients' deadline, in memory by the number of
//! keys and of outstanding requests.

mod dispatcher;
mod keys;
mod latency;
mod model;
mod options;
mod pacer;
mod pauses;
mod recorder;
mod report;
mod run;
mod values;

pub use keys::KeySpace;
pub use latency::{Latencies, LatencyForm};
pub use model::{Found, Model, WriteEnd, WriteKind};
pub use options::LoadOptions;
pub use pacer::start as pace;
pub use pauses::{Pause, PauseTracker};
pub use recorder::Progress;
pub use report::{
    ErrorForm, LoadReport, PartitionLoadForm, PauseForm, RequestsForm, VerificationForm, table,
};
pub use run::{RunningLoad, connect, start};
pub use values::{Content, RunId, ValueCodec};
