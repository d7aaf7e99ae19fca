//! Finished trials on disk, so that a run that was interrupted goes on.
//!
//! The first line holds the conditions; each further line is a trial. A line that was cut off in the middle
//! of writing is dropped: that trial is made again.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{fault::Fault, options::Conditions, record::TrialRecord};

#[derive(Serialize, Deserialize)]
struct Header {
    isotherm_failover: u32,
    conditions: Conditions,
}

const FORMAT: u32 = 1;

impl Header {
    fn new(conditions: &Conditions) -> Self {
        Self { isotherm_failover: FORMAT, conditions: conditions.clone() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state file {} cannot be used: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{} is no state file of this benchmark; name another one with --state", path.display()
    )]
    Foreign { path: PathBuf },
    #[error(
        "{} holds trials that were made under other conditions ({found}); name another file with \
         --state, or repeat the options of that run", path.display()
    )]
    OtherConditions { path: PathBuf, found: String },
}

/// The finished trials, and where they are kept.
#[derive(Debug)]
pub struct State {
    trials: Vec<TrialRecord>,
    file: Option<(PathBuf, File)>,
}

impl State {
    /// Finished trials from the file, if there is one; without a path they are kept in memory only.
    pub fn open(path: Option<&Path>, conditions: &Conditions) -> Result<Self, StateError> {
        let Some(path) = path else { return Ok(Self { trials: Vec::new(), file: None }) };
        let failed = |source| StateError::File { path: path.to_owned(), source };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        let (trials, good_bytes) = parse(path, &text, conditions)?;
        let open = OpenOptions::new().create(true).append(true).open(path);
        let mut file = open.map_err(failed)?;
        file.set_len(good_bytes as u64).map_err(failed)?;
        if good_bytes == 0 {
            write_line(&mut file, &Header::new(conditions)).map_err(failed)?;
        }
        Ok(Self { trials, file: Some((path.to_owned(), file)) })
    }

    pub fn trials(&self) -> &[TrialRecord] {
        &self.trials
    }

    pub fn done(&self, fault: Fault) -> u32 {
        let done = self.trials.iter().filter(|trial| trial.fault == fault).count();
        u32::try_from(done).unwrap_or(u32::MAX)
    }

    pub fn add(&mut self, trial: TrialRecord) -> Result<(), StateError> {
        if let Some((path, file)) = &mut self.file {
            let failed = |source| StateError::File { path: path.clone(), source };
            write_line(file, &trial).map_err(failed)?;
        }
        self.trials.push(trial);
        Ok(())
    }
}

fn write_line(file: &mut File, content: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(content)?;
    line.push(b'\n');
    file.write_all(&line)
}

/// The trials, and how many bytes of the text are whole.
fn parse(
    path: &Path,
    text: &str,
    conditions: &Conditions,
) -> Result<(Vec<TrialRecord>, usize), StateError> {
    let foreign = || StateError::Foreign { path: path.to_owned() };
    // What has no line end was being written.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let mut lines = text[..whole].lines();
    let Some(first) = lines.next() else {
        // A new file, or one whose first line was being written: nothing is lost.
        let header = serde_json::to_string(&Header::new(conditions)).unwrap_or_default();
        return if header.starts_with(text) { Ok((Vec::new(), 0)) } else { Err(foreign()) };
    };
    let header: Header = serde_json::from_str(first).map_err(|_| foreign())?;
    if header.isotherm_failover != FORMAT {
        return Err(foreign());
    }
    if header.conditions != *conditions {
        let found = serde_json::to_string(&header.conditions).unwrap_or_default();
        return Err(StateError::OtherConditions { path: path.to_owned(), found });
    }
    let trials: Result<Vec<TrialRecord>, _> = lines.map(serde_json::from_str).collect();
    Ok((trials.map_err(|_| foreign())?, whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    fn conditions() -> Conditions {
        Conditions { rate_per_second: 400.0, partitions: 16, cores: 2, version: "1.0.0".to_owned() }
    }

    #[test]
    fn a_run_goes_on_where_the_last_one_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut state = State::open(Some(&path), &conditions()).unwrap();
        state.add(record(Fault::KillIndexNode, 1, &[40.0])).unwrap();
        state.add(record(Fault::KillIndexNode, 2, &[50.0])).unwrap();
        state.add(record(Fault::Drain, 1, &[])).unwrap();
        drop(state);
        let mut state = State::open(Some(&path), &conditions()).unwrap();
        assert_eq!((state.done(Fault::KillIndexNode), state.done(Fault::Drain)), (2, 1));
        assert_eq!(state.done(Fault::Leave), 0);
        assert_eq!(state.trials()[1], record(Fault::KillIndexNode, 2, &[50.0]));
        state.add(record(Fault::Drain, 2, &[])).unwrap();
        let state = State::open(Some(&path), &conditions()).unwrap();
        assert_eq!(state.trials().len(), 4);
    }

    #[test]
    fn a_line_that_was_cut_off_is_dropped_and_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut state = State::open(Some(&path), &conditions()).unwrap();
        state.add(record(Fault::Drain, 1, &[])).unwrap();
        state.add(record(Fault::Drain, 2, &[])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 20]).unwrap();
        let mut state = State::open(Some(&path), &conditions()).unwrap();
        assert_eq!(state.done(Fault::Drain), 1);
        state.add(record(Fault::Drain, 2, &[])).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        std::fs::write(&path, "{\"isotherm_fail").unwrap();
        assert_eq!(State::open(Some(&path), &conditions()).unwrap().trials().len(), 0);
    }

    #[test]
    fn other_conditions_and_other_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        drop(State::open(Some(&path), &conditions()).unwrap());
        let other = Conditions { partitions: 100, ..conditions() };
        let error = State::open(Some(&path), &other).unwrap_err().to_string();
        assert!(error.contains("\"partitions\":16") && error.contains("--state"), "{error}");
        for text in ["a letter\n", "a letter", "{}\n"] {
            std::fs::write(&path, text).unwrap();
            let error = State::open(Some(&path), &conditions()).unwrap_err();
            assert!(matches!(error, StateError::Foreign { .. }), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn without_a_file_trials_are_kept_in_memory() {
        let mut state = State::open(None, &conditions()).unwrap();
        state.add(record(Fault::Leave, 1, &[])).unwrap();
        assert_eq!(state.done(Fault::Leave), 1);
    }
}
