//! The zone as people and programs meet it: real processes, real disks, the real wire.
//!
//! - [`verbs`]: every verb of `zonectl`, in both outputs.
//! - [`calls`]: every RPC, asked directly.
//! - [`refusals`]: bad input and bad circumstances: a precise answer, and nothing changed.
//! - [`faults`]: processes that are killed, stopped and lost under traffic.
//! - [`demo`]: `zonectl demo`, and that it notices a lost write.
//! - [`support`]: zones for tests; most tests share one, one after the other.
//! - [`table`]: `README.md` says which test exercises what, and this checks that it does.
//!
//! The tests wait for a level, with a generous limit, and assert no time.

#![allow(
    clippy::err_expect,
    clippy::await_holding_lock,
    reason = "answers have no Debug; the scripted control plane locks for moments"
)]

mod calls;
mod demo;
mod faults;
mod refusals;
mod support;
mod table;
mod verbs;
