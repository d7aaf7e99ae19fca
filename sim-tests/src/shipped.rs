//! The scenarios that come with this crate: the files in `sim-tests/scenarios`, built in, so that they
//! can be run by name from anywhere.

use std::path::Path;

use anyhow::Context as _;

use crate::scenario::Scenario;

include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// The names of all shipped scenarios, in order: their files' without the extension.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The text of a shipped scenario; none if there is none of that name.
pub fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The text of the scenario of that name, or in that file.
///
/// # Errors
/// If there is neither.
pub fn text_of(name_or_path: &str) -> anyhow::Result<String> {
    if let Some(text) = text(name_or_path) {
        return Ok(text.to_owned());
    }
    let path = Path::new(name_or_path);
    let is_name = path.extension().is_none() && path.components().count() == 1;
    if is_name && !path.exists() {
        let names: Vec<&str> = names().collect();
        anyhow::bail!(
            "no scenario {name_or_path} is shipped, and there is no such file; shipped are {}",
            names.join(", ")
        );
    }
    std::fs::read_to_string(path).with_context(|| format!("{name_or_path} cannot be read"))
}

/// The scenario of that name, or in that file.
///
/// # Errors
/// If there is neither, or it is no scenario.
pub fn find(name_or_path: &str) -> anyhow::Result<Scenario> {
    Scenario::parse(&text_of(name_or_path)?)
        .with_context(|| format!("{name_or_path} is no scenario"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_one() {
        assert!(names().count() >= 4);
        for name in names() {
            let scenario = find(name).unwrap();
            assert!(!scenario.title.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_file_is_found_by_its_path_and_nothing_by_a_wrong_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own.toml");
        let name = names().next().unwrap();
        std::fs::write(&path, text(name).unwrap()).unwrap();
        assert_eq!(find(&path.display().to_string()).unwrap(), find(name).unwrap());
        let error = find("no-such-thing").unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
