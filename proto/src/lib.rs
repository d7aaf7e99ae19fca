//! The wire contracts of a zone: what `zone/v1/*.proto` generates, and nothing else.
//!
//! Everything else in the workspace converts to its own types at the edge. Nothing here decides.

/// Package `zone.v1`.
#[allow(clippy::all, clippy::pedantic, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("zone.v1");

    include!(concat!(env!("OUT_DIR"), "/by_name.rs"));
}

/// The encoded descriptor set of all files, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/zone_descriptor.bin"));
