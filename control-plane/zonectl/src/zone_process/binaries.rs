//! Where the servers' programs are.

use std::path::{Path, PathBuf};

use super::ProcessError;

/// The programs of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub control_plane: PathBuf,
    pub index_node: PathBuf,
}

impl Binaries {
    /// The programs beside the running one. For a test, a benchmark or an example, which lies in `deps` or
    /// `examples`, that is one directory up.
    ///
    /// # Errors
    /// If one of them is not there.
    pub fn beside_this_program() -> Result<Self, ProcessError> {
        let program = std::env::current_exe().map_err(ProcessError::NoSelf)?;
        Self::beside(&program)
    }

    fn beside(program: &Path) -> Result<Self, ProcessError> {
        let mut directories: Vec<PathBuf> =
            program.parent().map(Path::to_owned).into_iter().collect();
        if let Some(directory) = directories.first()
            && (directory.ends_with("deps") || directory.ends_with("examples"))
        {
            directories.extend(directory.parent().map(Path::to_owned));
        }
        let find = |name: &'static str| {
            directories
                .iter()
                .map(|directory| directory.join(name))
                .find(|path| path.is_file())
                .ok_or_else(|| ProcessError::NoBinary { name, directories: directories.clone() })
        };
        Ok(Self { control_plane: find("control-plane")?, index_node: find("index-node")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_beside_and_above_deps() {
        let directory = tempfile::tempdir().unwrap();
        let deps = directory.path().join("deps");
        std::fs::create_dir(&deps).unwrap();
        let error = Binaries::beside(&deps.join("some-test")).unwrap_err().to_string();
        assert!(error.contains("control-plane") && error.contains("cargo build"), "{error}");
        for name in ["control-plane", "index-node"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let found = Binaries::beside(&deps.join("some-test")).unwrap();
        assert_eq!(found.index_node, directory.path().join("index-node"));
        assert_eq!(Binaries::beside(&directory.path().join("zonectl")).unwrap(), found);
    }
}
