//! The control plane over the wire: real members on real stores, over loopback gRPC, with index nodes
//! that are played. One program, so that it is linked once.

#![allow(
    clippy::disallowed_methods,
    reason = "real sockets, processes and time are what is tested"
)]

mod brake;
mod heat;
mod init;
mod members;
mod nodes;
mod operations;
mod policy;
mod process;
mod routing;
mod support;
