//! The zone's planner: every plan is checked against rules and goals that are written down a second time,
//! and carried out by a zone that notes what went back and forth.

mod checker;
mod properties;
mod refusals;
mod rest;
mod scenarios;
mod zone;
