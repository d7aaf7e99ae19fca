//! What can be said on the command line.

use std::path::PathBuf;

use clap::Parser;

const NOTES: &str = "\
Each session takes four file descriptors of this process and one of each member: the soft limit is raised to
the hard one, and if that is too low, nothing is started.

Exit codes: 0 every node had a session again and none was taken for suspect or down, 1 otherwise or the
benchmark could not go on, 2 wrong usage, 130 interrupted.";

#[derive(Clone, Debug, Parser)]
#[command(
    name = "sessions",
    about = "Many real sessions, and a change of the control plane's leader.",
    after_help = NOTES
)]
pub struct Arguments {
    /// Index nodes, each with a session.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(3..=10_000))]
    pub sessions: u32,
    /// How often the leader is lost.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    trials: u32,
    /// Two trials: about a minute in all.
    #[arg(long, conflicts_with = "trials")]
    quick: bool,
    /// Partitions that the nodes hold, with three replicas each.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub partitions: u32,
    /// Where to write every trial as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The control plane's ports start here.
    #[arg(long, default_value_t = 9_000)]
    pub base_port: u16,
    /// Keep logs and data, and say where.
    #[arg(long)]
    pub keep: bool,
    /// What the control plane's processes log [default: info].
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
}

const QUICK_TRIALS: u32 = 2;

impl Arguments {
    pub fn trials(&self) -> u32 {
        if self.quick { QUICK_TRIALS } else { self.trials }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_trials_are_quick_and_no_sessions_are_refused() {
        let arguments = |line: &str| Arguments::try_parse_from(line.split_whitespace());
        assert_eq!(arguments("sessions").unwrap().trials(), 10);
        assert_eq!(arguments("sessions --trials 4").unwrap().trials(), 4);
        assert_eq!(arguments("sessions --quick").unwrap().trials(), QUICK_TRIALS);
        assert!(arguments("sessions --quick --trials 4").is_err());
        assert!(arguments("sessions --sessions 2").is_err());
    }
}
