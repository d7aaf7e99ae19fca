//! Every RPC, asked directly, at real processes.

mod admin;
mod common;
mod index;
mod member;
mod node;
mod peer;
mod routing;
