//! A line for each trial, with how long the rest will take.

use std::{collections::BTreeMap, io::IsTerminal, time::Duration};

use zonectl::text::show_duration;

use crate::{fault::Fault, record::TrialRecord};

pub struct Progress {
    /// Trials that are left of each fault.
    left: BTreeMap<Fault, u32>,
    /// Seconds and number of the trials of this run.
    seen: BTreeMap<Fault, (f64, u32)>,
    all: u32,
    terminal: bool,
}

impl Progress {
    pub fn new(left: &[(Fault, u32)]) -> Self {
        Self {
            left: left.iter().copied().collect(),
            seen: BTreeMap::new(),
            all: left.iter().map(|(_, trials)| trials).sum(),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// How long what is left will take.
    fn estimate(&self) -> Duration {
        let seconds = self.left.iter().map(|(fault, trials)| {
            let each = match self.seen.get(fault) {
                Some((seconds, trials)) => seconds / f64::from(*trials),
                None => fault.usual_seconds(),
            };
            each * f64::from(*trials)
        });
        Duration::from_secs(seconds.sum::<f64>().round() as u64)
    }

    /// Trials of the fault will not be made.
    pub fn skip(&mut self, fault: Fault) {
        self.all -= self.left.remove(&fault).unwrap_or(0);
    }

    pub fn begin(&self) {
        if self.all > 0 {
            let estimate = show_duration(self.estimate());
            self.line(&format!("{} trials, about {estimate} …", self.all));
        }
    }

    pub fn finished(&mut self, trial: &TrialRecord) {
        if let Some(left) = self.left.get_mut(&trial.fault) {
            *left = left.saturating_sub(1);
        }
        let seen = self.seen.entry(trial.fault).or_default();
        *seen = (seen.0 + trial.took_seconds, seen.1 + 1);
        let left: u32 = self.left.values().sum();
        self.line(&format!(
            "[{}/{}] {} {}: {} · {} left",
            self.all.saturating_sub(left),
            self.all,
            trial.fault.title(),
            trial.trial,
            gist(trial),
            show_duration(self.estimate()),
        ));
    }

    fn line(&self, text: &str) {
        if self.terminal {
            // Over the last one.
            eprint!("\r\x1b[2K{text}");
        } else {
            eprintln!("{text}");
        }
    }

    /// The table comes next.
    pub fn end(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}

/// A trial in a few words.
fn gist(trial: &TrialRecord) -> String {
    let mut words = Vec::new();
    if let Some(last) = trial.last_again_ms() {
        let gave_up = trial.again.iter().any(|again| again.gave_up);
        let when = if gave_up { "not within" } else { "after" };
        words.push(format!("writes again {when} {last:.0} ms"));
    } else if let Some(decided) = trial.decided_ms {
        words.push(format!("decided after {decided:.0} ms"));
    }
    words.push(format!("longest wait {:.0} ms", trial.longest_wait_ms));
    for (count, word) in
        [(trial.failed, "failed"), (trial.unknown, "unknown"), (trial.lost, "LOST")]
    {
        if count > 0 {
            words.push(format!("{count} {word}"));
        }
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn the_estimate_learns_from_what_was_seen() {
        let mut progress = Progress::new(&[(Fault::Nothing, 2), (Fault::Drain, 3)]);
        assert_eq!(progress.estimate(), Duration::from_secs(2 * 5 + 3 * 6));
        let mut trial = record(Fault::Drain, 1, &[]);
        trial.took_seconds = 20.0;
        progress.finished(&trial);
        assert_eq!(progress.estimate(), Duration::from_secs(2 * 5 + 2 * 20));
        progress.skip(Fault::Nothing);
        assert_eq!((progress.estimate(), progress.all), (Duration::from_secs(40), 3));
    }

    #[test]
    fn the_gist_names_what_went_wrong() {
        let mut trial = record(Fault::KillIndexNode, 1, &[40.4, 90.0]);
        assert_eq!(gist(&trial), "writes again after 90 ms, longest wait 12 ms");
        trial.lost = 2;
        assert!(gist(&trial).ends_with(", 2 LOST"));
    }
}
