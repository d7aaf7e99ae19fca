//! What every process of a zone stands on.
//!
//! - [`seams`]: network, clock, randomness and processor time, through which all code of the zone reaches
//!   the outside world; production implementations live here, simulated ones in `sim-tests`.
//! - [`store`]: the seam to the disk, an ordered key-value store, with its RocksDB and its simulated
//!   implementation and the contract suite that both pass.
//! - [`record`]: how every persisted value is framed: version, checksum, payload.
//! - [`raft`]: the Raft log of one or of many groups over the store seam.
//! - [`grpc`]: server and client bootstrap: TLS, limits, deadlines, retries, errors with detail.
//! - [`configuration`]: one TOML file, overridden by the environment, overridden by flags.
//! - [`metered`]: how much processor time a future took.
//! - [`time`]: local waiting, which a simulation can put on a process's own clock.
//! - [`telemetry`]: logs, and metrics on `/metrics`. [`coverage`]: marks by which a test sees that it got
//!   somewhere.
//!
//! **Architecture invariant**: nothing here knows what a partition or a node is, and nothing here
//! decides anything about them.

pub mod configuration;
pub mod coverage;
pub mod grpc;
pub mod metered;
pub mod raft;
pub mod record;
pub mod seams;
pub mod store;
pub mod telemetry;
pub mod time;
