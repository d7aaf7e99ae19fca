//! Processes that are killed, stopped and lost, with traffic on every partition: nothing acknowledged is
//! missing, and no request fails.

mod index_nodes;
mod leaders;
mod load;
mod outages;
mod plans;
mod quiet;
mod repair;
mod snapshots;
