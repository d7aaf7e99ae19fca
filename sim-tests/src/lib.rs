//! Deterministic simulation of whole zones.
//!
//! Members of the control plane, index nodes, clients and an operator run **the production code** in one
//! thread, over simulated seams: [turmoil](turmoil)'s network and clock, randomness from one seed, and
//! [simulated disks](runtime::store::simulated) that lose what was not synced. Things go wrong by a
//! schedule that follows from the seed; what clients saw is checked afterwards. The same seed is the
//! same run, byte for byte of its [trace](trace), in every process.
//!
//! # Where to start reading
//!
//! - [`run`]: one run from its beginning to its verdict.
//! - [`world`]: hosts, their network and their disks, and what can be done to them. Knows no zone.
//!   Under it [`network`], [`clock`], [`randomness`] and [`processor`], the seams; [`gate`], which freezes a process;
//!   [`links`], what is cut.
//! - [`zone`]: a zone in a world. [`workload`], [`operator`], [`commands`]: the programs that use it;
//!   [`wayward`], who asks for what must be refused; [`onlooker`], who only looks; [`board`]: how these
//!   and the harness talk.
//! - [`faults`]: the schedule. [`scenario`]: one that is written down; [`shipped`]: those that come with
//!   this crate. [`shrink`]: makes one smaller that fails. [`seed`]: how everything random follows from one
//!   number.
//! - [`history`], [`linearizability`], [`checks`]: what was seen, and whether it may be. [`calm`]: whether
//!   requests were answered while only the control plane suffered. [`witness`]: watches the disks, and
//!   checks after each write to one. [`spread`]: whether load is spread and then left alone.
//! - [`trace`], [`report`]: what a person gets to see. [`coverage`]: what a run got into, and what a sweep
//!   has to get into. [`sabotage`]: breaking things on purpose.
//!
//! # A run of one's own
//!
//! ```no_run
//! use sim_tests::{run::{RunOptions, run}, seed::Seed, trace::{Print, Trace}};
//!
//! let mut options = RunOptions::default();
//! options.zone.index_nodes = 5;
//! let trace = Trace::new(Print::Processes);
//! trace.install().expect("one run for each process");
//! let report = run(Seed(7), &options, &trace);
//! println!("{report}");
//! std::process::exit(report.exit_code().into());
//! ```
//!
//! # Invariants
//!
//! **Architecture invariant**: one run for each process. tokio numbers tasks by a counter of the whole
//! process, and a panic in a simulated process ends the real one. The binary `sim` starts a child for
//! each seed.
//!
//! **Architecture invariant**: nothing here changes what servers do. What they are given differs, and
//! the timers of partition groups are a tenth of production's, by configuration.
//!
//! What keeps runs apart from the real world, found by trying: `--cfg tokio_unstable`, without which
//! tokio's own random choices are not seeded; turmoil's fixed epoch; task numbers that start over
//! ([`world`]); no payloads in the trace, because hyper writes the real date into headers.

#[cfg(not(tokio_unstable))]
compile_error!(
    "the simulation needs `--cfg tokio_unstable` in RUSTFLAGS (the workspace's .cargo/config.toml sets \
     it): without it tokio's random choices are not seeded, and no run can be repeated"
);

pub mod ambush;
pub mod board;
pub mod calm;
pub mod checks;
pub mod clock;
pub mod commands;
pub mod coverage;
pub mod faults;
pub mod gate;
pub mod history;
pub mod linearizability;
pub mod links;
pub mod network;
pub mod onlooker;
pub mod operator;
pub mod processor;
pub mod randomness;
pub mod report;
pub mod run;
pub mod sabotage;
pub mod scenario;
pub mod seed;
pub mod shipped;
pub mod shrink;
pub mod spread;
pub mod trace;
pub mod wayward;
pub mod witness;
pub mod workload;
pub mod world;
pub mod zone;
