//! etcd beside it: three members on this machine, the same load, the same faults done to its leader.
//!
//! Debian's `etcd-server`, whose data lies beside the zone's. The zone is down meanwhile, so that etcd has
//! the machine to itself.

mod api;
mod client;
mod cluster;
mod load;
mod trial;

pub use cluster::{Cluster, program};
pub use trial::run;
