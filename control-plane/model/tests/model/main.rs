//! Properties and scenarios of the model, through its public interface only.

mod accrual;
mod agenda;
mod bad_input;
mod balance;
mod bench;
mod brake;
mod commands;
mod conclusions;
mod detector;
mod drains;
mod group;
mod heat;
mod heat_summary;
mod leaders;
mod partition_set;
mod placement;
mod reassignment;
mod reconcile;
mod signals;
mod splits;
mod status;
mod takeover;
mod takeover_turns;
mod tally;
mod view;
mod world;
