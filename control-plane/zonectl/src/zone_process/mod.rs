//! A zone's processes on this machine: start, terminate, kill, freeze, restart one by its role.
//!
//! For `zonectl dev up`, the demo, tests of real processes and benchmarks.
//!
//! **Invariants.**
//! - No process outlives its [`ZoneProcesses`]: it is killed when that is dropped, and by the kernel when
//!   this whole process dies (Linux).
//! - Each process is in a process group of its own, so that Ctrl-C in a terminal reaches only us.
//! - A data directory belongs to one [`ZoneProcesses`] at a time.

mod binaries;
mod error;
mod layout;
mod process;
mod spawner;
mod zone;

pub use binaries::Binaries;
pub use error::ProcessError;
pub use layout::{Layout, Place, Role};
pub use process::Exit;
pub use spawner::spawn;
pub use zone::ZoneProcesses;
