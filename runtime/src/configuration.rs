//! Configuration: one TOML file, overridden by environment variables, overridden by flags.
//!
//! A configuration is a plain struct with serde's `deny_unknown_fields` and `default`, so that a
//! misspelt key is refused by name, and with [`Validate`], so that an impossible value is.

use std::path::{Path, PathBuf};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Serialize, de::DeserializeOwned};

/// A configuration that can tell whether its values make sense.
pub trait Validate {
    /// # Errors
    /// A sentence that names the key, what is wrong with its value, and what would be right.
    fn validate(&self) -> Result<(), String>;
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("the configuration file {path} cannot be read", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// An unknown key, or a value of the wrong type: the text names it and where it came from.
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    Impossible(String),
}

/// Reads `file` if there is one, then variables that start with `environment_prefix` (`__` separates
/// levels), then `flags` (whose absent options must not be serialised), each overriding the former.
///
/// # Errors
/// If the file cannot be read, a key is unknown, or a value is malformed or impossible.
pub fn load<T: DeserializeOwned + Validate>(
    file: Option<&Path>,
    environment_prefix: &str,
    flags: impl Serialize,
) -> Result<T, ConfigurationError> {
    let mut figment = Figment::new();
    if let Some(path) = file {
        // The provider takes a missing file for an empty one.
        std::fs::read_to_string(path)
            .map_err(|source| ConfigurationError::Read { path: path.to_owned(), source })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    let configuration: T = figment
        .merge(Env::prefixed(environment_prefix).split("__"))
        .merge(Serialized::defaults(flags))
        .extract()
        .map_err(|error| {
            let problems: Vec<String> = error.into_iter().map(|one| one.to_string()).collect();
            ConfigurationError::Malformed(problems.join("; "))
        })?;
    configuration.validate().map_err(ConfigurationError::Impossible)?;
    Ok(configuration)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        name: String,
        interval_ms: u64,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { name: "n".into(), interval_ms: 100 }
        }
    }

    impl Validate for Sample {
        fn validate(&self) -> Result<(), String> {
            if self.interval_ms == 0 {
                return Err("interval_ms is 0; it must be at least 1".into());
            }
            Ok(())
        }
    }

    #[derive(Default, Serialize)]
    struct Flags {
        #[serde(skip_serializing_if = "Option::is_none")]
        interval_ms: Option<u64>,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn load_sample(text: &str, flags: Flags) -> Result<Sample, ConfigurationError> {
        load(Some(file(text).path()), "ISOTHERM_TEST_NOT_SET_", flags)
    }

    #[test]
    fn flags_override_the_file_and_the_file_the_defaults() {
        let text = "name = \"a\"\ninterval_ms = 7";
        let loaded = load_sample(text, Flags::default()).unwrap();
        assert_eq!(loaded, Sample { name: "a".into(), interval_ms: 7 });
        let loaded = load_sample(text, Flags { interval_ms: Some(9) }).unwrap();
        assert_eq!(loaded.interval_ms, 9);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = load_sample("intervall_ms = 7", Flags::default()).unwrap_err();
        assert!(error.to_string().contains("intervall_ms"), "{error}");
    }

    #[test]
    fn an_impossible_value_is_refused_by_name() {
        let error = load_sample("interval_ms = 0", Flags::default()).unwrap_err();
        assert!(error.to_string().contains("interval_ms is 0"), "{error}");
        let error = load_sample("interval_ms = \"fast\"", Flags::default()).unwrap_err();
        assert!(error.to_string().contains("interval_ms"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_toml_is_named() {
        let file = file("= 5");
        let error = load::<Sample>(Some(file.path()), "ISOTHERM_TEST_NOT_SET_", Flags::default());
        let error = error.unwrap_err().to_string();
        let name = file.path().file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name), "{error}");
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let missing = Path::new("/nonexistent/isotherm.toml");
        let error = load::<Sample>(Some(missing), "ISOTHERM_TEST_NOT_SET_", Flags::default());
        assert!(matches!(error, Err(ConfigurationError::Read { .. })));
    }
}
