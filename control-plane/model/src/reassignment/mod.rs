//! The best places for replicas: a problem that can be written down, and its solver.
//!
//! Nodes have capacities and targets, replicas have demands; members of a group keep apart and spread over
//! fault domains; load above the targets, resources that do not fit together, and moves cost something. It
//! is the machine reassignment problem of the ROADEF/EURO challenge of 2012 without its dependencies, plus
//! what a zone needs: replicas that are nowhere yet, and nodes that may hold none any more.
//!
//! Where to start reading: [`form`] is what a file holds, [`Problem::new`] checks it, [`solve`] or
//! [`Solver`] solves it.
//!
//! Deliberately not here: the live zone, with leaders, heat and cooldowns, whose planner has other goals; and
//! the sequence of the moves, for what is checked is that all of them may be under way at once.

mod cost;
pub mod form;
mod groups;
mod moves;
mod problem;
mod repair;
mod search;
mod solver;
mod state;
mod validate;
mod violations;

pub use cost::{Cost, LowerBound};
pub use problem::{Assignment, Problem};
pub use solver::{DESCENT_ROUNDS, Effort, LANES_MAX, Solution, Solver, solve};
pub use validate::{
    AMOUNT_MAX, BALANCES_MAX, DISTANCE_ROWS_MAX, InvalidProblem, NAME_BYTES_MAX, NODES_MAX,
    REPLICAS_MAX, RESOURCES_MAX, TOTAL_MAX,
};
pub use violations::{Violation, Violations};
