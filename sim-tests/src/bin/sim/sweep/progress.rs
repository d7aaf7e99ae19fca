//! How far a sweep is, while it lasts: a bar on a terminal, else a line now and then. Failures are told
//! when they are found.

use std::{io::IsTerminal as _, time::Duration};

use humantime::format_duration;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::results::{Done, Outcome, Results};
use crate::arguments::ZoneArguments;

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

const BAR: &str = "{elapsed_precise} {wide_bar} {pos} of {len} seeds, {msg}";

pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    next_line: Duration,
}

impl Progress {
    pub fn new(results: &Results) -> Self {
        let totals = results.totals();
        let is_terminal = std::io::stderr().is_terminal();
        let target =
            if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let length = u64::try_from(totals.planned).unwrap_or(u64::MAX);
        let style =
            ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(length), target).with_style(style);
        let progress = Self { bar, is_terminal, next_line: LINE_INTERVAL };
        if totals.done > 0 {
            progress.say(&format!("{} of {} seeds were done before", totals.done, totals.planned));
        }
        progress
    }

    /// A run has ended.
    pub fn note(&self, done: &Done, zone: &ZoneArguments) {
        if done.outcome != Outcome::Passed {
            let what = super::summary::what_went_wrong(&done.report);
            self.say(&format!("{}: {}: {what}", done.case, done.outcome.word()));
            self.say(&format!("  to reproduce: {}", done.case.reproduction(zone)));
        }
    }

    /// Shows how far the sweep is after `elapsed`.
    pub fn show(&mut self, results: &Results, elapsed: Duration) {
        let totals = results.totals();
        let failed = totals.done - totals.passed;
        let speed = results.seeds_per_minute().map_or_else(String::new, |speed| {
            let left = (totals.planned - totals.done) as f64 / speed * 60.0;
            let left = Duration::from_secs(Duration::from_secs_f64(left).as_secs());
            format!(", {speed:.1} seeds/min, about {} left", format_duration(left))
        });
        let message = format!("{failed} failed{speed}");
        if self.is_terminal {
            self.bar.set_position(u64::try_from(totals.done).unwrap_or(u64::MAX));
            self.bar.set_message(message);
            self.bar.tick();
        } else if elapsed >= self.next_line {
            self.next_line = elapsed + LINE_INTERVAL;
            eprintln!("{} of {} seeds, {message}", totals.done, totals.planned);
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: &str) {
        if self.is_terminal {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
    }
}
