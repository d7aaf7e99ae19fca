//! Configuration: one TOML file, overridden by environment variables, overridden by flags.
//!
//! A configuration is a plain struct with serde's `deny_unknown_fields` and `default`, so that a
//! misspelt key is refused by name, and with [`Validate`], so that an impossible value is.

use std::path::{Path, PathBuf};

use figment::{
    Figment, Source,
    error::Kind,
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
            let problems = error.into_iter().map(|one| in_words(&one, environment_prefix));
            ConfigurationError::Malformed(problems.collect::<Vec<_>>().join("; "))
        })?;
    configuration.validate().map_err(ConfigurationError::Impossible)?;
    Ok(configuration)
}

/// What is wrong, and where: as whoever wrote it has written it. A key of a file by its path, a variable
/// by its full name, a flag as it is typed.
fn in_words(error: &figment::Error, environment_prefix: &str) -> String {
    let problem = match &error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("is {found}; it must be {expected}")
        }
        Kind::UnknownField(_, []) => "is not known".to_owned(),
        Kind::UnknownField(_, known) => format!("is not known; known are {}", known.join(", ")),
        Kind::UnknownVariant(found, known) => {
            format!("is {found:?}; it must be one of {}", known.join(", "))
        }
        Kind::MissingField(_) => "is missing".to_owned(),
        Kind::Message(_)
        | Kind::InvalidLength(..)
        | Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => format!("cannot be used: {}", error.kind),
    };
    let mut path = error.path.clone();
    if let Kind::MissingField(field) = &error.kind {
        path.push(field.to_string());
    }
    let source = error.metadata.as_ref().and_then(|metadata| metadata.source.as_ref());
    let is_variable = error.metadata.as_ref().is_some_and(|it| it.name.contains("environment"));
    let key = path.join(".");
    match source {
        Some(Source::File(file)) if key.is_empty() => {
            format!("the file {} {problem}", file.display())
        }
        Some(Source::File(file)) => format!("{key} in {} {problem}", file.display()),
        _ if key.is_empty() => problem,
        _ if is_variable => {
            let variable = path.join("__").to_uppercase();
            format!("the variable {environment_prefix}{variable} {problem}")
        }
        Some(Source::Code(_)) => {
            let flag = path.join("-").replace('_', "-");
            format!("the flag --{flag} ({key} in a file) {problem}")
        }
        Some(_) | None => format!("{key} {problem}"),
    }
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
        files: Option<Files>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Files {
        certificate: String,
        key: String,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { name: "n".into(), interval_ms: 100, files: None }
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
        #[serde(skip_serializing_if = "Option::is_none")]
        files: Option<FilesFlags>,
    }

    #[derive(Serialize)]
    struct FilesFlags {
        certificate: String,
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
        assert_eq!(loaded, Sample { name: "a".into(), interval_ms: 7, files: None });
        let flags = Flags { interval_ms: Some(9), ..Flags::default() };
        let loaded = load_sample(text, flags).unwrap();
        assert_eq!(loaded.interval_ms, 9);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = load_sample("intervall_ms = 7", Flags::default()).unwrap_err();
        assert!(error.to_string().contains("intervall_ms"), "{error}");
    }

    #[test]
    fn a_problem_is_said_in_the_words_of_whoever_wrote_it() {
        let files = FilesFlags { certificate: "c".into() };
        let flags = Flags { files: Some(files), ..Flags::default() };
        let error = load_sample("", flags).unwrap_err().to_string();
        assert_eq!(error, "the flag --files-key (files.key in a file) is missing");

        let file = file("[files]\ncertificate = \"c\"\nkey = 5");
        let error = load::<Sample>(Some(file.path()), "ISOTHERM_TEST_NOT_SET_", Flags::default());
        let error = error.unwrap_err().to_string();
        let start = format!("files.key in {} is ", file.path().display());
        assert!(error.starts_with(&start) && error.ends_with("it must be a string"), "{error}");

        // Every process has the variable PATH.
        let error = load::<Sample>(None, "PAT", Flags::default()).unwrap_err().to_string();
        assert!(error.starts_with("the variable PAT") && error.contains("is not known"), "{error}");
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
