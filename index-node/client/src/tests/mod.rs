//! The client against fake servers over loopback.

mod admin;
mod fake;
mod reads;
mod routing;
mod writes;
