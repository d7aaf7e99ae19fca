//! Builds the scenarios in: their names and texts, in order.

use std::{env, fmt::Write as _, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=scenarios");
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the manifest is");
    let directory = Path::new(&manifest).join("scenarios");
    let mut files: Vec<_> = fs::read_dir(&directory)
        .expect("the scenarios are beside the manifest")
        .map(|file| file.expect("listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let mut table = String::from("const FILES: &[(&str, &str)] = &[\n");
    for path in files {
        let name = path.file_stem().expect("it has an extension").to_string_lossy().into_owned();
        writeln!(table, "    ({name:?}, include_str!({:?})),", path.display().to_string())
            .expect("writing to a string does not fail");
    }
    table.push_str("];\n");
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    fs::write(Path::new(&out).join("shipped.rs"), table).expect("the table can be written");
}
