//! The gRPC services of a member, and everything that knows the wire.
//!
//! - [`node`]: registration and sessions of index nodes.
//! - [`admin`], [`streams`]: operators' commands and questions; [`figures`], [`heat`] and
//!   [`plans`] gather what they show.
//! - [`routing`]: the partition map.
//! - [`member`]: the other members.
//! - [`from_wire`], [`to_wire`], [`refusal`]: conversions, one module each way.

pub mod admin;
pub mod figures;
pub mod from_wire;
pub mod heat;
mod member;
pub mod node;
mod once;
mod plans;
pub mod refusal;
mod routing;
mod streams;
pub mod to_wire;

use std::sync::Arc;

use proto::v1::{
    admin_service_server::{self, AdminServiceServer},
    member_service_server::{self, MemberServiceServer},
    node_service_server::{self, NodeServiceServer},
    routing_service_server::{self, RoutingServiceServer},
};
use runtime::grpc::MESSAGE_BYTES_MAX;
use tonic::service::Routes;

use crate::{member::Member, raft};

/// The full names of all services of a member.
pub const NAMES: [&str; 4] = [
    admin_service_server::SERVICE_NAME,
    member_service_server::SERVICE_NAME,
    node_service_server::SERVICE_NAME,
    routing_service_server::SERVICE_NAME,
];

/// All services of a member.
pub fn routes(member: &Arc<Member>) -> Routes {
    let member_service = MemberServiceServer::new(member::MemberApi::new(Arc::clone(member)))
        .max_decoding_message_size(raft::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(raft::MESSAGE_BYTES_MAX);
    let node_service = NodeServiceServer::new(node::NodeApi::new(Arc::clone(member)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let admin_service = AdminServiceServer::new(admin::AdminApi::new(Arc::clone(member)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let routing_service = RoutingServiceServer::new(routing::RoutingApi::new(Arc::clone(member)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    Routes::new(member_service)
        .add_service(node_service)
        .add_service(admin_service)
        .add_service(routing_service)
}
