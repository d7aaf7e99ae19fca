//! `zonectl dev up`: a zone of separate processes on this machine.

mod record;
mod up;

pub use up::{GRACE, Making, bring_up, up};
