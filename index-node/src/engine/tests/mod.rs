//! Groups of replicas on several hosts in one process, with a network that tests can cut.

mod apply;
mod awaiting;
mod birth;
mod chaos;
mod digest;
mod harness;
mod heat;
mod hot_key;
mod membership;
mod requests;
mod restart;
mod service;
mod snapshots;
mod split;
mod takeover;
