//! What a sweep has done, in a file, so that another one goes on from there.
//!
//! A file of JSON lines: who wrote it, then one line for each run that is done, appended when it is done.
//! A crash can tear the last line; it is cut off, and its run is done again. Whatever else cannot be read
//! is refused rather than guessed at.
//!
//! **Results count only together with what they are results of.** So the first line names the options that
//! decide what a seed stands for, and the build: a hash of the executable. That is the whole of it, the
//! production code, the harness, the shipped scenarios and the toolchain's doing; a version or a commit
//! would not show a local change. A rebuild that changes nothing mostly gives the same bytes; if it does
//! not, nothing but time is lost.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::results::Done;

/// The version of the file's form.
const FORMAT: u32 = 1;

/// What the results in a file are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub build: String,
    pub options: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    sim_sweep_state: u32,
    #[serde(flatten)]
    identity: Identity,
}

/// A state file that this sweep writes to, alone.
pub struct State {
    path: PathBuf,
    file: File,
    done: Vec<Done>,
}

/// What tells this program from others: a hash of its executable.
pub fn build() -> anyhow::Result<String> {
    let program = std::env::current_exe().context("this program cannot be found again")?;
    let bytes = std::fs::read(program).context("this program cannot be read")?;
    Ok(format!("{:016x}", sim_tests::trace::hash_of(&bytes)))
}

impl State {
    /// Opens the file, or begins one, for results about `identity`.
    pub fn open(path: &Path, identity: &Identity) -> anyhow::Result<Self> {
        let name = path.display();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("{name} cannot be opened"))?;
        file.try_lock().with_context(|| format!("{name} is in use by another sweep"))?;
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("{name} is no state file"))?;
        // What comes after the last end of a line was torn.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut state = Self { path: path.to_owned(), file, done: Vec::new() };
        if whole.is_empty() {
            ensure!(
                text.is_empty() || text.starts_with("{\"sim_sweep_state\""),
                "{name} is no state file of a sweep: it is left as it is"
            );
            state.cut_off(0)?;
            let header = Header { sim_sweep_state: FORMAT, identity: identity.clone() };
            state.write_line(&header)?;
            return Ok(state);
        }
        let mut lines = whole.lines();
        let header: Header = lines
            .next()
            .and_then(|line| serde_json::from_str(line).ok())
            .filter(|header: &Header| header.sim_sweep_state == FORMAT)
            .with_context(|| format!("{name} is no state file of a sweep: it is left as it is"))?;
        let Identity { build, options } = &header.identity;
        ensure!(
            *options == identity.options,
            "{name} is of a sweep with other options ({}, not {}): take another file",
            shown(options),
            shown(&identity.options)
        );
        ensure!(
            *build == identity.build,
            "{name} is of another build of this program ({build}, not {}): its results are not about \
             this one; take another file",
            identity.build
        );
        for (number, line) in lines.enumerate() {
            let done = serde_json::from_str(line)
                .with_context(|| format!("line {} of {name} cannot be read", number + 2))?;
            state.done.push(done);
        }
        state.cut_off(whole.len())?;
        Ok(state)
    }

    /// What was done before this sweep.
    pub fn take_done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    /// Keeps a run that is done.
    pub fn append(&mut self, done: &Done) -> anyhow::Result<()> {
        self.write_line(done)
    }

    fn cut_off(&mut self, bytes: usize) -> anyhow::Result<()> {
        let at = u64::try_from(bytes).context("a file is smaller than that")?;
        let cut = self.file.set_len(at).and_then(|()| self.file.seek(SeekFrom::Start(at)));
        cut.map(drop).with_context(|| format!("{} cannot be written", self.path.display()))
    }

    /// In one write, so that only a crash of the machine tears it.
    fn write_line(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

fn shown(options: &[String]) -> String {
    if options.is_empty() { "none".to_owned() } else { options.join(" ") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sim_tests::{
        checks::Problem,
        report::{Report, exit},
    };

    use super::*;
    use crate::{case::Case, child::Finished};

    fn identity() -> Identity {
        Identity { build: "b1".into(), options: vec!["--members".into(), "3".into()] }
    }

    fn done(seed: u64) -> Done {
        let problem = Problem::new("G2", "it is gone");
        let report = Report::broken_off(seed, "a zone".into(), problem);
        let finished = Finished { report, wall: Duration::from_secs(2) };
        Done::new(Case { scenario: None, seed }, exit::VIOLATED, finished)
    }

    fn seeds(state: &mut State) -> Vec<u64> {
        state.take_done().iter().map(|done| done.case.seed).collect()
    }

    #[test]
    fn what_was_done_is_there_again_and_a_torn_line_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut state = State::open(&path, &identity()).unwrap();
        for seed in [4, 7] {
            state.append(&done(seed)).unwrap();
        }
        drop(state);
        let text = std::fs::read_to_string(&path).unwrap();
        let without_end = &text[..text.len() - 9];
        std::fs::write(&path, without_end).unwrap();
        let mut state = State::open(&path, &identity()).unwrap();
        assert_eq!(seeds(&mut state), [4]);
        state.append(&done(9)).unwrap();
        drop(state);
        assert_eq!(seeds(&mut State::open(&path, &identity()).unwrap()), [4, 9]);
        // A crash before the first line was written.
        std::fs::write(&path, "{\"sim_sweep_state\":1,\"bu").unwrap();
        assert!(State::open(&path, &identity()).unwrap().take_done().is_empty());
    }

    #[test]
    fn what_is_about_something_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        State::open(&path, &identity()).unwrap().append(&done(1)).unwrap();
        let refusal = |identity: &Identity| {
            format!("{:#}", State::open(&path, identity).err().expect("it is refused"))
        };
        let other_build = Identity { build: "b2".into(), ..identity() };
        assert!(refusal(&other_build).contains("another build"));
        let other_options = Identity { options: Vec::new(), ..identity() };
        assert!(refusal(&other_options).contains("other options"));
        for text in ["something else\n", "something else", "{\"sim_sweep_state\":2}\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(refusal(&identity()).contains("no state file"), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut state = State::open(&path, &identity()).unwrap();
        state.append(&done(1)).unwrap();
        state.append(&done(2)).unwrap();
        drop(state);
        let text = std::fs::read_to_string(&path).unwrap().replacen("\"seed\":1", "\"seed\":x", 1);
        std::fs::write(&path, text).unwrap();
        let error = State::open(&path, &identity()).err().expect("it is refused");
        assert!(format!("{error:#}").contains("line 2"), "{error:#}");
    }

    #[test]
    fn two_sweeps_do_not_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let _first = State::open(&path, &identity()).unwrap();
        let error = State::open(&path, &identity()).err().expect("it is refused");
        assert!(format!("{error:#}").contains("in use"), "{error:#}");
    }
}
