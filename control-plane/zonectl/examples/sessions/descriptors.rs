//! As many open files as the sessions take.

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Of each node in this process: where it listens, and a connection to each of three members.
const PER_SESSION: u64 = 4;

/// Whatever else is open.
const BESIDES: u64 = 256;

/// Raises the soft limit to the hard one, for this process and those that it starts.
///
/// # Errors
/// If the hard limit is too low for so many sessions; it says which would do.
pub fn raise(sessions: u32) -> anyhow::Result<()> {
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files is not known")?;
    check(sessions, hard)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .context("the limit of open files cannot be raised")?;
    }
    Ok(())
}

fn check(sessions: u32, hard: u64) -> anyhow::Result<()> {
    let needed = u64::from(sessions) * PER_SESSION + BESIDES;
    anyhow::ensure!(
        needed <= hard,
        "{sessions} sessions need {needed} file descriptors in one process, and the hard limit is {hard} \
         (`ulimit -Hn`): raise it, or use --sessions {}",
        hard.saturating_sub(BESIDES) / PER_SESSION
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_named_with_what_would_do() {
        check(1_000, 4_256).unwrap();
        let error = check(1_000, 4_255).unwrap_err().to_string();
        assert!(error.contains("4256 file descriptors") && error.contains("4255"), "{error}");
        assert!(error.ends_with("--sessions 999"), "{error}");
        assert!(check(1, 0).is_err());
    }
}
