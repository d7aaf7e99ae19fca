//! Compiles the contracts with a pure-Rust compiler: no `protoc` is needed.

use std::{error::Error, fmt::Write, fs, path::PathBuf};

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

/// Messages of many optional `uint64` fields, and of such messages, whose fields can also be had by name.
const BY_NAME: [&str; 2] = ["Policy", "BalancePolicy"];

/// For each of these messages what reads and writes its fields by name: those of a message within are named
/// behind its own name and a dot.
fn by_name(messages: &[(String, Vec<(String, Option<String>)>)]) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    for (message, fields) in messages {
        let (mut values, mut arms) = (String::new(), String::new());
        for (field, within) in fields {
            let Some(within) = within else {
                writeln!(values, "(\"{field}\", self.{field}),")?;
                writeln!(arms, "\"{field}\" => self.{field} = Some(value),")?;
                continue;
            };
            let inner = messages.iter().find(|(name, _)| name == within);
            for (name, _) in inner.map(|(_, fields)| fields).into_iter().flatten() {
                writeln!(
                    values,
                    "(\"{field}.{name}\", self.{field}.as_ref().and_then(|it| it.{name})),"
                )?;
                writeln!(
                    arms,
                    "\"{field}.{name}\" => self.{field}.get_or_insert_default().{name} = Some(value),"
                )?;
            }
        }
        write!(
            code,
            "impl {message} {{
                /// Each field by its name; none: it is missing.
                pub fn values(&self) -> Vec<(&'static str, Option<u64>)> {{ vec![{values}] }}
                /// Whether there is such a field.
                pub fn set_value(&mut self, name: &str, value: u64) -> bool {{
                    match name {{ {arms} _ => return false }}
                    true
                }}
            }}\n"
        )?;
    }
    Ok(code)
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=zone");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("zone_descriptor.bin"), descriptors.encode_to_vec())?;
    let messages = descriptors.file.iter().flat_map(|file| &file.message_type);
    let fields: Vec<(String, Vec<(String, Option<String>)>)> = messages
        .filter(|message| BY_NAME.contains(&message.name()))
        .map(|message| {
            let fields = message.field.iter().map(|field| {
                let within = field.type_name.as_ref().map(|name| name.replace(".zone.v1.", ""));
                (field.name().to_owned(), within)
            });
            (message.name().to_owned(), fields.collect())
        })
        .collect();
    fs::write(out.join("by_name.rs"), by_name(&fields)?)?;
    tonic_prost_build::configure().bytes(".zone.v1").compile_fds(descriptors)?;
    Ok(())
}
