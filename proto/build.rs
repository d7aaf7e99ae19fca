//! Compiles the contracts with a pure-Rust compiler: no `protoc` is needed.

use std::{error::Error, fs, path::PathBuf};

use protox::prost::Message;

const FILES: [&str; 7] = [
    "zone/v1/common.proto",
    "zone/v1/index.proto",
    "zone/v1/routing.proto",
    "zone/v1/node.proto",
    "zone/v1/peer.proto",
    "zone/v1/member.proto",
    "zone/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=zone");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("zone_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".zone.v1").compile_fds(descriptors)?;
    Ok(())
}
